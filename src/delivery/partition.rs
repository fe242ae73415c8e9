//! What waits for one partition, in order.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::batch::Batch;
use super::failover::LaneDesk;
use super::failover::way::{Switch, Way};
use super::stall::Stall;
use crate::record::sink::{Record, Ticket};

/// The queue of one partition. Records that came first go first, those that must go again before all others.
pub(super) struct PartitionQueue {
    /// The broker that leads it, as an index of the sink's gates.
    pub(super) gate: usize,
    waiting: VecDeque<Batch>,
    in_flight: usize,
    /// The gate that the group in flight went through: the leader may have moved since.
    gate_of_flight: usize,
    /// When the group in flight went, and when its first record came.
    sent: Option<(Instant, Instant)>,
    /// Until when nothing goes: the broker has just turned away what did.
    rest_until: Option<Instant>,
    /// What must go again. Of what is purged, librdkafka reports what it had not sent before what it had.
    again: Vec<Batch>,
    /// Batches that went so far.
    turns: u64,
    /// What the spool's disk did not take, until nothing that came after it can be there.
    returned: VecDeque<Batch>,
    /// Its lane in the spool, where there is one.
    pub(super) lane: Option<Arc<LaneDesk>>,
    /// Which way new records go.
    pub(super) switch: Switch,
    /// It is on the list of those whose way may change.
    pub(super) is_watched: bool,
    /// Kafka refused records that another try may deliver: they wait for it in the spool.
    pub(super) is_refused: bool,
    /// Whether librdkafka works at what it has of it.
    pub(super) stall: Stall,
}

// === impl PartitionQueue ===

impl PartitionQueue {
    pub(super) fn new(gate: usize) -> Self {
        Self {
            gate,
            waiting: VecDeque::new(),
            in_flight: 0,
            gate_of_flight: gate,
            sent: None,
            rest_until: None,
            again: Vec::new(),
            turns: 0,
            returned: VecDeque::new(),
            lane: None,
            switch: Switch::default(),
            is_watched: false,
            is_refused: false,
            stall: Stall::default(),
        }
    }

    /// Takes a copy of a record; `fresh` makes a batch where the last one is full. True where nothing waited before.
    #[inline]
    pub(super) fn push(
        &mut self,
        key: Option<&[u8]>,
        record: Record<'_>,
        ticket: Option<Ticket>,
        fresh: impl FnOnce() -> Batch,
    ) -> bool {
        let size = Batch::size_of(key, &record);
        if let Some(last) = self.waiting.back_mut()
            && last.has_room(size)
        {
            last.push(key, record, ticket);
            return false;
        }
        let first = self.waiting.is_empty();
        let mut batch = fresh();
        batch.push(key, record, ticket);
        self.waiting.push_back(batch);
        first
    }

