//! What every stage may use: the byte budget, drain, readiness, units.

pub mod budget;
pub mod drain;
pub mod readiness;
pub mod scheduling;
pub mod units;
