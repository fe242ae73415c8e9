//! Where the stages are joined, in the order in which data flows.

mod access_log;
pub mod agents;
mod cluster;
mod control;
mod gateway;
mod log_plane;
mod log_state;
mod reload;
mod routing;
mod traffic;

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
pub use control::run as run_control;
use gateway::{GatewayPlane, Pools};
use log_plane::LogPlane;
use reload::{Reload, Reloaders, Status};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use traffic::TrafficPlane;

use crate::admin::{AdminServer, DebugDump, Reloads, Sources, Tails};
use crate::base::drain::Drain;
use crate::base::readiness::Readiness;
use crate::config::{self, Config};
use crate::intake::config::ListenAddress;
use crate::record::route::RouteTable;
use crate::telemetry::metrics::Metrics;

/// How long the admin server may take to end, after everything else has.
const ADMIN_DEADLINE: Duration = Duration::from_secs(1);
/// How often histograms are folded.
const UPKEEP: Duration = Duration::from_secs(5);

/// How often rates are measured.
const SAMPLE: Duration = Duration::from_secs(1);

/// Planes that run.
pub struct Running {
    log: Option<LogPlane>,
    reloaders: Reloaders,
    configuration: Status,
    traffic: Option<TrafficPlane>,
    gateway: Option<GatewayPlane>,
    admin: Drain,
    admin_address: Option<SocketAddr>,
    redis_addresses: Vec<ListenAddress>,
}

/// Runs what the configuration file has until SIGTERM or Ctrl-C, then ends it gracefully. SIGHUP, or a change of the
/// file or of one that it names, reloads it.
pub fn run(path: &Path) -> anyhow::Result<()> {
    let loaded = config::load(path)?;
    raise_descriptor_limit();
    // The log plane has threads of its own; the traffic plane's watches and waiting gateways are served by these.
    // The gateway has threads of its own as well.
    let threads = if loaded.config.discovery.is_some() { 2 } else { 1 };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    runtime.block_on(async {
        let hangup = signal(SignalKind::hangup()).context("cannot listen to signals")?;
        let signals = ShutdownSignals::listen()?;
        let (reloads, asked) = Reloads::new();
        let mut running = start_with(loaded.config.clone(), Some(reloads)).await?;
        let reloaders = std::mem::take(&mut running.reloaders);
        let reload = Reload::new(path, loaded, reloaders, running.configuration.clone());
        tokio::spawn(reload.run(hangup, asked, running.admin.clone()));
        for line in running.address_lines() {
            // Nobody needs to read it.
            let _ = writeln!(std::io::stdout(), "{line}");
        }
        signals.received().await;
        running.stop().await
    })
}

/// Starts what the configuration has and returns once it is bound to its addresses.
pub async fn start(config: Config) -> anyhow::Result<Running> {
    start_with(config, None).await
}

/// The same, with what reads the configuration again.
async fn start_with(config: Config, reloads: Option<Reloads>) -> anyhow::Result<Running> {
    let metrics = Metrics::install()?;
    let readiness = Readiness::new();
    let admin = Drain::new();
    let mut running = Running {
        log: None,
        reloaders: Reloaders::default(),
        configuration: Status::default(),
        traffic: None,
        gateway: None,
        admin: admin.clone(),
        admin_address: None,
        redis_addresses: Vec::new(),
    };
    let access_routes = match (&config.gateway, &config.log) {
        (Some(_), Some(log)) => Some(RouteTable::compile(log.routes.clone())?),
        _ => None,
    };
    let (mut dump, mut tails): (Option<DebugDump>, Option<Tails>) = (None, None);
    let gateway = config.gateway;
    if let Some(config) = config.log {
        let plane = LogPlane::start(config, &readiness, running.configuration.clone(), &admin)?;
        running.reloaders.log = Some(plane.reloader());
        running.redis_addresses = plane.addresses().to_vec();
        tails = Some(Tails::new(plane.hub(), admin.clone()));
        let state = plane.state();
        running.log = Some(plane);
        tokio::spawn(every(SAMPLE, admin.clone(), {
            let state = state.clone();
            move || state.sample()
        }));
        dump = Some(Arc::new(move || state.dump()));
    }
    let mut pools: Option<DebugDump> = None;
    if let Some(config) = config.discovery {
        let (joins, zone) = (config.endpoints.joins.clone(), config.endpoints.place.zone.clone());
        let (plane, report) = TrafficPlane::start(config, &readiness, running.configuration.clone()).await?;
        running.reloaders.discovery = Some(plane.reloader());
        pools = Some(report);
        if let Some(config) = gateway {
            let own = plane.own_gateway(config.name.clone());
            let from = Pools { snapshot: plane.snapshot(), joins, zone, own };
            let log = running.log.as_ref().map(LogPlane::sinks).zip(access_routes.as_ref());
            let gateway = GatewayPlane::start(config, from, &readiness, log)?;
            plane.tell(gateway.listener());
            gateway.catch_up();
            running.reloaders.gateway = Some(gateway.reloader());
            pools = pools.map(|report| with_gateway(report, gateway.report()));
            running.gateway = Some(gateway);
        }
        running.traffic = Some(plane);
    }
    if let Some(config) = config.admin {
        let server = AdminServer::bind(config).await?;
        running.admin_address = Some(server.address());
        let sources = Sources { readiness, metrics: metrics.clone(), log: dump, tails, pools, reloads };
        tokio::spawn(server.serve(sources, admin.clone()));
    }
    tokio::spawn(every(UPKEEP, admin, move || metrics.upkeep()));
    Ok(running)
}

