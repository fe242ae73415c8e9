//! The log plane, from the socket to Kafka, and to the disk between them where there is a spool.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::access_log::{self, Sinks};
use super::cluster::Membership;
use super::log_state::LogState;
use super::reload::Status;
use crate::base::budget::Budget;
use crate::base::drain::Drain;
use crate::base::readiness::{Gate, Readiness};
use crate::config::LogConfig;
use crate::delivery::config::Linger;
use crate::delivery::{Backlog, Directory, FailoverShared, Health, KafkaSinkFactory, LagWatch, ReplayRoutes};
use crate::intake::config::ListenAddress;
use crate::intake::live::Hub;
use crate::intake::{Intake, Reloader, Surroundings};
use crate::pods;
use crate::pods::config::PodsConfig;
use crate::record::pods::Pods;
use crate::record::route::RouteTable;
use crate::spool::Spool;

/// Between looks for whether the spool takes records, until it does or Kafka was seen.
const READY: Duration = Duration::from_millis(250);

/// The running plane.
pub(super) struct LogPlane {
    intake: Intake,
    state: Arc<LogState>,
    durable: Option<Durable>,
    /// The routes as replay knows them.
    replayed: ReplayRoutes,
    membership: Membership,
    /// For what other planes log.
    lent: Sinks,
}

/// The spool, and the thread that replays it.
struct Durable {
    spool: Spool,
    backlog: Arc<Backlog>,
}

// === impl LogPlane ===

impl LogPlane {
    /// Starts it; it is ready once it can acknowledge safely: Kafka was seen, or the spool takes records.
    pub(super) fn start(
        config: LogConfig,
        readiness: &Readiness,
        configuration: Status,
        drain: &Drain,
    ) -> anyhow::Result<Self> {
        let limits = &config.intake.limits;
        let routes = RouteTable::compile(config.routes)?;
        let budget = Budget::new(limits.memory);
        let health = Arc::new(Health::default());
        let directory = Directory::start(&config.kafka, health.clone())?;
        let mut sinks = KafkaSinkFactory::new(&config.kafka, limits.record_size, directory.clone(), budget.clone());
        let spare = Budget::new(access_log::BUDGET);
        let mut lent = Sinks {
            factory: KafkaSinkFactory::new(&config.kafka, limits.record_size, directory.clone(), spare.clone()),
            budget: spare,
        };
        let mut durable = None;
        let replayed = ReplayRoutes::new(&routes);
        if let Some(spool) = &config.spool {
            let (opened, replay) = Spool::open(spool)?;
            let shared = FailoverShared::new(opened.clone(), spool.spool_after, Instant::now());
            sinks = sinks.with_spool(shared.clone());
            lent.factory = lent.factory.with_spool(shared.clone());
            let rate = spool.replay_rate;
            let (routes, size) = (replayed.clone(), limits.record_size);
            let backlog = Backlog::start(&config.kafka, size, directory.clone(), shared, routes, replay, rate)?;
            durable = Some(Durable { spool: opened, backlog: Arc::new(backlog) });
        }
        let adaptive = config.kafka.linger == Linger::Adaptive;
        let mut surroundings = surroundings(config.pods, drain);
        let lag = match &config.llen {
            None => None,
            Some(group) => {
                let lags = surroundings.lags.insert(Arc::default());
                Some(LagWatch::start(&config.kafka, group, lags.clone(), health.clone())?)
            }
        };
        let membership = Membership::new(surroundings.node.clone());
        let cluster = membership.follow(&config.intake.cluster);
        let intake =
            Intake::start(&config.intake, routes, budget.clone(), surroundings, cluster, adaptive, move || {
                sinks.build()
            })?;
        let gate = readiness.gate("log", "an answer from Kafka");
        tokio::spawn(become_ready(gate, health, durable.as_ref().map(|durable| durable.spool.clone())));
        let backlog = durable.as_ref().map(|durable| durable.backlog.clone());
        let state = Arc::new(LogState::new(&intake, directory, budget, backlog, lag, configuration));
        Ok(Self { intake, state, durable, replayed, membership, lent })
    }

    /// Where Redis clients connect.
    pub(super) fn addresses(&self) -> &[ListenAddress] {
        self.intake.addresses()
    }

    /// What changes its users, routes and cluster while it runs.
    pub(super) fn reloader(&self) -> (Reloader, Membership) {
        let replayed = self.replayed.clone();
        (self.intake.reloader().telling(move |routes| replayed.set(routes)), self.membership.clone())
    }

    /// Ways into Kafka for what other planes log.
    pub(super) fn sinks(&self) -> Sinks {
        self.lent.clone()
    }

    /// Who follows records live.
    pub(super) fn hub(&self) -> Arc<Hub> {
        self.intake.hub()
    }

    /// What `/debug/log` shows.
    pub(super) fn state(&self) -> Arc<LogState> {
        self.state.clone()
    }

    /// Lets connections finish, within their configured time; then everything that Kafka has not confirmed is on disk,
    /// where there is a spool.
    pub(super) async fn stop(self) {
        // Before the connections: what is read back now would be read back at the next start again.
        if let Some(durable) = &self.durable {
            durable.backlog.ask_to_stop();
        }
        self.intake.stop().await;
        if let Some(Durable { spool, backlog }) = self.durable {
            let closed = tokio::task::spawn_blocking(move || {
                backlog.stop();
                spool.close();
            });
            if closed.await.is_err() {
                tracing::error!("the spool's end was a panic; the next start finds what is on disk");
            }
        }
    }
}

/// What records say of where this runs; starts to follow the node's pods, where they are asked for.
fn surroundings(config: Option<PodsConfig>, drain: &Drain) -> Surroundings {
    let Some(config) = config else {
        return Surroundings { node: node_name(), ..Surroundings::default() };
    };
    let pods = Arc::new(Pods::default());
    let (node, pod_wait) = (config.node.clone(), config.wait);
    let surroundings = Surroundings { node, pods: Some(pods.clone()), pod_wait, lags: None };
    tokio::spawn(pods::follow(config, pods, drain.clone()));
    surroundings
}

/// Outside of Kubernetes a node is called what the machine is.
fn node_name() -> String {
    let named = std::env::var("NODE_NAME").ok().filter(|name| !name.is_empty());
    named.unwrap_or_else(|| rustix::system::uname().nodename().to_string_lossy().into_owned())
}

/// Drops the gate once. It is not closed again when Kafka goes away: leaving the Service would make its outage one of the
/// applications.
async fn become_ready(gate: Gate, health: Arc<Health>, spool: Option<Spool>) {
    match spool {
        None => health.wait_seen().await,
        Some(spool) => {
            let mut looks = tokio::time::interval(READY);
            while !health.seen() && !spool.is_writable() {
                looks.tick().await;
            }
        }
    }
    drop(gate);
}
