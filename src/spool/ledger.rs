//! What is in the spool and what of it is done: lanes, segments and guards, under one lock.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use super::guards::Guards;
use super::lane::Lane;
use super::lane_state::{LaneState, Outstanding};
use super::marks::{Delivered, Marks};
use super::position::FrameId;
use crate::record::topic::TopicName;

/// The accounts of one spool.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) lanes: Vec<LaneState>,
    pub(super) segments: BTreeMap<u64, SegmentState>,
    names: HashMap<Box<str>, Vec<usize>>,
    guards: Guards,
    /// Something was done since the last checkpoint.
    dirty: bool,
    /// Records that were found damaged since the start.
    pub(super) lost: u64,
}

/// The account of one segment.
#[derive(Clone, Debug, Default)]
pub(super) struct SegmentState {
    /// Where its durable frames end.
    pub(super) end: u64,
    /// Its bytes in the quota.
    pub(super) size: u64,
    pub(super) marker: u64,
    /// More frames may come.
    pub(super) active: bool,
    /// Records in it, and those of them that are not done.
    pub(super) records: u64,
    pub(super) undone: u64,
    /// Records that are not done, by lane; a lane without a record in it is not there.
    pub(super) shares: HashMap<usize, u64>,
    /// Damage that is known, in order.
    pub(super) holes: Vec<Range<u64>>,
    /// Every write to it is known to have succeeded, so that its file may be written again.
    pub(super) is_sound: bool,
    /// The disk refused to read a part of it: it is put away rather than deleted, as the disk may read it one day.
    pub(super) unreadable: bool,
}

/// A frame that was written, or was not.
#[derive(Clone, Copy, Debug)]
pub(super) struct FrameEntry {
    pub(super) lane: usize,
    pub(super) offset: u64,
    pub(super) length: u64,
    pub(super) count: u32,
    pub(super) timestamp_ms: i64,
    /// Of which guard, and from its which record on.
    pub(super) guard: Option<(usize, u32)>,
}

// === impl Ledger ===

impl Ledger {
    /// The lane of a topic and partition, made if it is new.
    pub(super) fn lane(&mut self, topic: &TopicName, partition: Option<i32>) -> Lane {
        if let Some(lane) = self.find(topic.as_str(), partition).and_then(|index| self.lanes.get(index)) {
            return lane.lane.clone();
        }
        let lane = Lane::new(self.lanes.len(), topic.clone(), partition);
        self.names.entry(topic.as_str().into()).or_default().push(lane.index());
        self.lanes.push(LaneState::new(lane.clone()));
        lane
    }

    /// The number of a lane that is there.
    pub(super) fn find(&self, topic: &str, partition: Option<i32>) -> Option<usize> {
        let lanes = self.names.get(topic)?.iter();
        lanes.copied().find(|&index| self.lanes.get(index).is_some_and(|state| state.lane.partition() == partition))
    }

    /// The numbers of a topic's lanes.
    pub(super) fn lanes_of(&self, topic: &str) -> &[usize] {
        self.names.get(topic).map_or(&[], Vec::as_slice)
    }

    /// A segment was made.
    pub(super) fn open_segment(&mut self, sequence: u64, marker: u64, header: u64) {
        let state =
            SegmentState { end: header, size: header, marker, active: true, is_sound: true, ..SegmentState::default() };
        self.segments.insert(sequence, state);
    }

    /// No frame comes into a segment any more; `lost` bytes beyond its end take room.
    pub(super) fn close_segment(&mut self, sequence: u64, lost: u64) {
        if let Some(segment) = self.segments.get_mut(&sequence) {
            segment.active = false;
            segment.size += lost;
        }
        self.dirty = true;
    }

    /// The same for one to which a write failed.
    pub(super) fn give_up_segment(&mut self, sequence: u64, lost: u64) {
        if let Some(segment) = self.segments.get_mut(&sequence) {
            segment.is_sound = false;
        }
        self.close_segment(sequence, lost);
    }

    /// Frames became durable.
    pub(super) fn commit(&mut self, sequence: u64, frames: &[FrameEntry], end: u64) {
        let Some(segment) = self.segments.get_mut(&sequence) else { return };
        segment.size += end - segment.end;
        segment.end = end;
        for frame in frames {
            self.add_frame(sequence, frame);
        }
        for frame in frames {
            if let Some((guard, first)) = frame.guard {
                let id = FrameId::new(sequence, frame.offset);
                let marks = self.guards.written(guard, first, frame.count, Some(id));
                self.cancel(frame.lane, id, marks);
            }
        }
    }

    /// Frames were not written.
    pub(super) fn fail(&mut self, frames: &[FrameEntry]) {
        for frame in frames {
            if let Some(state) = self.lanes.get(frame.lane) {
                state.lane.take_backlog(u64::from(frame.count));
            }
            if let Some((guard, first)) = frame.guard {
                self.guards.written(guard, first, frame.count, None);
            }
        }
    }

