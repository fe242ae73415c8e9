//! The published state: one immutable value, from which every answer is made.
//!
//! Its maps share their structure with those of the snapshot before, so that a new one costs as much as what changed. The
//! index of changes holds each pool once, under the revision of its last change, so that "what changed since" is a range
//! of it, however long ago that was. Removed pools are remembered in a list of bounded length; whoever was away for
//! longer has to begin anew.

use std::sync::Arc;

use imbl::{OrdMap, OrdSet};

use super::hosts::HostTable;
use super::pool::{Pool, PoolId};
use super::shard::{Status, may_have};

/// How many removed pools are remembered.
pub const MAX_REMOVED: usize = 8_192;

/// All pools as of one revision.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub(super) revision: u64,
    pub(super) publication: u64,
    pub(super) pools: OrdMap<PoolId, Arc<Pool>>,
    pub(super) changed: OrdSet<(u64, PoolId)>,
    pub(super) removed: OrdSet<(u64, PoolId)>,
    /// The revision up to which removals are forgotten.
    pub(super) forgotten: u64,
    pub(super) shards: Arc<[ShardState]>,
    /// Pools of sources with endpoints that are only there because they are held.
    pub(super) held: OrdSet<PoolId>,
    /// The hubs that pools come through.
    pub(super) hubs: Arc<[Arc<str>]>,
    pub(super) hosts: Arc<HostTable>,
}

/// A shard as of a snapshot.
#[derive(Clone, Debug)]
pub struct ShardState {
    /// The cluster, or the file's path.
    pub name: Arc<str>,
    /// First part of the ids that only it can have.
    pub prefix: Option<Arc<str>>,
    /// How fresh it is.
    pub status: Status,
}

/// What changed after a revision.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// Pools that are new or different.
    pub changed: Vec<Arc<Pool>>,
    /// Pools that are gone.
    pub removed: Vec<PoolId>,
}

// === impl Snapshot ===

impl Snapshot {
    /// Counts publications with a change of some pool's content.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Counts publications, those among them that only say how true the pools are.
    pub fn publication(&self) -> u64 {
        self.publication
    }

    /// The lives of the hubs that pools come through, each hub's own before those behind it.
    pub fn hubs(&self) -> &[Arc<str>] {
        &self.hubs
    }

    /// Which hosts lead to which pools.
    pub fn hosts(&self) -> &HostTable {
        &self.hosts
    }

    /// A pool by its id.
    pub fn pool(&self, id: &str) -> Option<&Arc<Pool>> {
        self.pools.get(id)
    }

    /// All pools in the order of their ids.
    pub fn pools(&self) -> impl Iterator<Item = &Arc<Pool>> {
        self.pools.values()
    }

    /// The pools whose ids begin with `prefix`, in the order of their ids.
    pub fn pools_with_prefix<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a Arc<Pool>> {
        let from = self.pools.range::<_, str>((std::ops::Bound::Included(prefix), std::ops::Bound::Unbounded));
        from.take_while(move |(id, _)| id.as_str().starts_with(prefix)).map(|(_, pool)| pool)
    }

    /// How many pools there are.
    pub fn len(&self) -> usize {
        self.pools.len()
    }

    /// Whether there is no pool.
    pub fn is_empty(&self) -> bool {
        self.pools.is_empty()
    }

    /// What changed after a revision; `None` where that is too long ago, or not yet.
    pub fn changes_since(&self, revision: u64) -> Option<Changes> {
        if revision < self.forgotten || revision > self.revision {
            return None;
        }
        let after = |index: &'_ OrdSet<(u64, PoolId)>| {
            index.iter().rev().take_while(|(at, _)| *at > revision).map(|(_, id)| id.clone()).collect::<Vec<_>>()
        };
        let mut changes = Changes::default();
        changes.changed.extend(after(&self.changed).iter().filter_map(|id| self.pools.get(id).cloned()));
        changes.removed.extend(after(&self.removed).into_iter().filter(|id| !self.pools.contains_key(id)));
        changes.changed.sort_by(|one, other| one.id.cmp(&other.id));
        changes.removed.sort();
        changes.removed.dedup();
        Some(changes)
    }

    /// The pools with endpoints that their source no longer names; without those that are joined from them.
    pub fn held(&self) -> impl Iterator<Item = &Arc<Pool>> {
        self.held.iter().filter_map(|id| self.pools.get(id))
    }

    /// Its shards, in the order of the configuration.
    pub fn shards(&self) -> &[ShardState] {
        &self.shards
    }

    /// Whether every shard has something to serve.
    pub fn is_loaded(&self) -> bool {
        self.shards.iter().all(|shard| shard.status.loaded)
    }

    /// Whether it is known that a pool which is not here does not exist: whoever could have it has told its pools.
    pub fn knows_absence_of(&self, id: &str) -> bool {
        // Any cluster may have the policy that makes a pool of an application.
        let could = |shard: &&ShardState| id.starts_with("app/") || may_have(shard.prefix.as_deref(), id);
        self.shards.iter().filter(could).all(|shard| shard.status.loaded)
    }
}
