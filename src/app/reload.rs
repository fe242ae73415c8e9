//! The reload: at SIGHUP, when a file of the configuration says something else, or when somebody asks for it at the admin address,
//! the configuration is read again.
//! What can change while connections are open changes at once; what cannot is named and left; a bad file changes
//! nothing. Either way it is visible: in the log, in the metrics, and on the admin page.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};
use serde_json::{Value, json};
use tokio::signal::unix::Signal;
use tokio::sync::mpsc;

use super::cluster::Membership;
use super::gateway::PlaneReloader;
use crate::admin::{Asked, Reloaded};
use crate::base::drain::Drain;
use crate::config::{self, Attempt, ConfigError, Files, Loaded};
use crate::discovery::{DiscoveryReloader, OpenError};
use crate::intake::Reloader;
use crate::intake::users::UsersError;
use crate::record::route::{RouteError, RouteTable};

/// Between looks at the files. What changed is taken once two looks find the same: a file may be in the middle of being
/// written, and half of one can be a configuration too.
const LOOK: Duration = Duration::from_millis(500);

/// Why a configuration is refused; the one before goes on.
#[derive(Debug, thiserror::Error)]
enum ReloadError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Users(#[from] UsersError),
    #[error(transparent)]
    Route(#[from] RouteError),
    #[error("[log] is gone, and a reload ends no plane: put it back, or restart")]
    NoLog,
    #[error("[discovery] is gone, and a reload ends no plane: put it back, or restart")]
    NoDiscovery,
    #[error("[gateway] is gone, and a reload ends no plane: put it back, or restart")]
    NoGateway,
    #[error(transparent)]
    OpenDiscovery(#[from] OpenError),
    #[error(
        "users: the running listener {0} is not on loopback, and a user without a password, or none at all, would open \
         it to everybody: give every [[log.user]] a password_file, set log.anonymous = true, or restart on another address"
    )]
    Open(String),
}

/// What came of reading the configuration again, for whoever asks.
#[derive(Clone, Debug, Default)]
pub(super) struct Status(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    loaded_at: u64,
    refused: Option<String>,
    needs_restart: Vec<String>,
}

/// Reads the configuration again, whenever there is reason to.
pub(super) struct Reload {
    path: PathBuf,
    /// What the process started with.
    started: Loaded,
    /// What was read last, good or bad.
    files: Files,
    reloaders: Reloaders,
    status: Status,
    metrics: ReloadMetrics,
}

/// What changes each plane while it runs.
#[derive(Default)]
pub(super) struct Reloaders {
    pub(super) log: Option<(Reloader, Membership)>,
    pub(super) discovery: Option<DiscoveryReloader>,
    pub(super) gateway: Option<PlaneReloader>,
}

/// How readings of a configuration went.
pub(super) struct ReloadMetrics {
    success: Counter,
    refused: Counter,
    loaded_at: Gauge,
    stale: Gauge,
    needs_restart: Gauge,
}

// === impl Status ===

impl Status {
    /// For `/debug/log` and `/debug/pools`.
    pub(super) fn dump(&self) -> Value {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        json!({
            "stale": state.refused.is_some(),
            "loaded_at": state.loaded_at,
            "last_error": state.refused,
            "needs_restart": state.needs_restart,
        })
    }
}

// === impl Reload ===

impl Reload {
    /// For a process that just started with this configuration.
    pub(super) fn new(path: &Path, started: Loaded, reloaders: Reloaders, status: Status) -> Self {
        let files = started.files.clone();
        let mut reload =
            Self { path: path.to_owned(), started, files, reloaders, status, metrics: ReloadMetrics::register() };
        reload.note(Ok(Vec::new()));
        reload
    }

