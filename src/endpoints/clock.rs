//! Notices that the wall clock was set.
//!
//! Holds and staleness are told in wall-clock time, because people and other programs read them, and last by the
//! monotonic clock: when the wall clock is set, every time that is remembered moves with it. So a hold neither ends at
//! once nor lasts for hours because somebody has corrected a clock.

use std::time::{Duration, Instant, SystemTime};

/// Less is how a clock is slewed, or how long this process was not scheduled between its two looks.
const LEAST: Duration = Duration::from_secs(1);

/// By how much the wall clock was set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Jump {
    /// To a later time.
    Forward(Duration),
    /// To an earlier one.
    Back(Duration),
}

/// Both clocks as of the last look.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clocks {
    steady: Instant,
    wall: SystemTime,
}

// === impl Jump ===

impl Jump {
    /// A time from before the jump, as the clock tells it now.
    pub fn of(self, time: SystemTime) -> SystemTime {
        match self {
            Self::Forward(by) => time.checked_add(by),
            Self::Back(by) => time.checked_sub(by),
        }
        .unwrap_or(time)
    }
}

// === impl Clocks ===

impl Clocks {
    pub(super) fn new(steady: Instant, wall: SystemTime) -> Self {
        Self { steady, wall }
    }

    /// What happened to the wall clock since the last look.
    pub(super) fn look(&mut self, steady: Instant, wall: SystemTime) -> Option<Jump> {
        let expected = self.wall + steady.saturating_duration_since(self.steady);
        *self = Self { steady, wall };
        let jump = match wall.duration_since(expected) {
            Ok(by) if by >= LEAST => Jump::Forward(by),
            Err(back) if back.duration() >= LEAST => Jump::Back(back.duration()),
            _ => return None,
        };
        Some(jump)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_only_goes_on_has_not_jumped_and_one_that_was_set_has() {
        let (steady, wall) = (Instant::now(), SystemTime::UNIX_EPOCH + Duration::from_secs(10_000));
        let seconds = Duration::from_secs;
        let mut clocks = Clocks::new(steady, wall);
        assert_eq!(clocks.look(steady + seconds(5), wall + seconds(5)), None);
        assert_eq!(clocks.look(steady + seconds(6), wall + seconds(6) + Duration::from_millis(900)), None, "slewed");
        let mut clocks = Clocks::new(steady, wall);
        assert_eq!(clocks.look(steady + seconds(1), wall + seconds(3601)), Some(Jump::Forward(seconds(3600))));
        assert_eq!(clocks.look(steady + seconds(2), wall + seconds(3602)), None, "told once");
        assert_eq!(clocks.look(steady + seconds(3), wall + seconds(3)), Some(Jump::Back(seconds(3600))));
        assert_eq!(Jump::Back(seconds(3600)).of(wall), wall - seconds(3600));
        assert_eq!(Jump::Forward(seconds(1)).of(wall), wall + seconds(1));
    }
}
