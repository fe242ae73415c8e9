//! What became of what was sent, and what the thread tells of it.

use std::time::{Duration, Instant};

use rdkafka::error::RDKafkaErrorCode;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use super::lane::cost;
use super::letters::Grave;
use super::part::Part;
use super::report::{BacklogReport, PausedLane};
use super::throttle::Setback;
use super::turn::Replayer;
use crate::delivery::batch::Batch;
use crate::delivery::failover::unix_millis;
use crate::delivery::failure::{Verdict, judge};
use crate::delivery::health::Health;
use crate::delivery::producer::{Producer, Report};
use crate::record::dead_letter::Reason;
use crate::record::sink::Failure;

// === impl Replayer ===

impl Replayer {
    /// Takes the reports that are there.
    pub(super) fn collect(&mut self) {
        let mut done: Vec<usize> = Vec::new();
        let wrong = &mut self.wrong;
        self.producer.poll(|report, _| {
            if done.last() != Some(&report.batch) {
                done.push(report.batch);
            }
            if report.error.is_some() {
                wrong.push(report);
            }
        });
        self.metrics.resent.increment(self.producer.take_resent());
        for slot in done {
            if let Some(batch) = self.producer.release(slot) {
                self.settle(slot, batch);
            }
        }
        self.broken |= self.producer.is_fatal();
        if self.broken {
            self.mend();
        }
        let lanes = &mut self.lanes;
        self.active.retain(|index| {
            lanes.get_mut(index).is_some_and(|lane| {
                lane.is_active = !lane.is_idle();
                lane.is_active
            })
        });
    }

    /// A batch is back, every record of it reported.
    fn settle(&mut self, slot: usize, batch: Batch) {
        let mut wrong: Vec<Report> = self.wrong.extract_if(.., |report| report.batch == slot).collect();
        wrong.sort_unstable_by_key(|report| report.entry);
        self.settle_with(batch, wrong);
    }

    /// A batch cannot be sent: Kafka does not let us write its topic, and does not even tell its partitions.
    pub(super) fn settle_closed(&mut self, batch: Batch) {
        let error = Some(RDKafkaErrorCode::TopicAuthorizationFailed);
        let report = |entry| Report { batch: usize::MAX, entry, error, possibly_written: false };
        let wrong = (0..batch.len()).map(report).collect();
        self.settle_with(batch, wrong);
    }

    fn settle_with(&mut self, batch: Batch, wrong: Vec<Report>) {
        let (index, number) = batch.place;
        self.in_flight -= 1;
        let Some(part) = self.read.try_remove(number) else { return };
        let Some(lane) = self.lanes.get_mut(&index) else { return };
        lane.in_flight -= 1;
        lane.in_flight_cost -= cost(&batch);
        self.window.give_back(cost(&batch), lane.is_late);
        let failed: Vec<usize> = wrong.iter().map(|report| report.entry).collect();
        if wrong.len() < batch.len() || wrong.iter().any(Report::is_answer) {
            lane.stall.answered();
        }
        self.note_delivered(&part, &batch, &failed);
        let possibly = wrong.iter().filter(|report| report.possibly_written).count();
        self.metrics.doubled.increment(possibly as u64);
        self.broken |= wrong.iter().any(|report| Health::is_fatal(report.error));
        match part.letters {
            Some(to) => self.settle_letters(to, &part, &batch, &wrong),
            None => self.settle_failed(&part, &batch, &wrong),
        }
        self.end_group(index);
        self.spare.keep(batch);
    }

    /// What was delivered of a batch is done.
    fn note_delivered(&mut self, part: &Part, batch: &Batch, failed: &[usize]) {
        let delivered = batch.len() - failed.len();
        let topic = part.letters.and_then(|to| self.letter_topic(to));
        let Some(lane) = self.lanes.get_mut(&batch.place.0).filter(|_| delivered > 0) else { return };
        for run in runs(&part.places, failed) {
            if !lane.restamped.is_empty() {
                let sent = run.clone().filter(|place| lane.restamped.remove(&(part.frame, *place))).count();
                self.metrics.restamped.increment(sent as u64);
            }
            self.replay.done(&lane.lane, part.frame, run);
        }
        let counts = &topic.as_ref().unwrap_or(&lane.topic).counts;
        counts.delivered.fetch_add(delivered as u64, Ordering::Relaxed);
        self.metrics.delivered.increment(delivered as u64);
        self.metrics.replayed.increment(delivered as u64);
        if topic.is_none() {
            lane.denied = None;
            if lane.is_moved() {
                self.metrics.moved.increment(delivered as u64);
            }
        }
        self.parts.shared.breaker.answered(self.now);
        let age = u64::try_from(unix_millis().saturating_sub(part.newest_ms)).unwrap_or_default();
        lane.desk.set_lag(Some(Duration::from_millis(age)));
        if topic.is_some() || lane.takes_letters {
            self.count_letters(batch, failed);
        }
    }

