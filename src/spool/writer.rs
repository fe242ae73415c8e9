//! The write path of one worker: records → frames → a chunk a turn.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::desk::{Chunk, ClosedFrame, Desk};
use super::engine::Shared;
use super::frame::{Kind, OpenFrame};
use super::lane::Lane;
use super::marks::Delivered;
use super::quota::Advance;
use super::record::Record;

/// The number of a writer's chunk, growing by one from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sequence(pub u64);

/// Why a record is not taken. Nothing of it is in the spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// The spool has as many bytes as it may.
    #[error("the spool has reached its max_size")]
    Quota,
    /// The disk has no room or does not work; it is tried again once a second.
    #[error("the spool's disk takes no data")]
    Disk,
    /// The disk is slower than what comes.
    #[error("too much waits for the spool's disk")]
    Pending,
}

/// Why a chunk is not durable. Its records are not in the spool any more; after a crash they may turn up all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The disk, or its quota, has no room.
    #[error("the spool's disk is full")]
    Full,
    /// Writing failed, twice.
    #[error("the spool's disk failed: {0}")]
    Disk(std::io::ErrorKind),
    /// The spool was closed.
    #[error("the spool is closed")]
    Closed,
}

/// Appends records for one thread. Dropping it submits what was appended.
pub struct Writer {
    shared: Arc<Shared>,
    desk: Arc<Desk>,
    /// The turn's frames, in the order in which they were opened.
    frames: Vec<ClosedFrame>,
    /// Where in `frames` the open frame of each lane is.
    open: Vec<Option<usize>>,
    buffers: Vec<Vec<u8>>,
    advance: Advance,
    bytes: usize,
    submitted: u64,
    unwritten: Vec<OpenFrame>,
}

/// Records that are also at Kafka's client, which has not said yet what became of them. Until it is resolved, its lane is
/// not replayed. Dropping it resolves it as not delivered.
#[must_use]
pub struct Guard {
    shared: Arc<Shared>,
    number: usize,
    resolved: bool,
}

/// A frame that the disk did not take.
#[derive(Debug)]
pub struct Unwritten(OpenFrame);

/// Buffers that a writer keeps for its next frames.
const BUFFERS: usize = 64;

