//! Commands of Redis that make no sense here, or come later: known, so that the error can say why.

use super::super::table::{Kind::*, Refusal::*, rows};

rows! {
    /// Taking records out.
    pub(super) static READS from 288;
    "lpop" Refused(Read), arity -2 keys(1, 1, 1, "RW access delete") [WRITE FAST] [LIST]
        "list" "1.0.0" "Not served: records are read from Kafka";
    "rpop" Refused(Read), arity -2 keys(1, 1, 1, "RW access delete") [WRITE FAST] [LIST]
        "list" "1.0.0" "Not served: records are read from Kafka";
    "blpop" Refused(Read), arity -3 keys(1, -2, 1, "RW access delete") [WRITE NOSCRIPT BLOCKING] [LIST]
        "list" "2.0.0" "Not served: records are read from Kafka";
    "brpop" Refused(Read), arity -3 keys(1, -2, 1, "RW access delete") [WRITE NOSCRIPT BLOCKING] [LIST]
        "list" "2.0.0" "Not served: records are read from Kafka";
    "lmpop" Refused(Read), arity -4 [WRITE MOVABLEKEYS] [LIST]
        "list" "7.0.0" "Not served: records are read from Kafka";
    "blmpop" Refused(Read), arity -5 [WRITE BLOCKING MOVABLEKEYS] [LIST]
        "list" "7.0.0" "Not served: records are read from Kafka";
    "lmove" Refused(Read), arity 5 keys(1, 2, 1, "RW access delete") [WRITE DENYOOM] [LIST]
        "list" "6.2.0" "Not served: records are read from Kafka";
    "blmove" Refused(Read), arity 6 keys(1, 2, 1, "RW access delete") [WRITE DENYOOM NOSCRIPT BLOCKING] [LIST]
        "list" "6.2.0" "Not served: records are read from Kafka";
    "rpoplpush" Refused(Read), arity 3 keys(1, 2, 1, "RW access delete") [WRITE DENYOOM] [LIST]
        "list" "1.2.0" "Not served: records are read from Kafka";
    "brpoplpush" Refused(Read), arity 4 keys(1, 2, 1, "RW access delete") [WRITE DENYOOM NOSCRIPT BLOCKING] [LIST]
        "list" "2.2.0" "Not served: records are read from Kafka";
    "lindex" Refused(Read), arity 3 keys(1, 1, 1, "RO access") [READONLY] [LIST]
        "list" "1.0.0" "Not served: records are read from Kafka";
    "lpos" Refused(Read), arity -3 keys(1, 1, 1, "RO access") [READONLY] [LIST]
        "list" "6.0.6" "Not served: records are read from Kafka";
    "xread" Refused(Read), arity -4 [READONLY BLOCKING MOVABLEKEYS] [STREAM]
        "stream" "5.0.0" "Not served: records are read from Kafka";
    "xreadgroup" Refused(Read), arity -7 [WRITE BLOCKING MOVABLEKEYS] [STREAM]
        "stream" "5.0.0" "Not served: records are read from Kafka";
    "xrange" Refused(Read), arity -4 keys(1, 1, 1, "RO access") [READONLY] [STREAM]
        "stream" "5.0.0" "Not served: records are read from Kafka";
    "xrevrange" Refused(Read), arity -4 keys(1, 1, 1, "RO access") [READONLY] [STREAM]
        "stream" "5.0.0" "Not served: records are read from Kafka";
    "xack" Refused(Read), arity -4 keys(1, 1, 1, "RW update") [WRITE FAST] [STREAM]
        "stream" "5.0.0" "Not served: records are read from Kafka";
    "xgroup" Refused(Read), arity -2 [] []
        "stream" "5.0.0" "Not served: records are read from Kafka";
    "xinfo" Refused(Read), arity -2 [] []
        "stream" "5.0.0" "Not served: records are read from Kafka";
    "hget" Refused(Read), arity 3 keys(1, 1, 1, "RO access") [READONLY FAST] [HASH]
        "hash" "2.0.0" "Not served: records are read from Kafka";
    "hmget" Refused(Read), arity -3 keys(1, 1, 1, "RO access") [READONLY FAST] [HASH]
        "hash" "2.0.0" "Not served: records are read from Kafka";
    "hgetall" Refused(Read), arity 2 keys(1, 1, 1, "RO access") [READONLY] [HASH]
        "hash" "2.0.0" "Not served: records are read from Kafka";
    "hexists" Refused(Read), arity 3 keys(1, 1, 1, "RO") [READONLY FAST] [HASH]
        "hash" "2.0.0" "Not served: records are read from Kafka";
    "hlen" Refused(Read), arity 2 keys(1, 1, 1, "RO") [READONLY FAST] [HASH]
        "hash" "2.0.0" "Not served: records are read from Kafka";
    "hkeys" Refused(Read), arity 2 keys(1, 1, 1, "RO access") [READONLY] [HASH]
        "hash" "2.0.0" "Not served: records are read from Kafka";
    "hvals" Refused(Read), arity 2 keys(1, 1, 1, "RO access") [READONLY] [HASH]
        "hash" "2.0.0" "Not served: records are read from Kafka";
    "sismember" Refused(Read), arity 3 keys(1, 1, 1, "RO") [READONLY FAST] [SET]
        "set" "1.0.0" "Not served: records are read from Kafka";
    "smembers" Refused(Read), arity 2 keys(1, 1, 1, "RO access") [READONLY] [SET]
        "set" "1.0.0" "Not served: records are read from Kafka";
    "scard" Refused(Read), arity 2 keys(1, 1, 1, "RO") [READONLY FAST] [SET]
        "set" "1.0.0" "Not served: records are read from Kafka";
    "spop" Refused(Read), arity -2 keys(1, 1, 1, "RW access delete") [WRITE FAST] [SET]
        "set" "1.0.0" "Not served: records are read from Kafka";
    "zrange" Refused(Read), arity -4 keys(1, 1, 1, "RO access") [READONLY] [SORTEDSET]
        "sorted-set" "1.2.0" "Not served: records are read from Kafka";
    "zcard" Refused(Read), arity 2 keys(1, 1, 1, "RO") [READONLY FAST] [SORTEDSET]
        "sorted-set" "1.2.0" "Not served: records are read from Kafka";
    "zscore" Refused(Read), arity 3 keys(1, 1, 1, "RO access") [READONLY FAST] [SORTEDSET]
        "sorted-set" "1.2.0" "Not served: records are read from Kafka";
    "zrangebyscore" Refused(Read), arity -4 keys(1, 1, 1, "RO access") [READONLY] [SORTEDSET]
        "sorted-set" "1.0.5" "Not served: records are read from Kafka";
    "zcount" Refused(Read), arity 4 keys(1, 1, 1, "RO access") [READONLY FAST] [SORTEDSET]
        "sorted-set" "2.0.0" "Not served: records are read from Kafka";
    "bzpopmin" Refused(Read), arity -3 keys(1, -2, 1, "RW access delete") [WRITE NOSCRIPT BLOCKING FAST] [SORTEDSET]
        "sorted-set" "5.0.0" "Not served: records are read from Kafka";
    "zpopmin" Refused(Read), arity -2 keys(1, 1, 1, "RW access delete") [WRITE FAST] [SORTEDSET]
        "sorted-set" "5.0.0" "Not served: records are read from Kafka";
}

