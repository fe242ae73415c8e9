//! Passive ejection: an endpoint whose answers are bad gets none for a while.
//!
//! Three things eject: failures in a row, answers of 500 and above in a row, and a success rate far below the others'.
//! The first two are seen where an answer comes in, and the endpoint is out before the next request is placed. An
//! ejection lasts `base_ejection_time` times the number of ejections that are not forgiven; each interval in good standing
//! forgives one. No more than a part of the pool is out at once.

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::config::{OutlierConfig, SuccessRate};

/// What became of a request, as far as it says something of the endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It answered.
    Status(u16),
    /// There was no connection.
    ConnectFailed,
    /// The connection broke, or the answer was none of HTTP's.
    Reset,
    /// No answer in time.
    TimedOut,
    /// Nobody waited for the answer; says nothing.
    Cancelled,
}

/// Why an endpoint is ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// Answers of 500 and above in a row.
    Consecutive5xx = 1,
    /// Failures in a row.
    ConsecutiveGatewayFailures = 2,
    /// A success rate far below the others'.
    SuccessRate = 3,
}

/// What is counted of one endpoint, and its ejection.
#[derive(Debug, Default)]
pub(super) struct Tally {
    consecutive_5xx: AtomicU32,
    consecutive_failures: AtomicU32,
    /// Of this interval.
    answers: AtomicU32,
    /// Of this interval.
    bad_answers: AtomicU32,
    /// End of the ejection in milliseconds; 0 while there is none.
    until: AtomicU64,
    /// Ejections that are not forgiven.
    times: AtomicU32,
    cause: AtomicU8,
}

// === impl Outcome ===

impl Outcome {
    fn is_5xx(self) -> bool {
        match self {
            Self::Status(status) => status >= 500,
            Self::ConnectFailed | Self::Reset | Self::TimedOut => true,
            Self::Cancelled => false,
        }
    }

    fn is_failure(self) -> bool {
        match self {
            Self::Status(status) => matches!(status, 502..=504),
            Self::ConnectFailed | Self::Reset | Self::TimedOut => true,
            Self::Cancelled => false,
        }
    }
}

// === impl Cause ===

impl Cause {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Consecutive5xx => "consecutive_5xx",
            Self::ConsecutiveGatewayFailures => "consecutive_gateway_failures",
            Self::SuccessRate => "success_rate",
        }
    }
}

// === impl Tally ===

impl Tally {
    /// Counts an outcome; says why the endpoint is to be ejected, if it is.
    #[inline]
    pub(super) fn count(&self, outcome: Outcome, config: &OutlierConfig) -> Option<Cause> {
        if outcome == Outcome::Cancelled {
            return None;
        }
        if config.success_rate.is_some() {
            self.answers.fetch_add(1, Ordering::Relaxed);
        }
        if !outcome.is_5xx() {
            // Nearly always nothing has to be written.
            for streak in [&self.consecutive_5xx, &self.consecutive_failures] {
                if streak.load(Ordering::Relaxed) != 0 {
                    streak.store(0, Ordering::Relaxed);
                }
            }
            return None;
        }
        self.count_bad(outcome, config)
    }

    #[cold]
    fn count_bad(&self, outcome: Outcome, config: &OutlierConfig) -> Option<Cause> {
        self.bad_answers.fetch_add(1, Ordering::Relaxed);
        let bad = self.consecutive_5xx.fetch_add(1, Ordering::Relaxed) + 1;
        let failures = if outcome.is_failure() {
            self.consecutive_failures.fetch_add(1, Ordering::Relaxed) + 1
        } else {
            self.consecutive_failures.store(0, Ordering::Relaxed);
            0
        };
        let reached = |limit: u32, count: u32| limit != 0 && count >= limit;
        if reached(config.consecutive_gateway_failures, failures) {
            return Some(Cause::ConsecutiveGatewayFailures);
        }
        reached(config.consecutive_5xx, bad).then_some(Cause::Consecutive5xx)
    }

    /// Ejects it. `now` in milliseconds; gives how long.
    pub(super) fn eject(&self, cause: Cause, config: &OutlierConfig, now: u64) -> Duration {
        let times = self.times.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let lasts = config.base_ejection_time.saturating_mul(times).min(config.max_ejection_time);
        self.cause.store(cause as u8, Ordering::Relaxed);
        self.until.store(now.saturating_add(milliseconds(lasts)).max(1), Ordering::Relaxed);
        self.forget_streaks();
        lasts
    }

    /// When its ejection ends; `None` while there is none.
    pub(super) fn ejected_until(&self) -> Option<u64> {
        Some(self.until.load(Ordering::Relaxed)).filter(|until| *until != 0)
    }

    /// The cause of the last ejection.
    pub(super) fn cause(&self) -> Option<Cause> {
        [Cause::Consecutive5xx, Cause::ConsecutiveGatewayFailures, Cause::SuccessRate]
            .into_iter()
            .find(|cause| *cause as u8 == self.cause.load(Ordering::Relaxed))
    }

    /// Ejections that are not forgiven.
    pub(super) fn times(&self) -> u32 {
        self.times.load(Ordering::Relaxed)
    }

    /// The ejection is over; it begins with a clean sheet.
    pub(super) fn take_back(&self) {
        self.until.store(0, Ordering::Relaxed);
        self.forget_streaks();
    }

    /// An interval has ended: one ejection is forgiven where there is none now. Gives answers and bad ones of it.
    pub(super) fn end_interval(&self) -> (u32, u32) {
        if self.ejected_until().is_none() && self.times() > 0 {
            self.times.fetch_sub(1, Ordering::Relaxed);
        }
        (self.answers.swap(0, Ordering::Relaxed), self.bad_answers.swap(0, Ordering::Relaxed))
    }

