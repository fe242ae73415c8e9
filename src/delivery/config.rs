//! How Kafka is reached.

use std::collections::BTreeMap;
use std::time::Duration;

/// The `[log.kafka]` section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KafkaConfig {
    /// `host:port` of brokers to start from, at least one.
    pub brokers: Vec<String>,
    /// When a batch is sent.
    pub linger: Linger,
    /// Compression of batches.
    pub compression: Compression,
    /// Further librdkafka properties, already checked to exist and not to be ours.
    pub properties: BTreeMap<String, String>,
    /// How many topics Tidegate may create in its life.
    pub max_created_topics: usize,
}

/// When a batch is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Linger {
    /// At once when nothing is in flight; batches grow with what is in flight.
    #[default]
    Adaptive,
    /// Always after this time (librdkafka's `linger.ms`).
    Fixed(Duration),
}

/// Compression of batches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// None.
    None,
    /// LZ4, the default: cheap, and logs shrink well.
    #[default]
    Lz4,
    /// Zstandard.
    Zstd,
    /// Snappy.
    Snappy,
    /// Gzip.
    Gzip,
}
