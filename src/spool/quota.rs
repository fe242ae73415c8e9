//! The bound on the spool's bytes: those on disk, and those that wait to be written.

use std::sync::atomic::{AtomicU64, Ordering};

/// The bytes of one spool.
#[derive(Debug)]
pub(super) struct Quota {
    limit: u64,
    used: AtomicU64,
}

/// One writer's advance: many small takings cost one of the shared counter.
#[derive(Debug, Default)]
pub(super) struct Advance {
    spare: u64,
}

/// How much is taken in advance, in bytes.
const ADVANCE: u64 = 64 << 10;

// === impl Quota ===

impl Quota {
    pub(super) fn new(limit: u64) -> Self {
        Self { limit, used: AtomicU64::new(0) }
    }

    /// Takes bytes that are on the disk, whatever the limit says.
    pub(super) fn take(&self, bytes: u64) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Takes bytes if they fit.
    fn try_take(&self, bytes: u64) -> bool {
        let before = self.used.fetch_add(bytes, Ordering::Relaxed);
        let fits = before.saturating_add(bytes) <= self.limit;
        if !fits {
            self.give_back(bytes);
        }
        fits
    }

    pub(super) fn give_back(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    pub(super) fn limit(&self) -> u64 {
        self.limit
    }
}

// === impl Advance ===

impl Advance {
    /// Takes bytes if they fit, else takes nothing and says no.
    #[inline]
    pub(super) fn try_take(&mut self, bytes: u64, quota: &Quota) -> bool {
        if self.spare < bytes && !self.refill(bytes, quota) {
            return false;
        }
        self.spare -= bytes;
        true
    }

    #[cold]
    fn refill(&mut self, bytes: u64, quota: &Quota) -> bool {
        // Near the limit there is no advance.
        [bytes + ADVANCE, bytes].into_iter().any(|wanted| {
            let more = wanted.saturating_sub(self.spare);
            let taken = quota.try_take(more);
            self.spare += if taken { more } else { 0 };
            taken
        })
    }

    /// Gives back what was taken in advance.
    pub(super) fn settle(&mut self, quota: &Quota) {
        quota.give_back(std::mem::take(&mut self.spare));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_advance_never_stands_in_the_way_of_what_fits() {
        let quota = Quota::new(ADVANCE + 100);
        let mut advance = Advance::default();
        assert!(advance.try_take(60, &quota));
        assert_eq!(quota.used(), ADVANCE + 60);
        assert!(advance.try_take(ADVANCE + 40, &quota));
        assert!(!advance.try_take(1, &quota));
        assert_eq!(quota.used(), ADVANCE + 100);
        quota.give_back(ADVANCE + 100);
        advance.settle(&quota);
        assert_eq!(quota.used(), 0);
    }
}