    fn forget_streaks(&self) {
        self.consecutive_5xx.store(0, Ordering::Relaxed);
        self.consecutive_failures.store(0, Ordering::Relaxed);
    }
}

/// How many endpoints of a pool may be out at once.
pub(super) fn most_ejected(endpoints: usize, config: &OutlierConfig) -> usize {
    let part = endpoints.saturating_mul(config.max_ejected_percent.min(100) as usize) / 100;
    part.max(usize::from(endpoints > 1 && config.max_ejected_percent > 0))
}

/// Which of these (answers and bad ones, by place) have a success rate far below the others'.
pub(super) fn far_below(counts: &[(u32, u32)], config: &SuccessRate) -> Vec<usize> {
    let enough = |(_, (answers, _)): &(usize, &(u32, u32))| *answers >= config.minimum_requests.max(1);
    let rates: Vec<(usize, f64)> = counts
        .iter()
        .enumerate()
        .filter(enough)
        .map(|(at, (answers, bad))| (at, 1.0 - f64::from(*bad) / f64::from(*answers)))
        .collect();
    if rates.len() < config.minimum_endpoints.max(2) as usize {
        return Vec::new();
    }
    let count = rates.len() as f64;
    let mean = rates.iter().map(|(_, rate)| rate).sum::<f64>() / count;
    let variance = rates.iter().map(|(_, rate)| (rate - mean).powi(2)).sum::<f64>() / count;
    let least = mean - config.deviations * variance.sqrt();
    rates.into_iter().filter(|(_, rate)| *rate < least).map(|(at, _)| at).collect()
}

pub(super) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(tally: &Tally, outcomes: &[Outcome]) -> Option<Cause> {
        outcomes.iter().filter_map(|outcome| tally.count(*outcome, &OutlierConfig::default())).next_back()
    }

    #[test]
    fn five_bad_answers_in_a_row_eject_and_a_good_one_begins_anew() {
        let tally = Tally::default();
        assert_eq!(counted(&tally, &[Outcome::Status(500); 4]), None);
        assert_eq!(counted(&tally, &[Outcome::Status(200)]), None);
        assert_eq!(counted(&tally, &[Outcome::Status(500); 4]), None);
        assert_eq!(counted(&tally, &[Outcome::Status(500)]), Some(Cause::Consecutive5xx));
    }

    #[test]
    fn failures_to_answer_are_told_from_answers_that_fail() {
        let mixed = [Outcome::Reset, Outcome::TimedOut, Outcome::ConnectFailed, Outcome::Status(503), Outcome::Reset];
        assert_eq!(counted(&Tally::default(), &mixed), Some(Cause::ConsecutiveGatewayFailures));
        let broken = [Outcome::Reset, Outcome::Reset, Outcome::Status(500), Outcome::Reset, Outcome::Reset];
        assert_eq!(counted(&Tally::default(), &broken), Some(Cause::Consecutive5xx));
    }

    #[test]
    fn what_nobody_waited_for_says_nothing() {
        let tally = Tally::default();
        assert_eq!(counted(&tally, &[Outcome::Status(500); 4]), None);
        assert_eq!(counted(&tally, &[Outcome::Cancelled; 20]), None);
        assert_eq!(counted(&tally, &[Outcome::Status(404)]), None, "the client's fault is not the endpoint's");
    }

    #[test]
    fn each_ejection_lasts_longer_up_to_the_most_and_good_intervals_forgive() {
        let (tally, config) = (Tally::default(), OutlierConfig::default());
        let lasts = || tally.eject(Cause::Consecutive5xx, &config, 1_000).as_secs();
        assert_eq!([lasts(), lasts(), lasts()], [30, 60, 90]);
        for _ in 0..20 {
            lasts();
        }
        assert_eq!(lasts(), 300);
        assert_eq!(tally.ejected_until(), Some(301_000));
        let times = tally.times();
        tally.end_interval();
        assert_eq!(tally.times(), times, "an ejected endpoint is not in good standing");
        tally.take_back();
        (0..times).for_each(|_| _ = tally.end_interval());
        assert_eq!(tally.times(), 0);
    }

    #[test]
    fn no_more_than_a_part_is_out_but_one_may_be_where_there_are_two() {
        let config = |percent| OutlierConfig { max_ejected_percent: percent, ..OutlierConfig::default() };
        assert_eq!(most_ejected(1, &config(30)), 0, "the only endpoint stays");
        assert_eq!(most_ejected(2, &config(30)), 1);
        assert_eq!(most_ejected(10, &config(30)), 3);
        assert_eq!(most_ejected(10, &config(0)), 0);
        assert_eq!(most_ejected(10, &config(200)), 10);
    }

    #[test]
    fn a_success_rate_far_below_the_others_is_found() {
        let config = SuccessRate::default();
        let mut counts = vec![(1_000, 10); 9];
        counts.push((1_000, 300));
        assert_eq!(far_below(&counts, &config), [9]);
        assert_eq!(far_below(&[(1_000, 10); 10], &config), [0; 0]);
        counts[9] = (99, 99);
        assert_eq!(far_below(&counts, &config), [0; 0], "too few requests to say");
        assert_eq!(
            far_below(&[(1_000, 0), (1_000, 900), (1_000, 0), (1_000, 0)], &config),
            [0; 0],
            "too few endpoints"
        );
    }
}
