//! A deploy.

#![expect(unreachable_pub, reason = "the derive of KubeSchema writes a type a second time, inside a function")]
#![allow(clippy::duplicated_attributes, reason = "columns to print are attributes of one name")]

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::failure::{FailurePolicy, RecreatedPod};
use super::gate::Gate;
use super::moment::Moment;
use super::strategy::{OnFailure, Strategy};

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
    /// The pods: the App's template with the image in it. It is read once, when the release begins.
    #[schemars(schema_with = "super::any_object")]
    pub template: Value,
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
    /// In one word.
    #[serde(default)]
    pub phase: Phase,
    /// What is waited for: object, observed, wanted, since when, what is next.
    #[serde(default)]
    pub message: String,
    /// The revision that it brings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// What had traffic when the plan was made, in thousandths: what an abort goes back to.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub before: BTreeMap<String, u32>,
    /// The traffic's shares, in thousandths, until a step of the plan sets others.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub held_shares: BTreeMap<String, u32>,
    /// Old pods that may be missing while a batch is under way.
    #[serde(default)]
    pub shrink: u32,
    /// The steps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub plan: Vec<Step>,
    /// The step under way; the plan's length when all are done.
    #[serde(default)]
    pub current_step_index: u32,
    /// Since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_since: Option<Moment>,
    /// The revision whose gate was passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gate_passed: Option<String>,
    /// What became of the last switch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traffic: Option<Acknowledged>,
    /// The most new pods that ever were available at once.
    #[serde(default)]
    pub available_high_water: u32,
    /// When that became so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_progress_time: Option<Moment>,
    /// New pods that failed and were deleted, so that others took their place: the latest of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recreated_pods: Vec<RecreatedPod>,
    /// All of them, since people last let it try again.
    #[serde(default)]
    pub recreated: u32,
    /// New pods that are not waited for because they failed: so many old ones stay in their place.
    #[serde(default)]
    pub ignored_pods: u32,
    /// Why it does not go on by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// When it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Moment>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Moment>,
}

/// A switch that everybody who must has acknowledged.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Acknowledged {
    /// The TrafficPolicy's generation.
    pub generation: i64,
    /// When the last acknowledgement was seen.
    pub at: Moment,
}

/// Why a release does not go on by itself.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// What failed.
    pub reason: String,
    /// `control.retries` at that time: a higher number lets it try again.
    pub retries: u32,
}

/// A release in one word.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
pub enum Phase {
    /// It has not begun.
    #[default]
    Pending,
    /// It goes on by itself.
    Progressing,
    /// It goes on when somebody lets it.
    Paused,
    /// It goes back to what ran before.
    Aborting,
    /// It has ended, and what it brought has no traffic.
    Degraded,
    /// It has ended, and what it brought has all traffic, but for what old pods keep in place of new ones that are ignored.
    Healthy,
    /// A newer release took its place before it ended.
    Superseded,
}

/// A step of a plan.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// What is done or waited for.
    pub action: Action,
    /// Of ScaleNew, ScaleOld and SetTraffic: this many…
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<u32>,
    /// …of so many parts of the App's count, or of the traffic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<u32>,
    /// Of ScaleNew, in place of a part: at most so many pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods: Option<u32>,
    /// Of Pause and Drain: how long; a Pause without it ends when a person lets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u32>,
}

/// What a step does or waits for.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
pub enum Action {
    /// New pods are asked for.
    ScaleNew,
    /// As many new pods as were asked for are available.
    AwaitAvailable,
    /// The new pods pass the gate.
    Gate,
    /// An Approval of this release's image is live.
    Approval,
    /// Some time, or until a person goes on.
    Pause,
    /// The new revision has its part of the traffic, the old one the rest.
    SetTraffic,
    /// Everybody who must has acknowledged the switch.
    AwaitAck,
    /// Requests that were under way have their time.
    Drain,
    /// Old pods stay only in this part.
    ScaleOld,
    /// As many old pods as were asked for are available.
    AwaitOld,
}

fn ten_minutes() -> u32 {
    600
}

// === impl Phase ===

impl Phase {
    /// Whether nothing more happens by itself.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Degraded | Self::Healthy | Self::Superseded)
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
}
