//! The keeper: writes the checkpoint while something gets done, and deletes the segments that nobody needs.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::checkpoint;
use super::engine::Shared;

/// Works in the background, or step by step.
pub(super) struct Keeper {
    shared: Arc<Shared>,
    failing: bool,
}

/// How often the checkpoint is written. A restart delivers again what was done in this time.
const EVERY: Duration = Duration::from_secs(1);

// === impl Keeper ===

impl Keeper {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, failing: false }
    }

    /// Runs until the spool is closed.
    pub(super) fn run(mut self) {
        while !self.shared.wait_closed(EVERY) {
            self.turn();
        }
    }

    /// Writes the checkpoint if something was done since the last, then deletes what is done.
    pub(super) fn turn(&mut self) {
        let (bytes, finished) = {
            let mut ledger = self.shared.ledger();
            if !ledger.take_dirty() {
                return;
            }
            let highest = self.shared.highest.load(Ordering::Relaxed);
            (checkpoint::encode(&ledger, highest), ledger.finished())
        };
        let written = checkpoint::write(&*self.shared.disk, &self.shared.paths.root, &bytes);
        if let Err(error) = &written {
            if !self.failing {
                tracing::warn!(%error, "spool: the checkpoint cannot be written; a restart would deliver again");
            }
            self.shared.ledger().set_dirty();
        }
        self.failing = written.is_err();
        // A disk that is too full for a checkpoint gets room all the same. That is safe: positions in a segment that is
        // gone say nothing about those that are there.
        if let Err(error) = self.delete(&finished) {
            tracing::warn!(%error, "spool: a segment that is done cannot be deleted");
            self.shared.ledger().set_dirty();
        }
    }

    fn delete(&self, finished: &[u64]) -> io::Result<()> {
        let Shared { disk, paths, quota, quarantine, highest, .. } = &*self.shared;
        // The last one stays, so that its sequence is not used again even without a checkpoint.
        let last = highest.load(Ordering::Relaxed);
        for &sequence in finished.iter().filter(|sequence| **sequence != last) {
            let path = paths.segment(sequence);
            let unreadable = self.shared.ledger().segments.get(&sequence).is_some_and(|segment| segment.unreadable);
            let gone = if unreadable {
                quarantine.take(&path, sequence, "a part of it could not be read")
            } else {
                disk.remove(&path)
            };
            match gone {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let segment = self.shared.ledger().segments.remove(&sequence);
            if let Some(segment) = segment.filter(|_| !unreadable) {
                quota.give_back(segment.size);
            }
        }
        if finished.is_empty() { Ok(()) } else { disk.sync_dir(&paths.segments) }
    }
}
