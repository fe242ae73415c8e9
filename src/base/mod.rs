//! What every stage may use: waiting after failures, the byte budget, drain, readiness, text in queries, tables, units.

pub mod backoff;
pub mod budget;
pub mod drain;
pub mod percent;
pub mod readiness;
pub mod scheduling;
pub mod table;
pub mod units;
