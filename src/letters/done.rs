//! Which letters of a partition were sent again: all before an offset, and some ranges beyond it. Kafka keeps both for us,
//! the offset as the group's and the ranges, as `1:FROM-TO,FROM-TO…` (1: the format; ends included), as its metadata.

/// Kafka's default for `offset.metadata.max.bytes` is 4096.
const MOST: usize = 4000;

/// What was sent again of one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Done {
    before: i64,
    /// Ends included, in order, apart from each other and from `before`.
    beyond: Vec<(i64, i64)>,
}

// === impl Done ===

impl Done {
    /// From what Kafka keeps. Metadata that is none of ours says nothing.
    pub(super) fn parse(before: i64, metadata: &str) -> Self {
        let ranges = metadata.strip_prefix("1:").into_iter().flat_map(|ranges| ranges.split(','));
        let mut done = Self { before: before.max(0), beyond: Vec::new() };
        for (from, to) in ranges.filter_map(|range| range.split_once('-')) {
            if let (Ok(from), Ok(to)) = (from.parse(), to.parse())
                && from >= done.beyond.last().map_or(done.before, |(_, last)| last + 1)
                && from <= to
            {
                done.beyond.push((from, to));
            }
        }
        done
    }

    /// The first that may not have been sent.
    pub(super) fn before(&self) -> i64 {
        self.before
    }

    /// The ranges, as Kafka keeps them; `None` where there are too many for it.
    pub(super) fn metadata(&self) -> Option<String> {
        if self.beyond.is_empty() {
            return Some(String::new());
        }
        let ranges: Vec<_> = self.beyond.iter().map(|(from, to)| format!("{from}-{to}")).collect();
        Some(format!("1:{}", ranges.join(","))).filter(|text| text.len() <= MOST)
    }

    pub(super) fn contains(&self, offset: i64) -> bool {
        offset < self.before || self.beyond.iter().any(|(from, to)| (*from..=*to).contains(&offset))
    }

    /// Marks an offset.
    pub(super) fn insert(&mut self, offset: i64) {
        let at = self.beyond.partition_point(|(_, to)| *to < offset);
        match self.beyond.get_mut(at) {
            Some((from, _)) if *from <= offset => {}
            Some((from, _)) if *from == offset + 1 => *from = offset,
            _ => self.beyond.insert(at, (offset, offset)),
        }
        self.join(at);
    }

    /// Nothing that is not done stands before this offset: gaps of a topic whose records expired are none.
    pub(super) fn nothing_before(&mut self, offset: i64) {
        self.before = self.before.max(offset);
        self.absorb();
    }

    /// Joins the range at `at` with the one before it, where they touch.
    fn join(&mut self, at: usize) {
        if let Some(previous) = at.checked_sub(1)
            && let (Some(&(from, end)), Some(&(begin, to))) = (self.beyond.get(previous), self.beyond.get(at))
            && end + 1 >= begin
        {
            self.beyond.splice(previous..=at, [(from, to.max(end))]);
        }
        self.absorb();
    }

    fn absorb(&mut self) {
        let before = &mut self.before;
        self.beyond.retain(|&(from, to)| {
            if from <= *before {
                *before = (*before).max(to + 1);
            }
            from > *before
        });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_marked_is_known_after_kafka_kept_it(offsets in prop::collection::vec(0_i64..60, 0..60)) {
            let mut done = Done::default();
            offsets.iter().for_each(|offset| done.insert(*offset));
            let kept = Done::parse(done.before(), &done.metadata().unwrap());
            prop_assert_eq!(&kept, &done);
            let marked: BTreeSet<i64> = offsets.into_iter().collect();
            for offset in 0..61 {
                prop_assert_eq!(kept.contains(offset), marked.contains(&offset), "{}", offset);
            }
        }
    }

    #[test]
    fn too_many_holes_are_not_kept() {
        let mut done = Done::default();
        (0..1000).for_each(|number| done.insert(number * 2 + 1));
        assert_eq!(done.metadata(), None);
        done.nothing_before(2000);
        assert_eq!((done.before(), done.metadata()), (2000, Some(String::new())));
    }

    #[test]
    fn foreign_metadata_says_nothing() {
        for metadata in ["", "consumer-1", "1:", "1:9-3", "1:x-y", "2:1-3"] {
            assert_eq!(Done::parse(5, metadata), Done { before: 5, beyond: vec![] }, "{metadata}");
        }
        assert_eq!(Done::parse(-1001, "1:3-4"), Done { before: 0, beyond: vec![(3, 4)] });
    }
}
