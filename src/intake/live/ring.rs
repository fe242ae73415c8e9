//! The last entries that anybody listened to, in the order in which they came.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, OnceLock};

/// The most entries that are kept, and the most bytes of them.
const ENTRIES: usize = 16 << 10;
const BYTES: usize = 8 << 20;
/// What an entry costs beside its bytes.
const OVERHEAD: usize = 96;

/// Something that a listener may hear of.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// A record.
    Record {
        /// Its key or channel.
        channel: Arc<[u8]>,
        /// [`hash`] of it.
        hash: u64,
        /// It.
        value: Box<[u8]>,
    },
    /// A command, as a line of MONITOR.
    Command(Box<str>),
    /// Records of a channel that were not copied; of no channel: commands.
    Skipped {
        /// Whose.
        channel: Option<Arc<[u8]>>,
        /// How many.
        count: u64,
    },
}

/// Entries with rising numbers.
#[derive(Debug, Default)]
pub(super) struct Ring {
    first: u64,
    entries: VecDeque<Arc<Entry>>,
    bytes: usize,
}

/// What a listener finds.
pub(super) struct Read {
    pub(super) entries: Vec<Arc<Entry>>,
    /// Entries that it will not see any more.
    pub(super) missed: u64,
    /// Where to go on.
    pub(super) next: u64,
}

/// Tells channels apart without looking at their bytes; the same in the whole process.
pub(super) fn hash(channel: &[u8]) -> u64 {
    static STATE: OnceLock<RandomState> = OnceLock::new();
    STATE.get_or_init(RandomState::new).hash_one(channel)
}

// === impl Entry ===

impl Entry {
    /// How many records or commands it stands for.
    fn weight(&self) -> u64 {
        match self {
            Self::Skipped { count, .. } => *count,
            Self::Record { .. } | Self::Command(_) => 1,
        }
    }

    fn cost(&self) -> usize {
        OVERHEAD
            + match self {
                Self::Record { value, .. } => value.len(),
                Self::Command(line) => line.len(),
                Self::Skipped { .. } => 0,
            }
    }
}

// === impl Ring ===

impl Ring {
    /// Adds an entry, and forgets the oldest ones beyond the bounds.
    pub(super) fn push(&mut self, entry: Entry) {
        self.bytes += entry.cost();
        self.entries.push_back(Arc::new(entry));
        while self.entries.len() > ENTRIES || self.bytes > BYTES {
            let Some(oldest) = self.entries.pop_front() else { break };
            self.bytes -= oldest.cost();
            self.first += 1;
        }
    }

    /// Nobody listens any more.
    pub(super) fn clear(&mut self) {
        self.first = self.end();
        self.entries = VecDeque::new();
        self.bytes = 0;
    }

    /// The number of the next entry.
    pub(super) fn end(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// The newest `most` entries from number `from` on that are `wanted`, in their order, and how many were passed over:
    /// those wanted beyond `most`, and all that are forgotten or beyond the newest `look`.
    pub(super) fn read(&self, from: u64, look: usize, most: usize, wanted: impl Fn(&Entry) -> bool) -> Read {
        let behind = usize::try_from(self.end().saturating_sub(from)).unwrap_or(usize::MAX);
        let looked = behind.min(look).min(self.entries.len());
        let (mut entries, mut missed) = (Vec::new(), (behind - looked) as u64);
        for entry in self.entries.range(self.entries.len() - looked..).rev().filter(|entry| wanted(entry)) {
            if entries.len() < most {
                entries.push(entry.clone());
            } else {
                missed += entry.weight();
            }
        }
        entries.reverse();
        Read { entries, missed, next: self.end() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(length: usize) -> Entry {
        Entry::Record { channel: (*b"k").into(), hash: hash(b"k"), value: vec![0; length].into() }
    }

    #[test]
    fn it_is_bounded_in_number_and_in_bytes() {
        let mut ring = Ring::default();
        (0..2 * ENTRIES).for_each(|_| ring.push(record(1)));
        assert_eq!((ring.entries.len(), ring.end()), (ENTRIES, 2 * ENTRIES as u64));
        (0..100).for_each(|_| ring.push(record(BYTES / 10)));
        assert!(ring.bytes <= BYTES && ring.entries.len() < 10);
        ring.clear();
        assert_eq!((ring.bytes, ring.end()), (0, 2 * ENTRIES as u64 + 100));
    }

    #[test]
    fn who_comes_late_gets_the_newest_and_learns_how_many_he_missed() {
        let mut ring = Ring::default();
        (0..10).for_each(|length| ring.push(record(length)));
        let length = |entry: &Entry| entry.cost() - OVERHEAD;
        let lengths = |from, look, most| {
            let read = ring.read(from, look, most, |entry| length(entry) % 2 == 1);
            (read.entries.iter().map(|entry| length(entry)).collect::<Vec<_>>(), read.missed)
        };
        assert_eq!(lengths(7, 100, 100), (vec![7, 9], 0));
        assert_eq!(lengths(2, 100, 2), (vec![7, 9], 2));
        assert_eq!(lengths(2, 4, 1), (vec![9], 5));
        assert_eq!(lengths(10, 5, 5), (vec![], 0));
        assert_eq!(lengths(99, 5, 5), (vec![], 0));
    }
}
