//! Whether Kafka answers at all.
//!
//! While it answers nobody, waiting for it costs each partition its own time and gains nothing: the breaker opens and
//! new records go to the spool at once. It opens when somebody has waited in vain and nobody was answered meanwhile, so
//! one sick topic or broker among others that answer does not open it. It closes with the next answer; while it is open,
//! replay asks with little, once a second, and librdkafka's own tries go on.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Between two probes while the breaker is open.
pub(super) const PROBE: Duration = Duration::from_secs(1);

/// The decision alone, with time as an argument.
#[derive(Debug, Default)]
struct Circuit {
    answered: Option<Instant>,
    state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Closed,
    Open,
    /// Somebody was sent to see, at this time.
    HalfOpen(Instant),
}

/// The one breaker of a process, shared by workers and replay.
#[derive(Debug)]
pub(super) struct Breaker {
    start: Instant,
    open: AtomicBool,
    /// Milliseconds from `start` of the last answer, to take the lock once a millisecond at most.
    answered: AtomicU64,
    circuit: Mutex<Circuit>,
}

// === impl Circuit ===

impl Circuit {
    fn answered(&mut self, now: Instant) {
        self.answered = Some(now);
        self.state = State::Closed;
    }

    /// Somebody has waited from `since` until now. True where the breaker opens by it.
    fn unanswered(&mut self, since: Instant) -> bool {
        let opens = self.state == State::Closed && self.answered.is_none_or(|answered| answered < since);
        if opens {
            self.state = State::Open;
        }
        opens
    }

    fn may_probe(&mut self, now: Instant) -> bool {
        match self.state {
            State::Closed => true,
            State::HalfOpen(sent) if now.duration_since(sent) < PROBE => false,
            State::Open | State::HalfOpen(_) => {
                self.state = State::HalfOpen(now);
                true
            }
        }
    }
}

// === impl Breaker ===

impl Breaker {
    /// A closed breaker: Kafka is expected to answer until it does not.
    pub(super) fn new(now: Instant) -> Self {
        Self { start: now, open: AtomicBool::new(false), answered: AtomicU64::new(0), circuit: Mutex::default() }
    }

    /// True while Kafka answers nobody.
    #[inline]
    pub(super) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// Kafka answered somebody.
    #[inline]
    pub(super) fn answered(&self, now: Instant) {
        let millis = u64::try_from(now.duration_since(self.start).as_millis()).unwrap_or(u64::MAX).max(1);
        if self.answered.swap(millis, Ordering::AcqRel) != millis || self.is_open() {
            self.lock().answered(now);
            if self.open.swap(false, Ordering::AcqRel) {
                tracing::info!("Kafka answers again");
            }
        }
    }

    /// Somebody has waited since `since` in vain.
    pub(super) fn unanswered(&self, since: Instant) {
        let mut circuit = self.lock();
        if circuit.unanswered(since) {
            self.open.store(true, Ordering::Release);
            drop(circuit);
            tracing::warn!("Kafka answers nobody: new records go to the spool at once");
        }
    }

    /// Whether replay may send: always while Kafka answers, else a little once a second.
    pub(super) fn may_probe(&self, now: Instant) -> bool {
        !self.is_open() || self.lock().may_probe(now)
    }

    fn lock(&self) -> MutexGuard<'_, Circuit> {
        self.circuit.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Duration = Duration::from_millis(300);

    #[test]
    fn it_opens_only_where_nobody_was_answered_meanwhile() {
        let start = Instant::now();
        let breaker = Breaker::new(start);
        breaker.answered(start + WAIT);
        breaker.unanswered(start);
        assert!(!breaker.is_open(), "one sick topic among others");
        breaker.unanswered(start + 2 * WAIT);
        assert!(breaker.is_open());
        breaker.answered(start + 3 * WAIT);
        assert!(!breaker.is_open());
    }

    #[test]
    fn a_kafka_that_never_answered_opens_it() {
        let start = Instant::now();
        let breaker = Breaker::new(start);
        breaker.unanswered(start);
        assert!(breaker.is_open());
    }

    #[test]
    fn while_open_one_probe_a_second_goes() {
        let start = Instant::now();
        let breaker = Breaker::new(start);
        assert!(breaker.may_probe(start) && breaker.may_probe(start));
        breaker.unanswered(start);
        assert!(breaker.may_probe(start));
        assert!(!breaker.may_probe(start + PROBE / 2));
        assert!(breaker.may_probe(start + PROBE));
        breaker.answered(start + PROBE);
        assert!(breaker.may_probe(start + PROBE));
    }

    #[test]
    fn two_answers_within_a_millisecond_still_close_it() {
        let start = Instant::now();
        let breaker = Breaker::new(start);
        breaker.answered(start + WAIT);
        breaker.unanswered(start + WAIT + Duration::from_micros(10));
        assert!(breaker.is_open());
        breaker.answered(start + WAIT + Duration::from_micros(20));
        assert!(!breaker.is_open());
    }
}
