//! What becomes of records that leave the sink: delivered, failed, to be sent again, or expired.

use std::sync::atomic::Ordering;
use std::time::Duration;

use rdkafka::error::RDKafkaErrorCode;

use super::KafkaSink;
use super::letters::Fate;
use crate::delivery::batch::Batch;
use crate::delivery::failure::{Verdict, judge};
use crate::delivery::health::Health;
use crate::delivery::partition::PartitionQueue;
use crate::delivery::producer::{Producer, Report};
use crate::delivery::stall::{self, Known, STALLED};
use crate::record::sink::{Failure, Ticket};

/// Before records go again that the broker has just turned away.
const REST: Duration = Duration::from_millis(200);

// === impl KafkaSink ===

impl KafkaSink {
    /// A batch is back from librdkafka, every record of it reported.
    pub(super) fn settle(&mut self, number: usize, batch: Batch, each: &mut dyn FnMut(Ticket, Result<(), Failure>)) {
        let mut wrong: Vec<Report> = self.wrong.extract_if(.., |report| report.batch == number).collect();
        // What librdkafka purges it reports in another order than that of sending.
        wrong.sort_unstable_by_key(|report| report.entry);
        if wrong.len() < batch.len() {
            self.answered();
        }
        if (wrong.len() < batch.len() || wrong.iter().any(Report::is_answer))
            && let Some(queue) = self.queue(batch.place.0, batch.place.1)
        {
            queue.stall.answered();
        }
        if self.topics.get(batch.place.0).is_some_and(|state| state.takes_letters) {
            self.count_letters(&batch, &wrong);
        }
        if self.failover.as_ref().is_some_and(|failover| failover.is_guarded(number)) {
            return self.settle_guarded(number, batch, &wrong, each);
        }
        let (topic, partition) = batch.place;
        let mut again: Vec<Batch> = Vec::new();
        let (mut failed, mut buried) = (0, 0);
        let mut rests = false;
        let splits = self.may_split(&batch, &wrong);
        if splits {
            again = split(&batch, wrong.iter().copied());
        }
        let mut resent = 0;
        for report in wrong.into_iter().filter(|_| !splits) {
            let (Some(code), Some((key, record))) = (report.error, batch.record(report.entry)) else { continue };
            let ticket = batch.ticket(report.entry);
            let verdict = judge(code);
            let waits = match self.fate(&batch, report.entry, code, ticket) {
                Fate::Fails => false,
                Fate::Waits => true,
                Fate::Buried => {
                    buried += 1;
                    continue;
                }
                Fate::Cut(shorter) => {
                    again.push(shorter);
                    continue;
                }
            };
            if let (Verdict::Fail { failure, .. }, Some(state)) = (verdict, self.topics.get(topic)) {
                state.shared.set_trouble(failure, code.to_string());
            }
            let is_retriable = matches!(verdict, Verdict::Again | Verdict::Fail { retriable: true, .. });
            if waits || verdict == Verdict::Again || (is_retriable && (ticket.is_none() || self.failover.is_some())) {
                self.broken |= Health::is_fatal(Some(code));
                rests |= matches!(verdict, Verdict::Fail { .. });
                resent += u64::from(report.possibly_written);
                if again.last().is_none_or(|last| last.alone) {
                    again.push(Batch::new(batch.place, batch.born));
                }
                if let Some(again) = again.last_mut() {
                    again.push(key, record, ticket);
                }
                // What Kafka refuses for now waits in the spool, where there is one.
                if let (Verdict::Fail { .. }, true, Some(queue)) =
                    (verdict, self.failover.is_some() && !waits, self.queue(topic, partition))
                {
                    queue.is_refused = true;
                }
            } else if let Verdict::Fail { failure, .. } = verdict {
                failed += 1;
                if let Some(ticket) = ticket {
                    each(ticket, Err(failure));
                }
            }
        }
        self.metrics.redelivered.increment(resent);
        let kept: usize = again.iter().map(Batch::len).sum();
        let settled = batch.len() - kept;
        self.settled(topic, settled);
        let until = self.now + REST;
        if let (true, Some(queue)) = (rests, self.queue(topic, partition)) {
            queue.rest_until(until);
        }
        self.leave(batch, again, settled - failed - buried, failed);
    }

    /// Nobody waits for so many records of a topic any more.
    pub(super) fn settled(&mut self, topic: usize, records: usize) {
        self.unsettled -= records;
        if let Some(state) = self.topics.get(topic) {
            state.shared.counts.unsettled.fetch_sub(records.cast_signed(), Ordering::Relaxed);
        }
    }

    /// A batch leaves librdkafka: so many of its records are delivered, so many have failed, and these go again.
    pub(super) fn leave(&mut self, batch: Batch, mut again: Vec<Batch>, delivered: usize, failed: usize) {
        let (topic, partition) = batch.place;
        again.iter_mut().for_each(|it| it.turn = batch.turn);
        let kept_cost: usize = again.iter().map(Batch::cost).sum();
        self.in_flight -= 1;
        self.factory.budget.give_back(batch.cost() - kept_cost);
        self.factory.at_kafka.fetch_sub(batch.cost(), Ordering::Relaxed);
        self.metrics.delivered.increment(delivered as u64);
        self.metrics.failed.increment(failed as u64);
        if let Some(state) = self.topics.get_mut(topic) {
            let counts = &state.shared.counts;
            counts.delivered.fetch_add(delivered as u64, Ordering::Relaxed);
            counts.failed.fetch_add(failed as u64, Ordering::Relaxed);
            if let Some(queue) = state.partitions.get_mut(partition) {
                let waited = queue.has_waiting();
                queue.answered(again);
                if !waited && queue.has_waiting() {
                    self.dirty.push(batch.place);
                }
                if let Some(gate) = self.gates.get_mut(queue.gate_of_flight()) {
                    gate.answered(self.now);
                }
            }
        }
        self.spare.keep(batch);
    }

