//! Rate limits of routes: so many records a second, and a burst beyond. Shared by all workers, without a lock on the way
//! of a record.
//!
//! A bucket is the generic cell rate algorithm: one number, the time at which it would be full again if nothing more came.
//! Each record moves it on by the interval that a record has; what would move it further ahead of now than the burst
//! lasts is over the limit. Time is in nanoseconds since the plane's start and comes in as an argument.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::net::listener::host;
use crate::record::config::{RateLimit, RatePer};

/// Client addresses of one route that have a bucket of their own; those beyond share one.
const CLIENTS: usize = 16 << 10;

/// The limit of one route.
#[derive(Debug)]
pub(super) struct RouteLimit {
    config: RateLimit,
    /// The route's bucket, or the one that clients beyond the table share.
    common: Arc<Bucket>,
    clients: Mutex<HashMap<IpAddr, Arc<Bucket>>>,
}

/// A token bucket.
#[derive(Debug)]
pub(super) struct Bucket {
    per_second: u64,
    /// What the burst lasts, in nanoseconds.
    burst: u64,
    full_at: AtomicU64,
}

// === impl RouteLimit ===

impl RouteLimit {
    pub(super) fn new(config: RateLimit) -> Self {
        Self { common: Arc::new(Bucket::new(&config)), clients: Mutex::default(), config }
    }

    /// What was configured.
    pub(super) fn config(&self) -> &RateLimit {
        &self.config
    }

    /// The bucket that records from this peer (`host:port`, or a Unix socket's path) are taken from.
    pub(super) fn bucket(&self, peer: &str, now: u64) -> Arc<Bucket> {
        match (self.config.per, host(peer)) {
            (RatePer::Client, Some(address)) => self.of_client(address, now),
            // Whoever comes by a Unix socket is this machine.
            (RatePer::Client, None) | (RatePer::Route, _) => self.common.clone(),
        }
    }

    fn of_client(&self, address: IpAddr, now: u64) -> Arc<Bucket> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bucket) = clients.get(&address) {
            return bucket.clone();
        }
        if clients.len() >= CLIENTS {
            // Nobody holds it and it is full: making it anew later forgets nothing.
            clients.retain(|_, bucket| Arc::strong_count(bucket) > 1 || bucket.full_at.load(Ordering::Relaxed) > now);
            if clients.len() >= CLIENTS {
                return self.common.clone();
            }
        }
        clients.entry(address).or_insert_with(|| Arc::new(Bucket::new(&self.config))).clone()
    }
}

// === impl Bucket ===

impl Bucket {
    fn new(config: &RateLimit) -> Self {
        let per_second = config.records_per_second.max(1);
        Self { per_second, burst: span(config.burst, per_second), full_at: AtomicU64::new(0) }
    }

    /// Takes so many records, all or none.
    #[must_use]
    pub(super) fn try_take(&self, records: u32, now: u64) -> bool {
        let cost = span(u64::from(records), self.per_second);
        let taken = self.full_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full_at| {
            let next = full_at.max(now).saturating_add(cost);
            (next.saturating_sub(now) <= self.burst).then_some(next)
        });
        taken.is_ok()
    }

    /// Gives back what was taken and not used.
    pub(super) fn give_back(&self, records: u32) {
        let cost = span(u64::from(records), self.per_second);
        let given = |full_at: u64| Some(full_at.saturating_sub(cost));
        // It always gives a next value.
        _ = self.full_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, given);
    }
}

/// How long so many records last at a rate, in nanoseconds.
fn span(records: u64, per_second: u64) -> u64 {
    let nanos = u128::from(records) * 1_000_000_000 / u128::from(per_second);
    u64::try_from(nanos).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn limit(records_per_second: u64, burst: u64, per: RatePer) -> RouteLimit {
        RouteLimit::new(RateLimit { records_per_second, burst, per })
    }

    /// How many of single records are taken at this time.
    fn taken(bucket: &Bucket, tries: u32, now: u64) -> u32 {
        (0..tries).filter(|_| bucket.try_take(1, now)).count() as u32
    }

    #[test]
    fn a_burst_then_the_rate_whatever_the_time_of_the_start() {
        for start in [0, 7 * SECOND + 13, 100_000_000 * SECOND] {
            let bucket = limit(10, 25, RatePer::Route).bucket("1.2.3.4:5", start);
            assert_eq!(taken(&bucket, 100, start), 25);
            assert_eq!(taken(&bucket, 100, start + SECOND / 2), 5);
            assert_eq!(taken(&bucket, 100, start + 3 * SECOND), 25);
            assert_eq!(taken(&bucket, 100, start + 60 * SECOND), 25, "no more than the burst is saved up");
        }
    }

    #[test]
    fn many_records_are_taken_whole_or_not_at_all() {
        let bucket = limit(10, 25, RatePer::Route).bucket("", 0);
        assert!(bucket.try_take(20, 0));
        assert!(!bucket.try_take(6, 0));
        assert!(bucket.try_take(5, 0));
        bucket.give_back(5);
        assert!(bucket.try_take(5, 0));
        assert!(!bucket.try_take(26, 1_000 * SECOND), "more than the burst is never taken");
    }

    #[test]
    fn a_limit_for_clients_is_one_for_each_address() {
        let limit = limit(1, 1, RatePer::Client);
        assert!(limit.bucket("10.0.0.1:1000", 0).try_take(1, 0));
        assert!(!limit.bucket("10.0.0.1:2000", 0).try_take(1, 0));
        assert!(!limit.bucket("[::ffff:10.0.0.1]:2000", 0).try_take(1, 0));
        assert!(limit.bucket("10.0.0.2:1000", 0).try_take(1, 0));
        assert!(limit.bucket("/run/tidegate.sock:0", 0).try_take(1, 0));
        assert!(!limit.bucket("/run/other.sock:0", 0).try_take(1, 0));
    }

    #[test]
    fn addresses_beyond_the_table_share_a_bucket_and_idle_ones_make_room() {
        let limit = limit(1, 1, RatePer::Client);
        let address = |n: usize| format!("10.{}.{}.{}:1", n >> 16, n >> 8 & 255, n & 255);
        for n in 0..CLIENTS {
            assert!(limit.bucket(&address(n), 0).try_take(1, 0));
        }
        assert!(limit.bucket("11.0.0.1:1", 0).try_take(1, 0), "the first of the others");
        assert!(!limit.bucket("11.0.0.2:1", 0).try_take(1, 0), "the next finds the shared one used up");
        assert_eq!(limit.clients.lock().unwrap().len(), CLIENTS);
        let later = 2 * SECOND;
        assert!(limit.bucket("11.0.0.3:1", later).try_take(1, later));
        assert_eq!(limit.clients.lock().unwrap().len(), 1);
    }

    #[test]
    fn workers_together_take_no_more_than_the_limit() {
        let limit = limit(1_000, 50_000, RatePer::Route);
        let total: u32 = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..4).map(|_| scope.spawn(|| taken(&limit.bucket("", 0), 20_000, 0))).collect();
            workers.into_iter().map(|worker| worker.join().unwrap()).sum()
        });
        assert_eq!(total, 50_000);
    }
}
