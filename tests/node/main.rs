//! The log plane on a node of a real Kubernetes cluster: its pods, their addresses, and its other instances.

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
#[path = "../log/support/mod.rs"]
mod support;

mod instances;
mod pods;
