//! A worker's side of the spool: what it handed over, and who is told when that is on disk.
//!
//! # The order that everything rests on
//! A record is appended to a lane only after every earlier record of that lane at this worker is settled, is in the spool,
//! or has a guard there. Replay hands out nothing of a lane with an unresolved guard. So what a connection sent first is
//! in Kafka first, through failover, replay and restart. What the disk fails to take goes back in its place ([`returned`]).

pub(super) mod lanes;
mod returned;
pub(super) mod way;

use std::collections::{HashMap, VecDeque};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::batch::Batch;
use super::breaker::Breaker;
use super::metrics::RecordsLeft;
use crate::record::id::RecordIds;
use crate::record::partition::PartitionChoice;
use crate::record::sink::{Record, Ticket};
use crate::spool::{self, Delivered, Full, Guard, Lane, Sequence, Spool, WriteError, Writer};
pub(super) use lanes::LaneDesk;
use lanes::Lanes;
use returned::{Held, Unstored};

/// The spool as delivery uses it: what all workers and replay share.
#[derive(Clone)]
pub struct FailoverShared {
    pub(super) lanes: Lanes,
    pub(super) breaker: Arc<Breaker>,
    /// How long a record may wait for Kafka.
    pub(super) patience: Duration,
}

/// One worker's.
pub(super) struct Failover {
    pub(super) shared: FailoverShared,
    writer: Writer,
    ids: RecordIds,
    clock: Clock,
    /// What was appended and has no outcome yet, in order, and who waits for it.
    pending: VecDeque<Pending>,
    tickets: VecDeque<Ticket>,
    /// Batches at Kafka's client with a copy in the spool, by their slot there.
    guards: HashMap<usize, Guarded>,
    /// Outcomes that were not taken yet, each of one chunk.
    outcomes: VecDeque<(Sequence, Result<(), WriteError>)>,
    /// The last chunk with records of each lane, by the lane's number.
    appended: Vec<Sequence>,
    /// What the disk did not take, and the partitions that hold some of it.
    unstored: Unstored,
    held: Held,
    /// Records appended since the last hand-over.
    unsubmitted: usize,
    records_left: RecordsLeft,
}

/// A run of appended records of one topic, alike in whether somebody waits and in what was promised; or one guard.
struct Pending {
    last: Sequence,
    topic: usize,
    guard: Option<usize>,
    /// The reply promises the disk.
    promised: bool,
    /// When the first of them came.
    born: Instant,
    records: usize,
    cost: usize,
    tickets: usize,
}

struct Guarded {
    guard: Guard,
    last: Sequence,
    durable: bool,
}

/// Where a record is appended.
#[derive(Clone, Copy)]
pub(super) struct Into<'a> {
    pub(super) lane: &'a Lane,
    /// The topic's number at the sink.
    pub(super) topic: usize,
    /// Its reply promises the disk.
    pub(super) promised: bool,
}

/// Something that the disk has taken or refused.
pub(super) struct Stored {
    pub(super) topic: usize,
    /// The slot of the batch that a guard stands for.
    pub(super) guard: Option<usize>,
    pub(super) records: usize,
    /// What these took from the byte budget.
    pub(super) cost: usize,
    pub(super) tickets: Vec<Ticket>,
    pub(super) result: Result<(), WriteError>,
    /// What was refused and goes back to Kafka's queue; the numbers above are without it.
    pub(super) returned: Vec<Batch>,
}

/// Wall-clock time for records, read once in a while.
struct Clock {
    read: Instant,
    millis: i64,
}

/// Between two looks at the wall clock.
const CLOCK: Duration = Duration::from_secs(1);

// === impl Clock ===

impl Clock {
    fn new(now: Instant) -> Self {
        Self { read: now, millis: unix_millis() }
    }

    fn at(&mut self, now: Instant, born: Instant) -> i64 {
        if now.saturating_duration_since(self.read) >= CLOCK {
            *self = Self::new(now);
        }
        let signed = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        self.millis.saturating_add(signed(born.saturating_duration_since(self.read)))
            - signed(self.read.saturating_duration_since(born))
    }
}

/// Milliseconds of the Unix epoch.
pub(super) fn unix_millis() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

// === impl FailoverShared ===

impl FailoverShared {
    /// Over an open spool; `patience` is how long a record may wait for Kafka.
    pub fn new(spool: Spool, patience: Duration, now: Instant) -> Self {
        Self { lanes: Lanes::new(spool), breaker: Arc::new(Breaker::new(now)), patience }
    }
}

// === impl Failover ===

