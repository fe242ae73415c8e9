//! The gateway, from the snapshot of pools to clients' requests, and its access log on the way to the log plane.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::access_log;
use super::routing::{Routing, hosts, with_members};
use crate::base::drain::Drain;
use crate::base::readiness::{Gate, Readiness};
use crate::config::GatewayPlaneConfig;
use crate::discovery::OwnGateway;
use crate::endpoints::join::Join;
use crate::endpoints::{Listener, Snapshot};
use crate::gateway::kubernetes::{KubernetesRoutes, Own};
use crate::gateway::{Gateway, Opener};
use crate::record::route::RouteTable;
use crate::upstream::{Published, Reader, Upstreams, UpstreamsConfig};

/// How often it is looked whether every source has told its pools.
const LOOK: Duration = Duration::from_millis(20);
/// How often the gateway says which pools it wants: well within the minute after which nobody would wait for it.
const ASKS: Duration = Duration::from_secs(10);

/// The running gateway and the pools that it sends to.
pub(super) struct GatewayPlane {
    gateway: Gateway,
    upstreams: Arc<Upstreams>,
    access: Option<access_log::Writer>,
    routing: Arc<Routing>,
    cluster: Option<KubernetesRoutes>,
    waiting: Drain,
    opened: watch::Receiver<bool>,
    own: OwnGateway,
    acknowledging: JoinHandle<()>,
}

/// Changes it while it runs.
#[derive(Clone)]
pub(super) struct PlaneReloader {
    routing: Arc<Routing>,
    cluster: Option<KubernetesRoutes>,
}

/// Where pools come from.
pub(super) struct Pools {
    pub(super) snapshot: Arc<ArcSwap<Snapshot>>,
    pub(super) joins: Vec<Join>,
    pub(super) zone: Option<Arc<str>>,
    /// Who says what it serves of them.
    pub(super) own: OwnGateway,
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
        let Pools { snapshot, joins, zone, own } = pools;
        let joins: Arc<[Join]> = joins.into();
        let threads = config.gateway.threads;
        let pools = with_members(config.pools.clone(), &joins);
        let upstreams = UpstreamsConfig { pools, threads, zone };
        let upstreams = Arc::new(Upstreams::start(upstreams, snapshot.clone()));
        let gate = readiness.gate("gateway", "the first pools of every source");
        let access_config = config.gateway.access_log.clone();
        let (gateway, opener, records) = Gateway::start(config.gateway.clone(), upstreams.reader())?;
        let access = match (records, log, access_config) {
            (Some(records), Some((sinks, routes)), Some(config)) => {
                Some(access_log::Writer::start(records, &config.key, sinks, routes)?)
            }
            _ => None,
        };
        let waiting = Drain::new();
        let routing = Arc::new(Routing::new(gateway.reloader(), upstreams.clone(), joins, &config));
        let cluster = config.kubernetes.clone().map(|kubernetes| {
            let routing = routing.clone();
            let own = Own { hosts: hosts(&config), listeners: gateway.addresses() };
            KubernetesRoutes::start(kubernetes, own, move |cluster| routing.set_cluster(cluster), &waiting)
        });
        let (telling, opened) = watch::channel(false);
        tokio::spawn({
            let (tables, waiting, cluster) = (upstreams.reader(), waiting.clone(), cluster.clone());
            let is_told = move || cluster.as_ref().is_none_or(KubernetesRoutes::is_told);
            let followed = move || is_told() && is_followed(&snapshot.load(), &tables);
            let patience = config.first_pools_timeout;
            async move {
                tokio::select! {
                    () = open(opener, gate, telling, followed, patience) => {}
                    () = waiting.requested() => {}
                }
            }
        });
        let acknowledging = tokio::spawn(acknowledge(own.clone(), upstreams.clone(), waiting.clone()));
        Ok(Self { gateway, upstreams, access, routing, cluster, waiting, opened, own, acknowledging })
    }

    /// Returns once clients are let in, or never will be.
    pub(super) async fn opened(&self) {
        // An error says that they never will be.
        let _ = self.opened.clone().wait_for(|opened| *opened).await;
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
        let (gateway, upstreams, cluster) = (self.gateway.report(), self.upstreams.clone(), self.cluster.clone());
        move || {
            let mut report = gateway();
            if let (Some(fields), Value::Object(pools)) = (report.as_object_mut(), upstreams.report()) {
                fields.extend(pools);
                fields.extend(cluster.as_ref().map(|cluster| ("kubernetes".to_owned(), cluster.report())));
            }
            report
        }
    }

    /// What changes it while it runs.
    pub(super) fn reloader(&self) -> PlaneReloader {
        PlaneReloader { routing: self.routing.clone(), cluster: self.cluster.clone() }
    }

    /// Lets clients finish, then the access log.
    pub(super) async fn stop(self) {
        self.waiting.request();
        self.gateway.stop().await;
        // It ends at its next look at the drain.
        let _ = self.acknowledging.await;
        // Until here requests could go by a table of before.
        self.own.ended();
        if let Some(access) = self.access {
            access.stop().await;
        }
    }
}

/// Says which pools the gateway wants and as of which revision it serves them, with each of its tables and every while, until the
/// end is asked for.
async fn acknowledge(own: OwnGateway, upstreams: Arc<Upstreams>, ended: Drain) {
    let mut published = upstreams.published();
    let mut asks = tokio::time::interval(ASKS);
    let mut said: Option<Published> = None;
    loop {
        let now = published.borrow_and_update().clone();
        // Of the same pools, what was not said yet is enough.
        let since = said.filter(|said| Arc::ptr_eq(&said.pools, &now.pools)).map(|said| said.revision);
        own.serves(&now.pools, since, now.revision);
        said = Some(now);
        tokio::select! {
            _ = asks.tick() => said = None,
            told = published.changed() => if told.is_err() { return },
            () = ended.requested() => return,
        }
    }
}

/// Lets clients in when the first pools are there, or when that takes too long; the gate opens only with the pools. It is not closed
/// again when a source goes away later: what is known is served.
async fn open(
    opener: Opener,
    gate: Gate,
    telling: watch::Sender<bool>,
    is_followed: impl Fn() -> bool,
    patience: Duration,
) {
    let (mut opener, began) = (Some(opener), Instant::now());
    let mut looks = tokio::time::interval(LOOK);
    loop {
        looks.tick().await;
        let followed = is_followed();
        if let Some(opener) = opener.take_if(|_| followed || began.elapsed() >= patience) {
            if !followed {
                let seconds = patience.as_secs();
                tracing::warn!(
                    seconds,
                    "a source has told no pools yet: the gateway serves what it knows, and is not ready"
                );
            }
            if let Err(error) = opener.open() {
                tracing::error!(%error, "nobody can connect to the gateway, which is not ready");
                drop(telling);
                return std::future::pending().await;
            }
            telling.send_replace(true);
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
        self.routing.set_file(config);
        if let Some(cluster) = &self.cluster {
            cluster.set_operators(hosts(config));
        }
    }
}
