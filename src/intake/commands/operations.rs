//! LATENCY, SLOWLOG, MEMORY, PUBSUB, WAIT: empty where Tidegate keeps nothing of the kind, and saying where to look.

use crate::intake::client::{Client, ServerFacts};
use crate::intake::live::Kind;
use crate::resp::reply::Reply;

use super::parse::{integer, number, syntax_error};
use super::{misused, shown};

/// WAIT replicas timeout.
pub(super) fn wait(args: &[&[u8]], _: &mut Client, _: &ServerFacts<'_>) -> Reply {
    let [_, replicas, timeout] = args else { return syntax_error() };
    if let Err(error) = integer(replicas) {
        return error;
    }
    match number(timeout) {
        Some(0..) => Reply::Integer(0),
        Some(_) => Reply::error("ERR timeout is negative"),
        None => Reply::error("ERR timeout is not an integer or out of range"),
    }
}

pub(super) fn no_map(_: &[&[u8]], _: &mut Client, _: &ServerFacts<'_>) -> Reply {
    Reply::Map(Vec::new())
}

pub(super) fn latency_doctor(_: &[&[u8]], _: &mut Client, _: &ServerFacts<'_>) -> Reply {
    Reply::Verbatim("Tidegate keeps no latency samples here: its metrics have histograms, on the admin port.\n".into())
}

pub(super) fn latency_graph(args: &[&[u8]], _: &mut Client, _: &ServerFacts<'_>) -> Reply {
    let event = shown(args.get(2).copied().unwrap_or_default(), 128);
    Reply::error(format!("ERR No samples available for event '{event}'"))
}

/// SLOWLOG GET [count].
pub(super) fn slowlog_get(args: &[&[u8]], _: &mut Client, _: &ServerFacts<'_>) -> Reply {
    match args {
        [_, _] => Reply::Array(Vec::new()),
        [_, _, count] if number(count).is_some_and(|count| count >= -1) => Reply::Array(Vec::new()),
        [_, _, _] => Reply::error("ERR count should be greater than or equal to -1"),
        _ => misused(args),
    }
}

pub(super) fn memory_doctor(_: &[&[u8]], _: &mut Client, server: &ServerFacts<'_>) -> Reply {
    let (used, limit) = (server.used_memory, server.limits.memory);
    Reply::Verbatim(format!("Unacknowledged records take {used} of {limit} bytes.\n"))
}

pub(super) fn malloc_stats(_: &[&[u8]], _: &mut Client, _: &ServerFacts<'_>) -> Reply {
    Reply::text("Stats not supported for the current allocator")
}

/// MEMORY STATS: what is known, under Redis's names.
pub(super) fn memory_stats(_: &[&[u8]], _: &mut Client, server: &ServerFacts<'_>) -> Reply {
    Reply::Map(vec![
        (Reply::text("total.allocated"), Reply::count(server.used_memory)),
        (Reply::text("replication.backlog"), Reply::Integer(0)),
        (Reply::text("aof.buffer"), Reply::Integer(0)),
        (Reply::text("keys.count"), Reply::Integer(0)),
        (Reply::text("keys.bytes-per-key"), Reply::Integer(0)),
        (Reply::text("dataset.bytes"), Reply::Integer(0)),
    ])
}

/// MEMORY USAGE key [SAMPLES count].
pub(super) fn memory_usage(args: &[&[u8]], _: &mut Client, _: &ServerFacts<'_>) -> Reply {
    match args {
        [_, _, _] => Reply::Nil,
        [_, _, _, option, count] if option.eq_ignore_ascii_case(b"samples") => match integer(count) {
            Ok(0..) => Reply::Nil,
            Ok(_) => syntax_error(),
            Err(error) => error,
        },
        _ => syntax_error(),
    }
}

/// PUBSUB CHANNELS and SHARDCHANNELS [pattern].
pub(super) fn channels(args: &[&[u8]], _: &mut Client, server: &ServerFacts<'_>) -> Reply {
    if args.len() > 3 {
        return misused(args);
    }
    let pattern = args.get(2).copied().unwrap_or(b"*");
    let names = server.hub.names(channel_kind(args), pattern);
    Reply::Array(names.into_iter().map(Reply::bulk).collect())
}

/// PUBSUB NUMSUB and SHARDNUMSUB [channel …].
pub(super) fn numsub(args: &[&[u8]], _: &mut Client, server: &ServerFacts<'_>) -> Reply {
    let kind = channel_kind(args);
    let channels = args.iter().skip(2);
    let counted = |channel: &&[u8]| [Reply::bulk(*channel), Reply::count(server.hub.listeners_of(kind, channel))];
    Reply::Array(channels.flat_map(counted).collect())
}

/// PUBSUB NUMPAT.
pub(super) fn numpat(_: &[&[u8]], _: &mut Client, server: &ServerFacts<'_>) -> Reply {
    Reply::count(server.hub.number(Kind::Pattern))
}

fn channel_kind(args: &[&[u8]]) -> Kind {
    let shard = args.get(1).is_some_and(|sub| sub.to_ascii_lowercase().starts_with(b"shard"));
    if shard { Kind::Shard } else { Kind::Channel }
}
