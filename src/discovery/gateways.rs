//! Who serves what: what gateways asked for, and what they say that they applied.
//!
//! Names come from clients, so both the number of gateways and of pools a gateway are bounded. One that was not heard of
//! for a day is forgotten.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::formats::Format;
use super::iso;
use crate::endpoints::Snapshot;

const MAX_GATEWAYS: usize = 10_000;
const MAX_POOLS: usize = 10_000;
const MAX_TEXT: usize = 1_024;
const FORGOTTEN: Duration = Duration::from_secs(24 * 3_600);

/// What a gateway sends.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Acknowledgement {
    /// Its name.
    pub(super) gateway: String,
    /// By pool: the `traffic_generation` or the `ETag` that it serves now.
    #[serde(default)]
    pub(super) applied: BTreeMap<String, Applied>,
    /// Why it refuses what it was given.
    #[serde(default)]
    pub(super) error: Option<String>,
}

/// What a gateway serves of a pool.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(untagged)]
pub(super) enum Applied {
    /// Of a pool that a TrafficPolicy makes.
    Generation(i64),
    /// Of any.
    Etag(String),
}

/// All gateways that were heard of.
#[derive(Debug, Default)]
pub(super) struct Gateways(Mutex<BTreeMap<String, Gateway>>);

#[derive(Clone, Debug)]
struct Gateway {
    client: String,
    since: SystemTime,
    seen: SystemTime,
    applied: BTreeMap<String, (Applied, SystemTime)>,
    asked: BTreeMap<String, SystemTime>,
    error: Option<(String, SystemTime)>,
}

/// Why an acknowledgement is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum AckError {
    /// Empty, too long, or with characters that are no name's.
    #[error("gateway: give a name of 1 to 1024 visible ASCII characters")]
    Name,
    /// More than is kept.
    #[error("more pools or gateways than are kept")]
    TooMany,
}

#[derive(Serialize)]
struct GatewayBody<'a> {
    name: &'a str,
    client: &'a str,
    since: String,
    seen: String,
    pools: BTreeMap<&'a str, PoolState<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_at: Option<String>,
}

#[derive(Default, Serialize)]
struct PoolState<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    applied: Option<&'a Applied>,
    #[serde(skip_serializing_if = "Option::is_none")]
    applied_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    asked_at: Option<String>,
    /// Whether what it applied is what is published now.
    current: bool,
}

/// Whether this can be a gateway's name.
pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= MAX_TEXT && name.bytes().all(|byte| byte.is_ascii_graphic())
}

// === impl Gateways ===

impl Gateways {
    /// Takes an acknowledgement in.
    pub(super) fn acknowledge(&self, ack: Acknowledgement, client: &str, now: SystemTime) -> Result<(), AckError> {
        if ack.applied.len() > MAX_POOLS {
            return Err(AckError::TooMany);
        }
        self.with(&ack.gateway, client, now, |gateway| {
            for (pool, applied) in ack.applied {
                gateway.applied.insert(pool, (applied, now));
            }
            while gateway.applied.len() > MAX_POOLS {
                gateway.applied.pop_first();
            }
            gateway.error = ack.error.map(|text| (text.chars().take(MAX_TEXT).collect(), now));
        })
    }

    /// Notes that a gateway asked for a pool.
    pub(super) fn asked(&self, name: &str, client: &str, pool: &str, now: SystemTime) -> Result<(), AckError> {
        self.with(name, client, now, |gateway| {
            if gateway.asked.len() < MAX_POOLS || gateway.asked.contains_key(pool) {
                gateway.asked.insert(pool.to_owned(), now);
            }
        })
    }

    fn with(&self, name: &str, client: &str, now: SystemTime, act: impl FnOnce(&mut Gateway)) -> Result<(), AckError> {
        if !is_name(name) {
            return Err(AckError::Name);
        }
        let mut gateways = self.lock();
        if gateways.len() >= MAX_GATEWAYS && !gateways.contains_key(name) {
            let heard = |gateway: &Gateway| now.duration_since(gateway.seen).is_ok_and(|age| age < FORGOTTEN);
            gateways.retain(|_, gateway| heard(gateway));
            if gateways.len() >= MAX_GATEWAYS {
                return Err(AckError::TooMany);
            }
        }
        let gateway = gateways.entry(name.to_owned()).or_insert_with(|| Gateway {
            client: client.to_owned(),
            since: now,
            seen: now,
            applied: BTreeMap::new(),
            asked: BTreeMap::new(),
            error: None,
        });
        client.clone_into(&mut gateway.client);
        gateway.seen = now;
        act(gateway);
        Ok(())
    }

