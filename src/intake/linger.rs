//! When the records of a turn are sent: at once for one who waits for each reply, together for many who do.
//!
//! Connections that were just replied to are expected to send again. While most of them have not, a short wait makes one
//! large batch of many small ones; a lone connection never waits, as it is heard as soon as it speaks. No I/O and no
//! clock: the worker brings both. (A moving average of batch sizes was tried elsewhere in place of this; it settles at
//! small batches as happily as at large ones.)

use std::time::{Duration, Instant};

/// The longest wait for those who are expected.
const GATHER: Duration = Duration::from_micros(400);
/// The shortest nap worth its system call.
const SHORTEST: Duration = Duration::from_micros(20);
/// About what a client takes from a reply to its next command.
const PER_CLIENT: Duration = Duration::from_micros(4);

/// Whom a worker has heard of since the last batch, and whom it expects.
#[derive(Debug, Default)]
pub(super) struct Linger {
    heard: u32,
    expected: u32,
    round: u32,
    since: Option<Instant>,
}

/// A session's side: the round in which it is expected, if it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark(Option<u32>);

// === impl Linger ===

impl Linger {
    /// The session was sent replies.
    #[inline]
    pub(super) fn replied(&mut self, mark: &mut Mark) {
        if mark.0 != Some(self.round) {
            mark.0 = Some(self.round);
            self.expected += 1;
        }
    }

    /// The session sent something.
    #[inline]
    pub(super) fn spoke(&mut self, mark: &mut Mark, now: Instant) {
        self.forget(mark);
        self.heard = self.heard.saturating_add(1);
        self.since.get_or_insert(now);
    }

    /// The session is gone, or has nothing to say.
    pub(super) fn forget(&mut self, mark: &mut Mark) {
        if mark.0.take() == Some(self.round) {
            self.expected = self.expected.saturating_sub(1);
        }
    }

    /// How long to wait for others before a batch is sent; nothing: it goes now.
    pub(super) fn nap(&mut self, now: Instant) -> Option<Duration> {
        // Nine in ten are enough: there is always one that is late.
        if u64::from(self.heard) * 10 >= (u64::from(self.heard) + u64::from(self.expected)) * 9 {
            return None;
        }
        let waited = self.since.map_or(GATHER, |since| now.duration_since(since));
        let left = GATHER.checked_sub(waited).filter(|left| *left >= SHORTEST);
        if left.is_none() {
            // Who has not come by now is not waited for again until it was replied to anew.
            self.round = self.round.wrapping_add(1);
            self.expected = 0;
        }
        left.map(|left| left.min((PER_CLIENT * self.expected).max(SHORTEST)))
    }

    /// A batch was sent.
    pub(super) fn sent(&mut self) {
        self.heard = 0;
        self.since = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lone_connection_never_waits() {
        let now = Instant::now();
        let (mut linger, mut mark) = (Linger::default(), Mark::default());
        for _ in 0..3 {
            linger.spoke(&mut mark, now);
            assert_eq!(linger.nap(now), None);
            linger.sent();
            linger.replied(&mut mark);
        }
    }

    #[test]
    fn most_of_those_who_were_replied_to_are_waited_for() {
        let now = Instant::now();
        let mut linger = Linger::default();
        let mut marks = [Mark::default(); 10];
        marks.iter_mut().for_each(|mark| linger.replied(mark));
        for mark in &mut marks[..8] {
            linger.spoke(mark, now);
            assert!(linger.nap(now).is_some());
        }
        linger.spoke(&mut marks[8], now);
        assert_eq!(linger.nap(now), None);
    }

    #[test]
    fn the_wait_ends_and_who_did_not_come_is_forgotten() {
        let now = Instant::now();
        let mut linger = Linger::default();
        let (mut here, mut gone) = (Mark::default(), Mark::default());
        linger.replied(&mut here);
        linger.replied(&mut gone);
        linger.spoke(&mut here, now);
        assert!(linger.nap(now).is_some());
        assert_eq!(linger.nap(now + GATHER), None);
        linger.sent();
        linger.replied(&mut here);
        linger.spoke(&mut here, now);
        assert_eq!(linger.nap(now), None);
    }

    #[test]
    fn a_connection_that_closed_is_not_expected() {
        let now = Instant::now();
        let mut linger = Linger::default();
        let (mut here, mut gone) = (Mark::default(), Mark::default());
        linger.replied(&mut gone);
        linger.forget(&mut gone);
        linger.forget(&mut gone);
        linger.spoke(&mut here, now);
        assert_eq!(linger.nap(now), None);
    }
}
