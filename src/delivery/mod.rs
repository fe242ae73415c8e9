//! Records into Kafka: producer, batches, delivery reports.

pub mod config;
