//! `GET /v1/gateways`: who serves what, since when and how far.
//!
//! All of that is every pool of every gateway: megabytes, where thousands of pools meet dozens of gateways. Who waits for one switch asks
//! for its pool alone (`id`), and for those that it waits for whatever they have asked for (`gateway`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::SystemTime;

use axum::Json;
use axum::extract::{Query as Pairs, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Value, json};

use super::answer::error;
use super::api::{Api, Asker};
use super::formats::Format;
use super::gateways::{Applied, Gateway, Gateways, Upstream};
use super::iso;
use super::query::{MAX_IDS, parse_id};
use super::relays::is_gone;
use crate::endpoints::Snapshot;
use crate::endpoints::pool::PoolId;

/// What of it is asked for; without anything, all.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Selection {
    /// These pools, and the gateways that have asked for one of them or serve it.
    pools: BTreeSet<PoolId>,
    /// These gateways, whatever they serve.
    gateways: BTreeSet<String>,
}

#[derive(Serialize)]
struct Body {
    gateways: Value,
    /// Where all is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    relays: Option<Value>,
}

#[derive(Serialize)]
struct GatewayBody<'a> {
    name: &'a str,
    client: &'a str,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    relays: &'a [String],
    /// Of one that is heard of through relays: whether the nearest of them is still there.
    #[serde(skip_serializing_if = "Option::is_none")]
    relay_state: Option<&'static str>,
    since: String,
    seen: String,
    pools: BTreeMap<&'a str, PoolState<'a>>,
    /// Whether it tells requests apart.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    matches: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<&'a Upstream>,
}

#[derive(Default, Serialize)]
struct PoolState<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    applied: Option<&'a Applied>,
    #[serde(skip_serializing_if = "Option::is_none")]
    applied_at: Option<String>,
    /// How many parts that are for some requests alone it serves of that.
    #[serde(skip_serializing_if = "Option::is_none")]
    matched: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    asked_at: Option<String>,
    /// Whether what it applied is what is published now.
    current: bool,
}

/// The answer: gateways, and where all is asked for, relays.
pub(super) async fn get(
    State(api): State<Arc<Api>>,
    client: Asker,
    Pairs(pairs): Pairs<Vec<(String, String)>>,
) -> Response {
    let selection = match Selection::read(&pairs) {
        Ok(selection) => selection,
        Err(bad) => return error(StatusCode::BAD_REQUEST, &bad),
    };
    let (snapshot, now) = (api.snapshot.load(), SystemTime::now());
    let admits = |id: &str| match snapshot.pool(id) {
        Some(pool) => client.scope.admits(pool, &snapshot),
        None => client.scope.may_have_admitted(id),
    };
    let gateways = api.gateways.report_of(&selection, &snapshot, now, admits);
    let relays = (selection == Selection::default()).then(|| api.gateways.relays_report(now));
    Json(Body { gateways, relays }).into_response()
}

// === impl Selection ===

impl Selection {
    /// Reads a query's pairs. The error is for the client.
    fn read(pairs: &[(String, String)]) -> Result<Self, String> {
        let mut selection = Self::default();
        for (key, value) in pairs {
            match key.as_str() {
                "id" => drop(selection.pools.insert(parse_id(value)?)),
                "gateway" => drop(selection.gateways.insert(value.clone())),
                other => return Err(format!("{other}: unknown; known are id and gateway")),
            }
        }
        if selection.pools.len() > MAX_IDS {
            return Err(format!("id: name at most {MAX_IDS} pools in one request"));
        }
        Ok(selection)
    }

    /// What is told of a gateway's words of each pool: of all, or of those that are asked for.
    fn of<'a, T>(&'a self, words: &'a BTreeMap<String, T>) -> Box<dyn Iterator<Item = (&'a str, &'a T)> + 'a> {
        match self.pools.is_empty() {
            true => Box::new(words.iter().map(|(pool, word)| (pool.as_str(), word))),
            false => Box::new(self.pools.iter().filter_map(|pool| Some((pool.as_str(), words.get(pool.as_str())?)))),
        }
    }

    /// Whether a gateway is told of; `admits` says which pools may be shown.
    fn has(&self, name: &str, gateway: &Gateway, admits: &impl Fn(&str) -> bool) -> bool {
        let serves = || {
            self.of(&gateway.asked).any(|(pool, _)| admits(pool))
                || self.of(&gateway.applied).any(|(pool, _)| admits(pool))
        };
        let by_pool = if self.pools.is_empty() { self.gateways.is_empty() } else { serves() };
        by_pool || self.gateways.contains(name)
    }
}

// === impl Gateways ===

impl Gateways {
    /// All of them as JSON, with how far each is; `admits` says which pools may be shown.
    pub(super) fn report(&self, snapshot: &Snapshot, now: SystemTime, admits: impl Fn(&str) -> bool) -> Value {
        self.report_of(&Selection::default(), snapshot, now, admits)
    }

