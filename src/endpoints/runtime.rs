//! The registry at work: sources' events come in by one bounded queue, snapshots go out by one swap.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::clock::Clocks;
use super::coalesce::Coalescer;
use super::config::{EndpointsConfig, SourceConfig};
use super::hosts::Claimants;
use super::hub::HubLink;
use super::registry::{Kept, Published, Registry};
use super::shard::Shard;
use super::snapshot::Snapshot;
use super::update::{SourceEvent, Update, Watched};
use super::{eureka, file, hub, kubernetes, persist};
use crate::base::drain::Drain;

/// Messages of sources that wait; a full queue slows the sources.
const QUEUE: usize = 1024;
/// Messages taken in one go before it is looked whether something is to be published.
const BATCH: usize = 256;
/// How often the snapshot's file is written at most.
const KEEP_EVERY: Duration = Duration::from_secs(5);

/// Called with every publication, on the registry's task: it must not block.
pub type Listener = Arc<dyn Fn(&Published) + Send + Sync>;

/// The running registry and its sources.
#[derive(Debug)]
pub struct Endpoints {
    snapshot: Arc<ArcSwap<Snapshot>>,
    tasks: Vec<JoinHandle<()>>,
    links: Vec<HubLink>,
}

/// Why the registry cannot start: what the configuration says cannot be.
#[derive(Debug, thiserror::Error)]
pub enum EndpointsError {
    /// A pool of the configuration.
    #[error("discovery.pool: {0}")]
    Pool(String),
}

/// A source's way to the registry.
#[derive(Clone, Debug)]
pub(super) struct Sender {
    shard: usize,
    queue: mpsc::Sender<(usize, Vec<SourceEvent>)>,
}

// === impl Sender ===

impl Sender {
    /// Tells events that belong together; they are published together. Says whether anybody listens still.
    pub(super) async fn send(&self, events: Vec<SourceEvent>) -> bool {
        self.queue.send((self.shard, events)).await.is_ok()
    }
}

// === impl Endpoints ===

impl Endpoints {
    /// Starts the registry and every source. `boot` names this life of the process to hubs; `listener` hears of every
    /// publication after it can be read.
    ///
    /// # Errors
    /// A pool of the configuration is bad.
    pub fn start(
        config: EndpointsConfig,
        boot: &str,
        listener: Listener,
        drain: &Drain,
    ) -> Result<Self, EndpointsError> {
        let now = SystemTime::now();
        let (queue, events) = mpsc::channel(QUEUE);
        let mut shards = Vec::new();
        let mut sources: Vec<(usize, SourceConfig, Option<String>)> = Vec::new();
        for source in &config.sources {
            for namespace in scopes(source) {
                sources.push((shards.len(), source.clone(), namespace.clone()));
                shards.push(shard_of(source, namespace.as_deref()));
            }
        }
        let fixed = config.fixed.iter().map(|pool| file::content(pool.id.clone(), &pool.endpoints));
        let fixed = fixed.collect::<Result<Vec<_>, _>>().map_err(EndpointsError::Pool)?;
        let fixed_at = shards.len();
        let configured = !fixed.is_empty() || !config.hosts.is_empty();
        if configured {
            shards.push(Shard::new("configuration".into(), None));
        }
        let mut registry = Registry::new(shards, config.joins, config.hold, config.place.zone.clone());
        if configured {
            registry.apply(fixed_at, SourceEvent::Hosts(Claimants::Source, config.hosts), now);
            registry.apply(fixed_at, SourceEvent::Pools(vec![Update::Reset(fixed)]), now);
            registry.apply(fixed_at, SourceEvent::Contact(Watched::Endpoints), now);
        }
        if let Some(path) = &config.snapshot_file {
            restore(&mut registry, path, &config.sources, now);
        }
        let snapshot = Arc::new(ArcSwap::new(registry.published().clone()));
        let (mut tasks, mut links) = (Vec::new(), Vec::new());
        for (shard, source, namespace) in sources {
            let sender = Sender { shard, queue: queue.clone() };
            tasks.push(match source {
                SourceConfig::Kubernetes(source) => {
                    tokio::spawn(kubernetes::run(source, namespace, config.place.clone(), sender))
                }
                SourceConfig::File(path) => tokio::spawn(file::run(path, sender)),
                SourceConfig::Hub(source) => {
                    let (link, upstream) = watch::channel(None);
                    links.push(HubLink { name: source.name.clone(), upstream });
                    tokio::spawn(hub::run(source, boot.into(), link, sender))
                }
                SourceConfig::Eureka(source) => tokio::spawn(eureka::run(source, sender)),
            });
        }
        let task = Task { registry, snapshot: snapshot.clone(), listener, keep: Keeper::new(config.snapshot_file) };
        // The guard lets the snapshot's file be written at the end.
        let guard = drain.guard("endpoint registry");
        let drain = drain.clone();
        // Its own sender keeps the queue open where there is no source.
        tokio::spawn(async move {
            task.run(events, drain).await;
            drop((guard, queue));
        });
        Ok(Self { snapshot, tasks, links })
    }

