//! How far one lane is: what was read of it, and what is done.
//!
//! ```text
//! ──done──▶ cursor ──handed out (outstanding)──▶ next ──unread──▶ last end
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use super::lane::Lane;
use super::marks::Marks;
use super::position::FrameId;

/// The account of one lane. Counts are of durable records.
#[derive(Debug)]
pub(super) struct LaneState {
    pub(super) lane: Lane,
    /// Everything of the lane before it is done.
    pub(super) cursor: FrameId,
    /// Everything of the lane before it was handed out, or is done.
    pub(super) next: FrameId,
    /// Where the lane's last frame ends.
    pub(super) last_end: FrameId,
    /// Records that are not done.
    pub(super) undone: u64,
    /// Those of them that were not handed out.
    pub(super) unread: u64,
    /// Done records of frames at or beyond the cursor that were not handed out.
    pub(super) marks: BTreeMap<FrameId, Marks>,
    /// Frames that were handed out, in order; the first is not done.
    outstanding: VecDeque<Outstanding>,
    /// When the first record that is not done was received, about.
    oldest_ms: i64,
}

/// A frame that was handed out.
#[derive(Clone, Debug)]
pub(super) struct Outstanding {
    pub(super) frame: FrameId,
    pub(super) end: FrameId,
    pub(super) count: u32,
    pub(super) marks: Marks,
    pub(super) timestamp_ms: i64,
}

// === impl LaneState ===

impl LaneState {
    pub(super) fn new(lane: Lane) -> Self {
        Self {
            lane,
            cursor: FrameId::default(),
            next: FrameId::default(),
            last_end: FrameId::default(),
            undone: 0,
            unread: 0,
            marks: BTreeMap::new(),
            outstanding: VecDeque::new(),
            oldest_ms: 0,
        }
    }

    /// A frame became durable, or was found on the disk.
    pub(super) fn add(&mut self, frame: FrameId, end: FrameId, count: u64, timestamp_ms: i64) {
        if self.unread == 0 {
            self.next = self.next.max(frame);
        }
        if self.undone == 0 {
            self.cursor = self.cursor.max(frame);
            self.oldest_ms = timestamp_ms;
        }
        self.last_end = self.last_end.max(end);
        self.undone += count;
        self.unread += count;
    }

    /// A frame that was found and is done ends here; it comes before every one that is not.
    pub(super) fn pass_over(&mut self, end: FrameId) {
        self.cursor = self.cursor.max(end);
        self.next = self.next.max(end);
        self.last_end = self.last_end.max(end);
    }

    /// Records that were not handed out are done, or lost.
    pub(super) fn settle_unread(&mut self, records: u64) {
        self.unread = self.unread.saturating_sub(records);
        self.settle(records);
    }

    /// A frame was handed out with these records done already.
    pub(super) fn hand_out(&mut self, outstanding: Outstanding) {
        self.marks.remove(&outstanding.frame);
        self.unread = self.unread.saturating_sub(outstanding.left());
        self.outstanding.push_back(outstanding);
    }

    /// All of the lane before `position` was handed out.
    pub(super) fn read_up_to(&mut self, position: FrameId) {
        self.next = self.next.max(position);
        self.advance();
    }

    /// Marks records of a frame that was handed out; gives how many of them were not done before. None where the lane was
    /// stopped since: they will come again.
    pub(super) fn done(&mut self, frame: FrameId, records: Range<u32>) -> u64 {
        let at = self.outstanding.partition_point(|outstanding| outstanding.frame < frame);
        let Some(outstanding) = self.outstanding.get_mut(at).filter(|outstanding| outstanding.frame == frame) else {
            return 0;
        };
        let records = records.start..records.end.min(outstanding.count);
        let done = u64::from(outstanding.marks.add(records));
        self.settle(done);
        self.advance();
        done
    }

    /// What was handed out and is not done will be handed out again.
    pub(super) fn stop(&mut self) {
        let Some(first) = self.outstanding.front() else { return };
        self.next = first.frame;
        for outstanding in std::mem::take(&mut self.outstanding) {
            self.unread += outstanding.left();
            if !outstanding.marks.is_empty() {
                self.marks.insert(outstanding.frame, outstanding.marks);
            }
        }
    }

    /// A place at or before that of the first record that is not done; `None` where all are done.
    pub(super) fn first(&self) -> Option<FrameId> {
        let first = self.outstanding.front().map_or(self.next, |outstanding| outstanding.frame);
        (self.undone > 0).then_some(first)
    }

    /// Done records at or beyond the cursor, by frame.
    pub(super) fn exceptions(&self) -> impl Iterator<Item = (FrameId, &Marks)> {
        let outstanding = self.outstanding.iter().filter(|outstanding| !outstanding.marks.is_empty());
        let outstanding = outstanding.map(|outstanding| (outstanding.frame, &outstanding.marks));
        outstanding.chain(self.marks.iter().map(|(frame, marks)| (*frame, marks)))
    }

    /// When the first record that is not done was received, in milliseconds since 1970; `None` where all are done.
    pub(super) fn oldest_ms(&self) -> Option<i64> {
        (self.undone > 0).then_some(self.oldest_ms)
    }

    /// Whether a frame was handed out and is not settled.
    pub(super) fn is_outstanding(&self, frame: FrameId) -> bool {
        self.outstanding.binary_search_by_key(&frame, |outstanding| outstanding.frame).is_ok()
    }

    /// The frames of one segment that were handed out and are not settled.
    pub(super) fn outstanding_in(&self, segment: u64) -> impl Iterator<Item = &Outstanding> {
        self.outstanding.iter().filter(move |outstanding| outstanding.frame.segment == segment)
    }

    fn settle(&mut self, records: u64) {
        let records = records.min(self.undone);
        self.undone -= records;
        self.lane.take_backlog(records);
        if self.undone == 0 {
            self.outstanding.clear();
            self.marks.clear();
            self.unread = 0;
            self.next = self.next.max(self.last_end);
            self.cursor = self.next;
        }
    }

    /// Moves the cursor over what is done.
    fn advance(&mut self) {
        let before = self.cursor;
        while let Some(front) = self.outstanding.front().filter(|front| front.left() == 0) {
            self.cursor = front.end;
            self.oldest_ms = front.timestamp_ms;
            self.outstanding.pop_front();
        }
        match self.outstanding.front() {
            Some(front) => self.oldest_ms = front.timestamp_ms,
            None => self.cursor = self.cursor.max(self.next),
        }
        if before != self.cursor && !self.marks.is_empty() {
            self.marks = self.marks.split_off(&self.cursor);
        }
    }
}

// === impl Outstanding ===

impl Outstanding {
    /// Records that are not done.
    pub(super) fn left(&self) -> u64 {
        u64::from(self.count.saturating_sub(self.marks.count()))
    }
}
