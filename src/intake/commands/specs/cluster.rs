//! CLUSTER and the commands of its clients: this instance is no cluster and says so as Redis does.

use super::super::cluster;
use super::super::table::{Kind::*, rows};

rows! {
    /// The commands of cluster clients.
    pub(super) static CLUSTERING from 240;
    "cluster" Container, arity -2 subcommands(CLUSTER) [] []
        "cluster" "3.0.0" "Commands about a cluster";
    "readonly" Answered(cluster::disabled), arity 1 [LOADING STALE FAST] [CONNECTION]
        "cluster" "3.0.0" "Answers that there is no cluster";
    "readwrite" Answered(cluster::disabled), arity 1 [LOADING STALE FAST] [CONNECTION]
        "cluster" "3.0.0" "Answers that there is no cluster";
    "asking" Answered(cluster::disabled), arity 1 [FAST] [CONNECTION]
        "cluster" "3.0.0" "Answers that there is no cluster";
}

rows! {
    /// CLUSTER and its sub-commands.
    pub(super) static CLUSTER from 248;
    "cluster|addslots" Answered(cluster::disabled), arity -3 [ADMIN STALE NO_ASYNC_LOADING] []
        "cluster" "3.0.0" "Answers that there is no cluster";
    "cluster|addslotsrange" Answered(cluster::disabled), arity -4 [ADMIN STALE NO_ASYNC_LOADING] []
        "cluster" "7.0.0" "Answers that there is no cluster";
    "cluster|bumpepoch" Answered(cluster::disabled), arity 2 [ADMIN STALE NO_ASYNC_LOADING] []
        "cluster" "3.0.0" "Answers that there is no cluster";
    "cluster|count-failure-reports" Answered(cluster::disabled), arity 3 [ADMIN STALE] []
        "cluster" "3.0.0" "Answers that there is no cluster";
    "cluster|countkeysinslot" Answered(cluster::disabled), arity 3 [STALE] []
        "cluster" "3.0.0" "Answers that there is no cluster";
    "cluster|delslots" Answered(cluster::disabled), arity -3 [ADMIN STALE NO_ASYNC_LOADING] []
        "cluster" "3.0.0" "Answers that there is no cluster";
    "cluster|delslotsrange" Answered(cluster::disabled), arity -4 [ADMIN STALE NO_ASYNC_LOADING] []
        "cluster" "7.0.0" "Answers that there is no cluster";
    "cluster|failover" Answered(cluster::disabled), arity -2 [ADMIN STALE NO_ASYNC_LOADING] []
        "cluster" "3.0.0" "Answers that there is no cluster";
    "cluster|flushslots" Answered(cluster::disabled), arity 2 [ADMIN STALE NO_ASYNC_LOADING] []
        "cluster" "3.0.0" "Answers that there is no cluster";
    "cluster|forget" Answered(cluster::disabled), arity 3 [ADMIN STALE NO_ASYNC_LOADING] []
        "cluster" "3.0.0" "Answers that there is no cluster";
    "cluster|getkeysinslot" Answered(cluster::disabled), arity 4 [STALE] []
        "cluster" "3.0.0" "Answers that there is no cluster";
    "cluster|help" Answered(cluster::disabled), arity 2 [LOADING STALE] []
        "cluster" "5.0.0" "Answers that there is no cluster";
    "cluster|info" Answered(cluster::disabled), arity 2 [STALE] []
        "cluster" "3.0.0" "Answers that there is no cluster";
    "cluster|keyslot" Answered(cluster::disabled), arity 3 [STALE] []
        "cluster" "3.0.0" "Answers that there is no cluster";
    "cluster|links" Answered(cluster::disabled), arity 2 [STALE] []
        "cluster" "7.0.0" "Answers that there is no cluster";
    "cluster|meet" Answered(cluster::disabled), arity -4 [ADMIN STALE NO_ASYNC_LOADING] []
        "cluster" "3.0.0" "Answers that there is no cluster";
    "cluster|myid" Answered(cluster::disabled), arity 2 [STALE] []
        "cluster" "3.0.0" "Answers that there is no cluster";
    "cluster|nodes" Answered(cluster::disabled), arity 2 [STALE] []
        "cluster" "3.0.0" "Answers that there is no cluster";
    "cluster|replicas" Answered(cluster::disabled), arity 3 [ADMIN STALE] []
        "cluster" "5.0.0" "Answers that there is no cluster";
    "cluster|replicate" Answered(cluster::disabled), arity 3 [ADMIN STALE NO_ASYNC_LOADING] []
        "cluster" "3.0.0" "Answers that there is no cluster";
    "cluster|reset" Answered(cluster::disabled), arity -2 [ADMIN NOSCRIPT STALE] []
        "cluster" "3.0.0" "Answers that there is no cluster";
    "cluster|saveconfig" Answered(cluster::disabled), arity 2 [ADMIN STALE NO_ASYNC_LOADING] []
        "cluster" "3.0.0" "Answers that there is no cluster";
    "cluster|set-config-epoch" Answered(cluster::disabled), arity 3 [ADMIN STALE NO_ASYNC_LOADING] []
        "cluster" "3.0.0" "Answers that there is no cluster";
    "cluster|setslot" Answered(cluster::disabled), arity -4 [ADMIN STALE NO_ASYNC_LOADING] []
        "cluster" "3.0.0" "Answers that there is no cluster";
    "cluster|shards" Answered(cluster::disabled), arity 2 [STALE] []
        "cluster" "7.0.0" "Answers that there is no cluster";
    "cluster|slaves" Answered(cluster::disabled), arity 3 [ADMIN STALE] []
        "cluster" "3.0.0" "Answers that there is no cluster";
    "cluster|slots" Answered(cluster::disabled), arity 2 [STALE] []
        "cluster" "3.0.0" "Answers that there is no cluster";
}
