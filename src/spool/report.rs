//! What there is, for metrics and the admin page.

use std::sync::atomic::Ordering;

use super::engine::Shared;
use super::lane::Lane;

/// The spool at one moment.
#[derive(Clone, Debug)]
pub struct SpoolReport {
    /// Bytes on disk, and those that wait to be written.
    pub bytes: u64,
    /// The most there may be.
    pub max_bytes: u64,
    /// Bytes on disk of records that are not done, about.
    pub bytes_left: u64,
    /// Durable records that are not done.
    pub records_left: u64,
    /// Records that were found damaged since the start.
    pub records_lost: u64,
    /// When the oldest record that is not done was received, in milliseconds since 1970.
    pub oldest_ms: Option<i64>,
    /// Segments on disk.
    pub segments: usize,
    /// False after a failure of the disk, until it takes data again.
    pub disk_works: bool,
    /// Lanes with something that is not done.
    pub lanes: Vec<LaneReport>,
}

/// A lane at one moment.
#[derive(Clone, Debug)]
pub struct LaneReport {
    /// Which.
    pub lane: Lane,
    /// Durable records that are not done.
    pub records_left: u64,
    /// When the oldest of them was received, in milliseconds since 1970.
    pub oldest_ms: Option<i64>,
}

// === impl SpoolReport ===

impl SpoolReport {
    pub(super) fn of(shared: &Shared) -> Self {
        let ledger = shared.ledger();
        let lanes: Vec<_> = ledger
            .lanes
            .iter()
            .filter(|state| state.undone > 0)
            .map(|state| LaneReport {
                lane: state.lane.clone(),
                records_left: state.undone,
                oldest_ms: state.oldest_ms(),
            })
            .collect();
        let part = |segment: &super::ledger::SegmentState| {
            let left = u128::from(segment.size) * u128::from(segment.undone);
            left.checked_div(u128::from(segment.records)).and_then(|left| u64::try_from(left).ok()).unwrap_or(0)
        };
        Self {
            bytes: shared.quota.used(),
            max_bytes: shared.quota.limit(),
            bytes_left: ledger.segments.values().map(part).sum(),
            records_left: lanes.iter().map(|lane| lane.records_left).sum(),
            records_lost: ledger.lost,
            oldest_ms: lanes.iter().filter_map(|lane| lane.oldest_ms).min(),
            segments: ledger.segments.len(),
            disk_works: shared.writable.load(Ordering::Relaxed),
            lanes,
        }
    }
}
