//! Circuit limits of a pool, and its retry budget: counts that all threads share, read and written by each in a stripe of
//! its own as far as every request has to.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use tokio::sync::Notify;

use super::adaptive::AdaptiveLimit;
use super::config::{Limits, RetryBudget};

/// What is in use of a pool.
#[derive(Debug)]
pub(super) struct Usage {
    stripes: Box<[Stripe]>,
    retries: AtomicU32,
    connections: AtomicU32,
    pending: AtomicU32,
    pub(super) adaptive: AdaptiveLimit,
    /// Told whenever a connection becomes idle or is closed while somebody waits for one.
    released: Notify,
}

/// One thread's part, on cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Stripe {
    requests: AtomicU32,
    turn: AtomicU64,
}

/// Room for one retry; held while it is under way.
#[derive(Debug)]
pub struct RetryPermit(Arc<Usage>);

/// Room for one connection; held as long as it is open.
#[derive(Debug)]
pub(super) struct ConnectionPermit(Arc<Usage>);

/// A place among those who wait for a connection.
#[derive(Debug)]
pub(super) struct Waiting(Arc<Usage>);

// === impl Usage ===

impl Usage {
    pub(super) fn new(threads: usize) -> Self {
        Self {
            stripes: (0..threads.max(1)).map(|_| Stripe::default()).collect(),
            retries: AtomicU32::new(0),
            connections: AtomicU32::new(0),
            pending: AtomicU32::new(0),
            adaptive: AdaptiveLimit::default(),
            released: Notify::new(),
        }
    }

    #[inline]
    fn stripe(&self, thread: usize) -> Option<&Stripe> {
        self.stripes.get(thread).or_else(|| self.stripes.first())
    }

    /// Counts a request of a thread, unless there are as many as may be.
    #[inline]
    pub(super) fn begin(&self, thread: usize, limits: &Limits) -> bool {
        let adaptive = limits.adaptive.as_ref().map(|config| self.adaptive.get(config));
        let most = limits.max_requests.into_iter().chain(adaptive).min();
        if most.is_some_and(|most| self.requests() >= most) {
            return false;
        }
        if let Some(stripe) = self.stripe(thread) {
            stripe.requests.fetch_add(1, Ordering::Relaxed);
        }
        true
    }