    /// The same, of what is asked for.
    fn report_of(
        &self,
        selection: &Selection,
        snapshot: &Snapshot,
        now: SystemTime,
        admits: impl Fn(&str) -> bool,
    ) -> Value {
        let table = self.lock();
        let body = |(name, gateway): (&'_ String, &'_ Gateway)| {
            let mut pools: BTreeMap<&str, PoolState<'_>> = BTreeMap::new();
            for (pool, word) in selection.of(&gateway.asked).filter(|(pool, _)| admits(pool)) {
                pools.entry(pool).or_default().asked_at = Some(iso(word.at));
            }
            for (pool, word) in selection.of(&gateway.applied).filter(|(pool, _)| admits(pool)) {
                let state = pools.entry(pool).or_default();
                state.applied = Some(&word.what);
                state.applied_at = Some(iso(word.at));
                state.matched = gateway.parts.get(pool).copied();
                state.current = is_current(snapshot, pool, &word.what);
            }
            let nearest = gateway.relays.last().map(|relay| is_gone(table.relays.get(relay), now));
            json!(GatewayBody {
                name,
                client: &gateway.client,
                relays: &gateway.relays,
                relay_state: nearest.map(|gone| if gone { "gone" } else { "connected" }),
                since: iso(gateway.since),
                seen: iso(gateway.seen),
                pools,
                matches: gateway.matches,
                error: gateway.error.as_ref().map(|word| word.what.as_str()),
                error_at: gateway.error.as_ref().map(|word| iso(word.at)),
                upstream: gateway.upstream.as_ref(),
            })
        };
        table.gateways.iter().filter(|(name, gateway)| selection.has(name, gateway, &admits)).map(body).collect()
    }
}

fn is_current(snapshot: &Snapshot, id: &str, applied: &Applied) -> bool {
    let Some(pool) = snapshot.pool(id) else { return false };
    match applied {
        Applied::Generation(generation) => pool.traffic_generation == Some(*generation),
        Applied::Etag(etag) => *Format::Json.render(pool).etag == *etag.as_str(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::gateways::Acknowledgement;
    use super::*;

    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    fn ack(text: &str) -> Acknowledgement {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn the_report_says_who_applied_what_and_why_not() {
        let gateways = Gateways::default();
        gateways.asked("edge-1", "10.0.0.1", "p", NOW).unwrap();
        let said = ack(r#"{"gateway":"edge-1","applied":{"p":7,"q":"\"x\""},"error":"weights"}"#);
        gateways.acknowledge(said, "10.0.0.1", NOW).unwrap();
        let report = gateways.report(&Snapshot::default(), NOW, |pool| pool == "p");
        let [edge] = report.as_array().unwrap().as_slice() else { panic!("{report}") };
        assert_eq!(
            (&edge["name"], &edge["error"], &edge["pools"]["p"]["applied"]),
            (&"edge-1".into(), &"weights".into(), &7.into())
        );
        assert_eq!(edge["pools"]["p"]["current"], false, "such a pool is not published");
        assert!(edge["pools"].get("q").is_none(), "what may not be seen is not shown");
        gateways.acknowledge(ack(r#"{"gateway":"edge-1"}"#), "10.0.0.1", NOW).unwrap();
        assert!(gateways.report(&Snapshot::default(), NOW, |_| true)[0].get("error").is_none());
        assert!(gateways.report(&Snapshot::default(), NOW, |_| true)[0].get("matches").is_none());
        assert!(gateways.forget("edge-1") && !gateways.forget("edge-1"));
    }

    #[test]
    fn who_asks_for_a_pool_is_told_of_it_and_of_those_that_serve_it_or_are_named() {
        let gateways = Gateways::default();
        gateways.asked("asks", "c", "a", NOW).unwrap();
        gateways.asked("asks", "c", "b", NOW).unwrap();
        gateways.acknowledge(ack(r#"{"gateway":"serves","applied":{"a":1,"b":2,"c":3}}"#), "c", NOW).unwrap();
        gateways.acknowledge(ack(r#"{"gateway":"other","applied":{"c":3},"error":"why"}"#), "c", NOW).unwrap();
        let told = |pairs: &[(&str, &str)]| {
            let pairs: Vec<_> = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            let report =
                gateways.report_of(&Selection::read(&pairs).unwrap(), &Snapshot::default(), NOW, |pool| pool != "b");
            let gateway = |it: &Value| {
                let pools: Vec<_> = it["pools"].as_object().unwrap().keys().cloned().collect();
                format!("{} {}", it["name"].as_str().unwrap(), pools.join(","))
            };
            report.as_array().unwrap().iter().map(gateway).collect::<Vec<_>>()
        };
        assert_eq!(told(&[]), ["asks a", "other c", "serves a,c"]);
        assert_eq!(told(&[("id", "a")]), ["asks a", "serves a"]);
        assert_eq!(told(&[("id", "a"), ("id", "c")]), ["asks a", "other c", "serves a,c"]);
        assert_eq!(told(&[("id", "a"), ("gateway", "other")]), ["asks a", "other ", "serves a"]);
        assert_eq!(told(&[("gateway", "other")]), ["other c"]);
        assert_eq!(told(&[("id", "nobodys")]), [""; 0]);
        assert_eq!(told(&[("id", "b")]), [""; 0], "nor who serves what may not be shown");
        let bad = |key: &str, value: &str| Selection::read(&[(key.to_owned(), value.to_owned())]).unwrap_err();
        assert!(bad("id", "a b").contains("a b") && bad("pool", "a").contains("known are id and gateway"));
    }
}