    /// The ways to the hubs that pools come from.
    pub fn links(&self) -> &[HubLink] {
        &self.links
    }

    /// The snapshot's place: what is loaded from it is one revision, whole.
    pub fn snapshot(&self) -> Arc<ArcSwap<Snapshot>> {
        self.snapshot.clone()
    }
}

impl Drop for Endpoints {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// A cluster whose namespaces are named is followed namespace by namespace: each may be all that its account may see.
fn scopes(source: &SourceConfig) -> Vec<Option<String>> {
    match source {
        SourceConfig::Kubernetes(source) if !source.namespaces.is_empty() => {
            source.namespaces.iter().cloned().map(Some).collect()
        }
        _ => vec![None],
    }
}

fn shard_of(source: &SourceConfig, namespace: Option<&str>) -> Shard {
    match source {
        SourceConfig::Kubernetes(source) => {
            let name: Arc<str> = match namespace {
                Some(namespace) => format!("{}/{namespace}", source.cluster).into(),
                None => source.cluster.clone(),
            };
            let shard = Shard::new(name.clone(), Some(name));
            let shard = if source.traffic_policies { shard.awaiting_policies() } else { shard };
            let claimants = [(source.hosts, Claimants::Source), (source.traffic_policies, Claimants::Policies)];
            let claimants = claimants.into_iter().filter(|(wanted, _)| *wanted).map(|(_, claimant)| claimant);
            shard.awaiting_hosts(&claimants.collect::<Vec<_>>())
        }
        SourceConfig::File(path) => {
            Shard::new(path.display().to_string().into(), None).awaiting_hosts(&[Claimants::Source])
        }
        SourceConfig::Hub(source) => {
            Shard::new(source.address.to_string().into(), None).awaiting_hosts(&[Claimants::Source])
        }
        SourceConfig::Eureka(source) => Shard::new(source.cluster.clone(), Some(source.cluster.clone())),
    }
}

fn restore(registry: &mut Registry, path: &Path, sources: &[SourceConfig], now: SystemTime) {
    let kept = match persist::load(path) {
        Ok(kept) => kept,
        // A start without it is a start all the same.
        Err(error) => {
            tracing::warn!(file = %path.display(), "the kept pools are not used: the file {error}");
            return;
        }
    };
    let follows_policies = |name: &str| {
        sources.iter().any(|source| match source {
            SourceConfig::Kubernetes(source) => {
                source.traffic_policies && name.split('/').next() == Some(&source.cluster)
            }
            SourceConfig::File(_) | SourceConfig::Hub(_) | SourceConfig::Eureka(_) => false,
        })
    };
    let follows_hosts = |name: &str| {
        !sources.iter().any(|source| match source {
            SourceConfig::Kubernetes(source) => !source.hosts && name.split('/').next() == Some(&source.cluster),
            SourceConfig::File(_) | SourceConfig::Hub(_) | SourceConfig::Eureka(_) => false,
        })
    };
    for mut shard in kept {
        if !follows_hosts(&shard.name) {
            shard.hosts = None;
        }
        if !follows_policies(&shard.name) {
            // Nobody would ever tell that they are gone.
            shard.joins.clear();
        }
        registry.restore(shard, now);
    }
}

struct Task {
    registry: Registry,
    snapshot: Arc<ArcSwap<Snapshot>>,
    listener: Listener,
    keep: Keeper,
}

/// Writes the snapshot's file when it is time.
struct Keeper {
    path: Option<PathBuf>,
    written: Option<Instant>,
    wanted: bool,
    writing: Option<JoinHandle<()>>,
}

// === impl Task ===

impl Task {
    async fn run(mut self, mut events: mpsc::Receiver<(usize, Vec<SourceEvent>)>, drain: Drain) {
        let mut coalescer = Coalescer::default();
        let mut clocks = Clocks::new(Instant::now(), SystemTime::now());
        self.publish(&mut coalescer);
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let wake = self.wake(&coalescer);
            tokio::select! {
                received = events.recv_many(&mut batch, BATCH) => if received == 0 { break },
                () = tokio::time::sleep_until(wake.into()) => {}
                () = drain.requested() => break,
            }
            let (now, time) = (Instant::now(), SystemTime::now());
            if let Some(jump) = clocks.look(now, time) {
                self.registry.clock_jumped(jump);
            }
            let heard = !batch.is_empty();
            for (shard, told) in batch.drain(..) {
                told.into_iter().for_each(|event| self.registry.apply(shard, event, time));
            }
            self.registry.expire(time);
            // Looking again is no change: it must not put off what waits.
            if self.registry.has_changes() && (heard || !coalescer.is_waiting()) {
                coalescer.changed(now);
            }
            let due = coalescer.due(self.registry.is_urgent());
            if due.is_some_and(|due| due <= now) || (due.is_none() && self.registry.is_dirty()) {
                self.publish(&mut coalescer);
            }
            self.keep.look(&self.registry, now);
        }
        self.keep.finish(&self.registry).await;
    }

