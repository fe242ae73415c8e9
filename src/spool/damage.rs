//! Damage that replay meets: what cannot be read back is copied to quarantine, counted, and passed over for good.

use std::collections::HashMap;
use std::io;
use std::ops::Range;

use super::disk::DiskFile;
use super::engine::Shared;
use super::ledger::Ledger;
use super::position::FrameId;
use super::replay::{Replay, Stretch};
use super::replay_frame::ReplayFrame;
use super::scan::Source;

/// After so many failures to read a place it is passed over.
const PATIENCE: u32 = 3;

impl Replay {
    /// The disk refused to read a frame; `known` are its lane's number, its records and its end, where the header was read.
    pub(super) fn failed_at(
        &mut self,
        id: FrameId,
        stretch: &Stretch,
        known: Option<(usize, u32, u64)>,
        error: io::Error,
    ) -> io::Result<(u64, Option<ReplayFrame>)> {
        self.failed = (id, if self.failed.0 == id { self.failed.1 + 1 } else { 1 });
        if self.failed.1 < PATIENCE {
            return Err(error);
        }
        if let Some(segment) = self.shared.ledger().segments.get_mut(&stretch.sequence) {
            segment.unreadable = true;
        }
        let next = match known {
            Some((lane, count, next)) => {
                self.pass_frame(id, lane, count, next)?;
                next
            }
            None => self.pass_damage(stretch, id.offset)?,
        };
        Ok((next, None))
    }

    /// Passes over a frame with a good header.
    ///
    /// # Errors
    /// It cannot be copied for want of descriptors, and nothing was passed over.
    pub(super) fn pass_frame(&mut self, id: FrameId, lane: usize, count: u32, end: u64) -> io::Result<()> {
        self.keep(id.segment, &(id.offset..end))?;
        let mut ledger = self.shared.ledger();
        let done =
            ledger.lanes.get_mut(lane).and_then(|state| state.marks.remove(&id)).map_or(0, |marks| marks.count());
        let lost = u64::from(count.saturating_sub(done));
        ledger.lose(lane, id.segment, lost);
        note_hole(&mut ledger, id.segment, id.offset..end);
        self.shared.metrics.damaged.increment(lost);
        Ok(())
    }

    /// Passes over what is no frame; gives where the next one is.
    ///
    /// # Errors
    /// As [`Replay::pass_frame`].
    pub(super) fn pass_damage(&mut self, stretch: &Stretch, at: u64) -> io::Result<u64> {
        let source = self.file.as_ref().map(|open| Source {
            file: &*open.file,
            sequence: stretch.sequence,
            marker: stretch.marker,
        });
        let next = source.and_then(|source| source.find_frame(at + 1, stretch.end)).unwrap_or(stretch.end);
        self.keep(stretch.sequence, &(at..next))?;
        note_hole(&mut self.shared.ledger(), stretch.sequence, at..next);
        let lost = recount(&self.shared, source, stretch.sequence);
        self.shared.metrics.damaged.increment(lost);
        Ok(next)
    }

    fn keep(&self, sequence: u64, range: &Range<u64>) -> io::Result<()> {
        let file: Option<&dyn DiskFile> = self.file.as_ref().map(|open| &*open.file);
        if let Some(file) = file {
            self.shared.quota.take(self.shared.quarantine.keep(file, sequence, range)?);
        }
        Ok(())
    }
}

fn note_hole(ledger: &mut Ledger, sequence: u64, hole: Range<u64>) {
    if let Some(segment) = ledger.segments.get_mut(&sequence) {
        let at = segment.holes.partition_point(|other| other.start < hole.start);
        segment.holes.insert(at, hole);
    }
}

/// Counts what can still be read of a segment: the records of a damaged header are not known, only that they are missing.
/// Gives how many are.
fn recount(shared: &Shared, source: Option<Source<'_>>, sequence: u64) -> u64 {
    // The account must not change meanwhile. Damage is rare, and this takes milliseconds.
    let mut ledger = shared.ledger();
    let Some(segment) = ledger.segments.get(&sequence) else { return 0 };
    let mut left: HashMap<usize, u64> = HashMap::new();
    for state in &ledger.lanes {
        let outstanding: u64 = state.outstanding_in(sequence).map(super::lane_state::Outstanding::left).sum();
        left.insert(state.lane.index(), outstanding);
    }
    if let Some(source) = source {
        source.scan(segment.end, false, &mut |offset, header| {
            let id = FrameId::new(sequence, offset);
            let Some(index) = ledger.find(header.topic, header.partition) else { return };
            let Some(state) = ledger.lanes.get(index) else { return };
            let passed = segment.holes.iter().any(|hole| hole.contains(&offset));
            if !passed && id >= state.cursor && !state.is_outstanding(id) {
                let done = state.marks.get(&id).map_or(0, super::marks::Marks::count);
                *left.entry(index).or_default() += u64::from(header.count.saturating_sub(done));
            }
        });
    }
    let missing: Vec<(usize, u64)> = segment
        .shares
        .iter()
        .map(|(lane, share)| (*lane, share.saturating_sub(left.get(lane).copied().unwrap_or(0))))
        .filter(|(_, missing)| *missing > 0)
        .collect();
    for &(lane, records) in &missing {
        ledger.lose(lane, sequence, records);
    }
    missing.iter().map(|(_, records)| records).sum()
}
