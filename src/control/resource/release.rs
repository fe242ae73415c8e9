//! A deploy.

#![expect(unreachable_pub, reason = "the derive of KubeSchema writes a type a second time, inside a function")]
#![allow(clippy::duplicated_attributes, reason = "columns to print are attributes of one name")]

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::clusters::ClusterStatus;
use super::failure::FailurePolicy;
use super::gate::Gate;
use super::moment::Moment;
use super::progress::Progress;
use super::strategy::{OnFailure, Strategy};
use super::times::PodTimes;

/// One deploy of an App, with all that it needs: what it was made from may change without changing it. Only `control` is
/// ever written again. The newest Release of an App holds.
#[derive(Clone, CustomResource, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[kube(
    group = "tidegate.dev",
    version = "v1alpha1",
    kind = "Release",
    namespaced,
    status = "ReleaseStatus",
    derive = "PartialEq",
    doc = "One deploy of an App; also its history.",
    printcolumn(name = "App", type_ = "string", json_path = ".spec.app"),
    printcolumn(name = "Image", type_ = "string", json_path = ".spec.image"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Step", type_ = "integer", json_path = ".status.currentStepIndex"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct ReleaseSpec {
    /// The App, in the same namespace.
    #[schemars(length(min = 1, max = 50))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("a Release is of one App"))]
    pub app: String,
    /// The image of the App's first container (or of `container`), best by its digest.
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("a Release brings one image: create another Release"))]
    pub image: String,
    /// The pods: the App's template with the image in it, what its environment lays over it, and its hooks. It is read once, when
    /// the release begins.
    #[schemars(schema_with = "super::any_object")]
    pub template: Value,
    /// The environment that the template was made in, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("the environment is said when a Release is created"))]
    pub environment: Option<String>,
    /// The container port, by its name, whose traffic is switched.
    #[schemars(length(min = 1, max = 15))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("a Release switches one port"))]
    pub port: String,
    /// How it comes to have all traffic. It is read once, when the release begins.
    pub strategy: Strategy,
    /// What must hold of new pods before they get traffic.
    #[serde(default)]
    pub gate: Gate,
    /// How long a pod is ready before it counts.
    #[serde(default)]
    #[schemars(range(max = 3_600))]
    pub min_ready_seconds: u32,
    /// Without more available pods than ever before for so long, it has failed.
    #[serde(default = "ten_minutes")]
    #[schemars(range(min = 1, max = 86_400))]
    pub progress_deadline_seconds: u32,
    /// What becomes of it when its pods or its gate fail.
    #[serde(default)]
    pub on_failure: OnFailure,
    /// What becomes of new pods that fail.
    #[serde(default)]
    pub failure_policy: FailurePolicy,
    /// Goes back to an earlier revision: in no window and without approval; the gate is passed over where that revision's
    /// pods still run.
    #[serde(default)]
    #[x_kube(validation = Rule::new("self == oldSelf").message("whether it is a rollback is said when it is created"))]
    pub rollback: bool,
    /// The Release whose image this brings elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub promoted_from: Option<String>,
    /// Who or what asked for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trigger: Option<Trigger>,
    /// What people ask of it while it is under way.
    #[serde(default)]
    pub control: Control,
}

/// Which of two Releases is the newer: when it was made, then what its name says. The API server counts seconds, and in one of
/// them `web-10` is newer than `web-9`, and names that are no numbers go by the alphabet.
pub fn order(release: &Release) -> (Option<Moment>, String, u64, String) {
    let name = release.metadata.name.clone().unwrap_or_default();
    let stem = name.trim_end_matches(|it: char| it.is_ascii_digit());
    let number = name.strip_prefix(stem).and_then(|it| it.parse().ok()).unwrap_or_default();
    let made = release.metadata.creation_timestamp.as_ref().map(|at| Moment::from(at.0));
    (made, stem.to_owned(), number, name)
}

/// Who or what asked for a deploy.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Trigger {
    /// As `cli`, `gitlab`.
    #[schemars(length(max = 256))]
    pub source: String,
    /// The request's own id, by which a repeat is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub delivery_id: Option<String>,
}

