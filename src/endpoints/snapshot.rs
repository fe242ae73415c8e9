//! The published state: one immutable value, from which every answer is made.
//!
//! Its map shares its structure with the one of the snapshot before, so that a new one costs as much as what changed. What
//! changed since a revision is found in a [`Journal`] that all snapshots share.

use std::sync::Arc;

use imbl::{OrdMap, OrdSet};

use super::hosts::HostTable;
use super::journal::Journal;
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
    pub(super) journal: Arc<Journal>,
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

    /// Whether it is known what changed after a revision: not where that is too long ago, or not yet.
    pub fn remembers(&self, revision: u64) -> bool {
        revision <= self.revision && self.journal.remembers(revision)
    }

    /// What changed after a revision, pools and ids in their order; `None` where that is not remembered.
    pub fn changes_since(&self, revision: u64) -> Option<Changes> {
        if revision > self.revision {
            return None;
        }
        self.journal.between(revision, self.revision, &self.pools)
    }

    /// The same of these pools alone, at a cost that is theirs, however much else has changed.
    pub fn changes_among(&self, ids: &[PoolId], revision: u64) -> Option<Changes> {
        if !self.remembers(revision) {
            return None;
        }
        let (known, absent): (Vec<_>, Vec<_>) = ids.iter().partition(|id| self.pools.contains_key(*id));
        let changed = known.into_iter().filter_map(|id| self.pools.get(id)).filter(|pool| pool.revision > revision);
        let mut changes = Changes { changed: changed.cloned().collect(), removed: Vec::new() };
        if !absent.is_empty() {
            let all = self.changes_since(revision)?;
            changes.removed = all.removed.into_iter().filter(|id| absent.contains(&id)).collect();
        }
        changes.changed.sort_by(|one, other| one.id.cmp(&other.id));
        changes.changed.dedup_by(|one, other| one.id == other.id);
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