// === impl Writer ===

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, desk: Desk) -> Self {
        Self {
            shared,
            desk: Arc::new(desk),
            frames: Vec::new(),
            open: Vec::new(),
            buffers: Vec::new(),
            advance: Advance::default(),
            bytes: 0,
            submitted: 0,
            unwritten: Vec::new(),
        }
    }

    /// Takes a copy of a record; gives the chunk with which it becomes durable. Counts it into the lane's backlog.
    ///
    /// # Errors
    /// There is no room: nothing was taken.
    #[inline]
    pub fn append(&mut self, lane: &Lane, record: &Record<'_>) -> Result<Sequence, Full> {
        self.check()?;
        let limit = self.shared.tuning.frame_bytes;
        let at = match self.open.get(lane.index()).copied().flatten() {
            Some(at) if self.frames.get(at).is_some_and(|open| open.frame.bytes.len() < limit) => at,
            _ => self.open_frame(lane),
        };
        let Some(ClosedFrame { frame, .. }) = self.frames.get_mut(at) else { return Err(Full::Pending) };
        let (length, previous) = (if frame.count == 0 { 0 } else { frame.bytes.len() }, frame.previous());
        frame.push(record);
        let grown = frame.bytes.len() - length;
        if !self.advance.try_take(grown as u64, &self.shared.quota) {
            if length == 0 {
                self.frames.pop();
                self.forget_open(lane);
            } else {
                frame.take_back(length, previous);
            }
            return Err(Full::Quota);
        }
        self.bytes += grown;
        lane.add_backlog(1);
        Ok(self.sequence())
    }

    /// Takes copies of records that Kafka's client has as well, behind what was appended to the lane before; all, or none.
    /// Counts them into the lane's backlog.
    ///
    /// # Errors
    /// There is no room: nothing was taken.
    pub fn guard<'a>(&mut self, lane: &Lane, records: impl Iterator<Item = Record<'a>>) -> Result<Guard, Full> {
        self.check()?;
        let limit = self.shared.tuning.frame_bytes;
        let mut frames: Vec<(OpenFrame, u32)> = Vec::new();
        let mut count = 0_u32;
        for record in records {
            if frames.last().is_none_or(|(frame, _)| frame.bytes.len() >= limit) {
                let buffer = self.buffers.pop().unwrap_or_default();
                frames.push((OpenFrame::new(buffer, lane.topic().as_str(), lane.partition(), Kind::Guard), count));
            }
            if let Some((frame, _)) = frames.last_mut() {
                frame.push(&record);
            }
            count += 1;
        }
        let bytes: usize = frames.iter().map(|(frame, _)| frame.bytes.len()).sum();
        if !self.advance.try_take(bytes as u64, &self.shared.quota) {
            return Err(Full::Quota);
        }
        let number = self.shared.ledger().guard(lane, frames.len());
        self.forget_open(lane);
        let closed = frames.into_iter().map(|(frame, first)| {
            let guard = Some((number, first));
            ClosedFrame { frame, lane: lane.index(), guard }
        });
        self.frames.extend(closed);
        self.bytes += bytes;
        lane.add_backlog(u64::from(count));
        Ok(Guard { shared: Arc::clone(&self.shared), number, resolved: false })
    }

    /// The chunk with which what is appended now becomes durable.
    #[inline]
    pub fn sequence(&self) -> Sequence {
        Sequence(self.submitted + 1)
    }

    /// Hands what was appended to the disk, if there is anything.
    pub fn submit(&mut self) {
        if self.frames.is_empty() {
            return;
        }
        self.submitted += 1;
        let mut frames = std::mem::take(&mut self.frames);
        for closed in &mut frames {
            closed.frame.close();
            if let Some(open) = self.open.get_mut(closed.lane) {
                *open = None;
            }
        }
        let (sequence, bytes) = (Sequence(self.submitted), std::mem::take(&mut self.bytes));
        self.shared.submit(Chunk { desk: Arc::clone(&self.desk), sequence, frames, bytes });
    }

    /// Hands over what became of chunks, each once, in order. The records of those that failed can be had back from
    /// [`Writer::take_unwritten`] until the next call.
    pub fn outcomes(&mut self, mut each: impl FnMut(Sequence, Result<(), WriteError>)) {
        let outcomes = {
            let mut tray = self.desk.tray();
            let room = BUFFERS.saturating_sub(self.buffers.len()).min(tray.buffers.len());
            self.buffers.extend(tray.buffers.drain(..room));
            self.unwritten = std::mem::take(&mut tray.unwritten);
            std::mem::take(&mut tray.outcomes)
        };
        for (sequence, outcome) in outcomes {
            each(sequence, outcome);
        }
    }

    /// The frames of the chunks that the last outcomes say failed at the disk, in the order of the chunks; guards left out.
    pub fn take_unwritten(&mut self) -> Vec<Unwritten> {
        std::mem::take(&mut self.unwritten).into_iter().map(Unwritten).collect()
    }

    /// Blocks until an outcome is there, at most for `time`; whether there is one.
    pub fn wait(&self, time: Duration) -> bool {
        self.desk.wait(time)
    }

    /// Gives back what it has in advance of the quota.
    pub(super) fn settle_advance(&mut self) {
        self.advance.settle(&self.shared.quota);
    }

    fn check(&self) -> Result<(), Full> {
        if !self.shared.writable.load(Ordering::Relaxed) {
            return Err(Full::Disk);
        }
        if self.shared.pending.load(Ordering::Relaxed) + self.bytes > self.shared.tuning.pending_bytes {
            return Err(Full::Pending);
        }
        Ok(())
    }

    fn open_frame(&mut self, lane: &Lane) -> usize {
        let buffer = self.buffers.pop().unwrap_or_default();
        let frame = OpenFrame::new(buffer, lane.topic().as_str(), lane.partition(), Kind::Records);
        self.frames.push(ClosedFrame { frame, lane: lane.index(), guard: None });
        if self.open.len() <= lane.index() {
            self.open.resize(lane.index() + 1, None);
        }
        let at = self.frames.len() - 1;
        if let Some(open) = self.open.get_mut(lane.index()) {
            *open = Some(at);
        }
        at
    }

    fn forget_open(&mut self, lane: &Lane) {
        if let Some(open) = self.open.get_mut(lane.index()) {
            *open = None;
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.submit();
        self.settle_advance();
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("submitted", &self.submitted).field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

// === impl Unwritten ===

impl Unwritten {
    /// The partition of its lane; nothing where that was not known.
    pub fn partition(&self) -> Option<i32> {
        self.0.partition()
    }

    /// Its records, in order.
    pub fn records(&self) -> impl Iterator<Item = Record<'_>> {
        self.0.records()
    }
}

// === impl Guard ===

impl Guard {
    /// Says what became of the records at Kafka's client.
    pub fn resolve(mut self, delivered: Delivered) {
        self.settle(delivered);
    }

    fn settle(&mut self, delivered: Delivered) {
        if !std::mem::replace(&mut self.resolved, true) {
            self.shared.ledger().resolve(self.number, delivered);
            self.shared.news.tell();
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.settle(Delivered::None);
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").field("number", &self.number).finish_non_exhaustive()
    }
}
