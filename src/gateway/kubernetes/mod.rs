//! Routes out of a cluster's own objects: HTTPRoutes of the Gateway API, and Ingresses.
//!
//! ```text
//! API server → follow: Gateways, HTTPRoutes, Ingresses, their classes, what they name (Services, Secrets, ReferenceGrants)
//!   → settle (pure): which listeners are served (parent), who is attached to them (attach), who has each host, what is asked first
//!   → RouteConfig, after the file's own, and certificates by host → one swap → status of each object, log, metrics, /debug/pools
//! ```
//!
//! An object is taken whole or refused with the reason. A refusal, and a host that is another namespace's, is told in the status of
//! an HTTPRoute or a Gateway where rights allow; an Ingress's status has a place for its addresses and certificates alone, so that
//! for the rest of it the log, the metrics and `/debug/pools` say it.

mod attach;
mod class;
mod filter;
mod grant;
mod http_route;
mod ingress;
mod listener;
mod object;
mod parent;
mod report;
mod secret;
mod settle;
mod status;
#[cfg(test)]
mod tests;
mod wish;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube::ResourceExt;
use serde_json::Value;
use tokio::sync::{Notify, watch};

use self::object::{Gateway, GatewayClass, HttpRoute, Ingress, IngressClass, Key, Namespace, Object, ports};
use self::settle::{Known, Rules, Settled, Verdict, settle};
use self::status::Patch;
use super::config::{HostPattern, RouteConfig};
use super::tls::HostCertificate;
use crate::base::drain::Drain;
use crate::kubernetes::{Heard, Namespaced, Wanted, WatchError, follow};

/// Where clients reach the gateway, at most: a Gateway's status has room for no more.
pub const MOST_ADDRESSES: usize = 16;
/// Changes that come so soon after another are taken with it.
const GATHER: Duration = Duration::from_millis(50);

/// `[gateway.kubernetes]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubernetesRoutesConfig {
    /// The cluster, as its pools' ids begin.
    pub cluster: Arc<str>,
    /// How to reach it; `None` from inside it.
    pub kubeconfig: Option<PathBuf>,
    /// The namespaces to follow; empty for all.
    pub namespaces: Vec<String>,
    /// Gateways that are served, by namespace and name; empty: no HTTPRoutes are followed.
    pub gateways: Vec<(String, String)>,
    /// The IngressClass whose Ingresses are taken, or `*` for all that are ours; `None`: none are followed.
    pub ingress_class: Option<String>,
    /// Where clients reach the gateway, for statuses: addresses of IP, or names. Empty: where it listens, if that says it.
    pub addresses: Vec<String>,
    /// Whether objects are told what became of them.
    pub write_status: bool,
}

/// What the gateway has of its own.
#[derive(Clone, Debug)]
pub struct Own {
    /// The hosts of the routes that stand in the file.
    pub hosts: BTreeSet<HostPattern>,
    /// Where it listens, and whether by TLS.
    pub listeners: Vec<(SocketAddr, bool)>,
}

/// What a cluster has to be served.
#[derive(Clone, Debug, Default)]
pub struct ClusterRoutes {
    /// In the order in which they are asked.
    pub routes: Vec<RouteConfig>,
    /// Of two for the same host, the first one counts.
    pub certificates: Vec<HostCertificate>,
}

/// A cluster's routes, followed until the drain is requested.
#[derive(Clone, Debug)]
pub struct KubernetesRoutes {
    shared: Arc<Shared>,
    told: watch::Receiver<bool>,
}

#[derive(Debug)]
struct Shared {
    rules: Rules,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    known: Known,
    /// Lists that have not come yet.
    awaited: BTreeSet<Place>,
    /// Why what is known may be old.
    lost: BTreeMap<Place, String>,
    verdicts: Vec<Verdict>,
}

/// A kind of object in one namespace, or all.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    what: &'static str,
    namespace: Option<String>,
    /// Which of them; absent: all.
    fields: Option<&'static str>,
}

/// Follows objects of the configuration's cluster into what is known of it.
struct Follower<'a> {
    shared: &'a Arc<Shared>,
    kubeconfig: &'a Option<PathBuf>,
    drain: &'a Drain,
}

// === impl KubernetesRoutes ===

