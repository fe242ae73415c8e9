//! What replay hands out.

use super::frame::{self, Header, Kind};
use super::lane::Lane;
use super::lane_state::Outstanding;
use super::marks::Marks;
use super::position::FrameId;
use super::record::Record;

/// A frame that is to be delivered. Its records stay in the backlog until [`Replay::done`](super::Replay::done).
#[derive(Debug)]
pub struct ReplayFrame {
    lane: Lane,
    id: FrameId,
    header: Header<'static>,
    body: Vec<u8>,
    done: Marks,
    may_be_twice: bool,
}

/// A record of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplayRecord<'a> {
    /// Its place in the frame; for [`Replay::done`](super::Replay::done).
    pub index: u32,
    /// The record as it was spooled.
    pub record: Record<'a>,
}

// === impl ReplayFrame ===

impl ReplayFrame {
    /// `body` is the header's, and was found sound.
    pub(super) fn new(lane: Lane, id: FrameId, header: &Header<'static>, body: Vec<u8>) -> Self {
        Self { lane, id, header: *header, body, done: Marks::default(), may_be_twice: false }
    }

    /// Its lane.
    pub fn lane(&self) -> &Lane {
        &self.lane
    }

    /// Its place, by which it is named.
    pub fn id(&self) -> FrameId {
        self.id
    }

    /// True where the records were at Kafka's client too, and may be in Kafka.
    pub fn is_guard(&self) -> bool {
        self.header.kind == Kind::Guard
    }

    /// True where an earlier process may have delivered its records without saying so in the checkpoint.
    pub fn may_be_twice(&self) -> bool {
        self.may_be_twice
    }

    /// Records in it, those included that are done already: places go from 0 to below this.
    pub fn count(&self) -> u32 {
        self.header.count
    }

    /// Records to be delivered.
    pub fn left(&self) -> u32 {
        self.header.count.saturating_sub(self.done.count())
    }

    /// Bytes of its records, as encoded.
    pub fn size(&self) -> usize {
        self.body.len()
    }

    /// When the first record was received, in milliseconds since 1970.
    pub fn timestamp_ms(&self) -> i64 {
        self.header.first_timestamp_ms
    }

    /// The records to be delivered, in order.
    pub fn records(&self) -> impl Iterator<Item = ReplayRecord<'_>> {
        let records = (0..).zip(frame::records(&self.body, self.header.first_timestamp_ms));
        records.filter(|(index, _)| !self.done.has(*index)).map(|(index, record)| ReplayRecord { index, record })
    }

    /// What the ledger is told of it.
    pub(super) fn outstanding(&self) -> Outstanding {
        Outstanding {
            frame: self.id,
            end: FrameId::new(self.id.segment, self.id.offset + self.header.frame_length()),
            count: self.header.count,
            marks: Marks::default(),
            timestamp_ms: self.header.first_timestamp_ms,
        }
    }

    pub(super) fn set_may_be_twice(&mut self, may_be_twice: bool) {
        self.may_be_twice = may_be_twice;
    }

    pub(super) fn set_done(&mut self, done: Marks) {
        self.done = done;
    }

    pub(super) fn into_body(self) -> Vec<u8> {
        self.body
    }
}
