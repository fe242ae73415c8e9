//! Bundles: from the caches, and asked for anew before anything is written.

use std::sync::Arc;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, ListParams};
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;

use super::apply::{ApplyError, Server};
use super::bundle::Bundle;
use super::children::APP_LABEL;
use super::config::ControlConfig;
use super::resource::app::{App, Routing};
use super::resource::approval::{Approval, RolloutBlock};
use super::resource::release::{Release, order};
use super::resource::scale::AppScale;
use super::store::{Dirty, Key, Store, key_of};
use crate::base::drain::Drain;
use crate::base::readiness::Readiness;
use crate::kubernetes::Wanted;
use crate::kubernetes::policy::TrafficPolicy;

/// Caches of everything that a bundle has.
pub(super) struct Caches {
    pub(super) apps: Arc<Store<App>>,
    releases: Arc<Store<Release>>,
    deployments: Arc<Store<Deployment>>,
    policies: Arc<Store<TrafficPolicy>>,
    services: Arc<Store<Service>>,
    scales: Arc<Store<AppScale>>,
    autoscalers: Arc<Store<HorizontalPodAutoscaler>>,
    pods: Arc<Store<Pod>>,
    approvals: Arc<Store<Approval>>,
    blocks: Arc<Store<RolloutBlock>>,
}

fn by_label<K: Resource>(object: &K) -> Option<Key> {
    let app = object.meta().labels.as_ref()?.get(APP_LABEL)?.clone();
    Some((object.meta().namespace.clone().unwrap_or_default(), app))
}

// === impl Caches ===

impl Caches {
    /// Follows everything until `drain` ends it; the plane is ready once all is known.
    pub(super) fn follow(config: &ControlConfig, dirty: &Arc<Dirty>, readiness: &Readiness, drain: &Drain) -> Self {
        // In every namespace of the configuration, or in all at once.
        let scopes = |what: &'static str, labels: Option<&str>| {
            let namespaces = config.namespaces.iter().cloned().map(Some);
            let all = config.namespaces.is_empty().then_some(None);
            let scope = |namespace| {
                let labels = labels.map(str::to_owned);
                let wanted = Wanted { kubeconfig: config.kubeconfig.clone(), namespace, labels, fields: None };
                (wanted, readiness.gate("control", what))
            };
            namespaces.chain(all).map(scope).collect::<Vec<_>>()
        };
        let ours = Some(APP_LABEL);
        let of_release = |it: &Release| Some((it.namespace().unwrap_or_default(), it.spec.app.clone()));
        Self {
            apps: Store::follow(scopes("the first list of Apps", None), |it| Some(key_of(it)), dirty, drain),
            releases: Store::follow(scopes("the first list of Releases", None), of_release, dirty, drain),
            deployments: Store::follow(scopes("the first list of Deployments", ours), by_label, dirty, drain),
            policies: Store::follow(scopes("the first list of policies", None), |it| Some(key_of(it)), dirty, drain),
            services: Store::follow(scopes("the first list of Services", ours), by_label, dirty, drain),
            scales: Store::follow(scopes("the first list of AppScales", None), |it| Some(key_of(it)), dirty, drain),
            autoscalers: Store::follow(scopes("the first list of autoscalers", ours), by_label, dirty, drain),
            pods: Store::follow(scopes("the first list of pods", ours), by_label, dirty, drain),
            approvals: Store::follow(scopes("the first list of Approvals", None), |_| None, dirty, drain),
            blocks: Store::follow(scopes("the first list of RolloutBlocks", None), |_| None, dirty, drain),
        }
    }

    /// What is known of an App; `None` where there is none.
    pub(super) fn bundle(&self, key: &Key) -> Option<Bundle> {
        let (namespace, name) = key;
        let labelled = |labels: Option<&std::collections::BTreeMap<String, String>>| {
            labels.and_then(|it| it.get(APP_LABEL)).is_some_and(|it| it == name)
        };
        let mut releases = owned(self.releases.of(namespace, |it| it.spec.app == *name));
        releases.sort_by_cached_key(order);
        Some(Bundle {
            app: (*self.apps.get(key)?).clone(),
            releases,
            deployments: owned(self.deployments.of(namespace, |it| labelled(it.metadata.labels.as_ref()))),
            policy: self.policies.get(key).map(|it| (*it).clone()),
            stable: self.services.get(key).map(|it| (*it).clone()),
            scale: self.scales.get(key).map(|it| (*it).clone()),
            autoscaler: self.autoscalers.get(key).map(|it| (*it).clone()),
            pods: owned(self.pods.of(namespace, |it| labelled(it.metadata.labels.as_ref()))),
            approvals: owned(self.approvals.of(namespace, |_| true)),
            blocks: owned(self.blocks.of(namespace, |_| true)),
        })
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
    let (namespace, name) = key_of(&known.app);
    let Some(app) = get::<App>(server, &namespace, &name).await? else { return Ok(None) };
    let ours = ListParams::default().labels(&format!("{APP_LABEL}={name}"));
    let mut releases = Vec::new();
    for (at, release) in known.releases.iter().enumerate() {
        let ended = release.status.as_ref().is_some_and(|status| status.phase.is_final());
        if ended && at + 1 < known.releases.len() {
            releases.push(release.clone());
        } else {
            releases.extend(get::<Release>(server, &namespace, &release.name_any()).await?);
        }
    }
    let stable = match app.spec.routing {
        Routing::Service => get(server, &namespace, &name).await?,
        Routing::Tidegate => None,
    };
    // Of an App that is not scaled, what is left of an autoscaler is as it is known.
    let scaled = app.spec.autoscaling.is_some() || known.scale.is_some() || known.autoscaler.is_some();
    let (scale, autoscaler) = match scaled {
        true => (get(server, &namespace, &name).await?, get(server, &namespace, &name).await?),
        false => (None, None),
    };
    Ok(Some(Bundle {
        app,
        stable,
        scale,
        autoscaler,
        releases,
        deployments: list(server, &namespace, &ours).await?,
        policy: get(server, &namespace, &name).await?,
        pods: list(server, &namespace, &ours).await?,
        approvals: list(server, &namespace, &ListParams::default()).await?,
        blocks: list(server, &namespace, &ListParams::default()).await?,
    }))
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
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + std::fmt::Debug + DeserializeOwned,
{
    server.answered(Api::<K>::namespaced(server.client.clone(), namespace).get_opt(name)).await
}

async fn list<K>(server: &Server, namespace: &str, params: &ListParams) -> Result<Vec<K>, ApplyError>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + std::fmt::Debug + DeserializeOwned,
{
    Ok(server.answered(Api::<K>::namespaced(server.client.clone(), namespace).list(params)).await?.items)
}
