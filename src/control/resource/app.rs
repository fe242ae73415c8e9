//! An application.

#![expect(unreachable_pub, reason = "the derive of KubeSchema writes a type a second time, inside a function")]

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::clusters::Placement;
use super::environment::Environment;
use super::exposure::{Disruption, Exposure};
use super::failure::FailurePolicy;
use super::gate::Gate;
use super::hooks::Hooks;
use super::scale::Autoscaling;
use super::strategy::{OnFailure, Strategy};

/// What an application is and how its releases come about. Changing it starts nothing: a Release does, and takes what
/// stands here at that time with it. Only `replicas` holds at once.
#[derive(Clone, CustomResource, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[kube(
    group = "tidegate.dev",
    version = "v1alpha1",
    kind = "App",
    namespaced,
    status = "AppStatus",
    derive = "PartialEq",
    doc = "An application: its count, its pods, and how its releases come about.",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Wanted", type_ = "integer", json_path = ".spec.replicas"),
    printcolumn(name = "Ready", type_ = "integer", json_path = ".status.readyReplicas"),
    printcolumn(name = "Serving", type_ = "string", json_path = ".status.serving"),
    printcolumn(name = "Release", type_ = "string", json_path = ".status.release"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    // The names of its Deployments and Services are this, a dash and the revision.
    validation = Rule::new("self.metadata.name.size() <= 50").message("the name may have up to 50 characters"),
    validation = Rule::new(
        "self.spec.routing != 'Service' || (has(self.spec.strategy.blueGreen) && !has(self.spec.strategy.blueGreen.preview) && !has(self.spec.failurePolicy.ignore))"
    ).message("routing Service goes with blueGreen, without preview and failurePolicy.ignore: a Service's selector has no shares and knows no requests"),
    validation = Rule::new(
        "!has(self.spec.environment) || (has(self.spec.environments) && self.spec.environments.exists(it, it.name == self.spec.environment))"
    ).message("environment names one of environments"),
    validation = Rule::new(
        "self.spec.routing == 'Service' || !has(self.spec.exposure) \
         || (self.spec.exposure.type == 'Gateway' && !has(self.spec.exposure.ports) && !has(self.spec.exposure.annotations))"
    ).message(
        "exposure.type ClusterIP and LoadBalancer, ports and annotations are of a stable Service, which goes with routing Service: \
         what reaches pods past the gateways knows no shares"
    ),
    validation = Rule::new(
        "!has(self.spec.exposure) || !has(self.spec.exposure.ports) || self.spec.exposure.ports.exists(it, it.name == self.spec.port)"
    ).message("exposure.ports has the App's port"),
    validation = Rule::new(
        "!has(self.spec.clusters) || self.spec.clusters.size() == 0 || (self.spec.routing != 'Service' && !has(self.spec.strategy.migrate))"
    ).message("clusters go without routing Service and strategy migrate: a Service's selector, and a pool that is no cluster's, are not divided among clusters"),
    validation = Rule::new(
        "!has(oldSelf.spec.clusters) || oldSelf.spec.clusters.size() == 0 || (has(self.spec.clusters) && self.spec.clusters.size() > 0)"
    ).message("an App that has clusters keeps one at least: name the one that it lives in")
)]
#[serde(rename_all = "camelCase")]
pub struct AppSpec {
    /// Who is asked about it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 256)))]
    pub owners: Vec<String>,
    /// Whose it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub team: Option<String>,
    /// Where to read on, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub links: BTreeMap<String, String>,
    /// How many pods serve; of several clusters: in each that has no count of its own. An autoscaler writes it through the scale subresource; Tidegate never does.
    #[serde(default = "one")]
    #[schemars(range(max = 10_000))]
    pub replicas: u32,
    /// Who scales it, and within which bounds: then its count is that of the AppScale of its name, and `replicas` only what it
    /// begins with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoscaling: Option<Autoscaling>,
    /// The clusters that it runs in; none: the one that it lives in, alone. A cluster that is taken from this list gets no more
    /// traffic once the others have all their pods, is waited for no longer, and keeps its Deployments for people to delete.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub clusters: Vec<Placement>,
    /// The pods: a PodTemplateSpec, whose image a Release replaces.
    #[schemars(schema_with = "super::any_object")]
    pub template: Value,
    /// What differs between the places that it runs in, laid over the template when a Release is made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 32),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub environments: Vec<Environment>,
    /// The one of `environments` that this App is in; none: its template as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub environment: Option<String>,
    /// What is done for a pod before it starts, before it is online, and before it is offline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hooks: Option<Hooks>,
    /// The container port, by its name, whose traffic is switched: pool `app/NAMESPACE/NAME/PORT`.
    #[schemars(length(min = 1, max = 15), regex(pattern = "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"))]
    pub port: String,
    /// What a deploy switches.
    #[serde(default)]
    #[x_kube(validation = Rule::new("self == oldSelf").message("what a deploy switches is said when the App is created"))]
    pub routing: Routing,
    /// How it is reached from outside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exposure: Option<Exposure>,
    /// How many of its pods may go at once when nodes are emptied.
    #[serde(default)]
    pub disruption: Disruption,
    /// How a release comes to have all traffic.
    pub strategy: Strategy,
    /// What must hold of new pods before they get traffic.
    #[serde(default)]
    pub gate: Gate,
    /// How long a pod is ready before it counts.
    #[serde(default)]
    #[schemars(range(max = 3_600))]
    pub min_ready_seconds: u32,
    /// A release that has no more available pods than ever before for so long has failed.
    #[serde(default = "ten_minutes")]
    #[schemars(range(min = 1, max = 86_400))]
    pub progress_deadline_seconds: u32,
    /// What becomes of a release whose pods or gate fail.
    #[serde(default)]
    pub on_failure: OnFailure,
    /// What becomes of new pods that fail.
    #[serde(default)]
    pub failure_policy: FailurePolicy,
    /// Revisions without pods that are kept beside the one that serves.
    #[serde(default = "three")]
    #[schemars(range(max = 100))]
    pub revision_history_limit: u32,
}

/// What a deploy switches.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
pub enum Routing {
    /// The TrafficPolicy of the App, which gateways acknowledge.
    #[default]
    Tidegate,
    /// The selector of the Service of the App's name, for who does not ask Tidegate: its EndpointSlices acknowledge. Such a
    /// switch has no shares.
    Service,
}

/// What is seen of an application.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AppStatus {
    /// Pods of all revisions.
    #[serde(default)]
    pub replicas: u32,
    /// Those of them that are available.
    #[serde(default)]
    pub ready_replicas: u32,
    /// The selector of its pods, for autoscalers.
    #[serde(default)]
    pub selector: String,
    /// The revisions that have traffic, each with its share.
    #[serde(default)]
    pub serving: String,
    /// The newest release and its phase.
    #[serde(default)]
    pub release: String,
}

fn one() -> u32 {
    1
}

fn three() -> u32 {
    3
}

fn ten_minutes() -> u32 {
    600
}
