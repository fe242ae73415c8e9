//! librdkafka's configuration from ours.
//!
//! # Deadlines, and what they follow from
//! A client of ours gets its reply by `hold_ms`, and with a spool by `spool_after_ms` and one `fdatasync`. None of
//! librdkafka's own times (a minute, five minutes) may decide what becomes of a record:
//!
//! - `message.timeout.ms`, set for each topic. Without a spool: half a second over the longest `hold_ms` of the topic's
//!   routes, so that the reply's deadline comes first and memory is free soon after. With one, and for what was
//!   acknowledged when enqueued: never. A reply does not depend on it, and a record that librdkafka gives up after it was
//!   sent may be in Kafka all the same, so that sending it again doubles it; its own retries are numbered, and Kafka
//!   drops what it has. Memory is bounded by how much is handed over at all.
//! - [`BROKER_WAITS`], `request.timeout.ms`: how long a broker waits for its replicas before it answers "not yet", which
//!   is tried again. Below the client's own time-out, so that the broker's answer, which says more, comes first.
//! - [`GIVES_UP`], `socket.timeout.ms`: a broker that does not answer for so long is dead or frozen. What is on its way to
//!   it moves to the partition's new leader then and not before; a cluster elects one within some ten seconds.
//! - [`CONNECTS`], `socket.connection.setup.timeout.ms`: over this, the network swallows packets; a new try follows.
//! - [`COMES_BACK`], `reconnect.backoff.max.ms`: a broker that is up again is found within a second.

use std::time::Duration;

use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::KafkaError;

use super::config::{Compression, KafkaConfig, Linger};
use super::producer::RETRY_BACKOFF;

/// The most bytes of one produce request's batch. Kafka's default for `max.message.bytes` is 1 048 588, which holds for
/// the batch.
const BATCH_SIZE: usize = 1_000_000;

/// What a record may need beside its bytes in a batch.
const MESSAGE_SLACK: usize = 64 * 1024;

/// How long a broker waits for its replicas; consumers, which share the rest, do not know the property.
const REQUEST_TIMEOUT: &str = "request.timeout.ms";
const BROKER_WAITS: Duration = Duration::from_secs(5);
/// How long an answer is awaited.
const SOCKET_TIMEOUT: &str = "socket.timeout.ms";
const GIVES_UP: Duration = Duration::from_secs(10);
/// How long a connection may take to come about.
const CONNECTS: Duration = Duration::from_secs(5);
/// The longest pause between two tries to connect; librdkafka adds up to half of it.
const COMES_BACK: Duration = Duration::from_millis(500);
/// How long a record may be tried beyond its reply.
const BEYOND_REPLY: Duration = Duration::from_millis(500);

/// When librdkafka gives a record up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RecordLife {
    /// Soon after its reply's deadline, which is this long.
    Reply(Duration),
    /// Never.
    Endless,
}

/// A property that librdkafka does not take.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UnknownProperty(String);

// === impl KafkaConfig ===

impl KafkaConfig {
    /// What every client of ours needs: addresses, security, patience.
    pub fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", self.brokers.join(","))
            .set("client.id", "tidegate")
            // A broker that comes back is found at once: records wait for it.
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", millis(COMES_BACK))
            .set(SOCKET_TIMEOUT, millis(GIVES_UP))
            .set("socket.connection.setup.timeout.ms", millis(CONNECTS))
            .set("socket.keepalive.enable", "true")
            .set("log.connection.close", "false");
        for (name, value) in &self.properties {
            config.set(name, value);
        }
        // rdkafka sets the level of its own once the client is made, which takes back what the property has raised.
        if self.properties.contains_key("debug") {
            config.set_log_level(RDKafkaLogLevel::Debug);
        }
        config
    }

    /// How long Kafka may answer for nothing of a partition before that is looked into: a dead broker is given up, and another
    /// one found, within it (see [`stall`](super::stall)).
    pub(super) fn stalls_after(&self) -> Duration {
        let set = self.properties.get(SOCKET_TIMEOUT).and_then(|millis| millis.parse().ok());
        2 * set.map_or(GIVES_UP, Duration::from_millis)
    }

    /// What a producer needs beside. `record_size`: the largest record, in bytes.
    pub(super) fn producer(&self, record_size: usize) -> ClientConfig {
        let mut config = self.client();
        let linger = match self.linger {
            Linger::Adaptive => 0,
            Linger::Fixed(time) => time.as_millis(),
        };
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("linger.ms", linger.to_string())
            .set("compression.codec", self.compression.name())
            .set("batch.num.messages", "1000000")
            .set("batch.size", BATCH_SIZE.to_string())
            .set("message.max.bytes", (record_size + MESSAGE_SLACK).max(BATCH_SIZE).to_string())
            // Our own byte budget is the bound; librdkafka's must never be met before it.
            .set("queue.buffering.max.messages", "100000000")
            .set("queue.buffering.max.kbytes", "2147483647")
            .set("retry.backoff.ms", millis(RETRY_BACKOFF))
            .set("socket.nagle.disable", "true");
        if !self.properties.contains_key(REQUEST_TIMEOUT) {
            config.set(REQUEST_TIMEOUT, millis(BROKER_WAITS));
        }
        config
    }
}

fn millis(time: Duration) -> String {
    time.as_millis().to_string()
}

// === impl RecordLife ===

impl RecordLife {
    /// `message.timeout.ms`; zero is never.
    pub(super) fn timeout(self) -> Duration {
        match self {
            Self::Reply(hold) => hold + BEYOND_REPLY,
            Self::Endless => Duration::ZERO,
        }
    }
}

// === impl Compression ===

impl Compression {
    /// librdkafka's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
            Self::Snappy => "snappy",
            Self::Gzip => "gzip",
        }
    }
}

/// Whether librdkafka takes these properties; it checks names and values without connecting.
///
/// # Errors
/// It does not; the text names the property.
pub fn check_properties(config: &KafkaConfig) -> Result<(), UnknownProperty> {
    match config.client().create_native_config() {
        Ok(_) => Ok(()),
        Err(KafkaError::ClientConfig(_, text, name, value)) => {
            Err(UnknownProperty(format!("librdkafka refuses {name} = {value}: {text}")))
        }
        Err(error) => Err(UnknownProperty(error.to_string())),
    }
}
