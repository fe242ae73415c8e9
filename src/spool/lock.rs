//! The directory: made where it is missing, taken by one process, of a format that is known.

use std::io;
use std::path::Path;

use super::disk::{Disk, DiskFile, read_full, write_full};
use super::engine::Paths;
use super::open::OpenError;

/// The file that a probe of the disk writes.
pub(super) const PROBE: &str = "probe";
const LOCK: &str = "lock";
const FORMAT: &str = "format";
const NEW_FORMAT: &str = "format.new";
/// What `format` says.
const VERSION: &str = "tidegate-spool 1\n";
/// A file of ours that says one thing is not longer.
const LONGEST: usize = 128;

/// Makes the directories, locks them, and writes or checks the format.
pub(super) fn prepare(disk: &dyn Disk, paths: &Paths) -> Result<Box<dyn DiskFile>, OpenError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |cause| OpenError::Disk { path, cause }
    };
    if disk.list(&paths.root).is_err() {
        disk.create_dir(&paths.root).map_err(failed(&paths.root))?;
        if let Some(parent) = paths.root.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            disk.sync_dir(parent).map_err(failed(parent))?;
        }
    }
    let path = paths.root.join(LOCK);
    let lock = disk.lock(&path).map_err(|cause| match cause.kind() {
        io::ErrorKind::WouldBlock => {
            OpenError::Locked { directory: paths.root.clone(), holder: holder(disk, &path).unwrap_or_default() }
        }
        _ => OpenError::Disk { path: path.clone(), cause },
    })?;
    // For people alone: a full disk does not keep the spool from being drained.
    let id = format!("{}\n", std::process::id());
    let _ = lock.truncate(0).and_then(|()| write_full(&*lock, id.as_bytes(), 0));
    check_format(disk, &paths.root)?;
    let mut made = false;
    for directory in [&paths.segments, &paths.quarantine] {
        if disk.list(directory).is_err() {
            disk.create_dir(directory).map_err(failed(directory))?;
            made = true;
        }
    }
    if made {
        disk.sync_dir(&paths.root).map_err(failed(&paths.root))?;
    }
    Ok(lock)
}

/// Whether a directory is a spool of this format. `None`: it has no format yet.
///
/// # Errors
/// It is of another format, or cannot be read.
pub(super) fn read_format(disk: &dyn Disk, root: &Path) -> Result<Option<()>, OpenError> {
    let path = root.join(FORMAT);
    let text = match disk.open(&path).and_then(|file| read_text(&*file)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(OpenError::Disk { path, cause }),
    };
    if text == VERSION {
        return Ok(Some(()));
    }
    Err(OpenError::Format { path, found: text.trim_end().chars().take(LONGEST).collect() })
}

fn check_format(disk: &dyn Disk, root: &Path) -> Result<(), OpenError> {
    if read_format(disk, root)?.is_some() {
        return Ok(());
    }
    let (new, path) = (root.join(NEW_FORMAT), root.join(FORMAT));
    // One that was not finished.
    let _ = disk.remove(&new);
    let written = disk
        .create(&new)
        .and_then(|file| write_full(&*file, VERSION.as_bytes(), 0).and_then(|()| file.sync()))
        .and_then(|()| disk.rename(&new, &path))
        .and_then(|()| disk.sync_dir(root));
    written.map_err(|cause| OpenError::Disk { path, cause })
}

/// Who has the lock, " by process 123", where the file says so.
fn holder(disk: &dyn Disk, path: &Path) -> Option<String> {
    let text = disk.open(path).and_then(|file| read_text(&*file)).ok()?;
    let id: u32 = text.trim().parse().ok()?;
    Some(format!(" by process {id}"))
}

fn read_text(file: &dyn DiskFile) -> io::Result<String> {
    let mut bytes = vec![0; LONGEST];
    let read = read_full(file, &mut bytes, 0)?;
    bytes.truncate(read);
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
