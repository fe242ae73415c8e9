//! A batch: records of one partition in one piece of memory, each with who waits for it.

use std::time::Instant;

use crate::record::sink::{RECORD_OVERHEAD, Ticket};

/// The most bytes of a batch, unless one record alone has more. Small enough that a half-full one is no waste.
pub(super) const BATCH_BYTES: usize = 1 << 20;

/// Records of one partition, in order. An entry's key, if any, stands before its value.
pub(super) struct Batch {
    /// The topic's and the partition's number at the sink.
    pub(super) place: (usize, usize),
    /// When its first record came.
    pub(super) born: Instant,
    /// It goes as a group of its own: a record in it made a larger group too large for the broker.
    pub(super) alone: bool,
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    value_bytes: usize,
    /// Records that nobody waits for: they do not expire.
    unattended: usize,
}

#[derive(Clone, Copy)]
struct Entry {
    start: u32,
    key: Option<u32>,
    end: u32,
    ticket: Option<Ticket>,
}

// === impl Batch ===

impl Batch {
    pub(super) fn new(place: (usize, usize), born: Instant) -> Self {
        Self { place, born, alone: false, bytes: Vec::new(), entries: Vec::new(), value_bytes: 0, unattended: 0 }
    }

    /// True where a record of `size` bytes, its key included, still goes in.
    #[inline]
    pub(super) fn has_room(&self, size: usize) -> bool {
        !self.alone && (self.entries.is_empty() || self.bytes.len() + size <= BATCH_BYTES)
    }

    /// Takes a copy of a record.
    #[inline]
    pub(super) fn push(&mut self, key: Option<&[u8]>, value: &[u8], ticket: Option<Ticket>) {
        let size = value.len() + key.map_or(0, <[u8]>::len);
        if self.bytes.capacity() - self.bytes.len() < size {
            self.grow(size);
        }
        let start = self.bytes.len();
        if let Some(key) = key {
            self.bytes.extend_from_slice(key);
        }
        let key_end = self.bytes.len();
        self.bytes.extend_from_slice(value);
        self.value_bytes += value.len();
        self.unattended += usize::from(ticket.is_none());
        self.entries.push(Entry {
            start: offset(start),
            key: key.map(|_| offset(key_end)),
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

    /// Bytes of keys and values.
    pub(super) fn size(&self) -> usize {
        self.bytes.len()
    }

    /// True where somebody waits for every record, so that none may be kept beyond its time.
    pub(super) fn may_expire(&self) -> bool {
        self.unattended == 0
    }

    /// Keys and values, in order.
    pub(super) fn records(&self) -> impl Iterator<Item = (Option<&[u8]>, &[u8])> {
        self.entries.iter().map(|entry| self.parts(entry))
    }

    /// Key and value of one record.
    pub(super) fn record(&self, index: usize) -> Option<(Option<&[u8]>, &[u8])> {
        self.entries.get(index).map(|entry| self.parts(entry))
    }

    /// Who waits for a record.
    #[inline]
    pub(super) fn ticket(&self, index: usize) -> Option<Ticket> {
        self.entries.get(index).and_then(|entry| entry.ticket)
    }

    /// What its records took from the byte budget.
    pub(super) fn cost(&self) -> usize {
        self.value_bytes + self.entries.len() * RECORD_OVERHEAD
    }

    /// Everybody who waits for a record of it.
    pub(super) fn tickets(&self) -> impl Iterator<Item = Ticket> {
        self.entries.iter().filter_map(|entry| entry.ticket)
    }

    fn parts(&self, entry: &Entry) -> (Option<&[u8]>, &[u8]) {
        let value = entry.key.unwrap_or(entry.start);
        let key = entry.key.map(|end| self.slice(entry.start, end));
        (key, self.slice(value, entry.end))
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

/// A record is at most as large as a frame, which is below 4 GiB.
fn offset(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_out_as_they_went_in() {
        let mut batch = Batch::new((1, 2), Instant::now());
        let ticket = Ticket { session: 1, generation: 2, slot: 3 };
        batch.push(None, b"first", Some(ticket));
        batch.push(Some(b"key"), b"", None);
        batch.push(Some(b""), b"third", None);
        let records: Vec<_> = batch.records().collect();
        assert_eq!(records, [(None, &b"first"[..]), (Some(&b"key"[..]), &b""[..]), (Some(&b""[..]), &b"third"[..])]);
        assert_eq!((batch.ticket(0), batch.ticket(1)), (Some(ticket), None));
        assert_eq!((batch.size(), batch.cost()), (13, 10 + 3 * RECORD_OVERHEAD));
        assert!(!batch.may_expire());
    }

    #[test]
    fn a_batch_takes_no_more_memory_than_its_records_need() {
        let mut batch = Batch::new((0, 0), Instant::now());
        let record = vec![b'x'; 300_000];
        while batch.has_room(record.len()) {
            batch.push(None, &record, None);
        }
        assert_eq!(batch.len(), 3);
        assert!(batch.capacity() < BATCH_BYTES + 1024, "{}", batch.capacity());
        let large = vec![b'x'; 3 * BATCH_BYTES];
        let mut batch = Batch::new((0, 0), Instant::now());
        assert!(batch.has_room(large.len()));
        batch.push(None, &large, None);
        assert!(!batch.has_room(1));
    }
}
