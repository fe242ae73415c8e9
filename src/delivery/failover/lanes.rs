//! The spool's lanes as delivery sees them, shared by workers and replay.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::record::topic::TopicName;
use crate::spool::{Lane, Spool};

/// One lane.
pub(in crate::delivery) struct LaneDesk {
    pub(in crate::delivery) lane: Lane,
    /// Milliseconds; [`NO_LAG`] where nothing was replayed lately.
    lag: AtomicU64,
}

const NO_LAG: u64 = u64::MAX;

type Desks = HashMap<(TopicName, Option<i32>), Arc<LaneDesk>>;

/// All lanes that somebody has asked for.
#[derive(Clone)]
pub(in crate::delivery) struct Lanes {
    spool: Spool,
    desks: Arc<Mutex<Desks>>,
}

// === impl Lanes ===

impl Lanes {
    pub(in crate::delivery) fn new(spool: Spool) -> Self {
        Self { spool, desks: Arc::default() }
    }

    /// The lane of a topic's partition; of none where its partitions are not known.
    pub(in crate::delivery) fn desk(&self, topic: &TopicName, partition: Option<i32>) -> Arc<LaneDesk> {
        let mut desks = self.desks.lock().unwrap_or_else(PoisonError::into_inner);
        let desk = desks.entry((topic.clone(), partition)).or_insert_with(|| {
            Arc::new(LaneDesk { lane: self.spool.lane(topic, partition), lag: AtomicU64::new(NO_LAG) })
        });
        desk.clone()
    }

    /// Records of these lanes that were appended and are not done, those included that wait for the disk.
    pub(in crate::delivery) fn backlog(&self) -> u64 {
        let desks = self.desks.lock().unwrap_or_else(PoisonError::into_inner);
        desks.values().map(|desk| desk.lane.backlog()).sum()
    }

    pub(in crate::delivery) fn spool(&self) -> &Spool {
        &self.spool
    }
}

// === impl LaneDesk ===

impl LaneDesk {
    /// True while the spool holds records of the lane.
    #[inline]
    pub(in crate::delivery) fn has_backlog(&self) -> bool {
        self.lane.backlog() > 0
    }

    /// The age at which the last replayed record was confirmed.
    pub(in crate::delivery) fn lag(&self) -> Option<Duration> {
        match self.lag.load(Ordering::Relaxed) {
            NO_LAG => None,
            millis => Some(Duration::from_millis(millis)),
        }
    }

    /// Replay says how old the last confirmed record was; nothing: the lane does not move.
    pub(in crate::delivery) fn set_lag(&self, lag: Option<Duration>) {
        let millis = lag.map_or(NO_LAG, |lag| u64::try_from(lag.as_millis()).unwrap_or(NO_LAG));
        self.lag.store(millis, Ordering::Relaxed);
    }
}