rows! {
    /// Keeping or changing values.
    pub(super) static STORES from 336;
    "setex" Refused(Store), arity 4 keys(1, 1, 1, "OW update") [WRITE DENYOOM] [STRING]
        "string" "2.0.0" "Not served: Tidegate keeps no values";
    "psetex" Refused(Store), arity 4 keys(1, 1, 1, "OW update") [WRITE DENYOOM] [STRING]
        "string" "2.6.0" "Not served: Tidegate keeps no values";
    "setnx" Refused(Store), arity 3 keys(1, 1, 1, "OW insert") [WRITE DENYOOM FAST] [STRING]
        "string" "1.0.0" "Not served: Tidegate keeps no values";
    "getset" Refused(Store), arity 3 keys(1, 1, 1, "RW access update") [WRITE DENYOOM FAST] [STRING]
        "string" "1.0.0" "Not served: Tidegate keeps no values";
    "getdel" Refused(Store), arity 2 keys(1, 1, 1, "RW access delete") [WRITE FAST] [STRING]
        "string" "6.2.0" "Not served: Tidegate keeps no values";
    "getex" Refused(Store), arity -2 keys(1, 1, 1, "RW access update") [WRITE FAST] [STRING]
        "string" "6.2.0" "Not served: Tidegate keeps no values";
    "mset" Refused(Store), arity -3 keys(1, -1, 2, "OW update") [WRITE DENYOOM] [STRING]
        "string" "1.0.1" "Not served: Tidegate keeps no values";
    "append" Refused(Store), arity 3 keys(1, 1, 1, "RW insert") [WRITE DENYOOM FAST] [STRING]
        "string" "2.0.0" "Not served: Tidegate keeps no values";
    "incr" Refused(Store), arity 2 keys(1, 1, 1, "RW access update") [WRITE DENYOOM FAST] [STRING]
        "string" "1.0.0" "Not served: Tidegate keeps no values";
    "incrby" Refused(Store), arity 3 keys(1, 1, 1, "RW access update") [WRITE DENYOOM FAST] [STRING]
        "string" "1.0.0" "Not served: Tidegate keeps no values";
    "decr" Refused(Store), arity 2 keys(1, 1, 1, "RW access update") [WRITE DENYOOM FAST] [STRING]
        "string" "1.0.0" "Not served: Tidegate keeps no values";
    "decrby" Refused(Store), arity 3 keys(1, 1, 1, "RW access update") [WRITE DENYOOM FAST] [STRING]
        "string" "1.0.0" "Not served: Tidegate keeps no values";
    "setrange" Refused(Store), arity 4 keys(1, 1, 1, "RW update") [WRITE DENYOOM] [STRING]
        "string" "2.2.0" "Not served: Tidegate keeps no values";
    "hsetnx" Refused(Store), arity 4 keys(1, 1, 1, "RW insert") [WRITE DENYOOM FAST] [HASH]
        "hash" "2.0.0" "Not served: Tidegate keeps no values";
    "hincrby" Refused(Store), arity 4 keys(1, 1, 1, "RW access update") [WRITE DENYOOM FAST] [HASH]
        "hash" "2.0.0" "Not served: Tidegate keeps no values";
    "hdel" Refused(Store), arity -3 keys(1, 1, 1, "RW delete") [WRITE FAST] [HASH]
        "hash" "2.0.0" "Not served: Tidegate keeps no values";
    "sadd" Refused(Store), arity -3 keys(1, 1, 1, "RW insert") [WRITE DENYOOM FAST] [SET]
        "set" "1.0.0" "Not served: Tidegate keeps no values";
    "srem" Refused(Store), arity -3 keys(1, 1, 1, "RW delete") [WRITE FAST] [SET]
        "set" "1.0.0" "Not served: Tidegate keeps no values";
    "zincrby" Refused(Store), arity 4 keys(1, 1, 1, "RW access update") [WRITE DENYOOM FAST] [SORTEDSET]
        "sorted-set" "1.2.0" "Not served: Tidegate keeps no values";
    "zrem" Refused(Store), arity -3 keys(1, 1, 1, "RW delete") [WRITE FAST] [SORTEDSET]
        "sorted-set" "1.2.0" "Not served: Tidegate keeps no values";
    "lset" Refused(Store), arity 4 keys(1, 1, 1, "RW update") [WRITE DENYOOM] [LIST]
        "list" "1.0.0" "Not served: Tidegate keeps no values";
    "lrem" Refused(Store), arity 4 keys(1, 1, 1, "RW delete") [WRITE] [LIST]
        "list" "1.0.0" "Not served: Tidegate keeps no values";
    "linsert" Refused(Store), arity 5 keys(1, 1, 1, "RW insert") [WRITE DENYOOM] [LIST]
        "list" "2.2.0" "Not served: Tidegate keeps no values";
    "xdel" Refused(Store), arity -3 keys(1, 1, 1, "RW delete") [WRITE FAST] [STREAM]
        "stream" "5.0.0" "Not served: Tidegate keeps no values";
    "xtrim" Refused(Store), arity -4 keys(1, 1, 1, "RW delete") [WRITE] [STREAM]
        "stream" "5.0.0" "Not served: Tidegate keeps no values";
    "rename" Refused(Store), arity 3 keys(1, 2, 1, "RW access delete") [WRITE] [KEYSPACE]
        "generic" "1.0.0" "Not served: Tidegate keeps no values";
    "copy" Refused(Store), arity -3 keys(1, 2, 1, "RO access") [WRITE DENYOOM] [KEYSPACE]
        "generic" "6.2.0" "Not served: Tidegate keeps no values";
    "restore" Refused(Store), arity -4 keys(1, 1, 1, "OW update") [WRITE DENYOOM] [KEYSPACE DANGEROUS]
        "generic" "2.6.0" "Not served: Tidegate keeps no values";
}

