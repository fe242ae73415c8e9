//! Records of topics as they arrive, over librdkafka's consumer.
//!
//! Partitions are assigned, never subscribed, so that no consumer group sees us. librdkafka wants a group's name all the
//! same; nothing is joined and nothing is committed under it. Partitions known at the start begin where they were asked
//! to; those that come later begin at their first record, so that none is missed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::metadata::Metadata;
use rdkafka::{Offset, TopicPartitionList};

use crate::delivery::config::KafkaConfig;

/// How often topics and partitions are asked for while some are awaited, and afterwards.
const REFRESH_AWAITING: Duration = Duration::from_millis(300);
const REFRESH: Duration = Duration::from_secs(2);
/// How long a broker may take to answer a question.
const ANSWER: Duration = Duration::from_secs(2);

/// How Kafka is reached.
#[derive(Clone, Debug)]
pub struct KafkaAccess {
    brokers: String,
    properties: BTreeMap<String, String>,
}

/// What is followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// One topic.
    Topic(String),
    /// Every topic but Kafka's own.
    All,
}

/// Where partitions that are there at the start begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the oldest record.
    Beginning,
    /// Behind the newest record.
    Now,
}

/// A record as it stands in Kafka.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its topic.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// Its place there.
    pub offset: i64,
    /// Milliseconds since 1970, where Kafka has a time for it.
    pub timestamp_ms: Option<i64>,
    /// What was sent.
    pub value: Vec<u8>,
}

/// What happens while following. All but records are for people, by their `Display`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A record arrived.
    Record(Record),
    /// So many partitions are followed now, more than before.
    Following(usize),
    /// The topic does not exist yet.
    Unknown(String),
    /// Kafka does not answer or refuses; it is tried again.
    Away(String),
}

/// Follows topics.
pub struct Follower {
    consumer: BaseConsumer<Context>,
    selection: Selection,
    start: Start,
    assigned: BTreeSet<(String, i32)>,
    /// Whether what there is at the start is known.
    begun: bool,
    /// The last thing said that was not a record: nothing is said twice in a row.
    said: Option<Event>,
    refresh_at: Instant,
}

/// Sends librdkafka's own log to ours.
struct Context;

// === impl KafkaAccess ===

impl KafkaAccess {
    /// Through these brokers (`host:port`), in plain text.
    pub fn brokers(brokers: &[String]) -> Self {
        Self { brokers: brokers.join(","), properties: BTreeMap::new() }
    }

    /// librdkafka's configuration so far: addresses and security.
    pub fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        for (name, value) in &self.properties {
            config.set(name, value);
        }
        config.set("bootstrap.servers", &self.brokers);
        config
    }
}

impl From<&KafkaConfig> for KafkaAccess {
    fn from(config: &KafkaConfig) -> Self {
        Self { brokers: config.brokers.join(","), properties: config.properties.clone() }
    }
}

// === impl Follower ===

impl Follower {
    /// Makes a follower. Kafka need not be there yet.
    pub fn new(kafka: &KafkaAccess, selection: Selection, start: Start) -> KafkaResult<Self> {
        let mut config = kafka.client();
        config
            .set("group.id", "tidegate-tail")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "earliest")
            // Looking at a topic must not make one.
            .set("allow.auto.create.topics", "false")
            .set("reconnect.backoff.max.ms", "1000");
        Ok(Self {
            consumer: config.create_with_context(Context)?,
            selection,
            start,
            assigned: BTreeSet::new(),
            begun: false,
            said: None,
            refresh_at: Instant::now(),
        })
    }

    /// The next thing that happens, at most `wait` later; a refresh may take a little longer while Kafka is away.
    pub fn next(&mut self, wait: Duration) -> Option<Event> {
        if Instant::now() >= self.refresh_at {
            let event = match self.refresh() {
                Ok(event) => event,
                Err(error) => Some(Event::Away(error.to_string())),
            };
            let settled = matches!(event, None | Some(Event::Following(_)));
            let period = if settled && self.selection != Selection::All { REFRESH } else { REFRESH_AWAITING };
            self.refresh_at = Instant::now() + period;
            if event.is_some() && event != self.said {
                self.said.clone_from(&event);
                return event;
            }
        }
        match self.consumer.poll(wait)? {
            Ok(message) => Some(Event::Record(Record {
                topic: message.topic().to_owned(),
                partition: message.partition(),
                offset: message.offset(),
                timestamp_ms: message.timestamp().to_millis(),
                value: message.payload().unwrap_or_default().to_vec(),
            })),
            Err(error) => {
                // What lasts is said by the next refresh, which asks the same brokers.
                tracing::debug!(%error, "tail: librdkafka");
                None
            }
        }
    }

    /// Asks which partitions there are and adds the new ones.
    fn refresh(&mut self) -> KafkaResult<Option<Event>> {
        let topic = match &self.selection {
            Selection::Topic(topic) => Some(topic.clone()),
            Selection::All => None,
        };
        let metadata = self.consumer.fetch_metadata(topic.as_deref(), ANSWER)?;
        let there = partitions(&metadata)?;
        let new: Vec<_> = there.difference(&self.assigned).cloned().collect();
        if !new.is_empty() {
            self.assign(&new)?;
            self.assigned.extend(new);
        }
        self.begun = true;
        let event = match topic {
            Some(topic) if self.assigned.is_empty() => Event::Unknown(topic),
            _ => Event::Following(self.assigned.len()),
        };
        Ok(Some(event))
    }

    fn assign(&self, new: &[(String, i32)]) -> KafkaResult<()> {
        let mut list = TopicPartitionList::with_capacity(new.len());
        for (topic, partition) in new {
            let offset = if self.begun || self.start == Start::Beginning {
                Offset::Beginning
            } else {
                // Asked for here rather than left to the fetch, so that "now" is before we say that we follow.
                let (_, newest) = self.consumer.fetch_watermarks(topic, *partition, ANSWER)?;
                Offset::Offset(newest)
            };
            list.add_partition_offset(topic, *partition, offset)?;
        }
        self.consumer.incremental_assign(&list)
    }
}

/// The partitions of all topics but Kafka's own. A topic that does not exist has none.
fn partitions(metadata: &Metadata) -> KafkaResult<BTreeSet<(String, i32)>> {
    let mut found = BTreeSet::new();
    for topic in metadata.topics() {
        match topic.error().map(RDKafkaErrorCode::from) {
            None | Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::LeaderNotAvailable) => {}
            Some(code) => return Err(KafkaError::MetadataFetch(code)),
        }
        if !topic.name().starts_with("__") {
            found.extend(topic.partitions().iter().map(|partition| (topic.name().to_owned(), partition.id())));
        }
    }
    Ok(found)
}

// === impl Event ===

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Record(record) => write!(f, "{}/{}@{}", record.topic, record.partition, record.offset),
            Self::Following(1) => f.write_str("following 1 partition"),
            Self::Following(count) => write!(f, "following {count} partitions"),
            Self::Unknown(topic) => write!(f, "topic {topic} does not exist yet; waiting for it"),
            Self::Away(reason) => write!(f, "Kafka does not answer; trying again ({reason})"),
        }
    }
}

// === impl Context ===

impl ClientContext for Context {
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, text: &str) {
        tracing::debug!(facility, text, "tail: librdkafka");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "tail: librdkafka");
    }
}

impl ConsumerContext for Context {}
