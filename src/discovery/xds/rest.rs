//! Envoy's EDS over REST: `POST /v3/discovery:endpoints` with a `DiscoveryRequest` as JSON.
//!
//! Envoy asks again and again and gives up after a second, so nothing waits. Every pool that is asked for is answered, one
//! that does not exist without endpoints: Envoy takes what is missing for an error. Who has the version that it would get
//! is answered 304, which Envoy takes for success; having it means that it was taken, so that it is an acknowledgement.

use std::sync::Arc;
use std::time::SystemTime;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;

use super::machine::EVERYTHING;
use super::state::{State as Has, Version};
use super::subscription::{MAX_NAMES, Name};
use super::view::{Found, Kind, View};
use crate::discovery::answer::error;
use crate::discovery::api::{Api, Asker};
use crate::discovery::formats::{Format, envoy};
use crate::discovery::gateways::{Acknowledgement, Applied};
use crate::discovery::lists::unsynced_of;
use crate::discovery::truth::Truth;
use crate::endpoints::pool::{Pool, Rendering};

/// The largest request, in bytes: a node says much of itself.
const MAX_REQUEST: usize = 4 << 20;

/// What Envoy sends, by the fields' own names or in JSON's usual spelling.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Request {
    #[serde(alias = "versionInfo")]
    version_info: String,
    node: Node,
    #[serde(alias = "resourceNames")]
    resource_names: Vec<String>,
    #[serde(alias = "typeUrl")]
    type_url: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Node {
    id: String,
}

pub(super) fn limit() -> DefaultBodyLimit {
    DefaultBodyLimit::max(MAX_REQUEST)
}

pub(super) async fn endpoints(State(api): State<Arc<Api>>, client: Asker, body: Bytes) -> Response {
    let request: Request = match serde_json::from_slice(&body) {
        Ok(request) => request,
        Err(bad) => return error(StatusCode::BAD_REQUEST, &format!("not a DiscoveryRequest: {bad}")),
    };
    if !request.type_url.is_empty() && request.type_url != Kind::Assignments.type_url() {
        return error(StatusCode::BAD_REQUEST, "type_url: this path has ClusterLoadAssignments");
    }
    if request.resource_names.len() > MAX_NAMES {
        return error(StatusCode::BAD_REQUEST, &format!("resource_names: name at most {MAX_NAMES}"));
    }
    let snapshot = api.snapshot.load();
    let view = View { snapshot: &snapshot, scope: &client.scope, listeners: &api.listeners };
    let Some(answer) = Answer::of(&request.resource_names, &view) else {
        let stamp = api.stamp(&snapshot, Truth::of_snapshot(&snapshot));
        return stamp.unsynced(&unsynced_of(&snapshot, 0..snapshot.shards().len()));
    };
    let stamp = api.stamp(&snapshot, Truth::of_all(answer.pools.iter().copied(), &snapshot));
    let known = request.version_info == answer.version;
    if client.owns(&request.node.id) == Ok(true) {
        note(&api, &client.name, &request.node.id, &answer, known);
    }
    match known {
        true => stamp.not_modified(None),
        false => stamp.body(answer.body(), "application/json"),
    }
}

/// An acknowledgement that is not kept changes nothing for whoever asks.
fn note(api: &Api, client: &str, gateway: &str, answer: &Answer<'_>, known: bool) {
    let now = SystemTime::now();
    let asked = |pool: &&Pool| api.gateways.asked(gateway, client, pool.id.as_str(), now);
    let mut noted = answer.pools.iter().try_for_each(asked);
    if known {
        let applied = answer.pools.iter().map(|pool| {
            let applied = match pool.traffic_generation {
                Some(generation) => Applied::Generation(generation),
                None => Applied::Etag(Format::Json.render(pool).etag.to_string()),
            };
            (pool.id.to_string(), applied)
        });
        let error = api.refusals.latest(gateway);
        let acknowledgement = Acknowledgement { gateway: gateway.to_owned(), applied: applied.collect(), error };
        noted = noted.and_then(|()| api.gateways.acknowledge(acknowledgement, client, now));
    }
    if let Err(error) = noted {
        tracing::debug!(gateway, %error, "Envoy over REST: an acknowledgement was not kept");
    }
}

/// What is asked for.
struct Answer<'a> {
    pools: Vec<&'a Pool>,
    absent: Vec<&'a str>,
    version: String,
}

// === impl Answer ===

impl<'a> Answer<'a> {
    /// `None` where something of it is not known yet.
    fn of(names: &'a [String], view: &View<'a>) -> Option<Self> {
        let mut has = Has::default();
        let (mut pools, mut absent) = (Vec::new(), Vec::new());
        if names.is_empty() || names.iter().any(|name| name == EVERYTHING) {
            if !view.is_loaded() {
                return None;
            }
            pools.extend(view.pools().map(|pool| &**pool));
        } else {
            for name in names {
                if has.set(name, Some(Version::Absent)).is_some() {
                    // A name given twice is answered once.
                    continue;
                }
                match view.pool(name) {
                    Found::Pool(pool) => pools.push(pool),
                    Found::Absent | Found::Made(_) => absent.push(name.as_str()),
                    Found::Unknown => return None,
                }
            }
        }
        for pool in &pools {
            let version = Version::Of(Kind::Assignments.version(pool));
            has.set(&Name::from(pool.id.as_str()), Some(version));
        }
        Some(Self { pools, absent, version: has.name() })
    }

    /// Made of the pools' shared bodies.
    fn body(&self) -> Rendering {
        let mut text = format!("{{\"version_info\":\"{}\",\"resources\":[", self.version);
        let pools = self.pools.iter().map(|pool| Format::EnvoyJson.render(pool).body);
        for (at, body) in pools.chain(self.absent.iter().map(|id| envoy::absent_json(id))).enumerate() {
            if at > 0 {
                text.push(',');
            }
            text.push_str(&String::from_utf8_lossy(&body));
        }
        text.push_str("],\"type_url\":\"");
        text.push_str(Kind::Assignments.type_url());
        text.push_str("\"}");
        Rendering { body: text.into(), etag: format!("\"{}\"", self.version).into() }
    }
}
