//! What operators ask; most of it has a truthful empty answer here.

use super::super::table::{Kind::*, Refusal::*, rows};
use super::super::{acl, introspection, keyspace, operations};

rows! {
    /// What operators ask.
    pub(super) static OPERATIONS from 176;
    "latency" Container, arity -2 subcommands(LATENCY) [] []
        "server" "2.8.13" "Commands about slow events";
    "slowlog" Container, arity -2 subcommands(SLOWLOG) [] []
        "server" "2.2.12" "Commands about slow commands";
    "memory" Container, arity -2 subcommands(MEMORY) [] []
        "server" "4.0.0" "Commands about memory";
    "pubsub" Container, arity -2 subcommands(PUBSUB) [] []
        "pubsub" "2.8.0" "Commands about subscriptions";
    "acl" Container, arity -2 subcommands(ACL) [] []
        "server" "6.0.0" "Commands about users";
    "wait" Answered(operations::wait), arity 3 [NOSCRIPT] [CONNECTION]
        "generic" "3.0.0" "Answers 0: Kafka replicates, before the reply";
}

rows! {
    /// LATENCY and its sub-commands.
    pub(super) static LATENCY from 184;
    "latency|doctor" Answered(operations::latency_doctor), arity 2 [ADMIN NOSCRIPT LOADING STALE] []
        "server" "2.8.13" "Points at the metrics";
    "latency|graph" Answered(operations::latency_graph), arity 3 [ADMIN NOSCRIPT LOADING STALE] []
        "server" "2.8.13" "Answers that there are no samples";
    "latency|help" Answered(introspection::help), arity 2 [LOADING STALE] []
        "server" "2.8.13" "Lists the sub-commands";
    "latency|histogram" Answered(operations::no_map), arity -2 [ADMIN NOSCRIPT LOADING STALE] []
        "server" "7.0.0" "Answers no histograms: the metrics have them";
    "latency|history" Answered(keyspace::no_elements), arity 3 [ADMIN NOSCRIPT LOADING STALE] []
        "server" "2.8.13" "Answers no samples";
    "latency|latest" Answered(keyspace::no_elements), arity 2 [ADMIN NOSCRIPT LOADING STALE] []
        "server" "2.8.13" "Answers no samples";
    "latency|reset" Answered(keyspace::zero), arity -2 [ADMIN NOSCRIPT LOADING STALE] []
        "server" "2.8.13" "Answers 0: there was nothing to reset";
}

rows! {
    /// SLOWLOG and its sub-commands.
    pub(super) static SLOWLOG from 200;
    "slowlog|get" Answered(operations::slowlog_get), arity -2 [ADMIN LOADING STALE] []
        "server" "2.2.12" "Answers no entries";
    "slowlog|help" Answered(introspection::help), arity 2 [LOADING STALE] []
        "server" "6.2.0" "Lists the sub-commands";
    "slowlog|len" Answered(keyspace::zero), arity 2 [ADMIN LOADING STALE] []
        "server" "2.2.12" "Answers 0";
    "slowlog|reset" Answered(keyspace::ok), arity 2 [ADMIN LOADING STALE] []
        "server" "2.2.12" "Accepted: the log is empty";
}

rows! {
    /// MEMORY and its sub-commands.
    pub(super) static MEMORY from 208;
    "memory|doctor" Answered(operations::memory_doctor), arity 2 [] []
        "server" "4.0.0" "Says how much of the budget is taken";
    "memory|help" Answered(introspection::help), arity 2 [LOADING STALE] []
        "server" "4.0.0" "Lists the sub-commands";
    "memory|malloc-stats" Answered(operations::malloc_stats), arity 2 [] []
        "server" "4.0.0" "Answers that the allocator keeps none";
    "memory|purge" Answered(keyspace::ok), arity 2 [] []
        "server" "4.0.0" "Accepted: the allocator decides";
    "memory|stats" Answered(operations::memory_stats), arity 2 [] []
        "server" "4.0.0" "Answers what is known of memory";
    "memory|usage" Answered(operations::memory_usage), arity -3 keys(2, 2, 1, "RO") [READONLY] []
        "server" "4.0.0" "Answers nil: no key is kept";
}

rows! {
    /// PUBSUB and its sub-commands.
    pub(super) static PUBSUB from 216;
    "pubsub|channels" Answered(operations::channels), arity -2 [PUBSUB LOADING STALE] []
        "pubsub" "2.8.0" "Names the channels that somebody follows";
    "pubsub|help" Answered(introspection::help), arity 2 [LOADING STALE] []
        "pubsub" "6.2.0" "Lists the sub-commands";
    "pubsub|numpat" Answered(operations::numpat), arity 2 [PUBSUB LOADING STALE] []
        "pubsub" "2.8.0" "Counts the patterns that somebody follows";
    "pubsub|numsub" Answered(operations::numsub), arity -2 [PUBSUB LOADING STALE] []
        "pubsub" "2.8.0" "Counts who follows each channel";
    "pubsub|shardchannels" Answered(operations::channels), arity -2 [PUBSUB LOADING STALE] []
        "pubsub" "7.0.0" "Names the channels that somebody follows";
    "pubsub|shardnumsub" Answered(operations::numsub), arity -2 [PUBSUB LOADING STALE] []
        "pubsub" "7.0.0" "Counts who follows each channel";
}

rows! {
    /// ACL and its sub-commands.
    pub(super) static ACL from 224;
    "acl|cat" Answered(acl::cat), arity -2 [NOSCRIPT LOADING STALE] []
        "server" "6.0.0" "Names the categories, or the commands of one";
    "acl|deluser" Refused(Configuration), arity -3 [ADMIN NOSCRIPT LOADING STALE] []
        "server" "6.0.0" "Not served: users are in the configuration";
    "acl|dryrun" Answered(acl::dryrun), arity -4 [ADMIN NOSCRIPT LOADING STALE] []
        "server" "7.0.0" "Says whether a user may run a command";
    "acl|getuser" Answered(acl::getuser), arity 3 [ADMIN NOSCRIPT LOADING STALE] []
        "server" "6.0.0" "Describes a user";
    "acl|help" Answered(introspection::help), arity 2 [LOADING STALE] []
        "server" "6.0.0" "Lists the sub-commands";
    "acl|list" Answered(acl::list), arity 2 [ADMIN NOSCRIPT LOADING STALE] []
        "server" "6.0.0" "Describes the users, without passwords";
    "acl|load" Refused(Configuration), arity 2 [ADMIN NOSCRIPT LOADING STALE] []
        "server" "6.0.0" "Not served: users are in the configuration";
    "acl|log" Answered(acl::log), arity -2 [ADMIN NOSCRIPT LOADING STALE] []
        "server" "6.0.0" "Answers no entries: the metrics count refusals";
    "acl|save" Refused(Configuration), arity 2 [ADMIN NOSCRIPT LOADING STALE] []
        "server" "6.0.0" "Not served: users are in the configuration";
    "acl|setuser" Refused(Configuration), arity -3 [ADMIN NOSCRIPT LOADING STALE] []
        "server" "6.0.0" "Not served: users are in the configuration";
    "acl|users" Answered(acl::users), arity 2 [ADMIN NOSCRIPT LOADING STALE] []
        "server" "6.0.0" "Names the users";
    "acl|whoami" Answered(acl::whoami), arity 2 [NOSCRIPT LOADING STALE] []
        "server" "6.0.0" "Answers the name of the user";
}
