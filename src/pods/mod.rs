//! The pods of this node, followed for [`record::pods`](crate::record::pods): who is behind an address.

pub mod config;
mod convert;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use k8s_openapi::api::core::v1::Pod as Object;
use kube::ResourceExt;

use crate::base::drain::Drain;
use crate::kubernetes::{self, Heard, Wanted};
use crate::record::pods::{PodIndex, Pods};
use config::PodsConfig;
use convert::{Converted, Converter};

/// The most objects that are kept: a node has some hundred pods.
const MOST: usize = 10_000;

/// Follows the pods until `drain` ends it.
pub async fn follow(config: PodsConfig, pods: Arc<Pods>, drain: Drain) {
    let mut follower = Follower {
        converter: Converter::new(&config.forwarders),
        pods,
        objects: HashMap::new(),
        heard: SystemTime::now(),
    };
    let node = config.node;
    let fields = Some(format!("spec.nodeName={node}"));
    let wanted = Wanted { kubeconfig: config.kubeconfig, fields, ..Wanted::default() };
    kubernetes::follow(&wanted, &drain, |heard| follower.take(heard, &node)).await;
}

struct Follower {
    converter: Converter,
    pods: Arc<Pods>,
    /// By uid: a name comes back with the next pod of a StatefulSet.
    objects: HashMap<String, Converted>,
    heard: SystemTime,
}

// === impl Follower ===

impl Follower {
    fn take(&mut self, heard: Heard<Object>, node: &str) {
        match heard {
            Heard::Listed(objects) => {
                self.objects.clear();
                objects.iter().for_each(|object| self.keep(object));
            }
            Heard::Changed(object) => self.keep(&object),
            Heard::Deleted(object) => drop(self.objects.remove(&object.uid().unwrap_or_default())),
            Heard::Confirmed => {
                self.heard = SystemTime::now();
                return;
            }
            Heard::Lost(error) => {
                tracing::warn!(%error, node, "this node's pods are not followed; trying again");
                return self.publish(true);
            }
        }
        self.heard = SystemTime::now();
        self.publish(false);
    }

    fn keep(&mut self, object: &Object) {
        let uid = object.uid().unwrap_or_default();
        if self.objects.len() < MOST || self.objects.contains_key(&uid) {
            self.objects.insert(uid, self.converter.convert(object));
        }
    }

    fn publish(&self, stale: bool) {
        let mut index = PodIndex { stale_since_ms: stale.then(|| unix_millis(self.heard)), ..PodIndex::default() };
        for object in self.objects.values() {
            index.hosts.extend(&object.hosts);
            if let Some(pod) = &object.pod {
                for address in &object.addresses {
                    index.by_address.entry(*address).or_default().push(pod.clone());
                }
            }
        }
        self.pods.publish(index);
    }
}

fn unix_millis(time: SystemTime) -> u64 {
    u64::try_from(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}
