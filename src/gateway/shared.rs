//! What all threads of the gateway share.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::access_log::{AccessLog, Asked, Outcome};
use super::config::Policy;
use super::metrics::GatewayMetrics;
use super::route::RouteTable;
use crate::upstream::Reader;

/// One for the process.
#[derive(Debug)]
pub(super) struct Shared {
    active: ArcSwap<Active>,
    pub(super) metrics: GatewayMetrics,
    pub(super) upstreams: Reader,
    access: Option<Access>,
    connections: AtomicUsize,
    started: Instant,
}

/// One connection's place among those that may be open.
#[derive(Debug)]
pub(super) struct Place(Arc<Shared>);

/// What holds now; replaced in whole by a reload.
#[derive(Debug)]
pub(super) struct Active {
    /// Without its routes.
    pub(super) policy: Policy,
    pub(super) routes: RouteTable,
    /// Closed when nobody goes by this any more.
    held: watch::Sender<()>,
}

#[derive(Debug)]
struct Access {
    log: AccessLog,
    failures_only: bool,
}

// === impl Shared ===

impl Shared {
    pub(super) fn new(policy: Policy, upstreams: Reader, access: Option<(AccessLog, bool)>) -> Self {
        let access = access.map(|(log, failures_only)| Access { log, failures_only });
        let active = ArcSwap::from_pointee(Active::new(policy, None));
        Self {
            active,
            metrics: GatewayMetrics::register(),
            upstreams,
            access,
            connections: AtomicUsize::new(0),
            started: Instant::now(),
        }
    }

    /// What holds now. A request reads it once.
    pub(super) fn active(&self) -> Arc<Active> {
        self.active.load_full()
    }

    /// Replaces what holds; requests under way go on with what they have. The future ends with the last of them.
    pub(super) fn reload(&self, policy: Policy) -> impl Future<Output = ()> + Send + 'static {
        let before = self.active.load_full();
        self.active.store(Arc::new(Active::new(policy, Some(&before.routes))));
        let mut held = before.held.subscribe();
        async move { while held.changed().await.is_ok() {} }
    }

    /// Whether there is an access log.
    pub(super) fn logs(&self) -> bool {
        self.access.is_some()
    }

    pub(super) fn log(&self, asked: &Asked, outcome: &Outcome<'_>) {
        let Some(access) = &self.access else { return };
        if access.failures_only && outcome.reason.is_none() {
            return;
        }
        let counter = if access.log.put(asked, outcome) { &self.metrics.logged } else { &self.metrics.log_dropped };
        counter.increment(1);
    }

    /// A place for a connection, unless `most` are open.
    pub(super) fn place(self: &Arc<Self>, most: usize) -> Option<Place> {
        if self.connections.fetch_add(1, Ordering::Relaxed) >= most {
            self.connections.fetch_sub(1, Ordering::Relaxed);
            self.metrics.refused.increment(1);
            return None;
        }
        self.metrics.accepted.increment(1);
        self.metrics.connections.increment(1.0);
        Some(Place(self.clone()))
    }

    /// Connections that are open.
    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Nanoseconds since the start.
    pub(super) fn nanos(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.started).as_nanos()).unwrap_or(u64::MAX)
    }
}

// === impl Place ===

impl Drop for Place {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
        self.0.metrics.connections.decrement(1.0);
    }
}

// === impl Active ===

impl Active {
    fn new(mut policy: Policy, before: Option<&RouteTable>) -> Self {
        let routes = RouteTable::new(std::mem::take(&mut policy.routes), before);
        Self { policy, routes, held: watch::Sender::new(()) }
    }
}
