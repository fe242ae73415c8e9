//! How a release comes to have all traffic: the strategies that one can ask for, and what becomes of it when it fails.

#![expect(unreachable_pub, reason = "the derive of KubeSchema writes a type a second time, inside a function")]

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::kubernetes::policy::RequestMatch;

/// Exactly one of the strategies.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "[has(self.blueGreen), has(self.batch), has(self.canary), has(self.rolling), has(self.migrate)].filter(it, it).size() == 1"
).message("give exactly one of blueGreen, batch, canary, rolling and migrate"))]
pub struct Strategy {
    /// All new pods first, then one switch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blue_green: Option<BlueGreen>,
    /// In batches, traffic and old pods following.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<Batch>,
    /// A small share first, then more; the old pods stay until all traffic has moved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canary: Option<Canary>,
    /// In as many batches as their size needs, without pauses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rolling: Option<Rolling>,
    /// From what Tidegate does not scale (VMs, another cluster) to pods: steps of share, and the old side is never scaled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub migrate: Option<Migrate>,
}

/// All new pods first, then one switch.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BlueGreen {
    /// Whether the switch waits for an Approval.
    #[serde(default)]
    pub approval: bool,
    /// How long the old pods stay after everybody has acknowledged the switch.
    #[serde(default = "thirty")]
    #[schemars(range(max = 604_800))]
    pub scale_down_delay_seconds: u32,
    /// Requests that go to the new revision before the switch, those of a second host for one, from the moment on in which all its
    /// pods are available and its gate was passed. Refused where another gateway than the built-in one serves the App.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preview: Option<RequestMatch>,
}

/// In batches, traffic and old pods following.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Batch {
    /// How many batches.
    #[schemars(range(min = 1, max = 100))]
    pub batches: u32,
    /// What comes first in a batch.
    #[serde(default)]
    pub order: BatchOrder,
    /// A pause after each batch but the last; 0 is until a person goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 604_800))]
    pub pause_seconds: Option<u32>,
    /// How long requests to old pods may take after a share was taken from them.
    #[serde(default = "ten")]
    #[schemars(range(max = 86_400))]
    pub drain_seconds: u32,
}

/// What comes first in a batch.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
pub enum BatchOrder {
    /// New pods: the count is never below what was asked for.
    #[default]
    SurgeFirst,
    /// Room: a batch of old pods goes first, where the cluster has no room for more.
    ShrinkFirst,
}

/// A small share first, then more.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Canary {
    /// In the order of their shares; all traffic follows after the last.
    #[schemars(length(min = 1, max = 32))]
    pub steps: Vec<CanaryStep>,
    /// How long the old pods stay after everybody has acknowledged the last switch.
    #[serde(default = "thirty")]
    #[schemars(range(max = 604_800))]
    pub scale_down_delay_seconds: u32,
}

/// A share, requests of its own, or both, and what is waited for then.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.share) || has(self.setMatch)").message("a step of a canary has a share, setMatch or both"))]
pub struct CanaryStep {
    /// Percent of the traffic, and of the pods; absent: as before.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 99))]
    pub share: Option<u32>,
    /// Requests that go to the new revision whatever its share is, from this step on until all traffic does or another step says
    /// otherwise. Refused where another gateway than the built-in one serves the App.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub set_match: Option<RequestMatch>,
    /// Percent of the pods that the new revision has at least from this step on, where that is more than its share: requests that
    /// match may be many. One pod there is always.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub pod_percent: Option<u32>,
    /// A pause at this step; 0 is until a person goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 604_800))]
    pub pause_seconds: Option<u32>,
}

/// A share, and what is waited for at it.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ShareStep {
    /// Percent of the traffic, and of the pods.
    #[schemars(range(min = 1, max = 99))]
    pub share: u32,
    /// A pause at this share; 0 is until a person goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 604_800))]
    pub pause_seconds: Option<u32>,
}

/// In as many batches as their size needs.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rolling {
    /// Pods of a batch.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 10_000))]
    pub max_surge: u32,
    /// How long requests to old pods may take after a share was taken from them.
    #[serde(default = "ten")]
    #[schemars(range(max = 86_400))]
    pub drain_seconds: u32,
}

/// From what Tidegate does not scale to pods.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Migrate {
    /// The pool that serves before, as `vm/checkout`.
    #[schemars(length(min = 1, max = 512))]
    pub from: String,
    /// In the order of their shares.
    #[schemars(length(min = 1, max = 32))]
    pub steps: Vec<ShareStep>,
}

/// What becomes of a release whose pods or gate fail.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
pub enum OnFailure {
    /// It stops where it is, until a person aborts it or lets it try again.
    #[default]
    Pause,
    /// It goes back to what ran before.
    Abort,
}

// === impl Strategy ===

impl Strategy {
    /// Its name, for people and metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self { blue_green: Some(_), .. } => "blueGreen",
            Self { batch: Some(_), .. } => "batch",
            Self { canary: Some(_), .. } => "canary",
            Self { rolling: Some(_), .. } => "rolling",
            Self { migrate: Some(_), .. } => "migrate",
            _ => "none",
        }
    }
}

fn one() -> u32 {
    1
}

fn ten() -> u32 {
    10
}

fn thirty() -> u32 {
    30
}
