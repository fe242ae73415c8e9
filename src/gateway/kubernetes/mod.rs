//! Routes out of a cluster's own objects: HTTPRoutes of the Gateway API, and Ingresses.
//!
//! ```text
//! API server → follow: HTTPRoutes, Ingresses, Services → settle (pure): who has each host, which route is asked first
//!   → RouteConfig, after the file's own → one swap → status of each HTTPRoute, log, metrics, /debug/pools
//! ```
//!
//! An object is taken whole or refused with the reason. A refusal, and a host that is another namespace's, is told in the status of
//! an HTTPRoute where rights allow; an Ingress's status has no place for it, so that for Ingresses the log, the metrics and
//! `/debug/pools` say it.

mod filter;
mod http_route;
mod ingress;
mod object;
mod settle;
mod status;
#[cfg(test)]
mod tests;
mod wish;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::NamespaceResourceScope;
use kube::{Resource, ResourceExt};
use metrics::{describe_gauge, gauge};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};

use self::object::{HttpRoute, Ingress, Key, Kind, Object, ports};
use self::settle::{Known, Rules, Settled, Verdict, settle};
use self::status::Patch;
use self::wish::Refusal;
use super::config::{HostPattern, RouteConfig};
use crate::base::drain::Drain;
use crate::kubernetes::{Heard, Wanted, WatchError, follow};

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
    /// Gateways whose HTTPRoutes are taken, `NAMESPACE/NAME`; empty: none are followed.
    pub gateways: Vec<String>,
    /// The class whose Ingresses are taken; `None`: none are followed.
    pub ingress_class: Option<String>,
    /// Whether HTTPRoutes are told what became of them.
    pub write_status: bool,
}

/// A cluster's routes, followed until the drain is requested.
#[derive(Clone, Debug)]
pub struct KubernetesRoutes {
    shared: Arc<Shared>,
    told: watch::Receiver<bool>,
}

#[derive(Debug)]
struct Shared {
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
}

// === impl KubernetesRoutes ===

impl KubernetesRoutes {
    /// Begins to follow. `operators` are the hosts of the routes that stand in the file, and `publish` takes the routes that hold, in
    /// the order in which they are asked, whenever they change.
    pub fn start(
        config: KubernetesRoutesConfig,
        operators: BTreeSet<HostPattern>,
        publish: impl Fn(Vec<RouteConfig>) + Send + 'static,
        drain: &Drain,
    ) -> Self {
        describe_gauge!("tidegate_gateway_kubernetes_objects", "Objects with routes, by kind and what became of them");
        let shared = Arc::new(Shared { state: Mutex::default(), changed: Notify::new() });
        shared.state().known.operators = shown(operators);
        let namespaces: Vec<Option<String>> = match config.namespaces.as_slice() {
            [] => vec![None],
            some => some.iter().cloned().map(Some).collect(),
        };
        for namespace in namespaces {
            let at = |what| Place { what, namespace: namespace.clone() };
            if !config.gateways.is_empty() {
                shared.follow(&config, at("HTTPRoutes"), |known| &mut known.routes, |it: Object<HttpRoute>| it, drain);
            }
            if config.ingress_class.is_some() {
                shared.follow(&config, at("Ingresses"), |known| &mut known.ingresses, |it: Object<Ingress>| it, drain);
            }
            shared.follow(&config, at("Services"), |known| &mut known.services, ports, drain);
        }
        let KubernetesRoutesConfig { cluster, kubeconfig, gateways, ingress_class, write_status, .. } = config;
        let rules = Rules { cluster, gateways, ingress_class };
        let writer = write_status.then(|| status::write(kubeconfig, shared.clone(), drain));
        let (telling, told) = watch::channel(false);
        tokio::spawn(run(shared.clone(), rules, publish, writer, telling, drain.clone()));
        Self { shared, told }
    }

    /// Whether every list has come, and what follows from them holds.
    pub fn is_told(&self) -> bool {
        *self.told.borrow()
    }

    /// Takes over which hosts the file's own routes have.
    pub fn set_operators(&self, operators: BTreeSet<HostPattern>) {
        self.shared.state().known.operators = shown(operators);
        self.shared.changed.notify_one();
    }

