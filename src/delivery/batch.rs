//! A batch: records of one partition in one piece of memory, each with who waits for it.

use std::time::Instant;

use crate::record::headers::Headers;
use crate::record::sink::{Record, Ticket};

/// The most bytes of a batch, unless one record alone has more. Small enough that a half-full one is no waste.
pub(super) const BATCH_BYTES: usize = 1 << 20;

/// An entry without a key.
const NO_KEY: u32 = u32::MAX;
/// A head's first bytes: the record's time, this where it has none.
const TIME: usize = size_of::<i64>();
const NO_TIME: i64 = i64::MIN;

/// Records of one partition, in order. An entry is a head (its time and its encoded headers; nothing where it has
/// neither), its key, if any, and its value.
pub(super) struct Batch {
    /// The topic's and the partition's number at the sink.
    pub(super) place: (usize, usize),
    /// When its first record came.
    pub(super) born: Instant,
    /// It goes as a group of its own: a record in it made a larger group too large for the broker.
    pub(super) alone: bool,
    /// Its place among its partition's batches that went, and that of what comes back of it.
    pub(super) turn: u64,
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    cost: usize,
    /// Records that nobody waits for: they do not expire.
    unattended: usize,
}

#[derive(Clone, Copy)]
struct Entry {
    start: u32,
    /// Where the head ends.
    head: u32,
    /// Where the key ends, or [`NO_KEY`].
    key: u32,
    end: u32,
    ticket: Option<Ticket>,
}

// === impl Batch ===

impl Batch {
    pub(super) fn new(place: (usize, usize), born: Instant) -> Self {
        Self { place, born, alone: false, turn: 0, bytes: Vec::new(), entries: Vec::new(), cost: 0, unattended: 0 }
    }

    /// True where a record of `size` bytes, its key and headers included, still goes in.
    #[inline]
    pub(super) fn has_room(&self, size: usize) -> bool {
        !self.alone && (self.entries.is_empty() || self.bytes.len() + size <= BATCH_BYTES)
    }

    /// How many bytes a record takes in a batch.
    #[inline]
    pub(super) fn size_of(key: Option<&[u8]>, record: &Record<'_>) -> usize {
        head_size(record) + key.map_or(0, <[u8]>::len) + record.value.len()
    }

    /// Takes a copy of a record.
    #[inline]
    pub(super) fn push(&mut self, key: Option<&[u8]>, record: Record<'_>, ticket: Option<Ticket>) {
        let size = Self::size_of(key, &record);
        if self.bytes.capacity() - self.bytes.len() < size {
            self.grow(size);
        }
        let start = self.bytes.len();
        if head_size(&record) > 0 {
            self.bytes.extend_from_slice(&record.timestamp_ms.unwrap_or(NO_TIME).to_le_bytes());
            self.bytes.extend_from_slice(record.headers.as_bytes());
        }
        let head = self.bytes.len();
        if let Some(key) = key {
            self.bytes.extend_from_slice(key);
        }
        let key_end = self.bytes.len();
        self.bytes.extend_from_slice(record.value);
        self.cost += record.cost();
        self.unattended += usize::from(ticket.is_none());
        self.entries.push(Entry {
            start: offset(start),
            head: offset(head),
            key: key.map_or(NO_KEY, |_| offset(key_end)),
            end: offset(self.bytes.len()),
            ticket,
        });
    }

    /// Doubles, but not beyond a batch's bound: a batch of large records must not cost twice its size.
    #[cold]
    fn grow(&mut self, size: usize) {
        let needed = self.bytes.len() + size;
        let wanted = needed.max((2 * self.bytes.capacity()).clamp(1024, BATCH_BYTES));
        self.bytes.reserve_exact(wanted - self.bytes.len());
    }

    /// Number of records.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes of keys, values and headers.
    pub(super) fn size(&self) -> usize {
        self.bytes.len()
    }

    /// True where somebody waits for every record, so that none may be kept beyond its time.
    pub(super) fn may_expire(&self) -> bool {
        self.unattended == 0
    }

    /// Keys and records, in order.
    pub(super) fn records(&self) -> impl Iterator<Item = (Option<&[u8]>, Record<'_>)> {
        self.entries.iter().map(|entry| self.parts(entry))
    }

    /// One record with its key.
    pub(super) fn record(&self, index: usize) -> Option<(Option<&[u8]>, Record<'_>)> {
        self.entries.get(index).map(|entry| self.parts(entry))
    }

    /// Who waits for a record.
    #[inline]
    pub(super) fn ticket(&self, index: usize) -> Option<Ticket> {
        self.entries.get(index).and_then(|entry| entry.ticket)
    }

    /// Who waits for a record, once: nobody waits for it any more.
    #[inline]
    pub(super) fn take_ticket(&mut self, index: usize) -> Option<Ticket> {
        self.entries.get_mut(index).and_then(|entry| entry.ticket.take())
    }

    /// Everybody who waits for a record of it, once.
    pub(super) fn take_tickets(&mut self) -> impl Iterator<Item = Ticket> {
        self.entries.iter_mut().filter_map(|entry| entry.ticket.take())
    }

    /// Its records from one on, as a batch.
    pub(super) fn tail(&self, from: usize) -> Self {
        let mut tail = Self { alone: self.alone, ..Self::new(self.place, self.born) };
        for (entry, (key, record)) in self.records().enumerate().skip(from) {
            tail.push(key, record, self.ticket(entry));
        }
        tail
    }

