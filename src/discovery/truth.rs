//! How true an answer is: fresh, stale or held, and as of when. It stands in headers, so that a body depends on content
//! alone.

use std::collections::BTreeSet;
use std::time::SystemTime;

use crate::endpoints::pool::Pool;
use crate::endpoints::{ShardState, Snapshot, Watched};

/// How true pools are, the worst last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    /// As the sources say now.
    Fresh,
    /// As a source said before it was lost.
    Stale,
    /// With endpoints that a source no longer names.
    Held,
}

/// How true an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Truth {
    pub(super) state: State,
    /// When everything in it was last known to be true; `None` where no source is behind it.
    pub(super) synced_at: Option<SystemTime>,
}

// === impl State ===

impl State {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Fresh => "fresh",
            Self::Stale => "stale",
            Self::Held => "held",
        }
    }
}

// === impl Truth ===

impl Truth {
    /// Of one pool.
    pub(super) fn of(pool: &Pool, snapshot: &Snapshot) -> Self {
        let shards = pool.shards.iter().filter_map(|at| snapshot.shards().get(*at));
        let shards = shards.map(|shard| (shard, pool.traffic_generation.is_some()));
        Self::of_shards(shards, pool.hold.is_some())
    }

    /// Of several pools at once: the worst of each.
    pub(super) fn of_all<'a>(pools: impl IntoIterator<Item = &'a Pool>, snapshot: &Snapshot) -> Self {
        let mut shards = BTreeSet::new();
        let mut held = false;
        for pool in pools {
            held |= pool.hold.is_some();
            shards.extend(pool.shards.iter().map(|at| (*at, pool.traffic_generation.is_some())));
        }
        let shards = shards.iter().filter_map(|(at, policy)| Some((snapshot.shards().get(*at)?, *policy)));
        Self::of_shards(shards, held)
    }

    /// Of everything that the sources know, be it in a pool or not.
    pub(super) fn of_snapshot(snapshot: &Snapshot) -> Self {
        Self::of_shards(snapshot.shards().iter().map(|shard| (shard, true)), snapshot.held() > 0)
    }

    fn of_shards<'a>(shards: impl Iterator<Item = (&'a ShardState, bool)>, held: bool) -> Self {
        let mut truth = Self { state: State::Fresh, synced_at: None };
        for (shard, policy) in shards {
            let status = &shard.status;
            // Whether a policy is outdated matters only to the pools that policies make.
            let lost = |what: &Watched| *what == Watched::Endpoints || policy;
            if !status.loaded || status.lost.keys().any(lost) {
                truth.state = State::Stale;
            }
            truth.synced_at = [truth.synced_at, status.synced_at].into_iter().flatten().min();
        }
        if held {
            truth.state = State::Held;
        }
        truth
    }
}
