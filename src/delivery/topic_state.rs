//! One topic as one worker writes it: its partitions' queues, and what came before the partitions were known.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::failover::LaneDesk;
use super::failover::way::Way;
use super::gate::Gate;
use super::partition::PartitionQueue;
use super::producer::TopicHandle;
use super::topics::Topic;
use crate::record::config::Acknowledge;
use crate::record::headers::Headers;
use crate::record::partition::PartitionChoice;
use crate::record::route::Route;
use crate::record::sink::{Destination, Record, Ticket};

/// A sticky topic moves on to its next partition when this much has gone to one, in bytes.
const STICKY_BYTES: usize = 64 << 10;
/// The same where it goes by way of the spool: a frame there is of one partition.
const STICKY_SPOOLED: usize = 256 << 10;

pub(super) struct TopicState {
    pub(super) shared: Arc<Topic>,
    pub(super) handle: Option<TopicHandle>,
    pub(super) partitions: Vec<PartitionQueue>,
    /// Records that came before the topic's partitions were known.
    pub(super) unplaced: VecDeque<Unplaced>,
    /// The longest that a route of this topic lets a reply wait.
    pub(super) hold: Duration,
    /// A route acknowledges what is merely enqueued: nothing may be given up.
    pub(super) keeps: bool,
    /// A route acknowledges what is in the spool: all of the topic's records go that way.
    pub(super) is_promised: bool,
    /// The spool's lane for what comes before the partitions are known, where there is a spool.
    pub(super) lane: Option<Arc<LaneDesk>>,
    /// Where records go that this topic does not take, by the pattern of their route.
    pub(super) letters: Vec<(Box<str>, Destination)>,
    /// It takes such records itself.
    pub(super) takes_letters: bool,
    /// A dead letter of this size was too large for it, in bytes.
    pub(super) too_large: usize,
    /// Records taken and not yet added to the shared count.
    pub(super) taken: usize,
    leaders: Arc<Vec<i32>>,
    sticky: usize,
    sticky_bytes: usize,
}

pub(super) struct Unplaced {
    pub(super) choice: OwnedChoice,
    value: Box<[u8]>,
    headers: Box<[u8]>,
    timestamp_ms: Option<i64>,
    pub(super) ticket: Option<Ticket>,
    pub(super) born: Instant,
}

/// A [`PartitionChoice`] that outlives the command.
pub(super) enum OwnedChoice {
    Sticky,
    Hash(u32),
    Key(Box<[u8]>),
}

// === impl OwnedChoice ===

impl OwnedChoice {
    pub(super) fn borrow(&self) -> PartitionChoice<'_> {
        match self {
            Self::Sticky => PartitionChoice::Sticky,
            Self::Hash(hash) => PartitionChoice::Hash(*hash),
            Self::Key(key) => PartitionChoice::Key(key),
        }
    }

    /// The record's key in Kafka.
    pub(super) fn key(&self) -> Option<&[u8]> {
        if let Self::Key(key) = self { Some(key) } else { None }
    }
}

// === impl Unplaced ===

impl Unplaced {
    pub(super) fn record(&self) -> Record<'_> {
        Record { value: &self.value, headers: Headers::from_bytes(&self.headers), timestamp_ms: self.timestamp_ms }
    }
}

// === impl TopicState ===

impl TopicState {
    pub(super) fn new(shared: Arc<Topic>) -> Self {
        Self {
            shared,
            handle: None,
            partitions: Vec::new(),
            unplaced: VecDeque::new(),
            hold: Duration::ZERO,
            keeps: false,
            is_promised: false,
            lane: None,
            letters: Vec::new(),
            takes_letters: false,
            too_large: usize::MAX,
            taken: 0,
            leaders: Arc::default(),
            sticky: 0,
            sticky_bytes: 0,
        }
    }

    /// Takes in what a route of this topic promises.
    pub(super) fn serve(&mut self, route: &Route) {
        self.hold = self.hold.max(route.config.hold);
        self.keeps |= route.config.acknowledge == Acknowledge::Enqueue;
        self.is_promised |= route.config.acknowledge == Acknowledge::Spool;
        if let Some(create) = route.config.create_topic {
            self.shared.create_with(create);
        }
    }

    /// How long a topic that is closed to us is waited for before its records become dead letters: what is left of the
    /// reply's time is theirs.
    pub(super) fn letter_patience(&self) -> Duration {
        self.hold / 2
    }

