//! Pods in an existing Eureka ring, so that VMs whose only directory is Eureka find them.
//!
//! ```text
//! Snapshot ──▶ plan: what is to be registered, renewed, removed (pure) ──▶ one of the ring's servers
//! ```
//!
//! One instance of Tidegate does this, which holds a Lease of the API server; one without peers needs none. Each pod has a
//! lease in the ring, renewed while Tidegate runs and knows it. When Tidegate ends without peers it takes its instances
//! back; otherwise, and when it dies, they are renewed by the next leader or end by themselves.
//!
//! What it registered is known by the metadata `tidegate` with its owner's name. Nothing else is ever touched: not by an id
//! that happens to be the same, and not by an application of the same name, in which VMs and pods stand side by side. A
//! `eureka` source passes over what any Tidegate registered, so that no pod comes back as a VM.

mod plan;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use hyper::StatusCode;
use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};

use self::plan::{Key, Known, Step};
use crate::base::backoff::{Backoff, random};
use crate::base::drain::Drain;
use crate::endpoints::Snapshot;
use crate::kubernetes::connect;
use crate::kubernetes::lease::{Leadership, LeaseConfig, stand};
use crate::net::fetch::{Credentials, Fetched, Fetcher};

/// Between two looks at the snapshot.
const LOOK: Duration = Duration::from_millis(500);
/// For an answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// What is taken back at the end is taken back within this.
const FAREWELL: Duration = Duration::from_secs(5);
/// Between two tries to reach the API server for the Lease.
const RETRY: Duration = Duration::from_secs(5);

/// What is registered where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportConfig {
    /// The ring's servers, as `http://host:8761/eureka`; at least one.
    pub urls: Vec<String>,
    /// Beginnings of the ids of the pools to register; at least one.
    pub pools: Vec<String>,
    /// Whose instances these are: the same for all who take turns, and nobody else's.
    pub owner: String,
    /// How often each lease is renewed; it lasts three times as long.
    pub heartbeat: Duration,
    /// Where instances of Tidegate settle who does this; `None` for one that has no peers.
    pub lease: Option<ExportLease>,
    /// What is shown and trusted.
    pub credentials: Credentials,
}

/// A Lease of an API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportLease {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// How to reach the API server; `None` from inside the cluster.
    pub kubeconfig: Option<PathBuf>,
    /// The name of this process.
    pub identity: String,
}

#[derive(Debug)]
struct ExportMetrics {
    instances: Gauge,
    failures: Counter,
}

/// The leader's side of the ring.
struct Exporter {
    config: ExportConfig,
    /// What is known to be ours in the ring; `None` until it was looked.
    known: Option<BTreeMap<Key, Known>>,
    /// Ids in the ring that are others'.
    foreign: BTreeSet<Key>,
    /// What was said not to be registered.
    refused: BTreeSet<Key>,
    server: usize,
    metrics: ExportMetrics,
}

/// Registers pods until `drain` ends it.
pub(super) async fn run(config: ExportConfig, snapshot: Arc<ArcSwap<Snapshot>>, drain: Drain) {
    // The guard lets the instances be taken back at the end.
    let guard = drain.guard("eureka export");
    let Some(leadership) = leadership(config.lease.as_ref(), &drain).await else { return };
    let has_peers = config.lease.is_some();
    let mut exporter = Exporter {
        config,
        known: None,
        foreign: BTreeSet::new(),
        refused: BTreeSet::new(),
        server: 0,
        metrics: ExportMetrics::register(),
    };
    let mut backoff = Backoff::new(LOOK, Duration::from_secs(5));
    let mut pause = LOOK;
    let mut well = true;
    loop {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = drain.requested() => break,
        }
        if !leadership.holds() {
            // Another one has the ring now: what was known of it is of no use later.
            exporter.known = None;
            exporter.metrics.instances.set(0.0);
            continue;
        }
        let snapshot = snapshot.load_full();
        if !snapshot.is_loaded() {
            continue;
        }
        pause = match exporter.turn(&snapshot, &leadership).await {
            Ok(()) => {
                backoff.reset();
                well = true;
                LOOK
            }
            Err(why) => {
                exporter.metrics.failures.increment(1);
                exporter.server = exporter.server.wrapping_add(1);
                if std::mem::replace(&mut well, false) {
                    tracing::warn!(why, "Eureka export: a server of the ring fails; the next one is asked");
                }
                backoff.next(random())
            }
        };
    }
    if !has_peers {
        let _ = tokio::time::timeout(FAREWELL, exporter.take_back()).await;
    }
    drop(guard);
}

/// Stands for the Lease, once the API server can be asked. `None` where the end came first.
async fn leadership(lease: Option<&ExportLease>, drain: &Drain) -> Option<Leadership> {
    let Some(lease) = lease else { return Some(Leadership::unopposed()) };
    loop {
        match connect(lease.kubeconfig.as_deref()).await {
            Ok(client) => {
                let (namespace, name) = (lease.namespace.clone(), lease.name.clone());
                return Some(stand(client, LeaseConfig { namespace, name, identity: lease.identity.clone() }, drain));
            }
            Err(error) => tracing::warn!(%error, "Eureka export: no API server for the Lease; trying again"),
        }
        tokio::select! {
            () = tokio::time::sleep(RETRY) => {}
            () = drain.requested() => return None,
        }
    }
}

// === impl Exporter ===

