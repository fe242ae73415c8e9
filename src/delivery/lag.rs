//! The thread that asks Kafka how far a consumer group has read, for LLEN (see [`record::lag`](crate::record::lag)). It has
//! a client of its own, joins no group and commits nothing.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use metrics::{Counter, counter, describe_counter};
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::{Value, json};

use super::config::KafkaConfig;
use super::health::{Context, Health, Trouble};
use crate::record::lag::Lags;
use crate::record::topic::TopicName;

/// How long one question to Kafka may take.
const ASK: Duration = Duration::from_secs(2);
/// Between looks.
const LOOK: Duration = Duration::from_secs(3);

/// The running thread; it ends when this is dropped, after the question that it is about to ask.
pub struct LagWatch {
    group: String,
    lags: Arc<Lags>,
    trouble: Arc<Mutex<Option<Trouble>>>,
    _stop: SyncSender<()>,
}

struct Asker {
    consumer: BaseConsumer<Context>,
    lags: Arc<Lags>,
    trouble: Arc<Mutex<Option<Trouble>>>,
    failures: Counter,
    /// Which topic a look begins with: one that ends the look must not keep the others from theirs.
    first: usize,
}

/// Nothing of ours happens at rebalances: no topic is subscribed to.
impl ConsumerContext for Context {}

// === impl LagWatch ===

impl LagWatch {
    /// Starts to look for the unread records of this consumer group, in the topics that are asked for.
    ///
    /// # Errors
    /// librdkafka does not take the configuration, or the thread cannot be started.
    pub fn start(config: &KafkaConfig, group: &str, lags: Arc<Lags>, health: Arc<Health>) -> Result<Self, KafkaError> {
        let mut client = config.client();
        client.set("group.id", group).set("enable.auto.commit", "false").set("allow.auto.create.topics", "false");
        describe_counter!(
            "tidegate_log_lag_failures_total",
            "Looks for a consumer group's unread records that Kafka did not answer"
        );
        let trouble = Arc::new(Mutex::default());
        let asker = Asker {
            consumer: client.create_with_context(Context(health))?,
            lags: lags.clone(),
            trouble: trouble.clone(),
            failures: counter!("tidegate_log_lag_failures_total"),
            first: 0,
        };
        let (stop, stopped) = sync_channel(1);
        std::thread::Builder::new()
            .name("lag".into())
            .spawn(move || asker.run(&stopped))
            .map_err(|error| KafkaError::ClientCreation(format!("no thread: {error}")))?;
        Ok(Self { group: group.to_owned(), lags, trouble, _stop: stop })
    }

    /// What is known, for `/debug/log`.
    pub fn report(&self) -> Value {
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone();
        json!({
            "group": self.group,
            "topics": self.lags.report(Instant::now()),
            "last_error": trouble.as_ref().map(|trouble| trouble.text.clone()),
            "last_error_at": trouble.as_ref().map(Trouble::seconds),
        })
    }
}

// === impl Asker ===

impl Asker {
    fn run(mut self, stopped: &Receiver<()>) {
        while stopped.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
            self.look();
        }
    }

    fn look(&mut self) {
        let mut topics = self.lags.wanted(Instant::now());
        if topics.is_empty() {
            return;
        }
        // Nothing is subscribed to, so that nothing comes but what librdkafka has to say.
        _ = self.consumer.poll(Duration::ZERO);
        self.first = (self.first + 1) % topics.len();
        topics.rotate_left(self.first);
        for topic in topics {
            match self.unread(&topic) {
                Ok(unread) => self.lags.tell(&topic, unread, Instant::now()),
                Err(error) => {
                    self.failures.increment(1);
                    let text = format!("{topic}: {error}");
                    let trouble = Trouble { at: SystemTime::now(), text };
                    *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(trouble);
                    // Where Kafka does not answer, the next topics would each wait as long.
                    if is_silence(&error) {
                        return;
                    }
                }
            }
        }
    }

    fn unread(&self, topic: &TopicName) -> Result<u64, KafkaError> {
        let name = topic.as_str();
        let metadata = self.consumer.fetch_metadata(Some(name), ASK)?;
        let found = metadata.topics().iter().find(|found| found.name() == name);
        let partitions = match found.map(|found| (found.error(), found.partitions())) {
            Some((None, partitions)) => partitions,
            Some((Some(error), _)) if RDKafkaErrorCode::from(error) != RDKafkaErrorCode::UnknownTopicOrPartition => {
                return Err(KafkaError::MetadataFetch(error.into()));
            }
            // What is not there has nothing that is unread.
            _ => return Ok(0),
        };
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for partition in partitions {
            list.add_partition(name, partition.id());
        }
        let mut unread = 0;
        for read in self.consumer.committed_offsets(list, ASK)?.elements() {
            read.error()?;
            let (low, high) = self.consumer.fetch_watermarks(name, read.partition(), ASK)?;
            unread += behind(read.offset(), low, high);
        }
        Ok(unread)
    }
}

/// The records of a partition that a group has not read, whose next one is `read`. A group that has committed nothing, or
/// records that are gone by now, has all that are there before it.
fn behind(read: Offset, low: i64, high: i64) -> u64 {
    let next = match read {
        Offset::Offset(next) => next.max(low),
        _ => low,
    };
    u64::try_from(high - next).unwrap_or(0)
}

fn is_silence(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{AllBrokersDown, BrokerTransportFailure, OperationTimedOut, RequestTimedOut};
    matches!(
        error.rdkafka_error_code(),
        Some(AllBrokersDown | BrokerTransportFailure | OperationTimedOut | RequestTimedOut)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_group_has_not_read_is_what_lies_before_it() {
        assert_eq!(behind(Offset::Offset(30), 10, 100), 70);
        assert_eq!(behind(Offset::Offset(100), 10, 100), 0);
        assert_eq!(behind(Offset::Invalid, 10, 100), 90);
        // Retention was faster, or the topic was made anew.
        assert_eq!(behind(Offset::Offset(5), 10, 100), 90);
        assert_eq!(behind(Offset::Offset(500), 0, 100), 0);
    }
}