    /// The partition for a record, or nothing while the topic is not known.
    #[inline]
    pub(super) fn partition(&self, choice: PartitionChoice<'_>) -> Option<usize> {
        if self.leaders.is_empty() {
            return None;
        }
        let count = u32::try_from(self.leaders.len()).unwrap_or(u32::MAX);
        Some(choice.among(count).map_or(self.sticky, |partition| partition as usize))
    }

    pub(super) fn wait_for_partitions(
        &mut self,
        choice: PartitionChoice<'_>,
        record: Record<'_>,
        ticket: Option<Ticket>,
        born: Instant,
    ) {
        let choice = match choice {
            PartitionChoice::Sticky => OwnedChoice::Sticky,
            PartitionChoice::Hash(hash) => OwnedChoice::Hash(hash),
            PartitionChoice::Key(key) => OwnedChoice::Key(key.into()),
        };
        self.unplaced.push_back(Unplaced {
            choice,
            value: record.value.into(),
            headers: record.headers.as_bytes().into(),
            timestamp_ms: record.timestamp_ms,
            ticket,
            born,
        });
    }

    /// Takes over what the directory found. True where there was news.
    pub(super) fn learn(&mut self, gates: &mut Vec<Gate>) -> bool {
        let leaders = self.shared.leaders();
        if leaders.is_empty() || Arc::ptr_eq(&leaders, &self.leaders) {
            return false;
        }
        for (partition, &leader) in leaders.iter().enumerate() {
            let gate = gates.iter().position(|gate| gate.leader == leader).unwrap_or_else(|| {
                gates.push(Gate::new(leader));
                gates.len() - 1
            });
            match self.partitions.get_mut(partition) {
                Some(queue) => queue.gate = gate,
                None => self.partitions.push(PartitionQueue::new(gate)),
            }
        }
        self.leaders = leaders;
        self.sticky = self.sticky.min(self.leaders.len() - 1);
        true
    }

    /// Adds what was taken since to the count that all workers share.
    pub(super) fn count_taken(&mut self) {
        self.shared.counts.unsettled.fetch_add(std::mem::take(&mut self.taken).cast_signed(), Ordering::Relaxed);
    }

    /// A group of `size` bytes went to `partition`.
    pub(super) fn sent(&mut self, partition: usize, size: usize) {
        self.count_sticky(partition, size, STICKY_BYTES);
    }

    /// A record of `size` bytes went to the spool, on its way to `partition`.
    #[inline]
    pub(super) fn spooled(&mut self, partition: usize, size: usize) {
        self.count_sticky(partition, size, STICKY_SPOOLED);
    }

    #[inline]
    fn count_sticky(&mut self, partition: usize, size: usize, limit: usize) {
        if partition == self.sticky {
            self.sticky_bytes += size;
            if self.sticky_bytes >= limit {
                self.move_on();
            }
        }
    }

    /// True where records of before the partitions were known are in the spool.
    pub(super) fn has_backlog(&self) -> bool {
        self.lane.as_ref().is_some_and(|lane| lane.has_backlog())
    }

    /// Records that may go anywhere do not wait behind a partition whose broker does not answer.
    pub(super) fn leave_sick_partition(&mut self, gates: &[Gate], now: Instant) {
        let sick = self.partitions.get(self.sticky).is_some_and(|queue| {
            let is_late = queue.is_in_flight() && gates.get(queue.gate).is_some_and(|gate| gate.is_late(now));
            is_late || (queue.switch.way() != Way::Direct && !self.is_promised)
        });
        if sick {
            self.move_on();
        }
    }

    fn move_on(&mut self) {
        self.sticky_bytes = 0;
        let count = self.leaders.len();
        let next = (1..=count).map(|step| (self.sticky + step) % count.max(1));
        let has_leader = |partition: &usize| self.leaders.get(*partition).is_some_and(|leader| *leader >= 0);
        let is_idle = |partition: &usize| {
            self.partitions
                .get(*partition)
                .is_some_and(|queue| !queue.is_in_flight() && queue.switch.way() == Way::Direct)
        };
        let best = next.clone().find(|partition| has_leader(partition) && is_idle(partition));
        if let Some(partition) = best.or_else(|| next.clone().find(has_leader)) {
            self.sticky = partition;
        }
    }

    /// What its waiting records took from the byte budget.
    pub(super) fn cost_waiting(&self) -> usize {
        let unplaced: usize = self.unplaced.iter().map(|waiting| waiting.record().cost()).sum();
        unplaced + self.partitions.iter().map(PartitionQueue::cost_waiting).sum::<usize>()
    }
}
