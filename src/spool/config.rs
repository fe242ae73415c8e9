//! How the spool is configured.

use std::path::PathBuf;
use std::time::Duration;

/// The `[log.spool]` section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpoolConfig {
    /// Where it keeps its files. Made if it is missing; its parent must be there.
    pub directory: PathBuf,
    /// The most bytes on disk. At the bound appending is refused.
    pub max_size: u64,
    /// How long a record may wait for Kafka before it goes to the spool.
    pub spool_after: Duration,
    /// The most bytes a second that are replayed; absent: as fast as Kafka takes them.
    pub replay_rate: Option<u64>,
}

/// Sizes that only tests change: small ones make rotation and groups happen with few records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// A segment that has this many bytes is followed by a new one.
    pub segment_bytes: u64,
    /// A frame takes no further record once it has this many bytes.
    pub frame_bytes: usize,
    /// The most bytes of one write.
    pub group_bytes: usize,
    /// The most bytes that wait for the disk; beyond, appending is refused.
    pub pending_bytes: usize,
}

/// The most bytes of a segment, unless the last write to it was larger.
const SEGMENT: u64 = 64 << 20;
/// So many segments a spool can have at least: only whole ones are deleted, and the others are what drains.
const SEGMENTS: u64 = 4;

// === impl Tuning ===

impl Tuning {
    /// For a spool of at most so many bytes.
    pub fn of(max_size: u64) -> Self {
        Self { segment_bytes: SEGMENT.min(max_size / SEGMENTS), ..Self::default() }
    }
}

impl Default for Tuning {
    fn default() -> Self {
        Self { segment_bytes: SEGMENT, frame_bytes: 64 << 10, group_bytes: 8 << 20, pending_bytes: 64 << 20 }
    }
}
