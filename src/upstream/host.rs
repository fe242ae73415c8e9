//! What is known of one endpoint in one pool, for as long as it is in it: it outlives every table.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::connection::Target;
use super::health::Health;
use super::outlier::Tally;

/// An endpoint's life in a pool.
#[derive(Debug)]
pub(super) struct Host {
    /// Its connections, shared with other pools.
    pub(super) target: Arc<Target>,
    /// A hash of its address and port, the same in every process.
    pub(super) id: u64,
    /// When it came; `None` where it was there when the pool was first known, so that it is not new.
    pub(super) since: Option<Instant>,
    /// What its answers say.
    pub(super) tally: Tally,
    /// What checks say.
    pub(super) health: Health,
    /// Why it gets no requests, one bit a reason; 0 while it does.
    out: AtomicU8,
    in_flight: AtomicU32,
    latency: Latency,
}

/// A reason to send no requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Out {
    /// Its answers were bad.
    Ejected = 1,
    /// Checks failed.
    Unhealthy = 2,
}

/// How long answers take: a moving average that takes a peak at once and forgets it by and by. Average (an `f32` in
/// seconds) and the time of the last answer (milliseconds) are one word, so that no lock is needed.
#[derive(Debug, Default)]
struct Latency(AtomicU64);

/// After this, a third of what was known of an endpoint's latency still counts.
const MEMORY_MS: f32 = 10_000.0;

// === impl Host ===

impl Host {
    pub(super) fn new(target: Arc<Target>, since: Option<Instant>) -> Self {
        let address = target.address();
        Self {
            id: super::random::hash(address.to_string().as_bytes()),
            target,
            since,
            tally: Tally::default(),
            health: Health::default(),
            out: AtomicU8::new(0),
            in_flight: AtomicU32::new(0),
            latency: Latency::default(),
        }
    }

    /// Whether it is to get no requests.
    #[inline]
    pub(super) fn is_out(&self) -> bool {
        self.out.load(Ordering::Relaxed) != 0
    }

    pub(super) fn is_out_for(&self, why: Out) -> bool {
        self.out.load(Ordering::Relaxed) & why as u8 != 0
    }

    /// Takes it out for a reason, or takes the reason back. Says whether that changed anything.
    pub(super) fn set_out(&self, why: Out, out: bool) -> bool {
        let bit = why as u8;
        let before =
            if out { self.out.fetch_or(bit, Ordering::Relaxed) } else { self.out.fetch_and(!bit, Ordering::Relaxed) };
        (before & bit != 0) != out
    }

    #[inline]
    pub(super) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    #[inline]
    pub(super) fn begin(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn end(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// An answer took so long. `now` counts milliseconds from when the process knew its upstreams.
    pub(super) fn took(&self, latency: Duration, now: u64) {
        self.latency.took(latency.as_secs_f32(), now);
    }

    /// What its latency should be, in seconds; `None` before the first answer.
    #[inline]
    pub(super) fn latency(&self, now: u64) -> Option<f32> {
        self.latency.at(now)
    }
}

// === impl Latency ===

impl Latency {
    fn took(&self, latency: f32, now: u64) {
        let before = self.0.load(Ordering::Relaxed);
        let average = match unpack(before) {
            Some((average, at)) if latency < average => {
                let weight = decay(at, now);
                average * weight + latency * (1.0 - weight)
            }
            // A peak counts whole: who waits for an average to notice has waited too often.
            _ => latency,
        };
        // Another thread's answer of the same moment is as good as this one.
        _ = self.0.compare_exchange(before, pack(average, now), Ordering::Relaxed, Ordering::Relaxed);
    }

    fn at(&self, now: u64) -> Option<f32> {
        unpack(self.0.load(Ordering::Relaxed)).map(|(average, at)| average * decay(at, now))
    }
}

/// 0 is kept for "never".
fn pack(average: f32, now: u64) -> u64 {
    (u64::from(average.max(f32::MIN_POSITIVE).to_bits()) << 32) | (now & u64::from(u32::MAX))
}

fn unpack(word: u64) -> Option<(f32, u32)> {
    let average = f32::from_bits(u32::try_from(word >> 32).unwrap_or_default());
    (word != 0).then_some((average, word as u32))
}

/// How much of what was known then counts still. Milliseconds wrap after 49 days, which is no harm to a difference.
fn decay(then: u32, now: u64) -> f32 {
    let elapsed = (now as u32).wrapping_sub(then);
    // None, as mostly under load; or another thread's clock was read a little earlier.
    if elapsed == 0 || elapsed > u32::MAX / 2 { 1.0 } else { (-(elapsed as f32) / MEMORY_MS).exp() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_counts_at_once_and_is_forgotten_by_and_by() {
        let latency = Latency::default();
        assert_eq!(latency.at(0), None);
        latency.took(0.01, 1_000);
        assert_eq!(latency.at(1_000), Some(0.01));
        latency.took(1.0, 2_000);
        assert_eq!(latency.at(2_000), Some(1.0));
        latency.took(0.01, 2_100);
        assert!(latency.at(2_100).unwrap() > 0.95, "one good answer does not undo a bad one");
        assert!(latency.at(62_000).unwrap() < 0.01, "an endpoint that nobody asked for a minute is tried again");
    }

    #[test]
    fn the_clock_may_wrap_and_differ_between_threads() {
        let wrap = u64::from(u32::MAX) - 10;
        let latency = Latency::default();
        latency.took(0.5, wrap);
        assert!(latency.at(wrap + 20).unwrap() > 0.49);
        assert_eq!(latency.at(wrap - 5), Some(0.5));
    }
}