    /// Forgets a gateway that is gone for good. Says whether there was one.
    pub(super) fn forget(&self, name: &str) -> bool {
        self.lock().remove(name).is_some()
    }

    /// All of them as JSON, with how far each is; `admits` says which pools may be shown.
    pub(super) fn report(&self, snapshot: &Snapshot, admits: impl Fn(&str) -> bool) -> Value {
        let gateways = self.lock();
        let bodies: Vec<GatewayBody<'_>> = gateways
            .iter()
            .map(|(name, gateway)| {
                let mut pools: BTreeMap<&str, PoolState<'_>> = BTreeMap::new();
                for (pool, at) in gateway.asked.iter().filter(|(pool, _)| admits(pool)) {
                    pools.entry(pool).or_default().asked_at = Some(iso(*at));
                }
                for (pool, (applied, at)) in gateway.applied.iter().filter(|(pool, _)| admits(pool)) {
                    let state = pools.entry(pool).or_default();
                    state.applied = Some(applied);
                    state.applied_at = Some(iso(*at));
                    state.current = is_current(snapshot, pool, applied);
                }
                GatewayBody {
                    name,
                    client: &gateway.client,
                    since: iso(gateway.since),
                    seen: iso(gateway.seen),
                    pools,
                    error: gateway.error.as_ref().map(|(text, _)| text.as_str()),
                    error_at: gateway.error.as_ref().map(|(_, at)| iso(*at)),
                }
            })
            .collect();
        serde_json::json!(bodies)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Gateway>> {
        // Each change is one step, so that a panic elsewhere does no harm.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
    use super::*;

    fn ack(text: &str) -> Acknowledgement {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn the_report_says_who_applied_what_and_why_not() {
        let gateways = Gateways::default();
        let now = SystemTime::UNIX_EPOCH;
        gateways.asked("edge-1", "10.0.0.1", "p", now).unwrap();
        gateways
            .acknowledge(
                ack(r#"{"gateway":"edge-1","applied":{"p":7,"q":"\"x\""},"error":"weights"}"#),
                "10.0.0.1",
                now,
            )
            .unwrap();
        let report = gateways.report(&Snapshot::default(), |pool| pool == "p");
        let [edge] = report.as_array().unwrap().as_slice() else { panic!("{report}") };
        assert_eq!(
            (&edge["name"], &edge["error"], &edge["pools"]["p"]["applied"]),
            (&"edge-1".into(), &"weights".into(), &7.into())
        );
        assert_eq!(edge["pools"]["p"]["current"], false, "such a pool is not published");
        assert!(edge["pools"].get("q").is_none(), "what may not be seen is not shown");
        gateways.acknowledge(ack(r#"{"gateway":"edge-1"}"#), "10.0.0.1", now).unwrap();
        assert!(gateways.report(&Snapshot::default(), |_| true)[0].get("error").is_none());
        assert!(gateways.forget("edge-1") && !gateways.forget("edge-1"));
    }

    #[test]
    fn names_from_clients_are_bounded() {
        let gateways = Gateways::default();
        for bad in ["", "a b", "ü", &"x".repeat(1_025)] {
            assert_eq!(gateways.asked(bad, "c", "p", SystemTime::UNIX_EPOCH), Err(AckError::Name), "{bad:?}");
        }
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        for number in 0..MAX_GATEWAYS {
            gateways.asked(&format!("g{number}"), "c", "p", at(0)).unwrap();
        }
        assert_eq!(gateways.asked("new", "c", "p", at(1)), Err(AckError::TooMany));
        assert_eq!(
            gateways.asked("new", "c", "p", at(24 * 3_600)),
            Ok(()),
            "who was not heard of for a day makes room"
        );
    }
}