impl Failover {
    /// A worker's side; `wake`, an eventfd, is written when there are outcomes.
    pub(super) fn new(shared: FailoverShared, wake: Arc<OwnedFd>, now: Instant) -> Self {
        let writer = shared.lanes.spool().writer(wake);
        Self {
            shared,
            writer,
            ids: RecordIds::new(),
            clock: Clock::new(now),
            pending: VecDeque::new(),
            tickets: VecDeque::new(),
            guards: HashMap::new(),
            outcomes: VecDeque::new(),
            appended: Vec::new(),
            unstored: Unstored::default(),
            held: Held::default(),
            unsubmitted: 0,
            records_left: RecordsLeft::register(),
        }
    }

    /// Appends a record that came at `born`.
    ///
    /// # Errors
    /// The spool is full; the record is still the caller's.
    #[inline]
    pub(super) fn append(
        &mut self,
        Into { lane, topic, promised }: Into<'_>,
        choice: PartitionChoice<'_>,
        record: &Record<'_>,
        ticket: Option<Ticket>,
        (now, born): (Instant, Instant),
    ) -> Result<(), Full> {
        let spooled = spool::Record {
            id: self.ids.fresh(),
            timestamp_ms: record.timestamp_ms.unwrap_or_else(|| self.clock.at(now, born)),
            choice,
            headers: record.headers.as_bytes(),
            value: record.value,
        };
        let last = self.writer.append(lane, &spooled)?;
        self.unsubmitted += 1;
        match self.appended.get_mut(lane.index()) {
            Some(appended) => *appended = last,
            None => self.note_lane(lane, last),
        }
        self.tickets.extend(ticket);
        let (cost, tickets) = (record.cost(), usize::from(ticket.is_some()));
        match self.pending.back_mut() {
            Some(run)
                if run.last == last
                    && run.topic == topic
                    && run.guard.is_none()
                    && run.promised == promised
                    && (run.tickets > 0) == ticket.is_some() =>
            {
                run.records += 1;
                run.cost += cost;
                run.tickets += tickets;
            }
            _ => {
                let run = Pending { last, topic, guard: None, promised, born, records: 1, cost, tickets };
                self.pending.push_back(run);
            }
        }
        Ok(())
    }

    /// Writes a copy of a batch that is at Kafka's client, in `slot` there.
    ///
    /// # Errors
    /// The spool is full.
    pub(super) fn guard(&mut self, lane: &Lane, slot: usize, batch: &Batch, now: Instant) -> Result<(), Full> {
        let timestamp_ms = self.clock.at(now, batch.born);
        let ids = &mut self.ids;
        let records = batch.records().map(|(key, record)| spool::Record {
            id: ids.fresh(),
            timestamp_ms: record.timestamp_ms.unwrap_or(timestamp_ms),
            choice: key.map_or(PartitionChoice::Sticky, PartitionChoice::Key),
            headers: record.headers.as_bytes(),
            value: record.value,
        });
        let guard = self.writer.guard(lane, records)?;
        let last = self.writer.sequence();
        self.unsubmitted += batch.len();
        self.guards.insert(slot, Guarded { guard, last, durable: false });
        let (records, topic) = (batch.len(), batch.place.0);
        let (guard_slot, born) = (Some(slot), batch.born);
        let run = Pending { last, topic, guard: guard_slot, promised: false, born, records, cost: 0, tickets: 0 };
        self.pending.push_back(run);
        Ok(())
    }

    #[cold]
    fn note_lane(&mut self, lane: &Lane, last: Sequence) {
        self.appended.resize(lane.index() + 1, Sequence::default());
        if let Some(appended) = self.appended.get_mut(lane.index()) {
            *appended = last;
        }
    }

    /// True while it is not known whether the disk took everything of a lane: what it did not take may come back, to go
    /// before all that waits.
    pub(super) fn awaits(&self, lane: &Lane) -> bool {
        let last = self.appended.get(lane.index());
        self.pending.front().zip(last).is_some_and(|(run, last)| run.last <= *last)
    }

    /// True where a copy of the batch in this slot is in the spool, or on its way there.
    pub(super) fn is_guarded(&self, slot: usize) -> bool {
        self.guards.contains_key(&slot)
    }

    /// True where a copy of the batch in this slot is on disk.
    pub(super) fn is_durable(&self, slot: usize) -> bool {
        self.guards.get(&slot).is_some_and(|guarded| guarded.durable)
    }

    /// Every record of a guarded batch was reported, the failed ones in order. These go on as records of the spool; those
    /// who wait for them, and cannot be told yet, are told with the guard's own outcome. Nothing: it had no guard.
    pub(super) fn resolve(&mut self, slot: usize, count: usize, failed: &[usize], waiting: Vec<Ticket>) -> Option<()> {
        let Guarded { guard, last, durable } = self.guards.remove(&slot)?;
        guard.resolve(delivered(count, failed));
        if !durable && !waiting.is_empty() {
            let at = self.pending.iter().position(|run| run.guard == Some(slot) && run.last == last);
            if let Some(at) = at {
                // The tickets of runs before it come first.
                let before: usize = self.pending.iter().take(at + 1).map(|run| run.tickets).sum();
                let later = self.tickets.split_off(before);
                let count = waiting.len();
                self.tickets.extend(waiting);
                self.tickets.extend(later);
                if let Some(run) = self.pending.get_mut(at) {
                    run.tickets += count;
                }
            }
        }
        Some(())
    }

