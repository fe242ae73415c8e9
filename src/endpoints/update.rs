//! What sources tell the registry.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::hosts::{Claim, Claimants};
use super::join::Join;
use super::pool::{Hold, PoolContent, PoolId};
use super::shard::Status;

/// A change of a source's pools.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Update {
    /// The source has these pools and no others: a list that ended. Never half a list.
    Reset(Vec<PoolContent>),
    /// The pool is this now, whether it was known or not.
    Add(PoolContent),
    /// The source no longer has this pool.
    Remove(PoolId),
}

/// A change of the pools that a cluster's TrafficPolicies make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JoinUpdate {
    /// These policies and no others.
    Reset(Vec<Join>),
    /// The policy is this now.
    Add(Join),
    /// The policy is gone.
    Remove(PoolId),
}

/// What a source tells about itself or its pools.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceEvent {
    /// Changes that belong together: they are published in one revision.
    Pools(Vec<Update>),
    /// Changes of policies.
    Joins(Vec<JoinUpdate>),
    /// All hosts that these claim for pools.
    Hosts(Claimants, Vec<Claim>),
    /// What was told is true as of now: a list ended, an event came, a watch began or was confirmed.
    Contact(Watched),
    /// What was told may be outdated from now on, and why.
    Lost(Watched, String),
    /// What a hub says of its own sources, whole.
    Origins(Origins),
    /// The hubs that the source's pools come through.
    Hubs(Vec<Arc<str>>),
}

/// What a hub says of its own sources, so that its relays know how true each pool is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins {
    /// Its sources.
    pub sources: Vec<Origin>,
    /// Its pools with endpoints that a source no longer names.
    pub holds: BTreeMap<PoolId, Hold>,
}

/// A source of a hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// What the hub calls it.
    pub name: Arc<str>,
    /// First part of the ids that only it can have.
    pub prefix: Option<Arc<str>>,
    /// How fresh it is at the hub.
    pub status: Status,
}

/// The kinds of object that a source follows, each of which can be lost by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Watched {
    /// Endpoints: slices of Kubernetes, a file, another instance's pools.
    Endpoints,
    /// TrafficPolicies.
    Policies,
    /// Services, for the hosts that they claim.
    Hosts,
}
