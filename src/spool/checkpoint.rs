//! The checkpoint: what is done, so that a restart does not deliver it again.
//!
//! ```text
//! file      magic "TIDECKP1" · highest sequence varint · lanes … · crc u32
//! lane      topic length varint · topic · partition + 1 varint · cursor · exception count varint · exceptions
//! cursor    segment varint · offset varint
//! exception segment varint · offset varint · range count varint · (start varint · length varint) …
//! ```
//!
//! A lane that is not in it is not done anywhere. At most [`EXCEPTIONS`] exceptions are written; those left out are
//! delivered again. A file that does not fit its checksum is as none.

use std::io;
use std::path::Path;

use super::disk::{Disk, DiskFile, is_shortage, read_full, write_full};
use super::ledger::Ledger;
use super::marks::Marks;
use super::position::FrameId;
use super::record::{put_varint, take_bytes, take_varint};
use super::segment::HIGHEST_SEQUENCE;

/// What a checkpoint says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Checkpoint {
    pub(super) highest: u64,
    pub(super) lanes: Vec<LaneProgress>,
}

/// How far a lane is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LaneProgress {
    pub(super) topic: String,
    pub(super) partition: Option<i32>,
    pub(super) cursor: FrameId,
    pub(super) exceptions: Vec<(FrameId, Marks)>,
}

const NAME: &str = "checkpoint";
const NEW: &str = "checkpoint.new";
const MAGIC: &[u8] = b"TIDECKP1";
const CRC: usize = 4;
/// The most exceptions of one checkpoint, in ranges.
const EXCEPTIONS: usize = 1 << 16;
/// A file larger than this is no checkpoint.
const LARGEST: u64 = 1 << 30;

/// The ledger's progress as bytes.
pub(super) fn encode(ledger: &Ledger, highest: u64) -> Vec<u8> {
    let first = ledger.segments.keys().next().copied().unwrap_or(u64::MAX);
    let mut bytes = MAGIC.to_vec();
    put_varint(&mut bytes, u128::from(highest));
    let mut room = EXCEPTIONS;
    for state in &ledger.lanes {
        let exceptions: Vec<_> = state
            .exceptions()
            .take_while(|(_, marks)| {
                let fits = marks.ranges().len() <= room;
                room -= if fits { marks.ranges().len() } else { 0 };
                fits
            })
            .collect();
        // A cursor ahead of every segment says nothing.
        if state.cursor.segment < first && exceptions.is_empty() {
            continue;
        }
        let (topic, partition) = (state.lane.topic().as_str(), state.lane.partition().unwrap_or(-1));
        put_varint(&mut bytes, topic.len() as u128);
        bytes.extend_from_slice(topic.as_bytes());
        put_varint(&mut bytes, u128::try_from(i64::from(partition) + 1).unwrap_or_default());
        put_position(&mut bytes, state.cursor);
        put_varint(&mut bytes, exceptions.len() as u128);
        for (frame, marks) in exceptions {
            put_position(&mut bytes, frame);
            put_varint(&mut bytes, marks.ranges().len() as u128);
            for range in marks.ranges() {
                put_varint(&mut bytes, u128::from(range.start));
                put_varint(&mut bytes, u128::from(range.end - range.start));
            }
        }
    }
    bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
    bytes
}

/// Reads a checkpoint. `None`: the bytes are none.
pub(super) fn decode(bytes: &[u8]) -> Option<Checkpoint> {
    let (content, crc) = bytes.split_last_chunk::<CRC>()?;
    if crc32c::crc32c(content) != u32::from_le_bytes(*crc) {
        return None;
    }
    let mut rest = content.strip_prefix(MAGIC)?;
    let highest = take_u64(&mut rest).filter(|highest| *highest <= HIGHEST_SEQUENCE)?;
    let mut checkpoint = Checkpoint { highest, lanes: Vec::new() };
    while !rest.is_empty() {
        let topic = std::str::from_utf8(take_bytes(&mut rest)?).ok()?.to_owned();
        let partition = i32::try_from(take_u64(&mut rest)?.checked_sub(1).map_or(-1, u64::cast_signed)).ok()?;
        let partition = (partition >= 0).then_some(partition);
        let cursor = take_position(&mut rest)?;
        let mut exceptions = Vec::new();
        for _ in 0..take_u64(&mut rest)? {
            let frame = take_position(&mut rest)?;
            let mut marks = Marks::default();
            for _ in 0..take_u64(&mut rest)? {
                let start = u32::try_from(take_varint(&mut rest)?).ok()?;
                let length = u32::try_from(take_varint(&mut rest)?).ok()?;
                marks.add(start..start.checked_add(length)?);
            }
            exceptions.push((frame, marks));
        }
        checkpoint.lanes.push(LaneProgress { topic, partition, cursor, exceptions });
    }
    Some(checkpoint)
}

/// Puts a checkpoint in the place of the one before. Should it fail, the one before, or this one, holds.
///
/// # Errors
/// The disk refused.
pub(super) fn write(disk: &dyn Disk, root: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = root.join(NEW);
    // One that was not finished.
    let _ = disk.remove(&new);
    let file = disk.create(&new)?;
    write_full(&*file, bytes, 0)?;
    file.sync()?;
    disk.rename(&new, &root.join(NAME))?;
    disk.sync_dir(root)
}

/// Reads the checkpoint of a directory; one that is missing or damaged says that nothing is done.
///
/// # Errors
/// It cannot be opened for want of descriptors.
pub(super) fn read(disk: &dyn Disk, root: &Path) -> io::Result<Option<Checkpoint>> {
    let file = match disk.open(&root.join(NAME)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if is_shortage(&error) => return Err(error),
        Err(error) => {
            tracing::warn!(%error, "spool: the checkpoint cannot be read; everything is delivered again");
            return Ok(None);
        }
    };
    let checkpoint = read_whole(&*file).and_then(|bytes| decode(&bytes));
    if checkpoint.is_none() {
        tracing::warn!("spool: the checkpoint is damaged; everything is delivered again");
    }
    Ok(checkpoint)
}

fn read_whole(file: &dyn DiskFile) -> Option<Vec<u8>> {
    let length = file.length().ok().filter(|length| *length <= LARGEST)?;
    let mut bytes = vec![0; usize::try_from(length).ok()?];
    let read = read_full(file, &mut bytes, 0).ok()?;
    (read == bytes.len()).then_some(bytes)
}

fn put_position(bytes: &mut Vec<u8>, position: FrameId) {
    put_varint(bytes, u128::from(position.segment));
    put_varint(bytes, u128::from(position.offset));
}

fn take_position(bytes: &mut &[u8]) -> Option<FrameId> {
    Some(FrameId::new(take_u64(bytes)?, take_u64(bytes)?))
}

fn take_u64(bytes: &mut &[u8]) -> Option<u64> {
    u64::try_from(take_varint(bytes)?).ok()
}
