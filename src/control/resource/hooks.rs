//! What is done for a pod before it starts, before it is online, and before it is offline.

#![expect(unreachable_pub, reason = "the derive of KubeSchema writes a type a second time, inside a function")]

use std::time::Duration;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is done for a pod beside its containers, never in them: a hook that hangs hides nothing of what they say.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "has(self.beforeStart) || has(self.beforeOnline) || has(self.beforeOffline)"
).message("give at least one of beforeStart, beforeOnline and beforeOffline"))]
pub struct Hooks {
    /// The image in which they run: it has `tidegate` in its PATH, as deploy/docker/Dockerfile makes it, and what commands need.
    #[schemars(length(min = 1, max = 512))]
    pub image: String,
    /// The port of the pod at which the kubelet asks how they are; none of the containers' own.
    #[serde(default = "port")]
    #[schemars(range(min = 1024, max = 65_535))]
    pub port: u16,
    /// Before any container starts, after the init containers. Until it has ended well, none does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before_start: Option<Hook>,
    /// Once the App's port accepts connections. Until it has ended well, the pod is not ready, and has no traffic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before_online: Option<Hook>,
    /// When the pod is to go, before its containers are told. Whatever becomes of it, they are told after its time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before_offline: Option<Offline>,
}

/// A request or a command, until it ends well: it is tried again each second.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.http) != has(self.command)").message("give one of http and command"))]
pub struct Hook {
    /// A request, which must be answered with 200 to 299.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpHook>,
    /// A program of the hooks' image and its arguments, without a shell, which must end with status 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), inner(length(max = 4096)))]
    pub command: Option<Vec<String>>,
    /// For how long, all tries together. Then the hook has failed, and begins anew after a pause of the kubelet's.
    #[serde(default = "sixty")]
    #[schemars(range(min = 1, max = 3_600))]
    pub timeout_seconds: u32,
}

/// What is done before a pod goes: something that takes it from those who know it, then two periods in which they hear of that.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "[has(self.eureka), has(self.http), has(self.command)].filter(it, it).size() <= 1"
).message("give at most one of eureka, http and command"))]
pub struct Offline {
    /// Its instance leaves a ring of Eureka.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eureka: Option<Eureka>,
    /// A request, of the application itself or of who else knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpHook>,
    /// A program of the hooks' image and its arguments, without a shell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), inner(length(max = 4096)))]
    pub command: Option<Vec<String>>,
    /// For how long that is tried, each second.
    #[serde(default = "ten")]
    #[schemars(range(min = 1, max = 600))]
    pub timeout_seconds: u32,
    /// How often those who know the pod look again. Two such periods are waited, whatever became of it.
    #[serde(default = "thirty")]
    #[schemars(range(max = 300))]
    pub refresh_seconds: u32,
}

/// A request.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpHook {
    /// How.
    #[serde(default)]
    pub method: Method,
    /// Where, as `http://$(POD_IP):8080/warm`: `$(POD_IP)`, `$(POD_NAME)` and `$(POD_NAMESPACE)` are the pod's own. An address of
    /// IPv6 is put in brackets.
    #[schemars(regex(pattern = "^http://[^/@ ]+(/[!-~]*)?$"), length(max = 1024))]
    pub url: String,
}

/// A method of HTTP.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
pub enum Method {
    /// `GET`.
    #[serde(rename = "GET")]
    Get,
    /// `POST` of nothing.
    #[default]
    #[serde(rename = "POST")]
    Post,
    /// `PUT` of nothing.
    #[serde(rename = "PUT")]
    Put,
    /// `DELETE`.
    #[serde(rename = "DELETE")]
    Delete,
}

/// A ring of Eureka, and who leaves it: its status becomes OUT_OF_SERVICE, which heartbeats of its own client do not undo.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Eureka {
    /// Its servers, as `http://eureka-1:8761/eureka`; the first that answers is told.
    #[schemars(length(min = 1, max = 16), inner(regex(pattern = "^http://[^/@ ]+(/[!-~]*)?$"), length(max = 512)))]
    pub urls: Vec<String>,
    /// The application's name in it.
    #[schemars(regex(pattern = "^[A-Za-z0-9._-]+$"), length(min = 1, max = 253))]
    pub app: String,
    /// The pod's id in it.
    #[serde(default = "instance")]
    #[schemars(regex(pattern = "^[!-~]+$"), length(min = 1, max = 253))]
    pub instance: String,
}

fn port() -> u16 {
    9_911
}

fn ten() -> u32 {
    10
}

fn thirty() -> u32 {
    30
}

fn sixty() -> u32 {
    60
}

fn instance() -> String {
    "$(POD_NAME)".to_owned()
}

// === impl Hook ===

impl Hook {
    /// For all tries.
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_seconds.into())
    }
}

// === impl Offline ===

impl Offline {
    /// For all tries.
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_seconds.into())
    }

    /// What is waited afterwards: two refresh periods, so that nobody who looked just before knows the pod any more.
    pub fn wait(&self) -> Duration {
        2 * Duration::from_secs(self.refresh_seconds.into())
    }
}
