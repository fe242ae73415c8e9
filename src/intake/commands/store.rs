//! SET, HSET, HMSET and ZADD: for shippers that use them, where a route's `accept` says so. What Redis would keep becomes
//! records: SET's value, one JSON object of a hash's fields, each member of a sorted set.
//!
//! Nothing is kept, so conditions (`NX`, `XX`, `GT`, `LT`) and times to live are checked and have no effect. What asks for
//! the value before (`SET … GET`) or after (`ZADD … INCR`) is refused: there is none.

use std::borrow::Cow;

use crate::resp::reply::Reply;

use super::parse::{integer, syntax_error};
use super::xadd::object;
use super::{table, wrong_arity};

/// The value of `SET key value [NX | XX] [EX s | PX ms | EXAT s | PXAT ms | KEEPTTL]`, with Redis's words for what is
/// wrong.
pub fn set<'a>(args: &[&'a [u8]]) -> Result<&'a [u8], Reply> {
    let [_, _, value, options @ ..] = args else { return Err(arity("set")) };
    // The condition and the kind of expiry that were given: the same one twice is no fault.
    let (mut condition, mut expiry) = (None, None);
    let mut time = None;
    let mut options = options;
    while let [option, rest @ ..] = options {
        options = rest;
        let word = option.to_ascii_lowercase();
        let fits = |given: &Option<Vec<u8>>| given.as_ref().is_none_or(|given| *given == word);
        match (word.as_slice(), rest) {
            (b"nx" | b"xx", _) if fits(&condition) => condition = Some(word),
            (b"keepttl", _) if fits(&expiry) => expiry = Some(word),
            (b"ex" | b"px" | b"exat" | b"pxat", [given, rest @ ..]) if fits(&expiry) => {
                (expiry, time, options) = (Some(word), Some(*given), rest);
            }
            (b"get", _) => {
                return Err(Reply::error("ERR SET with GET is not served: Tidegate keeps no values to give back"));
            }
            _ => return Err(syntax_error()),
        }
    }
    match time.map(integer).transpose()? {
        Some(..=0) => Err(Reply::error("ERR invalid expire time in 'set' command")),
        _ => Ok(value),
    }
}

/// The record of `HSET key field value [field value …]`, and how many fields it has. HMSET is the same.
pub fn hset<'a>(args: &[&'a [u8]]) -> Result<(Cow<'a, [u8]>, usize), Reply> {
    let hmset = args.first().is_some_and(|name| name.eq_ignore_ascii_case(b"hmset"));
    let fields = args.get(2..).unwrap_or_default();
    if fields.is_empty() || fields.len() % 2 != 0 {
        return Err(arity(if hmset { "hmset" } else { "hset" }));
    }
    let pairs: Vec<(&[u8], &[u8])> = fields
        .chunks_exact(2)
        .filter_map(|pair| match pair {
            [field, value] => Some((*field, *value)),
            _ => None,
        })
        .collect();
    Ok((object(&pairs)?.into(), pairs.len()))
}

/// The members of `ZADD key [NX | XX] [GT | LT] [CH] score member [score member …]`.
pub fn zadd<'a>(args: &[&'a [u8]]) -> Result<Vec<&'a [u8]>, Reply> {
    let (mut nx, mut xx, mut gt, mut lt, mut incr) = (false, false, false, false, false);
    let mut rest = args.get(2..).unwrap_or_default();
    while let [option, tail @ ..] = rest {
        match option.to_ascii_lowercase().as_slice() {
            b"nx" => nx = true,
            b"xx" => xx = true,
            b"gt" => gt = true,
            b"lt" => lt = true,
            b"ch" => {}
            b"incr" => incr = true,
            _ => break,
        }
        rest = tail;
    }
    if rest.is_empty() || rest.len() % 2 != 0 {
        return Err(syntax_error());
    }
    if nx && xx {
        return Err(Reply::error("ERR XX and NX options at the same time are not compatible"));
    }
    if (nx && (gt || lt)) || (gt && lt) {
        return Err(Reply::error("ERR GT, LT, and/or NX options at the same time are not compatible"));
    }
    if incr && rest.len() > 2 {
        return Err(Reply::error("ERR INCR option supports a single increment-element pair"));
    }
    for score in rest.iter().step_by(2) {
        if !is_float(score) {
            return Err(Reply::error("ERR value is not a valid float"));
        }
    }
    if incr {
        return Err(Reply::error("ERR ZADD with INCR is not served: Tidegate keeps no scores to add to"));
    }
    Ok(rest.iter().skip(1).step_by(2).copied().collect())
}

