//! Ids of records: unlike any other's on any node, at any time, and cheap to make.

use std::hash::{BuildHasher, RandomState};

/// Makes ids. One for each thread that needs some: half of an id is drawn at random when this is made, half is counted.
#[derive(Clone, Debug)]
pub struct RecordIds {
    next: u128,
}

// === impl RecordIds ===

impl Default for RecordIds {
    fn default() -> Self {
        Self::new()
    }
}

impl RecordIds {
    /// Ids that begin with 64 random bits of their own.
    pub fn new() -> Self {
        // The keys of the standard library's hasher are drawn from the operating system's randomness; the time beside
        // them tells lives apart where that is poor.
        let random = RandomState::new().hash_one((std::process::id(), std::time::SystemTime::now()));
        Self { next: u128::from(random) << 64 }
    }

    /// The next id: the one before, plus one.
    #[inline]
    pub fn fresh(&mut self) -> u128 {
        let id = self.next;
        self.next = id.wrapping_add(1);
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_ids_are_alike() {
        let mut makers: Vec<RecordIds> = (0..100).map(|_| RecordIds::new()).collect();
        let mut ids: Vec<u128> = makers.iter_mut().flat_map(|ids| [ids.fresh(), ids.fresh(), ids.fresh()]).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 300);
    }
}
