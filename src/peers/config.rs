//! Where the other instances are learned from.

use std::path::PathBuf;

/// `cluster = { service = … }` of `[log]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeersConfig {
    /// The Service's namespace.
    pub namespace: String,
    /// The Service's name.
    pub service: String,
    /// The name of the Service's port that Redis clients connect to; empty for one without a name.
    pub port: String,
    /// The API server's; absent: the one of the cluster that this runs in.
    pub kubeconfig: Option<PathBuf>,
}
