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
#[path = "../faults/shim.rs"]
#[allow(dead_code, reason = "only its clock is used here")]
mod shim;

mod bed_smoke;
mod clients;
mod envoy;
mod eureka;
mod eureka_source;
mod faults;
mod faults_answers;
mod faults_rotation;
mod faults_time;
mod hub;
mod hub_dns;
mod joined;
mod oracle;
mod oracle_record;
mod oracle_scenarios;
mod oracle_walk;
mod semantics;
mod support;
mod tls;
mod xds;
mod xds_client;
