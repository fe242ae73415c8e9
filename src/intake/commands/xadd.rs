//! XADD: a stream's entry becomes one record.
//!
//! - An entry of one field is its value, byte for byte: what rsyslog and most loggers send, `XADD key * msg <line>`.
//! - An entry of several fields is one JSON object, a string for each field, in the order sent. JSON has no place for bytes
//!   that are not UTF-8, nor for two fields of one name; such an entry is refused rather than changed or cut short.
//!
//! The id in the reply is made as Redis makes it, but streams are not kept: ids rise within one [`StreamIds`], whatever
//! the key, and an explicit id is taken as it is. Trimming options are checked and have no effect.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::{Serialize, Serializer};

use crate::resp::reply::Reply;

use super::parse::{integer, syntax_error};
use super::{shown, table, wrong_arity};

/// An XADD as sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XAdd<'a> {
    /// The stream.
    pub key: &'a [u8],
    /// The id that was asked for.
    pub id: AskedId,
    /// Fields and values, at least one pair.
    pub fields: Vec<(&'a [u8], &'a [u8])>,
}

/// The id in an XADD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AskedId {
    /// `*`: the clock's.
    Automatic,
    /// `ms-*`: the next in that millisecond.
    Within(u64),
    /// `ms-seq` or `ms`.
    Explicit(StreamId),
}

/// An entry's id.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamId {
    /// Unix milliseconds, if the server made the id.
    pub ms: u64,
    /// Place within the millisecond.
    pub seq: u64,
}

/// Makes ids that rise, one of these for each connection or worker.
#[derive(Clone, Debug, Default)]
pub struct StreamIds {
    last: StreamId,
}

/// What follows the key before the fields.
#[derive(Default)]
struct Options {
    trims: bool,
    approximate: bool,
    limit: Option<i64>,
}

/// Reads `XADD key [NOMKSTREAM] [MAXLEN|MINID [=|~] threshold [LIMIT count]] *|id field value [field value …]`, with
/// Redis's words for what is wrong.
pub fn xadd<'a>(args: &[&'a [u8]]) -> Result<XAdd<'a>, Reply> {
    let arity = || table::lookup(b"xadd").map_or_else(syntax_error, wrong_arity);
    let [_, key, rest @ ..] = args else { return Err(arity()) };
    let mut options = Options::default();
    let (id, fields) = options.read(rest)?;
    options.check()?;
    let Some(id) = id else { return Err(arity()) };
    if fields.is_empty() || fields.len() % 2 != 0 {
        return Err(arity());
    }
    if id == AskedId::Explicit(StreamId::default()) {
        return Err(Reply::error("ERR The ID specified in XADD must be greater than 0-0"));
    }
    let fields = fields.chunks_exact(2).filter_map(|pair| match pair {
        [field, value] => Some((*field, *value)),
        _ => None,
    });
    Ok(XAdd { key, id, fields: fields.collect() })
}

// === impl XAdd ===

impl<'a> XAdd<'a> {
    /// The record, as the head of this file says.
    pub fn record(&self) -> Result<Cow<'a, [u8]>, Reply> {
        if let [(_, value)] = self.fields.as_slice() {
            return Ok(Cow::Borrowed(value));
        }
        object(&self.fields).map(Cow::Owned)
    }
}

/// Fields as one JSON object, a string for each, in their order.
pub(super) fn object(fields: &[(&[u8], &[u8])]) -> Result<Vec<u8>, Reply> {
    let mut names = HashSet::with_capacity(fields.len());
    let mut texts = Vec::with_capacity(fields.len());
    for (field, value) in fields {
        let (Ok(name), Ok(text)) = (std::str::from_utf8(field), std::str::from_utf8(value)) else {
            let field = shown(field, 128);
            return Err(Reply::error(format!(
                "ERR an entry of several fields becomes one JSON object, and field '{field}' is not UTF-8; encode it, or \
                 send it as the only field"
            )));
        };
        if !names.insert(name) {
            let field = shown(field, 128);
            return Err(Reply::error(format!(
                "ERR an entry of several fields becomes one JSON object, and field '{field}' stands there twice; give \
                 each a name of its own"
            )));
        }
        texts.push((name, text));
    }
    let json = serde_json::to_vec(&Fields(texts));
    json.map_err(|error| Reply::error(format!("ERR the entry cannot be written as JSON: {error}")))
}

/// Serialises as an object that keeps its order.
struct Fields<'a>(Vec<(&'a str, &'a str)>);

impl Serialize for Fields<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().copied())
    }
}

// === impl Options ===

