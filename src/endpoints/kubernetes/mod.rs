//! Pools of a Kubernetes cluster: its EndpointSlices (or Endpoints, of old clusters) and TrafficPolicies.
//!
//! ```text
//! API server → watch (list, then watch, for ever) → assemble (slices → services → pools, pure) → SourceEvent
//! ```

mod assemble;
mod object;
mod policy;
mod service;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio::sync::mpsc;

use self::assemble::{Assembler, Contribution};
use self::object::{EndpointsObject, Metadata, SliceObject};
use self::policy::PolicyObject;
use self::watch::{Follower, Heard, Object};
use super::pool::PoolId;
use super::runtime::Sender;
use super::update::{JoinUpdate, SourceEvent, Update, Watched};
pub(crate) use crate::net::fetch::flat;

/// How a cluster is followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubernetesConfig {
    /// The first part of its pools' ids.
    pub cluster: Arc<str>,
    /// How to reach it; `None` from inside it.
    pub kubeconfig: Option<PathBuf>,
    /// The namespaces to follow; empty for all.
    pub namespaces: Vec<String>,
    /// Follow Endpoints in place of EndpointSlices.
    pub endpoints_v1: bool,
    /// An endpoint is ready only if it serves and does not terminate, whatever `publishNotReadyAddresses` says.
    pub strict_serving: bool,
    /// Follow TrafficPolicies.
    pub traffic_policies: bool,
}

/// What decides how slices become pools.
#[derive(Clone, Debug)]
struct Settings {
    cluster: Arc<str>,
    strict_serving: bool,
    zone: Option<Arc<str>>,
    node: Option<Arc<str>>,
}

/// Where this instance is, for topology hints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Zone.
    pub zone: Option<Arc<str>>,
    /// Node.
    pub node: Option<Arc<str>>,
}

/// One text in memory for all endpoints that name the same zone, node or namespace.
#[derive(Debug, Default)]
pub(super) struct Interner(HashSet<Arc<str>>);

/// Objects that wait for the assembler; a slow one slows the reading of the socket, not more.
const QUEUE: usize = 256;
/// When the interner looks for texts that nobody uses any more.
const INTERNED: usize = 100_000;

/// Follows one namespace of a cluster, or all, until the registry is gone.
pub(super) async fn run(config: KubernetesConfig, namespace: Option<String>, place: Place, events: Sender) {
    let scope = namespace.as_deref().map(|name| format!("namespaces/{name}/")).unwrap_or_default();
    let config = Arc::new(config);
    let (endpoints_sender, policies_sender) = (events.clone(), events);
    let endpoints = async {
        if config.endpoints_v1 {
            let path = format!("/api/v1/{scope}endpoints");
            follow_endpoints::<EndpointsObject>(&config, path, place, endpoints_sender).await;
        } else {
            let path = format!("/apis/discovery.k8s.io/v1/{scope}endpointslices");
            follow_endpoints::<SliceObject>(&config, path, place, endpoints_sender).await;
        }
    };
    let policies = async {
        if config.traffic_policies {
            let path = format!("/apis/{}/{scope}trafficpolicies", policy::GROUP_VERSION);
            follow_policies(&config, path, policies_sender).await;
        }
    };
    tokio::join!(endpoints, policies);
}

async fn follow_endpoints<T: Object + Into<Contribution>>(
    config: &Arc<KubernetesConfig>,
    path: String,
    place: Place,
    events: Sender,
) {
    let settings = Settings {
        cluster: config.cluster.clone(),
        strict_serving: config.strict_serving,
        zone: place.zone,
        node: place.node,
    };
    let mut assembler = Assembler::new(settings);
    let (heard, mut hearing) = mpsc::channel(QUEUE);
    let follower = tokio::spawn({
        let config = config.clone();
        async move { Follower::<T> { path, heard }.run(|| connect(&config)).await }
    });
    while let Some(heard) = hearing.recv().await {
        let told = match heard {
            Heard::Listed(objects) => {
                let reset = assembler.reset(objects.into_iter().map(Into::into).collect());
                vec![SourceEvent::Pools(vec![reset]), SourceEvent::Contact(Watched::Endpoints)]
            }
            Heard::Changed(object) => pools(assembler.apply(object.into())),
            Heard::Deleted(object) => pools(assembler.delete(&object.metadata().namespace, &object.metadata().name)),
            Heard::Contact => vec![SourceEvent::Contact(Watched::Endpoints)],
            Heard::Absent(why) | Heard::Lost(why) => lost(Watched::Endpoints, why),
        };
        if !events.send(told).await {
            break;
        }
    }
    follower.abort();
}