    #[inline]
    pub(super) fn end(&self, thread: usize) {
        if let Some(stripe) = self.stripe(thread) {
            stripe.requests.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// A number that is one more each time that this thread asks. Threads begin apart, so that they do not go round in
    /// step.
    #[inline]
    pub(super) fn turn(&self, thread: usize) -> u64 {
        let apart = (thread as u64).wrapping_mul(super::random::GOLDEN) >> 32;
        self.stripe(thread).map_or(0, |stripe| stripe.turn.fetch_add(1, Ordering::Relaxed)).wrapping_add(apart)
    }

    /// Requests in flight.
    pub(super) fn requests(&self) -> u32 {
        self.stripes.iter().fold(0, |sum, stripe| sum.wrapping_add(stripe.requests.load(Ordering::Relaxed)))
    }

    /// Retries in flight.
    pub(super) fn retries(&self) -> u32 {
        self.retries.load(Ordering::Relaxed)
    }

    /// Connections that are open.
    pub(super) fn connections(&self) -> u32 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Requests that wait for a connection.
    pub(super) fn pending(&self) -> u32 {
        self.pending.load(Ordering::Relaxed)
    }

    pub(super) fn retry(self: &Arc<Self>, limits: &Limits, budget: &RetryBudget) -> Option<RetryPermit> {
        let part = u64::from(self.requests()) * u64::from(budget.percent) / 100;
        let most = u32::try_from(part).unwrap_or(u32::MAX).max(budget.min_concurrent);
        let most = limits.max_retries.map_or(most, |limit| limit.min(most));
        take(&self.retries, most).then(|| RetryPermit(Arc::clone(self)))
    }

    pub(super) fn connect(self: &Arc<Self>, limits: &Limits) -> Option<ConnectionPermit> {
        let most = limits.max_connections.unwrap_or(u32::MAX);
        take(&self.connections, most).then(|| ConnectionPermit(Arc::clone(self)))
    }

    pub(super) fn wait(self: &Arc<Self>, limits: &Limits) -> Option<Waiting> {
        take(&self.pending, limits.max_pending).then(|| Waiting(Arc::clone(self)))
    }

    /// A connection has become idle.
    #[inline]
    pub(super) fn became_idle(&self) {
        if self.pending.load(Ordering::Relaxed) > 0 {
            self.released.notify_one();
        }
    }
}

/// One more, unless there are `most`.
fn take(count: &AtomicU32, most: u32) -> bool {
    let one_more = |now: u32| (now < most).then(|| now + 1);
    count.fetch_update(Ordering::AcqRel, Ordering::Relaxed, one_more).is_ok()
}

// === impl Waiting ===

impl Waiting {
    /// Returns once a connection may be had; whoever looks may find that another was faster.
    pub(super) async fn released(&self) {
        self.0.released.notified().await;
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.pending.fetch_sub(1, Ordering::AcqRel);
        // What this one was told may have been meant for the next, which costs it a look.
        self.0.became_idle();
    }
}

impl Drop for RetryPermit {
    fn drop(&mut self) {
        self.0.retries.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::AcqRel);
        self.0.became_idle();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::upstream::config::Adaptive;

    #[test]
    fn requests_are_counted_over_all_threads_and_refused_above_the_limit() {
        let usage = Usage::new(2);
        let limits = Limits { max_requests: Some(3), ..Limits::default() };
        assert_eq!([0, 1, 0, 1].map(|thread| usage.begin(thread, &limits)), [true, true, true, false]);
        usage.end(1);
        assert!(usage.begin(1, &limits));
        assert_eq!(usage.requests(), 3);
    }

    #[test]
    fn of_a_limit_that_is_given_and_one_that_finds_itself_the_lower_counts() {
        let adaptive = |max| Some(Adaptive { min: 1, max, latency: Duration::from_secs(1) });
        for (max_requests, max) in [(2, 9), (9, 2)] {
            let limits = Limits { max_requests: Some(max_requests), adaptive: adaptive(max), ..Limits::default() };
            let usage = Usage::new(1);
            assert_eq!((0..5).filter(|_| usage.begin(0, &limits)).count(), 2, "{limits:?}");
        }
    }

    #[test]
    fn retries_are_a_part_of_the_requests_and_some_are_always_free() {
        let usage = Arc::new(Usage::new(1));
        let (limits, budget) = (Limits::default(), RetryBudget { percent: 20, min_concurrent: 2 });
        let few: Vec<_> = (0..5).filter_map(|_| usage.retry(&limits, &budget)).collect();
        assert_eq!(few.len(), 2);
        drop(few);
        (0..100).for_each(|_| assert!(usage.begin(0, &limits)));
        let many: Vec<_> = (0..50).filter_map(|_| usage.retry(&limits, &budget)).collect();
        assert_eq!(many.len(), 20);
        let capped = Limits { max_retries: Some(20), ..limits };
        assert!(usage.retry(&capped, &RetryBudget { percent: 100, ..budget }).is_none());
        drop(many);
        assert_eq!(usage.retries(), 0);
    }

    #[test]
    fn connections_are_limited_and_a_closed_one_makes_room() {
        let usage = Arc::new(Usage::new(1));
        let limits = Limits { max_connections: Some(1), max_pending: 1, ..Limits::default() };
        let one = usage.connect(&limits).unwrap();
        assert!(usage.connect(&limits).is_none());
        let waiting = usage.wait(&limits).unwrap();
        assert!(usage.wait(&limits).is_none(), "no more than so many wait");
        drop(one);
        assert!(usage.connect(&limits).is_some());
        drop(waiting);
        assert_eq!((usage.pending(), usage.connections()), (0, 0));
    }

    #[tokio::test]
    async fn whoever_waits_is_told_of_a_connection_that_is_free() {
        let usage = Arc::new(Usage::new(1));
        let limits = Limits { max_connections: Some(1), ..Limits::default() };
        let held = usage.connect(&limits).unwrap();
        let waiting = usage.wait(&limits).unwrap();
        drop(held);
        waiting.released().await;
        assert!(usage.connect(&limits).is_some());
    }

    #[test]
    fn each_thread_has_turns_of_its_own() {
        let usage = Usage::new(2);
        let (first, other) = (usage.turn(0), usage.turn(1));
        assert_eq!((usage.turn(0), usage.turn(1)), (first + 1, other + 1));
        assert_ne!(first, other);
    }
}
