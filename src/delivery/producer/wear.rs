//! A producer that was short of descriptors must be made anew. Decides, does nothing.
//!
//! librdkafka makes a pipe for each broker that it gets to know, by which that broker's thread is woken for new records. Where
//! no descriptor can be had it goes on without, for good and without a word: `rd_pipe_nonblocking` gives back `errno` and its
//! callers look for -1 (2.12.1). Each group then waits up to a second. What it does say is that it cannot connect.

use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};

use crate::delivery::health::Health;

/// For so long nothing new goes, so that what is on its way is answered and the producer can be given up.
const HOLDS: Duration = Duration::from_secs(2);
/// Where that was too short, as a broker does not answer, it is tried again after this.
const AGAIN: Duration = Duration::from_secs(30);
/// As many descriptors as a producer for some brokers needs at once.
const DESCRIPTORS: usize = 16;

/// What a producer has been through.
#[derive(Debug)]
pub(super) struct Wear {
    /// Shortages that were known when it was made.
    shortages: u64,
    since: Option<Instant>,
}

// === impl Wear ===

impl Wear {
    pub(super) fn new(health: &Health) -> Self {
        Self { shortages: health.shortages(), since: None }
    }

    /// True where the producer is to be made anew once nothing is on its way, and nothing new should go until then.
    pub(super) fn holds(&mut self, now: Instant, health: &Health) -> bool {
        if health.shortages() == self.shortages {
            return false;
        }
        let waits = now.duration_since(*self.since.get_or_insert(now)).as_millis();
        waits % AGAIN.as_millis() < HOLDS.as_millis()
    }
}

/// True where descriptors are to be had again.
pub(super) fn has_descriptors() -> bool {
    let taken: Result<Vec<_>, _> = (0..DESCRIPTORS).map(|_| eventfd(0, EventfdFlags::CLOEXEC)).collect();
    taken.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_shortage_new_records_are_held_for_a_moment_now_and_then() {
        let health = Health::default();
        health.error_seen("Failed to create socket: Too many open files (after 0ms in state CONNECT)");
        let mut wear = Wear::new(&health);
        let start = Instant::now();
        assert!(!wear.holds(start, &health), "what was before it does not concern it");
        health.error_seen("Connection refused");
        assert!(!wear.holds(start, &health));
        health.log_seen(3, "Failed to create socket: Too many open files (after 0ms in state CONNECT)");
        let at = |wear: &mut Wear, time| wear.holds(start + time, &health);
        assert!(at(&mut wear, Duration::ZERO));
        assert!(!at(&mut wear, HOLDS), "a broker that does not answer must not stop the others");
        assert!(at(&mut wear, AGAIN));
        assert!(has_descriptors());
    }
}
