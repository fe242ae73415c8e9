//! Random choices that a seed repeats.

use std::ops::RangeInclusive;

/// A splitmix64 generator.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// One whose choices depend on the seed alone.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// One for a part that draws on its own, so that how much it draws changes nothing elsewhere.
    pub(crate) fn part(&mut self, number: u64) -> Self {
        Self(self.0 ^ number.wrapping_add(1).wrapping_mul(0xd6e8_feb8_6659_fd93))
    }

    /// Any number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number of this range.
    pub(crate) fn within(&mut self, range: RangeInclusive<u64>) -> u64 {
        range.start() + self.next() % (range.end() - range.start() + 1)
    }

    /// As [`Random::within`], for counts and places.
    pub(crate) fn count(&mut self, range: RangeInclusive<usize>) -> usize {
        let (start, end) = (*range.start() as u64, *range.end() as u64);
        usize::try_from(self.within(start..=end)).expect("a usize's range")
    }

    /// One of these.
    pub(crate) fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.count(0..=of.len() - 1)]
    }

    /// True in so many of a hundred cases.
    pub(crate) fn percent(&mut self, chance: u64) -> bool {
        self.within(0..=99) < chance
    }
}
