//! Writes, made: each only while this instance leads, and each refused by the API server where somebody else has written
//! since what it was planned from was read.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Client, ResourceExt};
use serde_json::json;
use tokio::time::timeout;

use super::bundle::Bundle;
use super::children::{self, MANAGER, REVISION_LABEL};
use super::gate::job;
use super::plan::Write;
use super::resource::app::{App, AppStatus};
use super::resource::release::{Release, ReleaseStatus};
use super::stable;
use crate::kubernetes::lease::Leadership;
use crate::kubernetes::policy::{RequestMatch, TrafficPolicy};

/// Why a write was not made, or is not known to be.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApplyError {
    /// Somebody else leads by now.
    #[error("this instance leads no more")]
    Deposed,
    /// Somebody else wrote first: another look helps.
    #[error("somebody else wrote first: {0}")]
    Conflict(String),
    /// What the API server or the network says.
    #[error("{0}")]
    Kube(#[source] Box<kube::Error>),
    /// Nothing.
    #[error("no answer within {0:?}")]
    Silent(Duration),
    /// The release's own fault: only another release helps.
    #[error("{0}")]
    Release(String),
}

/// The API server.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) client: Client,
    /// For one answer. A write that was not answered may have been made: what is read next tells.
    pub(super) patience: Duration,
}

/// What writes go through.
#[derive(Clone)]
pub(super) struct Writer {
    pub(super) server: Server,
    pub(super) leadership: Leadership,
    pub(super) cluster: String,
}

/// A Deployment's count, as it was seen and as it is to be.
struct Scale<'a> {
    revision: &'a str,
    from: u32,
    to: u32,
}

// === impl Writer ===

impl Writer {
    /// Makes a write that was planned from this bundle.
    pub(super) async fn write(&self, bundle: &Bundle, release: &Release, write: &Write) -> Result<(), ApplyError> {
        if !self.leadership.holds() {
            return Err(ApplyError::Deposed);
        }
        match write {
            Write::Create { revision, replicas } => self.create(bundle, release, revision, *replicas).await,
            Write::Scale { revision, from, to } => {
                self.scale(bundle, release, Scale { revision, from: *from, to: *to }).await
            }
            Write::Traffic { shares, matched } => self.traffic(bundle, release, shares, matched).await,
            Write::Recreate { uid, .. } => self.recreate(bundle, uid).await,
            Write::StartJob { step } => self.start_job(release, *step).await,
            Write::Delete { revision } => self.delete(bundle, revision).await,
        }
    }

    /// Tells of the App what is to be told.
    pub(super) async fn app_status(&self, app: &App, status: AppStatus) -> Result<(), ApplyError> {
        if !self.leadership.holds() {
            return Err(ApplyError::Deposed);
        }
        let api: Api<App> = self.api(app);
        let patch = json!({"metadata": {"resourceVersion": app.resource_version()}, "status": status});
        let params = PatchParams::default();
        self.server.answered(api.patch_status(&app.name_any(), &params, &Patch::Merge(patch))).await.map(drop)
    }

    /// Persists how far a release is.
    pub(super) async fn status(&self, release: &Release, status: &ReleaseStatus) -> Result<(), ApplyError> {
        if !self.leadership.holds() {
            return Err(ApplyError::Deposed);
        }
        let api: Api<Release> = self.api(release);
        let mut release = release.clone();
        release.status = Some(status.clone());
        release.metadata.managed_fields = None;
        self.server.answered(api.replace_status(&release.name_any(), &PostParams::default(), &release)).await.map(drop)
    }

    async fn create(
        &self,
        bundle: &Bundle,
        release: &Release,
        revision: &str,
        replicas: u32,
    ) -> Result<(), ApplyError> {
        let deployment = children::deployment(&bundle.app, release, revision, replicas).map_err(ApplyError::Release)?;
        self.expose(&bundle.app, release, revision).await?;
        let deployments: Api<Deployment> = self.api(&bundle.app);
        // Created and not applied: one that is there by now has a count that was not seen.
        let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        self.server.answered(deployments.create(&params, &deployment)).await.map(drop)
    }

    /// The Service of a release's revision. One that is there as it is to be is not written again: a controller that is killed
    /// at every write gets further all the same.
    async fn expose(&self, app: &App, release: &Release, revision: &str) -> Result<(), ApplyError> {
        let service = children::service(app, release, revision).map_err(ApplyError::Release)?;
        let services: Api<Service> = self.api(app);
        let name = service.name_any();
        if self.server.answered(services.get_opt(&name)).await?.is_some_and(|it| children::is_exposed(&it, &service)) {
            return Ok(());
        }
        let applied = Patch::Apply(typed(&service, "v1", "Service")?);
        self.server.answered(services.patch(&name, &PatchParams::apply(MANAGER).force(), &applied)).await.map(drop)
    }

    async fn scale(&self, bundle: &Bundle, release: &Release, write: Scale<'_>) -> Result<(), ApplyError> {
        let Scale { revision, from, to } = write;
        let deployment = of_revision(bundle, revision)?;
        if from == 0 && revision == Bundle::revision(release) {
            // It may have been on its way out when this release asked for it again.
            self.expose(&bundle.app, release, revision).await?;
        }
        let api: Api<Deployment> = self.api(deployment);
        let patch = json!({"metadata": {"resourceVersion": deployment.resource_version()}, "spec": {"replicas": to}});
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        self.server.answered(api.patch(&deployment.name_any(), &params, &Patch::Merge(patch))).await.map(drop)
    }