rows! {
    /// Care of a data set.
    pub(super) static ADMINISTRATION from 416;
    "save" Refused(Administration), arity 1 [ADMIN NOSCRIPT NO_ASYNC_LOADING NO_MULTI] []
        "server" "1.0.0" "Not served: Tidegate holds no data set";
    "bgsave" Refused(Administration), arity -1 [ADMIN NOSCRIPT NO_ASYNC_LOADING] []
        "server" "1.0.0" "Not served: Tidegate holds no data set";
    "bgrewriteaof" Refused(Administration), arity 1 [ADMIN NOSCRIPT NO_ASYNC_LOADING] []
        "server" "1.0.0" "Not served: Tidegate holds no data set";
    "lastsave" Refused(Administration), arity 1 [LOADING STALE FAST] [ADMIN DANGEROUS]
        "server" "1.0.0" "Not served: Tidegate holds no data set";
    "flushall" Refused(Administration), arity -1 [WRITE] [KEYSPACE DANGEROUS]
        "server" "1.0.0" "Not served: Tidegate holds no data set";
    "flushdb" Refused(Administration), arity -1 [WRITE] [KEYSPACE DANGEROUS]
        "server" "1.0.0" "Not served: Tidegate holds no data set";
    "shutdown" Refused(Administration), arity -1 [ADMIN NOSCRIPT LOADING STALE NO_MULTI ALLOW_BUSY] []
        "server" "1.0.0" "Not served: Tidegate holds no data set";
    "debug" Refused(Administration), arity -2 [ADMIN NOSCRIPT LOADING STALE] []
        "server" "1.0.0" "Not served: Tidegate holds no data set";
    "replicaof" Refused(Administration), arity 3 [ADMIN NOSCRIPT STALE NO_ASYNC_LOADING] []
        "server" "5.0.0" "Not served: Tidegate holds no data set";
    "slaveof" Refused(Administration), arity 3 [ADMIN NOSCRIPT STALE NO_ASYNC_LOADING] []
        "server" "1.0.0" "Not served: Tidegate holds no data set";
    "swapdb" Refused(Administration), arity 3 [WRITE FAST] [KEYSPACE DANGEROUS]
        "server" "4.0.0" "Not served: Tidegate holds no data set";
    "sync" Refused(Administration), arity 1 [ADMIN NOSCRIPT NO_ASYNC_LOADING NO_MULTI] []
        "server" "1.0.0" "Not served: Tidegate holds no data set";
    "psync" Refused(Administration), arity -3 [ADMIN NOSCRIPT NO_ASYNC_LOADING NO_MULTI] []
        "server" "2.8.0" "Not served: Tidegate holds no data set";
    "failover" Refused(Administration), arity -1 [ADMIN NOSCRIPT STALE] []
        "server" "6.2.0" "Not served: Tidegate holds no data set";
}
