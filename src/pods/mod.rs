//! The pods of this node, followed for [`record::pods`](crate::record::pods): who is behind an address.
//!
//! A list, then a watch from its version; every watch is ended by the API server after a minute and begun anew, so that one
//! on which nothing comes for longer is known to be dead. Whatever goes wrong leads back to a list, and until it has come
//! the index says since when nothing was heard.

pub mod config;
mod convert;

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::Pod as Object;
use kube::api::{Api, ListParams, WatchEvent, WatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, ResourceExt};
use tokio::time::timeout;

use crate::base::drain::Drain;
use crate::record::pods::{PodIndex, Pods};
use config::PodsConfig;
use convert::{Converted, Converter};

/// How long the API server keeps a watch, in seconds, and when one that says nothing is dead.
const WATCH_SECONDS: u32 = 60;
const SILENCE: Duration = Duration::from_secs(75);
/// How long a list may take.
const ANSWER: Duration = Duration::from_secs(15);
/// Between tries: doubled from one to the other.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// The most objects that are kept: a node has some hundred pods.
const MOST: usize = 10_000;

/// Why nothing more is heard.
#[derive(Debug, thiserror::Error)]
enum WatchError {
    #[error("the API server cannot be reached: {0}")]
    Config(String),
    #[error("{0}")]
    Kube(#[from] kube::Error),
    #[error("no answer for {0:?}")]
    Silent(Duration),
    #[error("the API server ended the watch: {0}")]
    Ended(String),
}

/// Follows the pods until `drain` ends it.
pub async fn follow(config: PodsConfig, pods: Arc<Pods>, drain: Drain) {
    let mut follower = Follower {
        converter: Converter::new(&config.forwarders),
        pods,
        objects: HashMap::new(),
        heard: SystemTime::now(),
    };
    let mut pause = PAUSE.0;
    loop {
        let begun = Instant::now();
        let error = tokio::select! {
            error = follower.listen(&config) => error,
            () = drain.requested() => return,
        };
        follower.publish(true);
        tracing::warn!(%error, node = config.node, "this node's pods are not followed; trying again");
        pause = if begun.elapsed() > PAUSE.1 { PAUSE.0 } else { (2 * pause).min(PAUSE.1) };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = drain.requested() => return,
        }
    }
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
    /// Lists and watches for as long as it goes well.
    async fn listen(&mut self, config: &PodsConfig) -> WatchError {
        match self.try_listen(config).await {
            Ok(never) => match never {},
            Err(error) => error,
        }
    }

    async fn try_listen(&mut self, config: &PodsConfig) -> Result<std::convert::Infallible, WatchError> {
        let api: Api<Object> = Api::all(connect(config).await?);
        let selector = format!("spec.nodeName={}", config.node);
        let params = ListParams::default().fields(&selector);
        let list = timeout(ANSWER, api.list(&params)).await.map_err(|_| WatchError::Silent(ANSWER))??;
        self.objects.clear();
        list.items.iter().for_each(|object| self.keep(object));
        self.heard();
        let mut version = list.metadata.resource_version.unwrap_or_default();
        let params = WatchParams::default().fields(&selector).timeout(WATCH_SECONDS);
        loop {
            let stream = timeout(ANSWER, api.watch(&params, &version)).await;
            let mut stream = pin!(stream.map_err(|_| WatchError::Silent(ANSWER))??);
            loop {
                match timeout(SILENCE, stream.next()).await.map_err(|_| WatchError::Silent(SILENCE))? {
                    None => break,
                    Some(event) => {
                        if let Some(newer) = self.take(event?)? {
                            version = newer;
                        }
                    }
                }
            }
        }
    }

    /// Takes in one event; gives the version that it makes.
    fn take(&mut self, event: WatchEvent<Object>) -> Result<Option<String>, WatchError> {
        let version = match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                self.keep(&object);
                object.resource_version()
            }
            WatchEvent::Deleted(object) => {
                self.objects.remove(&object.uid().unwrap_or_default());
                object.resource_version()
            }
            WatchEvent::Bookmark(bookmark) => {
                self.heard = SystemTime::now();
                return Ok(Some(bookmark.metadata.resource_version));
            }
            WatchEvent::Error(status) => return Err(WatchError::Ended(status.message.clone())),
        };
        self.heard();
        Ok(version)
    }

    fn keep(&mut self, object: &Object) {
        let uid = object.uid().unwrap_or_default();
        if self.objects.len() < MOST || self.objects.contains_key(&uid) {
            self.objects.insert(uid, self.converter.convert(object));
        }
    }

    fn heard(&mut self) {
        self.heard = SystemTime::now();
        self.publish(false);
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

async fn connect(config: &PodsConfig) -> Result<Client, WatchError> {
    let told = |error: &dyn std::fmt::Display| WatchError::Config(error.to_string());
    let client = match &config.kubeconfig {
        None => kube::Config::incluster().map_err(|error| told(&error))?,
        Some(path) => {
            let file = Kubeconfig::read_from(path).map_err(|error| told(&error))?;
            let client = kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await;
            client.map_err(|error| told(&error))?
        }
    };
    Client::try_from(client).map_err(|error| told(&error))
}

fn unix_millis(time: SystemTime) -> u64 {
    u64::try_from(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}
