//! Pools of a hub: another Tidegate, asked by the pull API, so that thousands of nodes do not watch the API server.
//!
//! ```text
//! find a hub ──▶ list ──▶ delta since the list ──▶ delta since the last answer ──▶ …
//!    ▲            │ failed     │ failed: the next hub, delta on       │ 410, a foreign life: list again
//!    └────────────┴────────────┴──────────────────────────────────────┘
//! ```
//!
//! Each answer is taken whole or not at all. A list fetches only the pools that differ, so that thousands of relays that
//! go to another hub together do not fetch everything. No request is answered later than [`WAIT`]; a connection on which
//! nothing comes for [`PATIENCE`] is half open, and what is here is told as stale from then on.

mod find;
mod mirror;
#[cfg(test)]
mod tests;
pub mod wire;

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::StatusCode;
use metrics::{Counter, counter, describe_counter};
use tokio::sync::watch;

use self::find::Finder;
use self::mirror::{Lacking, Mirror, boot_of};
use self::wire::{Delta, List};
use super::pool::{PoolContent, PoolId};
use super::runtime::Sender;
use super::update::{SourceEvent, Watched};
use crate::base::backoff::{Backoff, random};
use crate::endpoints::interner::Interner;
use crate::net::fetch::{Credentials, Fetched, Fetcher};

/// How long the hub may keep a request that waits.
const WAIT: Duration = Duration::from_secs(10);
/// For the answer of one that waits.
const PATIENCE: Duration = Duration::from_secs(15);
/// For a list, or for all pools.
const LISTING: Duration = Duration::from_secs(50);
/// Pools named in one request.
const NAMED: usize = 100;
/// Between two lists: hubs that take turns and do not agree must not make a relay spin.
const APART: Duration = Duration::from_secs(1);
/// Between two answers without a change of some pool.
const QUICK: Duration = Duration::from_millis(300);
/// Between two answers while much changes.
const BUSY: Duration = Duration::from_millis(200);
/// A session that lasted so long was a success: the next failure is a first one.
const LASTED: Duration = Duration::from_secs(10);
/// For so long after a foreign life was met, the hub is told what is here, so that one that has the same waits.
const ALTERNATING: Duration = Duration::from_secs(600);
/// Hubs in a row.
const MAX_HUBS: usize = 16;

/// How a hub is followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubConfig {
    /// Where the hubs are.
    pub address: HubAddress,
    /// Who this instance is to them.
    pub name: Arc<str>,
    /// What it shows and trusts.
    pub credentials: Credentials,
}

/// Where hubs are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HubAddress {
    /// Addresses, as `http://host:port`; at least one.
    Urls(Vec<String>),
    /// Whatever is behind a Service.
    Service(ServiceAddress),
}

/// A Service of hubs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceAddress {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The hubs' port.
    pub port: u16,
    /// How their addresses are found.
    pub lookup: Lookup,
    /// The domain of the cluster, for names.
    pub domain: String,
}

/// How the addresses behind a Service are found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// By its name: all addresses of a headless one.
    Dns,
    /// By its EndpointSlices, listed when a hub is needed.
    Slices {
        /// How to reach the API server; `None` from inside the cluster.
        kubeconfig: Option<PathBuf>,
    },
}

/// The hub that is asked now.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// How to ask it.
    pub fetcher: Fetcher,
    /// Its life: another one knows nothing of what this one was told.
    pub boot: Arc<str>,
}

/// Follows which hub is asked, to tell it something.
#[derive(Clone, Debug)]
pub struct HubLink {
    /// Who this instance is to the hub.
    pub name: Arc<str>,
    /// The hub; `None` while there is none.
    pub upstream: watch::Receiver<Option<Upstream>>,
}

/// Why asking a hub ended.
#[derive(Debug)]
enum End {
    /// Nobody listens any more.
    Deaf,
    /// Anything else, which may go away, or be better elsewhere.
    Failed(String),
}

/// What came of waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heard {
    /// Pools changed.
    Change,
    /// None did.
    Nothing,
    /// It does not follow from what is here.
    Foreign,
}

#[derive(Debug)]
struct HubMetrics {
    lists: Counter,
    failures: Counter,
}

/// A relay's side of one hub source.
struct Relay {
    config: Arc<HubConfig>,
    /// The life of this process, to find circles by.
    boot: Arc<str>,
    mirror: Mirror,
    names: Interner,
    /// The hubs on the way, as told last.
    hubs: Vec<Arc<str>>,
    alternating: Option<Instant>,
    link: watch::Sender<Option<Upstream>>,
    events: Sender,
    metrics: HubMetrics,
}

