//! Recovery: what is in the directory → the ledger. Damage costs what is damaged; it never stops a start.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;

use super::checkpoint::{self, Checkpoint};
use super::disk::{DiskFile, is_shortage, patiently, read_full};
use super::engine::Shared;
use super::frame::Header;
use super::lane::Lane;
use super::ledger::{FrameEntry, Ledger, SegmentState};
use super::marks::Marks;
use super::open::OpenError;
use super::position::FrameId;
use super::scan::Source;
use super::segment::{FIRST_FRAME, HEADER_BYTES, SegmentHeader, parse_name};
use super::spares::is_spare;
use crate::record::topic::TopicName;

/// A segment whose header is good. Its file is not held open: a backlog may have more segments than a process has descriptors.
struct Found {
    header: SegmentHeader,
    length: u64,
}

/// Fills the ledger; gives where the last segment ends.
///
/// # Errors
/// The directory cannot be listed, or a file cannot be opened for want of descriptors: with nothing wrong with it, it is not
/// taken for damaged.
pub(super) fn recover(shared: &Shared) -> Result<FrameId, OpenError> {
    let Shared { disk, paths, quota, quarantine, .. } = shared;
    let refused = |cause| OpenError::Disk { path: paths.root.clone(), cause };
    let checkpoint = checkpoint::read(&**disk, &paths.root).map_err(refused)?.unwrap_or_default();
    quota.take(quarantine.measure());
    let names = disk.list(&paths.segments);
    let names = names.map_err(|cause| OpenError::Disk { path: paths.segments.clone(), cause })?;
    for name in names.iter().filter(|name| is_spare(name)) {
        if let Err(error) = disk.remove(&paths.segments.join(name)) {
            tracing::warn!(name, %error, "spool: a file that nobody needs cannot be deleted");
        }
    }
    let mut sequences: Vec<u64> = names.iter().filter_map(|name| parse_name(name)).collect();
    sequences.sort_unstable();
    let highest = sequences.last().copied().unwrap_or_default().max(checkpoint.highest);
    shared.highest.store(highest, Ordering::Relaxed);

    let mut found = Vec::new();
    for sequence in sequences {
        found.extend(find(shared, sequence)?);
    }
    // A segment ends where the one after it says, whatever a failed write left behind.
    let ends: BTreeMap<u64, u64> =
        found.iter().map(|found| (found.header.previous.segment, found.header.previous.offset)).collect();
    let mut ledger = shared.ledger();
    let progress = Progress::of(&mut ledger, checkpoint);
    let mut last = FrameId::default();
    for segment in found {
        let end = ends.get(&segment.header.sequence).copied();
        if let Some(end) = recover_segment(shared, &mut ledger, &progress, &segment, end)? {
            last = FrameId::new(segment.header.sequence, end);
        }
    }
    ledger.set_dirty();
    Ok(last)
}

/// Looks at a segment. One without a good header is put away.
fn find(shared: &Shared, sequence: u64) -> Result<Option<Found>, OpenError> {
    let path = shared.paths.segment(sequence);
    let problem = match patiently(|| open(shared, &path)) {
        Ok((_, length, Some(header))) if header.sequence == sequence => return Ok(Some(Found { header, length })),
        Ok((file, length, _)) if is_unwritten(&*file, length) => {
            // The process ended while it was made: no frame was ever written to it.
            let _ = shared.disk.remove(&path);
            return Ok(None);
        }
        Ok((_, length, _)) => {
            shared.quota.take(length);
            "its header is damaged".to_owned()
        }
        Err(cause) if is_shortage(&cause) => return Err(OpenError::Disk { path, cause }),
        Err(error) => error.to_string(),
    };
    put_away(shared, sequence, &problem);
    Ok(None)
}

fn put_away(shared: &Shared, sequence: u64, problem: &str) {
    if let Err(error) = shared.quarantine.take(&shared.paths.segment(sequence), sequence, problem) {
        tracing::error!(segment = sequence, %error, "spool: the segment cannot be put away");
    }
}

fn open(shared: &Shared, path: &Path) -> io::Result<(Box<dyn DiskFile>, u64, Option<SegmentHeader>)> {
    let file = shared.disk.open(path)?;
    let length = file.length()?;
    let mut bytes = [0; HEADER_BYTES];
    let read = read_full(&*file, &mut bytes, 0)?;
    let header = SegmentHeader::parse(bytes.get(..read).unwrap_or_default());
    Ok((file, length, header))
}

