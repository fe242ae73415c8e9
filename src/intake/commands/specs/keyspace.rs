//! Questions about keys, answered as Redis answers for a key that is not there: no key is ever kept.

use super::super::table::{Kind::*, rows};
use super::super::{introspection, keyspace};

rows! {
    /// Questions about keys.
    pub(super) static KEYSPACE from 128;
    "get" Answered(keyspace::nil), arity 2 keys(1, 1, 1, "RO access") [READONLY FAST] [STRING]
        "string" "1.0.0" "Answers nil: no key is kept";
    "mget" Answered(keyspace::mget), arity -2 keys(1, -1, 1, "RO access") [READONLY FAST] [STRING]
        "string" "1.0.0" "Answers nil for each key: none is kept";
    "exists" Answered(keyspace::zero), arity -2 keys(1, -1, 1, "RO") [READONLY FAST] [KEYSPACE]
        "generic" "1.0.0" "Answers 0: no key is kept";
    "type" Answered(keyspace::none), arity 2 keys(1, 1, 1, "RO") [READONLY FAST] [KEYSPACE]
        "generic" "1.0.0" "Answers none: no key is kept";
    "del" Answered(keyspace::zero), arity -2 keys(1, -1, 1, "RM delete") [WRITE] [KEYSPACE]
        "generic" "1.0.0" "Answers 0: there was nothing to delete";
    "unlink" Answered(keyspace::zero), arity -2 keys(1, -1, 1, "RM delete") [WRITE FAST] [KEYSPACE]
        "generic" "4.0.0" "Answers 0: there was nothing to delete";
    "expire" Answered(keyspace::expire), arity -3 keys(1, 1, 1, "RW update") [WRITE FAST] [KEYSPACE]
        "generic" "1.0.0" "Accepted: how long records live is set in Kafka";
    "pexpire" Answered(keyspace::expire), arity -3 keys(1, 1, 1, "RW update") [WRITE FAST] [KEYSPACE]
        "generic" "2.6.0" "Accepted: how long records live is set in Kafka";
    "expireat" Answered(keyspace::expire), arity -3 keys(1, 1, 1, "RW update") [WRITE FAST] [KEYSPACE]
        "generic" "1.2.0" "Accepted: how long records live is set in Kafka";
    "pexpireat" Answered(keyspace::expire), arity -3 keys(1, 1, 1, "RW update") [WRITE FAST] [KEYSPACE]
        "generic" "2.6.0" "Accepted: how long records live is set in Kafka";
    "persist" Answered(keyspace::zero), arity 2 keys(1, 1, 1, "RW update") [WRITE FAST] [KEYSPACE]
        "generic" "2.2.0" "Answers 0: no key has a time to live";
    "ttl" Answered(keyspace::no_ttl), arity 2 keys(1, 1, 1, "RO access") [READONLY FAST] [KEYSPACE]
        "generic" "1.0.0" "Answers -2: no key is kept";
    "pttl" Answered(keyspace::no_ttl), arity 2 keys(1, 1, 1, "RO access") [READONLY FAST] [KEYSPACE]
        "generic" "2.6.0" "Answers -2: no key is kept";
    "keys" Answered(keyspace::no_elements), arity 2 [READONLY] [KEYSPACE DANGEROUS]
        "generic" "1.0.0" "Answers no keys: none is kept";
    "scan" Answered(keyspace::scan), arity -2 [READONLY] [KEYSPACE]
        "generic" "2.8.0" "Answers no keys: none is kept";
    "object" Container, arity -2 subcommands(OBJECT) [] []
        "generic" "2.2.3" "Commands about how a key is kept";
}

rows! {
    /// OBJECT and its sub-commands.
    pub(super) static OBJECT from 160;
    "object|encoding" Answered(keyspace::nil), arity 3 keys(2, 2, 1, "RO") [READONLY] [KEYSPACE]
        "generic" "2.2.3" "Answers nil: no key is kept";
    "object|freq" Answered(keyspace::nil), arity 3 keys(2, 2, 1, "RO") [READONLY] [KEYSPACE]
        "generic" "4.0.0" "Answers nil: no key is kept";
    "object|help" Answered(introspection::help), arity 2 [LOADING STALE] [KEYSPACE]
        "generic" "6.2.0" "Lists the sub-commands";
    "object|idletime" Answered(keyspace::nil), arity 3 keys(2, 2, 1, "RO") [READONLY] [KEYSPACE]
        "generic" "2.2.3" "Answers nil: no key is kept";
    "object|refcount" Answered(keyspace::nil), arity 3 keys(2, 2, 1, "RO") [READONLY] [KEYSPACE]
        "generic" "2.2.3" "Answers nil: no key is kept";
}
