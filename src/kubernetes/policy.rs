//! The TrafficPolicy resource: what the control component writes, and every data plane follows.

#![expect(unreachable_pub, reason = "the derive of KubeSchema writes a type a second time, inside a function")]
#![allow(clippy::duplicated_attributes, reason = "columns to print are attributes of one name")]

use kube::{CustomResource, KubeSchema};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// More members than any deploy has.
pub const MAX_MEMBERS: usize = 64;

/// The pool `app/NAMESPACE/NAME/PORT`, joined from others. Its `metadata.generation` is the identity of a switch: data planes
/// publish the pool with it, and gateways acknowledge that number.
#[derive(Clone, CustomResource, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[kube(
    group = "tidegate.dev",
    version = "v1alpha1",
    kind = "TrafficPolicy",
    plural = "trafficpolicies",
    namespaced,
    derive = "PartialEq",
    doc = "A pool that deploys switch. Its generation is the identity of a switch.",
    printcolumn(name = "Port", type_ = "string", json_path = ".spec.port"),
    printcolumn(name = "Pools", type_ = "string", json_path = ".spec.members[*].pool"),
    printcolumn(name = "Shares", type_ = "string", json_path = ".spec.members[*].share"),
    printcolumn(name = "Generation", type_ = "integer", json_path = ".metadata.generation")
)]
#[serde(rename_all = "camelCase")]
pub struct TrafficPolicySpec {
    /// The last part of the pool's id: the name or number of the application's port.
    pub port: Port,
    /// What the pool is made from.
    #[schemars(length(min = 1, max = 64))]
    pub members: Vec<PolicyMember>,
    /// Endpoints of one's own zone first.
    #[serde(default)]
    pub prefer_zone: bool,
    /// The hosts, with or without a path, that lead to the pool, as `shop.example/api`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub hosts: Vec<String>,
}

/// A port by name or by number.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Port {
    /// As `http`.
    Name(String),
    /// As `8080`.
    Number(u16),
}

/// One part of the pool.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct PolicyMember {
    /// A pool's id, as `east/shop/checkout/http`.
    #[schemars(length(min = 1, max = 512))]
    pub pool: String,
    /// Its part of the traffic beside the others of its priority.
    #[serde(default)]
    #[schemars(range(max = 1_000_000))]
    pub share: u32,
    /// The lowest that is not empty serves.
    #[serde(default)]
    #[schemars(range(max = 1_000))]
    pub priority: u32,
    /// Which requests it is for. Only a gateway that sees requests can tell: such a member has no part of the rest.
    #[serde(rename = "match", default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object")]
    pub matches: Option<serde_json::Value>,
}

fn any_object(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "nullable": true, "x-kubernetes-preserve-unknown-fields": true })
}

// === impl Port ===

impl std::fmt::Display for Port {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Number(number) => write!(f, "{number}"),
        }
    }
}

impl JsonSchema for Port {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Port".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "x-kubernetes-int-or-string": true, "description": "The name or number of the application's port." })
    }
}