/// Whether nothing but a part of a header, or zeros, was written.
fn is_unwritten(file: &dyn DiskFile, length: u64) -> bool {
    let mut bytes = [0; HEADER_BYTES];
    length < FIRST_FRAME
        || (length == FIRST_FRAME && read_full(file, &mut bytes, 0).is_ok() && bytes == [0; HEADER_BYTES])
}

/// Notes the frames of a segment; gives where they end, or nothing of one that can no longer be opened and is put away.
fn recover_segment(
    shared: &Shared,
    ledger: &mut Ledger,
    progress: &Progress,
    segment: &Found,
    durable_end: Option<u64>,
) -> Result<Option<u64>, OpenError> {
    let Found { header: SegmentHeader { sequence, marker, .. }, length } = segment;
    let (sequence, end) = (*sequence, durable_end.unwrap_or(*length).min(*length));
    let path = shared.paths.segment(sequence);
    let refused = |cause| OpenError::Disk { path: path.clone(), cause };
    let file = match patiently(|| shared.disk.open(&path)) {
        Ok(file) => file,
        Err(cause) if is_shortage(&cause) => return Err(refused(cause)),
        Err(error) => {
            put_away(shared, sequence, &error.to_string());
            return Ok(None);
        }
    };
    let source = Source { file: &*file, sequence, marker: *marker };
    ledger.segments.insert(sequence, SegmentState { marker: *marker, ..SegmentState::default() });
    // Only the last segment can have frames that were not written whole.
    let is_last = durable_end.is_none();
    let mut scanned = source.scan(end, is_last, &mut |offset, header| {
        progress.note(ledger, sequence, offset, header);
    });
    if !is_last && scanned.end < end {
        scanned.holes.push(scanned.end..end);
        scanned.end = end;
    }
    for hole in &scanned.holes {
        shared.quota.take(shared.quarantine.keep(&*file, sequence, hole).map_err(refused)?);
    }
    let size = if *length > scanned.end { cut(shared, sequence, scanned.end, *length) } else { *length };
    shared.quota.take(size);
    if let Some(state) = ledger.segments.get_mut(&sequence) {
        state.end = scanned.end;
        state.size = size;
        state.holes = scanned.holes;
        state.unreadable = scanned.unreadable;
    }
    Ok(Some(scanned.end))
}

/// Cuts off what was not written whole; gives the file's length. Nothing depends on it but the room.
fn cut(shared: &Shared, sequence: u64, end: u64, length: u64) -> u64 {
    let bytes = length - end;
    tracing::info!(segment = sequence, bytes, "spool: what stands behind the last whole frame is cut off");
    let edited = shared.disk.edit(&shared.paths.segment(sequence));
    match edited.and_then(|file| file.truncate(end).and_then(|()| file.sync())) {
        Ok(()) => end,
        Err(error) => {
            tracing::warn!(segment = sequence, %error, "spool: what stands behind the last whole frame cannot be cut off");
            length
        }
    }
}

/// What a checkpoint says, by lane number.
struct Progress {
    lanes: Vec<(FrameId, BTreeMap<FrameId, Marks>)>,
}

// === impl Progress ===

impl Progress {
    fn of(ledger: &mut Ledger, checkpoint: Checkpoint) -> Self {
        let mut lanes = Vec::new();
        for progress in checkpoint.lanes {
            let Ok(topic) = TopicName::new(&progress.topic) else { continue };
            let lane: Lane = ledger.lane(&topic, progress.partition);
            if lanes.len() <= lane.index() {
                lanes.resize_with(lane.index() + 1, Default::default);
            }
            if let Some(place) = lanes.get_mut(lane.index()) {
                *place = (progress.cursor, progress.exceptions.into_iter().collect());
            }
        }
        Self { lanes }
    }

    /// Notes a frame, and what of it is done.
    fn note(&self, ledger: &mut Ledger, sequence: u64, offset: u64, header: &Header<'_>) {
        let lane = match ledger.find(header.topic, header.partition) {
            Some(lane) => lane,
            None => {
                let Ok(topic) = TopicName::new(header.topic) else { return };
                ledger.lane(&topic, header.partition).index()
            }
        };
        let (length, count, timestamp_ms) = (header.frame_length(), header.count, header.first_timestamp_ms);
        let entry = FrameEntry { lane, offset, length, count, timestamp_ms, guard: None };
        let id = FrameId::new(sequence, offset);
        let (cursor, exceptions) = match self.lanes.get(lane) {
            Some((cursor, exceptions)) => (*cursor, exceptions.get(&id)),
            None => (FrameId::default(), None),
        };
        if id < cursor {
            ledger.add_done_frame(sequence, &entry);
        } else {
            ledger.add_frame(sequence, &entry);
            ledger.recovered(lane, id, count, exceptions);
        }
    }
}
