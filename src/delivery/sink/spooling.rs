//! The sink's way through the spool: when records go there, and what comes of it. What is decided stands in
//! [`crate::delivery::failover::way`]; the order that must hold, atop [`crate::delivery::failover`].

use std::time::Instant;

use super::KafkaSink;
use crate::delivery::batch::Batch;
use crate::delivery::failover::Into;
use crate::delivery::failover::way::{Sight, Way};
use crate::delivery::failure::{Verdict, judge};
use crate::delivery::producer::Report;
use crate::record::partition::PartitionChoice;
use crate::record::sink::{Failure, Record, Ticket};
use crate::spool::WriteError;

// === impl KafkaSink ===

impl KafkaSink {
    /// Gives a topic's partitions their lanes, where there is a spool.
    pub(super) fn meet_lanes(&mut self, topic: usize) {
        let (Some(failover), Some(state)) = (&mut self.failover, self.topics.get_mut(topic)) else { return };
        let (lanes, name) = (&failover.shared.lanes, &state.shared.name);
        state.lane.get_or_insert_with(|| lanes.desk(name, None));
        for (partition, queue) in state.partitions.iter_mut().enumerate() {
            let number = i32::try_from(partition).unwrap_or(i32::MAX);
            queue.lane.get_or_insert_with(|| lanes.desk(name, Some(number)));
        }
        // What came before the partitions were known is ahead of what comes now.
        failover.submit();
    }

    /// True where librdkafka may be handed more.
    pub(super) fn may_send(&self) -> bool {
        self.failover.is_none() || self.factory.room_at_kafka() > 0
    }

    /// Kafka answered.
    pub(super) fn answered(&self) {
        if let Some(failover) = &self.failover {
            failover.shared.breaker.answered(self.now);
        }
    }

    /// Looks at a partition's way from now on, until it is idle.
    #[inline]
    pub(super) fn watch(&mut self, place: (usize, usize)) {
        if self.failover.is_some()
            && let Some(queue) = self.topics.get_mut(place.0).and_then(|state| state.partitions.get_mut(place.1))
            && !std::mem::replace(&mut queue.is_watched, true)
        {
            self.watched.push(place);
        }
    }

    pub(super) fn submit(&mut self) {
        if let Some(failover) = &mut self.failover {
            failover.submit();
        }
    }

    // --- records on their way in

    /// Appends a record to its partition's lane. False where it must wait in memory: behind others that do, as the spool
    /// is full, or as the way is to Kafka after all.
    #[inline]
    pub(super) fn put_aside(
        &mut self,
        (topic, partition): (usize, usize),
        to_spool: bool,
        choice: PartitionChoice<'_>,
        record: &Record<'_>,
        ticket: Option<Ticket>,
        born: Instant,
    ) -> bool {
        let Some(state) = self.topics.get(topic) else { return false };
        let Some(queue) = state.partitions.get(partition) else { return false };
        let has_backlog = queue.lane.as_ref().is_some_and(|lane| lane.has_backlog());
        let turns = if to_spool { queue.switch.way() != Way::Spool } else { !has_backlog };
        if turns && !self.turn((topic, partition), to_spool) {
            return false;
        }
        let (Some(failover), Some(state)) = (&mut self.failover, self.topics.get_mut(topic)) else { return false };
        let Some(queue) = state.partitions.get(partition) else { return false };
        let Some(lane) = queue.lane.as_ref().filter(|_| !queue.has_waiting() && !queue.is_coming_back()) else {
            return false;
        };
        let into = Into { lane: &lane.lane, topic, promised: to_spool };
        let taken = failover.append(into, choice, record, ticket, (self.now, born)).is_ok();
        if taken {
            state.spooled(partition, record.value.len());
        }
        taken
    }

