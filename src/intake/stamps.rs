//! What tells one record from every other: its id, and when it came. One for each worker.

use std::hash::{BuildHasher, RandomState};
use std::time::SystemTime;

use jiff::Timestamp;

use super::shared::unix_micros;
use crate::record::enrich::Moment;

/// Makes ids: 16 digits of this worker's life, 16 of the record in it.
#[derive(Debug)]
pub(super) struct Stamps {
    life: u64,
    records: u64,
    id: String,
    received_ms: u64,
    received: String,
}

// === impl Stamps ===

impl Stamps {
    pub(super) fn new() -> Self {
        // The standard library's hasher is seeded by the operating system, differently in each process and for each one.
        let life = RandomState::new().hash_one(SystemTime::now());
        Self { life, records: 0, id: String::new(), received_ms: 0, received: String::new() }
    }

    /// For the next record.
    pub(super) fn next(&mut self) -> Moment<'_> {
        use std::fmt::Write as _;
        let now = unix_micros(SystemTime::now()) / 1000;
        let received_ms = i64::try_from(now).unwrap_or(i64::MAX);
        if now != self.received_ms || self.received.is_empty() {
            self.received_ms = now;
            self.received =
                Timestamp::from_millisecond(received_ms).map(|time| format!("{time:.3}")).unwrap_or_default();
        }
        self.records += 1;
        self.id.clear();
        // Writing to a String cannot fail.
        _ = write!(self.id, "{:016x}{:016x}", self.life, self.records);
        Moment { id: &self.id, received: &self.received, received_ms }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_records_have_one_id_not_even_of_two_workers() {
        let (mut one, mut other) = (Stamps::new(), Stamps::new());
        let ids: std::collections::HashSet<String> =
            (0..100).flat_map(|_| [one.next().id.to_owned(), other.next().id.to_owned()]).collect();
        assert_eq!(ids.len(), 200);
        assert!(ids.iter().all(|id| id.len() == 32));
        assert!(one.next().received.ends_with('Z'));
    }
}
