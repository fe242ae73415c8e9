//! The first record of a partition goes alone. Decides, does nothing.
//!
//! Several message sets may be on their way to a partition. Where Kafka refuses one of them (its limit on sizes or times), it
//! refuses those behind it as well, as their sequence number is not the next one; so order holds. But a partition that knows
//! nothing of a producer takes any number from it (`ProducerAppendInfo.checkSequence`), and the second set is written before
//! the first, which goes again. So what goes to such a partition waits until its first record is confirmed, and goes again
//! itself, in its place, where that was refused.

use std::collections::HashMap;
use std::time::{Duration, Instant};

/// A partition forgets a producer that has not written for `producer.id.expiration.ms`, a day unless it is told otherwise.
const FORGETS: Duration = Duration::from_secs(60 * 60);

/// A topic's number and a partition.
pub(super) type To = (usize, i32);

/// What of a batch may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goes {
    /// All of it.
    Whole,
    /// Its first record.
    First,
    /// Nothing yet.
    Waits,
}

/// The partitions that know a producer, and what waits for the others.
#[derive(Debug, Default)]
pub(super) struct Firsts {
    /// Since when nothing went to those that know it, at the latest.
    known: HashMap<To, Instant>,
    /// The batches of each of the others, the one whose first record is on its way first.
    waiting: HashMap<To, Vec<usize>>,
}

// === impl Firsts ===

impl Firsts {
    /// A batch is to go.
    pub(super) fn goes(&mut self, to: To, batch: usize, now: Instant) -> Goes {
        if let Some(waiting) = self.waiting.get_mut(&to) {
            waiting.push(batch);
            return Goes::Waits;
        }
        if let Some(last) = self.known.get_mut(&to)
            && now.saturating_duration_since(*last) < FORGETS
        {
            *last = now;
            return Goes::Whole;
        }
        self.waiting.insert(to, vec![batch]);
        Goes::First
    }

    /// A record is reported. True where it was the one that others wait for.
    #[inline]
    pub(super) fn is_first(&self, to: To, batch: usize, entry: usize) -> bool {
        entry == 0 && self.waiting.get(&to).is_some_and(|waiting| waiting.first() == Some(&batch))
    }

    /// The first record was confirmed, or not; gives the batches that waited for it, its own first.
    pub(super) fn answered(&mut self, to: To, confirmed: bool, now: Instant) -> Vec<usize> {
        if confirmed {
            self.known.insert(to, now);
        }
        self.waiting.remove(&to).unwrap_or_default()
    }

    /// A record failed: the topic may have been made anew.
    pub(super) fn failed(&mut self, to: To) {
        self.known.remove(&to);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TO: To = (0, 3);

    #[test]
    fn what_goes_to_a_partition_for_the_first_time_waits_for_its_first_record() {
        let now = Instant::now();
        let mut firsts = Firsts::default();
        assert_eq!([7, 8].map(|batch| firsts.goes(TO, batch, now)), [Goes::First, Goes::Waits]);
        assert_eq!(firsts.goes((0, 4), 9, now), Goes::First, "another partition has its own");
        assert!(!firsts.is_first(TO, 7, 1) && !firsts.is_first(TO, 8, 0) && firsts.is_first(TO, 7, 0));
        assert_eq!(firsts.answered(TO, true, now), [7, 8]);
        assert_eq!(firsts.goes(TO, 10, now), Goes::Whole);
        assert!(!firsts.is_first(TO, 10, 0));
    }

    #[test]
    fn after_a_failure_and_after_a_long_time_the_first_goes_alone_again() {
        let mut now = Instant::now();
        let mut firsts = Firsts::default();
        firsts.goes(TO, 1, now);
        assert_eq!(firsts.answered(TO, false, now), [1]);
        assert_eq!(firsts.goes(TO, 2, now), Goes::First);
        firsts.answered(TO, true, now);
        firsts.failed(TO);
        assert_eq!(firsts.goes(TO, 3, now), Goes::First);
        firsts.answered(TO, true, now);
        now += FORGETS;
        assert_eq!(firsts.goes(TO, 4, now), Goes::First);
    }
}