fn pools(updates: Vec<Update>) -> Vec<SourceEvent> {
    vec![SourceEvent::Pools(updates), SourceEvent::Contact(Watched::Endpoints)]
}

fn lost(what: Watched, why: String) -> Vec<SourceEvent> {
    vec![SourceEvent::Lost(what, why)]
}

async fn follow_policies(config: &Arc<KubernetesConfig>, path: String, events: Sender) {
    let (heard, mut hearing) = mpsc::channel(QUEUE);
    let follower = tokio::spawn({
        let config = config.clone();
        async move { Follower::<PolicyObject> { path, heard }.run(|| connect(&config)).await }
    });
    // The pool that each policy makes: a policy whose port changes makes another one.
    let mut made: BTreeMap<(String, String), PoolId> = BTreeMap::new();
    while let Some(heard) = hearing.recv().await {
        let told = match heard {
            Heard::Listed(policies) => {
                made.clear();
                let mut joins = Vec::new();
                for policy in policies {
                    match policy.join() {
                        Ok(join) => {
                            made.insert(key_of(&policy), join.id.clone());
                            joins.push(join);
                        }
                        Err(why) => warn_of(&policy, &why),
                    }
                }
                joins_told(vec![JoinUpdate::Reset(joins)])
            }
            Heard::Changed(policy) => joins_told(changed(&policy, &mut made)),
            Heard::Deleted(policy) => {
                joins_told(made.remove(&key_of(&policy)).map(JoinUpdate::Remove).into_iter().collect())
            }
            Heard::Contact => vec![SourceEvent::Contact(Watched::Policies)],
            // Not installed, or not for us, is as good as none; unless there were some a moment ago.
            Heard::Absent(why) if made.is_empty() => {
                tracing::debug!(why, "no TrafficPolicies are followed");
                joins_told(vec![JoinUpdate::Reset(Vec::new())])
            }
            Heard::Absent(why) | Heard::Lost(why) => lost(Watched::Policies, why),
        };
        if !events.send(told).await {
            break;
        }
    }
    follower.abort();
}

/// A policy that became bad leaves what it made before: a switch happens only to what is asked for whole.
fn changed(policy: &PolicyObject, made: &mut BTreeMap<(String, String), PoolId>) -> Vec<JoinUpdate> {
    match policy.join() {
        Ok(join) => {
            let before = made.insert(key_of(policy), join.id.clone()).filter(|before| *before != join.id);
            let moved = before.map(JoinUpdate::Remove);
            moved.into_iter().chain([JoinUpdate::Add(join)]).collect()
        }
        Err(why) => {
            warn_of(policy, &why);
            Vec::new()
        }
    }
}

fn joins_told(updates: Vec<JoinUpdate>) -> Vec<SourceEvent> {
    vec![SourceEvent::Joins(updates), SourceEvent::Contact(Watched::Policies)]
}

fn key_of(policy: &PolicyObject) -> (String, String) {
    (policy.metadata.namespace.clone(), policy.metadata.name.clone())
}

fn warn_of(policy: &PolicyObject, why: &str) {
    let Metadata { namespace, name, .. } = &policy.metadata;
    tracing::warn!(namespace, name, "a TrafficPolicy makes no pool: {why}");
}

/// A client of a cluster, from what its files say now. The error is for people.
pub(crate) async fn connect(config: &KubernetesConfig) -> Result<Client, String> {
    let client_config = match &config.kubeconfig {
        Some(path) => {
            let file = Kubeconfig::read_from(path).map_err(|error| format!("{}: {}", path.display(), flat(&error)))?;
            let config = kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await;
            config.map_err(|error| format!("{}: {}", path.display(), flat(&error)))?
        }
        None => kube::Config::incluster().map_err(|error| format!("not inside a cluster: {}", flat(&error)))?,
    };
    Client::try_from(client_config).map_err(|error| flat(&error))
}

// === impl Contribution ===

impl Object for SliceObject {
    fn metadata(&self) -> &Metadata {
        &self.metadata
    }
}

impl Object for EndpointsObject {
    fn metadata(&self) -> &Metadata {
        &self.metadata
    }
}

impl From<EndpointsObject> for Contribution {
    fn from(object: EndpointsObject) -> Self {
        let (namespace, name) = (object.metadata.namespace.clone(), object.metadata.name.clone());
        Self { namespace, name, slices: object.into() }
    }
}

// === impl Interner ===

impl Interner {
    pub(super) fn get(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.0.get(text) {
            return known.clone();
        }
        if self.0.len() >= INTERNED {
            self.0.retain(|known| Arc::strong_count(known) > 1);
        }
        let new: Arc<str> = text.into();
        self.0.insert(new.clone());
        new
    }
}