    /// What became of every object, for people.
    pub fn report(&self) -> Value {
        let state = self.shared.state();
        let verdict = |verdict: &Verdict| {
            json!({
                "kind": verdict.kind,
                "namespace": verdict.key.0,
                "name": verdict.key.1,
                "accepted": verdict.refused.is_none(),
                "reason": verdict.refused.as_ref().map(|refusal| format!("{}: {}", refusal.reason, refusal.message)),
                "hosts_of_others": verdict.taken,
                "unresolved": verdict.unresolved,
            })
        };
        json!({
            "objects": state.verdicts.iter().map(verdict).collect::<Vec<_>>(),
            "awaited": state.awaited.iter().map(Place::to_string).collect::<Vec<_>>(),
            "lost": state.lost.iter().map(|(at, why)| format!("{at}: {why}")).collect::<Vec<_>>(),
        })
    }
}

fn shown(hosts: BTreeSet<HostPattern>) -> BTreeSet<String> {
    hosts.iter().map(HostPattern::to_string).collect()
}

// === impl Shared ===

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows one kind of object; `keep` is what is kept of each.
    fn follow<K, V>(
        self: &Arc<Self>,
        config: &KubernetesRoutesConfig,
        at: Place,
        of: fn(&mut Known) -> &mut BTreeMap<Key, V>,
        keep: fn(K) -> V,
        drain: &Drain,
    ) where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned
            + Send
            + 'static,
        V: 'static,
    {
        self.state().awaited.insert(at.clone());
        let wanted =
            Wanted { kubeconfig: config.kubeconfig.clone(), namespace: at.namespace.clone(), ..Wanted::default() };
        let (shared, drain) = (self.clone(), drain.clone());
        tokio::spawn(async move { follow(&wanted, &drain, |heard| shared.take(&at, of, keep, heard)).await });
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
                    tracing::warn!(%at, %error, "these are not followed: routes in them are not known");
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
    rules: Rules,
    publish: impl Fn(Vec<RouteConfig>),
    writer: Option<watch::Sender<Vec<Patch>>>,
    telling: watch::Sender<bool>,
    drain: Drain,
) {
    let mut before: Option<String> = None;
    loop {
        tokio::select! {
            () = shared.changed.notified() => {}
            () = drain.requested() => return,
        }
        tokio::time::sleep(GATHER).await;
        let (routes, patches) = {
            let mut state = shared.state();
            if !state.awaited.is_empty() {
                continue;
            }
            let Settled { routes, verdicts } = settle(&state.known, &rules);
            let now = jiff::Timestamp::now();
            let patches = writer.is_some().then(|| status::patches(&state.known, &rules, &verdicts, now));
            tell(&state.verdicts, &verdicts);
            state.verdicts = verdicts;
            (routes, patches.unwrap_or_default())
        };
        // Expressions are not compared but by what they are written as, which is all that a route is.
        let shown = format!("{routes:?}");
        if before.as_ref() != Some(&shown) {
            before = Some(shown);
            publish(routes);
        }
        telling.send_replace(true);
        if let Some(writer) = &writer {
            writer.send_replace(patches);
        }
    }
}

/// Says in the log and the metrics what became of objects.
fn tell(before: &[Verdict], now: &[Verdict]) {
    let known: BTreeMap<_, _> = before.iter().map(|verdict| ((verdict.kind, &verdict.key), verdict)).collect();
    let is_new = |verdict: &&Verdict| known.get(&(verdict.kind, &verdict.key)).is_none_or(|before| before != verdict);
    for verdict in now.iter().filter(is_new) {
        let Verdict { kind, key: (namespace, name), taken, refused, unresolved } = verdict;
        match refused {
            Some(refusal) => {
                let Refusal { reason, message } = refusal;
                tracing::warn!(kind, namespace, name, reason, message, "routes of an object are not taken");
            }
            None if taken.is_empty() && unresolved.is_empty() => {
                tracing::info!(kind, namespace, name, "an object's routes hold");
            }
            None => tracing::warn!(
                kind,
                namespace,
                name,
                taken = taken.join(", "),
                unresolved = unresolved.join(", "),
                "an object's routes hold in part"
            ),
        }
    }
    for kind in [HttpRoute::NAME, Ingress::NAME] {
        for result in ["accepted", "refused", "host_taken"] {
            let of = |verdict: &&Verdict| verdict.kind == kind && verdict.result() == result;
            #[expect(clippy::cast_precision_loss, reason = "objects are far below 2^52")]
            let count = now.iter().filter(of).count() as f64;
            gauge!("tidegate_gateway_kubernetes_objects", "kind" => kind, "result" => result).set(count);
        }
    }
}
