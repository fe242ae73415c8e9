//! What all workers share: the policy that holds, limits, budget, counters, and the register of connections.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;

use super::client::{Client, ClientLine, ClientLines, ServerFacts, Totals};
use super::commands::scripts::Scripts;
use super::config::{IntakeConfig, Limits};
use super::live::Hub;
use super::logins::FailedLogins;
use super::metrics::IntakeMetrics;
use super::policy::Policy;
use super::whose::Surroundings;
use crate::base::budget::Budget;
use crate::record::lag::Lengths;

/// How much half-read frames may take where the budget is used up, in bytes.
const RESERVE: usize = 16 << 20;

/// Shared by the listeners and all workers.
pub(super) struct Shared {
    /// Limits of a session and of all.
    pub limits: Limits,
    /// Who may connect and where records go. Workers take it once a turn.
    pub policy: ArcSwap<Policy>,
    /// Bytes that are not acknowledged yet.
    pub budget: Budget,
    /// Bytes of half-read frames beyond the budget.
    pub reserve: Budget,
    /// What surrounds the process.
    pub surroundings: Surroundings,
    /// Who failed to log in of late.
    pub logins: FailedLogins,
    /// Who follows records live.
    pub hub: Arc<Hub>,
    /// Metrics of the stage.
    pub metrics: IntakeMetrics,
    /// Counters for INFO.
    pub counters: Counters,
    scripts: Scripts,
    run_id: String,
    tcp_port: u16,
    started_at: SystemTime,
    started: Instant,
    next_client: AtomicU64,
    stopping: AtomicBool,
    clients: Mutex<BTreeMap<u64, String>>,
}

/// Counters since the start, added to by workers once a turn.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) connections: AtomicU64,
    pub(super) connections_rejected: AtomicU64,
    pub(super) connected: AtomicU64,
    pub(super) commands: AtomicU64,
    pub(super) bytes_in: AtomicU64,
    pub(super) bytes_out: AtomicU64,
    pub(super) received: AtomicU64,
    pub(super) acknowledged: AtomicU64,
    pub(super) refused: AtomicU64,
}

// === impl Shared ===

impl Shared {
    /// State for one start of the plane. `tcp_port` is what INFO tells.
    pub(super) fn new(
        config: &IntakeConfig,
        policy: Policy,
        budget: Budget,
        surroundings: Surroundings,
        tcp_port: u16,
    ) -> Self {
        let started_at = SystemTime::now();
        let metrics = IntakeMetrics::register();
        metrics.certificate(policy.tls.as_ref());
        Self {
            limits: config.limits.clone(),
            scripts: Scripts::default(),
            policy: ArcSwap::new(Arc::new(policy)),
            budget,
            reserve: Budget::new(RESERVE),
            surroundings,
            logins: FailedLogins::default(),
            hub: Arc::default(),
            metrics,
            counters: Counters::default(),
            run_id: run_id(started_at),
            tcp_port,
            started_at,
            started: Instant::now(),
            next_client: AtomicU64::new(1),
            stopping: AtomicBool::new(false),
            clients: Mutex::default(),
        }
    }

    pub(super) fn next_client_id(&self) -> u64 {
        self.next_client.fetch_add(1, Ordering::Relaxed)
    }

    /// Milliseconds since the start.
    pub(super) fn millis(&self, now: Instant) -> u64 {
        u64::try_from(now.duration_since(self.started).as_millis()).unwrap_or(u64::MAX)
    }

    /// Nanoseconds since the start.
    pub(super) fn nanos(&self, now: Instant) -> u64 {
        u64::try_from(now.duration_since(self.started).as_nanos()).unwrap_or(u64::MAX)
    }

    /// A connection is gone; `load` counts those of its worker.
    pub(super) fn left(&self, load: &AtomicU64) {
        load.fetch_sub(1, Ordering::Relaxed);
        self.counters.connected.fetch_sub(1, Ordering::Relaxed);
        self.metrics.connected.decrement(1.0);
    }

    /// Tells workers to finish.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Connections now.
    pub(super) fn connected(&self) -> u64 {
        self.counters.connected.load(Ordering::Relaxed)
    }

    /// Keeps a connection's line for CLIENT LIST up to date.
    pub(super) fn enlist(&self, client: &Client) {
        let line = client.line(unix_micros(SystemTime::now()) / 1000);
        self.clients.lock().unwrap_or_else(PoisonError::into_inner).insert(client.id, line);
    }

    pub(super) fn strike_off(&self, id: u64) {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }

    /// What INFO and its kin tell.
    pub(super) fn facts<'a>(&'a self, policy: &'a Policy) -> ServerFacts<'a> {
        ServerFacts {
            run_id: &self.run_id,
            tcp_port: self.tcp_port,
            process_id: std::process::id(),
            started_at_ms: unix_micros(self.started_at) / 1000,
            now_us: unix_micros(SystemTime::now()),
            limits: &self.limits,
            used_memory: self.budget.used(),
            connected_clients: self.connected(),
            totals: self.counters.totals(),
            users: &policy.users,
            cluster: &policy.cluster,
            lengths: self.surroundings.lags.as_deref().map(|lags| Lengths {
                routes: &policy.routes,
                lags,
                now: Instant::now(),
            }),
            scripts: &self.scripts,
            hub: &self.hub,
            clients: self,
        }
    }
}

impl ClientLines for Shared {
    fn lines(&self) -> Vec<ClientLine> {
        let clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        clients.iter().map(|(&id, line)| ClientLine { id, line: line.clone() }).collect()
    }
}

// === impl Counters ===

impl Counters {
    fn totals(&self) -> Totals {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (received, acknowledged, refused) = (get(&self.received), get(&self.acknowledged), get(&self.refused));
        Totals {
            connections: get(&self.connections),
            connections_rejected: get(&self.connections_rejected),
            commands: get(&self.commands),
            bytes_in: get(&self.bytes_in),
            bytes_out: get(&self.bytes_out),
            records_received: received,
            records_acknowledged: acknowledged,
            records_refused: refused,
            records_in_flight: received.saturating_sub(acknowledged + refused),
        }
    }
}

/// Unix microseconds.
pub(super) fn unix_micros(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// Forty hexadecimal digits that differ at every start, as in Redis.
fn run_id(started_at: SystemTime) -> String {
    use std::hash::{BuildHasher, RandomState};
    let mut id: String = (0_u64..3).map(|n| format!("{:016x}", RandomState::new().hash_one((n, started_at)))).collect();
    id.truncate(40);
    id
}
