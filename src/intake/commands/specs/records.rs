//! Commands that carry records, and the transactions around them.

use super::super::keyspace;
use super::super::table::{Kind::*, rows};

rows! {
    /// The hot ones first; [`super::super::table::lookup`] knows their places.
    pub(in crate::intake::commands) static RECORDS from 0;
    "lpush" Push, arity -3 keys(1, 1, 1, "RW insert") [WRITE DENYOOM FAST] [LIST]
        "list" "1.0.0" "Takes each value as a record of the key";
    "rpush" Push, arity -3 keys(1, 1, 1, "RW insert") [WRITE DENYOOM FAST] [LIST]
        "list" "1.0.0" "Takes each value as a record of the key";
    "publish" Publish, arity 3 [PUBSUB LOADING STALE FAST] []
        "pubsub" "2.0.0" "Takes the message as a record of the channel";
    "xadd" XAdd, arity -5 keys(1, 1, 1, "RW update") [WRITE DENYOOM FAST] [STREAM]
        "stream" "5.0.0" "Takes the fields as one record of the stream";
    "lpushx" Push, arity -3 keys(1, 1, 1, "RW insert") [WRITE DENYOOM FAST] [LIST]
        "list" "2.2.0" "Takes each value as a record of the key, as if the list were there";
    "rpushx" Push, arity -3 keys(1, 1, 1, "RW insert") [WRITE DENYOOM FAST] [LIST]
        "list" "2.2.0" "Takes each value as a record of the key, as if the list were there";
    "spublish" Publish, arity 3 keys(1, 1, 1, "not_key") [PUBSUB LOADING STALE FAST] []
        "pubsub" "7.0.0" "Takes the message as a record of the shard channel";
    "multi" Multi, arity 1 [NOSCRIPT LOADING STALE FAST ALLOW_BUSY] [TRANSACTION]
        "transactions" "1.2.0" "Starts a transaction";
    "exec" Exec, arity 1 [NOSCRIPT LOADING STALE SKIP_SLOWLOG] [TRANSACTION]
        "transactions" "1.2.0" "Runs the queued commands, all records admitted or none";
    "discard" Discard, arity 1 [NOSCRIPT LOADING STALE FAST ALLOW_BUSY] [TRANSACTION]
        "transactions" "2.0.0" "Forgets the queued commands";
    "watch" Watch, arity -2 keys(1, -1, 1, "RO") [NOSCRIPT LOADING STALE FAST ALLOW_BUSY] [TRANSACTION]
        "transactions" "2.2.0" "Accepted: no key of Tidegate ever changes";
    "unwatch" Unwatch, arity 1 [NOSCRIPT LOADING STALE FAST ALLOW_BUSY] [TRANSACTION]
        "transactions" "2.2.0" "Accepted: nothing is watched";
    "llen" Answered(keyspace::llen), arity 2 keys(1, 1, 1, "RO") [READONLY FAST] [LIST]
        "list" "1.0.0" "Answers 0: every record has left for Kafka";
    "lrange" Answered(keyspace::lrange), arity 4 keys(1, 1, 1, "RO access") [READONLY] [LIST]
        "list" "1.0.0" "Answers no elements: every record has left for Kafka";
    "ltrim" Answered(keyspace::ltrim), arity 4 keys(1, 1, 1, "RW delete") [WRITE] [LIST]
        "list" "1.0.0" "Accepted: there is no list to cut";
    "xlen" Answered(keyspace::zero), arity 2 keys(1, 1, 1, "RO") [READONLY FAST] [STREAM]
        "stream" "5.0.0" "Answers 0: every record has left for Kafka";
}
