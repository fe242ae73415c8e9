//! Logs and metrics of the process itself.

pub mod histogram;
pub mod logging;
pub mod metrics;
