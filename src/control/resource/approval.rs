//! People's words: for or against a release, and windows in which nothing is rolled out.

#![expect(unreachable_pub, reason = "the derive of KubeSchema writes a type a second time, inside a function")]
#![allow(clippy::duplicated_attributes, reason = "columns to print are attributes of one name")]

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::moment::Moment;

/// A word for or against what a release brings. It is never changed: who thinks better of it deletes it.
#[derive(Clone, CustomResource, Debug, Deserialize, KubeSchema, PartialEq, Eq, Serialize)]
#[kube(
    group = "tidegate.dev",
    version = "v1alpha1",
    kind = "Approval",
    namespaced,
    derive = "PartialEq",
    doc = "A word for or against what a release brings.",
    printcolumn(name = "Release", type_ = "string", json_path = ".spec.release"),
    printcolumn(name = "Verdict", type_ = "string", json_path = ".spec.verdict"),
    printcolumn(name = "By", type_ = "string", json_path = ".spec.by"),
    printcolumn(name = "Expires", type_ = "string", json_path = ".spec.expiresAt")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self == oldSelf").message("an Approval is never changed: delete it and give another"))]
pub struct ApprovalSpec {
    /// The Release.
    #[schemars(length(min = 1, max = 253))]
    pub release: String,
    /// Its image, exactly as it stands there: a word for one is none for another.
    #[schemars(length(min = 1, max = 512))]
    pub image: String,
    /// For or against.
    pub verdict: Verdict,
    /// Who says so: must be the user who creates this (see deploy/kubernetes/approval-policy.yaml).
    #[schemars(length(min = 1, max = 256))]
    pub by: String,
    /// Until when it holds.
    pub expires_at: Moment,
}

/// For or against.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
pub enum Verdict {
    /// It may have traffic.
    Approved,
    /// It goes back to what ran before.
    Rejected,
}

/// A window in which no release of its namespace starts or gets more traffic. Aborts and rollbacks are never held up.
#[derive(Clone, CustomResource, Debug, Deserialize, KubeSchema, PartialEq, Eq, Serialize)]
#[kube(
    group = "tidegate.dev",
    version = "v1alpha1",
    kind = "RolloutBlock",
    namespaced,
    derive = "PartialEq",
    doc = "A window in which no release of its namespace starts or gets more traffic.",
    printcolumn(name = "From", type_ = "string", json_path = ".spec.from"),
    printcolumn(name = "Until", type_ = "string", json_path = ".spec.until"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".spec.reason")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.from < self.until").message("from must be before until"))]
pub struct RolloutBlockSpec {
    /// When it begins.
    pub from: Moment,
    /// When it ends.
    pub until: Moment,
    /// Why, for those who wait.
    #[schemars(length(min = 1, max = 1024))]
    pub reason: String,
    /// The Apps that it is for; none: all of its namespace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(max = 253)))]
    pub apps: Vec<String>,
}

// === impl RolloutBlockSpec ===

impl RolloutBlockSpec {
    /// Whether it holds an App up now.
    pub fn holds(&self, app: &str, now: Moment) -> bool {
        self.from <= now && now < self.until && (self.apps.is_empty() || self.apps.iter().any(|it| it == app))
    }
}
