//! How far replay has ever sent: a mark on the disk behind which nothing went to Kafka, so that a start knows which records
//! an earlier process may have delivered without saying so in the checkpoint.
//!
//! ```text
//! file := magic "TIDERCH1" · segment u64 · offset u64 · crc u32
//! ```
//!
//! The place is the last frame's of which something may have been sent. It is written in place, before what lies beyond it
//! goes: at full speed some way ahead, so that the disk is not asked often, and exactly there while replay only probes and
//! when it ends. That way is short at first and doubles from mark to mark, since replay that has just begun often ends soon, as Kafka
//! is not there after all: a process that is killed then leaves little to be counted that never went. It never goes back behind what an earlier process may have sent. A mark that is torn or missing says that
//! everything may have been.

use std::io;
use std::sync::Arc;

use super::disk::{Disk, DiskFile, read_full, write_full};
use super::engine::Paths;
use super::position::FrameId;

/// How far ahead of what goes the mark is set at full speed, in bytes: at first, and at most.
const AHEAD: (u64, u64) = (64 << 10, 16 << 20);

const NAME: &str = "reach";
const MAGIC: &[u8; 8] = b"TIDERCH1";
const BYTES: usize = 28;

/// The mark of one spool. Its only user is the one reader.
pub(super) struct Reach {
    disk: Arc<dyn Disk>,
    paths: Paths,
    file: Option<Box<dyn DiskFile>>,
    /// The last frame that earlier processes may have sent.
    before: FrameId,
    /// The last that this one has.
    sent: FrameId,
    /// What the disk says, where that is known.
    durable: Option<FrameId>,
    /// Only a little goes at a time.
    is_probing: bool,
    /// How far ahead the next mark is set at full speed.
    ahead: u64,
}

// === impl Reach ===

impl Reach {
    /// Reads the mark, or makes it. `last` is the last segment that was found.
    pub(super) fn open(disk: Arc<dyn Disk>, paths: Paths, last: u64) -> Self {
        let said = read(&*disk, &paths);
        let before = said.unwrap_or(FrameId::new(last, u64::MAX));
        let (sent, ahead) = (FrameId::default(), AHEAD.0);
        let mut reach = Self { disk, paths, file: None, before, sent, durable: said, is_probing: false, ahead };
        if said.is_none() {
            // A disk that does not take it is asked again when something goes.
            _ = reach.write(before);
        }
        reach
    }

    /// Only a little goes from now on, or as much as is there.
    pub(super) fn probe(&mut self, is_probing: bool) {
        if is_probing && !std::mem::replace(&mut self.is_probing, is_probing) {
            self.ahead = AHEAD.0;
            self.set_exactly();
        }
        self.is_probing = is_probing;
    }

    /// True where an earlier process may have sent something of a frame.
    pub(super) fn had(&self, frame: FrameId) -> bool {
        frame <= self.before
    }

    /// Something of a frame is about to go. False where the disk did not take that: a later process would not know of it.
    pub(super) fn cover(&mut self, frame: FrameId) -> bool {
        self.sent = self.sent.max(frame);
        let wanted = self.before.max(self.sent);
        match self.durable {
            Some(durable) if durable >= wanted => true,
            _ if self.is_probing => self.write(wanted),
            _ => {
                let ahead = self.sent.offset.saturating_add(self.ahead);
                self.ahead = (2 * self.ahead).min(AHEAD.1);
                self.write(wanted.max(FrameId::new(self.sent.segment, ahead)))
            }
        }
    }

    fn set_exactly(&mut self) {
        let wanted = self.before.max(self.sent);
        if self.durable != Some(wanted) {
            _ = self.write(wanted);
        }
    }

    fn write(&mut self, place: FrameId) -> bool {
        self.durable = None;
        match self.try_write(place) {
            Ok(()) => self.durable = Some(place),
            Err(error) => {
                tracing::debug!(%error, "spool: how far replay is cannot be written");
                self.file = None;
            }
        }
        self.durable.is_some()
    }

