//! Which instances the clients of a cluster are told of: where that is a Service, its slices are followed, and another's
//! after a reload that names another.

use std::sync::{Arc, Mutex, PoisonError};

use crate::base::drain::Drain;
use crate::intake::cluster::{Cluster, ClusterConfig, ClusterMode};
use crate::peers::config::PeersConfig;
use crate::peers::{self, Peers};

/// The Service that is followed, if any. Clones are the same.
#[derive(Clone)]
pub(super) struct Membership(Arc<Mutex<Followed>>);

struct Followed {
    node: String,
    service: Option<(PeersConfig, Arc<Peers>)>,
    /// Ends the task that follows it.
    end: Drain,
}

// === impl Membership ===

impl Membership {
    /// Of an instance on this node.
    pub(super) fn new(node: String) -> Self {
        Self(Arc::new(Mutex::new(Followed { node, service: None, end: Drain::new() })))
    }

    /// What CLUSTER and SENTINEL answer from now on. Instances that are known stay known while the Service is the same.
    /// To be called within the runtime.
    pub(super) fn follow(&self, config: &ClusterConfig) -> Cluster {
        let mut followed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = match &config.mode {
            ClusterMode::Service(service) => Some(service),
            ClusterMode::Off | ClusterMode::Own | ClusterMode::Nodes(_) => None,
        };
        if followed.service.as_ref().map(|(service, _)| service) != wanted {
            followed.end.request();
            followed.end = Drain::new();
            followed.service = wanted.map(|service| {
                let peers = Arc::new(Peers::new(followed.node.clone()));
                tokio::spawn(peers::follow(service.clone(), peers.clone(), followed.end.clone()));
                (service.clone(), peers)
            });
        }
        let peers = followed.service.as_ref().map(|(_, peers)| peers.clone());
        Cluster::new(config.clone(), peers)
    }
}
