//! Lanes: what is kept in order.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::record::topic::TopicName;

/// A topic and a partition of it, or none where the partition was not known when the record came. Clones are the same
/// lane; a spool has each lane once.
#[derive(Clone)]
pub struct Lane {
    inner: Arc<Inner>,
}

struct Inner {
    index: usize,
    topic: TopicName,
    partition: Option<i32>,
    backlog: AtomicU64,
    guards: AtomicU64,
}

// === impl Lane ===

impl Lane {
    pub(super) fn new(index: usize, topic: TopicName, partition: Option<i32>) -> Self {
        let (backlog, guards) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { inner: Arc::new(Inner { index, topic, partition, backlog, guards }) }
    }

    /// Its number at the spool: small, and the same for the process's life.
    #[inline]
    pub fn index(&self) -> usize {
        self.inner.index
    }

    /// The topic.
    pub fn topic(&self) -> &TopicName {
        &self.inner.topic
    }

    /// The partition; `None` where it is chosen at replay.
    pub fn partition(&self) -> Option<i32> {
        self.inner.partition
    }

    /// Records that were appended, durable or not yet, and are not done. While it is above 0, whatever is not behind them
    /// in the spool would overtake them.
    #[inline]
    pub fn backlog(&self) -> u64 {
        self.inner.backlog.load(Ordering::Acquire)
    }

    /// Guards that are not resolved. While there are any the lane is not replayed.
    pub fn guards(&self) -> u64 {
        self.inner.guards.load(Ordering::Acquire)
    }

    #[inline]
    pub(super) fn add_backlog(&self, records: u64) {
        self.inner.backlog.fetch_add(records, Ordering::AcqRel);
    }

    pub(super) fn take_backlog(&self, records: u64) {
        self.inner.backlog.fetch_sub(records, Ordering::AcqRel);
    }

    pub(super) fn add_guard(&self) {
        self.inner.guards.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn take_guard(&self) {
        self.inner.guards.fetch_sub(1, Ordering::AcqRel);
    }
}

impl PartialEq for Lane {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }
}

impl Eq for Lane {}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.inner.partition {
            Some(partition) => write!(f, "{}/{partition}", self.inner.topic),
            None => write!(f, "{}", self.inner.topic),
        }
    }
}

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lane({self}, {} behind)", self.backlog())
    }
}