    /// Looks at what was not delivered of a batch: it becomes a dead letter, is amended, or sets its lane back.
    fn settle_failed(&mut self, part: &Part, batch: &Batch, wrong: &[Report]) {
        let index = batch.place.0;
        let (mut graves, mut is_missing) = (Vec::new(), false);
        for report in wrong {
            let (Some(code), Some(lane)) = (report.error, self.lanes.get_mut(&index)) else { continue };
            let alone = batch.len() == 1 && lane.group == 1;
            let (mut setback, failure) = setback(code, batch.size());
            if let Some(failure) = failure {
                // An answer of Kafka's, though not the one that was hoped for.
                self.parts.shared.breaker.answered(self.now);
                lane.trouble(failure, &code.to_string());
            }
            match (code, failure) {
                (RDKafkaErrorCode::InvalidTimestamp | RDKafkaErrorCode::InvalidRecord, _) => {
                    // With several such records in a batch, Kafka's client does not say what is wrong with them.
                    let place = part.places.get(report.entry).copied();
                    if place.is_some_and(|place| lane.restamped.insert((part.frame, place))) {
                        setback = Setback::Amended;
                    }
                }
                (_, Some(Failure::UnknownTopic)) => is_missing = true,
                (_, Some(failure @ (Failure::TooLarge | Failure::NotAuthorized))) => {
                    let reason = match failure {
                        Failure::TooLarge if !alone => None,
                        Failure::TooLarge => Some(Reason::TooLarge),
                        _ => Some(Reason::NotAuthorized),
                    };
                    let record = batch.record(report.entry).map(|(_, record)| record);
                    match reason.zip(record).map(|(reason, record)| (self.grave(index, &record, reason), reason)) {
                        Some((Grave::Box(to), reason)) => {
                            graves.push((report.entry, to, reason));
                            continue;
                        }
                        Some((Grave::Waits, _)) => setback = Setback::Passing,
                        Some((Grave::None(why), _)) => {
                            if let Some(lane) = self.lanes.get_mut(&index) {
                                lane.trouble(failure, why);
                            }
                            setback = Setback::Parked;
                        }
                        None => {}
                    }
                }
                _ => {}
            }
            if let Some(lane) = self.lanes.get_mut(&index) {
                lane.setback = lane.setback.max(Some(setback));
            }
        }
        if is_missing {
            self.look_for_partition(index);
        }
        if !graves.is_empty() {
            self.bury(part, batch, &graves);
        }
    }

    /// Kafka does not know where a lane's records should go.
    fn look_for_partition(&mut self, index: usize) {
        let Some(lane) = self.lanes.get_mut(&index) else { return };
        self.parts.directory.look_again(&lane.topic);
        if lane.miss_partition(self.now) {
            tracing::warn!(
                lane = %lane.lane, records = lane.lane.backlog(),
                "the topic has no such partition any more: what the spool holds for it goes to others"
            );
            lane.setback = Some(Setback::Amended);
        }
    }

    /// Once nothing of a lane's group is on its way any more: it goes on, or is read again from what is not done.
    fn end_group(&mut self, index: usize) {
        let Some(lane) = self.lanes.get_mut(&index).filter(|lane| lane.in_flight == 0) else { return };
        lane.find_partition();
        lane.is_unplaced &= !lane.is_idle();
        lane.sent = None;
        lane.is_late = false;
        match lane.setback.take() {
            None => {
                lane.throttle.delivered();
                lane.why.clear();
            }
            Some(setback) => {
                lane.throttle.failed(setback, self.now);
                lane.rereads = true;
            }
        }
        if lane.rereads {
            lane.desk.set_lag(None);
            Self::forget_waiting(lane, &mut self.window, &mut self.read, &mut self.spare);
            lane.rereads = false;
            self.replay.stop(&lane.lane);
        }
    }

    /// After a fatal error, or a stall: once everything is reported, a new producer takes the old one's place, and what was
    /// not delivered is read again.
    fn mend(&mut self) {
        if self.in_flight > 0 {
            return self.producer.purge();
        }
        self.renew("after a fatal error or a stall");
    }