    /// Looks at the way again before a record takes it. True where it leads to the spool.
    fn turn(&mut self, place: (usize, usize), to_spool: bool) -> bool {
        if to_spool {
            self.watch(place);
            if self.move_to_spool(place) {
                self.go(place, Way::Spool);
            }
        } else {
            self.look(place);
        }
        self.queue(place.0, place.1).is_some_and(|queue| queue.switch.way() == Way::Spool)
    }

    /// Takes a record whose topic's partitions are not known.
    pub(super) fn put_unplaced(
        &mut self,
        topic: usize,
        to_spool: bool,
        choice: PartitionChoice<'_>,
        record: Record<'_>,
        ticket: Option<Ticket>,
        born: Instant,
    ) {
        let Some(state) = self.topics.get_mut(topic) else { return };
        if let (Some(failover), Some(lane), true) = (&mut self.failover, &state.lane, state.unplaced.is_empty()) {
            let aside = to_spool || lane.has_backlog() || failover.shared.breaker.is_open();
            let into = Into { lane: &lane.lane, topic, promised: to_spool };
            if aside && failover.append(into, choice, &record, ticket, (self.now, born)).is_ok() {
                return;
            }
        }
        state.wait_for_partitions(choice, record, ticket, born);
    }

    // --- the way

    /// Partitions where something waits must not go to Kafka past a backlog.
    pub(super) fn look_before_sending(&mut self) {
        let Some(failover) = &self.failover else { return };
        let away = failover.shared.breaker.is_open();
        let behind = |&(topic, partition): &(usize, usize)| {
            let Some(state) = self.topics.get(topic) else { return false };
            let lane = state.partitions.get(partition).and_then(|queue| queue.lane.as_ref());
            away || state.has_backlog() || lane.is_some_and(|lane| lane.has_backlog())
        };
        let places: Vec<_> = self.dirty.iter().copied().filter(behind).collect();
        for place in places {
            self.look(place);
        }
    }

    /// The regular look at all that waits.
    pub(super) fn look_around(&mut self) {
        if self.failover.is_none() {
            return;
        }
        let mut watched = std::mem::take(&mut self.watched);
        watched.retain(|&place| {
            self.look(place);
            let Some(queue) = self.queue(place.0, place.1) else { return false };
            let idle = !queue.has_waiting() && !queue.is_in_flight() && queue.switch.way() == Way::Direct;
            queue.is_watched = !idle;
            !idle
        });
        watched.append(&mut self.watched);
        self.watched = watched;
        for at in 0..self.unknown.len() {
            if let Some(&topic) = self.unknown.get(at) {
                self.look_at_unplaced(topic);
            }
        }
        self.submit();
    }

    fn look(&mut self, place: (usize, usize)) {
        let Some(failover) = &self.failover else { return };
        let Some(state) = self.topics.get(place.0) else { return };
        let Some(queue) = state.partitions.get(place.1) else { return };
        let Some(lane) = &queue.lane else { return };
        let (breaker, patience) = (&failover.shared.breaker, failover.shared.patience);
        let refused = queue.is_refused.then_some(patience);
        let waited = queue.oldest().map(|born| self.now.saturating_duration_since(born));
        if let Some(since) = queue.in_flight_since().filter(|since| self.now.duration_since(*since) >= patience) {
            breaker.unanswered(since);
        }
        let sight = Sight {
            backlog: lane.has_backlog() || state.has_backlog(),
            lag: lane.lag(),
            waited: refused.max(waited),
            away: breaker.is_open(),
            promised: state.is_promised,
        };
        let (from, mut to) = (queue.switch.way(), queue.switch.decide(&sight, patience, self.now));
        if to == Way::Direct && from != Way::Direct && failover.awaits(&lane.lane) {
            to = from;
        }
        let leftover = to == Way::Spool && queue.has_waiting();
        if to == Way::Spool && (from != Way::Spool || leftover) {
            if self.move_to_spool(place) {
                self.go(place, Way::Spool);
            } else {
                self.go_without_spool(place, from);
            }
        } else if from != to {
            self.go(place, to);
        }
    }

