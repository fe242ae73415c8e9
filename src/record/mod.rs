//! A record, and where it goes: routes from Redis keys to Kafka topics. Nothing here knows Kafka's client, and nothing
//! does I/O.

pub mod config;
pub mod dead_letter;
pub mod enrich;
pub mod headers;
pub mod id;
pub mod join;
pub mod lag;
pub mod origin;
pub mod partition;
pub mod pods;
pub mod restamp;
pub mod route;
pub mod sink;
pub mod template;
pub mod topic;
