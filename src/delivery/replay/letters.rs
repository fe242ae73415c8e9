//! Dead letters out of the spool: records that were answered from disk and that their topic then does not take.
//!
//! What holds:
//! - The record stays in the spool until Kafka has confirmed its letter; then it is done, and its lane goes on. A letter on
//!   its way counts as one of its lane's group, so nothing of the lane is sent beside it.
//! - A letter that cannot be written costs its lane a pause, as any topic that is down would; after it the lane is read
//!   again from this record, which is offered to its own topic first, as that may take it by then.
//! - One batch is on its way to a topic of letters at a time, so that what the broker finds too large is that batch: it is
//!   sent again in halves, and cut where it is one letter.

use std::collections::VecDeque;
use std::sync::Arc;

use rdkafka::error::RDKafkaErrorCode;

use super::lane::ReplayLane;
use super::part::Part;
use super::routes::LettersTo;
use super::throttle::Setback;
use super::turn::Replayer;
use crate::delivery::batch::Batch;
use crate::delivery::client::RecordLife;
use crate::delivery::failure::{Verdict, judge};
use crate::delivery::letter::Shape;
use crate::delivery::producer::{Report, TopicHandle};
use crate::delivery::topics::Topic;
use crate::record::dead_letter::Reason;
use crate::record::partition::PartitionChoice;
use crate::record::sink::{Failure, RECORD_OVERHEAD, Record};

/// The most bytes of a batch of letters, unless one alone has more.
const BATCH: usize = 256 << 10;

const DOES_NOT_FIT: &str = "a dead letter does not fit its topic, however short it is cut";

/// A topic that takes dead letters, as replay writes it.
pub(super) struct LetterBox {
    topic: Arc<Topic>,
    pub(super) handle: Option<TopicHandle>,
    /// A letter of this size was too large for it, in bytes.
    too_large: usize,
    /// What goes next, each with its partition.
    waiting: VecDeque<(i32, Batch)>,
    in_flight: bool,
}

/// What becomes of a record that its topic does not take.
pub(super) enum Grave {
    /// It goes to this box.
    Box(usize),
    /// Its topic may yet be opened to us.
    Waits,
    /// It has nowhere to go, for this reason.
    None(&'static str),
}

// === impl LetterBox ===

impl LetterBox {
    fn new(topic: Arc<Topic>) -> Self {
        Self { topic, handle: None, too_large: usize::MAX, waiting: VecDeque::new(), in_flight: false }
    }

    /// The partition for a letter; nothing where the topic is not known. Letters have no order to keep.
    fn partition(&self, key: Option<&[u8]>) -> Option<i32> {
        let leaders = self.topic.leaders();
        let choice = key.map_or(PartitionChoice::Sticky, PartitionChoice::Key);
        let led = || leaders.iter().position(|leader| *leader >= 0).unwrap_or_default();
        let chosen = choice.among(u32::try_from(leaders.len()).ok()?).map_or_else(led, |partition| partition as usize);
        leaders.get(chosen).and_then(|_| i32::try_from(chosen).ok())
    }
}

// === impl Replayer ===

impl Replayer {
    /// What becomes of a record of a lane that its topic does not take.
    pub(super) fn grave(&mut self, index: usize, record: &Record<'_>, reason: Reason) -> Grave {
        let Some(lane) = self.lanes.get_mut(&index) else { return Grave::Waits };
        if Reason::of(record.headers).is_some() {
            // A letter itself: cut, it may fit.
            return match reason {
                Reason::TooLarge => Grave::Box(open(&mut self.letters, &lane.topic)),
                _ => Grave::None("the dead-letter topic may not be written"),
            };
        }
        let Some(origin) = record.headers.origin() else {
            return Grave::None("the topic does not take a record, whose route had no dead_letter_topic when it came");
        };
        let letters = self.routes.letters_of(origin.route).filter(|letters| letters.topic != lane.topic.name);
        let Some(LettersTo { topic, create, patience }) = letters else {
            return Grave::None("the topic does not take a record, whose route has no dead_letter_topic or is gone");
        };
        if reason == Reason::NotAuthorized {
            let since = *lane.denied.get_or_insert(self.now);
            if self.now.duration_since(since) < patience {
                return Grave::Waits;
            }
        }
        let topic = self.parts.directory.topic(&topic, create);
        if let Some(create) = create {
            topic.create_with(create);
        }
        Grave::Box(open(&mut self.letters, &topic))
    }

