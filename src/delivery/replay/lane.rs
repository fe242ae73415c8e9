//! One lane as replay sees it: what was read of it, what is on its way, and what came of that.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::throttle::{FIRST, Setback, Throttle};
use super::times::Times;
use super::window::Window;
use crate::delivery::batch::Batch;
use crate::delivery::failover::LaneDesk;
use crate::delivery::producer::TopicHandle;
use crate::delivery::stall::{Known, Stall, Verdict};
use crate::delivery::topics::Topic;
use crate::record::partition::PartitionChoice;
use crate::record::sink::{Failure, RECORD_OVERHEAD};
use crate::spool::{FrameId, Lane};

/// A group that is out for longer than this holds nobody else back.
pub(super) const LATE: Duration = Duration::from_secs(1);

/// A partition that Kafka has not had for so long, and in so many of its answers, is gone for good: its records go elsewhere.
const GONE: Duration = Duration::from_secs(10);
const GONE_LOOKS: u64 = 3;

/// One lane.
pub(super) struct ReplayLane {
    pub(super) lane: Lane,
    pub(super) desk: Arc<LaneDesk>,
    pub(super) topic: Arc<Topic>,
    pub(super) handle: Option<TopicHandle>,
    pub(super) throttle: Throttle,
    /// Read and not sent, in order, each with its partition.
    waiting: VecDeque<(i32, Batch, Times)>,
    /// What these cost the window.
    pub(super) waiting_cost: usize,
    /// Batches on their way, what they cost, and since when.
    pub(super) in_flight: usize,
    pub(super) in_flight_cost: usize,
    /// Batches of the group that went last.
    pub(super) group: usize,
    pub(super) sent: Option<Instant>,
    /// Whether librdkafka works at what it has of it.
    pub(super) stall: Stall,
    /// What is on its way is not answered in time.
    pub(super) is_late: bool,
    /// What came back of the group that is on its way.
    pub(super) setback: Option<Setback>,
    /// Why it pauses, for people.
    pub(super) why: String,
    /// What was read of it has no partition and cannot be sent: see [`Self::is_closed`].
    pub(super) is_unplaced: bool,
    /// Since when its topic may not be written.
    pub(super) denied: Option<Instant>,
    /// Its topic takes dead letters.
    pub(super) takes_letters: bool,
    /// Records whose own time Kafka does not take, by frame and place.
    pub(super) restamped: BTreeSet<(FrameId, u32)>,
    /// Since when its partition is not there, and how often Kafka had told of the topic then.
    gone: Option<(Instant, u64)>,
    /// Its partition is gone for good.
    is_moved: bool,
    /// What was read is to be read again once nothing is on its way.
    pub(super) rereads: bool,
    /// Where records go next that may go anywhere.
    sticky: usize,
    /// It is among the lanes that have something in memory.
    pub(super) is_active: bool,
}

/// What a batch costs the window.
pub(super) fn cost(batch: &Batch) -> usize {
    batch.size() + batch.len() * RECORD_OVERHEAD
}

// === impl ReplayLane ===

impl ReplayLane {
    pub(super) fn new(desk: Arc<LaneDesk>, topic: Arc<Topic>) -> Self {
        Self {
            lane: desk.lane.clone(),
            desk,
            topic,
            handle: None,
            throttle: Throttle::new(),
            waiting: VecDeque::new(),
            waiting_cost: 0,
            in_flight: 0,
            in_flight_cost: 0,
            group: 0,
            sent: None,
            stall: Stall::default(),
            is_late: false,
            setback: None,
            why: String::new(),
            is_unplaced: false,
            denied: None,
            takes_letters: false,
            restamped: BTreeSet::new(),
            gone: None,
            is_moved: false,
            rereads: false,
            sticky: 0,
            is_active: false,
        }
    }

    /// The partition that its records go to; nothing where each is chosen.
    pub(super) fn partition(&self) -> Option<i32> {
        self.lane.partition().filter(|_| !self.is_moved)
    }

    /// True where its partition is gone for good.
    pub(super) fn is_moved(&self) -> bool {
        self.is_moved
    }

    /// Kafka does not know where its records should go: looks whether the partition is gone for good. True where it has
    /// just been found to be.
    pub(super) fn miss_partition(&mut self, now: Instant) -> bool {
        let Some(partition) = self.lane.partition().and_then(|partition| usize::try_from(partition).ok()) else {
            return false;
        };
        let (leaders, looks) = (self.topic.leaders(), self.topic.looks());
        if leaders.is_empty() || partition < leaders.len() {
            self.gone = None;
            return false;
        }
        let (since, seen) = *self.gone.get_or_insert((now, looks));
        let for_good = now.duration_since(since) >= GONE && looks >= seen + GONE_LOOKS;
        if for_good {
            // What may go anywhere goes to one partition from here, so that it keeps its order.
            self.sticky = partition % leaders.len();
        }
        for_good && !std::mem::replace(&mut self.is_moved, true)
    }

    /// Its partition may be there again.
    pub(super) fn find_partition(&mut self) {
        let partition = self.lane.partition().and_then(|partition| usize::try_from(partition).ok());
        if self.is_moved && partition.is_some_and(|partition| partition < self.topic.leaders().len()) {
            (self.gone, self.is_moved, self.rereads) = (None, false, true);
        }
    }

