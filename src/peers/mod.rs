//! The instances of this program: the ready endpoints of a Service, as its EndpointSlices say. An immutable list, swapped
//! as a whole when the watch tells of a change, so that a look takes no lock.
//!
//! The list is sorted and holds each instance once, so that all instances that know the same slices know the same list.
//! While nothing is heard of changes, the last list stays, and says since when.

pub mod config;
mod slices;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt;
use metrics::{Gauge, describe_gauge, gauge};

use crate::base::drain::Drain;
use crate::kubernetes::{self, Heard, Wanted};
use config::PeersConfig;

/// The label that names a slice's Service.
const SERVICE: &str = "kubernetes.io/service-name";
/// The most slices that are kept: each has a hundred endpoints, and a cluster has five thousand nodes.
const MOST_SLICES: usize = 1000;

/// An instance.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Peer {
    /// Where Redis clients reach it.
    pub address: SocketAddr,
    /// The node that it runs on.
    pub node: Option<String>,
}

/// All instances at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct PeerList {
    /// Their IPv4 addresses, sorted.
    pub v4: Vec<Peer>,
    /// Their IPv6 addresses, sorted.
    pub v6: Vec<Peer>,
    /// Since when nothing is heard of changes, in Unix seconds.
    pub stale_since: Option<u64>,
    /// Why nothing is heard.
    pub last_error: Option<String>,
}

/// The instances as workers read them.
#[derive(Debug)]
pub struct Peers {
    /// The node that this instance runs on; empty: not known.
    pub node: String,
    list: ArcSwap<PeerList>,
}

// === impl Peers ===

impl Peers {
    /// Nobody known yet.
    pub fn new(node: String) -> Self {
        Self { node, list: ArcSwap::default() }
    }

    /// Those known now.
    pub fn list(&self) -> Arc<PeerList> {
        self.list.load_full()
    }

    /// Replaces the list.
    pub fn publish(&self, list: PeerList) {
        self.list.store(Arc::new(list));
    }
}

/// Follows the Service's slices until `drain` ends it.
pub async fn follow(config: PeersConfig, peers: Arc<Peers>, drain: Drain) {
    let PeersConfig { namespace, service, port, kubeconfig } = config;
    let mut follower =
        Follower { peers, port, slices: HashMap::new(), heard: now(), metrics: PeersMetrics::register() };
    let labels = Some(format!("{SERVICE}={service}"));
    let wanted = Wanted { kubeconfig, namespace: Some(namespace), labels, fields: None };
    kubernetes::follow(&wanted, &drain, |heard| follower.take(heard)).await;
}

struct Follower {
    peers: Arc<Peers>,
    port: String,
    /// By name, which is unique as all are of one namespace.
    slices: HashMap<String, EndpointSlice>,
    heard: u64,
    metrics: PeersMetrics,
}

struct PeersMetrics {
    nodes: Gauge,
    stale: Gauge,
}

// === impl Follower ===

impl Follower {
    fn take(&mut self, heard: Heard<EndpointSlice>) {
        match heard {
            Heard::Listed(slices) => {
                self.slices.clear();
                slices.into_iter().for_each(|slice| self.keep(slice));
            }
            Heard::Changed(slice) => self.keep(slice),
            Heard::Deleted(slice) => drop(self.slices.remove(&slice.name_any())),
            Heard::Confirmed => {
                self.heard = now();
                return;
            }
            Heard::Lost(error) => {
                tracing::warn!(%error, "the other instances are not followed, those known stay; trying again");
                let list = (*self.peers.list()).clone();
                let last_error = Some(error.to_string());
                return self.publish(PeerList { stale_since: Some(self.heard), last_error, ..list });
            }
        }
        self.heard = now();
        let (v4, v6) = slices::ready(self.slices.values(), &self.port);
        self.publish(PeerList { v4, v6, ..PeerList::default() });
    }

    fn keep(&mut self, slice: EndpointSlice) {
        let name = slice.name_any();
        if self.slices.len() < MOST_SLICES || self.slices.contains_key(&name) {
            self.slices.insert(name, slice);
        }
    }

    fn publish(&self, list: PeerList) {
        #[expect(clippy::cast_precision_loss, reason = "instances are far below 2^52")]
        self.metrics.nodes.set(list.v4.len().max(list.v6.len()) as f64);
        self.metrics.stale.set(if list.stale_since.is_some() { 1.0 } else { 0.0 });
        self.peers.publish(list);
    }
}

// === impl PeersMetrics ===

impl PeersMetrics {
    fn register() -> Self {
        describe_gauge!("tidegate_log_cluster_instances", "Ready instances that clients of the cluster are told of");
        describe_gauge!("tidegate_log_cluster_stale", "1 while nothing is heard of changes of these instances");
        Self { nodes: gauge!("tidegate_log_cluster_instances"), stale: gauge!("tidegate_log_cluster_stale") }
    }
}

/// Unix seconds.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::kubernetes::WatchError;

    fn slice(name: &str, addresses: &[&str]) -> EndpointSlice {
        let endpoints: Vec<Value> = addresses.iter().map(|address| json!({ "addresses": [address] })).collect();
        serde_json::from_value(json!({
            "metadata": { "name": name }, "addressType": "IPv4",
            "ports": [{ "name": "redis", "port": 6379 }], "endpoints": endpoints,
        }))
        .unwrap()
    }

    fn follower() -> Follower {
        Follower {
            peers: Arc::new(Peers::new("n".into())),
            port: "redis".into(),
            slices: HashMap::new(),
            heard: 7,
            metrics: PeersMetrics { nodes: Gauge::noop(), stale: Gauge::noop() },
        }
    }

    fn known(follower: &Follower) -> Vec<String> {
        follower.peers.list().v4.iter().map(|peer| peer.address.ip().to_string()).collect()
    }

    #[test]
    fn changes_of_slices_are_changes_of_the_list() {
        let mut follower = follower();
        follower.take(Heard::Listed(vec![slice("a", &["10.0.0.2"]), slice("b", &["10.0.0.1"])]));
        assert_eq!(known(&follower), ["10.0.0.1", "10.0.0.2"]);
        follower.take(Heard::Changed(slice("a", &["10.0.0.3"])));
        assert_eq!(known(&follower), ["10.0.0.1", "10.0.0.3"]);
        follower.take(Heard::Deleted(slice("b", &[])));
        assert_eq!(known(&follower), ["10.0.0.3"]);
        follower.take(Heard::Listed(vec![slice("c", &["10.0.0.4"])]));
        assert_eq!(known(&follower), ["10.0.0.4"]);
    }

    #[test]
    fn what_is_known_stays_while_nothing_is_heard_and_says_since_when() {
        let mut follower = follower();
        follower.take(Heard::Listed(vec![slice("a", &["10.0.0.2"])]));
        follower.heard = 8;
        follower.take(Heard::Lost(WatchError::Cut));
        assert_eq!(known(&follower), ["10.0.0.2"]);
        let list = follower.peers.list();
        assert_eq!((list.stale_since, list.last_error.is_some()), (Some(8), true));
        follower.take(Heard::Listed(vec![slice("a", &["10.0.0.2"])]));
        assert_eq!(follower.peers.list().stale_since, None);
    }
}
