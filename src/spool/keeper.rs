//! The keeper: writes the checkpoint while something gets done, and deletes the segments that nobody needs.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::checkpoint;
use super::engine::Shared;
use super::ledger::SegmentState;
use super::spares::Spare;

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

    /// Writes the checkpoint if something was done since the last, then deletes what is done, or keeps its files.
    pub(super) fn turn(&mut self) {
        if !self.has_room() {
            self.clear();
        }
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
        let keeps = written.is_ok() && self.has_room();
        if !keeps {
            self.clear();
        }
        if let Err(error) = self.delete(&finished, keeps) {
            tracing::warn!(%error, "spool: a segment that is done cannot be deleted");
            self.shared.ledger().set_dirty();
        }
    }

    /// Whether there is room for files that are not needed now.
    fn has_room(&self) -> bool {
        let Shared { quota, writable, .. } = &*self.shared;
        writable.load(Ordering::Relaxed) && quota.used() <= quota.limit() / 2
    }

    /// Deletes the spare files.
    fn clear(&self) {
        while let Some(spare) = self.shared.spares.take() {
            // What cannot be deleted now is so at the next start.
            let _ = self.shared.disk.remove(&spare.path);
            self.shared.quota.give_back(spare.bytes);
        }
    }

    fn delete(&self, finished: &[u64], keeps: bool) -> io::Result<()> {
        let Shared { disk, paths, quota, quarantine, spares, highest, .. } = &*self.shared;
        // The last one stays, so that its sequence is not used again even without a checkpoint.
        let last = highest.load(Ordering::Relaxed);
        let (mut kept, mut outcome): (Vec<Spare>, _) = (Vec::new(), Ok(()));
        for &sequence in finished.iter().filter(|sequence| **sequence != last) {
            let path = paths.segment(sequence);
            let state = |state: &SegmentState| (state.size, state.unreadable, state.is_sound && state.holes.is_empty());
            let state = self.shared.ledger().segments.get(&sequence).map(state);
            let Some((bytes, unreadable, is_sound)) = state else { continue };
            let keeps = keeps && !unreadable && is_sound && spares.wants(&kept, bytes, quota.limit());
            let gone = if unreadable {
                quarantine.take(&path, sequence, "a part of it could not be read")
            } else if keeps {
                let spare = paths.spare(sequence);
                disk.rename(&path, &spare).map(|()| kept.push(Spare { path: spare, bytes }))
            } else {
                disk.remove(&path)
            };
            let is_kept = keeps && gone.is_ok();
            match gone {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    outcome = Err(error);
                    break;
                }
                _ => {}
            }
            self.shared.ledger().segments.remove(&sequence);
            if !unreadable && !is_kept {
                quota.give_back(bytes);
            }
        }
        if finished.is_empty() {
            return Ok(());
        }
        let synced = disk.sync_dir(&paths.segments);
        for spare in kept {
            // Only what has durably lost its old name may be written to.
            if synced.is_ok() {
                spares.keep(spare);
            } else {
                let _ = disk.remove(&spare.path);
                quota.give_back(spare.bytes);
            }
        }
        outcome.and(synced)
    }
}
