//! How much of one lane may be on its way, and when: replay begins with little, doubles while Kafka takes it, and pauses
//! after a failure, longer each time. Decides, does nothing.

use std::time::{Duration, Instant};

/// What a lane begins with, in bytes.
pub(super) const FIRST: usize = 64 << 10;
/// The most of one group, in bytes: one message set, which the broker takes or refuses whole, so that nothing goes behind
/// what it finds too large. Several requests on their way would cost librdkafka's broker thread several times as much.
const MOST: usize = 900_000;
/// After so many groups of the size that the broker was found to take, it is asked for twice as much: its limit may have
/// been raised, or one record among small ones been the cause.
const ASKS_AFTER: u32 = 32;
/// The first pause after a failure, and the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Why a lane's records came back, the weightiest last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Setback {
    /// Another try differs in what was wrong with this one.
    Amended,
    /// Another try may help.
    Passing,
    /// Only somebody can help: the topic may not be written.
    Parked,
    /// A group of so many bytes is too large for the broker.
    TooLarge(usize),
}

/// One lane's bounds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Throttle {
    allowance: usize,
    /// What the broker has been found to take at once.
    cap: usize,
    /// Groups of that size that it took since.
    taken: u32,
    pause: Duration,
    until: Option<Instant>,
}

// === impl Throttle ===

impl Throttle {
    pub(super) fn new() -> Self {
        Self { allowance: FIRST, cap: MOST, taken: 0, pause: Duration::ZERO, until: None }
    }

    /// Bytes that the next group may have; one record goes in any case.
    pub(super) fn allowance(&self) -> usize {
        self.allowance
    }

    /// True where it does not pause.
    pub(super) fn may_go(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| now >= until)
    }

    /// The end of its pause.
    pub(super) fn paused_until(&self) -> Option<Instant> {
        self.until
    }

    /// What it paused for may be over.
    pub(super) fn resume(&mut self) {
        self.until = None;
    }

    /// A whole group was delivered.
    pub(super) fn delivered(&mut self) {
        self.pause = Duration::ZERO;
        self.until = None;
        if self.allowance == self.cap && self.cap < MOST {
            self.taken += 1;
            if self.taken == ASKS_AFTER {
                self.taken = 0;
                self.cap = (2 * self.cap).min(MOST);
            }
        }
        self.allowance = (2 * self.allowance).min(self.cap);
    }

    /// A group is not answered in time.
    pub(super) fn late(&mut self) {
        self.allowance = FIRST.min(self.cap);
    }

    /// A group came back.
    pub(super) fn failed(&mut self, setback: Setback, now: Instant) {
        match setback {
            Setback::TooLarge(size) => {
                self.cap = (size / 2).max(1);
                self.taken = 0;
                self.allowance = self.allowance.min(self.cap);
                self.until = None;
            }
            Setback::Amended => self.until = None,
            Setback::Passing | Setback::Parked => {
                self.allowance = FIRST.min(self.cap);
                let longer = (2 * self.pause).clamp(FIRST_PAUSE, LONGEST_PAUSE);
                self.pause = if setback == Setback::Parked { LONGEST_PAUSE } else { longer };
                self.until = Some(now + self.pause);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_while_kafka_takes_it_up_to_one_message_set() {
        let mut throttle = Throttle::new();
        let mut seen = vec![throttle.allowance()];
        for _ in 0..8 {
            throttle.delivered();
            seen.push(throttle.allowance());
        }
        assert_eq!(seen[..6], [FIRST, 2 * FIRST, 4 * FIRST, 8 * FIRST, MOST, MOST]);
        throttle.late();
        assert_eq!(throttle.allowance(), FIRST);
    }

    #[test]
    fn pauses_grow_and_end_with_a_success() {
        let mut now = Instant::now();
        let mut throttle = Throttle::new();
        for pause in [1, 2, 4, 8, 16, 30, 30] {
            throttle.failed(Setback::Passing, now);
            assert!(!throttle.may_go(now + Duration::from_secs(pause) - Duration::from_millis(1)));
            now += Duration::from_secs(pause);
            assert!(throttle.may_go(now), "{pause}");
        }
        throttle.delivered();
        throttle.failed(Setback::Passing, now);
        assert!(throttle.may_go(now + FIRST_PAUSE));
        throttle.failed(Setback::Parked, now);
        assert!(!throttle.may_go(now + FIRST_PAUSE));
        assert_eq!(throttle.paused_until(), Some(now + LONGEST_PAUSE));
    }

    #[test]
    fn a_broker_that_takes_less_at_once_gets_less_and_is_asked_for_more_after_a_while() {
        let now = Instant::now();
        let mut throttle = Throttle::new();
        throttle.delivered();
        throttle.failed(Setback::TooLarge(2 * FIRST), now);
        assert_eq!(throttle.allowance(), FIRST);
        assert!(throttle.may_go(now));
        throttle.failed(Setback::TooLarge(FIRST), now);
        throttle.delivered();
        throttle.delivered();
        assert_eq!(throttle.allowance(), FIRST / 2);
        (0..ASKS_AFTER).for_each(|_| throttle.delivered());
        assert_eq!(throttle.allowance(), FIRST);
    }
}
