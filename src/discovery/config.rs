//! Where the pull API listens, who may read, and how much one client gets.

use std::net::SocketAddr;

/// The listener's part of the `[discovery]` section.
#[derive(Clone, Debug)]
pub struct DiscoveryConfig {
    /// Where to listen; port 0 is any free one.
    pub listen: SocketAddr,
    /// Who may do what.
    pub tokens: Vec<Token>,
    /// Whether reading needs no token.
    pub anonymous_reads: bool,
    /// What one client gets.
    pub limits: ClientLimits,
    /// Connections at once.
    pub max_connections: usize,
}

/// What one client gets. A client is a token, or an address where no token is asked for.
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
    /// What is sent as `Authorization: Bearer …`.
    pub secret: String,
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

// === impl Token ===

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The secret stays out of logs and panics.
        f.debug_struct("Token").field("name", &self.name).finish_non_exhaustive()
    }
}