    /// The spool takes nothing, or not all: what waits must not go past a backlog, and goes to Kafka where there is none.
    fn go_without_spool(&mut self, place: (usize, usize), from: Way) {
        let Some(state) = self.topics.get(place.0) else { return };
        let Some(queue) = state.partitions.get(place.1) else { return };
        let (Some(failover), Some(lane)) = (&self.failover, &queue.lane) else { return };
        let has_backlog = state.has_backlog() || lane.has_backlog() || failover.awaits(&lane.lane);
        match (from, has_backlog) {
            (Way::Direct, true) => self.go(place, Way::Back),
            (Way::Spool | Way::Back, false) if !queue.is_coming_back() => self.go(place, Way::Direct),
            _ => {}
        }
    }

    fn go(&mut self, place: (usize, usize), way: Way) {
        let now = self.now;
        if let Some(queue) = self.queue(place.0, place.1) {
            queue.switch.go(way, now);
            queue.is_refused = false;
        }
    }

    /// Guards what is in flight and moves what waits. False where the spool is full, or where records are coming back
    /// that must go first: nothing may be appended behind them.
    fn move_to_spool(&mut self, (topic, partition): (usize, usize)) -> bool {
        let Some(failover) = &mut self.failover else { return false };
        let Some(queue) = self.topics.get_mut(topic).and_then(|state| state.partitions.get_mut(partition)) else {
            return false;
        };
        let Some(lane) = queue.lane.clone().filter(|_| !queue.is_coming_back()) else { return false };
        if queue.is_in_flight() {
            for (slot, batch) in self.producer.in_flight((topic, partition)) {
                if !failover.is_guarded(slot) && failover.guard(&lane.lane, slot, batch, self.now).is_err() {
                    return false;
                }
            }
        }
        while let Some(mut batch) = queue.pop() {
            let mut moved = 0;
            for (entry, (key, record)) in batch.records().enumerate() {
                let choice = key.map_or(PartitionChoice::Sticky, PartitionChoice::Key);
                let times = (self.now, batch.born);
                let ticket = batch.ticket(entry);
                let into = Into { lane: &lane.lane, topic, promised: false };
                if failover.append(into, choice, &record, ticket, times).is_err() {
                    break;
                }
                moved = entry + 1;
            }
            if moved < batch.len() {
                if moved > 0 {
                    batch = batch.tail(moved);
                }
                queue.put_back(batch);
                return false;
            }
            self.spare.keep(batch);
        }
        true
    }

    fn look_at_unplaced(&mut self, topic: usize) {
        let (Some(failover), Some(state)) = (&mut self.failover, self.topics.get_mut(topic)) else { return };
        let (Some(first), Some(lane)) = (state.unplaced.front(), &state.lane) else { return };
        let breaker = &failover.shared.breaker;
        let too_long = self.now.saturating_duration_since(first.born) >= failover.shared.patience;
        if too_long && state.shared.failure() == Failure::TimedOut {
            breaker.unanswered(first.born);
        }
        if !too_long && !lane.has_backlog() && !breaker.is_open() {
            return;
        }
        while let Some(waiting) = state.unplaced.front() {
            let times = (self.now, waiting.born);
            let choice = waiting.choice.borrow();
            let into = Into { lane: &lane.lane, topic, promised: false };
            if failover.append(into, choice, &waiting.record(), waiting.ticket, times).is_err() {
                return;
            }
            state.unplaced.pop_front();
        }
    }

    // --- outcomes

