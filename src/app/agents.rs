//! Agents beside gateways: the pull client, what it feeds, health and metrics, a reload, a graceful end.
//!
//! SIGHUP reads the file and the templates again. What is wrong in them is said and changes nothing; otherwise the agent
//! begins anew with what they say, in the same process: the gateway keeps what it has meanwhile. `[admin]` is read once.

use std::future::Future;
use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::reload::ReloadMetrics;
use super::{ShutdownSignals, UPKEEP, every};
use crate::admin::{AdminServer, Sources};
use crate::base::drain::Drain;
use crate::base::readiness::{Gate, Readiness};
use crate::config::agents::{AgentConfig, HaproxySection, load};
use crate::haproxy::{self, HaproxyConfig};
use crate::lvs::desired::Drains;
use crate::lvs::{self, Balancer};
use crate::render::{self, Mode, Renderer};
use crate::telemetry::metrics::Metrics;

/// Which agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `tidegate render`.
    Render(Mode),
    /// `tidegate sync haproxy`.
    Haproxy,
    /// `tidegate sync keepalived`.
    Keepalived,
    /// `tidegate sync ipvs`.
    Ipvs,
}

/// Where an agent's configuration comes from.
#[derive(Clone, Debug)]
pub enum Source {
    /// A file, read again at SIGHUP.
    File(PathBuf),
    /// The command line.
    Arguments(Box<AgentConfig>),
}

/// What an agent does with pools.
#[derive(Clone, Debug)]
enum Agent {
    /// Files.
    Render(Mode),
    /// HAProxy's servers.
    Haproxy(HaproxySection),
    /// IPVS' real servers.
    Lvs(Balancer),
}

/// Runs an agent until SIGTERM or Ctrl-C, or to its end.
///
/// # Errors
/// The configuration does not serve, or what was asked for once failed.
pub fn run(source: Source, kind: Kind) -> anyhow::Result<()> {
    let (config, agent) = source.read(kind)?;
    until_asked(|drain| serve(source, kind, config, agent, drain))
}

/// Runs something that ends by itself, or after SIGTERM or Ctrl-C when it is asked to.
///
/// # Errors
/// Its own.
pub fn until_asked<F: Future<Output = anyhow::Result<()>>>(run: impl FnOnce(Drain) -> F) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        let drain = Drain::new();
        let signals = ShutdownSignals::listen()?;
        let asked = async {
            signals.received().await;
            drain.request();
            std::future::pending::<anyhow::Result<()>>().await
        };
        tokio::select! {
            outcome = run(drain.clone()) => outcome,
            outcome = asked => outcome,
        }
    })
}

async fn serve(
    source: Source,
    kind: Kind,
    mut config: AgentConfig,
    mut agent: Agent,
    drain: Drain,
) -> anyhow::Result<()> {
    let metrics = Metrics::install()?;
    let readiness = Readiness::new();
    let mut served = Some(readiness.gate("agent", "a gateway with its pools"));
    if let Some(admin) = config.admin.clone() {
        let server = AdminServer::bind(admin).await?;
        // Nobody needs to read it.
        let _ = writeln!(std::io::stdout(), "admin  http://{}", server.address());
        let sources =
            Sources { readiness, metrics: metrics.clone(), log: None, tails: None, pools: None, reloads: None };
        tokio::spawn(server.serve(sources, drain.clone()));
    }
    tokio::spawn(every(UPKEEP, drain.clone(), move || metrics.upkeep()));
    let mut hangup = signal(SignalKind::hangup()).context("cannot listen to signals")?;
    let reloads = ReloadMetrics::register();
    reloads.taken();
    let mut drains = Drains::default();
    loop {
        let turn = Drain::new();
        let next = {
            let mut running = std::pin::pin!(once(config, agent, &mut drains, &mut served, turn.clone()));
            let next = tokio::select! {
                outcome = &mut running => return outcome,
                () = drain.requested() => None,
                next = reread(&mut hangup, &source, kind, &reloads) => Some(next),
            };
            turn.request();
            running.await?;
            next
        };
        match next {
            Some(next) => (config, agent) = next,
            None => return Ok(()),
        }
    }
}

/// Waits for SIGHUP and a configuration that serves.
async fn reread(hangup: &mut Signal, source: &Source, kind: Kind, reloads: &ReloadMetrics) -> (AgentConfig, Agent) {
    loop {
        if hangup.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
        match source.read(kind) {
            Ok(next) => {
                reloads.taken_again();
                tracing::info!("configuration reloaded");
                return next;
            }
            Err(error) => {
                reloads.refused();
                tracing::error!(error = format!("{error:#}"), "configuration refused; the one before goes on");
            }
        }
    }
}

/// Runs an agent until it is asked to end; `served` goes when the gateway has its pools.
async fn once(
    config: AgentConfig,
    agent: Agent,
    drains: &mut Drains,
    served: &mut Option<Gate>,
    drain: Drain,
) -> anyhow::Result<()> {
    match agent {
        Agent::Render(mode) => {
            let show = |text: &str| drop(std::io::stdout().write_all(text.as_bytes()));
            Ok(render::run(config.render, mode, served, drain, show).await?)
        }
        Agent::Haproxy(section) => {
            let HaproxySection { socket, server_options, backends, poll } = section;
            let render = Some(config.render).filter(|render| !render.templates.is_empty());
            let config = HaproxyConfig { pull: config.pull, socket, server_options, backends, poll, render };
            Ok(haproxy::run(config, served, drain).await?)
        }
        Agent::Lvs(balancer) => Ok(lvs::run(config.pull, config.lvs, balancer, drains, served, drain).await?),
    }
}

// === impl Source ===

impl Source {
    /// The configuration and what this agent does with it, both as far as they can be checked.
    fn read(&self, kind: Kind) -> anyhow::Result<(AgentConfig, Agent)> {
        let config = match self {
            Self::File(path) => load(path)?,
            Self::Arguments(config) => (**config).clone(),
        };
        let agent = kind.of(&config)?;
        config.pull.check()?;
        if matches!(kind, Kind::Render(_) | Kind::Haproxy) {
            Renderer::new(&config.render)?;
        }
        Ok((config, agent))
    }
}

// === impl Kind ===

impl Kind {
    fn of(self, config: &AgentConfig) -> anyhow::Result<Agent> {
        let lacks = |section: &str, line: &str| anyhow::anyhow!("the file has no {section}: add one with {line}");
        match self {
            Self::Render(_) if config.render.templates.is_empty() => {
                Err(lacks("[[template]]", "template, output, check and reload"))
            }
            Self::Render(mode) => Ok(Agent::Render(mode)),
            Self::Haproxy => {
                let section = config.haproxy.clone();
                Ok(Agent::Haproxy(
                    section.ok_or_else(|| lacks("[haproxy] section", "socket = \"/run/haproxy/admin.sock\""))?,
                ))
            }
            Self::Keepalived => {
                let section = config.keepalived.clone();
                let section = section
                    .ok_or_else(|| lacks("[keepalived] section", "output = \"/etc/keepalived/tidegate.conf\""))?;
                Ok(Agent::Lvs(Balancer::Keepalived(section)))
            }
            Self::Ipvs => Ok(Agent::Lvs(Balancer::Kernel)),
        }
    }
}
