//! Deploys on a real API server, with its controllers, its scheduler and a fake kubelet: the control component, a data plane
//! that publishes the switches, and a gateway that acknowledges them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code: a panic is the report"
)]

#[path = "../bed/mod.rs"]
mod bed;
#[path = "../proxies/gateway.rs"]
#[allow(dead_code, reason = "the tests' of gateways; this suite uses its part of it")]
mod gateway;
#[path = "../kube/mod.rs"]
mod kube;
#[path = "../proxies/nginx.rs"]
#[allow(dead_code, reason = "the tests' of gateways; this suite uses its part of it")]
mod nginx;

mod catalogue;
mod children;
mod commands;
mod deploys;
mod environments;
mod failures;
mod faults;
mod gates;
mod hooks;
mod injections;
mod kills;
mod leases;
mod matched;
mod pods;
mod resources;
mod rest;
mod scales;
mod strategies;
mod support;
mod times;
mod traffic;
mod trying;
mod waves;
