//! CLUSTER and SENTINEL: answered as `cluster` in the configuration says; without it, as a Redis that is neither.

use super::super::cluster;
use super::super::table::{Kind::*, rows};

rows! {
    /// The commands of cluster clients.
    pub(super) static CLUSTERING from 240;
    "cluster" Container, arity -2 subcommands(CLUSTER) [] []
        "cluster" "3.0.0" "Commands about a cluster";
    "readonly" Answered(cluster::ok), arity 1 [LOADING STALE FAST] [CONNECTION]
        "cluster" "3.0.0" "Accepted: any instance takes any key";
    "readwrite" Answered(cluster::ok), arity 1 [LOADING STALE FAST] [CONNECTION]
        "cluster" "3.0.0" "Accepted: any instance takes any key";
    "asking" Answered(cluster::ok), arity 1 [FAST] [CONNECTION]
        "cluster" "3.0.0" "Accepted: any instance takes any key";
}

rows! {
    /// The command of sentinel clients. Its sub-commands are its own affair: without sentinels it is unknown with all of them.
    pub(super) static SENTINELS from 244;
    "sentinel" Sentinel, arity -1 [LOADING STALE] []
        "sentinel" "2.8.4" "Names this instance as the master that the client looks for";
}

rows! {
    /// CLUSTER and its sub-commands.
    pub(super) static CLUSTER from 248;
    "cluster|addslots" Answered(cluster::fixed), arity -3 [ADMIN STALE NO_ASYNC_LOADING] []
        "cluster" "3.0.0" "Not served: the cluster is configured";
    "cluster|addslotsrange" Answered(cluster::fixed), arity -4 [ADMIN STALE NO_ASYNC_LOADING] []
        "cluster" "7.0.0" "Not served: the cluster is configured";
    "cluster|bumpepoch" Answered(cluster::fixed), arity 2 [ADMIN STALE NO_ASYNC_LOADING] []
        "cluster" "3.0.0" "Not served: the cluster is configured";
    "cluster|count-failure-reports" Answered(cluster::replicas), arity 3 [ADMIN STALE] []
        "cluster" "3.0.0" "Answers 0";
    "cluster|countkeysinslot" Answered(cluster::countkeysinslot), arity 3 [STALE] []
        "cluster" "3.0.0" "Answers 0: no key is kept";
    "cluster|delslots" Answered(cluster::fixed), arity -3 [ADMIN STALE NO_ASYNC_LOADING] []
        "cluster" "3.0.0" "Not served: the cluster is configured";
    "cluster|delslotsrange" Answered(cluster::fixed), arity -4 [ADMIN STALE NO_ASYNC_LOADING] []
        "cluster" "7.0.0" "Not served: the cluster is configured";
    "cluster|failover" Answered(cluster::fixed), arity -2 [ADMIN STALE NO_ASYNC_LOADING] []
        "cluster" "3.0.0" "Not served: the cluster is configured";
    "cluster|flushslots" Answered(cluster::fixed), arity 2 [ADMIN STALE NO_ASYNC_LOADING] []
        "cluster" "3.0.0" "Not served: the cluster is configured";
    "cluster|forget" Answered(cluster::fixed), arity 3 [ADMIN STALE NO_ASYNC_LOADING] []
        "cluster" "3.0.0" "Not served: the cluster is configured";
    "cluster|getkeysinslot" Answered(cluster::getkeysinslot), arity 4 [STALE] []
        "cluster" "3.0.0" "Answers no keys: none is kept";
    "cluster|help" Answered(cluster::help), arity 2 [LOADING STALE] []
        "cluster" "5.0.0" "Lists the sub-commands";
    "cluster|info" Answered(cluster::info), arity 2 [STALE] []
        "cluster" "3.0.0" "Describes the state of the cluster";
    "cluster|keyslot" Answered(cluster::keyslot), arity 3 [STALE] []
        "cluster" "3.0.0" "Answers the slot of a key";
    "cluster|links" Answered(cluster::links), arity 2 [STALE] []
        "cluster" "7.0.0" "Answers no links: there is no bus";
    "cluster|meet" Answered(cluster::fixed), arity -4 [ADMIN STALE NO_ASYNC_LOADING] []
        "cluster" "3.0.0" "Not served: the cluster is configured";
    "cluster|myid" Answered(cluster::myid), arity 2 [STALE] []
        "cluster" "3.0.0" "Answers the id of this node";
    "cluster|nodes" Answered(cluster::nodes), arity 2 [STALE] []
        "cluster" "3.0.0" "Lists the nodes with their slots";
    "cluster|replicas" Answered(cluster::replicas), arity 3 [ADMIN STALE] []
        "cluster" "5.0.0" "Answers no replicas";
    "cluster|replicate" Answered(cluster::fixed), arity 3 [ADMIN STALE NO_ASYNC_LOADING] []
        "cluster" "3.0.0" "Not served: the cluster is configured";
    "cluster|reset" Answered(cluster::fixed), arity -2 [ADMIN NOSCRIPT STALE] []
        "cluster" "3.0.0" "Not served: the cluster is configured";
    "cluster|saveconfig" Answered(cluster::fixed), arity 2 [ADMIN STALE NO_ASYNC_LOADING] []
        "cluster" "3.0.0" "Not served: the cluster is configured";
    "cluster|set-config-epoch" Answered(cluster::fixed), arity 3 [ADMIN STALE NO_ASYNC_LOADING] []
        "cluster" "3.0.0" "Not served: the cluster is configured";
    "cluster|setslot" Answered(cluster::fixed), arity -4 [ADMIN STALE NO_ASYNC_LOADING] []
        "cluster" "3.0.0" "Not served: the cluster is configured";
    "cluster|shards" Answered(cluster::shards), arity 2 [STALE] []
        "cluster" "7.0.0" "Lists the nodes with their slots";
    "cluster|slaves" Answered(cluster::replicas), arity 3 [ADMIN STALE] []
        "cluster" "3.0.0" "Answers no replicas";
    "cluster|slots" Answered(cluster::slots), arity 2 [STALE] []
        "cluster" "3.0.0" "Lists the slots with their nodes";
}
