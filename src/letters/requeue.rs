//! Sends dead letters to the topics that they were for. The records and the note that they were sent are one transaction, so
//! a run that is ended anywhere sends nothing twice, and two runs at once end one of them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};

use super::read::{Letter, Reader};
use super::{LetterError, LetterOptions};
use crate::record::dead_letter;
use crate::tail::KafkaAccess;

/// The most letters, and the most of their bytes, of one transaction.
const STEP: u64 = 500;
const STEP_BYTES: usize = 8 << 20;
/// How long Kafka may take for a step.
const ANSWER: Duration = Duration::from_secs(60);

/// Keeps the first refusal of a step.
#[derive(Clone, Default)]
struct Refusals(Arc<Mutex<Option<String>>>);

/// What a run came to.
#[derive(Default)]
struct Outcome {
    /// By the topic that they were for.
    sent: BTreeMap<String, u64>,
    /// Letters that name no topic, and cut ones.
    homeless: u64,
    cut: u64,
}

// === impl Refusals ===

impl ClientContext for Refusals {}

impl ProducerContext for Refusals {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, _opaque: ()) {
        if let Err((error, message)) = result {
            use rdkafka::message::Message as _;
            // What was purged fell with the first one.
            if error.rdkafka_error_code() != Some(RDKafkaErrorCode::PurgeQueue) {
                self.note(format!("{} bytes for {}: {error}", message.payload_len(), message.topic()));
            }
        }
    }
}

impl Refusals {
    fn note(&self, text: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(text);
    }

    fn take(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Sends what the filter takes and was not sent before.
pub(super) fn run(
    kafka: &KafkaAccess,
    mut reader: Reader,
    options: &LetterOptions,
    dry_run: bool,
    cut: bool,
) -> Result<(), LetterError> {
    let sender = if dry_run { None } else { Some(Sender::open(kafka, options)?) };
    let mut outcome = Outcome::default();
    let (mut total, mut step, mut bytes) = (0_u64, 0_u64, 0_usize);
    while options.filter.limit.is_none_or(|limit| total < limit) {
        let Some(letter) = reader.next()? else { break };
        if reader.is_done(&letter) || !options.filter.takes(&letter) {
            continue;
        }
        let Some(topic) = letter.text(dead_letter::TOPIC).filter(|topic| !topic.is_empty()) else {
            outcome.homeless += 1;
            continue;
        };
        if !cut && letter.header(dead_letter::CUT).is_some() {
            outcome.cut += 1;
            continue;
        }
        if let Some(sender) = &sender {
            sender.send(&topic, &letter, total - step)?;
        }
        reader.mark(&letter);
        *outcome.sent.entry(topic).or_default() += 1;
        (total, step, bytes) = (total + 1, step + 1, bytes + letter.value.len());
        if step >= STEP || bytes >= STEP_BYTES {
            if let Some(sender) = &sender {
                sender.commit(&reader, total - step)?;
                eprintln!("{total} requeued");
            }
            (step, bytes) = (0, 0);
        }
    }
    if let Some(sender) = &sender {
        sender.commit(&reader, total - step)?;
    }
    outcome.tell(dry_run);
    Ok(())
}

struct Sender {
    producer: BaseProducer<Refusals>,
    refusals: Refusals,
}

// === impl Sender ===

impl Sender {
    fn open(kafka: &KafkaAccess, options: &LetterOptions) -> Result<Self, LetterError> {
        let refusals = Refusals::default();
        let producer: BaseProducer<Refusals> = kafka
            .client()
            .set("transactional.id", format!("{}-{}", options.group, options.topic))
            .set("message.max.bytes", "1000000000")
            // Where every other Kafka producer, and Tidegate, puts a key.
            .set("partitioner", "murmur2_random")
            .set("compression.codec", "lz4")
            .create_with_context(refusals.clone())?;
        producer.init_transactions(ANSWER)?;
        producer.begin_transaction()?;
        Ok(Self { producer, refusals })
    }

    /// Queues a letter as it was before it became one.
    fn send(&self, topic: &str, letter: &Letter, before: u64) -> Result<(), LetterError> {
        let own = letter.headers.iter().filter(|(name, _)| !name.starts_with(dead_letter::PREFIX));
        let headers =
            own.fold(OwnedHeaders::new(), |headers, (key, value)| headers.insert(Header { key, value: Some(value) }));
        let mut record: BaseRecord<'_, [u8], [u8]> =
            BaseRecord::to(topic).payload(letter.value.as_slice()).headers(headers);
        if let Some(key) = &letter.key {
            record = record.key(key);
        }
        if let Some(time) = letter.timestamp_ms {
            record = record.timestamp(time);
        }
        if let Err((error, _)) = self.producer.send(record) {
            self.refusals.note(format!("{} bytes for {topic}: {error}", letter.value.len()));
            return Err(self.abort(before, &error));
        }
        self.producer.poll(Duration::ZERO);
        Ok(())
    }

    /// Ends a step: the records and the note of them are there, or neither is.
    fn commit(&self, reader: &Reader, before: u64) -> Result<(), LetterError> {
        let Some(group) = reader.group() else {
            return Err(LetterError::NotSent("Kafka's client knows no group".into(), before));
        };
        let offsets = match reader.offsets() {
            Ok(offsets) => offsets,
            Err(error) => {
                self.producer.abort_transaction(ANSWER)?;
                return Err(error);
            }
        };
        let outcome = self
            .producer
            .flush(ANSWER)
            .and_then(|()| self.producer.send_offsets_to_transaction(&offsets, &group, ANSWER))
            .and_then(|()| self.producer.commit_transaction(ANSWER))
            .and_then(|()| self.producer.begin_transaction());
        outcome.map_err(|error| self.abort(before, &error))
    }

    fn abort(&self, before: u64, error: &KafkaError) -> LetterError {
        if let Err(error) = self.producer.abort_transaction(ANSWER) {
            tracing::warn!(%error, "the transaction is not aborted now; Kafka does it after its time-out");
        }
        let text = self.refusals.take().unwrap_or_else(|| error.to_string());
        LetterError::NotSent(text, before)
    }
}

// === impl Outcome ===

impl Outcome {
    fn tell(&self, dry_run: bool) {
        let what = if dry_run { "would be requeued" } else { "requeued" };
        for (topic, count) in &self.sent {
            println!("{count} {what} to {topic}");
        }
        if self.sent.is_empty() {
            println!("0 {what}");
        }
        if self.homeless > 0 {
            println!("{} left: they name no topic", self.homeless);
        }
        if self.cut > 0 {
            println!("{} left: they were cut (--cut sends them as they are)", self.cut);
        }
    }
}
