//! The gateway, from the snapshot of pools to clients' requests, and its access log on the way to the log plane.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use serde_json::Value;

use super::access_log;
use crate::base::drain::Drain;
use crate::base::readiness::{Gate, Readiness};
use crate::config::GatewayPlaneConfig;
use crate::endpoints::join::Join;
use crate::endpoints::pool::PoolId;
use crate::endpoints::{Listener, Snapshot};
use crate::gateway::{Gateway, GatewayReloader, Opener};
use crate::record::route::RouteTable;
use crate::upstream::{PoolConfig, Reader, Upstreams, UpstreamsConfig};

/// How often it is looked whether every source has told its pools.
const LOOK: Duration = Duration::from_millis(20);

/// The running gateway and the pools that it sends to.
pub(super) struct GatewayPlane {
    gateway: Gateway,
    upstreams: Arc<Upstreams>,
    access: Option<access_log::Writer>,
    joins: Arc<[Join]>,
    zone: Option<Arc<str>>,
    waiting: Drain,
    pools: Arc<Mutex<Followed>>,
}

/// Changes it while it runs.
#[derive(Clone)]
pub(super) struct PlaneReloader {
    gateway: GatewayReloader,
    upstreams: Arc<Upstreams>,
    joins: Arc<[Join]>,
    zone: Option<Arc<str>>,
    threads: usize,
    /// The pools of the last reload, and those of former ones that requests may still go to.
    pools: Arc<Mutex<Followed>>,
}

/// Pools that are followed across reloads.
#[derive(Default)]
struct Followed {
    /// Counts reloads.
    turn: u64,
    pools: BTreeMap<PoolId, PoolConfig>,
}

/// Where pools come from.
pub(super) struct Pools {
    pub(super) snapshot: Arc<ArcSwap<Snapshot>>,
    pub(super) joins: Vec<Join>,
    pub(super) zone: Option<Arc<str>>,
}

// === impl GatewayPlane ===

impl GatewayPlane {
    /// Starts it; it lets clients in and is ready once every source has told its pools. `log` makes the way into Kafka that access
    /// records take.
    pub(super) fn start(
        config: GatewayPlaneConfig,
        pools: Pools,
        readiness: &Readiness,
        log: Option<(access_log::Sinks, &RouteTable)>,
    ) -> anyhow::Result<Self> {
        let Pools { snapshot, joins, zone } = pools;
        let joins: Arc<[Join]> = joins.into();
        let threads = config.gateway.threads;
        let pools = with_members(config.pools, &joins);
        let followed = Followed { turn: 0, pools: pools.clone() };
        let upstreams = UpstreamsConfig { pools, threads, zone: zone.clone() };
        let upstreams = Arc::new(Upstreams::start(upstreams, snapshot.clone()));
        let gate = readiness.gate("gateway", "the first pools of every source");
        let access_config = config.gateway.access_log.clone();
        let (gateway, opener, records) = Gateway::start(config.gateway, upstreams.reader())?;
        let access = match (records, log, access_config) {
            (Some(records), Some((sinks, routes)), Some(config)) => {
                Some(access_log::Writer::start(records, &config.key, sinks, routes)?)
            }
            _ => None,
        };
        let waiting = Drain::new();
        tokio::spawn({
            let (tables, waiting) = (upstreams.reader(), waiting.clone());
            let followed = move || is_followed(&snapshot.load(), &tables);
            let patience = config.first_pools_timeout;
            async move {
                tokio::select! {
                    () = open(opener, gate, followed, patience) => {}
                    () = waiting.requested() => {}
                }
            }
        });
        Ok(Self { gateway, upstreams, access, joins, zone, waiting, pools: Arc::new(Mutex::new(followed)) })
    }

    /// What is to hear of each publication of the snapshot.
    pub(super) fn listener(&self) -> Listener {
        self.upstreams.listener()
    }

    /// Takes up what was published before the listener was told of anything.
    pub(super) fn catch_up(&self) {
        self.upstreams.catch_up();
    }

