//! Pools of an existing Eureka ring, as a client of it: `GET apps`, then `GET apps/delta` again and again.
//!
//! A delta is applied only if the ring that it makes has the hashcode that the server says; else all is fetched. What all
//! says is a list, which the registry's guards look at: a server that was restarted, or lost its peers, empties nothing.
//! What a delta says is live. A server that fails is followed by the next one, whose first answer is a list again.

mod ring;
#[cfg(test)]
mod tests;
mod wire;

use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::StatusCode;
use metrics::{Counter, counter, describe_counter};

use self::ring::Ring;
use self::wire::Applications;
use super::runtime::Sender;
use super::update::{SourceEvent, Update, Watched};
use crate::base::backoff::{Backoff, random};
use crate::net::fetch::{Credentials, Fetcher};

/// For an answer.
const PATIENCE: Duration = Duration::from_secs(15);
/// A server that was good for so long was a success: the next failure is a first one.
const LASTED: Duration = Duration::from_secs(10);

/// How a ring is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EurekaConfig {
    /// The first part of its pools' ids.
    pub cluster: Arc<str>,
    /// Its servers, as `http://host:8761/eureka`; at least one.
    pub urls: Vec<String>,
    /// Between two looks.
    pub poll: Duration,
    /// The applications to read, in whatever case; empty for all.
    pub apps: Vec<String>,
    /// Where an instance has a secure port, it is that one.
    pub secure: bool,
    /// What is shown and trusted.
    pub credentials: Credentials,
}

/// Why asking a server ended.
#[derive(Debug)]
enum End {
    /// Nobody listens any more.
    Deaf,
    /// Anything else, which may go away, or be better elsewhere.
    Failed(String),
}

#[derive(Debug)]
struct EurekaMetrics {
    lists: Counter,
    mismatches: Counter,
    failures: Counter,
}

struct Reader {
    config: Arc<EurekaConfig>,
    ring: Ring,
    events: Sender,
    metrics: EurekaMetrics,
}

/// Reads the ring until the registry is gone.
pub(super) async fn run(config: Arc<EurekaConfig>, events: Sender) {
    let mut backoff = Backoff::new(Duration::from_millis(200), config.poll.max(Duration::from_secs(1)));
    let ring = Ring::new(config.clone());
    let mut reader = Reader { config: config.clone(), ring, events, metrics: EurekaMetrics::register() };
    let mut failures = 0;
    for url in config.urls.iter().cycle() {
        let began = Instant::now();
        let Err(End::Failed(why)) = reader.follow(url).await else { return };
        reader.metrics.failures.increment(1);
        if began.elapsed() >= LASTED {
            backoff.reset();
            failures = 0;
        }
        failures += 1;
        // Another server may be well: it is asked at once, and only when all fail is it said.
        if failures >= config.urls.len() {
            if !reader.events.send(vec![SourceEvent::Lost(Watched::Endpoints, why)]).await {
                return;
            }
            tokio::time::sleep(backoff.next(random())).await;
        } else {
            tracing::warn!(why, "a Eureka server fails; the next one is asked");
        }
    }
}

// === impl Reader ===

impl Reader {
    /// Reads from one server until it fails.
    async fn follow(&mut self, url: &str) -> Result<(), End> {
        let fetcher = Fetcher::new(url, &self.config.credentials).map_err(|error| End::Failed(error.to_string()))?;
        self.list(&fetcher).await?;
        loop {
            tokio::time::sleep(self.config.poll.mul_f64(0.9 + random() / 5.0)).await;
            let live = match self.get(&fetcher, "/apps/delta").await? {
                Some(delta) => self.ring.apply(&delta),
                // A server may be set to have no deltas.
                None => None,
            };
            match live {
                Some(updates) => self.tell(updates).await?,
                None => {
                    self.metrics.mismatches.increment(1);
                    self.list(&fetcher).await?;
                }
            }
        }
    }

    async fn list(&mut self, fetcher: &Fetcher) -> Result<(), End> {
        self.metrics.lists.increment(1);
        let Some(all) = self.get(fetcher, "/apps").await? else {
            return Err(End::Failed(format!(
                "{}: has no /apps: name its address with the path /eureka",
                fetcher.base()
            )));
        };
        let reset = self.ring.reset(&all);
        self.tell(vec![reset]).await
    }

    /// The applications of an answer; `None` where the server has no such path.
    async fn get(&self, fetcher: &Fetcher, path: &str) -> Result<Option<Applications>, End> {
        let answer = fetcher.get(path, &[], PATIENCE).await.map_err(|error| End::Failed(error.to_string()))?;
        let failed = |why: String| End::Failed(format!("{}{path}: {why}", fetcher.base()));
        match answer.status {
            StatusCode::OK => Applications::read(&answer.body).map(Some).map_err(failed),
            StatusCode::NOT_FOUND => Ok(None),
            StatusCode::FORBIDDEN if path.ends_with("delta") => Ok(None),
            status => Err(failed(format!("the server says {status}"))),
        }
    }

    async fn tell(&self, updates: Vec<Update>) -> Result<(), End> {
        let mut told = Vec::new();
        if !updates.is_empty() {
            told.push(SourceEvent::Pools(updates));
        }
        told.push(SourceEvent::Contact(Watched::Endpoints));
        if self.events.send(told).await { Ok(()) } else { Err(End::Deaf) }
    }
}

// === impl EurekaMetrics ===

impl EurekaMetrics {
    fn register() -> Self {
        describe_counter!("tidegate_discovery_eureka_lists_total", "Readings of a whole ring");
        describe_counter!(
            "tidegate_discovery_eureka_mismatches_total",
            "Deltas whose hashcode was another, or that there were none of"
        );
        describe_counter!("tidegate_discovery_eureka_failures_total", "Servers that failed");
        Self {
            lists: counter!("tidegate_discovery_eureka_lists_total"),
            mismatches: counter!("tidegate_discovery_eureka_mismatches_total"),
            failures: counter!("tidegate_discovery_eureka_failures_total"),
        }
    }
}
