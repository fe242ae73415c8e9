//! Records that the spool's disk failed to take. A reply that promises the disk is a refusal then. Any other record goes
//! back to Kafka's queue, where it is refused only if Kafka does not take it in its time either.
//!
//! # Order
//! What comes back came before everything that waits in memory for its partition, and after what is in flight there: it goes
//! between the two. While a lane's outcomes are not all known, its way does not turn back to Kafka; what comes back then
//! goes only once every chunk that was begun before its failure was known has an outcome, and nothing is appended to its
//! lane, nor sent, until then. Should a later record of its topic be on disk by then, as the disk worked again within that
//! moment, what came back would be overtaken: it is refused.
//!
//! Records of a lane without a partition are refused as well: where Kafka does not name partitions, it takes no records.

use std::collections::VecDeque;
use std::time::Instant;

use crate::delivery::batch::Batch;
use crate::record::headers::Headers;
use crate::record::partition::PartitionChoice;
use crate::record::sink::{Record, Ticket};
use crate::spool::{Sequence, Unwritten};

/// Records that were not written, in the order in which they were appended.
#[derive(Default)]
pub(super) struct Unstored {
    records: VecDeque<Lost>,
}

struct Lost {
    id: u128,
    partition: Option<usize>,
    key: Option<Box<[u8]>>,
    headers: Box<[u8]>,
    value: Box<[u8]>,
    timestamp_ms: i64,
}

/// A run of records that failed, sorted.
#[derive(Default)]
pub(super) struct Sorted {
    /// What goes back, by partition.
    pub(super) batches: Vec<Batch>,
    /// What is refused: how many records, what they took from the budget, and who waits for them.
    pub(super) records: usize,
    pub(super) cost: usize,
    pub(super) tickets: Vec<Ticket>,
}

/// Partitions, as the sink numbers them, that hold records which came back.
#[derive(Default)]
pub(super) struct Held {
    places: Vec<HeldPlace>,
}

struct HeldPlace {
    place: (usize, usize),
    failed: Sequence,
    /// The last chunk that was begun before the failure was known.
    until: Sequence,
    is_overtaken: bool,
}

// === impl Unstored ===

impl Unstored {
    /// Takes frames that were not written. A worker's ids grow from record to record: by them its lanes' frames fall into
    /// the order of appending again.
    pub(super) fn add(&mut self, frames: &[Unwritten]) {
        let mut added: Vec<Lost> = Vec::new();
        for frame in frames {
            let partition = frame.partition().and_then(|partition| usize::try_from(partition).ok());
            added.extend(frame.records().map(|record| Lost {
                id: record.id,
                partition,
                key: if let PartitionChoice::Key(key) = record.choice { Some(key.into()) } else { None },
                headers: record.headers.into(),
                value: record.value.into(),
                timestamp_ms: record.timestamp_ms,
            }));
        }
        added.sort_unstable_by_key(|lost| lost.id);
        self.records.extend(added);
    }

    /// Takes the next run: `count` records of a topic that came at `born`, which all have a ticket or all have none.
    pub(super) fn take(&mut self, topic: usize, count: usize, tickets: &[Ticket], born: Instant) -> Sorted {
        let mut sorted = Sorted::default();
        let count = count.min(self.records.len());
        for (place, lost) in self.records.drain(..count).enumerate() {
            let headers = Headers::from_bytes(&lost.headers);
            let record = Record { value: &lost.value, headers, timestamp_ms: Some(lost.timestamp_ms) };
            let (key, ticket) = (lost.key.as_deref(), tickets.get(place).copied());
            let Some(partition) = lost.partition else {
                sorted.records += 1;
                sorted.cost += record.cost();
                sorted.tickets.extend(ticket);
                continue;
            };
            let size = Batch::size_of(key, &record);
            let fits = |batch: &&mut Batch| batch.place.1 == partition && batch.has_room(size);
            // The last of the partition: order is kept.
            let last = sorted.batches.iter_mut().rev().find(|batch| batch.place.1 == partition).filter(fits);
            match last {
                Some(batch) => batch.push(key, record, ticket),
                None => {
                    let mut batch = Batch::new((topic, partition), born);
                    batch.push(key, record, ticket);
                    sorted.batches.push(batch);
                }
            }
        }
        sorted
    }

