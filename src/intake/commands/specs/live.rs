//! Following records and commands live.

use super::super::table::{Kind::*, rows};
use crate::intake::live::Kind::{Channel, Pattern, Shard};

rows! {
    /// Following records live.
    pub(super) static SUBSCRIPTIONS from 384;
    "subscribe" Subscribe(Channel), arity -2 [PUBSUB NOSCRIPT LOADING STALE] []
        "pubsub" "2.0.0" "Follows the records of keys and channels, as they are taken in";
    "psubscribe" Subscribe(Pattern), arity -2 [PUBSUB NOSCRIPT LOADING STALE] []
        "pubsub" "2.0.0" "Follows the records of keys and channels that match, as they are taken in";
    "ssubscribe" Subscribe(Shard), arity -2 keys(1, -1, 1, "not_key") [PUBSUB NOSCRIPT LOADING STALE] []
        "pubsub" "7.0.0" "Follows the records of keys and channels, as they are taken in";
    "unsubscribe" Unsubscribe(Channel), arity -1 [PUBSUB NOSCRIPT LOADING STALE] []
        "pubsub" "2.0.0" "Follows keys and channels no more";
    "punsubscribe" Unsubscribe(Pattern), arity -1 [PUBSUB NOSCRIPT LOADING STALE] []
        "pubsub" "2.0.0" "Follows patterns no more";
    "sunsubscribe" Unsubscribe(Shard), arity -1 keys(1, -1, 1, "not_key") [PUBSUB NOSCRIPT LOADING STALE] []
        "pubsub" "7.0.0" "Follows keys and channels no more";
    "monitor" Monitor, arity 1 [ADMIN NOSCRIPT LOADING STALE] []
        "server" "1.0.0" "Follows all commands, for users who may see every key";
}
