//! Logs and metrics of the process itself.

pub mod labels;
pub mod logging;
pub mod metrics;
