//! How many pods an autoscaler wants of an App.

#![expect(unreachable_pub, reason = "the derive of KubeSchema writes a type a second time, inside a function")]
#![allow(clippy::duplicated_attributes, reason = "columns to print are attributes of one name")]

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a HorizontalPodAutoscaler scales in the place of an App's Deployments, which come and go. The controller makes it with
/// the App's count, and from then on only the autoscaler, or a person, writes its count.
#[derive(Clone, CustomResource, Debug, Deserialize, KubeSchema, PartialEq, Eq, Serialize)]
#[kube(
    group = "tidegate.dev",
    version = "v1alpha1",
    kind = "AppScale",
    namespaced,
    status = "AppScaleStatus",
    derive = "PartialEq",
    doc = "How many pods an autoscaler wants of an App.",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Wanted", type_ = "integer", json_path = ".spec.replicas"),
    printcolumn(name = "Pods", type_ = "integer", json_path = ".status.replicas")
)]
pub struct AppScaleSpec {
    /// The count.
    #[schemars(range(max = 10_000))]
    pub replicas: u32,
}

/// What an autoscaler reads.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
pub struct AppScaleStatus {
    /// Pods of all revisions.
    #[serde(default)]
    pub replicas: u32,
    /// The selector of these pods.
    #[serde(default)]
    pub selector: String,
}

/// Between which counts, and by what, an App is scaled: as in a HorizontalPodAutoscaler (autoscaling/v2).
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.minReplicas <= self.maxReplicas").message("minReplicas must not be above maxReplicas"))]
pub struct Autoscaling {
    /// Never fewer.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 10_000))]
    pub min_replicas: u32,
    /// Never more.
    #[schemars(range(min = 1, max = 10_000))]
    pub max_replicas: u32,
    /// What is measured; none: processors, at 80 percent of what the pods request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "super::any_objects")]
    pub metrics: Vec<Value>,
    /// How fast.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "super::any_object")]
    pub behavior: Option<Value>,
}

// === impl Autoscaling ===

impl Autoscaling {
    /// A count within the bounds, whatever they are.
    pub fn bounded(&self, count: u32) -> u32 {
        count.min(self.max_replicas).max(self.min_replicas)
    }
}

fn one() -> u32 {
    1
}
