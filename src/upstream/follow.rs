//! Following the snapshot: one task turns what changed, and what health and time say, into the next table.
//!
//! All state is behind one lock that only this task, reloads and reports take; those who pick read tables.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use serde_json::Value;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::config::{PoolConfig, UpstreamsConfig};
use super::entry::{Entry, Scene};
use super::life::{Attention, Life};
use super::report;
use super::table::{PoolKey, Reader, Table};
use super::targets::Targets;
use crate::endpoints::pool::PoolId;
use crate::endpoints::{Listener, Snapshot};

/// How often usage is shown as metrics, and what is due is looked for.
const LOOK: Duration = Duration::from_secs(1);

/// The pools that requests go to, kept as the snapshot says. Following ends when it is dropped.
#[derive(Debug)]
pub struct Upstreams {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    snapshot: Arc<ArcSwap<Snapshot>>,
    attention: Arc<Attention>,
    table: Arc<ArcSwap<Table>>,
    state: Mutex<State>,
}

/// What the tables are made of.
#[derive(Debug)]
struct State {
    /// By key.
    entries: Vec<Entry>,
    names: Arc<HashMap<PoolId, PoolKey>>,
    /// Which pools are made of each pool of the snapshot.
    followers: HashMap<PoolId, Vec<PoolKey>>,
    targets: Targets,
    config: UpstreamsConfig,
    /// The snapshot's revision that the table follows from; `None` before the first.
    revision: Option<u64>,
    base: Instant,
    shown: Instant,
    runtime: Handle,
}

// === impl Upstreams ===

impl Upstreams {
    /// Makes the first table of what the snapshot has, and follows it from then on, on this runtime; health is checked
    /// there, too.
    pub fn start(config: UpstreamsConfig, snapshot: Arc<ArcSwap<Snapshot>>) -> Self {
        let attention = Arc::new(Attention::default());
        let now = Instant::now();
        let state = State {
            entries: Vec::new(),
            names: Arc::default(),
            followers: HashMap::new(),
            targets: Targets::new(config.threads),
            config: UpstreamsConfig::default(),
            revision: None,
            base: now,
            shown: now,
            runtime: Handle::current(),
        };
        let shared = Arc::new(Shared { snapshot, attention, table: Arc::default(), state: Mutex::new(state) });
        shared.configure(config, now);
        let task = tokio::spawn(follow(Arc::clone(&shared)));
        Self { shared, task }
    }

    /// What is to hear of each publication of the snapshot.
    pub fn listener(&self) -> Listener {
        let attention = Arc::clone(&self.shared.attention);
        Arc::new(move |_| attention.wake())
    }

    /// Puts another configuration into effect, before this returns. Connections, health, and what is known of endpoints
    /// stay; the number of threads does, too.
    pub fn reconfigure(&self, config: UpstreamsConfig) {
        self.shared.configure(config, Instant::now());
    }

    /// The way to the table of now.
    pub fn reader(&self) -> Reader {
        Reader(Arc::clone(&self.shared.table))
    }

    /// What is thought of every pool and endpoint, for people.
    pub fn report(&self) -> Value {
        report::report(&self.shared.table.load(), &self.shared.snapshot.load(), Instant::now())
    }
}

impl Drop for Upstreams {
    fn drop(&mut self) {
        self.task.abort();
        // Checks end with their endpoints.
        self.shared.configure(UpstreamsConfig::default(), Instant::now());
    }
}

async fn follow(shared: Arc<Shared>) {
    loop {
        let wake = shared.state().next_wake(Instant::now());
        tokio::select! {
            () = shared.attention.called() => {}
            () = tokio::time::sleep_until(wake.into()) => {}
        }
        shared.turn(Instant::now());
    }
}

