//! One group of batches at a time towards each broker.
//!
//! What arrives while a group is in flight makes the next group, so batches grow with the load by themselves and nothing
//! waits on a timer when there is none. Several groups in flight would be smaller, cost a request each and keep
//! librdkafka's broker thread awake. A group that is not answered in time no longer holds back the broker's other
//! partitions, only its own.

use std::time::{Duration, Instant};

/// A broker that answers within this time is worth waiting for without reading sockets.
pub(super) const QUICK: Duration = Duration::from_millis(2);

/// A group that is out for longer than this no longer closes the gate for others.
const LATE: Duration = Duration::from_millis(100);

/// The gate towards one broker.
#[derive(Debug)]
pub(super) struct Gate {
    /// The broker's id, -1 where a partition has no leader.
    pub(super) leader: i32,
    in_flight: usize,
    sent: Option<Instant>,
    /// The last group was answered within [`QUICK`].
    quick: bool,
    /// Open for the group that is being put together.
    open: bool,
}

// === impl Gate ===

impl Gate {
    pub(super) fn new(leader: i32) -> Self {
        Self { leader, in_flight: 0, sent: None, quick: false, open: true }
    }

    /// True where another group may go.
    #[inline]
    pub(super) fn would_open(&self, now: Instant) -> bool {
        self.in_flight == 0 || self.is_late(now)
    }

    /// Decides once for a group: all partitions of the broker go together.
    pub(super) fn look(&mut self, now: Instant) {
        self.open = self.would_open(now);
    }

    /// What [`Gate::look`] decided.
    #[inline]
    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    /// True where a group has been out for too long to hold others back.
    pub(super) fn is_late(&self, now: Instant) -> bool {
        self.in_flight > 0 && self.sent.is_none_or(|sent| now.duration_since(sent) >= LATE)
    }

    /// A batch of a group goes.
    pub(super) fn sent(&mut self, now: Instant) {
        self.in_flight += 1;
        self.sent = Some(now);
    }

    /// A batch was reported whole.
    pub(super) fn answered(&mut self, now: Instant) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if self.in_flight == 0
            && let Some(sent) = self.sent.take()
        {
            self.quick = now.duration_since(sent) <= QUICK;
        }
    }

    /// True where the answer is expected within [`QUICK`].
    #[inline]
    pub(super) fn expects_soon(&self) -> bool {
        self.quick && self.in_flight > 0
    }

    /// The answer did not come within [`QUICK`]: the next group is not waited for either.
    pub(super) fn give_up(&mut self) {
        self.quick = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_group_at_a_time_unless_it_is_late() {
        let start = Instant::now();
        let mut gate = Gate::new(1);
        assert!(gate.would_open(start));
        gate.sent(start);
        gate.sent(start);
        gate.answered(start);
        assert!(!gate.would_open(start));
        assert!(gate.would_open(start + LATE));
        gate.answered(start);
        assert!(gate.would_open(start));
    }

    #[test]
    fn only_a_broker_that_was_quick_is_waited_for() {
        let start = Instant::now();
        let mut gate = Gate::new(1);
        gate.sent(start);
        assert!(!gate.expects_soon());
        gate.answered(start + QUICK);
        gate.sent(start);
        assert!(gate.expects_soon());
        gate.give_up();
        assert!(!gate.expects_soon());
    }
}
