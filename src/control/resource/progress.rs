//! How far a release is, and what its steps are: as a whole, and of an App of several clusters in each of them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::failure::RecreatedPod;
use super::moment::Moment;
use crate::kubernetes::policy::RequestMatch;

/// How far it is, and why it waits: what its planner goes on from.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// In one word.
    #[serde(default)]
    pub phase: Phase,
    /// What is waited for: object, observed, wanted, since when, what is next.
    #[serde(default)]
    pub message: String,
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
    #[schemars(length(max = 1_000))]
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
    /// The same in one word.
    #[serde(default)]
    pub cause: Cause,
    /// `control.retries` at that time: a higher number lets it try again.
    pub retries: u32,
}

/// Why a release does not go on, in one word.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
pub enum Cause {
    /// Its pods failed, and its failurePolicy allows no more.
    Pods,
    /// No more pods became available for its progressDeadlineSeconds.
    Deadline,
    /// What must hold of its pods does not.
    Gate,
    /// Somebody gave a word against it.
    Rejected,
    /// What was asked of it cannot be done.
    #[default]
    Impossible,
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
    /// Of SetMatch: the requests.
    #[serde(rename = "match", default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<RequestMatch>,
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
    /// Requests that match go to the new revision, whatever its part is.
    SetMatch,
    /// Everybody who must has acknowledged the switch.
    AwaitAck,
    /// Requests that were under way have their time.
    Drain,
    /// Old pods stay only in this part.
    ScaleOld,
    /// As many old pods as were asked for are available.
    AwaitOld,
}

// === impl Cause ===

impl Cause {
    /// For metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pods => "pods",
            Self::Deadline => "deadline",
            Self::Gate => "gate",
            Self::Rejected => "rejected",
            Self::Impossible => "impossible",
        }
    }
}

// === impl Phase ===

impl Phase {
    /// Whether nothing more happens by itself.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Degraded | Self::Healthy | Self::Superseded)
    }
}
