//! `replay_rate`: so many bytes a second and no more, with a tenth of a second's worth in reserve.

use std::time::{Duration, Instant};

/// How much of the rate may go at once.
const BURST: Duration = Duration::from_millis(100);

/// A token bucket that may be overdrawn by one frame: what is read is sent.
#[derive(Debug)]
pub(super) struct Pace {
    /// Bytes a second; nothing: as fast as Kafka takes them.
    rate: Option<u64>,
    /// Bytes that may go now; below zero, what went ahead of its time.
    credit: f64,
    filled: Instant,
}

// === impl Pace ===

impl Pace {
    pub(super) fn new(rate: Option<u64>, now: Instant) -> Self {
        Self { rate, credit: 0.0, filled: now }
    }

    /// How many bytes may go now.
    #[expect(clippy::cast_precision_loss, reason = "a rate in bytes a second is far below 2^52")]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "bounded by the burst, and not negative"
    )]
    pub(super) fn allows(&mut self, now: Instant) -> usize {
        let Some(rate) = self.rate else { return usize::MAX };
        let earned = now.saturating_duration_since(self.filled).as_secs_f64() * rate as f64;
        self.filled = now;
        self.credit = (self.credit + earned).min(BURST.as_secs_f64() * rate as f64);
        self.credit.max(0.0) as usize
    }

    /// So many bytes went.
    #[expect(clippy::cast_precision_loss, reason = "frames are far below 2^52 bytes")]
    pub(super) fn took(&mut self, bytes: usize) {
        if self.rate.is_some() {
            self.credit -= bytes as f64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_kept_over_time_whatever_the_size_of_frames() {
        let start = Instant::now();
        let mut pace = Pace::new(Some(1_000_000), start);
        let mut sent = 0;
        for step in 1..=10_000_u32 {
            let now = start + Duration::from_millis(1) * step;
            if pace.allows(now) > 0 {
                pace.took(70_000);
                sent += 70_000;
            }
        }
        assert!((9_900_000..=10_200_000).contains(&sent), "{sent} bytes in 10 s");
    }

    #[test]
    fn a_pause_earns_no_more_than_the_burst() {
        let start = Instant::now();
        let mut pace = Pace::new(Some(1_000_000), start);
        assert_eq!(pace.allows(start + Duration::from_secs(60)), 100_000);
    }

    #[test]
    fn without_a_rate_everything_goes() {
        let start = Instant::now();
        let mut pace = Pace::new(None, start);
        pace.took(1 << 30);
        assert_eq!(pace.allows(start), usize::MAX);
    }
}