impl KubernetesRoutes {
    /// Begins to follow. `publish` takes what holds whenever it changes.
    pub fn start(
        config: KubernetesRoutesConfig,
        own: Own,
        publish: impl Fn(ClusterRoutes) + Send + 'static,
        drain: &Drain,
    ) -> Self {
        report::describe();
        let rules = Rules::new(&config, &own.listeners);
        let is_secure = rules.listeners.iter().any(|(_, secure)| *secure);
        let shared = Arc::new(Shared { rules, state: Mutex::default(), changed: Notify::new() });
        shared.state().known.operators = shown(own.hosts);
        let KubernetesRoutesConfig { kubeconfig, namespaces, gateways, ingress_class, write_status, .. } = config;
        let follower = Follower { shared: &shared, kubeconfig: &kubeconfig, drain };
        for namespace in places(namespaces.iter().cloned()) {
            if !gateways.is_empty() {
                let at = namespace.clone();
                follower.follow("HTTPRoutes", at, |known| &mut known.routes, |it: Object<HttpRoute>| it);
            }
            if ingress_class.is_some() {
                let at = namespace.clone();
                follower.follow("Ingresses", at, |known| &mut known.ingresses, |it: Object<Ingress>| it);
            }
            follower.follow("Services", namespace, |known| &mut known.services, ports);
        }
        if ingress_class.is_some() {
            follower.follow("IngressClasses", None, |known| &mut known.ingress_classes, |it: Object<IngressClass>| it);
        }
        let homes: BTreeSet<String> = gateways.iter().map(|(namespace, _)| namespace.clone()).collect();
        if !gateways.is_empty() {
            follower.follow("GatewayClasses", None, |known| &mut known.classes, |it: Object<GatewayClass>| it);
            let labels = |it: Object<Namespace>| it.metadata.labels.unwrap_or_default();
            follower.follow("Namespaces", None, |known| &mut known.namespaces, labels);
        }
        for namespace in homes.iter().cloned().map(Some) {
            follower.follow("Gateways", namespace, |known| &mut known.gateways, |it: Object<Gateway>| it);
        }
        // Gateways may be where no routes are looked for, and what they name is with them.
        let all = if namespaces.is_empty() { BTreeSet::new() } else { namespaces.into_iter().chain(homes).collect() };
        for namespace in places(all) {
            if !gateways.is_empty() {
                follower.follow("ReferenceGrants", namespace.clone(), |known| &mut known.grants, grant::read);
            }
            // Nobody reads keys that nothing could be done with.
            if is_secure {
                let at = Place { what: "Secrets", namespace, fields: Some(secret::SELECTOR) };
                follower.follow_at(at, |known| &mut known.secrets, secret::read);
            }
        }
        let writer = write_status.then(|| status::write(kubeconfig.clone(), shared.clone(), drain));
        let (telling, told) = watch::channel(false);
        tokio::spawn(run(shared.clone(), publish, writer, telling, drain.clone()));
        Self { shared, told }
    }

    /// Whether every list has come, and what follows from them holds.
    pub fn is_told(&self) -> bool {
        *self.told.borrow()
    }

    /// Takes over which hosts the file's own routes have.
    pub fn set_operators(&self, hosts: BTreeSet<HostPattern>) {
        self.shared.state().known.operators = shown(hosts);
        self.shared.changed.notify_one();
    }

    /// What became of every object, for people.
    pub fn report(&self) -> Value {
        report::report(&self.shared.state())
    }
}

fn shown(hosts: BTreeSet<HostPattern>) -> BTreeSet<String> {
    hosts.iter().map(HostPattern::to_string).collect()
}

/// These namespaces, or all where there are none.
fn places(namespaces: impl IntoIterator<Item = String>) -> Vec<Option<String>> {
    let some: Vec<Option<String>> = namespaces.into_iter().map(Some).collect();
    if some.is_empty() { vec![None] } else { some }
}

// === impl Rules ===

impl Rules {
    fn new(config: &KubernetesRoutesConfig, listeners: &[(SocketAddr, bool)]) -> Self {
        // An address that stands for all of a machine's is none to go to.
        let told = listeners.iter().map(|(address, _)| address.ip()).filter(|address| !address.is_unspecified());
        let told: BTreeSet<String> = told.map(|address| address.to_string()).collect();
        let told = told.into_iter().take(MOST_ADDRESSES);
        Self {
            cluster: config.cluster.clone(),
            gateways: config.gateways.clone(),
            ingress_class: config.ingress_class.clone(),
            listeners: listeners.iter().map(|(address, secure)| (address.port(), *secure)).collect(),
            addresses: if config.addresses.is_empty() { told.collect() } else { config.addresses.clone() },
        }
    }
}

