//! Files of segments that are done, kept to be written again. Writing over blocks that a file has already costs about half
//! of what it costs to make a file longer: a sync then has no new length and no new blocks to put into the file system's
//! journal.
//!
//! What an old segment left in such a file is never taken for frames of the new one, as it does not begin with its marker.
//! The file has another name until its new header is durable, so that no segment is ever found with a header that is not its
//! own; what a crash leaves under such a name is deleted.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::engine::Paths;

/// A file that may be written again.
#[derive(Debug)]
pub(super) struct Spare {
    pub(super) path: PathBuf,
    /// Its length. It is in the quota.
    pub(super) bytes: u64,
}

/// All of a spool.
#[derive(Debug, Default)]
pub(super) struct Spares {
    files: Mutex<Vec<Spare>>,
}

/// More are never needed: it is what is written in a second or so, until the keeper comes again.
const MOST: usize = 8;
/// They are at most this part of what the spool may have.
const SHARE: u64 = 8;
const SUFFIX: &str = ".spare";

// === impl Spares ===

impl Spares {
    /// Whether a file of so many bytes is to be kept beside those that are `coming`, in a spool of at most `limit` bytes.
    pub(super) fn wants(&self, coming: &[Spare], bytes: u64, limit: u64) -> bool {
        let files = self.files();
        let kept: u64 = files.iter().chain(coming).map(|spare| spare.bytes).sum();
        files.len() + coming.len() < MOST && kept + bytes <= limit / SHARE
    }

    pub(super) fn keep(&self, spare: Spare) {
        self.files().push(spare);
    }

    /// One to be written again.
    pub(super) fn take(&self) -> Option<Spare> {
        self.files().pop()
    }

    fn files(&self) -> MutexGuard<'_, Vec<Spare>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Paths ===

impl Paths {
    /// The name of a segment's file while it is a spare one.
    pub(super) fn spare(&self, sequence: u64) -> PathBuf {
        self.segment(sequence).with_extension(SUFFIX.trim_start_matches('.'))
    }
}

/// Whether a file of the segments' directory is one that nobody needs after a start.
pub(super) fn is_spare(name: &str) -> bool {
    name.ends_with(SUFFIX)
}
