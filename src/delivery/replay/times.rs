//! Whether records may be on their way together, by the times that they carry.
//!
//! Kafka refuses a message set with a record that is more than an hour ahead of its clock (`message.timestamp.after.max.ms`),
//! and may take the next one before the first comes again, which then is out of order. That can be where a later record is
//! the earlier one by its time: the clock was set back between them. Nor does it help to look at the clock, which may be the
//! one that is wrong. So what goes together either goes with times of its own that do not step back, or all of it gets its
//! time at the moment of sending.

/// How far a time may be behind an earlier record's: records of several threads differ by less.
const STEP_MS: i64 = 60 * 1_000;

/// The times of some records, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Times {
    /// Their own, in Unix milliseconds.
    Own { earliest: i64, latest: i64 },
    /// That of sending.
    Sending,
}

// === impl Times ===

impl Times {
    /// Of one record: its own, if it goes with that.
    pub(super) fn of(own: Option<i64>) -> Self {
        own.map_or(Self::Sending, |time| Self::Own { earliest: time, latest: time })
    }

    /// Of these records and those behind them; nothing where they must not be on their way together.
    pub(super) fn with(self, next: Self) -> Option<Self> {
        match (self, next) {
            (Self::Sending, Self::Sending) => Some(Self::Sending),
            (Self::Own { earliest, latest }, Self::Own { earliest: first, latest: last })
                if first >= latest.saturating_sub(STEP_MS) =>
            {
                Some(Self::Own { earliest: earliest.min(first), latest: latest.max(last) })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_that_step_back_and_times_of_two_kinds_do_not_go_together() {
        let own = |earliest, latest| Times::Own { earliest, latest };
        assert_eq!(Times::of(Some(5)).with(Times::of(Some(9))), Some(own(5, 9)));
        assert_eq!(own(0, 70_000).with(Times::of(Some(10_000))), Some(own(0, 70_000)));
        assert_eq!(own(0, 70_000).with(own(9_999, 80_000)), None);
        assert_eq!(Times::of(None).with(Times::of(None)), Some(Times::Sending));
        assert_eq!(Times::of(None).with(Times::of(Some(5))), None);
        assert_eq!(Times::of(Some(5)).with(Times::of(None)), None);
    }
}