// === impl Follower ===

impl Follower<'_> {
    fn follow<K, V: 'static>(
        &self,
        what: &'static str,
        namespace: Option<String>,
        of: fn(&mut Known) -> &mut BTreeMap<Key, V>,
        keep: fn(K) -> V,
    ) where
        K: Namespaced,
    {
        self.follow_at(Place { what, namespace, fields: None }, of, keep);
    }

    /// Follows one kind of object; `keep` is what is kept of each.
    fn follow_at<K, V: 'static>(&self, at: Place, of: fn(&mut Known) -> &mut BTreeMap<Key, V>, keep: fn(K) -> V)
    where
        K: Namespaced,
    {
        self.shared.state().awaited.insert(at.clone());
        let wanted = Wanted {
            kubeconfig: self.kubeconfig.clone(),
            namespace: at.namespace.clone(),
            fields: at.fields.map(str::to_owned),
            ..Wanted::default()
        };
        let (shared, drain) = (self.shared.clone(), self.drain.clone());
        tokio::spawn(async move { follow(&wanted, &drain, |heard| shared.take(&at, of, keep, heard)).await });
    }
}

// === impl Shared ===

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take<K: ResourceExt, V>(
        &self,
        at: &Place,
        of: fn(&mut Known) -> &mut BTreeMap<Key, V>,
        keep: fn(K) -> V,
        heard: Heard<K>,
    ) {
        let key = |object: &K| (object.namespace().unwrap_or_default(), object.name_any());
        let mut state = self.state();
        let known = of(&mut state.known);
        match heard {
            Heard::Listed(objects) => {
                known.retain(|(namespace, _), _| at.namespace.as_ref().is_some_and(|own| own != namespace));
                known.extend(objects.into_iter().map(|object| (key(&object), keep(object))));
                state.awaited.remove(at);
            }
            Heard::Changed(object) => drop(known.insert(key(&object), keep(object))),
            Heard::Deleted(object) => drop(known.remove(&key(&object))),
            Heard::Confirmed => return drop(state.lost.remove(at)),
            Heard::Lost(error) => {
                // What is not served, or not for us, has no objects that could be waited for.
                if is_absent(&error) && state.awaited.remove(at) {
                    tracing::warn!(%at, %error, "these are not followed: routes in them, or of them, are not known");
                    self.changed.notify_one();
                }
                state.lost.insert(at.clone(), error.to_string());
                return;
            }
        }
        state.lost.remove(at);
        drop(state);
        self.changed.notify_one();
    }
}

fn is_absent(error: &WatchError) -> bool {
    let WatchError::Kube(error) = error else { return false };
    matches!(&**error, kube::Error::Api(status) if matches!(status.code, 403 | 404))
}

// === impl Place ===

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let of = self.namespace.as_ref().map_or_else(String::new, |namespace| format!(" of {namespace}"));
        write!(f, "{}{of}", self.what)
    }
}

/// Settles again whenever something changed, once every list has come.
async fn run(
    shared: Arc<Shared>,
    publish: impl Fn(ClusterRoutes),
    writer: Option<watch::Sender<Vec<Patch>>>,
    telling: watch::Sender<bool>,
    drain: Drain,
) {
    let mut before: Option<(String, Vec<HostCertificate>)> = None;
    loop {
        tokio::select! {
            () = shared.changed.notified() => {}
            () = drain.requested() => return,
        }
        tokio::time::sleep(GATHER).await;
        let (holds, patches) = {
            let mut state = shared.state();
            if !state.awaited.is_empty() {
                continue;
            }
            let settled = settle(&state.known, &shared.rules);
            let now = jiff::Timestamp::now();
            let patches = writer.is_some().then(|| status::patches(&state.known, &shared.rules, &settled, now));
            let Settled { routes, certificates, verdicts, .. } = settled;
            report::tell(&state.verdicts, &verdicts);
            state.verdicts = verdicts;
            (ClusterRoutes { routes, certificates }, patches.unwrap_or_default())
        };
        // Expressions are not compared but by what they are written as, which is all that a route is.
        let shown = (format!("{:?}", holds.routes), holds.certificates.clone());
        if before.as_ref() != Some(&shown) {
            before = Some(shown);
            publish(holds);
        }
        telling.send_replace(true);
        if let Some(writer) = &writer {
            writer.send_replace(patches);
        }
    }
}
