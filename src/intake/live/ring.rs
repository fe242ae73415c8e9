//! The last entries that anybody listened to, in the order in which they came.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, OnceLock};

/// The most entries that are kept, and the most bytes of them.
const ENTRIES: usize = 16 << 10;
const BYTES: usize = 8 << 20;
/// What an entry costs beside its bytes.
const OVERHEAD: usize = 96;

/// A key or channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Channel {
    pub(super) name: Arc<[u8]>,
    /// [`hash`] of the name.
    pub(super) hash: u64,
}

/// Something that a listener may hear of.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// A record.
    Record {
        /// Its key or channel.
        channel: Channel,
        /// It.
        value: Box<[u8]>,
    },
    /// A command, as a line of MONITOR.
    Command(Box<str>),
    /// Records of a channel that were not copied; of no channel: commands.
    Skipped {
        /// Whose.
        channel: Option<Channel>,
        /// How many.
        count: u64,
    },
}

/// What an entry is about. Most listeners pass over most entries: they need not look at more than this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// A channel, by its hash.
    Channel(u64),
    Commands,
}

/// Entries with rising numbers.
#[derive(Debug, Default)]
pub(super) struct Ring {
    first: u64,
    slots: VecDeque<Slot>,
    bytes: usize,
}

#[derive(Debug)]
struct Slot {
    subject: Subject,
    /// How many records or commands it stands for.
    weight: u64,
    entry: Arc<Entry>,
}

/// Where a listener goes on reading, and how much it takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    /// The number of the first entry.
    pub(super) from: u64,
    /// The most entries that are looked at.
    pub(super) look: usize,
    /// The most that are taken, but one in any case, in bytes.
    pub(super) room: usize,
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

// === impl Channel ===

impl Channel {
    pub(super) fn new(name: &[u8]) -> Self {
        Self { name: name.into(), hash: hash(name) }
    }
}

// === impl Entry ===

impl Entry {
    fn subject(&self) -> Subject {
        match self {
            Self::Record { channel, .. } | Self::Skipped { channel: Some(channel), .. } => {
                Subject::Channel(channel.hash)
            }
            Self::Command(_) | Self::Skipped { channel: None, .. } => Subject::Commands,
        }
    }

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
        self.slots.push_back(Slot { subject: entry.subject(), weight: entry.weight(), entry: Arc::new(entry) });
        while self.slots.len() > ENTRIES || self.bytes > BYTES {
            let Some(oldest) = self.slots.pop_front() else { break };
            self.bytes -= oldest.entry.cost();
            self.first += 1;
        }
    }

    /// Nobody listens any more.
    pub(super) fn clear(&mut self) {
        self.first = self.end();
        self.slots = VecDeque::new();
        self.bytes = 0;
    }

    /// The number of the next entry.
    pub(super) fn end(&self) -> u64 {
        self.first + self.slots.len() as u64
    }

    /// The newest entries of a span that are `wanted`, in their order, and how many were passed over: those wanted that
    /// found no room, and all that are forgotten or beyond the newest `look`.
    pub(super) fn read(&self, span: Span, wanted: impl Fn(Subject, &Entry) -> bool) -> Read {
        let behind = usize::try_from(self.end().saturating_sub(span.from)).unwrap_or(usize::MAX);
        let looked = behind.min(span.look).min(self.slots.len());
        let (mut entries, mut missed, mut bytes) = (Vec::new(), (behind - looked) as u64, 0);
        for slot in self.slots.range(self.slots.len() - looked..).rev() {
            if !wanted(slot.subject, &slot.entry) {
                continue;
            }
            if bytes < span.room {
                bytes += slot.entry.cost();
                entries.push(slot.entry.clone());
            } else {
                missed += slot.weight;
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
        Entry::Record { channel: Channel::new(b"k"), value: vec![0; length].into() }
    }

    #[test]
    fn it_is_bounded_in_number_and_in_bytes() {
        let mut ring = Ring::default();
        (0..2 * ENTRIES).for_each(|_| ring.push(record(1)));
        assert_eq!((ring.slots.len(), ring.end()), (ENTRIES, 2 * ENTRIES as u64));
        (0..100).for_each(|_| ring.push(record(BYTES / 10)));
        assert!(ring.bytes <= BYTES && ring.slots.len() < 10);
        ring.clear();
        assert_eq!((ring.bytes, ring.end()), (0, 2 * ENTRIES as u64 + 100));
    }

    #[test]
    fn who_comes_late_gets_the_newest_and_learns_how_many_he_missed() {
        let mut ring = Ring::default();
        (0..10).for_each(|length| ring.push(record(length)));
        let length = |entry: &Entry| entry.cost() - OVERHEAD;
        let lengths = |from, look, most: usize| {
            // Each of them takes a little more than the overhead, so that the last one still begins within the room.
            let span = Span { from, look, room: most * OVERHEAD };
            let read = ring.read(span, |_, entry| length(entry) % 2 == 1);
            (read.entries.iter().map(|entry| length(entry)).collect::<Vec<_>>(), read.missed)
        };
        assert_eq!(lengths(7, 100, 100), (vec![7, 9], 0));
        assert_eq!(lengths(2, 100, 2), (vec![7, 9], 2));
        assert_eq!(lengths(2, 4, 1), (vec![9], 5));
        assert_eq!(lengths(10, 5, 5), (vec![], 0));
        assert_eq!(lengths(99, 5, 5), (vec![], 0));
    }
}