    /// Makes letters of records of a batch that is settled, for these boxes.
    pub(super) fn bury(&mut self, part: &Part, batch: &Batch, graves: &[(usize, usize, Reason)]) {
        let (index, now) = (batch.place.0, self.now);
        let Self { lanes, read, spare, letters, window, .. } = self;
        let Some(lane) = lanes.get_mut(&index) else { return };
        let mut shape = Shape::default();
        for &(entry, to, reason) in graves {
            let (Some((key, record)), Some(&place), Some(letter_box)) =
                (batch.record(entry), part.places.get(entry), letters.get_mut(to))
            else {
                continue;
            };
            let letter = match Reason::of(record.headers) {
                Some(_) => shape.shorter(&record),
                None => Some(shape.letter(&record, reason, lane.topic.name.as_str(), letter_box.too_large)),
            };
            let Some(letter) = letter else {
                lane.trouble(Failure::TooLarge, DOES_NOT_FIT);
                lane.setback = lane.setback.max(Some(Setback::Parked));
                continue;
            };
            let Some(partition) = letter_box.partition(key) else {
                lane.cannot_bury(&letter_box.topic);
                continue;
            };
            let size = Batch::size_of(key, &letter);
            let fits = |(other, last): &&mut (i32, Batch)| {
                let same = read.get(last.place.1).is_some_and(|other| other.frame == part.frame);
                *other == partition && last.place.0 == index && same && !last.alone && last.size() + size <= BATCH
            };
            let at = match letter_box.waiting.back_mut().filter(fits) {
                Some((_, last)) => {
                    last.push(key, letter, None);
                    last.place.1
                }
                None => {
                    let part = Part { places: Vec::new(), letters: Some(to), ..*part };
                    let at = read.insert(part);
                    let mut batch = spare.batch((index, at), now);
                    batch.push(key, letter, None);
                    letter_box.waiting.push_back((partition, batch));
                    lane.in_flight += 1;
                    at
                }
            };
            if let Some(part) = read.get_mut(at) {
                part.places.push(place);
            }
            lane.hold(size + RECORD_OVERHEAD, window);
        }
        lane.sent = Some(now);
    }

    /// A batch of letters is back; what was delivered of it is done. `part` says which box it was for.
    pub(super) fn settle_letters(&mut self, to: usize, part: &Part, batch: &Batch, wrong: &[Report]) {
        let index = batch.place.0;
        let Some(letter_box) = self.letters.get_mut(to) else { return };
        letter_box.in_flight = false;
        if wrong.is_empty() {
            return;
        }
        let Some(lane) = self.lanes.get_mut(&index) else { return };
        let too_large = |report: &Report| report.error == Some(RDKafkaErrorCode::MessageSizeTooLarge);
        if wrong.iter().all(too_large) {
            let mut shape = Shape::default();
            let half = wrong.len().div_ceil(2);
            let mut again: Vec<(Batch, Vec<u32>)> = Vec::new();
            for (number, report) in wrong.iter().enumerate() {
                let (Some((key, record)), Some(&place)) = (batch.record(report.entry), part.places.get(report.entry))
                else {
                    continue;
                };
                let letter = if batch.len() > 1 {
                    Some(record)
                } else {
                    letter_box.too_large = letter_box.too_large.min(record.value.len());
                    shape.shorter(&record)
                };
                let Some(letter) = letter else {
                    letter_box.topic.set_trouble(Failure::TooLarge, "a dead letter does not fit".to_owned());
                    lane.trouble(Failure::TooLarge, DOES_NOT_FIT);
                    lane.setback = lane.setback.max(Some(Setback::Parked));
                    continue;
                };
                if number % half == 0 {
                    let mut batch = self.spare.batch((index, usize::MAX), self.now);
                    batch.alone = true;
                    again.push((batch, Vec::new()));
                }
                if let Some((batch, places)) = again.last_mut() {
                    batch.push(key, letter, None);
                    places.push(place);
                }
            }
            for (mut batch, places) in again.into_iter().rev() {
                let partition = batch.record(0).and_then(|(key, _)| letter_box.partition(key));
                batch.place.1 = self.read.insert(Part { places, ..*part });
                lane.in_flight += 1;
                lane.hold(super::lane::cost(&batch), &mut self.window);
                letter_box.waiting.push_front((partition.unwrap_or_default(), batch));
            }
            lane.sent = Some(self.now);
            return;
        }
        let code = wrong.iter().find_map(|report| report.error);
        let failure = match code.map(judge) {
            Some(Verdict::Fail { failure, .. }) => failure,
            _ => Failure::TimedOut,
        };
        if let Some(code) = code.filter(|_| failure != Failure::TimedOut) {
            letter_box.topic.set_trouble(failure, code.to_string());
        }
        lane.cannot_bury(&letter_box.topic);
        self.parts.directory.look_again(&letter_box.topic);
    }

