//! The [`RecordSink`] over Kafka: one for each worker.

mod letters;
mod settle;
mod spooling;

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rdkafka::config::ClientConfig;
use rdkafka::error::KafkaError;
use rustix::event::{EventfdFlags, eventfd};

use super::batch::Batch;
use super::client::RecordLife;
use super::config::{KafkaConfig, Linger};
use super::failover::way::Way;
use super::failover::{Failover, FailoverShared};
use super::gate::{Gate, QUICK};
use super::metrics::DeliveryMetrics;
use super::producer::{Producer, Report};
use super::spare::Spare;
use super::topic_state::TopicState;
use super::topics::Directory;
use crate::base::budget::Budget;
use crate::record::config::{Acknowledge, CreateTopic};
use crate::record::partition::PartitionChoice;
use crate::record::route::Route;
use crate::record::sink::{Destination, Failure, Record, RecordSink, Ticket, TooManyTopics};
use crate::record::topic::TopicName;

/// The most bytes of one partition's group.
const GROUP_BYTES: usize = 8 << 20;
/// Of a destination, that its records are promised the spool.
const TO_SPOOL: usize = 1 << (usize::BITS - 1);
/// The most topics of one process.
const MAX_TOPICS: usize = 10_000;
/// Between looks for what has waited too long, and for leaders that moved.
const CHORES: Duration = Duration::from_millis(100);

/// Makes one sink for each worker, on that worker's thread: a producer is not shared.
#[derive(Clone)]
pub struct KafkaSinkFactory {
    config: ClientConfig,
    stalls_after: Duration,
    adaptive: bool,
    directory: Directory,
    budget: Budget,
    spool: Option<FailoverShared>,
    /// Bytes of the budget that are at librdkafka, all workers together.
    at_kafka: Arc<AtomicUsize>,
}

/// Records of one worker on their way to Kafka.
pub struct KafkaSink {
    factory: KafkaSinkFactory,
    producer: Producer,
    wake: Arc<OwnedFd>,
    topics: Vec<TopicState>,
    by_name: HashMap<TopicName, usize>,
    gates: Vec<Gate>,
    /// Topics whose partitions are not known yet, and those with records not counted yet.
    unknown: Vec<usize>,
    uncounted: Vec<usize>,
    /// Partitions where something waits, each once.
    dirty: Vec<(usize, usize)>,
    spare: Spare,
    /// The spool, where there is one, and the partitions whose way may change, each once.
    failover: Option<Failover>,
    watched: Vec<(usize, usize)>,
    unsettled: usize,
    /// Batches at librdkafka.
    in_flight: usize,
    /// A fatal error was met: nothing goes until all is reported and the producer is made anew.
    broken: bool,
    /// It was short of descriptors: nothing new goes for a moment, so that the producer can be made anew.
    worn: bool,
    now: Instant,
    chores_at: Instant,
    /// Failures found between reports.
    failed: Vec<(Ticket, Failure)>,
    /// Reports of errors, until the rest of their batch is reported.
    wrong: Vec<Report>,
    metrics: DeliveryMetrics,
}

// === impl KafkaSinkFactory ===

impl KafkaSinkFactory {
    /// Prepares sinks. `record_size` is the largest record that a route may allow, in bytes.
    pub fn new(config: &KafkaConfig, record_size: usize, directory: Directory, budget: Budget) -> Self {
        let adaptive = config.linger == Linger::Adaptive;
        let stalls_after = config.stalls_after();
        let at_kafka = Arc::new(AtomicUsize::new(0));
        Self { config: config.producer(record_size), stalls_after, adaptive, directory, budget, spool: None, at_kafka }
    }

    /// With a spool: what Kafka does not take in time goes there.
    pub fn with_spool(self, spool: FailoverShared) -> Self {
        Self { spool: Some(spool), ..self }
    }