impl Exporter {
    /// Brings the ring up to date with a snapshot, as far as that is due.
    async fn turn(&mut self, snapshot: &Snapshot, leadership: &Leadership) -> Result<(), String> {
        let fetcher = self.fetcher()?;
        if self.known.is_none() {
            let answer = answered(fetcher.get("/apps", &[], PATIENCE).await, &[StatusCode::OK])?;
            let (known, foreign) = plan::ours(&answer.body, &self.config.owner)?;
            (self.known, self.foreign) = (Some(known), foreign);
        }
        let known = self.known.get_or_insert_default();
        let (wanted, refused) = plan::wanted(snapshot, &self.config, &self.foreign);
        if refused != self.refused {
            let (count, first) = (refused.len(), refused.first().map(Key::path));
            tracing::warn!(count, first, "Eureka export: not registered: the id is another's, or there are too many");
            self.refused = refused;
        }
        for step in plan::steps(&wanted, known, Instant::now(), self.config.heartbeat) {
            if !leadership.holds() {
                return Ok(());
            }
            if let Step::Register(key, _) = &step
                && !known.contains_key(key)
                && is_foreign(&fetcher, key, &self.config.owner, known).await?
            {
                self.foreign.insert(key.clone());
                continue;
            }
            carry_out(&fetcher, step, known).await?;
        }
        self.metrics.instances.set(f64::from(u32::try_from(known.len()).unwrap_or(u32::MAX)));
        Ok(())
    }

    /// Removes everything that is ours.
    async fn take_back(&mut self) {
        let (Ok(fetcher), Some(known)) = (self.fetcher(), &mut self.known) else { return };
        for key in known.keys().cloned().collect::<Vec<_>>() {
            if let Err(why) = carry_out(&fetcher, Step::Remove(key), known).await {
                tracing::warn!(why, "Eureka export: instances were not taken back and end with their leases");
                return;
            }
        }
    }

    fn fetcher(&self) -> Result<Fetcher, String> {
        let urls = &self.config.urls;
        let base = urls.get(self.server % urls.len().max(1)).ok_or("no server of the ring is known")?;
        Fetcher::new(base, &self.config.credentials).map_err(|error| error.to_string())
    }
}

/// Whether an instance that is about to be registered is in the ring as another's. The list of all may be an old one, and
/// somebody may have come since. One of ours that was not known is noted.
async fn is_foreign(
    fetcher: &Fetcher,
    key: &Key,
    owner: &str,
    known: &mut BTreeMap<Key, Known>,
) -> Result<bool, String> {
    let answer = fetcher.get(&key.path(), &[], PATIENCE).await;
    let answer = answered(answer, &[StatusCode::OK, StatusCode::NOT_FOUND])?;
    if answer.status == StatusCode::NOT_FOUND {
        return Ok(false);
    }
    let ours = plan::ours_alone(&answer.body, owner)?;
    let foreign = ours.is_none();
    known.extend(ours.map(|it| (key.clone(), it)));
    Ok(foreign)
}

/// Carries out one step and notes it.
async fn carry_out(fetcher: &Fetcher, step: Step<'_>, known: &mut BTreeMap<Key, Known>) -> Result<(), String> {
    let now = Instant::now();
    let (gone, done) = (StatusCode::NOT_FOUND, [StatusCode::OK, StatusCode::NO_CONTENT, StatusCode::NOT_FOUND]);
    match step {
        Step::Register(key, registration) => {
            let millis = crate::endpoints::hub::wire::millis(std::time::SystemTime::now());
            let body = plan::instance(&key, registration, millis).to_string().into_bytes();
            let answer = fetcher.post(&format!("/apps/{}", key.app), body, PATIENCE).await;
            answered(answer, &[StatusCode::NO_CONTENT, StatusCode::OK])?;
            let (up, before) = (registration.is_up(), known.get(&key).map(|it| it.up));
            // A ring keeps the state of an instance that it has, whatever a registration says: that is changed by itself.
            if before.is_some_and(|before| before != up) {
                let path = format!("{}/status?value={}", key.path(), registration.status());
                answered(fetcher.put(&path, PATIENCE).await, &done)?;
            }
            known.insert(key, Known { registration: Some(registration.clone()), up, at: now });
        }
        Step::Renew(key) => {
            let answer = answered(fetcher.put(&key.path(), PATIENCE).await, &done)?;
            match known.get_mut(&key) {
                // The ring has lost it: it is registered anew at the next turn.
                Some(lost) if answer.status == gone => lost.registration = None,
                Some(renewed) => renewed.at = now,
                None => {}
            }
        }
        Step::Remove(key) => {
            answered(fetcher.delete(&key.path(), PATIENCE).await, &done)?;
            known.remove(&key);
        }
    }
    Ok(())
}

fn answered(answer: Result<Fetched, crate::net::fetch::FetchError>, good: &[StatusCode]) -> Result<Fetched, String> {
    let answer = answer.map_err(|error| error.to_string())?;
    if good.contains(&answer.status) {
        return Ok(answer);
    }
    let said: String = String::from_utf8_lossy(&answer.body).chars().take(200).collect();
    Err(format!("the ring says {}: {said}", answer.status))
}

// === impl ExportMetrics ===

impl ExportMetrics {
    fn register() -> Self {
        describe_gauge!("tidegate_discovery_exported_instances", "Pods that this instance keeps in a Eureka ring");
        describe_counter!("tidegate_discovery_export_failures_total", "Turns that a server of the ring made fail");
        Self {
            instances: gauge!("tidegate_discovery_exported_instances"),
            failures: counter!("tidegate_discovery_export_failures_total"),
        }
    }
}
