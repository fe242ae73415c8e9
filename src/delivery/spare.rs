//! Memory kept for batches to come: fresh pages for each batch would cost more than the copy into them.

use std::time::Instant;

use super::batch::Batch;

/// The most memory kept, in bytes.
const KEEP: usize = 8 << 20;

/// Batches that were delivered, emptied.
#[derive(Default)]
pub(super) struct Spare {
    batches: Vec<Batch>,
    bytes: usize,
}

// === impl Spare ===

impl Spare {
    /// An empty batch.
    pub(super) fn batch(&mut self, place: (usize, usize), born: Instant) -> Batch {
        match self.batches.pop() {
            Some(batch) => {
                self.bytes -= batch.capacity();
                batch.reuse(place, born)
            }
            None => Batch::new(place, born),
        }
    }

    /// Keeps a delivered batch's memory, if there is room for it.
    pub(super) fn keep(&mut self, batch: Batch) {
        let capacity = batch.capacity();
        if self.bytes + capacity <= KEEP {
            self.bytes += capacity;
            self.batches.push(batch);
        }
    }
}