    /// Makes a sink for the calling thread.
    ///
    /// # Errors
    /// librdkafka does not take the configuration, or a descriptor or thread cannot be had.
    pub fn build(&self) -> Result<KafkaSink, KafkaError> {
        let no_eventfd = |error| KafkaError::ClientCreation(format!("no eventfd: {error}"));
        let wake = Arc::new(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).map_err(no_eventfd)?);
        self.directory.wake(&wake);
        let producer = Producer::new(&self.config, self.directory.health().clone(), wake.clone())?;
        let now = Instant::now();
        let failover = self.spool.clone().map(|spool| Failover::new(spool, wake.clone(), now));
        Ok(KafkaSink {
            factory: self.clone(),
            producer,
            wake,
            topics: Vec::new(),
            by_name: HashMap::new(),
            gates: Vec::new(),
            unknown: Vec::new(),
            uncounted: Vec::new(),
            dirty: Vec::new(),
            spare: Spare::default(),
            failover,
            watched: Vec::new(),
            unsettled: 0,
            in_flight: 0,
            broken: false,
            worn: false,
            now,
            chores_at: now,
            failed: Vec::new(),
            wrong: Vec::new(),
            metrics: DeliveryMetrics::register(),
        })
    }

    /// Bytes that may still go to librdkafka where there is a spool: half of the budget at most, so that what is stuck
    /// there leaves the other half for the way through the spool.
    fn room_at_kafka(&self) -> usize {
        (self.budget.limit() / 2).saturating_sub(self.at_kafka.load(Ordering::Relaxed))
    }
}

// === impl KafkaSink ===

impl KafkaSink {
    fn send(&mut self, topic: usize, partition: usize) {
        let Some(state) = self.topics.get_mut(topic) else { return };
        let handle = match state.handle {
            Some(handle) => handle,
            None => {
                let ends = !state.keeps && self.failover.is_none();
                let life = if ends { RecordLife::Reply(state.hold) } else { RecordLife::Endless };
                match self.producer.topic(state.shared.name.as_str(), life.timeout()) {
                    Ok(handle) => *state.handle.insert(handle),
                    Err(error) => return state.shared.set_trouble(Failure::Refused, error.to_string()),
                }
            }
        };
        let Some(queue) = state.partitions.get_mut(partition) else { return };
        let limit = if self.failover.is_some() { GROUP_BYTES.min(self.factory.room_at_kafka()) } else { GROUP_BYTES };
        let group = queue.take_group(limit, self.now);
        let cost: usize = group.iter().map(Batch::cost).sum();
        self.factory.at_kafka.fetch_add(cost, Ordering::Relaxed);
        if let Some(gate) = self.gates.get_mut(queue.gate) {
            group.iter().for_each(|_| gate.sent(self.now));
        }
        self.in_flight += group.len();
        self.metrics.groups.increment(1);
        let mut size = 0;
        for batch in &group {
            size += batch.size();
            #[expect(clippy::cast_precision_loss, reason = "a batch has far fewer records than 2^52")]
            self.metrics.batch_records.record(batch.len() as f64);
        }
        state.sent(partition, size);
        // Kafka counts partitions in 32 bits, signed; ours come from it.
        let number = i32::try_from(partition).unwrap_or(i32::MAX);
        self.producer.produce(handle, number, group.into_iter());
    }

    /// Places the records of topics that became known.
    fn learn(&mut self, topic: usize) {
        let Some(state) = self.topics.get_mut(topic) else { return };
        if !state.learn(&mut self.gates) {
            return;
        }
        let unplaced = std::mem::take(&mut state.unplaced);
        self.meet_lanes(topic);
        for waiting in unplaced {
            self.put(topic, false, waiting.choice.borrow(), waiting.record(), waiting.ticket, waiting.born);
        }
    }

    fn learn_unknown(&mut self) {
        let mut unknown = std::mem::take(&mut self.unknown);
        unknown.retain(|&topic| {
            self.learn(topic);
            self.topics.get(topic).is_some_and(|state| state.partitions.is_empty())
        });
        self.unknown = unknown;
    }

