//! Where the pull API listens, who may read, and how much one client gets.

use std::net::SocketAddr;

use super::export::ExportConfig;
use crate::net::tls::{Clients, TlsConfig};

/// The listener's part of the `[discovery]` section.
#[derive(Clone, Debug)]
pub struct DiscoveryConfig {
    /// Where to listen; port 0 is any free one.
    pub listen: SocketAddr,
    /// What TLS is spoken with; `None` speaks none.
    pub tls: Option<TlsConfig>,
    /// Who may do what.
    pub tokens: Vec<Token>,
    /// Whether reading needs no token.
    pub anonymous_reads: bool,
    /// Whether that was said, and is not a default.
    pub anonymous_said: bool,
    /// What one client gets.
    pub limits: ClientLimits,
    /// Connections at once.
    pub max_connections: usize,
    /// Where Envoys that ask for listeners (LDS) are to listen.
    pub envoy_listeners: Vec<SocketAddr>,
    /// The file, on Envoy's side, in which those listeners write down each request.
    pub envoy_access_log: Option<String>,
    /// What is registered in a Eureka ring.
    pub export: Option<ExportConfig>,
}

/// What one client gets. A client is a token at an address, or an address where no token is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientLimits {
    /// Requests that wait for a change at once.
    pub waits: usize,
    /// Requests a second, on the long run; twice as many at once.
    pub requests_per_second: u32,
}

/// What a token grants.
#[derive(Clone)]
pub struct Token {
    /// Who it was given to.
    pub name: String,
    /// What is sent as `Authorization: Bearer …`; empty for a holder of a certificate alone.
    pub secret: String,
    /// A client certificate of this name grants the same.
    pub certificate: bool,
    /// What it may read.
    pub scope: Scope,
    /// Whether it may acknowledge.
    pub may_write: bool,
    /// The gateways that it may speak for: names, or beginnings of names that end in `*`.
    pub gateways: Vec<String>,
}

/// Which pools somebody may see. An empty list is all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// Pools all of whose endpoints come from these clusters.
    pub clusters: Vec<String>,
    /// Pools of services in these namespaces.
    pub namespaces: Vec<String>,
}

// === impl DiscoveryConfig ===

impl DiscoveryConfig {
    /// Whether everybody would be let in although nobody said so: only a listener on loopback may.
    pub fn is_open(&self) -> bool {
        let certified = self.tls.as_ref().is_some_and(|tls| tls.clients() == Clients::Required);
        self.tokens.is_empty() && !self.anonymous_said && !certified
    }
}

// === impl Token ===

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The secret stays out of logs and panics.
        f.debug_struct("Token").field("name", &self.name).finish_non_exhaustive()
    }
}
