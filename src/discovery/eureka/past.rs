//! What was published some minutes ago, which a delta is told against.
//!
//! A client of Eureka asks for "the delta" and does not say since when; the server tells what changed in the last minutes,
//! and the client applies it to whatever it has. So a delta must reach back beyond each client's last request, and this
//! process, which knows no clients, cannot tell when that was. It keeps a snapshot every [`STEP`] while somebody asks, at
//! most [`KEPT`] of them (snapshots share what did not change), and answers a delta only once the oldest is a [`STEP`] old:
//! whoever asks at least as often as that, every 30 s by default, has asked since. Until then, after a start say, a delta
//! is refused in the way that makes clients fetch everything.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::endpoints::Snapshot;

/// How far apart snapshots are kept, and the longest time between two requests of one client.
pub(super) const STEP: Duration = Duration::from_secs(120);
const KEPT: usize = 3;

/// Snapshots of the last minutes.
#[derive(Debug, Default)]
pub(in crate::discovery) struct Past(Mutex<VecDeque<(Instant, Arc<Snapshot>)>>);

// === impl Past ===

impl Past {
    /// Somebody is told this snapshot now. Gives the one that a delta to it begins from, if there is one.
    pub(super) fn told(&self, snapshot: &Arc<Snapshot>, now: Instant) -> Option<Arc<Snapshot>> {
        // Each change leaves it whole, so that a panic elsewhere does no harm.
        let mut past = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if past.back().is_none_or(|(at, _)| now.duration_since(*at) >= STEP) {
            past.push_back((now, snapshot.clone()));
        }
        // The one after the oldest reaches back far enough: the oldest is not needed.
        while past.len() > KEPT {
            past.pop_front();
        }
        let (at, oldest) = past.front()?;
        (now.duration_since(*at) >= STEP).then(|| oldest.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delta_reaches_back_beyond_the_last_request_of_whoever_asks_often_enough() {
        let past = Past::default();
        let start = Instant::now();
        let snapshots: Vec<_> = (0..100).map(|_| Arc::new(Snapshot::default())).collect();
        for (at, snapshot) in snapshots.iter().enumerate() {
            let seconds = u64::try_from(at).unwrap() * 30;
            let base = past.told(snapshot, start + Duration::from_secs(seconds));
            let Some(base) = base else {
                assert!(seconds < 120, "nothing at {seconds} s");
                continue;
            };
            let age = at - snapshots.iter().position(|it| Arc::ptr_eq(it, &base)).unwrap();
            assert!((4..=12).contains(&age), "at {seconds} s a base of {age} requests ago");
        }
        assert!(past.0.lock().unwrap().len() <= KEPT);
    }

    #[test]
    fn whoever_asks_first_fetches_everything() {
        let past = Past::default();
        let start = Instant::now();
        let snapshot = Arc::new(Snapshot::default());
        assert!(past.told(&snapshot, start).is_none());
        assert!(past.told(&snapshot, start + STEP - Duration::from_millis(1)).is_none());
        assert!(past.told(&snapshot, start + STEP).is_some());
    }
}
