//! How true an answer is: fresh, stale or held, as of when, and who is the reason. It stands in headers, so that a body
//! depends on content alone.

use std::collections::BTreeSet;
use std::time::SystemTime;

use super::iso;
use crate::endpoints::pool::{Hold, Pool};
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
pub(super) struct Truth<'a> {
    pub(super) state: State,
    /// When everything in it was last known to be true; `None` where no source is behind it.
    pub(super) synced_at: Option<SystemTime>,
    /// Why it is not fresh: what began first.
    pub(super) reason: Option<Reason<'a>>,
}

/// Who makes an answer less than fresh, since when, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason<'a> {
    /// A source is lost.
    Lost { source: &'a str, since: SystemTime, why: &'a str },
    /// A pool is held.
    Held { pool: &'a str, hold: &'a Hold },
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

// === impl Reason ===

impl Reason<'_> {
    fn since(&self) -> SystemTime {
        match self {
            Self::Lost { since, .. } => *since,
            Self::Held { hold, .. } => hold.since,
        }
    }
}

impl std::fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Lost { source, since, why } => write!(f, "source {source} lost since {}: {why}", iso(*since)),
            Self::Held { pool, hold: Hold { why, since, until, endpoints } } => {
                let (since, until) = (iso(*since), iso(*until));
                write!(f, "pool {pool} held since {since} until {until}, {endpoints} endpoints: {why}")
            }
        }
    }
}

// === impl Truth ===

impl<'a> Truth<'a> {
    /// Of one pool.
    pub(super) fn of(pool: &'a Pool, snapshot: &'a Snapshot) -> Self {
        let shards = pool.shards.iter().filter_map(|at| snapshot.shards().get(*at));
        Self::of_shards(shards.map(|shard| (shard, watched(pool))), held_reason(pool))
    }

    /// Of several pools at once: the worst of each.
    pub(super) fn of_all(pools: impl IntoIterator<Item = &'a Pool>, snapshot: &'a Snapshot) -> Self {
        let mut shards = BTreeSet::new();
        let mut held = None;
        for pool in pools {
            held = earlier(held, held_reason(pool));
            shards.extend(pool.shards.iter().map(|at| (*at, watched(pool))));
        }
        let shards = shards.iter().filter_map(|(at, watched)| Some((snapshot.shards().get(*at)?, *watched)));
        Self::of_shards(shards, held)
    }

    /// Of everything that the sources know, be it in a pool or not.
    pub(super) fn of_snapshot(snapshot: &'a Snapshot) -> Self {
        let held = snapshot.held().map(|pool| held_reason(pool)).fold(None, earlier);
        Self::of_shards(snapshot.shards().iter().map(|shard| (shard, ALL)), held)
    }

    fn of_shards(shards: impl Iterator<Item = (&'a ShardState, &'a [Watched])>, held: Option<Reason<'a>>) -> Self {
        let mut truth = Self { state: State::Fresh, synced_at: None, reason: None };
        for (shard, watched) in shards {
            let status = &shard.status;
            let lost = status.lost.iter().filter(|(what, _)| watched.contains(what));
            let lost = lost.map(|(_, (since, why))| Reason::Lost { source: &shard.name, since: *since, why });
            let lost = lost.map(Some).fold(None, earlier);
            if !status.loaded || lost.is_some() {
                truth.state = State::Stale;
            }
            truth.reason = earlier(truth.reason, lost);
            truth.synced_at = [truth.synced_at, status.synced_at].into_iter().flatten().min();
        }
        if held.is_some() {
            (truth.state, truth.reason) = (State::Held, held);
        }
        truth
    }
}

const ALL: &[Watched] = &[Watched::Endpoints, Watched::Policies, Watched::Hosts];

/// What a pool follows from: whether a policy is outdated matters only to the pools that policies make.
fn watched(pool: &Pool) -> &'static [Watched] {
    if pool.traffic_generation.is_some() { &[Watched::Endpoints, Watched::Policies] } else { &[Watched::Endpoints] }
}

fn held_reason(pool: &Pool) -> Option<Reason<'_>> {
    pool.hold.as_ref().map(|hold| Reason::Held { pool: pool.id.as_str(), hold })
}

fn earlier<'a>(one: Option<Reason<'a>>, other: Option<Reason<'a>>) -> Option<Reason<'a>> {
    [one, other].into_iter().flatten().min_by_key(Reason::since)
}
