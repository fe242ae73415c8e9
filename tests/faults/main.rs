//! The fault harness: what Tidegate acknowledges is in Kafka, whatever happens meanwhile.
//!
//! A [`scenario`] is drawn from a seed: a Kafka of one or three brokers, routes, clients, and faults with their times. The
//! [`stage`] plays it on real processes: [`client`]s push numbered [`record`]s and keep a [`history`] of every reply,
//! threads bring the [`fault`]s about, and when all is healed a consumer that shares no code with Tidegate reads Kafka. The
//! [`checker`] compares: acknowledged ⊆ consumed, order per connection, key and partition, no foreign bytes, and no
//! duplicate without a cause that Tidegate's metrics name.
//!
//! [`directed`] has each fault alone, [`seeds`] random ones together. A seed that fails prints how to play it again.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code: a panic is the report"
)]

#[path = "../bed/mod.rs"]
mod bed;

#[path = "../log/support/mod.rs"]
mod support;

mod anew;
mod checker;
mod client;
mod clock;
mod directed;
mod disk;
mod fault;
mod history;
mod lone;
mod outage;
mod random;
mod record;
mod scenario;
mod seeds;
mod shim;
mod stage;
mod steps;
