//! The log plane against real Kafka and real Redis clients.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code: a panic is the report"
)]

#[path = "../bed/mod.rs"]
mod bed;

mod admin;
mod bed_smoke;
mod clients;
mod conformance;
mod dead_letters;
mod delivery;
mod dev;
mod enrich;
mod headers;
mod identity;
mod join;
mod live;
mod llen;
mod matrix;
mod misbehave;
mod outage;
mod rate_limit;
mod reload;
mod security;
mod shutdown;
mod spool;
mod support;
mod tail;
mod tls;
