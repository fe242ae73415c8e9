//! The planner over a simulated cluster, whose own rules say which writes are illegal.

mod failing;
mod golden;
mod properties;
mod scenarios;
mod sim;
