//! Pools of a Kubernetes cluster: its EndpointSlices (or Endpoints, of old clusters) and TrafficPolicies.
//!
//! ```text
//! API server → watch (list, then watch, for ever) → assemble (slices → services → pools, pure) → SourceEvent
//! ```

mod assemble;
mod end;
mod hosts;
mod object;
mod policy;
mod service;
#[cfg(test)]
mod tests;
mod watch;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio::sync::mpsc;

use self::assemble::{Assembler, Contribution};

use self::object::{EndpointsObject, Key, Metadata, SliceObject};
use self::policy::PolicyObject;
use self::watch::{Follower, Heard, Object};
use super::hosts::{Claim, Claimants};
use super::interner::Interner;
use super::join::Join;
use super::runtime::Sender;
use super::update::{JoinUpdate, SourceEvent, Update, Watched};
pub(crate) use crate::net::fetch::flat;

/// How a cluster is followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubernetesConfig {
    /// Follow the Services that declare hosts.
    pub hosts: bool,
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

/// Objects that wait for the assembler; a slow one slows the reading of the socket, not more.
const QUEUE: usize = 256;

/// Follows one namespace of a cluster, or all, until the registry is gone.
pub(super) async fn run(config: KubernetesConfig, namespace: Option<String>, place: Place, events: Sender) {
    let scope = namespace.as_deref().map(|name| format!("namespaces/{name}/")).unwrap_or_default();
    let config = Arc::new(config);
    let (endpoints_sender, policies_sender, hosts_sender) = (events.clone(), events.clone(), events);
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
    let hosts = async {
        if config.hosts {
            hosts::follow(&config, format!("/api/v1/{scope}services"), hosts_sender).await;
        }
    };
    tokio::join!(endpoints, policies, hosts);
}

async fn follow_endpoints<T: Object<Kept = Contribution>>(
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
        async move { Follower::<T>::new(path, heard).run(|| connect(&config)).await }
    });
    while let Some(heard) = hearing.recv().await {
        let told = match heard {
            Heard::ListBegins => {
                assembler.begin_list();
                continue;
            }
            Heard::ListHas(object) => {
                assembler.list(object);
                continue;
            }
            Heard::ListLacks((namespace, name)) => {
                assembler.unlist(&namespace, &name);
                continue;
            }
            Heard::ListEnds => {
                vec![SourceEvent::Pools(vec![assembler.end_list()]), SourceEvent::Contact(Watched::Endpoints)]
            }
            Heard::Changed(object) => pools(assembler.apply(object)),
            Heard::Deleted((namespace, name)) => pools(assembler.delete(&namespace, &name)),
            Heard::Contact => vec![SourceEvent::Contact(Watched::Endpoints)],
            Heard::Absent(why) | Heard::Lost(why) => {
                // Half a list is nothing, and its memory is given back.
                assembler.begin_list();
                lost(Watched::Endpoints, why)
            }
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
        async move { Follower::<PolicyObject>::new(path, heard).run(|| connect(&config)).await }
    });
    // What each policy makes: one whose port changes makes another pool.
    let mut made: BTreeMap<Key, Join> = BTreeMap::new();
    let mut hosts: BTreeMap<Key, Vec<Claim>> = BTreeMap::new();
    // The same of a list that has not ended.
    let mut listed: BTreeMap<Key, Join> = BTreeMap::new();
    let mut listed_hosts: BTreeMap<Key, Vec<Claim>> = BTreeMap::new();
    while let Some(heard) = hearing.recv().await {
        let told = match heard {
            Heard::ListBegins => {
                listed.clear();
                listed_hosts.clear();
                continue;
            }
            Heard::ListHas(policy) => {
                listed_hosts.insert(policy.metadata.key(), claims(&policy, &hosts));
                listed.extend(join(&policy, &made).map(|join| (policy.metadata.key(), join)));
                continue;
            }
            Heard::ListLacks(key) => {
                listed.remove(&key);
                listed_hosts.remove(&key);
                continue;
            }
            Heard::ListEnds => {
                made = std::mem::take(&mut listed);
                hosts = std::mem::take(&mut listed_hosts);
                with_hosts(joins_told(vec![JoinUpdate::Reset(made.values().cloned().collect())]), &hosts)
            }
            Heard::Changed(policy) => {
                let claimed = claims(&policy, &hosts);
                let told = joins_told(changed(&policy, &mut made));
                let before = hosts.insert(policy.metadata.key(), claimed.clone());
                if before.unwrap_or_default() == claimed { told } else { with_hosts(told, &hosts) }
            }
            Heard::Deleted(key) => {
                let told = joins_told(made.remove(&key).map(|join| JoinUpdate::Remove(join.id)).into_iter().collect());
                if hosts.remove(&key).unwrap_or_default().is_empty() { told } else { with_hosts(told, &hosts) }
            }
            Heard::Contact => vec![SourceEvent::Contact(Watched::Policies)],
            // Not installed, or not for us, is as good as none; unless there were some a moment ago.
            Heard::Absent(why) if made.is_empty() => {
                tracing::debug!(why, "no TrafficPolicies are followed");
                with_hosts(joins_told(vec![JoinUpdate::Reset(Vec::new())]), &hosts)
            }
            Heard::Absent(why) | Heard::Lost(why) => lost(Watched::Policies, why),
        };
        if !events.send(told).await {
            break;
        }
    }
    follower.abort();
}

