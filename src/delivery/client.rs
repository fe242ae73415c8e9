//! librdkafka's configuration from ours.

use rdkafka::config::ClientConfig;
use rdkafka::error::KafkaError;

use super::config::{Compression, KafkaConfig, Linger};

/// The most bytes of one produce request's batch. Kafka's default for `max.message.bytes` is 1 048 588, which holds for
/// the batch.
const BATCH_SIZE: usize = 1_000_000;

/// What a record may need beside its bytes in a batch.
const MESSAGE_SLACK: usize = 64 * 1024;

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
            .set("reconnect.backoff.max.ms", "1000")
            .set("socket.keepalive.enable", "true")
            .set("log.connection.close", "false");
        for (name, value) in &self.properties {
            config.set(name, value);
        }
        config
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
            .set("retry.backoff.ms", "50")
            .set("socket.nagle.disable", "true");
        config
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