    /// Where clients connect, as people paste it.
    pub(super) fn urls(&self) -> Vec<String> {
        let url =
            |(address, secure): (SocketAddr, bool)| format!("{}://{address}", if secure { "https" } else { "http" });
        self.gateway.addresses().into_iter().map(url).collect()
    }

    /// What `/debug/pools` shows of it.
    pub(super) fn report(&self) -> impl Fn() -> Value + Send + Sync + 'static {
        let (gateway, upstreams) = (self.gateway.report(), self.upstreams.clone());
        move || {
            let mut report = gateway();
            if let (Some(fields), Value::Object(pools)) = (report.as_object_mut(), upstreams.report()) {
                fields.extend(pools);
            }
            report
        }
    }

    /// What changes it while it runs.
    pub(super) fn reloader(&self, threads: usize) -> PlaneReloader {
        PlaneReloader {
            gateway: self.gateway.reloader(),
            upstreams: self.upstreams.clone(),
            joins: self.joins.clone(),
            zone: self.zone.clone(),
            threads,
            pools: self.pools.clone(),
        }
    }

    /// Lets clients finish, then the access log.
    pub(super) async fn stop(self) {
        self.waiting.request();
        self.gateway.stop().await;
        if let Some(access) = self.access {
            access.stop().await;
        }
    }
}

/// Lets clients in when the first pools are there, or when that takes too long; the gate opens only with the pools. It is not closed
/// again when a source goes away later: what is known is served.
async fn open(opener: Opener, gate: Gate, is_followed: impl Fn() -> bool, patience: Duration) {
    let (mut opener, began) = (Some(opener), Instant::now());
    let mut looks = tokio::time::interval(LOOK);
    loop {
        looks.tick().await;
        let followed = is_followed();
        if let Some(opener) = opener.take_if(|_| followed || began.elapsed() >= patience) {
            if !followed {
                let seconds = patience.as_secs();
                tracing::warn!(seconds, "a source has told no pools yet: the gateway serves what it knows, and is not ready");
            }
            if let Err(error) = opener.open() {
                tracing::error!(%error, "nobody can connect to the gateway, which is not ready");
                return std::future::pending().await;
            }
        }
        if followed {
            return drop(gate);
        }
    }
}

/// Whether every source has told its pools, and requests go by what they told.
fn is_followed(snapshot: &Snapshot, tables: &Reader) -> bool {
    snapshot.is_loaded() && tables.table().revision() >= snapshot.revision()
}

// === impl PlaneReloader ===

impl PlaneReloader {
    /// Puts routes, limits, pools' settings and certificates into force.
    pub(super) fn reload(&self, config: &GatewayPlaneConfig) {
        let pools = with_members(config.pools.clone(), &self.joins);
        // First who may be sent to, then who is. Requests that go by the former routes still need those routes' pools.
        let turn = {
            let mut followed = self.followed();
            let mut all = std::mem::take(&mut followed.pools);
            all.extend(pools.clone());
            self.follow(all.clone());
            followed.pools = all;
            followed.turn += 1;
            followed.turn
        };
        let former = self.gateway.reload(&config.gateway);
        let reloader = self.clone();
        tokio::spawn(async move {
            former.await;
            let mut followed = reloader.followed();
            // A reload since then has its own word on what is needed.
            if followed.turn == turn {
                reloader.follow(pools.clone());
                followed.pools = pools;
            }
        });
    }

    fn followed(&self) -> MutexGuard<'_, Followed> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn follow(&self, pools: BTreeMap<PoolId, PoolConfig>) {
        let (threads, zone) = (self.threads, self.zone.clone());
        self.upstreams.reconfigure(UpstreamsConfig { pools, threads, zone });
    }
}

/// Joined pools know their members, so that a priority is left when its endpoints are ill and not only when it is empty.
fn with_members(mut pools: BTreeMap<PoolId, PoolConfig>, joins: &[Join]) -> BTreeMap<PoolId, PoolConfig> {
    for join in joins {
        if let Some(pool) = pools.get_mut(&join.id) {
            pool.members.clone_from(&join.members);
        }
    }
    pools
}