    fn try_write(&mut self, place: FrameId) -> io::Result<()> {
        let path = self.paths.root.join(NAME);
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                let file = match self.disk.edit(&path) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {
                        let file = self.disk.create(&path)?;
                        self.disk.sync_dir(&self.paths.root)?;
                        file
                    }
                    edited => edited?,
                };
                none.insert(file)
            }
        };
        write_full(&**file, &encode(place), 0)?;
        file.sync()
    }
}

impl Drop for Reach {
    fn drop(&mut self) {
        self.set_exactly();
    }
}

fn encode(place: FrameId) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend(place.segment.to_le_bytes());
    bytes.extend(place.offset.to_le_bytes());
    bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
    bytes
}

/// The place that the bytes of a mark say; `None` for other bytes.
fn decode(bytes: &[u8]) -> Option<FrameId> {
    let (content, crc) = bytes.split_last_chunk::<4>()?;
    let rest = content.strip_prefix(MAGIC)?;
    let (segment, rest) = rest.split_first_chunk::<8>()?;
    let (offset, rest) = rest.split_first_chunk::<8>()?;
    let is_sound = rest.is_empty() && crc32c::crc32c(content) == u32::from_le_bytes(*crc);
    is_sound.then(|| FrameId::new(u64::from_le_bytes(*segment), u64::from_le_bytes(*offset)))
}

fn read(disk: &dyn Disk, paths: &Paths) -> Option<FrameId> {
    let file = disk.open(&paths.root.join(NAME)).ok()?;
    let mut bytes = [0; BYTES];
    let read = read_full(&*file, &mut bytes, 0).ok()?;
    decode(bytes.get(..read)?)
}

#[cfg(test)]
mod tests {
    use super::super::disk::RealDisk;
    use super::*;

    #[test]
    fn a_mark_is_read_back_and_a_torn_one_is_none() {
        let place = FrameId::new(7, 1 << 40);
        let bytes = encode(place);
        assert_eq!((bytes.len(), decode(&bytes)), (BYTES, Some(place)));
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert_eq!(decode(&damaged), None, "byte {at}");
            assert_eq!(decode(&bytes[..at]), None, "{at} bytes");
        }
    }

    #[test]
    fn it_is_ahead_at_full_speed_exact_while_probing_and_never_behind_an_earlier_life() {
        let directory = tempfile::tempdir().unwrap();
        let open = |last| Reach::open(Arc::new(RealDisk), Paths::new(directory.path()), last);
        let mut first = open(3);
        assert!(first.had(FrameId::new(3, 1000)) && !first.had(FrameId::new(4, 0)), "nothing is known of the found");
        assert!(first.cover(FrameId::new(5, 100)));
        std::mem::forget(first);
        let mut killed = open(5);
        assert!(killed.had(FrameId::new(5, AHEAD.0 + 100)) && !killed.had(FrameId::new(5, AHEAD.0 + 101)));
        assert!(killed.cover(FrameId::new(6, 100)));
        killed.probe(true);
        assert!(killed.cover(FrameId::new(6, 200)));
        std::mem::forget(killed);
        let mut ended = open(6);
        assert!(ended.had(FrameId::new(6, 200)) && !ended.had(FrameId::new(6, 201)));
        assert!(ended.cover(FrameId::new(6, 50)), "an earlier record goes again");
        assert!(ended.cover(FrameId::new(6, 300)));
        drop(ended);
        let mut last = open(6);
        assert!(last.had(FrameId::new(6, 300)) && !last.had(FrameId::new(6, 301)));
        let mut marked = |offset: u64| {
            assert!(last.cover(FrameId::new(7, offset)));
            last.durable.unwrap().offset - offset
        };
        let ahead: Vec<u64> = (0..10).map(|mark| marked(mark << 30)).collect();
        assert_eq!(ahead[..3], [AHEAD.0, 2 * AHEAD.0, 4 * AHEAD.0]);
        assert_eq!(ahead[8..], [AHEAD.1, AHEAD.1], "it does not grow without end");
        last.probe(true);
        last.probe(false);
        assert!(last.cover(FrameId::new(8, 0)));
        assert_eq!(last.durable, Some(FrameId::new(8, AHEAD.0)), "it begins anew");
    }
}
