//! Pools and connections at work, against a registry and servers that are real.

mod exchange;
mod following;
mod http2;
mod limits;
mod pools;
mod raw;
mod secure;
mod server;
mod support;
