//! Records into Kafka: batches, the producer, delivery reports, and the topics' partitions.
//!
//! ```text
//! sink.append → partition queue (batches) → gate of the partition's broker → producer → librdkafka → report → sink.outcomes
//!      │              │ waited too long                                        ▲
//!      └──────────────┴──▶ failover → spool ──(on disk)──▶ sink.outcomes       │
//!                                       └──▶ replay (its own producer) ────────┘
//! ```
//!
//! Each worker has a [`KafkaSink`] with a producer of its own, so that no record crosses a thread of ours; they share
//! the [`Directory`] of topics and the [`Health`] of the connection to Kafka.

mod batch;
mod breaker;
mod client;
pub mod config;
mod failover;
mod failure;
mod gate;
mod health;
mod lag;
mod letter;
mod metrics;
mod partition;
mod producer;
mod replay;
mod sink;
mod spare;
mod stall;
mod topic_state;
mod topics;

pub use client::{UnknownProperty, check_properties};
pub use failover::FailoverShared;
pub use health::{Health, Trouble};
pub use lag::LagWatch;
pub use replay::{Backlog, BacklogReport, ReplayRoutes};
pub use sink::{KafkaSink, KafkaSinkFactory};
pub use topics::{Directory, TopicReport};
