//! The control component as a process: its controller and the admin server.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;

use super::{ADMIN_DEADLINE, ShutdownSignals, UPKEEP, every};
use crate::admin::{AdminServer, Sources};
use crate::base::drain::Drain;
use crate::base::readiness::Readiness;
use crate::config;
use crate::control;
use crate::telemetry::metrics::Metrics;

/// How long writes under way have, and the Lease to be given back.
const DEADLINE: Duration = Duration::from_secs(10);

/// Runs the control component that the file has until SIGTERM or Ctrl-C.
pub fn run(path: &Path) -> anyhow::Result<()> {
    let config = config::load(path)?.config;
    let Some(control) = config.control else {
        anyhow::bail!("{}: has no [control] section: nothing would run", path.display());
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let signals = ShutdownSignals::listen()?;
        let metrics = Metrics::install()?;
        let (readiness, drain, admin) = (Readiness::new(), Drain::new(), Drain::new());
        control::start(control, &readiness, &drain).await?;
        if let Some(config) = config.admin {
            let server = AdminServer::bind(config).await?;
            // Nobody needs to read it.
            let _ = writeln!(std::io::stdout(), "admin  http://{}", server.address());
            let sources =
                Sources { readiness, metrics: metrics.clone(), log: None, tails: None, pools: None, reloads: None };
            tokio::spawn(server.serve(sources, admin.clone()));
        }
        tokio::spawn(every(UPKEEP, admin.clone(), move || metrics.upkeep()));
        signals.received().await;
        drain.finish(DEADLINE).await.context("the control component's end was forced")?;
        admin.finish(ADMIN_DEADLINE).await.context("the end was forced")
    })
}
