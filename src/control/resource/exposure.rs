//! How an application is reached, and how many of its pods may go at once.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How an application is reached.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Exposure {
    /// By whom it is reached. `ClusterIP` and `LoadBalancer` go with routing `Service`.
    #[serde(rename = "type", default)]
    pub kind: ExposureType,
    /// The ports of its stable Service, the App's own among them; else that one alone, by the container's number.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub ports: Vec<ExposedPort>,
    /// The hosts, with or without a path, that lead to it in every gateway, as `shop.example/api`. With routing `Tidegate` they
    /// stand in its TrafficPolicy from the next switch on, with routing `Service` at its stable Service, at once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 512)))]
    pub hosts: Vec<String>,
    /// Annotations of its stable Service, as load balancers of clouds read them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// By whom an application is reached.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
pub enum ExposureType {
    /// By gateways that pull its pool, under its hosts.
    #[default]
    Gateway,
    /// By its stable Service, from within the cluster; by gateways as well where it has hosts.
    #[serde(rename = "ClusterIP")]
    ClusterIp,
    /// By its stable Service, from outside, over a load balancer that the cluster makes.
    LoadBalancer,
}

/// A port of a stable Service.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExposedPort {
    /// The container port, by its name, and the Service's.
    #[schemars(length(min = 1, max = 15), regex(pattern = "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"))]
    pub name: String,
    /// At which the Service is asked.
    #[schemars(range(min = 1, max = 65_535))]
    pub port: u16,
}

/// How many of an App's pods, of all revisions, may go at once when nodes are emptied: a PodDisruptionBudget of the App's name.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Disruption {
    /// So many; none would keep a node from ever being emptied. An App whose count is not above it has no budget, as there would be
    /// nothing for it to keep. Pods of a budget of one's own need this to be 10000: of two, none lets a pod go.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 10_000))]
    pub max_unavailable: u32,
}

// === impl Disruption ===

impl Default for Disruption {
    fn default() -> Self {
        Self { max_unavailable: one() }
    }
}

fn one() -> u32 {
    1
}
