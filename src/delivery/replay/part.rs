//! What was read of the spool and is not settled.

use metrics::Counter;

use crate::delivery::batch::Batch;
use crate::spool::FrameId;

/// A batch that was read: records of one frame, by their places in it.
pub(super) struct Part {
    pub(super) frame: FrameId,
    pub(super) places: Vec<u32>,
    /// When the last of them was received, in Unix milliseconds.
    pub(super) newest_ms: i64,
    /// An earlier process may have delivered them, or a later one may once more and not know of it.
    pub(super) may_be_twice: bool,
    /// They are dead letters, on their way to this box.
    pub(super) letters: Option<usize>,
}

impl Part {
    /// Counts what is handed over though it may be there. Not what is confirmed: a process that ends in between leaves it to
    /// the next one to write it for the third time.
    pub(super) fn count_twice(&self, batch: &Batch, restarted: &Counter) {
        if self.may_be_twice {
            restarted.increment(batch.len() as u64);
        }
    }
}