    /// Lets go of the next run.
    pub(super) fn skip(&mut self, count: usize) {
        self.records.drain(..count.min(self.records.len()));
    }
}

// === impl Held ===

impl Held {
    /// Something came back for a partition from the chunk `failed`; `until` is the last chunk that was begun since.
    pub(super) fn hold(&mut self, place: (usize, usize), failed: Sequence, until: Sequence) {
        match self.places.iter_mut().find(|held| held.place == place) {
            Some(held) => held.until = until,
            None => self.places.push(HeldPlace { place, failed, until, is_overtaken: false }),
        }
    }

    /// Records of a topic are on disk, with this chunk.
    pub(super) fn stored(&mut self, topic: usize, chunk: Sequence) {
        for held in self.places.iter_mut().filter(|held| held.place.0 == topic && held.failed < chunk) {
            held.is_overtaken = true;
        }
    }

    /// Lets go of the partitions that need not wait any longer, each with whether what it holds was overtaken. `awaited` is
    /// the first chunk without an outcome.
    pub(super) fn release(&mut self, awaited: Option<Sequence>) -> Vec<((usize, usize), bool)> {
        let over = self.places.extract_if(.., |held| awaited.is_none_or(|chunk| chunk > held.until));
        over.map(|held| (held.place, held.is_overtaken)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(id: u128, partition: Option<usize>) -> Lost {
        let value = id.to_string().into_bytes().into();
        Lost { id, partition, key: None, headers: [].into(), value, timestamp_ms: 7 }
    }

    #[test]
    fn a_run_is_sorted_by_partition_each_in_order_with_its_tickets() {
        let records = (0..6).map(|id| lost(id, [Some(2), Some(0), None][id as usize % 3])).collect();
        let mut unstored = Unstored { records };
        let tickets: Vec<Ticket> = (0..5).map(|slot| Ticket { session: 1, generation: 1, slot }).collect();
        unstored.skip(1);
        let sorted = unstored.take(9, 5, &tickets, Instant::now());
        let content = |batch: &Batch| {
            let values = batch.records().map(|(_, record)| String::from_utf8_lossy(record.value).into_owned());
            let slots = batch.tickets().map(|ticket| ticket.slot);
            (batch.place, values.collect::<Vec<_>>(), slots.collect::<Vec<_>>())
        };
        let batches: Vec<_> = sorted.batches.iter().map(content).collect();
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        assert_eq!(batches, [((9, 0), texts(&["1", "4"]), vec![0, 3]), ((9, 2), texts(&["3"]), vec![2])]);
        let refused: Vec<u32> = sorted.tickets.iter().map(|ticket| ticket.slot).collect();
        assert_eq!((sorted.records, refused), (2, vec![1, 4]));
        assert_eq!(unstored.take(9, 3, &[], Instant::now()).records, 0);
    }

    #[test]
    fn what_came_back_waits_for_the_outcome_of_what_was_begun_meanwhile() {
        let mut held = Held::default();
        held.hold((1, 0), Sequence(4), Sequence(6));
        held.hold((2, 0), Sequence(4), Sequence(6));
        assert!(held.release(Some(Sequence(5))).is_empty());
        held.stored(1, Sequence(3));
        held.stored(2, Sequence(5));
        assert!(held.release(Some(Sequence(6))).is_empty());
        assert_eq!(held.release(Some(Sequence(7))), [((1, 0), false), ((2, 0), true)]);
        held.hold((1, 0), Sequence(8), Sequence(8));
        assert_eq!(held.release(None), [((1, 0), false)]);
    }
}
