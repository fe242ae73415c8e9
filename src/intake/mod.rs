//! The log plane's front: Redis clients in, records out, replies back when the records are safe.
//!
//! ```text
//! listener → worker → session → commands ┬→ push → RecordSink
//!                                        │    └→ live, for those who follow
//!                                        └→ replies ← outcomes
//! ```

pub mod client;
pub mod cluster;
pub mod commands;
pub mod config;
mod linger;
pub mod live;
mod metrics;
mod plane;
mod push;
mod replies;
mod route_counts;
mod session;
mod shared;
mod transaction;
pub mod users;
mod worker;

pub use plane::{Intake, StartError};
pub use route_counts::RouteReport;