    /// A frame is there, none of it done.
    pub(super) fn add_frame(&mut self, sequence: u64, frame: &FrameEntry) {
        let count = u64::from(frame.count);
        let (Some(segment), Some(lane)) = (self.segments.get_mut(&sequence), self.lanes.get_mut(frame.lane)) else {
            return;
        };
        segment.records += count;
        segment.undone += count;
        *segment.shares.entry(frame.lane).or_default() += count;
        let end = FrameId::new(sequence, frame.offset + frame.length);
        lane.add(FrameId::new(sequence, frame.offset), end, count, frame.timestamp_ms);
    }

    /// A frame is there, all of it done.
    pub(super) fn add_done_frame(&mut self, sequence: u64, frame: &FrameEntry) {
        let (Some(segment), Some(lane)) = (self.segments.get_mut(&sequence), self.lanes.get_mut(frame.lane)) else {
            return;
        };
        segment.records += u64::from(frame.count);
        segment.shares.entry(frame.lane).or_default();
        lane.pass_over(FrameId::new(sequence, frame.offset + frame.length));
    }

    /// A frame that was found counts into its lane's backlog, but for the records that are done.
    pub(super) fn recovered(&mut self, lane: usize, id: FrameId, count: u32, done: Option<&Marks>) {
        if let Some(state) = self.lanes.get(lane) {
            state.lane.add_backlog(u64::from(count));
        }
        if let Some(done) = done {
            let mut marks = Marks::default();
            for range in done.ranges() {
                marks.add(range.start..range.end.min(count));
            }
            self.cancel(lane, id, marks);
        }
    }

    /// Notes a guard of some frames; gives its number.
    pub(super) fn guard(&mut self, lane: &Lane, frames: usize) -> usize {
        lane.add_guard();
        self.guards.add(lane.index(), frames)
    }

    /// Says what became of a guard's records.
    pub(super) fn resolve(&mut self, guard: usize, delivered: Delivered) {
        let Some((lane, cancelled)) = self.guards.resolve(guard, delivered) else { return };
        for (id, marks) in cancelled {
            self.cancel(lane, id, marks);
        }
        if let Some(state) = self.lanes.get(lane) {
            state.lane.take_guard();
        }
    }

    /// Records of a frame that was not handed out are done.
    fn cancel(&mut self, lane: usize, id: FrameId, marks: Marks) {
        if !marks.is_empty() {
            let records = u64::from(marks.count());
            if let Some(state) = self.lanes.get_mut(lane) {
                state.marks.insert(id, marks);
            }
            self.settle_unread(lane, id.segment, records);
        }
    }

    /// Records that were not handed out are done.
    pub(super) fn settle_unread(&mut self, lane: usize, segment: u64, records: u64) {
        if let Some(state) = self.lanes.get_mut(lane) {
            state.settle_unread(records);
        }
        self.settle_segment(lane, segment, records);
    }

    /// Records that were not handed out cannot be read.
    pub(super) fn lose(&mut self, lane: usize, segment: u64, records: u64) {
        self.lost += records;
        self.settle_unread(lane, segment, records);
    }

    /// Records that were handed out are done; gives how many of them were not done before.
    pub(super) fn done(&mut self, lane: usize, id: FrameId, records: Range<u32>) -> u64 {
        let done = self.lanes.get_mut(lane).map_or(0, |state| state.done(id, records));
        self.settle_segment(lane, id.segment, done);
        done
    }

    /// A frame is handed out, if a record of it is left; gives those that are done.
    pub(super) fn hand_out(&mut self, lane: usize, mut outstanding: Outstanding) -> Option<Marks> {
        let state = self.lanes.get_mut(lane)?;
        outstanding.marks = state.marks.get(&outstanding.frame).cloned().unwrap_or_default();
        let marks = outstanding.marks.clone();
        (outstanding.left() > 0).then(|| {
            state.hand_out(outstanding);
            marks
        })
    }

    fn settle_segment(&mut self, lane: usize, segment: u64, records: u64) {
        if records == 0 {
            return;
        }
        self.dirty = true;
        if let Some(state) = self.segments.get_mut(&segment) {
            state.undone = state.undone.saturating_sub(records);
            if let Some(share) = state.shares.get_mut(&lane) {
                *share = share.saturating_sub(records);
            }
        }
    }

    /// Whether something was done since this was asked.
    pub(super) fn take_dirty(&mut self) -> bool {
        std::mem::take(&mut self.dirty)
    }

    /// Makes the next checkpoint be written.
    pub(super) fn set_dirty(&mut self) {
        self.dirty = true;
    }

    /// Segments of which every record is done and into which none comes.
    pub(super) fn finished(&self) -> Vec<u64> {
        let finished = self.segments.iter().filter(|(_, segment)| !segment.active && segment.undone == 0);
        finished.map(|(sequence, _)| *sequence).collect()
    }
}
