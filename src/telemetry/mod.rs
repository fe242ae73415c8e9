//! Logs and metrics of the process itself.

pub mod logging;
pub mod metrics;
