//! The gateway, from the snapshot of pools to clients' requests, and its access log on the way to the log plane.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use serde_json::Value;

use super::access_log;
use crate::base::drain::Drain;
use crate::base::readiness::Readiness;
use crate::config::GatewayPlaneConfig;
use crate::endpoints::join::Join;
use crate::endpoints::pool::PoolId;
use crate::endpoints::{Listener, Snapshot};
use crate::gateway::{Gateway, GatewayReloader};
use crate::record::route::RouteTable;
use crate::upstream::{PoolConfig, Upstreams, UpstreamsConfig};

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
}

/// Changes it while it runs.
#[derive(Clone)]
pub(super) struct PlaneReloader {
    gateway: GatewayReloader,
    upstreams: Arc<Upstreams>,
    joins: Arc<[Join]>,
    zone: Option<Arc<str>>,
    threads: usize,
}

/// Where pools come from.
pub(super) struct Pools {
    pub(super) snapshot: Arc<ArcSwap<Snapshot>>,
    pub(super) joins: Vec<Join>,
    pub(super) zone: Option<Arc<str>>,
}

// === impl GatewayPlane ===

impl GatewayPlane {
    /// Starts it; it is ready once every source has told its pools. `sinks` makes the way into Kafka that access records take.
    pub(super) fn start(
        config: GatewayPlaneConfig,
        pools: Pools,
        readiness: &Readiness,
        log: Option<(access_log::Sinks, &RouteTable)>,
    ) -> anyhow::Result<Self> {
        let Pools { snapshot, joins, zone } = pools;
        let joins: Arc<[Join]> = joins.into();
        let threads = config.gateway.threads;
        let upstreams = UpstreamsConfig { pools: with_members(config.pools, &joins), threads, zone: zone.clone() };
        let upstreams = Arc::new(Upstreams::start(upstreams, snapshot.clone()));
        let gate = readiness.gate("gateway", "the first pools of every source");
        let access_config = config.gateway.access_log.clone();
        let (gateway, records) = Gateway::start(config.gateway, upstreams.reader())?;
        let access = match (records, log, access_config) {
            (Some(records), Some((sinks, routes)), Some(config)) => {
                Some(access_log::Writer::start(records, &config.key, sinks, routes)?)
            }
            _ => None,
        };
        let waiting = Drain::new();
        tokio::spawn({
            let waiting = waiting.clone();
            async move {
                let mut looks = tokio::time::interval(LOOK);
                // Not closed again when a source goes away later: what is known is served.
                while !snapshot.load().is_loaded() {
                    tokio::select! {
                        _ = looks.tick() => {}
                        () = waiting.requested() => break,
                    }
                }
                drop(gate);
            }
        });
        Ok(Self { gateway, upstreams, access, joins, zone, waiting })
    }

    /// What is to hear of each publication of the snapshot.
    pub(super) fn listener(&self) -> Listener {
        self.upstreams.listener()
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

// === impl PlaneReloader ===

impl PlaneReloader {
    /// Puts routes, limits, pools' settings and certificates into force.
    pub(super) fn reload(&self, config: &GatewayPlaneConfig) {
        // First who may be sent to, then who is.
        self.upstreams.reconfigure(UpstreamsConfig {
            pools: with_members(config.pools.clone(), &self.joins),
            threads: self.threads,
            zone: self.zone.clone(),
        });
        self.gateway.reload(&config.gateway);
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