    pub(super) fn queue(&mut self, topic: usize, partition: usize) -> Option<&mut PartitionQueue> {
        self.topics.get_mut(topic)?.partitions.get_mut(partition)
    }

    /// Whether records that the broker found too large are sent again in smaller groups, so that one of them does not
    /// take its neighbours with it. Only where none that came after them was written: order is kept before all.
    fn may_split(&self, batch: &Batch, wrong: &[Report]) -> bool {
        let too_large = |report: &Report| report.error == Some(RDKafkaErrorCode::MessageSizeTooLarge);
        let one = batch.alone && batch.len() == 1;
        let (topic, partition) = batch.place;
        let state = self.topics.get(topic);
        if state.is_some_and(|state| state.takes_letters) {
            // One dead letter is as good as another: they have no order to keep.
            return !one && !wrong.is_empty() && wrong.iter().all(too_large);
        }
        let first = wrong.first().map(|report| report.entry);
        let is_tail = first.is_some_and(|first| first + wrong.len() == batch.len());
        let queue = state.and_then(|topic| topic.partitions.get(partition));
        !one && is_tail && wrong.iter().all(too_large) && queue.is_some_and(PartitionQueue::awaits_its_last)
    }

    /// What librdkafka holds and does not work at: see [`stall`](crate::delivery::stall).
    pub(super) fn look_for_stall(&mut self) {
        if self.broken {
            // What is with librdkafka is on its way back.
            return;
        }
        let (now, patience) = (self.now, self.factory.stalls_after);
        for state in &mut self.topics {
            let (looks, leaders) = (state.shared.looks(), state.shared.leaders());
            let mut asks = false;
            for (partition, (queue, leader)) in state.partitions.iter_mut().zip(leaders.iter()).enumerate() {
                let known = Known { is_in_flight: queue.is_in_flight(), has_leader: *leader >= 0, looks };
                match queue.stall.look(now, patience, known) {
                    stall::Verdict::Works => {}
                    stall::Verdict::Ask => asks = true,
                    stall::Verdict::Stalled => {
                        tracing::warn!(topic = %state.shared.name, partition, "librdkafka {STALLED}");
                        self.broken = true;
                    }
                }
            }
            if asks {
                self.factory.directory.look_again(&state.shared);
            }
        }
    }

    /// After a fatal error, or a stall: once everything is reported, a new producer takes the old one's place.
    pub(super) fn mend(&mut self) {
        if self.in_flight > 0 {
            return self.producer.purge();
        }
        self.renew("after a fatal error or a stall; what was unconfirmed is sent again");
    }

    /// A new producer takes the place of one that has nothing on its way.
    pub(super) fn renew(&mut self, why: &str) {
        match Producer::new(&self.factory.config, self.factory.directory.health().clone(), self.wake.clone()) {
            Ok(producer) => {
                tracing::warn!("Kafka's producer was made anew {why}");
                self.producer = producer;
                self.broken = false;
                self.worn = false;
                self.metrics.producers_recreated.increment(1);
                for topic in &mut self.topics {
                    topic.handle = None;
                    topic.partitions.iter_mut().for_each(|queue| queue.stall.renewed());
                }
            }
            Err(error) => tracing::error!(%error, "no new producer"),
        }
    }

    pub(super) fn expire(&mut self) {
        self.bury_unplaced();
        for state in &mut self.topics {
            let (hold, failure) = (state.hold, state.shared.failure());
            // Before the reply's own deadline, so that the reply says why.
            let patience = if failure == Failure::TimedOut { hold } else { hold - hold / 4 };
            let mut settled = 0;
            let failed = &mut self.failed;
            for queue in &mut state.partitions {
                while let Some(batch) = queue.expire(self.now, hold) {
                    settled += batch.len();
                    self.factory.budget.give_back(batch.cost());
                    failed.extend(batch.tickets().map(|ticket| (ticket, Failure::TimedOut)));
                }
            }
            state.unplaced.retain(|waiting| {
                let Some(ticket) = waiting.ticket else { return true };
                let stays = self.now.duration_since(waiting.born) < patience;
                if !stays {
                    settled += 1;
                    self.factory.budget.give_back(waiting.record().cost());
                    failed.push((ticket, failure));
                }
                stays
            });
            self.unsettled -= settled;
            self.metrics.failed.increment(settled as u64);
            state.shared.counts.failed.fetch_add(settled as u64, Ordering::Relaxed);
            state.shared.counts.unsettled.fetch_sub(settled.cast_signed(), Ordering::Relaxed);
        }
    }
}

/// The reported records of a batch in two halves, each to go alone.
fn split(batch: &Batch, reports: impl ExactSizeIterator<Item = Report>) -> Vec<Batch> {
    let half = reports.len().div_ceil(2);
    let mut halves: Vec<Batch> = Vec::new();
    for (place, report) in reports.enumerate() {
        if place % half == 0 {
            halves.push(Batch::new(batch.place, batch.born));
        }
        if let (Some(last), Some((key, record))) = (halves.last_mut(), batch.record(report.entry)) {
            last.push(key, record, batch.ticket(report.entry));
        }
    }
    halves.iter_mut().for_each(|half| half.alone = true);
    halves
}
