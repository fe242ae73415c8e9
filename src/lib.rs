//! Tidegate: applications push their logs with the Redis client they already have, and every record ends in Kafka.
//!
//! The data's way, each stage a folder that imports only from those before it (`tests/layering.rs`):
//!
//! ```text
//! log       socket → resp → intake session → record route → delivery → Kafka    (acknowledged back to the reply)
//!                                                               ↓ ↑
//!                                                              spool (this machine's disk, for what Kafka does not take in time)
//! deploy    App, Release → control: observe → plan (pure) → writes → TrafficPolicy → acknowledged by gateways at data planes
//! discover  endpoints: source (kubernetes | file | hub | eureka) → registry → Snapshot → discovery: the pull API → gateways
//!                                                                             └→ upstream: Table → pick → connection
//! gateway   socket → listener → connection → route → forward → upstream → answer ⇢ access log → delivery
//! pods      hook: beside an application's containers, as control writes it into pods: before start, online, offline
//! beside    pull: a client of the pull API → render: files → haproxy: servers at run time, lvs: virtual servers → acknowledged
//! ```
//!
//! `app` is the one place where the stages are joined, in the order in which data flows.

pub mod admin;
pub mod app;
pub mod base;
pub mod cli;
pub mod config;
pub mod control;
pub mod delivery;
pub mod deploy;
pub mod dev;
pub mod discovery;
pub mod endpoints;
pub mod gateway;
pub mod haproxy;
pub mod hook;
pub mod intake;
pub mod kubernetes;
pub mod letters;
pub mod lint;
pub mod lvs;
pub mod net;
pub mod peers;
pub mod pods;
pub mod pull;
pub mod record;
pub mod render;
pub mod resp;
pub mod show;
pub mod spool;
pub mod tail;
pub mod telemetry;
pub mod upstream;