/// Follows hubs until the registry is gone. `boot` names the life of this process.
pub(super) async fn run(config: Arc<HubConfig>, boot: Arc<str>, link: watch::Sender<Option<Upstream>>, events: Sender) {
    let mut finder = Finder::new(config.clone());
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
    let mut failures = 0;
    let mut relay = Relay {
        config,
        boot,
        mirror: Mirror::default(),
        names: Interner::default(),
        hubs: Vec::new(),
        alternating: None,
        link,
        events,
        metrics: HubMetrics::register(),
    };
    loop {
        let began = Instant::now();
        let end = match finder.next().await {
            Ok(base) => relay.ask(&base).await,
            Err(why) => End::Failed(why),
        };
        let End::Failed(why) = end else { return };
        relay.metrics.failures.increment(1);
        if began.elapsed() >= LASTED {
            backoff.reset();
            failures = 0;
        }
        failures += 1;
        relay.link.send_replace(None);
        // Another hub may be well: it is asked at once, and only when that fails too is it said.
        if failures >= finder.known().min(2) {
            if !relay.events.send(vec![SourceEvent::Lost(Watched::Endpoints, why)]).await {
                return;
            }
            tokio::time::sleep(backoff.next(random())).await;
        } else {
            tracing::warn!(why, "a hub fails; the next one is asked");
        }
    }
}

// === impl HubAddress ===

impl std::fmt::Display for HubAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Urls(urls) => write!(f, "hub {}", urls.join(" ")),
            Self::Service(service) => write!(f, "hub {}/{}", service.namespace, service.name),
        }
    }
}

// === impl Relay ===

