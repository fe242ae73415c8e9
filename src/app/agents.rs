//! Agents beside gateways: the pull client, what it feeds, health and metrics, a graceful end.

use std::future::Future;
use std::io::Write as _;

use super::{UPKEEP, every, shutdown_signal};
use crate::admin::{AdminServer, Sources};
use crate::base::drain::Drain;
use crate::base::readiness::Readiness;
use crate::config::agents::{AgentConfig, HaproxySection};
use crate::haproxy::{self, HaproxyConfig};
use crate::lvs::{self, Balancer};
use crate::render::{self, Mode};
use crate::telemetry::metrics::Metrics;

/// What an agent does with pools.
#[derive(Clone, Debug)]
pub enum Agent {
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
pub fn run(config: AgentConfig, agent: Agent) -> anyhow::Result<()> {
    until_asked(|drain| serve(config, agent, drain))
}

/// Runs something that ends by itself, or after SIGTERM or Ctrl-C when it is asked to.
///
/// # Errors
/// Its own.
pub fn until_asked<F: Future<Output = anyhow::Result<()>>>(run: impl FnOnce(Drain) -> F) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        let drain = Drain::new();
        let asked = async {
            shutdown_signal().await?;
            drain.request();
            std::future::pending::<anyhow::Result<()>>().await
        };
        tokio::select! {
            outcome = run(drain.clone()) => outcome,
            outcome = asked => outcome,
        }
    })
}

async fn serve(config: AgentConfig, agent: Agent, drain: Drain) -> anyhow::Result<()> {
    let metrics = Metrics::install()?;
    if let Some(admin) = config.admin {
        let server = AdminServer::bind(admin).await?;
        // Nobody needs to read it.
        let _ = writeln!(std::io::stdout(), "admin  http://{}", server.address());
        let sources =
            Sources { readiness: Readiness::new(), metrics: metrics.clone(), log: None, tails: None, pools: None };
        tokio::spawn(server.serve(sources, drain.clone()));
    }
    tokio::spawn(every(UPKEEP, drain.clone(), move || metrics.upkeep()));
    match agent {
        Agent::Render(mode) => {
            let show = |text: &str| drop(std::io::stdout().write_all(text.as_bytes()));
            Ok(render::run(config.render, mode, drain, show).await?)
        }
        Agent::Haproxy(section) => {
            let HaproxySection { socket, server_options, backends, poll } = section;
            let render = Some(config.render).filter(|render| !render.templates.is_empty());
            let config = HaproxyConfig { pull: config.pull, socket, server_options, backends, poll, render };
            Ok(haproxy::run(config, drain).await?)
        }
        Agent::Lvs(balancer) => Ok(lvs::run(config.pull, config.lvs, balancer, drain).await?),
    }
}
