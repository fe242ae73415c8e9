//! The thread's turn: reports, then what may be read, then what may be sent, then a wait for any of these.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::error::KafkaError;
use slab::Slab;

use super::LAST_REPORTS;
use super::lane::{LATE, ReplayLane, cost};
use super::letters::LetterBox;
use super::pace::Pace;
use super::part::Part;
use super::progress::Progress;
use super::report::BacklogReport;
use super::routes::{ReplayRoutes, Routes};
use super::throttle::FIRST;
use super::times::Times;
use super::window::Window;
use crate::delivery::batch::Batch;
use crate::delivery::client::RecordLife;
use crate::delivery::failover::{FailoverShared, unix_millis};
use crate::delivery::metrics::ReplayMetrics;
use crate::delivery::producer::{Producer, Report};
use crate::delivery::spare::Spare;
use crate::delivery::stall::{self, STALLED};
use crate::delivery::topics::Directory;
use crate::record::headers::{Headers, HeadersBuf};
use crate::record::partition::PartitionChoice;
use crate::record::restamp::restamp;
use crate::record::sink::{Failure, Record};
use crate::spool::{self, Lane, ReplayFrame};

/// The longest wait with nothing to do.
const IDLE: Duration = Duration::from_millis(250);
/// The longest wait while lanes pause or something is late.
const WATCHFUL: Duration = Duration::from_millis(50);
/// The most bytes that are read at once.
const READ: usize = 4 << 20;
/// A record that is about as young goes with the time of its sending, which is the cheaper way to send it.
const FRESH_MS: u64 = 1_000;
/// A record that is further ahead goes without its own time at once: Kafka takes an hour (`message.timestamp.after.max.ms`)
/// unless it is told otherwise.
const AHEAD_MS: i64 = 59 * 60 * 1_000;
/// Between two tries to read a spool that cannot be read. A place is passed over after some tries, and what hinders them may
/// go away: no descriptors, a disk that is out of reach for a moment.
const READ_AGAIN: Duration = Duration::from_secs(1);
/// Between two reports.
const TELL: Duration = Duration::from_millis(250);

/// What the thread is made of.
pub(super) struct Parts {
    pub(super) config: ClientConfig,
    pub(super) stalls_after: Duration,
    pub(super) directory: Directory,
    pub(super) shared: FailoverShared,
    pub(super) routes: ReplayRoutes,
    pub(super) rate: Option<u64>,
    pub(super) wake: Arc<OwnedFd>,
    pub(super) stop: Arc<AtomicBool>,
    pub(super) told: Arc<Mutex<BacklogReport>>,
}

/// The thread's state.
pub(super) struct Replayer {
    pub(super) parts: Parts,
    pub(super) replay: spool::Replay,
    pub(super) producer: Producer,
    pub(super) lanes: HashMap<usize, ReplayLane>,
    /// Lanes with something in memory, each once.
    pub(super) active: Vec<usize>,
    /// What batches hold, by the second half of their place; the first is the lane.
    pub(super) read: Slab<Part>,
    frames: Vec<ReplayFrame>,
    /// The routes by which it goes now, and topics for dead letters.
    pub(super) routes: Routes,
    pub(super) letters: Vec<LetterBox>,
    /// Headers of a record that goes without its own time.
    restamped: HeadersBuf,
    pub(super) window: Window,
    pub(super) pace: Pace,
    pub(super) progress: Progress,
    pub(super) spare: Spare,
    pub(super) wrong: Vec<Report>,
    pub(super) in_flight: usize,
    /// A fatal error was met: nothing goes until all is reported and the producer is made anew.
    pub(super) broken: bool,
    pub(super) now: Instant,
    told_at: Option<Instant>,
    /// The spool could not be read at this time.
    unread_at: Option<Instant>,
    pub(super) metrics: ReplayMetrics,
}

// === impl Replayer ===

