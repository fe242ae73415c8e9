//! Apps that are deleted, in other clusters than their own, where no owner is gone with them and nothing is collected.
//!
//! A finalizer keeps such an App until what was made of it there is gone, and it is set before anything is made there. So pods go
//! because somebody deleted the App, and never because somebody finds none.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use serde_json::json;

use super::apply::{ApplyError, Writer, gone};
use super::bundle::Bundle;
use super::children::APP_LABEL;
use super::controller::{Controller, Next};
use super::resource::app::{App, AppStatus};
use super::resource::scale::AppScale;
use crate::kubernetes::Namespaced;

/// Keeps an App while something of it is in other clusters.
const FINALIZER: &str = "tidegate.dev/clusters";

// === impl Controller ===

impl Controller {
    /// What of an App's beginning or end in other clusters comes before all else; `None` where nothing does.
    pub(super) async fn come_or_go(&self, known: &Bundle) -> Result<Option<Next>, ApplyError> {
        let app = &known.app;
        let (is_held, goes) = (is_held(app), app.metadata.deletion_timestamp.is_some());
        if goes && is_held {
            return self.go(known).await.map(Some);
        }
        if goes {
            return Ok(Some(Next::Rest));
        }
        let elsewhere = app.spec.clusters.iter().any(|it| it.name != self.config.cluster);
        if is_held || !elsewhere {
            return Ok(None);
        }
        let mut finalizers = app.finalizers().to_vec();
        finalizers.push(FINALIZER.to_owned());
        self.writer.finalize(app, &finalizers).await?;
        self.metrics.wrote_app();
        Ok(Some(Next::Again))
    }

    /// What was made in each other cluster goes, then the App.
    async fn go(&self, known: &Bundle) -> Result<Next, ApplyError> {
        let app = &known.app;
        let mut waits = None;
        for placement in app.spec.clusters.iter().filter(|it| it.name != self.config.cluster) {
            // One that is not of the configuration any more is nobody's to clear.
            let Some(member) = self.members.iter().find(|it| it.name() == placement.name) else { continue };
            let cleared = match member.known(known, placement) {
                Ok(_) => member.writer.clear(app).await.map_err(|error| error.to_string()),
                Err(why) => Err(why),
            };
            match cleared {
                Ok(true) => {}
                Ok(false) => drop(waits.get_or_insert(format!("its pods in cluster {} go", placement.name))),
                Err(why) => drop(waits.get_or_insert(format!("cluster {} is to answer ({why})", placement.name))),
            }
        }
        let Some(waits) = waits else {
            let others: Vec<String> = app.finalizers().iter().filter(|it| *it != FINALIZER).cloned().collect();
            self.writer.finalize(app, &others).await?;
            return Ok(Next::Rest);
        };
        let told =
            AppStatus { release: format!("is being deleted: {waits}"), ..app.status.clone().unwrap_or_default() };
        if app.status.as_ref() != Some(&told) {
            self.writer.app_status(app, told).await?;
        }
        Ok(Next::Again)
    }
}

fn is_held(app: &App) -> bool {
    app.finalizers().iter().any(|it| it == FINALIZER)
}

// === impl Writer ===

impl Writer {
    /// An App's finalizers, if it is still as it was seen.
    async fn finalize(&self, app: &App, finalizers: &[String]) -> Result<(), ApplyError> {
        if !self.leadership.holds() {
            return Err(ApplyError::Deposed);
        }
        let patch = json!({"metadata": {"resourceVersion": app.resource_version(), "finalizers": finalizers}});
        let api: Api<App> = self.api(app);
        self.server.answered(api.patch(&app.name_any(), &PatchParams::default(), &Patch::Merge(patch))).await.map(drop)
    }

    /// Deletes what was made of an App in this cluster; `true` once nothing is left.
    async fn clear(&self, app: &App) -> Result<bool, ApplyError> {
        if !self.leadership.holds() {
            return Err(ApplyError::Deposed);
        }
        let autoscalers = self.clear_of::<HorizontalPodAutoscaler>(app).await?;
        let services = self.clear_of::<Service>(app).await?;
        let deployments = self.clear_of::<Deployment>(app).await?;
        let budgets = self.clear_of::<PodDisruptionBudget>(app).await?;
        // A cluster in which nothing is autoscaled need not know of these.
        let scales = app.spec.autoscaling.is_none() || self.clear_of::<AppScale>(app).await?;
        Ok(autoscalers && services && deployments && budgets && scales)
    }

    async fn clear_of<K: Namespaced>(&self, app: &App) -> Result<bool, ApplyError> {
        let api: Api<K> = self.api(app);
        let ours = ListParams::default().labels(&format!("{APP_LABEL}={}", app.name_any()));
        let found = self.server.answered(api.list(&ours)).await?.items;
        for it in found.iter().filter(|it| it.meta().deletion_timestamp.is_none()) {
            gone(self.server.answered(api.delete(&it.name_any(), &DeleteParams::background())).await)?;
        }
        Ok(found.is_empty())
    }
}
