//! The built-in gateway, spoken to by ordinary clients and with real back ends behind it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "test code: a panic is the report"
)]

#[path = "../bed/mod.rs"]
mod bed;
#[path = "../kube/mod.rs"]
mod kube;

mod backend;
mod browser;
mod clients;
mod clients_pools;
mod conformance;
mod curl;
mod forwarding;
mod kubernetes;
mod kubernetes_gateways;
mod limits;
mod loss;
mod measured;
mod operations;
mod protocols;
mod proxy_protocol;
mod recorder;
mod routes;
mod smuggling;
mod stage;
mod strict;
mod support;
mod table;
mod tls;
mod upstreams;
