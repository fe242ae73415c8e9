//! What is known of one pool, for as long as it is configured: it outlives every table and every configuration.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Instant;

use tokio::sync::Notify;

use super::config::{OutlierConfig, PoolConfig};
use super::connection::Target;
use super::host::{Host, Out};
use super::limits::Usage;
use super::metrics::PoolMetrics;
use super::outlier::{Cause, most_ejected};
use super::table::PoolKey;
use crate::endpoints::pool::{Endpoint, PoolId};

/// A pool's life.
#[derive(Debug)]
pub(super) struct Life {
    pub(super) id: PoolId,
    key: PoolKey,
    pub(super) usage: Arc<Usage>,
    pub(super) metrics: PoolMetrics,
    /// From when milliseconds are counted.
    base: Instant,
    /// How many endpoints are ejected; held while one goes out, so that no more do than may.
    ejected: Mutex<usize>,
    /// How many endpoints could be.
    ready: AtomicUsize,
    /// Where idle connections may be closed to make room; known only where connections are limited.
    targets: Mutex<Vec<Weak<Target>>>,
    attention: Arc<Attention>,
}

/// A pool's life under one configuration.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) config: PoolConfig,
    pub(super) life: Arc<Life>,
}

/// An endpoint in one table.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) endpoint: Endpoint,
    pub(super) host: Arc<Host>,
    pub(super) context: Arc<Context>,
    /// It is spoken to in HTTP/2.
    pub(super) http2: bool,
}

/// Pools whose tables are to be made again, for whoever follows them.
#[derive(Debug, Default)]
pub(super) struct Attention {
    pools: Mutex<BTreeSet<PoolKey>>,
    called: Notify,
}

// === impl Life ===

impl Life {
    pub(super) fn new(id: PoolId, key: PoolKey, threads: usize, base: Instant, attention: Arc<Attention>) -> Self {
        let metrics = PoolMetrics::register(&id);
        let usage = Arc::new(Usage::new(threads));
        let (ejected, ready, targets) = (Mutex::new(0), AtomicUsize::new(0), Mutex::default());
        Self { id, key, usage, metrics, base, ejected, ready, targets, attention }
    }

    /// Milliseconds since the process knew its upstreams.
    #[inline]
    pub(super) fn milliseconds(&self, at: Instant) -> u64 {
        super::outlier::milliseconds(at.saturating_duration_since(self.base))
    }

    /// The time of so many milliseconds.
    pub(super) fn instant(&self, milliseconds: u64) -> Instant {
        self.base + std::time::Duration::from_millis(milliseconds)
    }

    /// Asks for the pool's table to be made again.
    pub(super) fn call(&self) {
        self.attention.call(self.key);
    }

    /// Names the endpoints whose idle connections may be closed to make room.
    pub(super) fn set_targets(&self, targets: Vec<Weak<Target>>) {
        *self.targets.lock().unwrap_or_else(PoisonError::into_inner) = targets;
    }

    /// Closes an idle connection to any endpoint; says whether there was one.
    pub(super) fn close_one_idle(&self) -> bool {
        let targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner).clone();
        targets.iter().filter_map(Weak::upgrade).any(|target| target.close_one_idle())
    }

    /// Takes an endpoint out for its answers, unless too many are.
    pub(super) fn eject(&self, host: &Host, cause: Cause, config: &OutlierConfig, now: Instant) {
        let mut ejected = self.ejected.lock().unwrap_or_else(PoisonError::into_inner);
        if host.is_out_for(Out::Ejected) {
            return;
        }
        if *ejected >= most_ejected(self.ready.load(Ordering::Relaxed), config) {
            self.metrics.spared(cause);
            return;
        }
        *ejected += 1;
        let lasts = host.tally.eject(cause, config, self.milliseconds(now));
        host.set_out(Out::Ejected, true);
        drop(ejected);
        self.metrics.ejected(cause);
        tracing::warn!(
            pool = %self.id, endpoint = %host.target.address(), cause = cause.name(), seconds = lasts.as_secs(),
            "an endpoint is ejected"
        );
        self.call();
    }

    /// Takes back the ejections of these endpoints that are over, all of the pool, and counts the others.
    pub(super) fn end_ejections<'a>(&self, hosts: impl Iterator<Item = &'a Arc<Host>>, ready: usize, now: Instant) {
        let mut ejected = self.ejected.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.milliseconds(now);
        *ejected = 0;
        for host in hosts.filter(|host| host.is_out_for(Out::Ejected)) {
            if host.tally.ejected_until().is_some_and(|until| until > now) {
                *ejected += 1;
                continue;
            }
            host.tally.take_back();
            host.set_out(Out::Ejected, false);
            tracing::info!(pool = %self.id, endpoint = %host.target.address(), "an ejection is over");
        }
        self.ready.store(ready, Ordering::Relaxed);
    }
}

// === impl Attention ===

impl Attention {
    /// Wakes the follower for a pool.
    pub(super) fn call(&self, pool: PoolKey) {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner).insert(pool);
        self.called.notify_one();
    }

    /// Wakes the follower for whatever changed elsewhere.
    pub(super) fn wake(&self) {
        self.called.notify_one();
    }

    pub(super) async fn called(&self) {
        self.called.notified().await;
    }

    pub(super) fn take(&self) -> BTreeSet<PoolKey> {
        std::mem::take(&mut self.pools.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
