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
#[path = "../kube/mod.rs"]
mod kube;

mod commands;
mod deploys;
mod failures;
mod faults;
mod gates;
mod kills;
mod leases;
mod pods;
mod resources;
mod scales;
mod support;
mod traffic;
