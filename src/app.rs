//! Where the stages are joined, in the order in which data flows.

mod log_state;
mod traffic;

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use log_state::LogState;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use traffic::TrafficPlane;

use crate::admin::{AdminServer, DebugDump, Sources};
use crate::base::budget::Budget;
use crate::base::drain::Drain;
use crate::base::readiness::Readiness;
use crate::config::{Config, LogConfig};
use crate::delivery::config::Linger;
use crate::delivery::{Directory, Health, KafkaSinkFactory};
use crate::intake::Intake;
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
    log: Option<Intake>,
    traffic: Option<TrafficPlane>,
    admin: Drain,
    admin_address: Option<SocketAddr>,
    redis_addresses: Vec<ListenAddress>,
}

/// Runs what the configuration has until SIGTERM or Ctrl-C, then ends it gracefully.
pub fn run(config: Config) -> anyhow::Result<()> {
    raise_descriptor_limit();
    // The log plane has threads of its own; the traffic plane's watches and waiting gateways are served by these.
    let threads = if config.discovery.is_some() { 2 } else { 1 };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    runtime.block_on(async {
        let running = start(config).await?;
        for line in running.address_lines() {
            // Nobody needs to read it.
            let _ = writeln!(std::io::stdout(), "{line}");
        }
        shutdown_signal().await?;
        running.stop().await
    })
}

/// Starts what the configuration has and returns once it is bound to its addresses.
pub async fn start(config: Config) -> anyhow::Result<Running> {
    let metrics = Metrics::install()?;
    let readiness = Readiness::new();
    let admin = Drain::new();
    let mut running =
        Running { log: None, traffic: None, admin: admin.clone(), admin_address: None, redis_addresses: Vec::new() };
    let mut dump: Option<DebugDump> = None;
    if let Some(config) = config.log {
        let (intake, state) = start_log(config, &readiness)?;
        running.redis_addresses = intake.addresses().to_vec();
        running.log = Some(intake);
        tokio::spawn(every(SAMPLE, admin.clone(), {
            let state = state.clone();
            move || state.sample()
        }));
        dump = Some(Arc::new(move || state.dump()));
    }
    let mut pools: Option<DebugDump> = None;
    if let Some(config) = config.discovery {
        let (plane, report) = TrafficPlane::start(config, &readiness).await?;
        running.traffic = Some(plane);
        pools = Some(report);
    }
    if let Some(config) = config.admin {
        let server = AdminServer::bind(config).await?;
        running.admin_address = Some(server.address());
        let sources = Sources { readiness, metrics: metrics.clone(), log: dump, pools };
        tokio::spawn(server.serve(sources, admin.clone()));
    }
    tokio::spawn(every(UPKEEP, admin, move || metrics.upkeep()));
    Ok(running)
}

/// The log plane, from the socket to Kafka.
fn start_log(config: LogConfig, readiness: &Readiness) -> anyhow::Result<(Intake, Arc<LogState>)> {
    let limits = &config.intake.limits;
    let routes = RouteTable::compile(config.routes)?;
    let budget = Budget::new(limits.memory);
    let health = Arc::new(Health::default());
    let directory = Directory::start(&config.kafka, health.clone())?;
    let sinks = KafkaSinkFactory::new(&config.kafka, limits.record_size, directory.clone(), budget.clone());
    let adaptive = config.kafka.linger == Linger::Adaptive;
    let intake = Intake::start(&config.intake, routes, budget.clone(), adaptive, move || sinks.build())?;
    let gate = readiness.gate("log", "an answer from Kafka");
    tokio::spawn(async move {
        health.wait_seen().await;
        // Not closed again when Kafka goes away: leaving the Service would make its outage one of the applications.
        drop(gate);
    });
    let state = LogState::new(&intake, directory, budget);
    Ok((intake, Arc::new(state)))
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

/// Waits for SIGTERM or Ctrl-C. SIGHUP is heard, so that it does not kill.
pub async fn shutdown_signal() -> anyhow::Result<()> {
    let listen = |kind| signal(kind).context("cannot listen to signals");
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut hangup = listen(SignalKind::hangup())?;
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = hangup.recv() => tracing::warn!("SIGHUP: this version does not reload; restart it to read the configuration again"),
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

    /// One line an address, as people paste them.
    pub fn address_lines(&self) -> Vec<String> {
        let redis = self.redis_addresses.iter().map(|address| match address {
            ListenAddress::Tcp(address) => format!("redis  redis://{address}"),
            ListenAddress::Unix(path) => format!("redis  unix:{}", path.display()),
        });
        let admin = self.admin_address.map(|address| format!("admin  http://{address}"));
        let pools = self.pools_address().map(|address| format!("pools  http://{address}"));
        redis.chain(pools).chain(admin).collect()
    }

    /// Ends everything gracefully: connections first, within their configured time; the admin server answers meanwhile.
    pub async fn stop(self) -> anyhow::Result<()> {
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
