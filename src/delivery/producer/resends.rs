//! Which records librdkafka may have written twice. Decides, does nothing.
//!
//! Whenever a record fails for good, whatever its topic and the reason, librdkafka takes up a new epoch of its producer, as
//! the broker would miss a sequence number otherwise (`rd_kafka_idemp_drain_epoch_bump` in rdkafka_request.c and
//! rdkafka_broker.c). It waits for requests that are on their way, but not for those whose answer was lost and that wait to
//! go again: these go in the new epoch, and the broker does not recognise them. How often one was sent it does not tell.
//! But none goes again before [`RETRY_BACKOFF`] is over, so that one that is confirmed earlier was sent once.

use std::time::{Duration, Instant};

/// Before librdkafka sends again what a broker did not answer, give or take a fifth (`RD_KAFKA_RETRY_JITTER_PERCENT`).
pub(crate) const RETRY_BACKOFF: Duration = Duration::from_millis(50);
/// The shortest time in which a record can have been sent twice.
const TWICE: Duration = Duration::from_millis(40);

/// What is known of a producer's epochs.
#[derive(Debug, Default)]
pub(super) struct Resends {
    /// The last batch that was handed over in an epoch that is over.
    outdated: u64,
    count: u64,
}

// === impl Resends ===

impl Resends {
    /// A record failed for good; `last` is the number of the last batch that was handed over.
    pub(super) fn failed(&mut self, last: u64) {
        self.outdated = last;
    }

    /// A record was confirmed, of the batch of this number, which was handed over at `since`.
    #[inline]
    pub(super) fn confirmed(&mut self, number: u64, since: Instant) {
        if number <= self.outdated && since.elapsed() >= TWICE {
            self.count += 1;
        }
    }

    /// How many records may stand in Kafka twice that were confirmed since this was last asked.
    pub(super) fn take(&mut self) -> u64 {
        std::mem::take(&mut self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_epoch_of_before_has_and_took_as_long_as_a_second_try_may_be_twice() {
        let mut resends = Resends::default();
        let (long_ago, now) = (Instant::now().checked_sub(TWICE).unwrap(), Instant::now());
        resends.confirmed(1, long_ago);
        assert_eq!(resends.take(), 0, "none has failed");
        resends.failed(2);
        resends.confirmed(1, long_ago);
        resends.confirmed(2, long_ago);
        resends.confirmed(2, now);
        resends.confirmed(3, long_ago);
        assert_eq!((resends.take(), resends.take()), (2, 0));
    }
}
