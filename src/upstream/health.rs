//! Health by checks: an endpoint is good until `fall` checks in a row failed, and bad until `rise` in a row did not.
//!
//! An endpoint that nobody has checked is good: whoever named it (Kubernetes, a file) thinks that it is ready.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use super::config::HealthCheck;

/// What checks said of an endpoint. Written by its checks alone, a few times a minute; read by reports.
#[derive(Debug, Default)]
pub(super) struct Health(Mutex<Verdict>);

/// The state behind it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) bad: bool,
    /// Checks in a row that spoke against it.
    streak: u32,
    /// Checks made.
    pub(super) checks: u64,
    /// When the last one ended.
    pub(super) last: Option<Instant>,
    /// Why the last one failed; `None` where it did not.
    pub(super) failure: Option<String>,
}

// === impl Health ===

impl Health {
    /// Notes a check's result. Says what the endpoint is from now on, where that changed.
    pub(super) fn checked(&self, result: Result<(), String>, config: &HealthCheck, now: Instant) -> Option<bool> {
        self.lock().checked(result, config, now)
    }

    pub(super) fn verdict(&self) -> Verdict {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Verdict> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Verdict ===

impl Verdict {
    fn checked(&mut self, result: Result<(), String>, config: &HealthCheck, now: Instant) -> Option<bool> {
        self.checks += 1;
        self.last = Some(now);
        let against = result.is_ok() == self.bad;
        self.failure = result.err();
        self.streak = if against { self.streak + 1 } else { 0 };
        let enough = if self.bad { config.rise } else { config.fall };
        if self.streak < enough.max(1) {
            return None;
        }
        (self.streak, self.bad) = (0, !self.bad);
        Some(!self.bad)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_fall_failures_in_a_row_to_go_out_and_rise_successes_to_come_back() {
        let config = HealthCheck { rise: 2, fall: 3, ..HealthCheck::default() };
        let health = Health::default();
        let now = Instant::now();
        let mut check = |good: bool| {
            let result = if good { Ok(()) } else { Err("refused".to_owned()) };
            health.checked(result, &config, now)
        };
        let told: Vec<_> =
            [false, false, true, false, false, false, true, false, true, true, true].map(&mut check).into();
        let mut expected = vec![None; 11];
        (expected[5], expected[9]) = (Some(false), Some(true));
        assert_eq!(told, expected);
        assert_eq!((health.verdict().bad, health.verdict().checks), (false, 11));
    }

    #[test]
    fn the_last_failure_is_kept_until_a_check_succeeds() {
        let (health, config) = (Health::default(), HealthCheck::default());
        health.checked(Err("status 500".to_owned()), &config, Instant::now());
        assert_eq!(health.verdict().failure.as_deref(), Some("status 500"));
        health.checked(Ok(()), &config, Instant::now());
        assert_eq!(health.verdict().failure, None);
    }
}
