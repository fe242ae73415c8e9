//! Bundles: from the caches, and asked for anew before anything is written.
//!
//! What people say of an App, and its traffic, is in the cluster that it lives in; what is made of it, in every cluster that it runs
//! in. The bundle of another cluster than its own has the App with that cluster's count, and without an identity: what is made there
//! can have no owner in another cluster, and would be collected at once.

use std::path::Path;
use std::sync::Arc;

use futures_util::future::try_join_all;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{Api, ListParams};
use kube::{Resource, ResourceExt};
use tokio::try_join;

use super::apply::{ApplyError, Server};
use super::bundle::Bundle;
use super::children::APP_LABEL;
use super::config::ControlConfig;
use super::resource::app::{App, Routing};
use super::resource::approval::{Approval, RolloutBlock};
use super::resource::release::{Release, order};
use super::resource::scale::AppScale;
use super::store::{Key, Store, Told, key_of};
use crate::base::drain::Drain;
use crate::base::readiness::{Gate, Readiness};
use crate::kubernetes::policy::TrafficPolicy;
use crate::kubernetes::{Namespaced, Wanted};

/// Caches of everything that a bundle has.
pub(super) struct Caches {
    pub(super) apps: Arc<Store<App>>,
    releases: Arc<Store<Release>>,
    policies: Arc<Store<TrafficPolicy>>,
    approvals: Arc<Store<Approval>>,
    blocks: Arc<Store<RolloutBlock>>,
    pub(super) children: Children,
}

/// Caches of what is made of Apps in one cluster.
#[derive(Clone)]
pub(super) struct Children {
    deployments: Arc<Store<Deployment>>,
    services: Arc<Store<Service>>,
    scales: Arc<Store<AppScale>>,
    autoscalers: Arc<Store<HorizontalPodAutoscaler>>,
    budgets: Arc<Store<PodDisruptionBudget>>,
    pods: Arc<Store<Pod>>,
}

/// What is followed in one cluster.
struct Scopes<'a> {
    kubeconfig: Option<&'a Path>,
    /// None for all at once.
    namespaces: &'a [String],
    /// Without one, nobody waits for what is told first.
    readiness: Option<&'a Readiness>,
}

fn by_label<K: Resource>(object: &K) -> Option<Key> {
    let app = object.meta().labels.as_ref()?.get(APP_LABEL)?.clone();
    Some((object.meta().namespace.clone().unwrap_or_default(), app))
}

// === impl Scopes ===

impl Scopes<'_> {
    /// One kind, in every namespace or in all at once.
    fn of(&self, what: &'static str, labels: Option<&str>) -> Vec<(Wanted, Option<Gate>)> {
        let namespaces = self.namespaces.iter().cloned().map(Some);
        let all = self.namespaces.is_empty().then_some(None);
        let scope = |namespace| {
            let (kubeconfig, labels) = (self.kubeconfig.map(Path::to_path_buf), labels.map(str::to_owned));
            let wanted = Wanted { kubeconfig, namespace, labels, fields: None };
            (wanted, self.readiness.map(|readiness| readiness.gate("control", what)))
        };
        namespaces.chain(all).map(scope).collect()
    }
}

// === impl Children ===

impl Children {
    /// Follows those of another cluster than the one that Apps live in until `drain` ends it. Nobody waits for it to be known.
    pub(super) fn follow(kubeconfig: &Path, namespaces: &[String], told: &Told, drain: &Drain) -> Self {
        Self::of(&Scopes { kubeconfig: Some(kubeconfig), namespaces, readiness: None }, told, drain)
    }

    fn of(scopes: &Scopes<'_>, told: &Told, drain: &Drain) -> Self {
        let ours = Some(APP_LABEL);
        Self {
            deployments: Store::follow(scopes.of("the first list of Deployments", ours), by_label, told, drain),
            services: Store::follow(scopes.of("the first list of Services", ours), by_label, told, drain),
            scales: Store::follow(scopes.of("the first list of AppScales", None), |it| Some(key_of(it)), told, drain),
            autoscalers: Store::follow(scopes.of("the first list of autoscalers", ours), by_label, told, drain),
            budgets: Store::follow(scopes.of("the first list of disruption budgets", ours), by_label, told, drain),
            pods: Store::follow(scopes.of("the first list of pods", ours), by_label, told, drain),
        }
    }

    /// Whether all that matters was told of once: what is not in a cache before that is not absent.
    pub(super) fn are_known(&self, autoscaled: bool) -> bool {
        self.deployments.is_known()
            && self.budgets.is_known()
            && self.pods.is_known()
            && (!autoscaled || (self.scales.is_known() && self.autoscalers.is_known()))
    }

    /// A bundle with what these know of its App, in place of what it has.
    pub(super) fn put_into(&self, bundle: Bundle) -> Bundle {
        let key = key_of(&bundle.app);
        Bundle {
            deployments: owned(self.deployments.of_app(&key)),
            stable: self.services.get(&key).map(|it| (*it).clone()),
            scale: self.scales.get(&key).map(|it| (*it).clone()),
            autoscaler: self.autoscalers.get(&key).map(|it| (*it).clone()),
            budget: self.budgets.get(&key).map(|it| (*it).clone()),
            pods: owned(self.pods.of_app(&key)),
            ..bundle
        }
    }
}

// === impl Caches ===