impl Replayer {
    pub(super) fn new(parts: Parts, replay: spool::Replay, now: Instant) -> Result<Self, KafkaError> {
        let producer = Producer::new(&parts.config, parts.directory.health().clone(), parts.wake.clone())?;
        Ok(Self {
            pace: Pace::new(parts.rate, now),
            routes: parts.routes.now(),
            letters: Vec::new(),
            restamped: HeadersBuf::default(),
            parts,
            replay,
            producer,
            lanes: HashMap::new(),
            active: Vec::new(),
            read: Slab::new(),
            frames: Vec::new(),
            window: Window::default(),
            progress: Progress::default(),
            spare: Spare::default(),
            wrong: Vec::new(),
            in_flight: 0,
            broken: false,
            now,
            told_at: None,
            unread_at: None,
            metrics: ReplayMetrics::register(),
        })
    }

    /// Works until told to stop.
    pub(super) fn run(mut self) {
        let mut stopping: Option<Instant> = None;
        loop {
            self.now = Instant::now();
            self.collect();
            if self.parts.stop.load(Ordering::Acquire) {
                let since = *stopping.get_or_insert(self.now);
                if self.in_flight == 0 || self.now.duration_since(since) >= LAST_REPORTS {
                    return;
                }
            } else if !self.broken && self.is_fit() {
                self.follow_routes();
                self.watch();
                self.load();
                self.send();
                self.send_letters();
            }
            self.tell();
            self.wait();
        }
    }

    /// False for a moment after the producer was short of descriptors: it is made anew once nothing is on its way.
    fn is_fit(&mut self) -> bool {
        if !self.producer.is_worn(self.now) {
            return true;
        }
        if self.producer.may_be_renewed() {
            self.renew("after it was short of descriptors");
        }
        false
    }

    /// After a reload, what lanes paused for may be over.
    fn follow_routes(&mut self) {
        let routes = self.parts.routes.now();
        if routes.is_same(&self.routes) {
            return;
        }
        self.routes = routes;
        for lane in self.lanes.values_mut() {
            lane.throttle.resume();
            Self::tell_routes(lane, &self.routes);
        }
    }

    fn tell_routes(lane: &mut ReplayLane, routes: &Routes) {
        lane.takes_letters = routes.takes_letters(&lane.topic.name);
        if let Some(create) = routes.create(&lane.topic.name) {
            lane.topic.create_with(create);
        }
    }

    /// Lanes whose groups are not answered no longer hold others back; what librdkafka does not work at is found.
    fn watch(&mut self) {
        for index in &self.active {
            let Some(lane) = self.lanes.get_mut(index) else { continue };
            match lane.look_for_stall(self.now, self.parts.stalls_after) {
                stall::Verdict::Works => {}
                stall::Verdict::Ask => self.parts.directory.look_again(&lane.topic),
                stall::Verdict::Stalled => {
                    tracing::warn!(lane = %lane.lane, "replay's librdkafka {STALLED}");
                    self.broken = true;
                }
            }
            let late_since = lane.sent.filter(|sent| lane.in_flight > 0 && self.now.duration_since(*sent) >= LATE);
            if let Some(since) = late_since
                && !lane.is_late
            {
                lane.is_late = true;
                lane.throttle.late();
                lane.desk.set_lag(None);
                self.window.set_late(lane.in_flight_cost);
                self.parts.shared.breaker.unanswered(since);
                Self::forget_waiting(lane, &mut self.window, &mut self.read, &mut self.spare);
            }
        }
    }

    /// Drops what was read of a lane and not sent; it is read again once nothing of the lane is on its way.
    pub(super) fn forget_waiting(lane: &mut ReplayLane, window: &mut Window, read: &mut Slab<Part>, spare: &mut Spare) {
        window.give_back(lane.waiting_cost, false);
        lane.rereads = true;
        for batch in lane.drop_waiting() {
            read.try_remove(batch.place.1);
            spare.keep(batch);
        }
    }

    // --- reading

