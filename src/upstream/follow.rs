//! Following the snapshot: one task turns what changed, and what health and time say, into the next table.
//!
//! All state is behind one lock that only this task, reloads and reports take; those who pick read tables.
//!
//! A pool is followed for as long as a configuration names it that requests may still go by: the present one, and each former one
//! until its [`FormerPools`] are let go.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use serde_json::Value;
use tokio::runtime::Handle;
use tokio::sync::watch;
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
    published: watch::Sender<Published>,
    state: Mutex<State>,
}

/// What requests go by.
#[derive(Clone, Debug, Default)]
pub struct Published {
    /// The snapshot's revision that the table follows from.
    pub revision: u64,
    /// The pools that are followed; another value only where others are.
    pub pools: Arc<BTreeSet<PoolId>>,
}

/// Pools of a former configuration, which requests may still go by: they are followed until this is dropped.
#[derive(Debug)]
#[must_use = "the pools that only the former configuration names are let go with this"]
pub struct FormerPools {
    shared: Arc<Shared>,
    turn: u64,
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
    zone: Option<Arc<str>>,
    /// Of the present configuration.
    present: BTreeMap<PoolId, PoolConfig>,
    /// Of those before, by their turn.
    former: BTreeMap<u64, BTreeMap<PoolId, PoolConfig>>,
    /// Counts configurations.
    turn: u64,
    /// All of these together, which are followed; what the later one says of a pool holds.
    pools: BTreeMap<PoolId, PoolConfig>,
    /// Their ids.
    followed: Arc<BTreeSet<PoolId>>,
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
            zone: config.zone,
            present: config.pools,
            former: BTreeMap::new(),
            turn: 0,
            pools: BTreeMap::new(),
            followed: Arc::default(),
            revision: None,
            base: now,
            shown: now,
            runtime: Handle::current(),
        };
        let (table, published, state) = (Arc::default(), watch::Sender::default(), Mutex::new(state));
        let shared = Arc::new(Shared { snapshot, attention, table, published, state });
        shared.change(now, |_| {});
        let task = tokio::spawn(follow(Arc::clone(&shared)));
        Self { shared, task }
    }

    /// What is to hear of each publication of the snapshot.
    pub fn listener(&self) -> Listener {
        let attention = Arc::clone(&self.shared.attention);
        Arc::new(move |_| attention.wake())
    }

    /// Puts other pools into effect, before this returns. Connections, health, and what is known of endpoints stay, and so do the
    /// pools of before, until what is given is dropped.
    pub fn reconfigure(&self, pools: BTreeMap<PoolId, PoolConfig>) -> FormerPools {
        let mut turn = 0;
        self.shared.change(Instant::now(), |state| {
            turn = state.turn;
            let before = std::mem::replace(&mut state.present, pools);
            state.former.insert(turn, before);
            state.turn += 1;
        });
        FormerPools { shared: Arc::clone(&self.shared), turn }
    }

    /// Told of each table that follows from another revision of the snapshot, or has other pools.
    pub fn published(&self) -> watch::Receiver<Published> {
        self.shared.published.subscribe()
    }

    /// Takes up what the snapshot has, before this returns: for what was published before anybody told the listener.
    pub fn catch_up(&self) {
        self.shared.turn(Instant::now());
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
        self.shared.change(Instant::now(), |state| {
            state.present.clear();
            state.former.clear();
        });
    }
}

impl Drop for FormerPools {
    fn drop(&mut self) {
        self.shared.change(Instant::now(), |state| _ = state.former.remove(&self.turn));
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

    /// Changes what is configured, and takes it over.
    fn change(&self, now: Instant, change: impl FnOnce(&mut State)) {
        let mut state = self.state();
        change(&mut state);
        let changed = state.configure(&self.attention);
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
        let now = Published { revision: table.revision, pools: Arc::clone(&state.followed) };
        self.table.store(Arc::new(table));
        self.published.send_if_modified(|before| {
            let differs = before.revision != now.revision || !Arc::ptr_eq(&before.pools, &now.pools);
            *before = now;
            differs
        });
        // Only now does nobody find what is gone: connections made from here on would not be kept.
        state.targets.forget_unused();
    }
}

// === impl State ===

impl State {
    /// Takes over what is configured; gives the pools that it changes.
    fn configure(&mut self, attention: &Arc<Attention>) -> BTreeSet<PoolKey> {
        self.pools.clear();
        for pools in self.former.values().chain([&self.present]) {
            self.pools.extend(pools.iter().map(|(id, config)| (id.clone(), config.clone())));
        }
        if !self.followed.iter().eq(self.pools.keys()) {
            self.followed = Arc::new(self.pools.keys().cloned().collect());
        }
        let mut names = HashMap::clone(&self.names);
        for id in self.pools.keys().filter(|id| !self.names.contains_key(*id)) {
            let key = PoolKey(u32::try_from(self.entries.len()).unwrap_or(u32::MAX));
            names.insert(id.clone(), key);
            let life = Life::new(id.clone(), key, self.targets.threads(), self.base, Arc::clone(attention));
            self.entries.push(Entry::new(Arc::new(life), self.base));
        }
        if names.len() != self.names.len() {
            self.names = Arc::new(names);
        }
        let mut changed = BTreeSet::new();
        for (id, key) in self.names.iter() {
            let Some(entry) = self.entries.get_mut(key.0 as usize) else { continue };
            if entry.configure(self.pools.get(id)) {
                changed.insert(*key);
            }
        }
        self.followers = self.followers();
        changed
    }

    fn followers(&self) -> HashMap<PoolId, Vec<PoolKey>> {
        let mut followers: HashMap<PoolId, Vec<PoolKey>> = HashMap::new();
        for (id, config) in &self.pools {
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
        let scene = Scene { snapshot, zone: self.zone.as_deref(), runtime: &self.runtime, now };
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
