//! Waiting longer after each failure, and not in step with everybody else.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// Doubles from `least` to `most`; each wait is a random part of that, at least half.
#[derive(Clone, Debug)]
pub struct Backoff {
    least: Duration,
    most: Duration,
    failures: u32,
}

// === impl Backoff ===

impl Backoff {
    /// A backoff without failures.
    pub fn new(least: Duration, most: Duration) -> Self {
        Self { least, most, failures: 0 }
    }

    /// How long to wait after one more failure; `random` is from 0 to 1 (see [`random`]).
    pub fn next(&mut self, random: f64) -> Duration {
        let doubled = self.least.saturating_mul(1 << self.failures.min(20));
        self.failures = self.failures.saturating_add(1);
        doubled.min(self.most).mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0)
    }

    /// What was tried worked.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

/// A number from 0 to 1, another one each time: for jitter, not for secrets.
pub fn random() -> f64 {
    let bits = RandomState::new().hash_one(0_u8) >> 11;
    #[expect(clippy::cast_precision_loss, reason = "53 bits are exact")]
    let (bits, all) = (bits as f64, (1_u64 << 53) as f64);
    bits / all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_most_and_begin_anew_after_a_success() {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(1));
        let waits: Vec<_> = (0..5).map(|_| backoff.next(1.0).as_millis()).collect();
        assert_eq!(waits, [200, 400, 800, 1_000, 1_000]);
        backoff.reset();
        assert_eq!(backoff.next(0.0), Duration::from_millis(100));
    }

    #[test]
    fn random_numbers_differ_and_stay_in_their_range() {
        let numbers: Vec<f64> = (0..100).map(|_| random()).collect();
        assert!(numbers.iter().all(|it| (0.0..=1.0).contains(it)));
        assert!(numbers.windows(2).any(|two| two[0] != two[1]));
    }
}
