//! The commit thread: all chunks that came meanwhile → one write → one sync → outcomes. It rotates segments, gives up
//! those that fail, and probes a disk that takes no data.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::desk::Chunk;
use super::disk::{DiskFile, is_full, write_all, write_full};
use super::engine::Shared;
use super::ledger::FrameEntry;
use super::position::FrameId;
use super::segment::{FIRST_FRAME, SegmentHeader};
use super::spares::Spare;
use super::writer::WriteError;

/// Gives random numbers, for the markers of segments.
pub(super) type Random = Box<dyn FnMut() -> u64 + Send>;

/// The only writer of segments.
pub(super) struct Committer {
    shared: Arc<Shared>,
    random: Random,
    active: Option<Active>,
    /// Where the last segment that was made ends.
    last: FrameId,
    probed: Option<Instant>,
    entries: Vec<FrameEntry>,
}

/// The segment that is written to.
struct Active {
    file: Box<dyn DiskFile>,
    sequence: u64,
    marker: u64,
    /// Where its durable frames end.
    end: u64,
    /// Bytes of an earlier segment's behind that, which are in the quota until they are written over.
    left_over: u64,
}

/// How long the thread sleeps while nothing comes.
const IDLE: Duration = Duration::from_secs(1);
/// How often a disk that takes no data is probed.
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// What a probe writes: a disk with less room is as good as full.
const PROBE_BYTES: usize = 1 << 20;

// === impl Committer ===

impl Committer {
    /// `last`: where the last segment on the disk ends.
    pub(super) fn new(shared: Arc<Shared>, last: FrameId, random: Random) -> Self {
        Self { shared, random, active: None, last, probed: None, entries: Vec::new() }
    }

    /// Runs until the spool is closed and everything is written.
    pub(super) fn run(mut self) {
        while let Some(group) = self.shared.take_group(IDLE) {
            self.turn(group, Instant::now());
        }
    }

    /// Writes one group of chunks, or fails them.
    pub(super) fn turn(&mut self, group: Vec<Chunk>, now: Instant) {
        if !self.shared.writable.load(Ordering::Relaxed) {
            self.shared.refuse(group, WriteError::Disk(io::ErrorKind::Other));
            self.probe(now);
            return;
        }
        if group.is_empty() {
            return;
        }
        let mut group = group;
        // What a failed segment lost is written once more, to a new one.
        let written = self.write(&mut group).or_else(|error| {
            self.give_up(&error);
            self.write(&mut group).inspect_err(|error| self.give_up(error))
        });
        let records = self.entries.iter().map(|entry| u64::from(entry.count)).sum();
        let shared = &self.shared;
        shared.metrics.bytes.set(as_gauge(shared.quota.used()));
        match written {
            Ok(()) => {
                shared.metrics.spooled.increment(records);
                shared.metrics.commit_seconds.record(now.elapsed());
                shared.metrics.commit_records.record(as_gauge(records));
                shared.news.tell();
                shared.report_outcome(group, Ok(()));
            }
            Err(error) => {
                shared.metrics.unwritten.increment(records);
                self.probed = Some(now);
                self.fail(group, &error);
            }
        }
    }

    /// Writes and syncs a group into the active segment, then notes it in the ledger.
    fn write(&mut self, group: &mut [Chunk]) -> io::Result<()> {
        self.entries.clear();
        if self.active.as_ref().is_none_or(|active| active.end >= self.shared.tuning.segment_bytes) {
            self.rotate()?;
        }
        let Some(active) = &mut self.active else { return Err(io::ErrorKind::NotFound.into()) };
        let mut end = active.end;
        for closed in group.iter_mut().flat_map(|chunk| &mut chunk.frames) {
            closed.frame.seal(active.marker, active.sequence, end);
            let entry = closed.entry(end);
            end += entry.length;
            self.entries.push(entry);
        }
        let frames = group.iter().flat_map(|chunk| &chunk.frames);
        let mut pieces: Vec<IoSlice<'_>> = frames.map(|closed| IoSlice::new(&closed.frame.bytes)).collect();
        write_all(&*active.file, &mut pieces, active.end)?;
        active.file.sync()?;
        // What was written over took no room, and its writers have paid for it.
        let reused = active.left_over.min(end - active.end);
        active.left_over -= reused;
        self.shared.quota.give_back(reused);
        active.end = end;
        self.last = FrameId::new(active.sequence, end);
        self.shared.ledger().commit(active.sequence, &self.entries, end);
        Ok(())
    }