impl Relay {
    /// Asks one hub until it fails.
    async fn ask(&mut self, base: &str) -> End {
        match self.follow(base).await {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    async fn follow(&mut self, base: &str) -> Result<Infallible, End> {
        let fetcher = Fetcher::new(base, &self.config.credentials).map_err(|error| End::Failed(error.to_string()))?;
        let (mut listed, mut changed): (Option<Instant>, Option<Instant>) = (None, None);
        loop {
            let asked = Instant::now();
            let Some(index) = self.mirror.index().map(str::to_owned) else {
                let apart = listed.map_or(Duration::ZERO, |at| APART.saturating_sub(at.elapsed()));
                tokio::time::sleep(apart.mul_f64(0.5 + random() / 2.0)).await;
                listed = Some(Instant::now());
                self.list(&fetcher).await?;
                self.note_upstream(&fetcher);
                continue;
            };
            let pause = match self.delta(&fetcher, &index).await? {
                Heard::Foreign => {
                    self.mirror.forget_index();
                    self.alternating = Some(asked);
                    continue;
                }
                // It did not wait: there is something that hubs do not agree on, or a hub that cannot wait.
                Heard::Nothing => QUICK.saturating_sub(asked.elapsed()),
                Heard::Change => {
                    let busy = changed.replace(Instant::now()).is_some_and(|at| at.elapsed() < APART);
                    if busy { BUSY } else { Duration::ZERO }
                }
            };
            self.note_upstream(&fetcher);
            tokio::time::sleep(pause).await;
        }
    }

    /// Lists, and fetches what differs.
    async fn list(&mut self, fetcher: &Fetcher) -> Result<(), End> {
        self.metrics.lists.increment(1);
        let answer = self.get(fetcher, "/v1/pools?relay=", None, LISTING).await?;
        let list = List::read(&whole(&answer)?.body).map_err(|why| garbage(fetcher, &why))?;
        let told = match self.mirror.lacking(&list) {
            Lacking::All => {
                let all = self.pools(fetcher, "/v1/delta?relay=").await?;
                self.mirror.replace(all)
            }
            Lacking::These(ids) => {
                let mut fetched: Vec<(Option<Arc<str>>, PoolContent)> = Vec::with_capacity(ids.len());
                for ids in ids.chunks(NAMED) {
                    let named: Vec<String> = ids.iter().map(|id: &PoolId| format!("&id={id}")).collect();
                    fetched.extend(self.pools(fetcher, &format!("/v1/delta?relay={}", named.concat())).await?.changed);
                }
                self.mirror.reset(list, fetched)
            }
        };
        self.tell(told).await
    }

    async fn pools(&mut self, fetcher: &Fetcher, path: &str) -> Result<Delta, End> {
        let answer = self.get(fetcher, path, None, LISTING).await?;
        Delta::read(&whole(&answer)?.body, &mut self.names).map_err(|why| garbage(fetcher, &why))
    }

    /// Waits for what changes.
    async fn delta(&mut self, fetcher: &Fetcher, index: &str) -> Result<Heard, End> {
        let path = format!("/v1/delta?since={index}&wait={}s&relay={}", WAIT.as_secs(), self.mirror.truth());
        let alternating = self.alternating.is_some_and(|at| at.elapsed() < ALTERNATING);
        let tag = self.mirror.content_tag().filter(|_| alternating).map(|tag| format!("\"{tag}\""));
        let answer = self.get(fetcher, &path, tag.as_deref(), PATIENCE).await?;
        if answer.status == StatusCode::GONE {
            return Ok(Heard::Foreign);
        }
        let delta = Delta::read(&whole(&answer)?.body, &mut self.names).map_err(|why| garbage(fetcher, &why))?;
        let nothing = delta.changed.is_empty() && delta.removed.is_empty();
        let Some(told) = self.mirror.apply(delta, tag.is_some()) else { return Ok(Heard::Foreign) };
        self.tell(told).await?;
        Ok(if nothing { Heard::Nothing } else { Heard::Change })
    }

    async fn get(
        &mut self,
        fetcher: &Fetcher,
        path: &str,
        tag: Option<&str>,
        patience: Duration,
    ) -> Result<Fetched, End> {
        let mut headers = vec![(wire::RELAY, &*self.config.name)];
        headers.extend(tag.map(|tag| ("if-none-match", tag)));
        let answer = fetcher.get(path, &headers, patience).await;
        let answer = answer.map_err(|error| End::Failed(error.to_string()))?;
        self.look_for_circle(fetcher, &answer).await?;
        Ok(answer)
    }

    /// Notes the hubs on the way. They are told on even where they are a circle, so that each in it finds itself.
    async fn look_for_circle(&mut self, fetcher: &Fetcher, answer: &Fetched) -> Result<(), End> {
        let Some(told) = answer.headers.get(wire::HUBS).and_then(|value| value.to_str().ok()) else { return Ok(()) };
        let hubs: Vec<Arc<str>> = told.split(',').map(str::trim).take(MAX_HUBS + 1).map(Into::into).collect();
        let failed = |why: &str| Err(End::Failed(format!("{}: {why}", fetcher.base())));
        let (circle, long) = (hubs.contains(&self.boot), hubs.len() > MAX_HUBS);
        if hubs != self.hubs {
            self.hubs.clone_from(&hubs);
            self.tell(vec![SourceEvent::Hubs(hubs)]).await?;
        }
        if circle {
            return failed(
                "gets its pools from this instance: the hubs are a circle; let one of them follow a cluster",
            );
        }
        if long {
            return failed("more than 16 hubs stand in a row before the pools' source");
        }
        Ok(())
    }

    fn note_upstream(&self, fetcher: &Fetcher) {
        let boot = self.mirror.index().map(boot_of).unwrap_or_default();
        self.link.send_if_modified(|upstream| {
            let same = |it: &Upstream| &*it.boot == boot && it.fetcher.base() == fetcher.base();
            if boot.is_empty() || upstream.as_ref().is_some_and(same) {
                return false;
            }
            *upstream = Some(Upstream { fetcher: fetcher.clone(), boot: boot.into() });
            true
        });
    }

    async fn tell(&self, events: Vec<SourceEvent>) -> Result<(), End> {
        if self.events.send(events).await { Ok(()) } else { Err(End::Deaf) }
    }
}

/// An answer with pools, or what the hub says in place of them.
fn whole(answer: &Fetched) -> Result<&Fetched, End> {
    if answer.status == StatusCode::OK {
        return Ok(answer);
    }
    let said: Option<String> = serde_json::from_slice::<serde_json::Value>(&answer.body)
        .ok()
        .and_then(|value| Some(value.get("error")?.as_str()?.chars().take(300).collect()));
    let said = said.unwrap_or_else(|| "and nothing more".to_owned());
    Err(End::Failed(format!("the hub says {}: {said}", answer.status.as_u16())))
}

fn garbage(fetcher: &Fetcher, why: &str) -> End {
    End::Failed(format!("{}: an answer that cannot be used: {why}", fetcher.base()))
}

// === impl HubMetrics ===

impl HubMetrics {
    fn register() -> Self {
        describe_counter!(
            "tidegate_discovery_hub_lists_total",
            "Lists of a hub's pools: at the start, and after a gap"
        );
        describe_counter!(
            "tidegate_discovery_hub_failures_total",
            "Hubs that failed, each after which another is asked"
        );
        Self {
            lists: counter!("tidegate_discovery_hub_lists_total"),
            failures: counter!("tidegate_discovery_hub_failures_total"),
        }
    }
}
