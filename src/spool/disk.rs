//! What the spool asks of a disk, so that tests can refuse or crash at each step.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::FlockOperation;
use rustix::io::Errno;

/// Operations on a directory's files. Nothing is durable before the file's, and for its name the directory's, sync.
pub trait Disk: Send + Sync {
    /// Makes a directory; one that is there already is fine.
    ///
    /// # Errors
    /// The operating system refused.
    fn create_dir(&self, path: &Path) -> io::Result<()>;

    /// Names of the files in a directory, in any order.
    ///
    /// # Errors
    /// The operating system refused.
    fn list(&self, directory: &Path) -> io::Result<Vec<String>>;

    /// Makes a file for reading and writing that must not be there yet.
    ///
    /// # Errors
    /// The operating system refused.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Opens a file for reading.
    ///
    /// # Errors
    /// The operating system refused.
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Opens a file for reading and writing.
    ///
    /// # Errors
    /// The operating system refused.
    fn edit(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Opens or makes a file and locks it against other processes until it is dropped. `WouldBlock`: another has it.
    ///
    /// # Errors
    /// The operating system refused.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Gives a file another name, in place of what has it.
    ///
    /// # Errors
    /// The operating system refused.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Deletes a file.
    ///
    /// # Errors
    /// The operating system refused.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes names durable that were given or taken in a directory.
    ///
    /// # Errors
    /// The operating system refused.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
}

/// An open file.
pub trait DiskFile: Send + Sync {
    /// Its length in bytes.
    ///
    /// # Errors
    /// The operating system refused.
    fn length(&self) -> io::Result<u64>;

    /// Reads at an offset; gives how many bytes, 0 at the end.
    ///
    /// # Errors
    /// The operating system refused.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes pieces, one after the other, at an offset; gives how many bytes of them.
    ///
    /// # Errors
    /// The operating system refused.
    fn write_at(&self, pieces: &[IoSlice<'_>], offset: u64) -> io::Result<usize>;

    /// Makes what was written durable, as far as it is needed to read it.
    ///
    /// # Errors
    /// The operating system refused: what was written since the last sync may be lost, whatever a later one says.
    fn sync(&self) -> io::Result<()>;

    /// Cuts it to a length.
    ///
    /// # Errors
    /// The operating system refused.
    fn truncate(&self, length: u64) -> io::Result<()>;
}

/// This machine's disk.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

/// The owner writes; records are nobody else's to read.
const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;

/// How often a read is tried: what is taken for damage is not delivered, and some errors pass.
const READ_TRIES: u32 = 4;

/// Reads, again after an error that may pass.
///
/// # Errors
/// It failed each time.
pub(super) fn patiently<T>(mut read: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let mut tries = 1;
    loop {
        match read() {
            Err(error) if tries < READ_TRIES && error.kind() != io::ErrorKind::NotFound => tries += 1,
            outcome => return outcome,
        }
    }
}

/// Reads until `buffer` is full or the file ends; gives how many bytes.
///
/// # Errors
/// A read failed.
pub(super) fn read_full(file: &dyn DiskFile, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match patiently(|| file.read_at(rest, offset + filled as u64))? {
            0 => break,
            read => filled += read,
        }
    }
    Ok(filled)
}

/// Writes all of `bytes`.
///
/// # Errors
/// A write failed; some of the bytes may be there.
pub(super) fn write_full(file: &dyn DiskFile, bytes: &[u8], offset: u64) -> io::Result<()> {
    write_all(file, &mut [IoSlice::new(bytes)], offset)
}

/// Writes all pieces, one after the other.
///
/// # Errors
/// A write failed; some of the bytes may be there.
pub(super) fn write_all(file: &dyn DiskFile, mut pieces: &mut [IoSlice<'_>], offset: u64) -> io::Result<()> {
    let mut at = offset;
    // An empty piece is nothing to wait for.
    IoSlice::advance_slices(&mut pieces, 0);
    while !pieces.is_empty() {
        match file.write_at(pieces, at) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                at += written as u64;
                IoSlice::advance_slices(&mut pieces, written);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// True where the disk, or the quota of the user, has no room.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// True where a file cannot be opened for want of descriptors or memory: nothing is wrong with it, however often that fails.
pub(super) fn is_shortage(error: &io::Error) -> bool {
    let shortages = [Errno::MFILE, Errno::NFILE, Errno::NOMEM];
    error.raw_os_error().is_some_and(|code| shortages.contains(&Errno::from_raw_os_error(code)))
}

// === impl RealDisk ===

impl Disk for RealDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        use std::os::unix::fs::DirBuilderExt;
        match std::fs::DirBuilder::new().mode(DIRECTORY_MODE).create(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            made => made,
        }
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(directory)? {
            // What is no UTF-8 is no file of ours.
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(FILE_MODE).open(path)?;
        Ok(Box::new(file))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(File::open(path)?))
    }

    fn edit(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(OpenOptions::new().read(true).write(true).open(path)?))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).mode(FILE_MODE).open(path)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Box::new(file)),
            Err(Errno::WOULDBLOCK) => Err(io::ErrorKind::WouldBlock.into()),
            Err(error) => Err(error.into()),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }
}

impl DiskFile for File {
    fn length(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, buffer, offset)
    }

    fn write_at(&self, pieces: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        // The kernel takes this many at once.
        let pieces = pieces.get(..1024).unwrap_or(pieces);
        Ok(rustix::io::pwritev(self, pieces, offset)?)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }
}
