//! Where the stages are joined, in the order in which data flows.

use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

use crate::admin::{AdminServer, Sources};
use crate::base::drain::Drain;
use crate::base::readiness::Readiness;
use crate::config::Config;
use crate::intake::config::ListenAddress;
use crate::telemetry::metrics::Metrics;

/// How long the admin server may take to end, after everything else has.
const ADMIN_DEADLINE: Duration = Duration::from_secs(1);
/// How often histograms are folded.
const UPKEEP: Duration = Duration::from_secs(5);

/// Planes that run.
#[derive(Debug)]
pub struct Running {
    /// For everything but the admin server, which answers while they end.
    planes: Drain,
    admin: Drain,
    admin_address: Option<SocketAddr>,
    redis_addresses: Vec<ListenAddress>,
    shutdown_timeout: Duration,
}

/// Runs what the configuration has until SIGTERM or Ctrl-C, then ends it gracefully.
pub fn run(config: Config) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
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
    let (planes, admin) = (Drain::new(), Drain::new());
    let shutdown_timeout = config.log.as_ref().map_or(Duration::ZERO, |log| log.intake.shutdown_timeout);
    let mut admin_address = None;
    if let Some(config) = config.admin {
        let server = AdminServer::bind(config).await?;
        admin_address = Some(server.address());
        let sources = Sources { readiness, metrics: metrics.clone(), log: None };
        tokio::spawn(server.serve(sources, admin.clone()));
    }
    tokio::spawn(keep_metrics(metrics, admin.clone()));
    Ok(Running { planes, admin, admin_address, redis_addresses: Vec::new(), shutdown_timeout })
}

async fn keep_metrics(metrics: Metrics, drain: Drain) {
    let mut ticks = tokio::time::interval(UPKEEP);
    loop {
        tokio::select! {
            _ = ticks.tick() => metrics.upkeep(),
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

    /// One line an address, as people paste them.
    pub fn address_lines(&self) -> Vec<String> {
        let redis = self.redis_addresses.iter().map(|address| match address {
            ListenAddress::Tcp(address) => format!("redis  redis://{address}"),
            ListenAddress::Unix(path) => format!("redis  unix:{}", path.display()),
        });
        let admin = self.admin_address.map(|address| format!("admin  http://{address}"));
        redis.chain(admin).collect()
    }

    /// Ends everything gracefully; an error says who was still at work at the deadline.
    pub async fn stop(self) -> anyhow::Result<()> {
        let planes = self.planes.finish(self.shutdown_timeout).await;
        let admin = self.admin.finish(ADMIN_DEADLINE).await;
        planes.and(admin).context("the end was forced")
    }
}
