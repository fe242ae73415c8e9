//! A limit of requests in flight that finds itself, as TCP finds its window: it grows by one in the time of one round of answers while
//! it is used and answers are good, and falls by a tenth, once a round, when they are late or say that it is too much.
//!
//! So a pool that becomes slow gets fewer requests at once, which are answered in time, and the others are refused at once in place of
//! waiting with it. The limit is kept in thousandths. Clock and counts come in as arguments.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::config::Adaptive;
use super::outlier::Outcome;

const PARTS: u32 = 1_000;
/// What is left of the limit when it falls, in percent.
const LEFT: u64 = 90;

/// The limit of one pool. It begins at its highest.
#[derive(Debug)]
pub(super) struct AdaptiveLimit {
    thousandths: AtomicU32,
    /// When it fell last, in milliseconds; requests that began before then say nothing more.
    fell: AtomicU64,
}

// === impl AdaptiveLimit ===

impl Default for AdaptiveLimit {
    fn default() -> Self {
        Self { thousandths: AtomicU32::new(u32::MAX), fell: AtomicU64::new(0) }
    }
}

impl AdaptiveLimit {
    /// Requests that may be in flight.
    #[inline]
    pub(super) fn get(&self, config: &Adaptive) -> u32 {
        (self.thousandths.load(Ordering::Relaxed) / PARTS).clamp(config.min, config.max)
    }

    /// Takes in how a request ended at `now` (milliseconds) after `latency`, while `in_flight` were.
    pub(super) fn count(&self, config: &Adaptive, outcome: Outcome, latency: Duration, in_flight: u32, now: u64) {
        let late = latency > config.latency;
        let bad = match outcome {
            Outcome::Status(status) => late || matches!(status, 429 | 503),
            Outcome::TimedOut | Outcome::ConnectFailed => true,
            // The connection's fault, or the client's.
            Outcome::Reset | Outcome::Cancelled => return,
        };
        let limit = self.get(config);
        if bad {
            let began = now.saturating_sub(u64::try_from(latency.as_millis()).unwrap_or(u64::MAX));
            let fell = self.fell.load(Ordering::Relaxed);
            let first = fell == 0 || began > fell;
            if first && self.fell.compare_exchange(fell, now.max(1), Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                self.change(config, |parts| parts * LEFT / 100);
            }
        } else if in_flight.saturating_mul(2) >= limit {
            self.change(config, |parts| parts + u64::from(PARTS) / u64::from(limit.max(1)));
        }
    }

    fn change(&self, config: &Adaptive, change: impl Fn(u64) -> u64) {
        let bounds = u64::from(config.min) * u64::from(PARTS)..=u64::from(config.max) * u64::from(PARTS);
        let next = |parts: u32| {
            let within = u64::from(parts).clamp(*bounds.start(), *bounds.end());
            u32::try_from(change(within).clamp(*bounds.start(), *bounds.end())).ok()
        };
        // Never without a next: what is above its highest by configuration is beyond 32 bits in no case.
        let _ = self.thousandths.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: Adaptive = Adaptive { min: 4, max: 200, latency: Duration::from_millis(100) };

    /// So many rounds at an endpoint that answers `capacity` requests at once in time, and is late with all where there are more:
    /// as many are sent as may be. Gives the limit after each round.
    fn rounds(limit: &AdaptiveLimit, capacity: u32, from: u64, rounds: u64) -> Vec<u32> {
        let round = |number: u64| {
            let sent = limit.get(&CONFIG);
            let latency = Duration::from_millis(if sent > capacity { 150 } else { 50 });
            let now = (from + number) * 1_000;
            (0..sent).for_each(|_| limit.count(&CONFIG, Outcome::Status(200), latency, sent, now));
            limit.get(&CONFIG)
        };
        (0..rounds).map(round).collect()
    }

    #[test]
    fn it_finds_what_an_endpoint_can_do_and_follows_it() {
        let limit = AdaptiveLimit::default();
        assert_eq!(limit.get(&CONFIG), 200);
        let found = rounds(&limit, 40, 1, 100);
        assert!(found[60..].iter().all(|it| (33..=42).contains(it)), "{found:?}");
        let found = rounds(&limit, 120, 101, 200);
        assert!(found[150..].iter().all(|it| (105..=122).contains(it)), "{found:?}");
        let found = rounds(&limit, 1, 301, 60);
        assert_eq!(found.last(), Some(&4), "never below its lowest: {found:?}");
    }

    #[test]
    fn one_round_of_late_answers_lets_it_fall_once_and_what_is_unused_does_not_grow() {
        let limit = AdaptiveLimit::default();
        (0..200).for_each(|_| limit.count(&CONFIG, Outcome::TimedOut, Duration::from_millis(500), 200, 5_000));
        assert_eq!(limit.get(&CONFIG), 180);
        (0..1_000).for_each(|_| limit.count(&CONFIG, Outcome::Status(200), Duration::ZERO, 3, 9_000));
        assert_eq!(limit.get(&CONFIG), 180);
        for outcome in [Outcome::Reset, Outcome::Cancelled] {
            limit.count(&CONFIG, outcome, Duration::from_secs(9), 200, 99_000);
        }
        assert_eq!(limit.get(&CONFIG), 180, "they say nothing of load");
        limit.count(&CONFIG, Outcome::Status(503), Duration::ZERO, 180, 99_000);
        assert_eq!(limit.get(&CONFIG), 162);
    }
}
