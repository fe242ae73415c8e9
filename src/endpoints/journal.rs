//! What changed when: shared by all snapshots of a registry, and written before a snapshot that has the change is read.
//!
//! A snapshot is immutable and this is not, so each snapshot reads it with its own revision: what is newer is not there for
//! it, and a pool is as old as the snapshot itself says. To note a change costs the same however many pools there are.
//!
//! A pool is noted at each of its changes. When there are far more notes than pools, all but the last of each go, so that
//! what changed since is known however long ago that was. Removed pools are remembered in a list of bounded length; whoever
//! was away for longer has to begin anew.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use imbl::OrdMap;

use super::pool::{Pool, PoolId};
use super::snapshot::{Changes, MAX_REMOVED};

/// Notes beyond one for each pool until superseded ones go.
const SPARE: usize = 4_096;
/// The newest notes stay whatever they say: somebody may be looking at one of the snapshots before the last.
const RECENT: usize = 256;

/// Pools in the order of their changes.
#[derive(Debug, Default)]
pub(super) struct Journal(RwLock<Notes>);

#[derive(Debug, Default)]
struct Notes {
    /// Each with the revision that it came about with, which never falls.
    changed: VecDeque<(u64, PoolId)>,
    removed: VecDeque<(u64, PoolId)>,
    /// The revision up to which removals are forgotten.
    forgotten: u64,
}

// === impl Journal ===

impl Journal {
    /// Notes what a revision, of these pools, changes.
    pub(super) fn note(&self, revision: u64, changed: &[PoolId], pools: &OrdMap<PoolId, Arc<Pool>>) {
        // Each step leaves the notes whole, so that a panic elsewhere does no harm.
        let mut notes = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for id in changed {
            let kind = if pools.contains_key(id) { &mut notes.changed } else { &mut notes.removed };
            kind.push_back((revision, id.clone()));
        }
        while notes.removed.len() > MAX_REMOVED {
            notes.forgotten = notes.removed.pop_front().map_or(0, |(at, _)| at);
        }
        if notes.changed.len() > 2 * pools.len() + SPARE {
            let mut superseded = notes.changed.len().saturating_sub(RECENT);
            notes.changed.retain(|(at, id)| {
                let is_recent = superseded == 0;
                superseded = superseded.saturating_sub(1);
                is_recent || pools.get(id).is_some_and(|pool| pool.revision == *at)
            });
        }
    }

    /// Whether it is known what changed after a revision.
    pub(super) fn remembers(&self, revision: u64) -> bool {
        revision >= self.read().forgotten
    }

    /// What differs between a revision and a later one, of these pools; `None` where the former is not remembered.
    pub(super) fn between(&self, since: u64, revision: u64, pools: &OrdMap<PoolId, Arc<Pool>>) -> Option<Changes> {
        let notes = self.read();
        if since < notes.forgotten {
            return None;
        }
        let after = |kind: &VecDeque<(u64, PoolId)>| kind.partition_point(|(at, _)| *at <= since);
        let changed = notes.changed.range(after(&notes.changed)..).filter_map(|(_, id)| pools.get(id));
        let removed = notes.removed.range(after(&notes.removed)..).take_while(|(at, _)| *at <= revision);
        let mut changes = Changes {
            changed: changed.filter(|pool| pool.revision > since).cloned().collect(),
            removed: removed.filter(|(_, id)| !pools.contains_key(id)).map(|(_, id)| id.clone()).collect(),
        };
        drop(notes);
        changes.changed.sort_by(|one, other| one.id.cmp(&other.id));
        changes.changed.dedup_by(|one, other| one.id == other.id);
        changes.removed.sort();
        changes.removed.dedup();
        Some(changes)
    }

    fn read(&self) -> RwLockReadGuard<'_, Notes> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}