impl Options {
    /// Reads up to the id; gives it, if there is one, and what follows.
    fn read<'a, 'b>(&mut self, words: &'b [&'a [u8]]) -> Result<(Option<AskedId>, &'b [&'a [u8]]), Reply> {
        let mut words = words;
        while let [word, rest @ ..] = words {
            let lower = word.to_ascii_lowercase();
            words = match (lower.as_slice(), rest) {
                (b"*", rest) => return Ok((Some(AskedId::Automatic), rest)),
                (b"nomkstream", rest) => rest,
                (b"maxlen" | b"minid", [_, ..]) => self.threshold(&lower, rest)?,
                (b"limit", [count, rest @ ..]) => {
                    let count = integer(count)?;
                    if count < 0 {
                        return Err(Reply::error("ERR The LIMIT argument must be >= 0."));
                    }
                    self.limit = Some(count);
                    rest
                }
                (_, rest) => return Ok((Some(asked_id(word)?), rest)),
            };
        }
        Ok((None, &[]))
    }

    fn threshold<'a, 'b>(&mut self, strategy: &[u8], words: &'b [&'a [u8]]) -> Result<&'b [&'a [u8]], Reply> {
        if self.trims {
            return Err(Reply::error("ERR syntax error, MAXLEN and MINID options at the same time are not compatible"));
        }
        let words = match words {
            [sign, rest @ ..] if !rest.is_empty() && (*sign == b"~" || *sign == b"=") => {
                self.approximate = *sign == b"~";
                rest
            }
            _ => words,
        };
        let [threshold, rest @ ..] = words else { return Err(syntax_error()) };
        if strategy == b"minid" {
            stream_id(threshold)?;
        } else if integer(threshold)? < 0 {
            return Err(Reply::error("ERR The MAXLEN argument must be >= 0."));
        }
        self.trims = true;
        Ok(rest)
    }

    fn check(&self) -> Result<(), Reply> {
        match self.limit {
            Some(1..) if !self.trims => {
                Err(Reply::error("ERR syntax error, LIMIT cannot be used without specifying a trimming strategy"))
            }
            Some(_) if !self.approximate => {
                Err(Reply::error("ERR syntax error, LIMIT cannot be used without the special ~ option"))
            }
            _ => Ok(()),
        }
    }
}

fn asked_id(word: &[u8]) -> Result<AskedId, Reply> {
    match word.strip_suffix(b"-*") {
        Some(ms) => Ok(AskedId::Within(part(ms)?)),
        None => stream_id(word).map(AskedId::Explicit),
    }
}

/// `ms-seq`, or `ms` for the first of its millisecond.
fn stream_id(word: &[u8]) -> Result<StreamId, Reply> {
    let mut parts = word.splitn(2, |byte| *byte == b'-');
    let ms = part(parts.next().unwrap_or_default())?;
    let seq = parts.next().map_or(Ok(0), part)?;
    Ok(StreamId { ms, seq })
}

fn part(digits: &[u8]) -> Result<u64, Reply> {
    // As C's strtoull: blanks and a plus sign before the digits are no fault.
    let text = std::str::from_utf8(digits).unwrap_or_default().trim_ascii_start();
    text.parse::<u64>().ok().ok_or_else(|| Reply::error("ERR Invalid stream ID specified as stream command argument"))
}

// === impl StreamId ===

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

// === impl StreamIds ===

impl StreamIds {
    /// The id for an entry. Those the server makes rise strictly, even when the clock goes back.
    pub fn next(&mut self, asked: AskedId, now_ms: u64) -> StreamId {
        let made = match asked {
            AskedId::Explicit(id) => return id,
            AskedId::Automatic => self.after_last(now_ms.max(self.last.ms)),
            AskedId::Within(ms) => self.after_last(ms),
        };
        self.last = self.last.max(made);
        made
    }

