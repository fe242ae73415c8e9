//! When a change is published: the first at once, those that follow together, and what must not wait at once.
//!
//! A rolling update of one service is dozens of changes within a second. Publishing each would make every gateway fetch
//! the pool as often. So a change after a quiet time goes out at once, and those after it wait until nothing came for
//! [`QUIET`], at most [`LONGEST`] since the first of them. An endpoint that stops taking requests does not wait.

use std::time::{Duration, Instant};

/// Nothing came for so long: a burst is over.
const QUIET: Duration = Duration::from_millis(50);
/// A change never waits longer than this.
const LONGEST: Duration = Duration::from_millis(500);

/// Decides when to publish.
#[derive(Debug, Default)]
pub(super) struct Coalescer {
    published: Option<Instant>,
    first: Option<Instant>,
    last: Option<Instant>,
}

// === impl Coalescer ===

impl Coalescer {
    /// A change came.
    pub(super) fn changed(&mut self, now: Instant) {
        self.first.get_or_insert(now);
        self.last = Some(now);
    }

    /// Whether something waits to be published.
    pub(super) fn is_waiting(&self) -> bool {
        self.first.is_some()
    }

    /// When what came is to be published; `None` while nothing waits.
    pub(super) fn due(&self, urgent: bool) -> Option<Instant> {
        let (first, last) = (self.first?, self.last?);
        match self.published {
            Some(published) if !urgent && first < published + QUIET => Some((last + QUIET).min(first + LONGEST)),
            _ => Some(first),
        }
    }

    /// Everything that came is published.
    pub(super) fn published(&mut self, now: Instant) {
        *self = Self { published: Some(now), first: None, last: None };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_change_goes_out_at_once_and_those_after_it_together() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut coalescer = Coalescer::default();
        assert_eq!(coalescer.due(false), None);
        coalescer.changed(at(0));
        assert_eq!(coalescer.due(false), Some(at(0)));
        coalescer.published(at(0));
        coalescer.changed(at(10));
        assert_eq!(coalescer.due(false), Some(at(60)));
        coalescer.changed(at(40));
        assert_eq!(coalescer.due(false), Some(at(90)));
    }

    #[test]
    fn an_endless_burst_is_published_all_the_same() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut coalescer = Coalescer::default();
        coalescer.published(at(0));
        (1..60).for_each(|step| coalescer.changed(at(step * 10)));
        assert_eq!(coalescer.due(false), Some(at(510)));
    }

    #[test]
    fn what_stops_taking_requests_does_not_wait() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut coalescer = Coalescer::default();
        coalescer.published(at(0));
        coalescer.changed(at(10));
        assert_eq!(coalescer.due(true), Some(at(10)));
    }

    #[test]
    fn after_a_quiet_time_a_change_is_a_first_one_again() {
        let start = Instant::now();
        let mut coalescer = Coalescer::default();
        coalescer.published(start);
        coalescer.changed(start + QUIET);
        assert_eq!(coalescer.due(false), Some(start + QUIET));
    }
}
