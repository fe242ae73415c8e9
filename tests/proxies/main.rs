//! Gateways that pull by themselves, each the real program under load: nginx with Lua, Envoy, Prometheus, and what speaks
//! Eureka. One connection of the load sends one request after the other, and every answer is counted.

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

mod backend;
mod envoy;
mod eureka;
mod gateway;
mod hosts;
mod load;
mod nginx;
mod outage;
mod plane;
mod prometheus;
mod relay;
mod rolling;
mod scale;