    /// Takes what the disk has taken or refused. What it failed to take goes back to Kafka's queue, unless its reply
    /// promises the disk.
    pub(super) fn collect_stored(&mut self, each: &mut dyn FnMut(Ticket, Result<(), Failure>)) {
        while let Some(stored) = self.failover.as_mut().and_then(|failover| failover.next_stored()) {
            let outcome = stored.result.map_err(failure);
            for &ticket in &stored.tickets {
                each(ticket, outcome);
            }
            match (stored.guard, outcome) {
                (None, _) => {
                    for batch in stored.returned {
                        // The disk may have it all the same, for a later process to find.
                        self.metrics.given_back.increment(batch.len() as u64);
                        if let Some(queue) = self.queue(batch.place.0, batch.place.1) {
                            queue.hold_returned(batch);
                        }
                    }
                    self.factory.budget.give_back(stored.cost);
                    self.settled(stored.topic, stored.records);
                    if outcome.is_err() {
                        self.metrics.failed.increment(stored.records as u64);
                    }
                }
                (Some(slot), Ok(())) if self.failover.as_ref().is_some_and(|failover| failover.is_durable(slot)) => {
                    self.producer.take_tickets(slot).for_each(|ticket| each(ticket, Ok(())));
                    self.settled(stored.topic, stored.records);
                }
                // The batch was reported meanwhile; who still waited was told just now.
                (Some(_), _) => self.settled(stored.topic, stored.tickets.len()),
            }
        }
        self.release_returned(each);
    }

    /// What came back from the disk goes on to Kafka, as soon as that keeps it in order.
    fn release_returned(&mut self, each: &mut dyn FnMut(Ticket, Result<(), Failure>)) {
        let released = self.failover.as_mut().map(|failover| failover.released()).unwrap_or_default();
        for (place, is_overtaken) in released {
            let Some(queue) = self.queue(place.0, place.1) else { continue };
            if is_overtaken {
                for batch in queue.drop_returned() {
                    batch.tickets().for_each(|ticket| each(ticket, Err(Failure::NotStored)));
                    self.factory.budget.give_back(batch.cost());
                    self.metrics.failed.increment(batch.len() as u64);
                    self.settled(place.0, batch.len());
                }
                continue;
            }
            queue.take_back();
            self.dirty.push(place);
            self.watch(place);
            self.look(place);
        }
    }

    /// A batch with a copy in the spool is back from librdkafka: what was not delivered goes on from there.
    pub(super) fn settle_guarded(
        &mut self,
        slot: usize,
        batch: Batch,
        wrong: &[Report],
        each: &mut dyn FnMut(Ticket, Result<(), Failure>),
    ) {
        let Some(failover) = &mut self.failover else { return };
        let topic = batch.place.0;
        let is_durable = failover.is_durable(slot);
        let (mut undelivered, mut waiting, mut refused, mut doubled) = (Vec::new(), Vec::new(), 0, 0);
        for report in wrong {
            let Some(code) = report.error else { continue };
            let ticket = batch.ticket(report.entry);
            match judge(code) {
                // Nobody was told yet that it is safe, and it never would be.
                Verdict::Fail { failure, retriable: false } if !is_durable => {
                    refused += 1;
                    if let Some(ticket) = ticket {
                        each(ticket, Err(failure));
                    }
                }
                verdict => {
                    if let (Verdict::Fail { failure, .. }, Some(state)) = (verdict, self.topics.get(topic)) {
                        state.shared.set_trouble(failure, code.to_string());
                    }
                    self.broken |= crate::delivery::health::Health::is_fatal(Some(code));
                    undelivered.push(report.entry);
                    waiting.extend(ticket);
                    doubled += u64::from(report.possibly_written);
                }
            }
        }
        let late = if is_durable { 0 } else { waiting.len() };
        failover.resolve(slot, batch.len(), &undelivered, waiting);
        self.metrics.unguarded.increment(doubled);
        if !is_durable {
            self.settled(topic, batch.len() - late);
        }
        let settled = batch.len() - undelivered.len();
        self.leave(batch, Vec::new(), settled - refused, refused);
    }
}

/// Why the spool did not keep a record, as a record's failure.
fn failure(error: WriteError) -> Failure {
    match error {
        WriteError::Closed => Failure::Stopped,
        WriteError::Full | WriteError::Disk(_) => Failure::NotStored,
    }
}