    fn load(&mut self) {
        if self.unread_at.is_some_and(|at| self.now.duration_since(at) < READ_AGAIN) {
            return;
        }
        self.unread_at = None;
        let away = self.parts.shared.breaker.is_open();
        self.replay.probe(away);
        if away
            && (self.active.iter().any(|lane| self.is_ready(*lane)) || !self.parts.shared.breaker.may_probe(self.now))
        {
            // What was read already is what asks whether Kafka is there.
            return;
        }
        loop {
            let most = self.pace.allows(self.now).min(self.window.room()).min(if away { FIRST } else { READ });
            if most == 0 {
                return;
            }
            let Self { parts, replay, lanes, frames, routes, now, unread_at, .. } = self;
            let mut chosen = None;
            let mut runnable = |lane: &Lane| {
                let known = lanes.entry(lane.index()).or_insert_with(|| Self::meet(parts, routes, lane));
                let may = known.may_read(*now) && Window::has_room_for_lane(known.held());
                // While Kafka is away one lane asks.
                may && (!away || *chosen.get_or_insert(lane.index()) == lane.index())
            };
            if let Err(error) = replay.next(&mut runnable, frames, most) {
                tracing::error!(%error, "the spool cannot be read; it is tried again");
                *unread_at = Some(*now);
            }
            if self.frames.is_empty() {
                return;
            }
            for frame in std::mem::take(&mut self.frames) {
                self.take(&frame);
                self.replay.recycle(frame);
            }
            if away || self.unread_at.is_some() {
                return;
            }
        }
    }

    fn meet(parts: &Parts, routes: &Routes, lane: &Lane) -> ReplayLane {
        let desk = parts.shared.lanes.desk(lane.topic(), lane.partition());
        // Nobody else may have asked for the topic yet, where the backlog is an earlier process's.
        let topic = parts.directory.topic(lane.topic(), routes.create(lane.topic()));
        let mut lane = ReplayLane::new(desk, topic);
        Self::tell_routes(&mut lane, routes);
        lane
    }

    /// Cuts a frame into batches: of one partition, and no larger than the lane's next group may be.
    fn take(&mut self, frame: &ReplayFrame) {
        let index = frame.lane().index();
        let Some(lane) = self.lanes.get_mut(&index) else { return };
        let may_be_twice = frame.may_be_twice();
        let now_ms = unix_millis();
        let limit = lane.batch_limit();
        let mut open: Vec<(i32, Batch, Times)> = Vec::new();
        let mut size = 0;
        lane.move_on();
        lane.is_unplaced |= lane.is_closed();
        for record in frame.records() {
            let spooled = record.record;
            size += spooled.value.len() + spooled.headers.len();
            let nowhere = lane.is_unplaced.then_some(0);
            let chosen = || lane.choose(spooled.choice).or(nowhere);
            let Some(partition) = lane.partition().or_else(chosen) else { continue };
            let key = if let PartitionChoice::Key(key) = spooled.choice { Some(key) } else { None };
            let mut sent = Record {
                value: spooled.value,
                headers: Headers::from_bytes(spooled.headers),
                timestamp_ms: (spooled.timestamp_ms.abs_diff(now_ms) > FRESH_MS).then_some(spooled.timestamp_ms),
            };
            let place = (frame.id(), record.index);
            if spooled.timestamp_ms.saturating_sub(now_ms) > AHEAD_MS {
                lane.restamped.insert(place);
            }
            if lane.restamped.contains(&place) {
                restamp(&mut self.restamped, sent.headers, spooled.timestamp_ms);
                sent = Record { headers: self.restamped.as_headers(), timestamp_ms: None, ..sent };
            }
            let times = Times::of(sent.timestamp_ms);
            let joined = |(_, batch, before): &(i32, Batch, Times)| {
                before.with(times).filter(|_| batch.size() + Batch::size_of(key, &sent) <= limit)
            };
            // The last of the partition: order is kept.
            let last = open.iter().rposition(|(other, ..)| *other == partition);
            let (at, times) = match last.and_then(|at| Some((at, joined(open.get(at)?)?))) {
                Some(joined) => joined,
                None => {
                    let (frame, places) = (frame.id(), Vec::new());
                    let part = Part { frame, places, newest_ms: 0, may_be_twice, letters: None };
                    open.push((partition, self.spare.batch((index, self.read.insert(part)), self.now), times));
                    (open.len() - 1, times)
                }
            };
            let Some((_, batch, together)) = open.get_mut(at) else { continue };
            *together = times;
            batch.push(key, sent, None);
            if let Some(part) = self.read.get_mut(batch.place.1) {
                part.places.push(record.index);
                part.newest_ms = spooled.timestamp_ms;
            }
        }
        self.pace.took(size);
        for (partition, batch, times) in open {
            self.window.take(cost(&batch));
            lane.push(partition, batch, times);
        }
        if !std::mem::replace(&mut lane.is_active, true) {
            self.active.push(index);
        }
    }