impl Caches {
    /// Follows everything until `drain` ends it; the plane is ready once all is known.
    pub(super) fn follow(config: &ControlConfig, told: &Told, readiness: &Readiness, drain: &Drain) -> Self {
        let (kubeconfig, namespaces) = (config.kubeconfig.as_deref(), config.namespaces.as_slice());
        let scopes = Scopes { kubeconfig, namespaces, readiness: Some(readiness) };
        let of_release = |it: &Release| Some((it.namespace().unwrap_or_default(), it.spec.app.clone()));
        Self {
            apps: Store::follow(scopes.of("the first list of Apps", None), |it| Some(key_of(it)), told, drain),
            releases: Store::follow(scopes.of("the first list of Releases", None), of_release, told, drain),
            policies: Store::follow(scopes.of("the first list of policies", None), |it| Some(key_of(it)), told, drain),
            approvals: Store::follow(scopes.of("the first list of Approvals", None), |_| None, told, drain),
            blocks: Store::follow(scopes.of("the first list of RolloutBlocks", None), |_| None, told, drain),
            children: Children::of(&scopes, told, drain),
        }
    }

    /// What is known of an App; `None` where there is none.
    pub(super) fn bundle(&self, key: &Key) -> Option<Bundle> {
        let mut releases = owned(self.releases.of_app(key));
        releases.sort_by_cached_key(order);
        Some(self.children.put_into(Bundle {
            releases,
            policy: self.policies.get(key).map(|it| (*it).clone()),
            approvals: owned(self.approvals.of_namespace(&key.0)),
            blocks: owned(self.blocks.of_namespace(&key.0)),
            ..Bundle::of((*self.apps.get(key)?).clone())
        }))
    }
}

fn owned<K: Clone>(objects: Vec<Arc<K>>) -> Vec<K> {
    objects.into_iter().map(|it| (*it).clone()).collect()
}

/// The same, asked of the API server now. Releases that have ended are as they are known.
///
/// # Errors
/// Something could not be read: then nothing is known of it, neither that it is there nor that it is not.
pub(super) async fn ask(server: &Server, known: &Bundle) -> Result<Option<Bundle>, ApplyError> {
    let (namespace, name) = &key_of(&known.app);
    let all = ListParams::default();
    let releases = known.releases.iter().enumerate().map(|(at, release)| async move {
        let ended = release.status.as_ref().is_some_and(|status| status.progress.phase.is_final());
        match ended && at + 1 < known.releases.len() {
            true => Ok(Some(release.clone())),
            false => get::<Release>(server, namespace, &release.name_any()).await,
        }
    });
    let (app, releases, policy, approvals, blocks) = try_join!(
        get::<App>(server, namespace, name),
        try_join_all(releases),
        get(server, namespace, name),
        list(server, namespace, &all),
        list(server, namespace, &all),
    )?;
    let Some(app) = app else { return Ok(None) };
    let releases = releases.into_iter().flatten().collect();
    let people = Bundle { releases, policy, approvals, blocks, ..Bundle::of(app) };
    Box::pin(ask_children(server, people, known)).await.map(Some)
}

/// A bundle with what was made of its App, asked of a cluster's API server now.
///
/// # Errors
/// Something could not be read: then nothing is known of it, neither that it is there nor that it is not.
pub(super) async fn ask_children(server: &Server, bundle: Bundle, known: &Bundle) -> Result<Bundle, ApplyError> {
    let (namespace, name) = &key_of(&bundle.app);
    let ours = ListParams::default().labels(&format!("{APP_LABEL}={name}"));
    // Of an App that is not scaled, what is left of an autoscaler is as it is known.
    let scaled = bundle.app.spec.autoscaling.is_some() || known.scale.is_some() || known.autoscaler.is_some();
    let (stable, scale, autoscaler, deployments) = try_join!(
        get_if(bundle.app.spec.routing == Routing::Service, server, namespace, name),
        get_if(scaled, server, namespace, name),
        get_if(scaled, server, namespace, name),
        list::<Deployment>(server, namespace, &ours),
    )?;
    // One after the other: which pods stay follows from what the two before them have seen (see `standing`).
    let sets = list::<ReplicaSet>(server, namespace, &ours).await?;
    let pods = list(server, namespace, &ours).await?;
    // No deploy depends on the budget, and it is applied whole: as it is known.
    let budget = known.budget.clone();
    Ok(Bundle { stable, scale, autoscaler, budget, deployments, sets, pods, ..bundle })
}

/// The EndpointSlices of a Service.
///
/// # Errors
/// They could not be read.
pub(super) async fn slices(server: &Server, namespace: &str, service: &str) -> Result<Vec<EndpointSlice>, ApplyError> {
    let of = ListParams::default().labels(&format!("kubernetes.io/service-name={service}"));
    list(server, namespace, &of).await
}

async fn get<K>(server: &Server, namespace: &str, name: &str) -> Result<Option<K>, ApplyError>
where
    K: Namespaced,
{
    server.answered(Api::<K>::namespaced(server.client.clone(), namespace).get_opt(name)).await
}

/// What is needed by some Apps alone.
async fn get_if<K>(needed: bool, server: &Server, namespace: &str, name: &str) -> Result<Option<K>, ApplyError>
where
    K: Namespaced,
{
    if needed { get(server, namespace, name).await } else { Ok(None) }
}

async fn list<K>(server: &Server, namespace: &str, params: &ListParams) -> Result<Vec<K>, ApplyError>
where
    K: Namespaced,
{
    Ok(server.answered(Api::<K>::namespaced(server.client.clone(), namespace).list(params)).await?.items)
}
