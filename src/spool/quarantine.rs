//! Damaged bytes, copied out before they are passed over, for whoever wants to find out what happened.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::disk::{Disk, DiskFile, is_shortage, read_full, write_full};

/// The quarantine of one spool.
pub(super) struct Quarantine {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    kept: AtomicU64,
}

/// The most bytes that are copied there; more are passed over uncopied.
const MOST_BYTES: u64 = 64 << 20;
const STEP: usize = 64 << 10;

// === impl Quarantine ===

impl Quarantine {
    pub(super) fn new(disk: Arc<dyn Disk>, directory: PathBuf) -> Self {
        Self { disk, directory, kept: AtomicU64::new(0) }
    }

    /// Counts what earlier starts left; gives its bytes.
    pub(super) fn measure(&self) -> u64 {
        let names = self.disk.list(&self.directory).unwrap_or_default();
        let length = |name: &String| self.disk.open(&self.directory.join(name)).and_then(|file| file.length());
        let bytes = names.iter().filter_map(|name| length(name).ok()).sum();
        self.kept.store(bytes, Ordering::Relaxed);
        bytes
    }

    /// Copies a range of a segment, unless it was copied before; gives the bytes that were copied, and says so in the log.
    ///
    /// # Errors
    /// There is no descriptor for the copy: nothing may be passed over yet. Whatever else hinders a copy is no error.
    pub(super) fn keep(&self, file: &dyn DiskFile, sequence: u64, range: &std::ops::Range<u64>) -> io::Result<u64> {
        let path = self.directory.join(format!("{sequence:016x}-{}-{}.bin", range.start, range.end));
        let length = range.end.saturating_sub(range.start);
        match self.disk.open(&path) {
            Ok(_) => return Ok(0),
            Err(error) if is_shortage(&error) => return Err(error),
            Err(_) => {}
        }
        let fits = self.kept.load(Ordering::Relaxed) + length <= MOST_BYTES;
        let copied = if fits { self.copy(file, &path, range) } else { Err(io::ErrorKind::QuotaExceeded.into()) };
        let (segment, from) = (sequence, range.start);
        match copied {
            Ok(()) => {
                tracing::error!(
                    segment,
                    from,
                    bytes = length,
                    "spool: damaged bytes are passed over, a copy is in quarantine/"
                );
                self.kept.fetch_add(length, Ordering::Relaxed);
                Ok(length)
            }
            Err(error) if is_shortage(&error) => Err(error),
            Err(error) => {
                tracing::error!(segment, from, bytes = length, %error, "spool: damaged bytes are passed over, without a copy");
                Ok(0)
            }
        }
    }

    /// Takes in a whole file that is no segment any more.
    pub(super) fn take(&self, path: &Path, sequence: u64, error: &str) -> io::Result<()> {
        tracing::error!(segment = sequence, error, "spool: the segment goes to quarantine/");
        let to = self.directory.join(super::segment::file_name(sequence));
        self.disk.rename(path, &to)
    }

    fn copy(&self, file: &dyn DiskFile, path: &Path, range: &std::ops::Range<u64>) -> io::Result<()> {
        let copy = self.disk.create(path)?;
        let mut buffer = vec![0; STEP];
        let mut at = range.start;
        while at < range.end {
            let wanted = usize::try_from(range.end - at).unwrap_or(STEP).min(STEP);
            let step = buffer.get_mut(..wanted).unwrap_or_default();
            // What cannot be read is zeros in the copy.
            step.fill(0);
            let _ = read_full(file, step, at);
            write_full(&*copy, step, at - range.start)?;
            at += wanted as u64;
        }
        Ok(())
    }
}
