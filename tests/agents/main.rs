//! What feeds gateways from beside them, against the real programs and under load.

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

mod api_server;
mod haproxy;
mod haproxy_away;
mod keepalived;
mod load;
mod nginx;
mod pods;
mod realserver;
mod scale;
mod support;
