//! `tidegate sync haproxy`: pools become servers of HAProxy's backends over its runtime socket, without a reload.
//!
//! ```text
//! View ──▶ plan: what a backend has, what it should have ──▶ commands on the socket ──▶ Acks
//!           ▲ what HAProxy has, read once a process: at the start, and after each reload or restart
//! ```
//!
//! A pool's servers go into the backend of its name (its id, with `_` for what no name has). A backend that is not there
//! is said once. HAProxy restores nothing that was added at run time: who answers is asked again and again, and another
//! process gets everything anew; its configuration should have the last known servers besides (`tidegate render`), so that
//! it never begins without. What a person does to a server by hand stays until its endpoint changes.

mod metrics;
mod plan;
mod socket;
mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::metrics::HaproxyMetrics;
use self::plan::{Step, Verdict, plan};
use self::socket::{AT_ONCE, Connection, SocketError};
use self::state::{Admin, Backends};
use crate::base::drain::Drain;
use crate::base::readiness::Gate;
use crate::net::fetch::FetchError;
use crate::pull::wire::SharedPool;
use crate::pull::{Acknowledged, Acks, Applied, Pull, PullConfig, View, name};
use crate::render::{RenderConfig, Renderer, TemplateError};

/// After a command that HAProxy refuses, it is tried again this much later.
const RETRY: Duration = Duration::from_secs(5);
/// Pools that a message names.
const NAMED: usize = 5;

/// How HAProxy is fed.
#[derive(Clone, Debug)]
pub struct HaproxyConfig {
    /// Where pools come from.
    pub pull: PullConfig,
    /// HAProxy's stats socket, of the level `admin`.
    pub socket: PathBuf,
    /// Words for each new server, as `check inter 2s`: HAProxy takes none from `default-server` for these.
    pub server_options: String,
    /// Backends of other names than their pools', by pool id. These pools must have theirs.
    pub backends: BTreeMap<String, String>,
    /// How often HAProxy is asked whether it is still the same process, and whether connections have ended.
    pub poll: Duration,
    /// Files to keep besides, where there are some; its `pull` is not used.
    pub render: Option<RenderConfig>,
}