/// The traffic plane's report with the gateway's view of it.
fn with_gateway(report: DebugDump, gateway: impl Fn() -> serde_json::Value + Send + Sync + 'static) -> DebugDump {
    Arc::new(move || {
        let mut report = report();
        if let Some(fields) = report.as_object_mut() {
            fields.insert("gateway".to_owned(), gateway());
        }
        report
    })
}

/// As many descriptors as the system allows: the usual soft limit of 1024 is below what one node's applications open.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, limit = ?limit.current, "the limit on open files cannot be raised");
    }
}

async fn every(period: Duration, drain: Drain, act: impl Fn()) {
    let mut ticks = tokio::time::interval(period);
    loop {
        tokio::select! {
            _ = ticks.tick() => act(),
            () = drain.requested() => return,
        }
    }
}

/// SIGTERM and Ctrl-C, which end nothing by themselves from the moment at which they are listened to. SIGHUP is listened to
/// as well, so that it does not kill; what it means is others' affair.
pub struct ShutdownSignals {
    terminate: Signal,
    interrupt: Signal,
    _hangup: Signal,
}

// === impl ShutdownSignals ===

impl ShutdownSignals {
    /// Listens, before anybody is told that the process is there.
    ///
    /// # Errors
    /// The system does not let it.
    pub fn listen() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen to signals");
        let (terminate, interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
        Ok(Self { terminate, interrupt, _hangup: listen(SignalKind::hangup())? })
    }

    /// Waits for one of them, also for one that has come already.
    pub async fn received(mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

// === impl Running ===

impl Running {
    /// Where Redis clients connect, ports chosen by the system filled in.
    pub fn redis_addresses(&self) -> &[ListenAddress] {
        &self.redis_addresses
    }

    /// Where the admin server listens; `None` without one.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin_address
    }

    /// Where the pull API listens; `None` without the traffic plane.
    pub fn pools_address(&self) -> Option<SocketAddr> {
        self.traffic.as_ref().map(TrafficPlane::address)
    }

    /// Where clients of the gateway connect; empty without one.
    pub fn gateway_urls(&self) -> Vec<String> {
        self.gateway.as_ref().map(GatewayPlane::urls).unwrap_or_default()
    }

    /// Returns once clients of the gateway are let in, or never will be; at once without one.
    pub async fn gateway_opened(&self) {
        if let Some(gateway) = &self.gateway {
            gateway.opened().await;
        }
    }

    /// One line an address, as people paste them.
    pub fn address_lines(&self) -> Vec<String> {
        let redis = self.redis_addresses.iter().map(|address| match address {
            ListenAddress::Tcp(address) => format!("redis  redis://{address}"),
            ListenAddress::Tls(address) => format!("redis  rediss://{address}"),
            ListenAddress::Unix(path) => format!("redis  unix:{}", path.display()),
        });
        let admin = self.admin_address.map(|address| format!("admin  http://{address}"));
        let pools = self.traffic.as_ref().map(|plane| format!("pools  {}", plane.url()));
        let gateway = self.gateway_urls().into_iter().map(|url| format!("gateway  {url}"));
        redis.chain(pools).chain(gateway).chain(admin).collect()
    }

    /// Ends everything gracefully: connections first, within their configured time; the admin server answers meanwhile.
    pub async fn stop(self) -> anyhow::Result<()> {
        // Its clients need its pools, and its log the log plane.
        if let Some(gateway) = self.gateway {
            gateway.stop().await;
        }
        let traffic = async {
            if let Some(traffic) = self.traffic {
                traffic.stop().await;
            }
        };
        let log = async {
            if let Some(log) = self.log {
                log.stop().await;
            }
        };
        tokio::join!(traffic, log);
        self.admin.finish(ADMIN_DEADLINE).await.context("the end was forced")
    }
}
