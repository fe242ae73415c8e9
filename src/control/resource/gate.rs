//! What must hold of new pods before they get traffic, beside being available.

#![expect(unreachable_pub, reason = "the derive of KubeSchema writes a type a second time, inside a function")]

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What must hold of the new pods before they get traffic, beside being available: all that is given. It is asked before each
/// switch.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Gate {
    /// Asked of every new pod by Tidegate itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpGate>,
    /// Every new pod accepts connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpGate>,
    /// Every new pod says by gRPC's health protocol that it serves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc: Option<GrpcGate>,
    /// A Job that ends well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<JobGate>,
    /// Somebody else's word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookGate>,
    /// A value of Prometheus.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metric: Option<MetricGate>,
}

/// A request that every new pod must answer with 200 to 299.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpGate {
    /// The path, as `/health`.
    #[schemars(regex(pattern = "^/[!-~]*$"), length(max = 1024))]
    pub path: String,
    /// The pods' port.
    #[schemars(range(min = 1, max = 65_535))]
    pub port: u16,
    /// For how long it is tried again before the gate has failed.
    #[serde(default = "sixty")]
    #[schemars(range(min = 1, max = 86_400))]
    pub timeout_seconds: u32,
}

/// A connection that every new pod must accept.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TcpGate {
    /// The pods' port.
    #[schemars(range(min = 1, max = 65_535))]
    pub port: u16,
    /// For how long it is tried again before the gate has failed.
    #[serde(default = "sixty")]
    #[schemars(range(min = 1, max = 86_400))]
    pub timeout_seconds: u32,
}

/// A call of `grpc.health.v1.Health/Check`, in the clear, that every new pod must answer with SERVING.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GrpcGate {
    /// The pods' port.
    #[schemars(range(min = 1, max = 65_535))]
    pub port: u16,
    /// The service that is asked about; empty: the server as a whole.
    #[serde(default)]
    #[schemars(length(max = 256))]
    pub service: String,
    /// For how long it is tried again before the gate has failed.
    #[serde(default = "sixty")]
    #[schemars(range(min = 1, max = 86_400))]
    pub timeout_seconds: u32,
}

/// A Job that is made once at each gate of a release (and once more when people let it try again), and must complete. It is
/// deleted an hour after it has ended, and with the Release.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct JobGate {
    /// Its pods: a PodTemplateSpec. Each container is told TIDEGATE_NAMESPACE, TIDEGATE_APP, TIDEGATE_RELEASE,
    /// TIDEGATE_REVISION, TIDEGATE_IMAGE, and TIDEGATE_SERVICE: the Service of the new pods alone.
    #[schemars(schema_with = "super::any_object")]
    pub template: Value,
    /// How often a pod that fails is followed by another.
    #[serde(default)]
    #[schemars(range(max = 100))]
    pub retries: u32,
    /// For how long it may run.
    #[serde(default = "ten_minutes")]
    #[schemars(range(min = 1, max = 86_400))]
    pub timeout_seconds: u32,
}

/// `POST` of the release as JSON to a server that `[control] egress_allow` names. 200 to 299 is yes, but 202: not yet. 400 to 499
/// is no, at once. Everything else is asked again.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WebhookGate {
    /// Its address, as `http://checks.corp.example/tidegate`.
    #[schemars(regex(pattern = "^http://[^/@ ]+(/[!-~]*)?$"), length(max = 1024))]
    pub url: String,
    /// For how long it is asked before the gate has failed.
    #[serde(default = "sixty")]
    #[schemars(range(min = 1, max = 86_400))]
    pub timeout_seconds: u32,
}

/// A query to the Prometheus of `[control] prometheus`, each of whose values must lie within the bounds.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.atLeast) || has(self.atMost)").message("give atLeast, atMost or both"))]
pub struct MetricGate {
    /// PromQL; `$namespace`, `$app`, `$release`, `$revision` and `$cluster` stand for the release's own.
    #[schemars(length(min = 1, max = 4096))]
    pub query: String,
    /// No value is below it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_least: Option<f64>,
    /// No value is above it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_most: Option<f64>,
    /// What it means that there is no value.
    #[serde(default)]
    pub no_data: NoData,
    /// For how long it is asked before the gate has failed.
    #[serde(default = "sixty")]
    #[schemars(range(min = 1, max = 86_400))]
    pub timeout_seconds: u32,
}

/// What it means that a query has no value.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
pub enum NoData {
    /// It is asked again.
    #[default]
    Wait,
    /// There is nothing to complain of: as before the first share of a canary.
    Pass,
}

fn ten_minutes() -> u32 {
    600
}

fn sixty() -> u32 {
    60
}
