//! The traffic plane against real Kubernetes clusters.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code: a panic is the report"
)]

#[path = "../bed/mod.rs"]
mod bed;
#[path = "../kube/mod.rs"]
mod kube;

mod bed_smoke;
mod clients;
mod envoy;
mod eureka;
mod eureka_source;
mod faults;
mod hub;
mod joined;
mod semantics;
mod support;
mod tls;
mod xds;
mod xds_client;
