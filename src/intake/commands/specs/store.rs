//! Commands that keep values in Redis: here their values are records, where a route's `accept` says so.

use super::super::keyspace;
use super::super::table::{Kind::*, rows};

rows! {
    /// SET, HSET, ZADD, and what caps a sorted set.
    pub(super) static STORED from 448;
    "set" Set, arity -3 keys(1, 1, 1, "RW access update variable_flags") [WRITE DENYOOM] [STRING]
        "string" "1.0.0" "Takes the value as a record of the key, where the route accepts it";
    "hset" HSet, arity -4 keys(1, 1, 1, "RW update") [WRITE DENYOOM FAST] [HASH]
        "hash" "2.0.0" "Takes the fields as one record of the key, where the route accepts it";
    "hmset" HSet, arity -4 keys(1, 1, 1, "RW update") [WRITE DENYOOM FAST] [HASH]
        "hash" "2.0.0" "Takes the fields as one record of the key, where the route accepts it";
    "zadd" ZAdd, arity -4 keys(1, 1, 1, "RW update") [WRITE DENYOOM FAST] [SORTEDSET]
        "sorted-set" "1.2.0" "Takes each member as a record of the key, where the route accepts it";
    "zremrangebyscore" Answered(keyspace::zremrangebyscore), arity 4 keys(1, 1, 1, "RW delete") [WRITE] [SORTEDSET]
        "sorted-set" "1.2.0" "Answers 0: there is nothing to cut";
    "zremrangebyrank" Answered(keyspace::zremrangebyrank), arity 4 keys(1, 1, 1, "RW delete") [WRITE] [SORTEDSET]
        "sorted-set" "2.0.0" "Answers 0: there is nothing to cut";
}
