//! The clusters that an App runs in, and how far a release is in each.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::moment::Moment;
use super::progress::Progress;

/// A cluster that an App runs in.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Placement {
    /// The cluster, as the control component's [[control.cluster]] and data planes name it.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// How many pods serve there, or what its autoscaler begins with; absent: as many as the App's `replicas`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub replicas: Option<u32>,
    /// Its part of the traffic beside the other clusters'; absent: as much as it has replicas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub share: Option<u32>,
    /// When a release comes to it: it begins in a wave once it is healthy in all clusters of the waves before. A rollback waits for
    /// no wave.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 16))]
    pub wave: u32,
}

/// How far a release is in one cluster.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterStatus {
    /// The cluster.
    pub name: String,
    /// Its wave.
    #[serde(default)]
    pub wave: u32,
    /// How far the release is there.
    #[serde(flatten)]
    pub progress: Progress,
    /// New pods that are available, as they were last seen.
    #[serde(default)]
    pub ready: u32,
    /// Pods that are asked for.
    #[serde(default)]
    pub desired: u32,
    /// That its API server does not answer, since when, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreachable: Option<Unreachable>,
}

/// A cluster that does not answer.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
pub struct Unreachable {
    /// Since when.
    pub since: Moment,
    /// What was said when it was found.
    pub why: String,
}

fn one() -> u32 {
    1
}
