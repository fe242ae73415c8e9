//! What goes from a writer to the commit thread, and back.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::frame::OpenFrame;
use super::ledger::FrameEntry;
use super::writer::{Sequence, WriteError};

/// The frames of one turn of one writer.
pub(super) struct Chunk {
    pub(super) desk: Arc<Desk>,
    pub(super) sequence: Sequence,
    pub(super) frames: Vec<ClosedFrame>,
    pub(super) bytes: usize,
}

/// A frame that is to be written.
pub(super) struct ClosedFrame {
    pub(super) frame: OpenFrame,
    pub(super) lane: usize,
    /// Of which guard, and from its which record on.
    pub(super) guard: Option<(usize, u32)>,
}

/// Where a writer finds its outcomes.
pub(super) struct Desk {
    tray: Mutex<Tray>,
    came: Condvar,
    wake: Arc<OwnedFd>,
}

/// What came back and was not taken yet.
#[derive(Default)]
pub(super) struct Tray {
    pub(super) outcomes: VecDeque<(Sequence, Result<(), WriteError>)>,
    /// Frames of records that the disk did not take, guards left out: Kafka's client has those.
    pub(super) unwritten: Vec<OpenFrame>,
    /// Buffers to be used again.
    pub(super) buffers: Vec<Vec<u8>>,
}

/// Buffers that are kept for use.
const BUFFERS: usize = 64;
/// A buffer larger than this is not kept.
const LARGEST_BUFFER: usize = 256 << 10;

// === impl Desk ===

impl Desk {
    pub(super) fn new(wake: Arc<OwnedFd>) -> Self {
        Self { tray: Mutex::default(), came: Condvar::new(), wake }
    }

    pub(super) fn tray(&self) -> MutexGuard<'_, Tray> {
        self.tray.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts down a chunk's outcome and its buffers.
    pub(super) fn put(&self, sequence: Sequence, outcome: Result<(), WriteError>, frames: Vec<ClosedFrame>) {
        let mut tray = self.tray();
        tray.outcomes.push_back((sequence, outcome));
        let returns = matches!(outcome, Err(WriteError::Full | WriteError::Disk(_)));
        let (unwritten, frames): (Vec<_>, Vec<_>) =
            frames.into_iter().partition(|frame| returns && frame.guard.is_none());
        tray.unwritten.extend(unwritten.into_iter().map(|frame| frame.frame));
        let buffers = frames.into_iter().map(|frame| frame.frame.bytes);
        let room = BUFFERS.saturating_sub(tray.buffers.len());
        tray.buffers.extend(buffers.filter(|buffer| buffer.capacity() <= LARGEST_BUFFER).take(room));
    }

    /// Makes the writer's thread look.
    pub(super) fn ring(&self) {
        self.came.notify_all();
        // A full counter wakes as well.
        let _ = rustix::io::write(&*self.wake, &1_u64.to_ne_bytes());
    }

    /// Blocks until an outcome is there, at most for `time`; whether there is one.
    pub(super) fn wait(&self, time: Duration) -> bool {
        let waited = self.came.wait_timeout_while(self.tray(), time, |tray| tray.outcomes.is_empty());
        let (tray, _) = waited.unwrap_or_else(PoisonError::into_inner);
        !tray.outcomes.is_empty()
    }
}

// === impl ClosedFrame ===

impl ClosedFrame {
    /// What the ledger is told of it.
    pub(super) fn entry(&self, offset: u64) -> FrameEntry {
        FrameEntry {
            lane: self.lane,
            offset,
            length: self.frame.bytes.len() as u64,
            count: self.frame.count,
            timestamp_ms: self.frame.first_timestamp_ms(),
            guard: self.guard,
        }
    }
}
