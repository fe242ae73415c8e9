//! The log plane's front: Redis clients in, records out, replies back when the records are safe.

pub mod client;
pub mod commands;
pub mod config;
pub mod users;