/// What Redis takes for a score: no NaN, and no spaces around it.
fn is_float(text: &[u8]) -> bool {
    let text = std::str::from_utf8(text).unwrap_or_default();
    text.parse::<f64>().is_ok_and(|number| !number.is_nan())
}

fn arity(name: &str) -> Reply {
    table::lookup(name.as_bytes()).map_or_else(syntax_error, wrong_arity)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(line: &str) -> Vec<&[u8]> {
        line.split(' ').map(str::as_bytes).collect()
    }

    fn error(result: Result<impl std::fmt::Debug, Reply>) -> String {
        match result.unwrap_err() {
            Reply::Error(text) => text.into_owned(),
            other => panic!("no error: {other:?}"),
        }
    }

    #[test]
    fn set_takes_its_value_whatever_the_conditions() {
        for line in [
            "SET k v",
            "SET k v NX",
            "set k v xx ex 10",
            "SET k v NX NX EX 1 EX 2",
            "SET k v PXAT 99 NX",
            "SET k v KEEPTTL",
        ] {
            assert_eq!(set(&args(line)), Ok(&b"v"[..]), "{line}");
        }
        for (line, words) in [
            ("SET k", "ERR wrong number of arguments for 'set' command"),
            ("SET k v EX", "ERR syntax error"),
            ("SET k v EX 0", "ERR invalid expire time in 'set' command"),
            ("SET k v EX x", "ERR value is not an integer or out of range"),
            ("SET k v NX XX", "ERR syntax error"),
            ("SET k v EX 1 PX 1", "ERR syntax error"),
            ("SET k v FOO", "ERR syntax error"),
        ] {
            assert_eq!(error(set(&args(line))), words, "{line}");
        }
        assert!(error(set(&args("SET k v GET"))).contains("not served"));
    }

    #[test]
    fn a_hash_is_one_json_object_even_with_one_field() {
        let (record, fields) = hset(&args("HSET k msg hello")).unwrap();
        assert_eq!((&*record, fields), (&br#"{"msg":"hello"}"#[..], 1));
        let (record, fields) = hset(&args("HMSET k b 2 a 1")).unwrap();
        assert_eq!((&*record, fields), (&br#"{"b":"2","a":"1"}"#[..], 2));
        assert_eq!(error(hset(&args("HSET k a 1 b"))), "ERR wrong number of arguments for 'hset' command");
        assert_eq!(error(hset(&args("hmset k a"))), "ERR wrong number of arguments for 'hmset' command");
        assert!(error(hset(&args("HSET k a 1 a 2"))).contains("stands there twice"));
    }

    #[test]
    fn a_sorted_set_is_its_members() {
        assert_eq!(zadd(&args("ZADD k 1 a 2.5e3 b -inf c")), Ok(vec![&b"a"[..], b"b", b"c"]));
        assert_eq!(zadd(&args("ZADD k XX GT CH 1 a")), Ok(vec![&b"a"[..]]));
        for (line, words) in [
            ("ZADD k 1 a 2", "ERR syntax error"),
            ("ZADD k FOO 1 a", "ERR syntax error"),
            ("ZADD k x a", "ERR value is not a valid float"),
            ("ZADD k nan a", "ERR value is not a valid float"),
            ("ZADD k NX XX 1 a", "ERR XX and NX options at the same time are not compatible"),
            ("ZADD k GT LT 1 a", "ERR GT, LT, and/or NX options at the same time are not compatible"),
            ("ZADD k INCR 1 a 2 b", "ERR INCR option supports a single increment-element pair"),
        ] {
            assert_eq!(error(zadd(&args(line))), words, "{line}");
        }
    }
}
