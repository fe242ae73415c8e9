//! The pull API: gateways ask for pools, wait for changes, and say what they serve.
//!
//! | path | answers |
//! |---|---|
//! | `GET /v1/pools`, `GET /v1/pools/ID` | JSON, in the list with the port and the labels `tidegate.dev/…`; filters `id`, `cluster`, `namespace`, `prefix`, `label` |
//! | `GET /v1/delta?since=BOOT:REVISION` | what changed since, or 410: begin anew |
//! | `GET /v1/hosts` | which hosts and paths lead to which pools |
//! | `GET /v1/render/nginx[/ID]`, `/v1/render/haproxy[/ID]` | a block or all of them |
//! | `GET /v1/prometheus/targets` | Prometheus' `http_sd` |
//! | `POST /v3/discovery:endpoints`; gRPC EDS, CDS, LDS, RDS and ADS | Envoy; see [`xds`] |
//! | `GET /eureka/apps…` | Eureka's clients; see [`eureka`] |
//! | `POST /v1/ack`, `GET /v1/gateways`, `DELETE /v1/gateways/NAME` | who serves what; of one pool with `id`, of one gateway with `gateway` |
//! | `POST /v1/relay` | what a relay's gateways say |
//!
//! Each of the first five rows waits for a change with `wait=30s`. One answer is made from one snapshot. How true it is stands
//! in the headers `Tidegate-State` and `Tidegate-Synced-At`; a body depends on content alone, so that its `ETag` is the
//! same on every replica. Until the sources that could have a pool have told theirs, the answer is 503 and never an empty
//! 200: gateways keep what they have on an error.

mod access;
mod answer;
mod api;
mod clients;
pub mod config;
mod delta;
mod eureka;
pub mod export;
mod formats;
mod gateways;
mod hosts;
mod lists;
mod metrics;
mod own;
mod pieces;
mod pools;
mod query;
mod relay;
mod relays;
mod report;
mod server;
mod serving;
#[cfg(test)]
mod tests;
mod truth;
mod uplink;
mod waiters;
mod xds;

pub use own::{Book, OwnGateway};
pub use server::{Discovery, DiscoveryError, DiscoveryReloader, OpenError};

/// A time as RFC 3339 has it, in UTC.
fn iso(time: std::time::SystemTime) -> String {
    jiff::Timestamp::try_from(time).map(|it| format!("{it:.3}")).unwrap_or_default()
}
