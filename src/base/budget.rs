//! One byte budget for everything that is not acknowledged yet, shared by all workers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A bound on memory, in bytes. Cloning gives another handle on the same budget.
#[derive(Clone, Debug)]
pub struct Budget {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    limit: usize,
    used: AtomicUsize,
}

/// One worker's advance on the budget: many small takings cost one of the shared counter.
#[derive(Debug)]
pub struct Allowance {
    budget: Budget,
    spare: usize,
}

/// How much is taken in advance, in bytes.
const ADVANCE: usize = 64 << 10;

// === impl Allowance ===

impl Allowance {
    /// An allowance with nothing taken.
    pub fn new(budget: Budget) -> Self {
        Self { budget, spare: 0 }
    }

    /// Takes `bytes` if they fit, else takes nothing and says no. Who gives them back gives them to the budget.
    #[inline]
    #[must_use]
    pub fn try_take(&mut self, bytes: usize) -> bool {
        if self.spare >= bytes {
            self.spare -= bytes;
            return true;
        }
        self.refill(bytes)
    }

    #[cold]
    fn refill(&mut self, bytes: usize) -> bool {
        if self.budget.try_take(bytes + ADVANCE - self.spare) {
            self.spare = ADVANCE;
            return true;
        }
        // Near the limit there is no advance.
        self.settle();
        self.budget.try_take(bytes)
    }

    /// Gives back what was taken in advance.
    pub fn settle(&mut self) {
        self.budget.give_back(std::mem::take(&mut self.spare));
    }
}

impl Drop for Allowance {
    fn drop(&mut self) {
        self.settle();
    }
}

// === impl Budget ===

impl Budget {
    /// A budget of `limit` bytes, none of them taken.
    pub fn new(limit: usize) -> Self {
        Self { inner: Arc::new(Inner { limit, used: AtomicUsize::new(0) }) }
    }

    /// Takes `bytes` if they fit, else takes nothing and says no.
    #[must_use]
    pub fn try_take(&self, bytes: usize) -> bool {
        let before = self.inner.used.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > self.inner.limit {
            self.inner.used.fetch_sub(bytes, Ordering::Relaxed);
            return false;
        }
        true
    }

    /// Takes `bytes` whether they fit or not: for what is in memory already and grows a little.
    pub fn take(&self, bytes: usize) {
        self.inner.used.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Gives back bytes that were taken.
    pub fn give_back(&self, bytes: usize) {
        self.inner.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Bytes taken now.
    pub fn used(&self) -> usize {
        self.inner.used.load(Ordering::Relaxed)
    }

    /// The bound, in bytes.
    pub fn limit(&self) -> usize {
        self.inner.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_takes_nothing() {
        let budget = Budget::new(100);
        assert!(budget.try_take(60));
        assert!(!budget.try_take(41));
        assert_eq!(budget.used(), 60);
        assert!(budget.try_take(40));
        budget.give_back(100);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn an_advance_never_stands_in_the_way_of_what_fits() {
        let budget = Budget::new(ADVANCE + 100);
        let mut allowance = Allowance::new(budget.clone());
        assert!(allowance.try_take(60));
        assert_eq!(budget.used(), ADVANCE + 60);
        assert!(allowance.try_take(ADVANCE + 40));
        assert_eq!(budget.used(), ADVANCE + 100);
        assert!(!allowance.try_take(1));
        budget.give_back(ADVANCE + 100);
        drop(allowance);
        assert_eq!(budget.used(), 0);
    }
}
