//! Real Kubernetes clusters for the suites: etcd, API server, controller-manager and scheduler, with KWOK as the kubelet.
//!
//! A test target includes it beside the bed with `#[path = "../kube/mod.rs"] mod kube;`. A test that uses a cluster
//! begins with [`enter`]: from then on its thread, and every process and thread that it starts, is in a network
//! namespace of the test process's own, where pods' addresses are this machine's and a server bound to one of them is
//! a real back end.

#![allow(dead_code, unreachable_pub, unused_imports, reason = "each test target uses its part of it")]

mod certificates;
mod client;
mod cluster;
mod etcd;
mod interrupt;
mod namespace;
pub mod objects;
mod proxy;

pub use client::{ApiClient, Watching};
pub use cluster::{Cluster, Program};
pub use interrupt::Moment;
pub use namespace::enter;
pub use proxy::{ApiProxy, Fault, Gone, Lost};