    // --- sending

    fn is_ready(&self, lane: usize) -> bool {
        self.lanes.get(&lane).is_some_and(|lane| lane.may_send(self.now))
    }

    fn send(&mut self) {
        // Brokers that do not answer are asked with little, as long as there is room for that.
        let late: Vec<i32> = self
            .active
            .iter()
            .filter_map(|lane| self.lanes.get(lane))
            .filter(|lane| lane.is_late)
            .map(ReplayLane::leader)
            .collect();
        for at in 0..self.active.len() {
            let Some(&index) = self.active.get(at) else { return };
            if !self.is_ready(index) {
                continue;
            }
            let Some(lane) = self.lanes.get_mut(&index) else { continue };
            if lane.is_unplaced {
                let group = lane.take_group(lane.throttle.allowance(), self.now);
                self.in_flight += group.len();
                group.into_iter().for_each(|(_, batch)| self.settle_closed(batch));
                continue;
            }
            let is_late = late.contains(&lane.leader());
            if is_late && !self.window.has_room_for_late() {
                continue;
            }
            let away = self.parts.shared.breaker.is_open();
            if away && self.in_flight > 0 && !self.parts.shared.breaker.may_probe(self.now) {
                continue;
            }
            let limit = if is_late || away { FIRST } else { lane.throttle.allowance() };
            let handle = match lane.handle {
                Some(handle) => handle,
                None => match self.producer.topic(lane.topic.name.as_str(), RecordLife::Endless.timeout()) {
                    Ok(handle) => *lane.handle.insert(handle),
                    Err(error) => {
                        lane.topic.set_trouble(Failure::Refused, error.to_string());
                        continue;
                    }
                },
            };
            let group = lane.take_group(limit, self.now).into_iter();
            self.in_flight += group.len();
            let (read, replay, restarted) = (&mut self.read, &mut self.replay, &self.metrics.restarted);
            let group = group.inspect(|(_, batch)| {
                if let Some(part) = read.get_mut(batch.place.1) {
                    part.may_be_twice |= !replay.sending(part.frame);
                    part.count_twice(batch, restarted);
                }
            });
            let mut group = group.peekable();
            while let Some((partition, first)) = group.next() {
                let mut run = vec![first];
                while let Some((_, batch)) = group.next_if(|(other, _)| *other == partition) {
                    run.push(batch);
                }
                self.producer.produce(handle, partition, run.into_iter());
            }
        }
    }

    // --- time

    fn tell(&mut self) {
        if self.told_at.is_some_and(|at| self.now.duration_since(at) < TELL) {
            return;
        }
        self.told_at = Some(self.now);
        self.report();
    }

    fn wait(&mut self) {
        let paced = self.pace.allows(self.now) == 0;
        let pauses = self.lanes.values().any(|lane| lane.throttle.paused_until().is_some());
        // What is new in the spool would wake at once, and is not read now.
        if self.in_flight > 0 || self.unread_at.is_some() {
            self.producer.wait(WATCHFUL);
        } else {
            self.replay.wait(if paced || pauses || self.has_letters() { WATCHFUL } else { IDLE });
        }
    }
}
