//! Where this node's pods are learned from.

use std::path::PathBuf;
use std::time::Duration;

/// The `[log.pods]` section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodsConfig {
    /// The API server's; absent: the one of the cluster that this runs in.
    pub kubeconfig: Option<PathBuf>,
    /// The node's name in the cluster.
    pub node: String,
    /// How long the first records of a young connection wait for its pod to be known.
    pub wait: Duration,
    /// Globs over `namespace/name` of pods, or of their owners, that forward what others log.
    pub forwarders: Vec<String>,
}