    /// Runs until the drain is requested. `hangup` is SIGHUP, and `asked` are those who wait for an answer.
    pub(super) async fn run(mut self, mut hangup: Signal, mut asked: mpsc::Receiver<Asked>, drain: Drain) {
        let mut ticks = tokio::time::interval(LOOK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut seen: Option<Files> = None;
        loop {
            let (told, waits) = tokio::select! {
                heard = hangup.recv() => (heard.is_some(), None),
                Some(waits) = asked.recv() => (true, Some(waits)),
                _ = ticks.tick() => (false, None),
                () = drain.requested() => return,
            };
            // Files are read, and Kafka's properties checked by librdkafka: on a thread that may block.
            let turn = tokio::task::spawn_blocking(move || {
                let reloaded = self.turn(told, &mut seen);
                if let (Some(waits), Some(reloaded)) = (waits, reloaded) {
                    waits.answer(reloaded);
                }
                (self, seen)
            });
            match turn.await {
                Ok(next) => (self, seen) = next,
                Err(error) => return tracing::error!(%error, "the configuration is no longer watched"),
            }
        }
    }

    /// Reloads where told to, or where the files are not what was read and stand still.
    fn turn(&mut self, told: bool, seen: &mut Option<Files>) -> Option<Reloaded> {
        let now = self.files.look();
        if told || (now != self.files && seen.as_ref() == Some(&now)) {
            *seen = None;
            Some(self.reload())
        } else {
            *seen = Some(now);
            None
        }
    }

    fn reload(&mut self) -> Reloaded {
        let Attempt { outcome, files } = config::attempt(&self.path);
        self.files = files;
        let outcome = outcome.map_err(ReloadError::from).and_then(|loaded| self.apply(&loaded));
        let reloaded = outcome.as_ref().map(Vec::clone).map_err(ToString::to_string);
        self.note(outcome);
        reloaded
    }

    /// Puts into force what can be, and gives the keys that cannot.
    fn apply(&mut self, loaded: &Loaded) -> Result<Vec<String>, ReloadError> {
        // What may be refused is looked at first: a configuration is taken whole or not at all.
        let discovery = match &self.reloaders.discovery {
            None => None,
            Some(reloader) => {
                let traffic = loaded.config.discovery.as_ref().ok_or(ReloadError::NoDiscovery)?;
                reloader.check(&traffic.api)?;
                Some((reloader, &traffic.api))
            }
        };
        let gateway = match &self.reloaders.gateway {
            None => None,
            Some(reloader) => Some((reloader, loaded.config.gateway.as_ref().ok_or(ReloadError::NoGateway)?)),
        };
        if let (Some((reloader, membership)), Some(started)) = (&mut self.reloaders.log, &self.started.config.log) {
            let log = loaded.config.log.as_ref().ok_or(ReloadError::NoLog)?;
            // The file was checked with its own listeners, which may not be those that are open.
            if let Some(address) = log.intake.opens(&started.intake.listen) {
                return Err(ReloadError::Open(address.to_string()));
            }
            let routes = RouteTable::compile(log.routes.clone())?;
            let cluster = || membership.follow(&log.intake.cluster);
            reloader.reload(&log.intake.users, routes, log.intake.tls.clone(), cluster)?;
        }
        if let Some((reloader, api)) = discovery {
            reloader.reload(api);
        }
        if let Some((reloader, config)) = gateway {
            reloader.reload(config);
        }
        Ok(config::needing_restart(&self.started, loaded))
    }

    fn note(&mut self, outcome: Result<Vec<String>, ReloadError>) {
        let mut state = self.status.0.lock().unwrap_or_else(PoisonError::into_inner);
        let metrics = &self.metrics;
        match outcome {
            Ok(needs_restart) => {
                if state.loaded_at > 0 {
                    metrics.success.increment(1);
                    tracing::info!(file = %self.path.display(), "configuration reloaded");
                }
                if !needs_restart.is_empty() {
                    let keys = needs_restart.join(", ");
                    tracing::warn!(keys, "these keys changed and are left as they were: restart to bring them about");
                }
                state.loaded_at = metrics.taken();
                #[expect(clippy::cast_precision_loss, reason = "keys are far below 2^52")]
                metrics.needs_restart.set(needs_restart.len() as f64);
                (state.refused, state.needs_restart) = (None, needs_restart);
            }
            Err(error) => {
                metrics.refused();
                tracing::error!(file = %self.path.display(), %error, "configuration refused; the one before goes on");
                state.refused = Some(error.to_string());
            }
        }
    }
}

// === impl ReloadMetrics ===

impl ReloadMetrics {
    pub(super) fn register() -> Self {
        describe_counter!("tidegate_config_reloads_total", "Readings of a changed configuration, by result");
        describe_gauge!("tidegate_config_loaded_timestamp_seconds", "When the configuration that runs was read");
        describe_gauge!("tidegate_config_stale", "1 while the configuration file is refused and an older one runs");
        describe_gauge!("tidegate_config_needs_restart", "Changed keys that only a restart brings about");
        let reloads = |result: &'static str| counter!("tidegate_config_reloads_total", "result" => result);
        Self {
            success: reloads("success"),
            refused: reloads("refused"),
            loaded_at: gauge!("tidegate_config_loaded_timestamp_seconds"),
            stale: gauge!("tidegate_config_stale"),
            needs_restart: gauge!("tidegate_config_needs_restart"),
        }
    }

    /// One is in force from now on. Gives the time, in seconds of the Unix epoch.
    pub(super) fn taken(&self) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        #[expect(clippy::cast_precision_loss, reason = "seconds are far below 2^52")]
        self.loaded_at.set(now as f64);
        self.stale.set(0.0);
        now
    }

    /// As [`ReloadMetrics::taken`], of another one than the process started with.
    pub(super) fn taken_again(&self) {
        self.success.increment(1);
        self.taken();
    }

    /// One was refused.
    pub(super) fn refused(&self) {
        self.refused.increment(1);
        self.stale.set(1.0);
    }
}
