//! A spool without threads: each test decides when its commit thread and its keeper take a turn.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};

use crate::record::partition::PartitionChoice;
use crate::record::topic::TopicName;
use crate::spool::commit::Committer;
use crate::spool::desk::Desk;
use crate::spool::disk::Disk;
use crate::spool::engine::Shared;
use crate::spool::keeper::Keeper;
use crate::spool::lane::Lane;
use crate::spool::open::{OpenError, prepare};
use crate::spool::record::Record;
use crate::spool::replay::{Progress, Replay};
use crate::spool::replay_frame::ReplayFrame;
use crate::spool::writer::{Full, Guard, Sequence, WriteError, Writer};
use crate::spool::{SpoolConfig, Tuning};

/// A spool that goes on only when it is told to.
pub(super) struct Steps {
    pub(super) shared: Arc<Shared>,
    pub(super) committer: Committer,
    pub(super) keeper: Keeper,
    pub(super) replay: Replay,
    pub(super) writer: Writer,
    /// What the commit thread takes for the time.
    pub(super) now: Instant,
}

/// Sizes with which a few records make several frames, groups and segments.
pub(super) const SMALL: Tuning =
    Tuning { segment_bytes: 600, frame_bytes: 200, group_bytes: 1 << 20, pending_bytes: 1 << 20 };

pub(super) fn config(directory: &Path) -> SpoolConfig {
    SpoolConfig {
        directory: directory.to_owned(),
        max_size: 1 << 30,
        spool_after: Duration::from_millis(300),
        replay_rate: None,
    }
}

pub(super) fn record(id: u128, value: &[u8]) -> Record<'_> {
    Record { id, timestamp_ms: 1_000, choice: PartitionChoice::Sticky, headers: &[], value }
}

/// The value of the record with this number: of many lengths.
pub(super) fn value(id: u128) -> Vec<u8> {
    let length = usize::try_from(id * 37 % 150).unwrap();
    let mut value = format!("{id}:").into_bytes();
    value.resize(value.len() + length, b'.');
    value
}

// === impl Steps ===

impl Steps {
    pub(super) fn open(disk: Arc<dyn Disk>, config: &SpoolConfig, tuning: Tuning) -> Result<Self, OpenError> {
        let mut salt = 0x1234_5678_9abc_def0_u64;
        let random = move || {
            salt = salt.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            salt
        };
        let (shared, committer) = prepare(config, tuning, disk, Box::new(random))?;
        let wake = Arc::new(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC).unwrap());
        let (keeper, replay) = (Keeper::new(Arc::clone(&shared)), Replay::new(Arc::clone(&shared)));
        let writer = Writer::new(Arc::clone(&shared), Desk::new(wake));
        Ok(Self { shared, committer, keeper, replay, writer, now: Instant::now() })
    }

    pub(super) fn lane(&self, topic: &str, partition: Option<i32>) -> Lane {
        self.shared.ledger().lane(&TopicName::new(topic).unwrap(), partition)
    }

    pub(super) fn append(&mut self, lane: &Lane, id: u128) -> Result<Sequence, Full> {
        self.writer.append(lane, &record(id, &value(id)))
    }

    pub(super) fn guard(&mut self, lane: &Lane, ids: std::ops::Range<u128>) -> Result<Guard, Full> {
        let values: Vec<_> = ids.clone().map(value).collect();
        self.writer.guard(lane, ids.zip(&values).map(|(id, value)| record(id, value)))
    }

    /// Submits and writes what was appended; gives what became of it.
    pub(super) fn commit(&mut self) -> Vec<Result<(), WriteError>> {
        self.writer.submit();
        if let Some(group) = self.shared.take_group(Duration::ZERO) {
            self.committer.turn(group, self.now);
        }
        let mut outcomes = Vec::new();
        self.writer.outcomes(|_, outcome| outcomes.push(outcome));
        outcomes
    }

    /// Appends and writes records.
    pub(super) fn write(&mut self, lane: &Lane, ids: std::ops::Range<u128>) {
        for id in ids {
            self.append(lane, id).unwrap();
        }
        assert_eq!(self.commit(), [Ok(())]);
    }

    /// Reads everything that can be read of all lanes.
    pub(super) fn read(&mut self) -> Vec<ReplayFrame> {
        self.read_of(|_| true)
    }

    /// Reads everything that can be read of some lanes.
    pub(super) fn read_of(&mut self, mut runnable: impl FnMut(&Lane) -> bool) -> Vec<ReplayFrame> {
        let mut frames = Vec::new();
        while self.replay.next(&mut runnable, &mut frames, 300).unwrap() == Progress::Read {}
        frames
    }

    pub(super) fn done(&mut self, frames: &[ReplayFrame]) {
        for frame in frames {
            self.replay.done(frame.lane(), frame.id(), 0..frame.count());
        }
    }

    /// Ends it as a graceful stop does.
    pub(super) fn close(self) {
        let Self { shared, committer, mut keeper, replay, writer, now: _ } = self;
        drop((writer, committer, replay));
        keeper.turn();
        drop(keeper);
        shared.unlock();
    }
}

/// Ids by lane, in the order in which they were handed out; each value is checked to be its own.
pub(super) fn ids(frames: &[ReplayFrame]) -> BTreeMap<String, Vec<u128>> {
    let mut ids: BTreeMap<String, Vec<u128>> = BTreeMap::new();
    for frame in frames {
        for item in frame.records() {
            assert_eq!(item.record.value, value(item.record.id), "a record that nobody wrote");
            ids.entry(frame.lane().to_string()).or_default().push(item.record.id);
        }
    }
    ids
}

/// What [`ids`] gives for one lane.
pub(super) fn one(lane: &Lane, ids: impl IntoIterator<Item = u128>) -> BTreeMap<String, Vec<u128>> {
    BTreeMap::from([(lane.to_string(), ids.into_iter().collect())])
}
