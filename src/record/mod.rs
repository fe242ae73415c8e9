//! A record, and where it goes: routes from Redis keys to Kafka topics. Nothing here knows Kafka's client.

pub mod config;