    /// A new producer takes the place of one that has nothing on its way.
    pub(super) fn renew(&mut self, why: &str) {
        let health = self.parts.directory.health().clone();
        match Producer::new(&self.parts.config, health, self.parts.wake.clone()) {
            Ok(producer) => {
                tracing::warn!("replay's producer was made anew {why}");
                self.producer = producer;
                self.broken = false;
                for lane in self.lanes.values_mut() {
                    lane.handle = None;
                    lane.stall.renewed();
                }
                self.letters.iter_mut().for_each(|letters| letters.handle = None);
            }
            Err(error) => tracing::error!(%error, "no new producer for replay"),
        }
    }

    /// Tells the metrics and the admin page how far it is.
    pub(super) fn report(&mut self) {
        let shared = &self.parts.shared;
        let spool = shared.lanes.spool();
        let report = spool.report();
        self.progress.sample(self.now, report.bytes_left);
        let oldest = report.oldest_ms.map(|oldest| unix_millis().saturating_sub(oldest).max(0));
        let told = BacklogReport {
            records_left: report.records_left.max(shared.lanes.backlog()),
            bytes_left: report.bytes_left,
            #[expect(clippy::cast_precision_loss, reason = "an age in milliseconds is far below 2^52")]
            oldest_age_seconds: oldest.unwrap_or_default() as f64 / 1000.0,
            time_left_seconds: self.progress.time_left(self.now).map(|time| time.as_secs_f64()),
            disk_bytes: spool.bytes(),
            max_size: report.max_bytes,
            writable: spool.is_writable(),
            kafka_away: shared.breaker.is_open(),
            paused: self.paused(self.now),
        };
        self.metrics.tell(&told);
        *self.parts.told.lock().unwrap_or_else(PoisonError::into_inner) = told;
    }

    fn paused(&self, now: Instant) -> Vec<PausedLane> {
        let paused = self.lanes.values().filter_map(|lane| {
            let until = lane.throttle.paused_until().filter(|until| *until > now)?;
            Some(PausedLane {
                topic: lane.topic.name.to_string(),
                partition: lane.lane.partition(),
                records: lane.lane.backlog(),
                why: lane.why.clone(),
                retry_in_seconds: until.duration_since(now).as_secs_f64(),
            })
        });
        paused.take(PAUSED_SHOWN).collect()
    }
}

/// The most lanes that are listed.
const PAUSED_SHOWN: usize = 100;

/// What an error means for its lane, and what is told of it where Kafka itself said it.
fn setback(code: RDKafkaErrorCode, size: usize) -> (Setback, Option<Failure>) {
    // Nothing is wrong with it; what is wrong with another has its own report.
    if matches!(code, RDKafkaErrorCode::InvalidDifferentRecord | RDKafkaErrorCode::PurgeQueue) {
        return (Setback::Amended, None);
    }
    match judge(code) {
        Verdict::Again => (Setback::Passing, None),
        Verdict::Fail { failure: Failure::TooLarge, .. } => (Setback::TooLarge(size), Some(Failure::TooLarge)),
        Verdict::Fail { failure: Failure::NotAuthorized, .. } => (Setback::Parked, Some(Failure::NotAuthorized)),
        Verdict::Fail { failure: Failure::TimedOut, .. } => (Setback::Passing, None),
        Verdict::Fail { failure, .. } => (Setback::Passing, Some(failure)),
    }
}

/// The places in a frame of a batch's records that did not fail, as ranges.
fn runs(places: &[u32], failed: &[usize]) -> Vec<std::ops::Range<u32>> {
    let mut runs: Vec<std::ops::Range<u32>> = Vec::new();
    for (entry, &place) in places.iter().enumerate() {
        if !failed.is_empty() && failed.contains(&entry) {
            continue;
        }
        match runs.last_mut() {
            Some(run) if run.end == place => run.end += 1,
            _ => runs.push(place..place + 1),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_did_not_fail_is_done() {
        assert_eq!(runs(&[0, 1, 2, 5, 6], &[]), [0..3, 5..7]);
        assert_eq!(runs(&[0, 1, 2, 5, 6], &[1, 4]), [0..1, 2..3, 5..6]);
        assert_eq!(runs(&[3], &[0]), []);
    }

    #[test]
    fn a_topic_that_may_not_be_written_is_parked_and_a_time_out_is_no_answer() {
        use RDKafkaErrorCode as Code;
        assert_eq!(setback(Code::TopicAuthorizationFailed, 7), (Setback::Parked, Some(Failure::NotAuthorized)));
        assert_eq!(setback(Code::MessageSizeTooLarge, 7), (Setback::TooLarge(7), Some(Failure::TooLarge)));
        assert_eq!(setback(Code::MessageTimedOut, 7), (Setback::Passing, None));
        assert_eq!(setback(Code::PurgeInflight, 7), (Setback::Passing, None));
        assert_eq!(setback(Code::PurgeQueue, 7), (Setback::Amended, None));
    }
}
