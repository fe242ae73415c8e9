//! Places in the spool.

use std::fmt;

/// A place in the spool: a segment and an offset in it, in bytes. A frame is named by where it begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FrameId {
    /// The segment's sequence.
    pub segment: u64,
    /// Bytes from the segment's beginning.
    pub offset: u64,
}

// === impl FrameId ===

impl FrameId {
    pub(super) const fn new(segment: u64, offset: u64) -> Self {
        Self { segment, offset }
    }
}

impl fmt::Display for FrameId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}:{}", self.segment, self.offset)
    }
}
