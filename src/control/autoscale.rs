//! An App's autoscaler: a HorizontalPodAutoscaler over an AppScale, whose count the App then has.

use std::collections::BTreeMap;

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::{Resource, ResourceExt};
use serde_json::{Value, json};

use super::apply::{ApplyError, Writer, gone};
use super::bundle::Bundle;
use super::children::{APP_LABEL, MANAGER, owner};
use super::resource::app::App;
use super::resource::scale::{AppScale, AppScaleStatus, Autoscaling};

/// Something about an App's autoscaler that is not as it is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The AppScale is made, with this count.
    Make(u32),
    /// It tells this.
    Tell(AppScaleStatus),
    /// The HorizontalPodAutoscaler is made, or made anew, as the App says.
    Apply,
    /// Both go: the App is no longer scaled.
    Remove,
}

/// The next step, if any. The count of an AppScale that is there is never written.
pub(super) fn next(bundle: &Bundle) -> Option<Step> {
    let Some(autoscaling) = &bundle.app.spec.autoscaling else {
        return (bundle.scale.is_some() || bundle.autoscaler.is_some()).then_some(Step::Remove);
    };
    let Some(scale) = &bundle.scale else {
        return Some(Step::Make(autoscaling.bounded(bundle.app.spec.replicas)));
    };
    let told =
        AppScaleStatus { replicas: bundle.pods_wanted(), selector: format!("{APP_LABEL}={}", bundle.app.name_any()) };
    if scale.status.as_ref() != Some(&told) {
        return Some(Step::Tell(told));
    }
    let wanted = autoscaler(&bundle.app, autoscaling);
    let is_there = bundle.autoscaler.as_ref().is_some_and(|it| it.annotations().get(SAID) == said(&wanted).as_ref());
    (!is_there).then_some(Step::Apply)
}

/// What an autoscaler was made from: the API server adds defaults, so that what is there cannot be compared.
const SAID: &str = "tidegate.dev/autoscaling";

fn said(wanted: &Value) -> Option<String> {
    wanted.pointer("/metadata/annotations")?.get(SAID)?.as_str().map(str::to_owned)
}

fn autoscaler(app: &App, autoscaling: &Autoscaling) -> Value {
    let target = json!({"apiVersion": AppScale::api_version(&()), "kind": AppScale::kind(&()), "name": app.name_any()});
    let fields = [
        Some(("scaleTargetRef", target)),
        Some(("minReplicas", json!(autoscaling.min_replicas))),
        Some(("maxReplicas", json!(autoscaling.max_replicas))),
        (!autoscaling.metrics.is_empty()).then(|| ("metrics", json!(autoscaling.metrics))),
        autoscaling.behavior.clone().map(|behavior| ("behavior", behavior)),
    ];
    let spec: BTreeMap<&str, Value> = fields.into_iter().flatten().collect();
    json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {
            "name": app.name_any(), "namespace": app.namespace(), "labels": {APP_LABEL: app.name_any()},
            "annotations": {SAID: json!(spec).to_string()}, "ownerReferences": owner(app),
        },
        "spec": spec,
    })
}

// === impl Writer ===

impl Writer {
    /// Makes a step.
    pub(super) async fn autoscale(&self, bundle: &Bundle, step: &Step) -> Result<(), ApplyError> {
        if !self.leadership.holds() {
            return Err(ApplyError::Deposed);
        }
        let (app, name) = (&bundle.app, bundle.app.name_any());
        let (scales, autoscalers): (Api<AppScale>, Api<HorizontalPodAutoscaler>) = (self.api(app), self.api(app));
        match (step, &app.spec.autoscaling) {
            (Step::Make(replicas), _) => {
                let made = serde_json::from_value(json!({
                    "metadata": {
                        "name": name, "namespace": app.namespace(), "labels": {APP_LABEL: name}, "ownerReferences": owner(app),
                    },
                    "spec": {"replicas": replicas},
                }));
                let made: AppScale = made.map_err(|error| ApplyError::Release(error.to_string()))?;
                let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
                self.server.answered(scales.create(&params, &made)).await.map(drop)
            }
            (Step::Tell(status), _) => {
                let version = bundle.scale.as_ref().and_then(ResourceExt::resource_version);
                let patch = Patch::Merge(json!({"metadata": {"resourceVersion": version}, "status": status}));
                self.server.answered(scales.patch_status(&name, &PatchParams::default(), &patch)).await.map(drop)
            }
            (Step::Apply, Some(autoscaling)) => {
                let applied = Patch::Apply(autoscaler(app, autoscaling));
                let params = PatchParams::apply(MANAGER).force();
                self.server.answered(autoscalers.patch(&name, &params, &applied)).await.map(drop)
            }
            _ => {
                gone(self.server.answered(autoscalers.delete(&name, &DeleteParams::default())).await)?;
                gone(self.server.answered(scales.delete(&name, &DeleteParams::default())).await)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::bundle::tests::bundle;
    use super::*;

    fn scaled() -> Bundle {
        let mut it = bundle();
        it.app.spec.autoscaling = serde_json::from_value(json!({"minReplicas": 2, "maxReplicas": 5})).unwrap();
        it
    }

    #[test]
    fn an_autoscaled_app_has_the_count_of_its_scale_within_its_bounds_and_that_is_made_once() {
        let mut it = scaled();
        assert_eq!((next(&it), it.desired()), (Some(Step::Make(2)), 2));
        it.scale = serde_json::from_value(json!({"metadata": {"name": "web"}, "spec": {"replicas": 9}})).unwrap();
        assert_eq!(it.desired(), 5);
        let Some(Step::Tell(told)) = next(&it) else { panic!("{:?}", next(&it)) };
        it.scale.as_mut().unwrap().status = Some(told);
        assert_eq!(next(&it), Some(Step::Apply));
        let made = autoscaler(&it.app, it.app.spec.autoscaling.as_ref().unwrap());
        it.autoscaler = serde_json::from_value(made).unwrap();
        assert_eq!(next(&it), None);
        it.app.spec.autoscaling.as_mut().unwrap().max_replicas = 6;
        assert_eq!(next(&it), Some(Step::Apply));
        it.app.spec.autoscaling = None;
        assert_eq!((next(&it), it.desired()), (Some(Step::Remove), it.app.spec.replicas));
    }
}