    /// The number of a topic that `route` writes.
    fn number_of(
        &mut self,
        topic: &TopicName,
        route: &Route,
        create: Option<CreateTopic>,
    ) -> Result<usize, TooManyTopics> {
        let to = match self.by_name.get(topic) {
            Some(&to) => to,
            None if self.topics.len() >= MAX_TOPICS => return Err(TooManyTopics { limit: MAX_TOPICS }),
            None => {
                let shared = self.factory.directory.topic(topic, create);
                let to = self.topics.len();
                self.topics.push(TopicState::new(shared));
                self.by_name.insert(topic.clone(), to);
                self.metrics.topics.increment(1);
                self.unknown.push(to);
                self.meet_lanes(to);
                self.learn_unknown();
                to
            }
        };
        if let Some(state) = self.topics.get_mut(to) {
            state.serve(route);
        }
        Ok(to)
    }

    #[inline]
    fn put(
        &mut self,
        topic: usize,
        to_spool: bool,
        choice: PartitionChoice<'_>,
        record: Record<'_>,
        ticket: Option<Ticket>,
        born: Instant,
    ) {
        let Some(state) = self.topics.get_mut(topic) else { return };
        let Some(partition) = state.partition(choice) else {
            return self.put_unplaced(topic, to_spool, choice, record, ticket, born);
        };
        let aside = state.partitions.get(partition).is_some_and(|queue| queue.switch.way() == Way::Spool);
        if (aside || to_spool) && self.put_aside((topic, partition), to_spool, choice, &record, ticket, born) {
            return;
        }
        let Some(queue) = self.topics.get_mut(topic).and_then(|state| state.partitions.get_mut(partition)) else {
            return;
        };
        let key = if let PartitionChoice::Key(key) = choice { Some(key) } else { None };
        let place = (topic, partition);
        let spare = &mut self.spare;
        if queue.push(key, record, ticket, || spare.batch(place, born)) {
            self.dirty.push(place);
            self.watch(place);
        }
    }
}

impl RecordSink for KafkaSink {
    fn destination(&mut self, topic: &TopicName, route: &Arc<Route>) -> Result<Destination, TooManyTopics> {
        let to = self.number_of(topic, route, route.config.create_topic)?;
        self.note_letters(to, route)?;
        Ok(destination(to, route.config.acknowledge == Acknowledge::Spool))
    }

    fn dead_letters(&mut self, route: &Arc<Route>) -> Result<Option<Destination>, TooManyTopics> {
        let Some(topic) = &route.config.dead_letter_topic else { return Ok(None) };
        let create = route.config.create_topic.map(|create| CreateTopic { partitions: 1, ..create });
        let to = self.number_of(topic, route, create)?;
        if let Some(state) = self.topics.get_mut(to) {
            state.takes_letters = true;
        }
        Ok(Some(destination(to, route.config.acknowledge == Acknowledge::Spool)))
    }

    #[inline]
    fn append(&mut self, to: Destination, choice: PartitionChoice<'_>, record: Record<'_>, ticket: Option<Ticket>) {
        self.unsettled += 1;
        let (topic, to_spool) = topic_of(to);
        if let Some(state) = self.topics.get_mut(topic) {
            if state.taken == 0 {
                self.uncounted.push(topic);
            }
            state.taken += 1;
        }
        self.put(topic, to_spool, choice, record, ticket, self.now);
    }

    fn flush(&mut self, now: Instant) {
        self.now = now;
        for index in self.uncounted.drain(..) {
            if let Some(state) = self.topics.get_mut(index) {
                state.count_taken();
            }
        }
        self.look_before_sending();
        self.submit();
        if self.broken || self.worn {
            return;
        }
        let adaptive = self.factory.adaptive;
        self.gates.iter_mut().for_each(|gate| gate.look(now));
        let mut dirty = std::mem::take(&mut self.dirty);
        dirty.retain(|&(topic, partition)| {
            let queue = |sink: &Self| {
                let queue = sink.topics.get(topic)?.partitions.get(partition)?;
                let open = sink.gates.get(queue.gate).is_none_or(Gate::is_open);
                Some((queue.has_waiting(), if adaptive { open && queue.is_due(now) } else { queue.may_go(now) }))
            };
            match queue(self) {
                Some((true, true)) if self.may_send() => {
                    self.send(topic, partition);
                    queue(self).is_some_and(|(waiting, _)| waiting)
                }
                Some((waiting, _)) => waiting,
                None => false,
            }
        });
        dirty.append(&mut self.dirty);
        self.dirty = dirty;
    }