// === impl Shared ===

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn configure(&self, config: UpstreamsConfig, now: Instant) {
        let mut state = self.state();
        let changed = state.configure(config, &self.attention);
        self.publish(&mut state, changed, now);
    }

    /// Looks at everything that may have changed.
    fn turn(&self, now: Instant) {
        let mut state = self.state();
        let mut changed = self.attention.take();
        changed.extend(state.due(now));
        self.publish(&mut state, changed, now);
        state.show(now);
    }

    /// Makes the tables of these pools anew, and those of what changed in the snapshot, and swaps them in.
    fn publish(&self, state: &mut State, mut changed: BTreeSet<PoolKey>, now: Instant) {
        let snapshot = self.snapshot.load();
        changed.extend(state.changed_in(&snapshot));
        let before = self.table.load();
        if changed.is_empty() && before.revision == snapshot.revision() && Arc::ptr_eq(&before.names, &state.names) {
            return;
        }
        let mut table = Table::clone(&before);
        (table.revision, table.names) = (snapshot.revision(), Arc::clone(&state.names));
        for key in changed {
            let Some(pool) = state.rebuild(key, &snapshot, now) else { continue };
            let at = key.0 as usize;
            // Keys are given in order, and each one's first table is made when it is given.
            if at < table.pools.len() { _ = table.pools.set(at, pool) } else { table.pools.push_back(pool) }
        }
        self.table.store(Arc::new(table));
        // Only now does nobody find what is gone: connections made from here on would not be kept.
        state.targets.forget_unused();
    }
}

// === impl State ===

impl State {
    /// Takes a configuration over; gives the pools that it changes.
    fn configure(&mut self, config: UpstreamsConfig, attention: &Arc<Attention>) -> BTreeSet<PoolKey> {
        let mut names = HashMap::clone(&self.names);
        for id in config.pools.keys().filter(|id| !self.names.contains_key(*id)) {
            let key = PoolKey(u32::try_from(self.entries.len()).unwrap_or(u32::MAX));
            names.insert(id.clone(), key);
            let life = Life::new(id.clone(), key, self.targets.threads(), self.base, Arc::clone(attention));
            self.entries.push(Entry::new(Arc::new(life), self.base));
        }
        if names.len() != self.names.len() {
            self.names = Arc::new(names);
        }
        let zone_changed = config.zone != self.config.zone;
        let mut changed = BTreeSet::new();
        for (id, key) in self.names.iter() {
            let Some(entry) = self.entries.get_mut(key.0 as usize) else { continue };
            if entry.configure(config.pools.get(id)) || zone_changed {
                changed.insert(*key);
            }
        }
        self.config = config;
        self.followers = self.followers();
        changed
    }

    fn followers(&self) -> HashMap<PoolId, Vec<PoolKey>> {
        let mut followers: HashMap<PoolId, Vec<PoolKey>> = HashMap::new();
        for (id, config) in &self.config.pools {
            let Some(key) = self.names.get(id) else { continue };
            for source in sources(id, config) {
                followers.entry(source.clone()).or_default().push(*key);
            }
        }
        followers
    }

    /// The pools that changed in the snapshot since the last look.
    fn changed_in(&mut self, snapshot: &Snapshot) -> BTreeSet<PoolKey> {
        let since = self.revision.replace(snapshot.revision());
        let Some(changes) = since.and_then(|since| snapshot.changes_since(since)) else {
            return self.names.values().copied().collect();
        };
        let changed = changes.changed.iter().map(|pool| &pool.id).chain(&changes.removed);
        changed.filter_map(|id| self.followers.get(id)).flatten().copied().collect()
    }

    fn rebuild(&mut self, key: PoolKey, snapshot: &Snapshot, now: Instant) -> Option<Arc<super::Pool>> {
        let entry = self.entries.get_mut(key.0 as usize)?;
        let scene = Scene { snapshot, zone: self.config.zone.as_deref(), runtime: &self.runtime, now };
        Some(entry.rebuild(&scene, &mut self.targets))
    }

    /// The pools for which time has brought a change.
    fn due(&mut self, now: Instant) -> BTreeSet<PoolKey> {
        let due = |(at, entry): (u32, &mut Entry)| entry.is_due(now).then_some(PoolKey(at));
        (0..).zip(&mut self.entries).filter_map(due).collect()
    }

    fn next_wake(&self, now: Instant) -> Instant {
        let look = now + LOOK;
        self.entries.iter().filter_map(Entry::next).fold(look, Instant::min)
    }

    fn show(&mut self, now: Instant) {
        if now >= self.shown + LOOK {
            self.shown = now;
            self.entries.iter().for_each(Entry::show);
        }
    }
}

/// The pools of the snapshot that a pool is made of.
fn sources<'a>(id: &'a PoolId, config: &'a PoolConfig) -> Vec<&'a PoolId> {
    if config.members.is_empty() { vec![id] } else { config.members.iter().map(|member| &member.pool).collect() }
}
