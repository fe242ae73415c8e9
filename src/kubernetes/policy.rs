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
    /// Requests that go to it whatever the shares say. Only the built-in gateway tells requests apart. Without a share of its own
    /// such a member has no part of the other requests, whoever else is there or not.
    #[serde(rename = "match", default, skip_serializing_if = "Option::is_none")]
    pub matches: Option<RequestMatch>,
}

/// The requests of one of these hosts, or that have one of these headers or cookies: any of them is enough. A match that names none
/// is for no request.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Eq, Serialize)]
#[x_kube(validation = Rule::new("has(self.hosts) || has(self.headers) || has(self.cookies)")
    .message("give hosts, headers or cookies, or some of them: any of them is enough"))]
pub struct RequestMatch {
    /// Hosts, in lower case and without a port, as `preview.shop.example`. A route of the gateway must send them to the pool: this
    /// says only which part of it they get.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(min = 1, max = 16),
        inner(length(min = 1, max = 253), regex(pattern = "^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$"))
    )]
    pub hosts: Vec<String>,
    /// Headers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 16))]
    pub headers: Vec<FieldValues>,
    /// Cookies.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 16))]
    pub cookies: Vec<FieldValues>,
}

/// A header or a cookie with one of these values.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
pub struct FieldValues {
    /// Its name; that of a header in whatever case.
    #[schemars(length(min = 1, max = 128), regex(pattern = "^[A-Za-z0-9._-]+$"))]
    pub name: String,
    /// What it may be, byte for byte.
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 256)))]
    pub values: Vec<String>,
}

// === impl RequestMatch ===

impl std::fmt::Display for RequestMatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let field = |what, FieldValues { name, values }: &FieldValues| format!("{what} {name}={}", values.join("|"));
        let hosts = self.hosts.iter().map(|it| format!("host {it}"));
        let headers = self.headers.iter().map(|it| field("header", it));
        let cookies = self.cookies.iter().map(|it| field("cookie", it));
        f.write_str(&hosts.chain(headers).chain(cookies).collect::<Vec<_>>().join(" or "))
    }
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