    /// Hands over what was appended since the last call.
    pub(super) fn submit(&mut self) {
        let appended = std::mem::take(&mut self.unsubmitted);
        if appended > 0 {
            self.records_left.appended(appended);
            self.writer.submit();
        }
    }

    /// True where something was appended and not handed over yet.
    pub(super) fn has_unsubmitted(&self) -> bool {
        self.unsubmitted > 0
    }

    /// What the disk has taken or refused since the last call, one piece a call.
    pub(super) fn next_stored(&mut self) -> Option<Stored> {
        if self.outcomes.is_empty() {
            let outcomes = &mut self.outcomes;
            self.writer.outcomes(|chunk, result| outcomes.push_back((chunk, result)));
            self.unstored.add(&self.writer.take_unwritten());
        }
        loop {
            let &(chunk, result) = self.outcomes.front()?;
            if self.pending.front().is_none_or(|run| run.last > chunk) {
                self.outcomes.pop_front();
                continue;
            }
            let run = self.pending.pop_front()?;
            let tickets: Vec<Ticket> = self.tickets.drain(..run.tickets.min(self.tickets.len())).collect();
            if let Some(slot) = run.guard {
                match self.guards.get_mut(&slot) {
                    Some(guarded) if guarded.last == run.last && result.is_ok() => guarded.durable = true,
                    Some(guarded) if guarded.last == run.last => drop(self.guards.remove(&slot)),
                    _ => {}
                }
            }
            let Pending { topic, guard, records, cost, .. } = run;
            let stored = Stored { topic, guard, records, cost, tickets, result, returned: Vec::new() };
            return Some(match (guard, result) {
                (None, Ok(())) => {
                    self.held.stored(topic, chunk);
                    stored
                }
                (None, Err(WriteError::Full | WriteError::Disk(_))) => self.give_back(&run, stored),
                _ => stored,
            });
        }
    }

    /// What of a run that failed goes back to Kafka's queue does so.
    fn give_back(&mut self, run: &Pending, stored: Stored) -> Stored {
        if run.promised {
            self.unstored.skip(run.records);
            return stored;
        }
        let sorted = self.unstored.take(run.topic, run.records, &stored.tickets, run.born);
        for batch in &sorted.batches {
            self.held.hold(batch.place, run.last, self.writer.sequence());
        }
        let (records, cost, tickets) = (sorted.records, sorted.cost, sorted.tickets);
        Stored { records, cost, tickets, returned: sorted.batches, ..stored }
    }

    /// The partitions, as the sink numbers them, whose returned records need not be held any longer, each with whether a
    /// later record is on disk.
    pub(super) fn released(&mut self) -> Vec<((usize, usize), bool)> {
        self.held.release(self.pending.front().map(|run| run.last))
    }
}

/// The records among `count` that did not fail, as the spool wants them.
fn delivered(count: usize, failed: &[usize]) -> Delivered {
    if failed.is_empty() {
        return Delivered::All;
    }
    if failed.len() >= count {
        return Delivered::None;
    }
    let number = |place: usize| u32::try_from(place).unwrap_or(u32::MAX);
    let ends = failed.iter().copied().chain([count]);
    let starts = std::iter::once(0).chain(failed.iter().map(|place| place + 1));
    let between = starts.zip(ends).filter(|(start, end)| start < end);
    Delivered::Some(between.map(|(start, end)| number(start)..number(end)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_did_not_fail_is_delivered() {
        assert_eq!(delivered(5, &[]), Delivered::All);
        assert_eq!(delivered(2, &[0, 1]), Delivered::None);
        assert_eq!(delivered(6, &[0, 2, 3]), Delivered::Some(vec![1..2, 4..6]));
        assert_eq!(delivered(3, &[2]), Delivered::Some(std::iter::once(0..2).collect()));
    }

    #[test]
    fn a_record_keeps_the_time_at_which_it_came() {
        let now = Instant::now();
        let mut clock = Clock::new(now);
        let base = clock.millis;
        assert_eq!(clock.at(now, now), base);
        assert_eq!(clock.at(now, now + Duration::from_millis(7)), base + 7);
        assert!(now.checked_sub(Duration::from_millis(300)).is_none_or(|born| clock.at(now, born) == base - 300));
    }
}