    fn publish(&mut self, coalescer: &mut Coalescer) {
        if let Some(published) = self.registry.publish() {
            self.snapshot.store(published.snapshot.clone());
            (self.listener)(&published);
            if !published.changed.is_empty() {
                coalescer.published(Instant::now());
                self.keep.wanted = true;
            }
        }
    }

    /// When to look again although nothing came.
    fn wake(&self, coalescer: &Coalescer) -> Instant {
        let now = Instant::now();
        let expiry =
            self.registry.next_expiry().map(|at| now + at.duration_since(SystemTime::now()).unwrap_or_default());
        let due = coalescer.due(self.registry.is_urgent());
        [expiry, due, Some(now + KEEP_EVERY)].into_iter().flatten().min().unwrap_or(now + KEEP_EVERY)
    }
}

// === impl Keeper ===

impl Keeper {
    fn new(path: Option<PathBuf>) -> Self {
        Self { path, written: None, wanted: false, writing: None }
    }

    fn look(&mut self, registry: &Registry, now: Instant) {
        let Some(path) = self.path.clone().filter(|_| self.wanted) else { return };
        let soon = self.written.is_some_and(|at| now < at + KEEP_EVERY);
        if soon || self.writing.as_ref().is_some_and(|it| !it.is_finished()) {
            return;
        }
        (self.wanted, self.written) = (false, Some(now));
        let kept = registry.keep();
        self.writing = Some(tokio::task::spawn_blocking(move || write(&path, &kept)));
    }

    /// The last state, whatever was written before.
    async fn finish(self, registry: &Registry) {
        let Some(path) = self.path else { return };
        if let Some(writing) = self.writing {
            // It is over in any case before the next one begins.
            let _ = writing.await;
        }
        let kept = registry.keep();
        let _ = tokio::task::spawn_blocking(move || write(&path, &kept)).await;
    }
}

fn write(path: &Path, kept: &[Kept]) {
    if let Err(error) = persist::store(path, kept) {
        tracing::warn!(file = %path.display(), %error, "the pools cannot be kept for the next start");
    }
}
