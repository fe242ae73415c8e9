//! The letters of a topic, each partition up to the end that it had at the start.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerGroupMetadata};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Headers as _, Message};
use rdkafka::{Offset, TopicPartitionList};

use super::done::Done;
use super::{LetterError, LetterOptions};
use crate::record::dead_letter::{self, Reason};
use crate::tail::KafkaAccess;

/// How long Kafka may take to answer a question, and to send the next record.
const ANSWER: Duration = Duration::from_secs(30);
const TURN: Duration = Duration::from_millis(100);

/// A dead letter as it stands in Kafka.
#[derive(Clone, Debug)]
pub(super) struct Letter {
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) timestamp_ms: Option<i64>,
    pub(super) key: Option<Vec<u8>>,
    pub(super) value: Vec<u8>,
    pub(super) headers: Vec<(String, Vec<u8>)>,
}

/// What the group has committed. Who keeps that is not known at once in a young cluster, nor after a broker went.
fn committed(consumer: &BaseConsumer, asked: &TopicPartitionList) -> Result<TopicPartitionList, KafkaError> {
    use RDKafkaErrorCode::{CoordinatorLoadInProgress, CoordinatorNotAvailable, NotCoordinator};
    let since = Instant::now();
    loop {
        match consumer.committed_offsets(asked.clone(), ANSWER) {
            Err(error)
                if since.elapsed() < ANSWER
                    && matches!(
                        error.rdkafka_error_code(),
                        Some(CoordinatorLoadInProgress | CoordinatorNotAvailable | NotCoordinator)
                    ) =>
            {
                // Nothing is assigned yet: this is a pause in which the client finds out.
                drop(consumer.poll(TURN));
            }
            answer => return answer,
        }
    }
}

/// Reads a topic to its end.
pub(super) struct Reader {
    consumer: BaseConsumer,
    topic: String,
    done: BTreeMap<i32, Done>,
    /// Partitions that are not read to their end, with it.
    left: BTreeMap<i32, i64>,
}

// === impl Letter ===

impl Letter {
    pub(super) fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_slice())
    }

    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.header(name).map(|value| String::from_utf8_lossy(value).into_owned())
    }

    pub(super) fn reason(&self) -> Option<Reason> {
        let word = self.header(dead_letter::REASON)?;
        Reason::ALL.into_iter().find(|reason| reason.word().as_bytes() == word)
    }
}

// === impl Reader ===

impl Reader {
    pub(super) fn open(kafka: &KafkaAccess, options: &LetterOptions) -> Result<Self, LetterError> {
        let consumer: BaseConsumer = kafka
            .client()
            .set("group.id", &options.group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("enable.partition.eof", "true")
            .set("auto.offset.reset", "earliest")
            .set("allow.auto.create.topics", "false")
            .create()?;
        let topic = options.topic.as_str();
        let metadata = consumer.fetch_metadata(Some(topic), ANSWER)?;
        let partitions = metadata.topics().iter().find(|found| found.name() == topic);
        let partitions: Vec<i32> = partitions
            .map(|topic| topic.partitions().iter().map(|partition| partition.id()).collect())
            .unwrap_or_default();
        if partitions.is_empty() {
            return Err(LetterError::NoTopic(topic.to_owned()));
        }
        let mut asked = TopicPartitionList::new();
        for partition in &partitions {
            asked.add_partition(topic, *partition);
        }
        let mut done = BTreeMap::new();
        for committed in committed(&consumer, &asked)?.elements() {
            let before = committed.offset().to_raw().unwrap_or_default();
            done.insert(committed.partition(), Done::parse(before, committed.metadata()));
        }
        let (mut left, mut start) = (BTreeMap::new(), TopicPartitionList::new());
        for partition in partitions {
            let (first, end) = consumer.fetch_watermarks(topic, partition, ANSWER)?;
            if first < end {
                left.insert(partition, end);
                start.add_partition_offset(topic, partition, Offset::Offset(first))?;
            }
            done.entry(partition).or_default().nothing_before(first);
        }
        consumer.assign(&start)?;
        Ok(Self { consumer, topic: topic.to_owned(), done, left })
    }

    /// The next letter; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Letter>, LetterError> {
        let since = Instant::now();
        while !self.left.is_empty() {
            match self.consumer.poll(TURN) {
                Some(Ok(message)) => {
                    let (partition, offset) = (message.partition(), message.offset());
                    let end = self.left.get(&partition).copied().unwrap_or_default();
                    if offset + 1 >= end {
                        self.left.remove(&partition);
                    }
                    if offset < end {
                        let headers = message.headers().map(|headers| headers.iter().collect::<Vec<_>>());
                        let owned = |value: Option<&[u8]>| value.unwrap_or_default().to_vec();
                        return Ok(Some(Letter {
                            partition,
                            offset,
                            timestamp_ms: message.timestamp().to_millis(),
                            key: message.key().map(<[u8]>::to_vec),
                            value: owned(message.payload()),
                            headers: headers
                                .unwrap_or_default()
                                .into_iter()
                                .map(|header| (header.key.to_owned(), owned(header.value)))
                                .collect(),
                        }));
                    }
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => drop(self.left.remove(&partition)),
                // What lasts ends in silence.
                Some(Err(error)) => tracing::debug!(%error, "dead letters: librdkafka"),
                None => {}
            }
            if since.elapsed() > ANSWER {
                return Err(LetterError::Silent(ANSWER.as_secs()));
            }
        }
        Ok(None)
    }

    /// True where it was sent again.
    pub(super) fn is_done(&self, letter: &Letter) -> bool {
        self.done.get(&letter.partition).is_some_and(|done| done.contains(letter.offset))
    }

    /// Notes that it is sent again.
    pub(super) fn mark(&mut self, letter: &Letter) {
        self.done.entry(letter.partition).or_default().insert(letter.offset);
    }

    /// What was sent again, as Kafka keeps it.
    pub(super) fn offsets(&self) -> Result<TopicPartitionList, LetterError> {
        let mut list = TopicPartitionList::new();
        for (&partition, done) in &self.done {
            let mut element = list.add_partition(&self.topic, partition);
            element.set_offset(Offset::Offset(done.before()))?;
            element.set_metadata(done.metadata().ok_or(LetterError::TooScattered)?);
        }
        Ok(list)
    }

    /// Under which name Kafka keeps it.
    pub(super) fn group(&self) -> Option<ConsumerGroupMetadata> {
        self.consumer.group_metadata()
    }
}