/// What a policy makes. One that became bad leaves what it made before, be it heard of by a change or in a list: a switch
/// happens only to what is asked for whole.
fn join(policy: &PolicyObject, made: &BTreeMap<Key, Join>) -> Option<Join> {
    let made_before = || made.get(&policy.metadata.key()).cloned();
    policy.join().inspect_err(|why| warn_of(policy, why)).ok().or_else(made_before)
}

fn changed(policy: &PolicyObject, made: &mut BTreeMap<Key, Join>) -> Vec<JoinUpdate> {
    let Some(join) = join(policy, made) else { return Vec::new() };
    let before = made.insert(policy.metadata.key(), join.clone());
    if before.as_ref() == Some(&join) {
        return Vec::new();
    }
    let moved = before.filter(|before| before.id != join.id).map(|before| JoinUpdate::Remove(before.id));
    moved.into_iter().chain([JoinUpdate::Add(join)]).collect()
}

/// The hosts that lead to what a policy makes.
fn claims(policy: &PolicyObject, hosts: &BTreeMap<Key, Vec<Claim>>) -> Vec<Claim> {
    // As with the pool: one that became bad leaves what it said before.
    let Ok(join) = policy.join() else { return hosts.get(&policy.metadata.key()).cloned().unwrap_or_default() };
    let (claims, bad) = policy::claims(policy, &join);
    bad.iter().for_each(|why| warn_of(policy, &format!("spec.hosts: {why}")));
    claims
}

/// All hosts of policies go with the pools that they lead to.
fn with_hosts(mut told: Vec<SourceEvent>, hosts: &BTreeMap<Key, Vec<Claim>>) -> Vec<SourceEvent> {
    told.push(SourceEvent::Hosts(Claimants::Policies, hosts.values().flatten().cloned().collect()));
    told
}

fn joins_told(updates: Vec<JoinUpdate>) -> Vec<SourceEvent> {
    vec![SourceEvent::Joins(updates), SourceEvent::Contact(Watched::Policies)]
}

fn warn_of(policy: &PolicyObject, why: &str) {
    let Metadata { namespace, name, .. } = &policy.metadata;
    tracing::warn!(namespace, name, "a TrafficPolicy is not followed in this: {why}");
}

/// A client of a cluster, from what its files say now. The error is for people.
pub(crate) async fn connect(config: &KubernetesConfig) -> Result<Client, String> {
    let mut client_config = match &config.kubeconfig {
        Some(path) => {
            let file = Kubeconfig::read_from(path).map_err(|error| format!("{}: {}", path.display(), flat(&error)))?;
            let config = kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await;
            config.map_err(|error| format!("{}: {}", path.display(), flat(&error)))?
        }
        None => kube::Config::incluster().map_err(|error| format!("not inside a cluster: {}", flat(&error)))?,
    };
    // It would hide for as long as an answer is waited for that the API server refuses; whoever asks has a backoff.
    client_config.default_retry = false;
    Client::try_from(client_config).map_err(|error| flat(&error))
}

// === impl Contribution ===

impl Object for SliceObject {
    type Kept = Contribution;

    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn keep(self, strings: &mut Interner) -> Contribution {
        let (namespace, name) = (strings.get(&self.metadata.namespace), self.metadata.name.as_str().into());
        Contribution::new(namespace, name, vec![self], strings)
    }
}

impl Object for EndpointsObject {
    type Kept = Contribution;

    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn keep(self, strings: &mut Interner) -> Contribution {
        let (namespace, name) = (strings.get(&self.metadata.namespace), self.metadata.name.as_str().into());
        Contribution::new(namespace, name, self.into(), strings)
    }
}