    /// What its records took from the byte budget.
    pub(super) fn cost(&self) -> usize {
        self.cost
    }

    /// Everybody who waits for a record of it.
    pub(super) fn tickets(&self) -> impl Iterator<Item = Ticket> {
        self.entries.iter().filter_map(|entry| entry.ticket)
    }

    fn parts(&self, entry: &Entry) -> (Option<&[u8]>, Record<'_>) {
        let (key, value) = match entry.key {
            NO_KEY => (None, entry.head),
            end => (Some(self.slice(entry.head, end)), end),
        };
        let mut record = Record::plain(self.slice(value, entry.end));
        if let Some((time, headers)) = self.slice(entry.start, entry.head).split_first_chunk::<TIME>() {
            let time = i64::from_le_bytes(*time);
            record.timestamp_ms = (time != NO_TIME).then_some(time);
            record.headers = Headers::from_bytes(headers);
        }
        (key, record)
    }

    fn slice(&self, start: u32, end: u32) -> &[u8] {
        self.bytes.get(start as usize..end as usize).unwrap_or_default()
    }

    /// Empties the batch for another use, its memory kept.
    pub(super) fn reuse(mut self, place: (usize, usize), born: Instant) -> Self {
        self.bytes.clear();
        self.entries.clear();
        Self { bytes: self.bytes, entries: self.entries, ..Self::new(place, born) }
    }

    /// Bytes of memory behind it.
    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity() + self.entries.capacity() * size_of::<Entry>()
    }
}

/// Bytes of a record's head.
#[inline]
fn head_size(record: &Record<'_>) -> usize {
    if record.headers.is_empty() && record.timestamp_ms.is_none() {
        return 0;
    }
    TIME + record.headers.as_bytes().len()
}

/// A record is at most as large as a frame, which is below 4 GiB.
fn offset(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::headers::HeadersBuf;
    use crate::record::sink::RECORD_OVERHEAD;

    #[test]
    fn records_come_out_as_they_went_in() {
        let mut batch = Batch::new((1, 2), Instant::now());
        let ticket = Ticket { session: 1, generation: 2, slot: 3 };
        let mut headers = HeadersBuf::default();
        headers.push("h", b"1");
        let headed = Record { headers: headers.as_headers(), timestamp_ms: Some(-7), ..Record::plain(b"fourth") };
        let timed = Record { timestamp_ms: Some(9), ..Record::plain(b"") };
        batch.push(None, Record::plain(b"first"), Some(ticket));
        batch.push(Some(b"key"), Record::plain(b""), None);
        batch.push(Some(b""), Record::plain(b"third"), None);
        batch.push(Some(b"key"), headed, None);
        batch.push(None, timed, None);
        let expected = [
            (None, Record::plain(b"first")),
            (Some(&b"key"[..]), Record::plain(b"")),
            (Some(&b""[..]), Record::plain(b"third")),
            (Some(&b"key"[..]), headed),
            (None, timed),
        ];
        assert_eq!(batch.records().collect::<Vec<_>>(), expected);
        assert_eq!(batch.record(3), Some(expected[3]));
        assert_eq!((batch.ticket(0), batch.ticket(1)), (Some(ticket), None));
        assert_eq!(batch.cost(), expected.iter().map(|(_, record)| record.cost()).sum::<usize>());
        assert!(!batch.may_expire());
    }

    #[test]
    fn a_ticket_is_taken_once_and_a_tail_keeps_those_that_are_left() {
        let mut batch = Batch::new((1, 2), Instant::now());
        let ticket = |slot| Ticket { session: 1, generation: 2, slot };
        (0..4).for_each(|slot| batch.push(None, Record::plain(b"x"), Some(ticket(slot))));
        assert_eq!((batch.take_ticket(2), batch.take_ticket(2)), (Some(ticket(2)), None));
        let mut tail = batch.tail(1);
        assert_eq!(tail.len(), 3);
        assert_eq!(tail.take_tickets().collect::<Vec<_>>(), [ticket(1), ticket(3)]);
        assert_eq!(tail.take_tickets().next(), None);
    }

    #[test]
    fn a_record_without_headers_takes_its_own_bytes_alone() {
        let mut batch = Batch::new((1, 2), Instant::now());
        batch.push(None, Record::plain(b"first"), None);
        batch.push(Some(b"key"), Record::plain(b"second"), None);
        assert_eq!((batch.size(), batch.cost()), (14, 11 + 2 * RECORD_OVERHEAD));
        assert_eq!(size_of::<Entry>(), 32);
    }

    #[test]
    fn a_batch_takes_no_more_memory_than_its_records_need() {
        let mut batch = Batch::new((0, 0), Instant::now());
        let record = vec![b'x'; 300_000];
        while batch.has_room(record.len()) {
            batch.push(None, Record::plain(&record), None);
        }
        assert_eq!(batch.len(), 3);
        assert!(batch.capacity() < BATCH_BYTES + 1024, "{}", batch.capacity());
        let large = vec![b'x'; 3 * BATCH_BYTES];
        let mut batch = Batch::new((0, 0), Instant::now());
        assert!(batch.has_room(large.len()));
        batch.push(None, Record::plain(&large), None);
        assert!(!batch.has_room(1));
    }
}
