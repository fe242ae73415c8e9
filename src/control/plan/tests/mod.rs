//! The planner over a simulated cluster, whose own rules say which writes are illegal.

mod failing;
pub(super) mod given;
mod golden;
mod injected;
mod kills;
mod matched;
mod properties;
mod scenarios;
mod sim;
mod waves;
mod wavesim;
