//! Upstreams: which endpoint of a pool takes a request, how it is reached, and whether it can be trusted to answer.
//!
//! ```text
//! Snapshot ─→ follow (one task) ─→ Table, swapped in whole ─→ Pool::pick ─→ Picked ─→ Connections::send ─→ ResponseBody
//!                 ↑ health checks, ejections, ages                              └─ record(Outcome) ─┘
//! ```
//!
//! - A [`Table`] is immutable: endpoints, what the balancer samples from, and health as of one moment. It is replaced by
//!   one swap, pool by pool, so that a change costs as much as the pools that it touches. A request reads one table.
//! - Parts of a pool that are for some requests alone ([`Pool::part`]) have a layout each, over the same members: health, limits and
//!   connections are the pool's. What is in a part alone gets nothing else.
//! - What lives longer than a table hangs on the endpoint: requests in flight, latencies, health, ejections (by pool),
//!   and its connections (by address, port and TLS identity, whatever pools it is in). A swap loses none of it.
//! - An endpoint that drains, or is gone, gets no new request. Those in flight finish; idle connections close.
//! - Clock and randomness are arguments of everything that decides ([`Pick`], [`Picked::record`]), so that tests are exact.
//! - No lock is shared between the gateway's threads while requests flow: each has its own shelf of connections and its
//!   own stripe of every counter. What is shared beyond that are the counts of an endpoint that two threads use at once.

mod adaptive;
mod balance;
pub mod config;
mod connection;
mod entry;
mod follow;
mod health;
mod host;
mod life;
mod limits;
mod metrics;
mod outlier;
mod pool;
mod probe;
mod random;
mod report;
mod table;
mod targets;

pub use config::{Balancer, ConfigError, PoolConfig, UpstreamsConfig};
pub use connection::{
    BoxError, Connections, RequestBody, ResponseBody, SendError, SendErrorKind, SendOptions, Written,
};
pub use follow::{FormerPools, Published, Upstreams};
pub use limits::RetryPermit;
pub use outlier::Outcome;
pub use pool::{NoEndpoint, Pick, Picked, Pool};
pub use random::{Random, hash};
pub use table::{PoolKey, Reader, Table};

#[cfg(test)]
mod tests;
