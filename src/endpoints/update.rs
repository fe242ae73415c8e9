//! What sources tell the registry.

use super::join::Join;
use super::pool::{PoolContent, PoolId};

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
    /// What was told is true as of now: a list ended, an event came, a watch began or was confirmed.
    Contact(Watched),
    /// What was told may be outdated from now on, and why.
    Lost(Watched, String),
}

/// The kinds of object that a source follows, each of which can be lost by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Watched {
    /// Endpoints: slices of Kubernetes, a file, another instance's pools.
    Endpoints,
    /// TrafficPolicies.
    Policies,
}