    fn after_last(&self, ms: u64) -> StreamId {
        // 0-0 is no id.
        let seq = if ms == self.last.ms { self.last.seq.saturating_add(1) } else { u64::from(ms == 0) };
        StreamId { ms, seq }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &'static str) -> Result<XAdd<'static>, String> {
        let args: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        xadd(&args).map_err(|reply| match reply {
            Reply::Error(text) => text.into_owned(),
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn trimming_options_are_read_and_have_no_effect() {
        for line in [
            "XADD a * f v",
            "XADD a NOMKSTREAM * f v",
            "xadd a maxlen 10 * f v",
            "XADD a MAXLEN ~ 10 * f v",
            "XADD a MAXLEN = 10 * f v",
            "XADD a MAXLEN ~ 10 LIMIT 5 * f v",
            "XADD a MINID 5 * f v",
            "XADD a MINID ~ 5-1 NOMKSTREAM * f v",
        ] {
            let entry = parse(line).unwrap();
            assert_eq!((entry.key, entry.id), (&b"a"[..], AskedId::Automatic), "{line}");
            assert_eq!(entry.fields, [(&b"f"[..], &b"v"[..])], "{line}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_in_the_words_of_redis() {
        let arity = "ERR wrong number of arguments for 'xadd' command";
        let number = "ERR value is not an integer or out of range";
        let id = "ERR Invalid stream ID specified as stream command argument";
        for (line, error) in [
            ("XADD", arity),
            ("XADD a *", arity),
            ("XADD a * f", arity),
            ("XADD a * f v g", arity),
            ("XADD a MAXLEN ~ 5", arity),
            ("XADD a MAXLEN x * f v", number),
            ("XADD b MAXLEN f v g", number),
            ("XADD b MAXLEN ~ f v g", number),
            ("XADD a MAXLEN -1 * f v", "ERR The MAXLEN argument must be >= 0."),
            ("XADD a MAXLEN ~ 10 LIMIT x * f v", number),
            ("XADD a MAXLEN ~ 10 LIMIT -1 * f v", "ERR The LIMIT argument must be >= 0."),
            ("XADD a MAXLEN 10 LIMIT 5 * f v", "ERR syntax error, LIMIT cannot be used without the special ~ option"),
            ("XADD a LIMIT 5 * f v", "ERR syntax error, LIMIT cannot be used without specifying a trimming strategy"),
            (
                "XADD a MAXLEN 10 MINID 5 * f v",
                "ERR syntax error, MAXLEN and MINID options at the same time are not compatible",
            ),
            ("XADD a MINID x * f v", id),
            ("XADD a bad f v", id),
            ("XADD b FOO f v g", id),
            ("XADD b - f v", id),
            ("XADD b *-1 f v", id),
            ("XADD b 99999999999999999999-1 f v", id),
            ("XADD a 0 f v", "ERR The ID specified in XADD must be greater than 0-0"),
            ("XADD a 0-0 f v", "ERR The ID specified in XADD must be greater than 0-0"),
        ] {
            assert_eq!(parse(line).unwrap_err(), error, "{line}");
        }
    }

    #[test]
    fn one_field_is_its_value_byte_for_byte() {
        let args: [&[u8]; 5] = [b"XADD", b"k", b"*", b"msg", b"\xff\x00{\r\n"];
        assert_eq!(*xadd(&args).unwrap().record().unwrap(), *b"\xff\x00{\r\n");
    }

    #[test]
    fn several_fields_are_one_json_object_in_their_order() {
        let args: [&[u8]; 7] = [b"XADD", b"k", b"*", b"z\"", b"1\n", b"a", "ü".as_bytes()];
        assert_eq!(*xadd(&args).unwrap().record().unwrap(), *"{\"z\\\"\":\"1\\n\",\"a\":\"ü\"}".as_bytes());
    }

    #[test]
    fn fields_that_json_would_lose_are_refused() {
        let binary: [&[u8]; 7] = [b"XADD", b"k", b"*", b"a", b"1", b"b", b"\xff"];
        let twice: [&[u8]; 7] = [b"XADD", b"k", b"*", b"a", b"1", b"a", b"2"];
        for (args, why) in [(binary, "'b' is not UTF-8"), (twice, "'a' stands there twice")] {
            let Err(Reply::Error(text)) = xadd(&args).unwrap().record() else { panic!("{why}") };
            assert!(text.contains(why), "{text}");
        }
    }

    #[test]
    fn ids_rise_when_the_clock_stands_still_or_goes_back() {
        let mut ids = StreamIds::default();
        let made: Vec<String> =
            [5, 5, 7, 6].into_iter().map(|now| ids.next(AskedId::Automatic, now).to_string()).collect();
        assert_eq!(made, ["5-0", "5-1", "7-0", "7-1"]);
    }

    #[test]
    fn an_id_within_a_millisecond_gets_the_next_place_and_an_explicit_one_is_kept() {
        let mut ids = StreamIds::default();
        assert_eq!(ids.next(parse("XADD a 0-* f v").unwrap().id, 9).to_string(), "0-1");
        assert_eq!(ids.next(parse("XADD a 5-* f v").unwrap().id, 9).to_string(), "5-0");
        assert_eq!(ids.next(parse("XADD a 5-* f v").unwrap().id, 9).to_string(), "5-1");
        assert_eq!(ids.next(parse("XADD a 3 f v").unwrap().id, 9).to_string(), "3-0");
        assert_eq!(ids.next(AskedId::Automatic, 9).to_string(), "9-0");
    }
}