/// Why it ended.
#[derive(Debug, thiserror::Error)]
pub enum HaproxyError {
    /// The pull client's configuration.
    #[error(transparent)]
    Pull(#[from] FetchError),
    /// A template of the files besides.
    #[error(transparent)]
    Template(#[from] TemplateError),
}

/// One HAProxy.
struct Agent {
    config: HaproxyConfig,
    view: Option<Arc<View>>,
    /// The view that was looked at last.
    seen: Option<Arc<View>>,
    /// Servers that wait for the end of their connections.
    leaving: usize,
    /// The process that `backends` is of; `None` while it is not known what HAProxy has.
    pid: Option<u32>,
    /// The process that was met last.
    process: Option<u32>,
    backends: Backends,
    /// What was put, by pool.
    applied: BTreeMap<String, SharedPool>,
    /// Pools that were here once: when they are gone, their servers go.
    known: BTreeSet<String>,
    /// What was refused, by pool, and since when it was not tried again.
    refused: BTreeMap<String, String>,
    tried: Instant,
    /// What was said last, so that it is said once.
    said: BTreeMap<&'static str, String>,
    /// Where it is said how the files besides are.
    files: Option<Acks>,
    metrics: HaproxyMetrics,
}

/// Feeds HAProxy until it is asked to end. What it has then, it keeps. `served` goes when it has its pools.
///
/// # Errors
/// The configuration does not serve.
pub async fn run(config: HaproxyConfig, served: &mut Option<Gate>, drain: Drain) -> Result<(), HaproxyError> {
    let mut renderer =
        config.render.as_ref().map(|render| Ok::<_, TemplateError>((Renderer::new(render)?, render.clone())));
    let mut renderer = renderer.take().transpose()?;
    let wants_hosts = renderer.as_ref().is_some_and(|(renderer, _)| renderer.wants_hosts());
    let mut pull = Pull::start(config.pull.clone(), wants_hosts)?;
    let mut files = pull.beside();
    let mut agent = Agent::new(config);
    agent.files = Some(files.acks.clone());
    let keep_files = async {
        match &mut renderer {
            Some((renderer, config)) => crate::render::follow(renderer, &mut files, config, &mut None).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = agent.follow(&mut pull, served) => {}
        () = keep_files => {}
        () = drain.requested() => {}
    }
    Ok(())
}

// === impl Agent ===

impl Agent {
    fn new(config: HaproxyConfig) -> Self {
        Self {
            config,
            view: None,
            seen: None,
            leaving: 0,
            pid: None,
            process: None,
            backends: Backends::new(),
            applied: BTreeMap::new(),
            known: BTreeSet::new(),
            refused: BTreeMap::new(),
            tried: Instant::now(),
            said: BTreeMap::new(),
            files: None,
            metrics: HaproxyMetrics::register(),
        }
    }

    /// Looks at every change, and at every tick.
    async fn follow(mut self, pull: &mut Pull, served: &mut Option<Gate>) {
        let mut told: Option<Option<String>> = None;
        let mut ticks = tokio::time::interval(self.config.poll);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                view = pull.next() => match view {
                    Some(view) => self.view = Some(view),
                    None => return,
                },
                _ = ticks.tick() => {}
            }
            let Some(view) = self.view.clone() else { continue };
            let (worked, trouble) = match self.round(&view).await {
                Ok(worked) => (worked, None),
                Err(error) => {
                    // What it has is not known any more.
                    self.pid = None;
                    (false, Some(error.to_string()))
                }
            };
            self.say("socket", trouble.clone());
            let error = trouble.or_else(|| self.refused.values().next().cloned()).or_else(|| self.complaint());
            if error.is_none() {
                drop(served.take());
            }
            if worked || told.as_ref() != Some(&error) {
                pull.acks.tell(Acknowledged { applied: self.serves(), error: error.clone() });
                told = Some(error);
            }
        }
    }

    /// What of the view HAProxy has.
    fn serves(&self) -> BTreeMap<String, Applied> {
        self.applied.iter().map(|(id, pool)| (id.clone(), Applied::of(pool))).collect()
    }

    /// What lacks in HAProxy's configuration and was asked for by name.
    fn complaint(&self) -> Option<String> {
        let said = self.said.get("named").or_else(|| self.said.get("collision")).cloned();
        said.or_else(|| self.files.as_ref()?.told().error)
    }

    /// One look: who answers, what is to be done, doing it. Says whether there was something to look for.
    async fn round(&mut self, view: &Arc<View>) -> Result<bool, SocketError> {
        let began = Instant::now();
        let mut connection = Connection::open(&self.config.socket).await?;
        let failed = |cause: String| SocketError { path: self.config.socket.clone(), cause };
        let info = state::info(&connection.ask("show info").await?);
        let info = info.ok_or_else(|| failed("show info says nothing of a process: is this HAProxy?".to_owned()))?;
        if info.stopping {
            return Err(failed(format!("process {} is stopping; the next one is awaited", info.pid)));
        }
        // After a refusal it is not known for sure what is there.
        let again = !self.refused.is_empty() && self.tried.elapsed() >= RETRY;
        let seen = self.seen.as_ref().is_some_and(|seen| Arc::ptr_eq(seen, view));
        if seen && self.leaving == 0 && !again && self.pid == Some(info.pid) {
            return Ok(false);
        }
        if self.pid != Some(info.pid) || again {
            let names = connection.ask("show backend").await?;
            self.backends = state::backends(&names, &connection.ask("show servers state").await?).map_err(failed)?;
            if self.process != Some(info.pid) {
                let backends = self.backends.len();
                tracing::info!(
                    pid = info.pid,
                    version = info.version,
                    backends,
                    "another HAProxy answers; its servers are compared"
                );
                self.metrics.processes.increment(1);
                self.process = Some(info.pid);
            }
            self.applied.clear();
            self.refused.clear();
            self.pid = Some(info.pid);
        }
        let steps = self.due(view);
        if !steps.is_empty() {
            self.take(&mut connection, view, steps).await?;
            self.metrics.apply.record(began.elapsed().as_secs_f64());
        }
        self.leaving = self.metrics.observe(&self.backends);
        self.seen = Some(view.clone());
        Ok(true)
    }

    /// The steps of every pool that is not as it was put, and of servers whose connections may have ended.
    fn due(&mut self, view: &View) -> Vec<(String, Step)> {
        let mut owners: BTreeMap<String, &str> = BTreeMap::new();
        let (mut lacking, mut named, mut collision) = (Vec::new(), Vec::new(), None);
        let gone: Vec<String> = self.known.iter().filter(|id| !view.pools.contains_key(*id)).cloned().collect();
        let mut steps = Vec::new();
        for id in view.pools.keys().chain(&gone) {
            let backend_name = self.backend_of(id);
            if let Some(other) = owners.insert(backend_name.clone(), id) {
                collision = Some(format!(
                    "the pools {other} and {id} would both be the backend {backend_name}: rename one of them"
                ));
                continue;
            }
            let pool = view.pools.get(id);
            let Some(backend) = self.backends.get(&backend_name) else {
                if pool.is_some() {
                    lacking.push(id.clone());
                    named.extend(self.config.backends.contains_key(id).then(|| backend_name.clone()));
                }
                continue;
            };
            let same = match (pool, self.applied.get(id)) {
                (Some(pool), Some(applied)) => Arc::ptr_eq(pool, applied) || pool == applied,
                (None, applied) => applied.is_none(),
                (Some(_), None) => false,
            };
            // One in maintenance may wait for the end of its connections.
            let waiting = || backend.servers.values().any(|it| it.state == Admin::Maint);
            if self.refused.contains_key(id) || (same && !waiting()) {
                continue;
            }
            let options = &self.config.server_options;
            let checks = options.split_ascii_whitespace().any(|word| word == "check");
            let plan = plan(&backend_name, backend, pool.map(|pool| &**pool), options, checks);
            if plan.is_empty() {
                match pool {
                    Some(pool) => drop(self.applied.insert(id.clone(), pool.clone())),
                    None => drop((self.applied.remove(id), self.known.remove(id))),
                }
            }
            self.known.extend(pool.map(|_| id.clone()));
            steps.extend(plan.into_iter().map(|step| (id.clone(), step)));
        }
        self.say_lacking(&lacking, &named, collision);
        steps
    }

    fn backend_of(&self, id: &str) -> String {
        self.config.backends.get(id).cloned().unwrap_or_else(|| name(id))
    }

    /// Says once which backends HAProxy's configuration lacks. Only those that were named are an error: an HAProxy need not
    /// have all pools.
    fn say_lacking(&mut self, lacking: &[String], named: &[String], collision: Option<String>) {
        let first = |list: &[String]| {
            let more = list.len().saturating_sub(NAMED);
            let first = list.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
            if more > 0 { format!("{first} and {more} more") } else { first }
        };
        let text = |list: &[String], what: &str| (!list.is_empty()).then(|| format!("{what} {}", first(list)));
        let note = text(lacking, "HAProxy's configuration has no backend for the pools");
        if self.said.get("lacking") != note.as_ref() {
            if let Some(note) = &note {
                tracing::info!(note, "these are left out; a backend is named as its pool, with _ for / and :");
            }
            match note {
                Some(note) => drop(self.said.insert("lacking", note)),
                None => drop(self.said.remove("lacking")),
            }
        }
        self.say("named", text(named, "HAProxy's configuration lacks the backend"));
        self.say("collision", collision);
    }

    fn say(&mut self, what: &'static str, text: Option<String>) {
        match text {
            Some(text) if self.said.get(what) != Some(&text) => {
                tracing::warn!(text, "HAProxy cannot be given everything");
                self.said.insert(what, text);
            }
            Some(_) => {}
            None => {
                if self.said.remove(what).is_some() {
                    tracing::info!(what, "this is over");
                }
            }
        }
    }

    async fn take(
        &mut self,
        connection: &mut Connection,
        view: &View,
        steps: Vec<(String, Step)>,
    ) -> Result<(), SocketError> {
        for part in steps.chunks(AT_ONCE) {
            let commands: Vec<String> = part.iter().map(|(_, step)| step.command()).collect();
            let answers = connection.ask_all(&commands).await?;
            for ((id, step), answer) in part.iter().zip(answers) {
                let verdict = step.verdict(&answer);
                self.metrics.count(verdict);
                match verdict {
                    Verdict::Done => {
                        if let Some(backend) = self.backends.get_mut(&step.backend) {
                            step.done(backend);
                        }
                    }
                    Verdict::Busy => {}
                    Verdict::Refused => {
                        let why = format!("{}: {}: {answer}", id, step.command());
                        if self.refused.is_empty() {
                            tracing::error!(why, "HAProxy refuses a command; it is tried again");
                        }
                        self.tried = Instant::now();
                        self.refused.entry(id.clone()).or_insert(why);
                    }
                }
            }
        }
        let ids: BTreeSet<&String> = steps.iter().map(|(id, _)| id).collect();
        for id in ids.into_iter().filter(|id| !self.refused.contains_key(*id)) {
            match view.pools.get(id) {
                Some(pool) => drop(self.applied.insert(id.clone(), pool.clone())),
                None => drop(self.applied.remove(id)),
            }
        }
        Ok(())
    }
}
