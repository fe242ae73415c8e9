//! Rate limits of routes: the generic cell rate algorithm, one number a bucket, the time at which it would be full again.
//! A route as a whole has one bucket, without a lock; what has a limit of its own, a client or a field's value, one each, in
//! a table of bounded size. Time is in nanoseconds since the gateway's start and comes in as an argument.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::config::RateLimit;

/// Tables, each with a lock of its own, so that threads seldom meet.
const SHARDS: usize = 16;
/// Buckets of one table; who comes beyond is told apart no more and shares the route's.
const BUCKETS: usize = 4096;

/// The limit of one route.
#[derive(Debug)]
pub(super) struct RouteLimit {
    config: RateLimit,
    buckets: Arc<Buckets>,
}

/// What was taken: by the route as a whole, and by who has a limit of its own, by a hash of its value.
#[derive(Debug, Default)]
struct Buckets {
    common: AtomicU64,
    hasher: RandomState,
    own: [Mutex<HashMap<u64, u64>>; SHARDS],
}

// === impl RouteLimit ===

impl RouteLimit {
    pub(super) fn new(config: RateLimit) -> Self {
        Self { config, buckets: Arc::default() }
    }

    /// The limit of a route that had one before: where its terms are the same, what was taken stays taken, and goes on being taken by
    /// requests that came before.
    pub(super) fn following(config: RateLimit, before: Option<&Self>) -> Self {
        match before.filter(|before| before.config == config) {
            Some(before) => Self { config, buckets: before.buckets.clone() },
            None => Self::new(config),
        }
    }

    pub(super) fn config(&self) -> &RateLimit {
        &self.config
    }

    /// Takes one request of whoever has this value; without one, of the route's own bucket. The error is how long to wait,
    /// in nanoseconds.
    pub(super) fn take(&self, value: Option<&[u8]>, now: u64) -> Result<(), u64> {
        let Some(value) = value.filter(|_| self.config.per.is_some()) else { return self.take_common(now) };
        // Keyed, so that nobody can choose a value that meets another's.
        let hash = self.buckets.hasher.hash_one(value);
        let shard = usize::try_from(hash % SHARDS as u64).ok().and_then(|shard| self.buckets.own.get(shard));
        let Some(shard) = shard else { return self.take_common(now) };
        let mut buckets = shard.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= BUCKETS && !buckets.contains_key(&hash) {
            // Those that are full again: making them anew later forgets nothing.
            buckets.retain(|_, full_at| *full_at > now);
            if buckets.len() >= BUCKETS {
                drop(buckets);
                return self.take_common(now);
            }
        }
        let full_at = buckets.entry(hash).or_default();
        *full_at = self.next(*full_at, now)?;
        Ok(())
    }

    fn take_common(&self, now: u64) -> Result<(), u64> {
        let mut wait = 0;
        let taken = self.buckets.common.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full_at| {
            self.next(full_at, now).map_err(|time| wait = time).ok()
        });
        taken.map(|_| ()).map_err(|_| wait)
    }

    fn next(&self, full_at: u64, now: u64) -> Result<u64, u64> {
        let next = full_at.max(now).saturating_add(span(1, self.config.requests_per_second));
        let ahead = next.saturating_sub(now);
        let most = span(self.config.burst, self.config.requests_per_second);
        if ahead <= most { Ok(next) } else { Err(ahead - most) }
    }
}

/// How long so many requests last at a rate, in nanoseconds.
fn span(requests: u64, per_second: u64) -> u64 {
    let nanos = u128::from(requests) * 1_000_000_000 / u128::from(per_second.max(1));
    u64::try_from(nanos).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::config::Field;

    const SECOND: u64 = 1_000_000_000;

    fn limit(per: Option<Field>) -> RouteLimit {
        RouteLimit::new(RateLimit { requests_per_second: 10, burst: 3, per })
    }

    #[test]
    fn the_burst_goes_at_once_and_then_the_rate() {
        let limit = limit(None);
        let taken = |now| (0..10).filter(|_| limit.take(None, now).is_ok()).count();
        assert_eq!(taken(SECOND), 3);
        assert_eq!(limit.take(None, SECOND), Err(SECOND / 10));
        assert_eq!(taken(SECOND + SECOND / 10), 1);
        assert_eq!(taken(9 * SECOND), 3);
    }

    #[test]
    fn one_client_does_not_use_up_anothers() {
        let limit = limit(Some(Field::Client));
        assert_eq!((0..10).filter(|_| limit.take(Some(b"a"), 0).is_ok()).count(), 3);
        assert_eq!((0..10).filter(|_| limit.take(Some(b"b"), 0).is_ok()).count(), 3);
    }

    #[test]
    fn what_was_taken_stays_taken_when_routes_are_read_anew_with_the_same_terms() {
        for (per, value) in [(None, None), (Some(Field::Client), Some(&b"a"[..]))] {
            let before = limit(per);
            assert_eq!((0..10).filter(|_| before.take(value, 0).is_ok()).count(), 3);
            let after = RouteLimit::following(before.config().clone(), Some(&before));
            assert!(after.take(value, 0).is_err(), "{value:?}");
            let more = RateLimit { burst: 4, ..before.config().clone() };
            assert!(RouteLimit::following(more, Some(&before)).take(value, 0).is_ok(), "{value:?}: other terms");
        }
    }

    #[test]
    fn the_table_is_bounded_and_full_buckets_are_forgotten() {
        let limit = limit(Some(Field::Client));
        let fill = |now| (0..80_000u32).filter(|client| limit.take(Some(&client.to_be_bytes()), now).is_ok()).count();
        let size = || limit.buckets.own.iter().map(|shard| shard.lock().unwrap().len()).sum::<usize>();
        assert!(fill(0) <= SHARDS * BUCKETS + 3);
        assert!(size() <= SHARDS * BUCKETS);
        assert!(fill(10 * SECOND) > SHARDS * BUCKETS / 2);
    }
}