    /// True where nothing of it is in memory.
    pub(super) fn is_idle(&self) -> bool {
        self.in_flight == 0 && self.waiting.is_empty()
    }

    /// Takes so many bytes more on their way.
    pub(super) fn hold(&mut self, cost: usize, window: &mut Window) {
        self.in_flight_cost += cost;
        window.take(cost);
        if self.is_late {
            window.set_late(cost);
        }
    }

    /// What it costs the window.
    pub(super) fn held(&self) -> usize {
        self.waiting_cost + if self.is_late { 0 } else { self.in_flight_cost }
    }

    /// True where more of it may be read, as far as the lane is concerned.
    pub(super) fn may_read(&self, now: Instant) -> bool {
        let is_known = self.partition().is_some() || !self.topic.leaders().is_empty();
        (is_known || self.is_closed()) && !self.is_late && !self.rereads && self.throttle.may_go(now)
    }

    /// True where Kafka does not even tell its topic's partitions to us: its records can become dead letters, and nothing
    /// else.
    pub(super) fn is_closed(&self) -> bool {
        let is_unplaced = self.partition().is_none() && self.topic.leaders().is_empty();
        is_unplaced && self.topic.failure() == Failure::NotAuthorized
    }

    /// True where a group of it may go, as far as the lane is concerned.
    pub(super) fn may_send(&self, now: Instant) -> bool {
        self.in_flight == 0 && !self.rereads && !self.waiting.is_empty() && self.throttle.may_go(now)
    }

    /// The broker that leads the next batch's partition; -1 where that is not known.
    pub(super) fn leader(&self) -> i32 {
        let partition = self.partition().or_else(|| self.waiting.front().map(|(partition, ..)| *partition));
        let leaders = self.topic.leaders();
        let leader = partition.and_then(|partition| leaders.get(usize::try_from(partition).ok()?).copied());
        leader.unwrap_or(-1)
    }

    /// The partition for a record of a lane without one; nothing where the topic is not known.
    pub(super) fn choose(&self, choice: PartitionChoice<'_>) -> Option<i32> {
        let count = self.topic.leaders().len();
        let chosen = choice.among(u32::try_from(count).ok()?);
        let partition = chosen.map_or(self.sticky.checked_rem(count)?, |partition| partition as usize);
        i32::try_from(partition).ok()
    }

    /// Records that may go anywhere go to the next partition that has a leader.
    pub(super) fn move_on(&mut self) {
        let leaders = self.topic.leaders();
        let here = leaders.get(self.sticky).is_some_and(|leader| *leader >= 0);
        if self.is_moved && here {
            return;
        }
        let next = (1..=leaders.len()).map(|step| (self.sticky + step) % leaders.len());
        let led = next.clone().find(|partition| leaders.get(*partition).is_some_and(|leader| *leader >= 0));
        self.sticky = led.unwrap_or(self.sticky);
    }

    /// Takes what was read.
    pub(super) fn push(&mut self, partition: i32, batch: Batch, times: Times) {
        self.waiting_cost += cost(&batch);
        self.waiting.push_back((partition, batch, times));
    }

    /// Takes what goes next, of at most `limit` bytes but at least one batch, and only what may go together.
    pub(super) fn take_group(&mut self, limit: usize, now: Instant) -> Vec<(i32, Batch)> {
        let (mut group, mut size, mut together) = (Vec::new(), 0, None::<Times>);
        while let Some((_, next, times)) = self.waiting.front() {
            size += next.size();
            let joined = together.map_or(Some(*times), |before| before.with(*times));
            if !group.is_empty() && (size > limit || joined.is_none()) {
                break;
            }
            together = joined;
            group.extend(self.waiting.pop_front().map(|(partition, batch, _)| (partition, batch)));
        }
        let cost: usize = group.iter().map(|(_, batch)| cost(batch)).sum();
        self.waiting_cost -= cost;
        self.in_flight_cost += cost;
        self.in_flight += group.len();
        self.group = group.len();
        self.sent = Some(now);
        group
    }

    /// Looks whether librdkafka works at what it has of it. A lane without a partition goes to several: any leader will do.
    pub(super) fn look_for_stall(&mut self, now: Instant, patience: Duration) -> Verdict {
        let leaders = self.topic.leaders();
        let is_led =
            |partition: i32| usize::try_from(partition).is_ok_and(|at| leaders.get(at).is_some_and(|it| *it >= 0));
        let has_leader = self.partition().map_or_else(|| leaders.iter().any(|leader| *leader >= 0), is_led);
        let known = Known { is_in_flight: self.in_flight > 0, has_leader, looks: self.topic.looks() };
        self.stall.look(now, patience, known)
    }

    /// Takes everything that was read and not sent.
    pub(super) fn drop_waiting(&mut self) -> impl Iterator<Item = Batch> + use<> {
        self.waiting_cost = 0;
        self.is_unplaced = false;
        std::mem::take(&mut self.waiting).into_iter().map(|(_, batch, _)| batch)
    }

    /// The most of one batch, in bytes: what the next group may have.
    pub(super) fn batch_limit(&self) -> usize {
        self.throttle.allowance().min(16 * FIRST)
    }
}