    fn can_flush(&self) -> bool {
        let can_send = !self.broken
            && !self.worn
            && self.dirty.iter().any(|&(topic, partition)| {
                let queue = self.topics.get(topic).and_then(|topic| topic.partitions.get(partition));
                queue.is_some_and(|queue| {
                    let open = self.gates.get(queue.gate).is_none_or(|gate| gate.would_open(self.now));
                    if self.factory.adaptive { open && queue.is_due(self.now) } else { queue.may_go(self.now) }
                })
            });
        (can_send && self.may_send()) || self.failover.as_ref().is_some_and(Failover::has_unsubmitted)
    }

    fn expects_soon(&self) -> bool {
        self.gates.iter().any(Gate::expects_soon)
    }

    fn wait(&mut self, time: Duration) {
        self.producer.wait(time);
        if time >= QUICK && !self.producer.has_met() {
            self.gates.iter_mut().for_each(Gate::give_up);
        }
    }

    fn outcomes(&mut self, now: Instant, each: &mut dyn FnMut(Ticket, Result<(), Failure>)) {
        self.now = now;
        for (ticket, failure) in self.failed.drain(..) {
            each(ticket, Err(failure));
        }
        let mut done: Vec<usize> = Vec::new();
        let wrong = &mut self.wrong;
        self.producer.poll(|report, ticket| {
            if done.last() != Some(&report.batch) {
                done.push(report.batch);
            }
            match report.error {
                Some(_) => wrong.push(report),
                None => {
                    if let Some(ticket) = ticket {
                        each(ticket, Ok(()));
                    }
                }
            }
        });
        self.metrics.resent.increment(self.producer.take_resent());
        for number in done {
            if let Some(batch) = self.producer.release(number) {
                self.settle(number, batch, each);
            }
        }
        self.collect_stored(each);
        self.broken |= self.producer.is_fatal();
        if self.broken {
            self.mend();
        }
        // The directory wakes with the same descriptor.
        if !self.unknown.is_empty() {
            self.learn_unknown();
        }
    }

    fn unsettled(&self) -> usize {
        self.unsettled
    }

    fn tick(&mut self, now: Instant) {
        self.now = now;
        self.look_around();
        if now.duration_since(self.chores_at) < CHORES {
            return;
        }
        self.chores_at = now;
        self.expire();
        for index in 0..self.topics.len() {
            if let Some(state) = self.topics.get_mut(index) {
                self.factory.directory.ask(&state.shared);
                state.leave_sick_partition(&self.gates, now);
            }
            self.learn(index);
        }
        self.worn = self.producer.is_worn(now);
        self.look_for_stall();
        if self.broken {
            self.mend();
        } else if self.worn && self.producer.may_be_renewed() {
            self.renew("after it was short of descriptors");
        }
    }

    fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(&mut SourceFd(&self.wake.as_fd().as_raw_fd()), token, Interest::READABLE)
    }
}

/// A topic's number and whether its records are promised the spool, in one.
fn destination(topic: usize, to_spool: bool) -> Destination {
    Destination(if to_spool { topic | TO_SPOOL } else { topic })
}

#[inline]
fn topic_of(to: Destination) -> (usize, bool) {
    (to.0 & !TO_SPOOL, to.0 & TO_SPOOL != 0)
}

impl Drop for KafkaSink {
    fn drop(&mut self) {
        // What is left was refused or never promised; the budget is others' as well.
        let left: usize = self.topics.iter().map(TopicState::cost_waiting).sum();
        self.factory.budget.give_back(left);
    }
}

#[cfg(test)]
mod tests;
