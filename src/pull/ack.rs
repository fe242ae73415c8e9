//! What this gateway really serves, told to the server that is followed.
//!
//! What is new is told soon, everything again to another server or another life of one, and as a sign of life every
//! [`AGAIN`]. A failure changes nothing for the gateway: it is tried again.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::watch;

use super::Upstream;
use super::wire::Pool;
use crate::base::backoff::{Backoff, random};
use crate::net::fetch::Fetcher;

/// Changes within this time are told together.
const TOGETHER: Duration = Duration::from_millis(50);
/// The sign of life.
const AGAIN: Duration = Duration::from_secs(20);
/// Pools in one acknowledgement, which has a size that a server takes.
const AT_ONCE: usize = 2_000;
/// For an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest error that is told, in characters.
const MAX_ERROR: usize = 1_000;

/// What is served of a pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Applied {
    /// Of one that a TrafficPolicy makes.
    Generation(i64),
    /// Of any other: its tag.
    Etag(String),
}

/// What a gateway says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acknowledged {
    /// What it serves, by pool.
    pub applied: BTreeMap<String, Applied>,
    /// Why it does not serve what it was given.
    pub error: Option<String>,
}

/// Where a gateway says what it serves.
#[derive(Clone, Debug)]
pub struct Acks(watch::Sender<Acknowledged>);

#[derive(Serialize)]
struct Body<'a> {
    gateway: &'a str,
    applied: BTreeMap<&'a str, &'a Applied>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

// === impl Applied ===

impl Applied {
    /// What is served where this pool is.
    pub fn of(pool: &Pool) -> Self {
        pool.traffic_generation.map_or_else(|| Self::Etag(pool.etag.clone()), Self::Generation)
    }
}

// === impl Acks ===

impl Default for Acks {
    fn default() -> Self {
        Self(watch::Sender::new(Acknowledged::default()))
    }
}

impl Acks {
    /// Says anew what is served, whole.
    pub fn tell(&self, now: Acknowledged) {
        self.0.send_if_modified(|told| {
            let changed = *told != now;
            *told = now;
            changed
        });
    }

    /// What was said last.
    pub fn told(&self) -> Acknowledged {
        self.0.borrow().clone()
    }

    /// Passes on what is said. Never ends.
    pub(super) async fn run(self, gateway: String, mut upstream: watch::Receiver<Option<Upstream>>) {
        let mut acks = self.0.subscribe();
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
        let mut told: Option<(String, Acknowledged)> = None;
        let mut complained = false;
        loop {
            let Ok(server) = upstream.wait_for(Option::is_some).await.map(|it| it.clone()) else { return };
            let Some(server) = server else { continue };
            let now = acks.borrow_and_update().clone();
            let before = told.as_ref().filter(|(boot, _)| *boot == server.boot).map(|(_, told)| told);
            match post(&server.fetcher, &gateway, before, &now).await {
                Ok(()) => {
                    backoff.reset();
                    complained = false;
                    told = Some((server.boot.clone(), now));
                }
                Err(why) => {
                    if !complained {
                        tracing::warn!(why, "what is served cannot be acknowledged; it is tried again");
                    }
                    complained = true;
                    told = None;
                    tokio::time::sleep(backoff.next(random())).await;
                    continue;
                }
            }
            let alive = tokio::time::sleep(AGAIN);
            tokio::select! {
                changed = acks.changed() => if changed.is_err() { return },
                () = alive => told = None,
                _ = upstream.wait_for(|now| now.as_ref().is_none_or(|now| now.boot != server.boot)) => {}
            }
            tokio::time::sleep(TOGETHER).await;
        }
    }
}

/// Tells what is new since `before`, or all.
async fn post(
    fetcher: &Fetcher,
    gateway: &str,
    before: Option<&Acknowledged>,
    now: &Acknowledged,
) -> Result<(), String> {
    let new = |pool: &str, applied: &Applied| before.is_none_or(|before| before.applied.get(pool) != Some(applied));
    let applied: Vec<_> = now.applied.iter().filter(|(pool, applied)| new(pool, applied)).collect();
    let error: Option<String> = now.error.as_ref().map(|error| error.chars().take(MAX_ERROR).collect());
    let parts = applied.chunks(AT_ONCE).map(<[_]>::to_vec);
    // A gateway that serves nothing says so as well.
    let parts = if applied.is_empty() { vec![Vec::new()] } else { parts.collect() };
    for part in parts {
        let applied = part.into_iter().map(|(pool, applied)| (pool.as_str(), applied)).collect();
        let body = Body { gateway, applied, error: error.as_deref() };
        let body = serde_json::to_vec(&body).map_err(|error| error.to_string())?;
        let answer = fetcher.post("/v1/ack", body, PATIENCE).await.map_err(|error| error.to_string())?;
        if !answer.status.is_success() {
            let text = String::from_utf8_lossy(&answer.body);
            return Err(format!("{} answers {}: {}", fetcher.base(), answer.status.as_u16(), text.trim()));
        }
    }
    Ok(())
}
