//! The log plane's front: Redis clients in, records out, replies back when the records are safe.
//!
//! ```text
//! listener → worker → session → commands ┬→ push → RecordSink
//!                                        │    └→ live, for those who follow
//!                                        └→ replies ← outcomes
//! ```

mod admission;
pub mod client;
pub mod cluster;
pub mod commands;
pub mod config;
mod join;
mod linger;
pub mod live;
mod logins;
mod metrics;
mod plane;
mod policy;
mod push;
mod rate_limit;
mod replies;
mod route_counts;
mod session;
mod shared;
mod stamps;
mod transaction;
pub mod users;
mod whose;
mod worker;

pub use plane::{Intake, StartError};
pub use policy::Reloader;
pub use route_counts::RouteReport;
pub use whose::Surroundings;