    /// Makes the next segment the active one. Its header and its name are durable when this is done.
    fn rotate(&mut self) -> io::Result<()> {
        if let Some(active) = self.active.take() {
            self.shared.ledger().close_segment(active.sequence, active.left_over);
        }
        let Shared { quota, spares, highest, .. } = &*self.shared;
        let sequence = highest.fetch_add(1, Ordering::Relaxed) + 1;
        // Never zeros, as a file has them where nothing was written.
        let marker = (self.random)() | 1;
        let header = SegmentHeader { sequence, marker, previous: self.last };
        let reused = spares.take().and_then(|spare| self.reuse(&header, spare));
        let (file, left_over) = match reused {
            Some(reused) => reused,
            None => {
                let file = self.create(&header)?;
                quota.take(FIRST_FRAME);
                (file, 0)
            }
        };
        self.shared.ledger().open_segment(sequence, marker, FIRST_FRAME);
        self.last = FrameId::new(sequence, FIRST_FRAME);
        self.active = Some(Active { file, sequence, marker, end: FIRST_FRAME, left_over });
        Ok(())
    }

    fn create(&self, header: &SegmentHeader) -> io::Result<Box<dyn DiskFile>> {
        let Shared { disk, paths, .. } = &*self.shared;
        let path = paths.segment(header.sequence);
        let file = disk.create(&path)?;
        let made = write_full(&*file, &header.encode(), 0)
            .and_then(|()| file.sync())
            .and_then(|()| disk.sync_dir(&paths.segments));
        if let Err(error) = made {
            // It has no frames: a start that finds it passes it over.
            let _ = disk.remove(&path);
            return Err(error);
        }
        Ok(file)
    }

    /// Makes a spare file the segment of this header; gives the bytes that are left of an earlier one behind it. `None`:
    /// that failed, and the file is gone.
    fn reuse(&self, header: &SegmentHeader, spare: Spare) -> Option<(Box<dyn DiskFile>, u64)> {
        let Shared { disk, paths, quota, .. } = &*self.shared;
        let path = paths.segment(header.sequence);
        let made = disk.edit(&spare.path).and_then(|file| {
            write_full(&*file, &header.encode(), 0)?;
            file.sync()?;
            disk.rename(&spare.path, &path)?;
            disk.sync_dir(&paths.segments)?;
            Ok(file)
        });
        match made {
            Ok(file) => Some((file, spare.bytes.saturating_sub(FIRST_FRAME))),
            Err(error) => {
                tracing::warn!(%error, "spool: a file that was to be used again is given up");
                let _ = disk.remove(&spare.path);
                let _ = disk.remove(&path);
                quota.give_back(spare.bytes);
                None
            }
        }
    }

    /// Never writes to the active segment again: after a failed sync nobody knows what of it is on the disk.
    fn give_up(&mut self, error: &io::Error) {
        let Some(active) = self.active.take() else { return };
        tracing::warn!(segment = active.sequence, %error, "spool: the segment is given up");
        self.shared.metrics.poisoned.increment(1);
        // Only to free the room: the next segment says where this one ends.
        let lost = match active.file.truncate(active.end) {
            Ok(()) => 0,
            Err(_) => active.file.length().map_or(active.left_over, |length| length.saturating_sub(active.end)),
        };
        self.shared.quota.take(lost);
        self.shared.quota.give_back(active.left_over);
        self.shared.ledger().give_up_segment(active.sequence, lost);
    }

    fn fail(&self, group: Vec<Chunk>, error: &io::Error) {
        tracing::error!(%error, directory = %self.shared.paths.root.display(), "spool: the disk takes no data");
        self.shared.writable.store(false, Ordering::Relaxed);
        let error = if is_full(error) { WriteError::Full } else { WriteError::Disk(error.kind()) };
        self.shared.refuse(group, error);
    }

    /// Finds out, at most once a second, whether a disk takes data again.
    fn probe(&mut self, now: Instant) {
        if self.probed.is_some_and(|probed| now < probed + PROBE_EVERY) {
            return;
        }
        if self.try_disk().is_ok() {
            tracing::info!("spool: the disk takes data again");
            self.shared.writable.store(true, Ordering::Relaxed);
        }
        self.probed = Some(now);
    }

    /// Writes a file and removes it.
    fn try_disk(&self) -> io::Result<()> {
        let Shared { disk, paths, .. } = &*self.shared;
        let path = paths.root.join(super::lock::PROBE);
        // One that an earlier probe left.
        let _ = disk.remove(&path);
        let file = disk.create(&path)?;
        let written = write_full(&*file, &vec![0; PROBE_BYTES], 0).and_then(|()| file.sync());
        disk.remove(&path).and(written)
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        let Some(active) = self.active.take() else { return };
        // The next start need not look through what an earlier segment left.
        let cut = active.left_over > 0 && active.file.truncate(active.end).is_ok();
        let lost = if cut { 0 } else { active.left_over };
        self.shared.quota.give_back(active.left_over - lost);
        self.shared.ledger().close_segment(active.sequence, lost);
    }
}

#[expect(clippy::cast_precision_loss, reason = "metrics are floating point")]
fn as_gauge(number: u64) -> f64 {
    number as f64
}