    /// True where something waits and nothing is in flight: order within the partition holds through failures only with
    /// one group at a time.
    #[inline]
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.in_flight == 0 && self.may_go(now)
    }

    /// True where something waits, Kafka is where it goes, and it does not rest.
    #[inline]
    pub(super) fn may_go(&self, now: Instant) -> bool {
        let may = !self.waiting.is_empty() && self.switch.way() == Way::Direct && self.returned.is_empty();
        may && self.rest_until.is_none_or(|until| now >= until)
    }

    /// Lets nothing go until then.
    pub(super) fn rest_until(&mut self, until: Instant) {
        self.rest_until = Some(until);
    }

    pub(super) fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    pub(super) fn is_in_flight(&self) -> bool {
        self.in_flight > 0
    }

    /// Takes the next group, of at most `limit` bytes but at least one batch.
    pub(super) fn take_group(&mut self, limit: usize, now: Instant) -> Vec<Batch> {
        let mut size = 0;
        let mut group = Vec::with_capacity(self.waiting.len().min(16));
        while let Some(next) = self.waiting.front() {
            let alone = next.alone;
            size += next.size();
            if !group.is_empty() && (size > limit || alone) {
                break;
            }
            group.extend(self.waiting.pop_front());
            if alone {
                break;
            }
        }
        for batch in &mut group {
            batch.turn = self.turns;
            self.turns += 1;
        }
        if let Some(first) = group.first() {
            self.sent.get_or_insert((now, first.born));
        }
        self.in_flight += group.len();
        self.gate_of_flight = self.gate;
        group
    }

    /// True where one batch is in flight: what it holds last is the last that was sent.
    pub(super) fn awaits_its_last(&self) -> bool {
        self.in_flight == 1
    }

    /// A batch came back; `again` holds its records that must go again. True where something waits and nothing is in flight.
    pub(super) fn answered(&mut self, again: impl IntoIterator<Item = Batch>) -> bool {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.again.extend(again);
        if self.in_flight == 0 {
            self.sent = None;
            // As they went before, and not as they were reported.
            self.again.sort_by_key(|batch| batch.turn);
            for batch in self.again.drain(..).rev() {
                self.waiting.push_front(batch);
            }
        }
        self.in_flight == 0 && !self.waiting.is_empty()
    }

    /// When the first record came that waits or is in flight.
    pub(super) fn oldest(&self) -> Option<Instant> {
        let waiting = self.waiting.front().map(|batch| batch.born);
        let flight = self.sent.map(|(_, born)| born);
        waiting.into_iter().chain(flight).min()
    }

    /// Since when the group in flight is.
    pub(super) fn in_flight_since(&self) -> Option<Instant> {
        self.sent.map(|(sent, _)| sent)
    }

    /// True where some of a group came back, to go before everything else, and the rest of it is still in flight; or where
    /// something came back from the spool.
    pub(super) fn is_coming_back(&self) -> bool {
        !self.again.is_empty() || !self.returned.is_empty()
    }

    /// Holds what the spool's disk did not take.
    pub(super) fn hold_returned(&mut self, batch: Batch) {
        self.returned.push_back(batch);
    }

    /// What was held goes before everything that waits. It came after what is in flight.
    pub(super) fn take_back(&mut self) {
        while let Some(batch) = self.returned.pop_back() {
            self.waiting.push_front(batch);
        }
    }

    /// Gives what was held away.
    pub(super) fn drop_returned(&mut self) -> VecDeque<Batch> {
        std::mem::take(&mut self.returned)
    }

    /// Takes what waits first.
    pub(super) fn pop(&mut self) -> Option<Batch> {
        self.waiting.pop_front()
    }

    /// Puts back what [`Self::pop`] gave, or what is left of it.
    pub(super) fn put_back(&mut self, batch: Batch) {
        self.waiting.push_front(batch);
    }

    /// The gate of what was in flight last.
    pub(super) fn gate_of_flight(&self) -> usize {
        self.gate_of_flight
    }

    /// What its waiting records took from the byte budget.
    pub(super) fn cost_waiting(&self) -> usize {
        self.waiting.iter().chain(&self.again).chain(&self.returned).map(Batch::cost).sum()
    }

    /// Takes what has waited for `hold` and may expire.
    pub(super) fn expire(&mut self, now: Instant, hold: Duration) -> Option<Batch> {
        let index =
            self.waiting.iter().position(|batch| batch.may_expire() && now.duration_since(batch.born) >= hold)?;
        self.waiting.remove(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue_of(records: &[&str]) -> PartitionQueue {
        let mut queue = PartitionQueue::new(0);
        for record in records {
            queue.push(None, Record::plain(record.as_bytes()), None, || Batch::new((0, 0), Instant::now()));
        }
        queue
    }

    fn texts(batches: &[Batch]) -> Vec<String> {
        let records = batches.iter().flat_map(Batch::records);
        records.map(|(_, record)| String::from_utf8_lossy(record.value).into_owned()).collect()
    }

    #[test]
    fn what_must_go_again_goes_before_what_came_later() {
        let large = "x".repeat(super::super::batch::BATCH_BYTES);
        let mut queue = queue_of(&["a", &large, "b"]);
        let group = queue.take_group(usize::MAX, Instant::now());
        assert_eq!(group.len(), 3);
        queue.push(None, Record::plain(b"c"), None, || Batch::new((0, 0), Instant::now()));
        assert!(!queue.is_due(Instant::now()));
        let mut group = group.into_iter();
        assert!(!queue.answered(group.next()));
        assert!(!queue.answered(None));
        group.next();
        assert!(queue.answered(group.next()));
        assert_eq!(texts(&queue.take_group(usize::MAX, Instant::now())), ["a", "b", "c"]);
    }

    #[test]
    fn what_comes_back_goes_again_as_it_went_however_it_was_reported() {
        let large = "x".repeat(super::super::batch::BATCH_BYTES);
        let mut queue = queue_of(&["a", &large, "b"]);
        let mut group = queue.take_group(usize::MAX, Instant::now());
        assert!(!queue.answered(group.pop()));
        assert!(!queue.answered([group.remove(0)]));
        assert!(queue.answered(group.pop()));
        let again = texts(&queue.take_group(usize::MAX, Instant::now()));
        assert_eq!(again, ["a", &large, "b"]);
    }

    #[test]
    fn a_batch_that_must_go_alone_does() {
        let mut queue = queue_of(&["a"]);
        let mut alone = queue.take_group(usize::MAX, Instant::now()).remove(0);
        alone.alone = true;
        queue.push(None, Record::plain(b"b"), None, || Batch::new((0, 0), Instant::now()));
        assert!(queue.answered([alone]));
        queue.push(None, Record::plain(b"c"), None, || Batch::new((0, 0), Instant::now()));
        assert_eq!(texts(&queue.take_group(usize::MAX, Instant::now())), ["a"]);
        assert!(queue.answered(None));
        assert_eq!(texts(&queue.take_group(usize::MAX, Instant::now())), ["b", "c"]);
    }

    #[test]
    fn a_group_is_bounded_but_never_empty() {
        let large = "x".repeat(super::super::batch::BATCH_BYTES);
        let mut queue = queue_of(&[&large, &large]);
        assert_eq!(queue.take_group(10, Instant::now()).len(), 1);
        assert!(queue.has_waiting());
    }

    #[test]
    fn what_nobody_waits_for_does_not_expire() {
        let mut queue = queue_of(&["kept"]);
        assert!(queue.expire(Instant::now() + Duration::from_secs(60), Duration::from_secs(1)).is_none());
        let mut queue = PartitionQueue::new(0);
        let ticket = Some(Ticket { session: 0, generation: 0, slot: 0 });
        queue.push(None, Record::plain(b"x"), ticket, || Batch::new((0, 0), Instant::now()));
        assert!(queue.expire(Instant::now(), Duration::from_secs(1)).is_none());
        assert!(queue.expire(Instant::now() + Duration::from_secs(1), Duration::from_secs(1)).is_some());
    }
}
