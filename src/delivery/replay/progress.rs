//! How far replay is, and how long it will take: what is left, divided by how fast that has shrunk lately, so that new
//! records which queue behind the backlog are accounted for.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The time over which the speed is measured. Long enough to even out a broker's hiccups, short enough to notice a change
/// of the load within the drain.
const WINDOW: Duration = Duration::from_secs(10);
/// Below this the speed is not known.
const LEAST: Duration = Duration::from_secs(1);
/// Between two samples.
const EVERY: Duration = Duration::from_millis(250);

/// Samples of what was left.
#[derive(Debug, Default)]
pub(super) struct Progress {
    samples: VecDeque<(Instant, u64)>,
}

// === impl Progress ===

impl Progress {
    /// So many bytes were left at this time.
    pub(super) fn sample(&mut self, now: Instant, left: u64) {
        let last = self.samples.back().map(|(at, _)| *at);
        if last.is_some_and(|at| now.duration_since(at) < EVERY) {
            return;
        }
        self.samples.push_back((now, left));
        // One sample at the window's age or beyond it stays: the window is spanned.
        while self.samples.get(1).is_some_and(|(at, _)| now.duration_since(*at) >= WINDOW) {
            self.samples.pop_front();
        }
    }

    /// The time until nothing is left, if it goes on as it did; nothing while that is not known or it does not shrink.
    #[expect(clippy::cast_precision_loss, reason = "bytes on one disk are far below 2^52")]
    pub(super) fn time_left(&self, now: Instant) -> Option<Duration> {
        let &(last, left) = self.samples.back()?;
        // From the top on: what grew before says nothing of the drain.
        let &(first, before) = self.samples.iter().max_by_key(|(_, left)| *left)?;
        if left == 0 {
            return Some(Duration::ZERO);
        }
        let time = last.duration_since(first);
        let gone = before.checked_sub(left).filter(|gone| *gone > 0)?;
        if time < LEAST {
            return None;
        }
        let seconds = left as f64 * time.as_secs_f64() / gone as f64;
        let time = Duration::try_from_secs_f64(seconds).ok()?;
        Some(time.saturating_sub(now.saturating_duration_since(last)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Drains `total` bytes at `rate(second)` bytes a second; gives by how much the second half's estimates are off at
    /// worst, as a part of the time that was left, half a second taken off.
    fn worst(total: f64, rate: impl Fn(f64) -> f64) -> f64 {
        let start = Instant::now();
        let (mut left, mut seconds) = (total, 0.0);
        let mut progress = Progress::default();
        let mut said = Vec::new();
        while left > 0.0 {
            let now = start + Duration::from_secs_f64(seconds);
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a test's sizes")]
            progress.sample(now, left as u64);
            said.push((seconds, progress.time_left(now).map_or(f64::INFINITY, |time| time.as_secs_f64())));
            left -= rate(seconds) * 0.1;
            seconds += 0.1;
        }
        let second_half = said.into_iter().filter(|(at, _)| *at >= seconds / 2.0 && *at < seconds);
        let errors = second_half.map(|(at, time)| ((time - (seconds - at)).abs() - 0.5).max(0.0) / (seconds - at));
        errors.fold(0.0, f64::max)
    }

    #[test]
    fn a_steady_drain_is_foretold() {
        assert!(worst(1e9, |_| 20e6) < 0.01);
    }

    #[test]
    fn a_drain_with_hiccups_is_foretold_within_a_fifth() {
        let rate = |second: f64| if second % 2.0 < 0.5 { 5e6 } else { 20e6 };
        assert!(worst(1e9, rate) < 0.2, "{}", worst(1e9, rate));
    }

    #[test]
    fn a_load_that_goes_on_beside_the_drain_is_accounted_for() {
        assert!(worst(1e9, |_| 20e6 - 12e6) < 0.01);
    }

    #[test]
    fn what_grew_before_the_drain_does_not_hide_its_end() {
        let start = Instant::now();
        let mut progress = Progress::default();
        for step in 0..20_u32 {
            progress.sample(start + EVERY * step, u64::from(step.min(20 - step)) * 1000);
        }
        assert_eq!(progress.time_left(start + EVERY * 19), Some(EVERY));
    }

    #[test]
    fn what_does_not_shrink_has_no_end() {
        let start = Instant::now();
        let mut progress = Progress::default();
        for step in 0..20_u32 {
            progress.sample(start + EVERY * step, 1000 + u64::from(step));
        }
        assert_eq!(progress.time_left(start + EVERY * 19), None);
        progress.sample(start + EVERY * 20, 0);
        assert_eq!(progress.time_left(start + EVERY * 20), Some(Duration::ZERO));
    }
}