/// What people ask of a release while it is under way.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Control {
    /// It stays where it is.
    #[serde(default)]
    pub paused: bool,
    /// It goes to this step of the plan and stays there: forward past pauses, or back.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 1_000))]
    pub target_step: Option<u32>,
    /// Of an App of several clusters: the wave whose plan `targetStep` counts in; absent: each cluster's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 16))]
    pub target_wave: Option<u32>,
    /// It goes back to what ran before.
    #[serde(default)]
    pub abort: bool,
    /// The new revision leaves every pool at once, and its pods stay for who wants to look into them.
    #[serde(default)]
    pub freeze: bool,
    /// It goes on past all pauses. Gates and approvals stay.
    #[serde(default)]
    pub promote_full: bool,
    /// How often people let it try again after a failure: it counts anew then, and pods that made it fail are recreated.
    #[serde(default)]
    pub retries: u32,
    /// Gateways whose acknowledgement is not waited for, because somebody knows them to be gone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(max = 1024)))]
    pub ignore_gateways: Vec<String>,
}

/// How far it is, and why it waits.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReleaseStatus {
    /// How far it is; of an App of several clusters, in all of them together.
    #[serde(flatten)]
    pub progress: Progress,
    /// The revision that it brings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// Where the time of its pods went, once it has ended with all traffic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_times: Option<PodTimes>,
    /// Of an App of several clusters: how far it is in each, in the order of their waves. Then `plan` and what is said of its steps
    /// are those of the first cluster in which it has not ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub clusters: Vec<ClusterStatus>,
}

fn ten_minutes() -> u32 {
    600
}

// === impl ReleaseStatus ===

impl ReleaseStatus {
    /// The same this far on, by a planner whose release brings this revision: once it has begun, it stays that.
    #[must_use]
    pub fn at(self, progress: Progress, revision: &str) -> Self {
        let begun = progress.started_at.map(|_| revision.to_owned());
        Self { revision: begun.or(self.revision), progress, ..self }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn releases_of_one_second_are_in_the_order_of_their_numbers_and_others_in_that_of_their_names() {
        let made = |name: &str, second: u32| -> Release {
            let at = format!("2026-01-01T00:00:0{second}Z");
            serde_json::from_value(json!({
                "metadata": {"name": name, "creationTimestamp": at},
                "spec": {"app": "web", "image": "web:1", "template": {}, "port": "http", "strategy": {"rolling": {}}},
            }))
            .unwrap()
        };
        let mut all = [("b", 2), ("web-10", 1), ("web-9", 1), ("web-hotfix", 1), ("a-longer-name", 2)]
            .map(|(name, at)| made(name, at));
        all.sort_by_key(order);
        let names = all.map(|it| it.metadata.name.unwrap());
        assert_eq!(names, ["web-9", "web-10", "web-hotfix", "a-longer-name", "b"]);
    }

    #[test]
    fn how_far_a_release_is_stands_beside_the_other_fields_of_its_status_and_of_each_clusters() {
        let told = json!({
            "phase": "Progressing", "message": "it waits", "shrink": 0, "currentStepIndex": 1, "availableHighWater": 2,
            "recreated": 0, "ignoredPods": 0, "plan": [{"action": "ScaleNew", "part": 1, "of": 1}, {"action": "AwaitAvailable"}],
            "stepSince": "2026-01-01T00:00:00Z", "revision": "0a",
            "clusters": [{
                "name": "east", "wave": 1, "ready": 2, "desired": 4, "phase": "Pending", "message": "", "shrink": 0,
                "currentStepIndex": 0, "availableHighWater": 0, "recreated": 0, "ignoredPods": 0,
            }],
        });
        let status: ReleaseStatus = serde_json::from_value(told.clone()).unwrap();
        assert_eq!(status.progress.plan.len(), 2);
        assert_eq!(serde_json::to_value(&status).unwrap(), told);
    }
}
