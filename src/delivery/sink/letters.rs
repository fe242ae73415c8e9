//! Dead letters of the sink: records that the broker alone finds too large, or whose topic it does not let us write.
//!
//! A record becomes one where its route has a topic for them; it says so itself, by the origin that intake put to it. From
//! then on it is a record of that topic like any other: who waits for it hears of its outcome there.

use std::sync::Arc;

use rdkafka::error::RDKafkaErrorCode;

use super::{KafkaSink, topic_of};
use crate::delivery::batch::Batch;
use crate::delivery::failure::{Verdict, judge};
use crate::delivery::letter::Shape;
use crate::delivery::producer::Report;
use crate::record::dead_letter::Reason;
use crate::record::partition::PartitionChoice;
use crate::record::route::Route;
use crate::record::sink::{Destination, Failure, Record, RecordSink, Ticket, TooManyTopics};

/// What becomes of a failed record that may be a dead letter.
pub(super) enum Fate {
    /// It is on its way to another topic.
    Buried,
    /// A dead letter itself, it goes again, shorter.
    Cut(Batch),
    /// Its topic may yet be opened to us: it goes again, after a rest.
    Waits,
    /// It fails as any other.
    Fails,
}

// === impl KafkaSink ===

impl KafkaSink {
    /// Notes where records of `route` go that `topic` does not take. A reload may have named another topic for them.
    pub(super) fn note_letters(&mut self, topic: usize, route: &Arc<Route>) -> Result<(), TooManyTopics> {
        if let Some(letters) = self.dead_letters(route)?
            && let Some(state) = self.topics.get_mut(topic)
        {
            state.letters.retain(|(pattern, _)| **pattern != *route.config.key);
            state.letters.push((route.config.key.as_str().into(), letters));
        }
        Ok(())
    }

    /// What becomes of a record of `batch` whose report is `code`.
    pub(super) fn fate(&mut self, batch: &Batch, entry: usize, code: RDKafkaErrorCode, ticket: Option<Ticket>) -> Fate {
        let (Verdict::Fail { failure, .. }, Some((key, record))) = (judge(code), batch.record(entry)) else {
            return Fate::Fails;
        };
        let topic = batch.place.0;
        let reason = match failure {
            Failure::TooLarge if Reason::of(record.headers).is_some() => {
                return self.shorten(batch, key, &record, ticket).map_or(Fate::Fails, Fate::Cut);
            }
            Failure::TooLarge => Reason::TooLarge,
            Failure::NotAuthorized => Reason::NotAuthorized,
            _ => return Fate::Fails,
        };
        let Some(to) = self.letters_to(topic, &record) else { return Fate::Fails };
        let patience = self.topics.get(topic).map(super::TopicState::letter_patience).unwrap_or_default();
        if reason == Reason::NotAuthorized && self.now.duration_since(batch.born) < patience {
            return Fate::Waits;
        }
        self.bury(topic, to, key, &record, reason, ticket);
        Fate::Buried
    }

    /// Buries what has waited for too long for a topic that was never opened to us.
    pub(super) fn bury_unplaced(&mut self) {
        for topic in 0..self.topics.len() {
            let Some(state) = self.topics.get_mut(topic) else { continue };
            if state.letters.is_empty() || state.unplaced.is_empty() || state.shared.failure() != Failure::NotAuthorized
            {
                continue;
            }
            let patience = state.letter_patience();
            for waiting in std::mem::take(&mut state.unplaced) {
                let late = self.now.duration_since(waiting.born) >= patience;
                match self.letters_to(topic, &waiting.record()) {
                    Some(to) if late => {
                        let (key, record) = (waiting.choice.key(), waiting.record());
                        self.bury(topic, to, key, &record, Reason::NotAuthorized, waiting.ticket);
                        self.settled(topic, 1);
                        self.factory.budget.give_back(record.cost());
                    }
                    _ => {
                        if let Some(state) = self.topics.get_mut(topic) {
                            state.unplaced.push_back(waiting);
                        }
                    }
                }
            }
        }
    }

    /// Where a record of `topic` goes as a dead letter, if its route has a place for them.
    fn letters_to(&self, topic: usize, record: &Record<'_>) -> Option<Destination> {
        let letters = &self.topics.get(topic)?.letters;
        if letters.is_empty() {
            return None;
        }
        let origin = record.headers.origin()?;
        let (_, to) = letters.iter().find(|(route, _)| **route == *origin.route)?;
        (topic_of(*to).0 != topic).then_some(*to)
    }

    /// Takes a copy of the record as a dead letter. The caller lets go of the record itself.
    fn bury(
        &mut self,
        from: usize,
        to: Destination,
        key: Option<&[u8]>,
        record: &Record<'_>,
        reason: Reason,
        ticket: Option<Ticket>,
    ) {
        let topic = self.topics.get(from).map(|state| state.shared.name.clone());
        let too_large = self.topics.get(topic_of(to).0).map_or(usize::MAX, |state| state.too_large);
        let mut shape = Shape::default();
        let letter = shape.letter(record, reason, topic.as_ref().map_or("", |topic| topic.as_str()), too_large);
        self.factory.budget.take(letter.cost());
        self.append(to, key.map_or(PartitionChoice::Sticky, PartitionChoice::Key), letter, ticket);
    }

    /// A dead letter that is too large for its own topic, to go alone, and cut where it did.
    fn shorten(
        &mut self,
        batch: &Batch,
        key: Option<&[u8]>,
        letter: &Record<'_>,
        ticket: Option<Ticket>,
    ) -> Option<Batch> {
        let state = self.topics.get_mut(batch.place.0)?;
        let mut shape = Shape::default();
        let mut shorter = Batch::new(batch.place, batch.born);
        shorter.alone = true;
        if batch.len() > 1 {
            // Perhaps it was another's size.
            shorter.push(key, *letter, ticket);
            return Some(shorter);
        }
        state.too_large = state.too_large.min(letter.value.len());
        shorter.push(key, shape.shorter(letter)?, ticket);
        Some(shorter)
    }

    /// Counts the dead letters of a batch that is settled; `wrong` are the records of it that were not delivered.
    pub(super) fn count_letters(&self, batch: &Batch, wrong: &[Report]) {
        for (entry, (_, record)) in batch.records().enumerate() {
            if let Some(reason) = Reason::of(record.headers)
                && wrong.iter().all(|report| report.entry != entry)
            {
                self.metrics.dead_lettered.count(reason);
            }
        }
    }
}