    async fn traffic(
        &self,
        bundle: &Bundle,
        release: &Release,
        shares: &BTreeMap<String, u32>,
        matched: &BTreeMap<String, RequestMatch>,
    ) -> Result<(), ApplyError> {
        if bundle.switches_service() {
            return self.stable(bundle, release, shares).await;
        }
        let api: Api<TrafficPolicy> = self.api(&bundle.app);
        let mut policy = children::policy(&bundle.app, release, &self.cluster, shares, matched);
        let Some(before) = &bundle.policy else {
            let policy = serde_json::from_value(policy).map_err(|error| ApplyError::Release(error.to_string()))?;
            let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
            return self.server.answered(api.create(&params, &policy)).await.map(drop);
        };
        if let Some(metadata) = policy.get_mut("metadata") {
            metadata["resourceVersion"] = json!(before.resource_version());
        }
        let params = PatchParams::apply(MANAGER).force();
        self.server.answered(api.patch(&before.name_any(), &params, &Patch::Apply(policy))).await.map(drop)
    }

    /// The selector of the stable Service: as it was seen, or made anew.
    async fn stable(
        &self,
        bundle: &Bundle,
        release: &Release,
        shares: &BTreeMap<String, u32>,
    ) -> Result<(), ApplyError> {
        let stable =
            stable::stable(&bundle.app, release, bundle.stable.as_ref(), shares).map_err(ApplyError::Release)?;
        let (api, name): (Api<Service>, _) = (self.api(&bundle.app), bundle.app.name_any());
        if bundle.stable.is_some() {
            let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
            return self.server.answered(api.patch(&name, &params, &Patch::Strategic(stable))).await.map(drop);
        }
        let made = serde_json::from_value(stable).map_err(|error| ApplyError::Release(error.to_string()))?;
        let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        self.server.answered(api.create(&params, &made)).await.map(drop)
    }

    /// Deletes a pod as it was seen: one that has become ready since then is another version, and stays.
    async fn recreate(&self, bundle: &Bundle, uid: &str) -> Result<(), ApplyError> {
        let Some(pod) = bundle.pods.iter().find(|it| it.metadata.uid.as_deref() == Some(uid)) else { return Ok(()) };
        let api: Api<Pod> = self.api(pod);
        let as_seen = Preconditions { resource_version: pod.resource_version(), uid: pod.uid() };
        let params = DeleteParams { preconditions: Some(as_seen), ..DeleteParams::default() };
        gone(self.server.answered(api.delete(&pod.name_any(), &params)).await)
    }

    /// Makes the Job of a gate. One that is there by now is what was to be made.
    async fn start_job(&self, release: &Release, step: u32) -> Result<(), ApplyError> {
        let made = job::job(release, &Bundle::revision(release), step).map_err(ApplyError::Release)?;
        let api: Api<Job> = self.api(release);
        let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        self.server.answered(api.create(&params, &made)).await.map(drop)
    }

    async fn delete(&self, bundle: &Bundle, revision: &str) -> Result<(), ApplyError> {
        let deployment = of_revision(bundle, revision)?;
        let name = deployment.name_any();
        let services: Api<Service> = self.api(&bundle.app);
        // Its Service first: who is killed in between is followed by one that sees the Deployment, and comes here again.
        gone(self.server.answered(services.delete(&name, &DeleteParams::default())).await)?;
        let api: Api<Deployment> = self.api(deployment);
        let as_seen = Preconditions { resource_version: deployment.resource_version(), uid: deployment.uid() };
        let params = DeleteParams { preconditions: Some(as_seen), ..DeleteParams::background() };
        self.server.answered(api.delete(&name, &params)).await.map(drop)
    }

    pub(super) fn api<K>(&self, beside: &impl ResourceExt) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.server.client.clone(), &beside.namespace().unwrap_or_default())
    }
}

/// What is gone already is gone.
pub(super) fn gone<T>(deleted: Result<T, ApplyError>) -> Result<(), ApplyError> {
    match deleted {
        Err(ApplyError::Kube(error)) if matches!(&*error, kube::Error::Api(status) if status.is_not_found()) => Ok(()),
        deleted => deleted.map(drop),
    }
}

fn of_revision<'a>(bundle: &'a Bundle, revision: &str) -> Result<&'a Deployment, ApplyError> {
    let found = bundle.deployments.iter().find(|it| it.labels().get(REVISION_LABEL).is_some_and(|it| it == revision));
    found.ok_or_else(|| ApplyError::Conflict(format!("revision {revision} has no Deployment any more")))
}

fn typed<K: serde::Serialize>(object: &K, version: &str, kind: &str) -> Result<serde_json::Value, ApplyError> {
    let mut value = serde_json::to_value(object).map_err(|error| ApplyError::Release(error.to_string()))?;
    if let Some(fields) = value.as_object_mut() {
        fields.insert("apiVersion".to_owned(), version.into());
        fields.insert("kind".to_owned(), kind.into());
    }
    Ok(value)
}

// === impl Server ===

impl Server {
    /// An answer within its time.
    pub(super) async fn answered<T>(&self, answer: impl Future<Output = kube::Result<T>>) -> Result<T, ApplyError> {
        match timeout(self.patience, answer).await {
            Err(_) => Err(ApplyError::Silent(self.patience)),
            Ok(Err(kube::Error::Api(status))) if status.is_conflict() || status.is_already_exists() => {
                Err(ApplyError::Conflict(status.message.clone()))
            }
            Ok(answer) => answer.map_err(|error| ApplyError::Kube(Box::new(error))),
        }
    }
}
