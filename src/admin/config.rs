//! Where the admin server listens and who may read from it.

use std::net::SocketAddr;

/// The `[admin]` section.
#[derive(Clone, Debug)]
pub struct AdminConfig {
    /// Where to listen; port 0 is any free one.
    pub listen: SocketAddr,
    /// Who may read; empty: whoever comes from loopback.
    pub tokens: Vec<Token>,
}

/// One line of the tokens file.
#[derive(Clone)]
pub struct Token {
    /// Who it was given to.
    pub name: String,
    /// What is sent as `Authorization: Bearer …`.
    pub secret: String,
}

// === impl Token ===

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The secret stays out of logs and panics.
        f.debug_struct("Token").field("name", &self.name).finish_non_exhaustive()
    }
}