    /// Counts the letters that Kafka confirmed of a batch.
    pub(super) fn count_letters(&self, batch: &Batch, failed: &[usize]) {
        let confirmed = batch.records().enumerate().filter(|(entry, _)| !failed.contains(entry));
        for (_, (_, record)) in confirmed {
            if let Some(reason) = Reason::of(record.headers) {
                self.metrics.dead_lettered.count(reason);
            }
        }
    }

    /// The topic of a box.
    pub(super) fn letter_topic(&self, to: usize) -> Option<Arc<Topic>> {
        self.letters.get(to).map(|letter_box| letter_box.topic.clone())
    }

    /// Sends what waits for boxes that have nothing on its way.
    pub(super) fn send_letters(&mut self) {
        for letter_box in &mut self.letters {
            if letter_box.in_flight || letter_box.waiting.is_empty() {
                continue;
            }
            let handle = match letter_box.handle {
                Some(handle) => handle,
                None => match self.producer.topic(letter_box.topic.name.as_str(), RecordLife::Endless.timeout()) {
                    Ok(handle) => *letter_box.handle.insert(handle),
                    Err(error) => {
                        letter_box.topic.set_trouble(Failure::Refused, error.to_string());
                        continue;
                    }
                },
            };
            if let Some((partition, batch)) = letter_box.waiting.pop_front() {
                letter_box.in_flight = true;
                self.in_flight += 1;
                if let Some(part) = self.read.get(batch.place.1) {
                    part.count_twice(&batch, &self.metrics.restarted);
                }
                self.producer.produce(handle, partition, std::iter::once(batch));
            }
        }
    }

    /// True where letters wait that could go.
    pub(super) fn has_letters(&self) -> bool {
        self.letters.iter().any(|letter_box| !letter_box.in_flight && !letter_box.waiting.is_empty())
    }
}

/// The number of a topic's box, made if it is new. There are as many as routes have dead-letter topics.
fn open(letters: &mut Vec<LetterBox>, topic: &Arc<Topic>) -> usize {
    letters.iter().position(|letter_box| Arc::ptr_eq(&letter_box.topic, topic)).unwrap_or_else(|| {
        letters.push(LetterBox::new(topic.clone()));
        letters.len() - 1
    })
}

// === impl ReplayLane ===

impl ReplayLane {
    /// Notes why it pauses, also for its topic.
    pub(super) fn trouble(&mut self, failure: Failure, why: &str) {
        why.clone_into(&mut self.why);
        self.topic.set_trouble(failure, why.to_owned());
    }

    /// A topic does not take its letters now.
    fn cannot_bury(&mut self, topic: &Topic) {
        self.why = format!("its dead letters cannot go to {}", topic.name);
        self.setback = self.setback.max(Some(Setback::Passing));
    }
}
