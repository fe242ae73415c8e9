//! Which way a lane's new records go at one worker: to Kafka, to the spool, or nowhere for a moment. Decides, does
//! nothing.
//!
//! ```text
//!            waited spool_after, or the lane has a backlog, or Kafka answers nobody
//!   Direct ───────────────────────────────────────────────────────────────────────▶ Spool
//!     ▲  ▲                     backlog is empty                                     │  ▲
//!     │  └─────────────────────────────────────────────────────────────────────────┘  │ waited spool_after
//!     │ backlog is empty                    backlog is young                           │
//!     └───────────────────────────── Back ◀─────────────────────────────── Spool ─────┘
//! ```
//!
//! Under steady load a backlog is never quite empty, because each record is on its way through the disk for some
//! milliseconds. So once the backlog is young, new records wait in memory ([`Way::Back`]) for its end, no longer than
//! they would wait for Kafka.

use std::time::{Duration, Instant};

/// Where new records of a lane go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::delivery) enum Way {
    /// To Kafka.
    #[default]
    Direct,
    /// To the spool.
    Spool,
    /// They wait in memory for the end of a short backlog.
    Back,
}

/// The first pause after a way back that led to the spool again, and the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// What is seen of a lane.
#[derive(Clone, Copy, Debug)]
pub(in crate::delivery) struct Sight {
    /// It has records in the spool.
    pub(in crate::delivery) backlog: bool,
    /// The age at which its last replayed record was confirmed, where one was lately.
    pub(in crate::delivery) lag: Option<Duration>,
    /// How long the oldest record that waits here, or is in flight from here, has waited.
    pub(in crate::delivery) waited: Option<Duration>,
    /// Kafka answers nobody.
    pub(in crate::delivery) away: bool,
    /// Records of the lane are promised the spool: there is no way back while they come.
    pub(in crate::delivery) promised: bool,
}

/// One lane's way at one worker.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::delivery) struct Switch {
    way: Way,
    pause: Duration,
    retry_at: Option<Instant>,
}

// === impl Switch ===

impl Switch {
    /// The way now.
    #[inline]
    pub(in crate::delivery) fn way(&self) -> Way {
        self.way
    }

    /// The way that the lane should go. The caller does what it takes, then says so with [`Switch::go`].
    pub(in crate::delivery) fn decide(&self, sight: &Sight, patience: Duration, now: Instant) -> Way {
        let too_long = sight.waited.is_some_and(|waited| waited >= patience);
        match self.way {
            Way::Direct if sight.backlog || too_long || (sight.away && sight.waited.is_some()) => Way::Spool,
            Way::Direct => Way::Direct,
            Way::Spool | Way::Back if !sight.backlog && !sight.away => Way::Direct,
            Way::Spool => {
                let young = sight.lag.is_some_and(|lag| lag <= patience / 2);
                let rested = self.retry_at.is_none_or(|at| now >= at);
                if young && rested && !sight.away && !sight.promised { Way::Back } else { Way::Spool }
            }
            Way::Back if too_long || sight.away || sight.promised => Way::Spool,
            Way::Back => Way::Back,
        }
    }

    /// The lane goes this way from now on.
    pub(in crate::delivery) fn go(&mut self, way: Way, now: Instant) {
        match (self.way, way) {
            (Way::Back, Way::Spool) => {
                self.pause = (2 * self.pause).clamp(FIRST_PAUSE, LONGEST_PAUSE);
                self.retry_at = Some(now + self.pause);
            }
            (_, Way::Direct) => {
                self.pause = Duration::ZERO;
                self.retry_at = None;
            }
            _ => {}
        }
        self.way = way;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_millis(300);
    const WELL: Sight = Sight { backlog: false, lag: None, waited: None, away: false, promised: false };

    fn at(way: Way) -> Switch {
        Switch { way, ..Switch::default() }
    }

    #[track_caller]
    fn leads(from: Way, sight: Sight, to: Way) {
        assert_eq!(at(from).decide(&sight, PATIENCE, Instant::now()), to, "{from:?} {sight:?}");
    }

    #[test]
    fn a_lane_fails_over_when_it_waited_too_long_or_has_a_backlog_or_kafka_is_away() {
        leads(Way::Direct, WELL, Way::Direct);
        leads(Way::Direct, Sight { waited: Some(PATIENCE / 2), ..WELL }, Way::Direct);
        leads(Way::Direct, Sight { waited: Some(PATIENCE), ..WELL }, Way::Spool);
        leads(Way::Direct, Sight { backlog: true, ..WELL }, Way::Spool);
        leads(Way::Direct, Sight { away: true, waited: Some(Duration::ZERO), ..WELL }, Way::Spool);
        leads(Way::Direct, Sight { away: true, ..WELL }, Way::Direct);
    }

    #[test]
    fn it_returns_when_the_backlog_is_empty_and_kafka_answers() {
        leads(Way::Spool, WELL, Way::Direct);
        leads(Way::Back, WELL, Way::Direct);
        leads(Way::Spool, Sight { away: true, ..WELL }, Way::Spool);
    }

    #[test]
    fn a_young_backlog_is_waited_for() {
        let old = Sight { backlog: true, lag: Some(PATIENCE), ..WELL };
        let young = Sight { lag: Some(PATIENCE / 10), ..old };
        leads(Way::Spool, Sight { lag: None, ..old }, Way::Spool);
        leads(Way::Spool, old, Way::Spool);
        leads(Way::Spool, young, Way::Back);
        leads(Way::Spool, Sight { promised: true, ..young }, Way::Spool);
        leads(Way::Back, Sight { waited: Some(PATIENCE / 2), ..young }, Way::Back);
        leads(Way::Back, Sight { waited: Some(PATIENCE), ..young }, Way::Spool);
        leads(Way::Back, Sight { away: true, ..young }, Way::Spool);
    }

    #[test]
    fn a_way_back_that_failed_is_not_tried_again_at_once() {
        let young = Sight { backlog: true, lag: Some(Duration::ZERO), ..WELL };
        let start = Instant::now();
        let mut switch = at(Way::Back);
        let mut now = start;
        for pause in [1, 2, 4, 8, 16, 30, 30] {
            switch.go(Way::Spool, now);
            now += Duration::from_secs(pause) - Duration::from_millis(1);
            assert_eq!(switch.decide(&young, PATIENCE, now), Way::Spool, "{pause}");
            now += Duration::from_millis(1);
            assert_eq!(switch.decide(&young, PATIENCE, now), Way::Back, "{pause}");
            switch.go(Way::Back, now);
        }
        switch.go(Way::Direct, now);
        switch.go(Way::Spool, now);
        assert_eq!(switch.decide(&young, PATIENCE, now), Way::Back, "a lane that was well starts anew");
    }
}
