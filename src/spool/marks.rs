//! Which records of a run are done.

use std::ops::Range;

/// What became of a guard's records at Kafka's client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivered {
    /// Kafka has them all.
    All,
    /// Kafka has none of them, or nobody knows.
    None,
    /// Kafka has these, by their place among the guard's records.
    Some(Vec<Range<u32>>),
}

/// Done records of one frame, as few ranges as say it, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Marks {
    ranges: Vec<Range<u32>>,
}

// === impl Delivered ===

impl Delivered {
    /// Marks for `count` records of a guard, from its record `first` on.
    pub(super) fn of_frame(&self, first: u32, count: u32) -> Marks {
        let mut marks = Marks::default();
        match self {
            Self::All => {
                marks.add(0..count);
            }
            Self::None => {}
            Self::Some(ranges) => {
                for range in ranges {
                    let (start, end) = (range.start.max(first), range.end.min(first.saturating_add(count)));
                    if start < end {
                        marks.add(start - first..end - first);
                    }
                }
            }
        }
        marks
    }
}

// === impl Marks ===

impl Marks {
    /// Marks a range; gives how many of it were not marked before.
    pub(super) fn add(&mut self, range: Range<u32>) -> u32 {
        if range.is_empty() {
            return 0;
        }
        let before = self.count();
        let from = self.ranges.partition_point(|other| other.end < range.start);
        let to = self.ranges.partition_point(|other| other.start <= range.end);
        let touched = self.ranges.get(from..to).unwrap_or_default();
        let start = touched.first().map_or(range.start, |first| first.start.min(range.start));
        let end = touched.last().map_or(range.end, |last| last.end.max(range.end));
        self.ranges.splice(from..to, std::iter::once(start..end));
        self.count() - before
    }

    /// How many records are marked.
    pub(super) fn count(&self) -> u32 {
        self.ranges.iter().map(|range| range.end - range.start).sum()
    }

    #[inline]
    pub(super) fn has(&self, index: u32) -> bool {
        let at = self.ranges.partition_point(|range| range.end <= index);
        self.ranges.get(at).is_some_and(|range| range.start <= index)
    }

    pub(super) fn ranges(&self) -> &[Range<u32>] {
        &self.ranges
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn marks_are_a_set(ranges in proptest::collection::vec((0_u32..40, 0_u32..12), 0..12)) {
            let (mut marks, mut set) = (Marks::default(), BTreeSet::new());
            for (start, length) in ranges {
                let before = set.len();
                set.extend(start..start + length);
                prop_assert_eq!(marks.add(start..start + length) as usize, set.len() - before);
            }
            prop_assert!((0..60).all(|index| marks.has(index) == set.contains(&index)));
            prop_assert!(marks.ranges().windows(2).all(|pair| pair[0].end < pair[1].start));
        }
    }

    #[test]
    fn a_guards_delivery_is_cut_into_its_frames() {
        let some = Delivered::Some(vec![1..3, 8..20]);
        assert_eq!(some.of_frame(0, 10).ranges(), [1..3, 8..10]);
        assert_eq!(some.of_frame(10, 5).ranges(), [Range { start: 0, end: 5 }]);
        assert_eq!(Delivered::All.of_frame(10, 5).count(), 5);
        assert!(Delivered::None.of_frame(0, 5).is_empty());
    }
}
