//! Questions about keys. Tidegate keeps none, so each is answered as Redis answers for a key that is not there; arguments
//! are checked all the same, with Redis's words.

use crate::intake::client::{Client, ServerFacts};
use crate::resp::reply::Reply;

use super::parse::{integer, syntax_error};
use super::shown;

pub(super) fn ok(_: &[&[u8]], _: &mut Client, _: &ServerFacts<'_>) -> Reply {
    Reply::OK
}

/// LLEN: 0, as a number that grew would make shippers that watch it for congestion stop for ever; or, where that is
/// configured, how many records of the key's topic a consumer group has not read yet.
pub(super) fn llen(args: &[&[u8]], client: &mut Client, server: &ServerFacts<'_>) -> Reply {
    let key = args.get(1).copied().unwrap_or_default();
    let user = client.user.as_ref().map_or("", |user| user.name.as_str());
    let length = server.lengths.as_ref().map_or(0, |lengths| lengths.of(key, client.database, user));
    Reply::Integer(i64::try_from(length).unwrap_or(i64::MAX))
}

pub(super) fn zero(_: &[&[u8]], _: &mut Client, _: &ServerFacts<'_>) -> Reply {
    Reply::Integer(0)
}

pub(super) fn nil(_: &[&[u8]], _: &mut Client, _: &ServerFacts<'_>) -> Reply {
    Reply::Nil
}

pub(super) fn no_elements(_: &[&[u8]], _: &mut Client, _: &ServerFacts<'_>) -> Reply {
    Reply::Array(Vec::new())
}

/// TYPE.
pub(super) fn none(_: &[&[u8]], _: &mut Client, _: &ServerFacts<'_>) -> Reply {
    Reply::simple("none")
}

/// TTL, PTTL.
pub(super) fn no_ttl(_: &[&[u8]], _: &mut Client, _: &ServerFacts<'_>) -> Reply {
    Reply::Integer(-2)
}

pub(super) fn mget(args: &[&[u8]], _: &mut Client, _: &ServerFacts<'_>) -> Reply {
    Reply::Array(args.iter().skip(1).map(|_| Reply::Nil).collect())
}

/// LRANGE key start stop.
pub(super) fn lrange(args: &[&[u8]], _: &mut Client, _: &ServerFacts<'_>) -> Reply {
    two_numbers(args).map_or_else(|error| error, |()| Reply::Array(Vec::new()))
}

/// LTRIM key start stop.
pub(super) fn ltrim(args: &[&[u8]], _: &mut Client, _: &ServerFacts<'_>) -> Reply {
    two_numbers(args).map_or_else(|error| error, |()| Reply::OK)
}

fn two_numbers(args: &[&[u8]]) -> Result<(), Reply> {
    args.iter().skip(2).try_for_each(|number| integer(number).map(|_| ()))
}

/// ZREMRANGEBYRANK key start stop.
pub(super) fn zremrangebyrank(args: &[&[u8]], _: &mut Client, _: &ServerFacts<'_>) -> Reply {
    two_numbers(args).map_or_else(|error| error, |()| Reply::Integer(0))
}

/// ZREMRANGEBYSCORE key min max, each a number behind an optional parenthesis.
pub(super) fn zremrangebyscore(args: &[&[u8]], _: &mut Client, _: &ServerFacts<'_>) -> Reply {
    let is_bound = |bound: &&[u8]| {
        let text = std::str::from_utf8(bound.strip_prefix(b"(").unwrap_or(bound)).unwrap_or_default();
        // As C's strtod, which passes over blanks before a number, and takes nothing for 0.
        text.is_empty() || text.trim_start().parse::<f64>().is_ok_and(|number| !number.is_nan())
    };
    if args.iter().skip(2).all(is_bound) { Reply::Integer(0) } else { Reply::error("ERR min or max is not a float") }
}

/// EXPIRE and its like, answered `:1`: appenders cap their list so after each push, and 0 reads as a failure.
pub(super) fn expire(args: &[&[u8]], _: &mut Client, _: &ServerFacts<'_>) -> Reply {
    let (mut exclusive, mut others, mut greater, mut less) = (false, false, false, false);
    for option in args.iter().skip(3) {
        match option.to_ascii_lowercase().as_slice() {
            b"nx" => exclusive = true,
            b"xx" => others = true,
            b"gt" => greater = true,
            b"lt" => less = true,
            _ => return Reply::error(format!("ERR Unsupported option {}", shown(option, 128))),
        }
    }
    if exclusive && (others || greater || less) {
        return Reply::error("ERR NX and XX, GT or LT options at the same time are not compatible");
    }
    if greater && less {
        return Reply::error("ERR GT and LT options at the same time are not compatible");
    }
    match integer(args.get(2).copied().unwrap_or_default()) {
        Ok(_) => Reply::Integer(1),
        Err(error) => error,
    }
}

/// SCAN cursor [MATCH pattern] [COUNT count] [TYPE type].
pub(super) fn scan(args: &[&[u8]], _: &mut Client, _: &ServerFacts<'_>) -> Reply {
    let cursor = args.get(1).copied().unwrap_or_default();
    if !is_cursor(cursor) {
        return Reply::error("ERR invalid cursor");
    }
    let mut options = args.get(2..).unwrap_or_default();
    while let [option, value, rest @ ..] = options {
        match option.to_ascii_lowercase().as_slice() {
            b"match" | b"type" => {}
            b"count" => match integer(value) {
                Ok(1..) => {}
                Ok(_) => return syntax_error(),
                Err(error) => return error,
            },
            _ => return syntax_error(),
        }
        options = rest;
    }
    if !options.is_empty() {
        return syntax_error();
    }
    Reply::Array(vec![Reply::text("0"), Reply::Array(Vec::new())])
}

/// As C's strtoul, with which Redis reads a cursor: a sign is no fault, and nothing is 0.
fn is_cursor(text: &[u8]) -> bool {
    let digits = text.strip_prefix(b"-").or(text.strip_prefix(b"+")).unwrap_or(text);
    text.is_empty()
        || std::str::from_utf8(digits).is_ok_and(|digits| !digits.starts_with('+') && digits.parse::<u64>().is_ok())
}
