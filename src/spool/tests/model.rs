//! A disk in memory that forgets what was not synced, and fails or stops at any operation.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::spool::disk::{Disk, DiskFile};

/// Clones are the same disk.
#[derive(Clone, Default)]
pub(super) struct ModelDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    inodes: Vec<Inode>,
    /// What a process sees.
    names: BTreeMap<PathBuf, Entry>,
    /// What there is after a power cut: the names as they were at their directories' last sync.
    durable: BTreeMap<PathBuf, Entry>,
    locked: Vec<PathBuf>,
    /// Files that are open, and the most that ever were at once.
    open: (usize, usize),
    operations: u64,
    plan: Plan,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entry {
    Directory,
    File(usize),
}

#[derive(Clone, Default)]
struct Inode {
    now: Vec<u8>,
    /// Its content at the last sync.
    durable: Vec<u8>,
    /// What was done since.
    unsynced: Vec<Change>,
    /// What a sync failed to write: it is seen until the power cut, and no later sync writes it.
    forgotten: Vec<Change>,
}

#[derive(Clone)]
enum Change {
    Write(u64, Vec<u8>),
    Truncate(u64),
}

/// What goes wrong: which operations, counted from 0.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Plan {
    #[default]
    Nothing,
    /// The machine stops in this operation, which may have been done.
    Crash(u64),
    /// These operations fail; a write may have written a part.
    Fail { from: u64, count: u64, kind: io::ErrorKind },
    /// Those of these operations fail that change something.
    FailWrites { from: u64, count: u64, kind: io::ErrorKind },
    /// Whatever reads a file fails.
    Unreadable,
    /// No file can be opened in these operations: the process has as many as it may.
    NoDescriptors { from: u64, count: u64 },
    /// Whatever would make a file longer fails.
    Full,
    /// Whatever changes anything fails.
    ReadOnly,
}

/// What survives of that which was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Luck {
    Nothing,
    Everything,
    /// Parts of it, drawn from this seed.
    Some(u64),
}

pub(super) struct ModelFile {
    disk: ModelDisk,
    inode: usize,
    lock: Option<PathBuf>,
}

/// What an operation changes.
#[derive(PartialEq, Eq)]
enum Changes {
    Nothing,
    Something,
    Length,
}

// === impl ModelDisk ===

impl ModelDisk {
    /// A disk with an empty directory.
    pub(super) fn new(root: &Path) -> Self {
        let disk = Self::default();
        {
            let mut state = disk.state();
            state.names.insert(root.to_owned(), Entry::Directory);
            state.durable.insert(root.to_owned(), Entry::Directory);
        }
        disk
    }

    pub(super) fn plan(&self, plan: Plan) {
        self.state().plan = plan;
    }

    /// How many operations there were.
    pub(super) fn operations(&self) -> u64 {
        self.state().operations
    }

    /// The most files that were open at once.
    pub(super) fn most_open(&self) -> usize {
        self.state().open.1
    }

    /// The disk as the next process finds it after a power cut.
    pub(super) fn after_crash(&self, luck: Luck) -> Self {
        let state = self.state();
        let mut random = Random(if let Luck::Some(seed) = luck { seed } else { 0 });
        let mut keeps = |whole: u64| match luck {
            Luck::Nothing => 0,
            Luck::Everything => whole,
            Luck::Some(_) => random.below(whole + 1),
        };
        let inodes: Vec<Inode> = state.inodes.iter().map(|inode| inode.survivor(&mut keeps)).collect();
        let mut names = state.durable.clone();
        let changed = state.names.iter().filter(|(path, entry)| state.durable.get(*path) != Some(entry));
        for (path, entry) in changed {
            if keeps(1) == 1 {
                names.insert(path.clone(), *entry);
            }
        }
        for path in state.durable.keys().filter(|path| !state.names.contains_key(*path)) {
            if keeps(1) == 1 {
                names.remove(path);
            }
        }
        let state = State { inodes, durable: names.clone(), names, ..State::default() };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Changes the bytes of a file, as a failing disk does.
    pub(super) fn damage(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state();
        let Some(Entry::File(inode)) = state.names.get(path).copied() else { panic!("no file {}", path.display()) };
        let inode = &mut state.inodes[inode];
        change(&mut inode.now);
        *inode = Inode { durable: inode.now.clone(), now: std::mem::take(&mut inode.now), ..Inode::default() };
    }

    pub(super) fn files(&self, directory: &Path) -> Vec<PathBuf> {
        let state = self.state();
        let files = state.names.iter().filter(|(_, entry)| matches!(entry, Entry::File(_)));
        files.map(|(path, _)| path.clone()).filter(|path| path.parent() == Some(directory)).collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Counts an operation; gives its error, with true where it was done all the same.
    fn begin(&self, changes: &Changes) -> Result<MutexGuard<'_, State>, (MutexGuard<'_, State>, io::Error, bool)> {
        let mut state = self.state();
        let operation = state.operations;
        state.operations += 1;
        let refused = match state.plan {
            Plan::Nothing | Plan::NoDescriptors { .. } => None,
            Plan::Crash(at) => (operation >= at).then(|| (io::Error::other("crashed"), operation == at)),
            Plan::Fail { from, count, kind } => {
                (from..from + count).contains(&operation).then(|| (kind.into(), operation.is_multiple_of(2)))
            }
            Plan::FailWrites { from, count, kind } => {
                let hit = (from..from + count).contains(&operation) && *changes != Changes::Nothing;
                hit.then(|| (kind.into(), operation.is_multiple_of(2)))
            }
            Plan::Unreadable => (*changes == Changes::Nothing).then(|| (io::Error::other("input/output error"), false)),
            Plan::Full => (*changes == Changes::Length).then(|| (io::ErrorKind::StorageFull.into(), false)),
            Plan::ReadOnly => (*changes != Changes::Nothing).then(|| (io::ErrorKind::ReadOnlyFilesystem.into(), false)),
        };
        match refused {
            None => Ok(state),
            Some((error, done)) => Err((state, error, done)),
        }
    }

    /// Does an operation unless it is to fail, and counts it.
    fn operate<T>(&self, changes: &Changes, operation: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        match self.begin(changes) {
            Ok(mut state) => operation(&mut state),
            Err((mut state, error, done)) => {
                if done {
                    let _ = operation(&mut state);
                }
                Err(error)
            }
        }
    }

    /// Before a file is opened or made.
    fn descriptor(&self) -> io::Result<()> {
        let mut state = self.state();
        match state.plan {
            Plan::NoDescriptors { from, count } if (from..from.saturating_add(count)).contains(&state.operations) => {
                state.operations += 1;
                Err(rustix::io::Errno::MFILE.into())
            }
            _ => Ok(()),
        }
    }

    fn file(&self, inode: usize, lock: Option<PathBuf>) -> Box<dyn DiskFile> {
        let mut state = self.state();
        state.open.0 += 1;
        state.open.1 = state.open.1.max(state.open.0);
        drop(state);
        Box::new(ModelFile { disk: self.clone(), inode, lock })
    }
}

impl Disk for ModelDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.operate(&Changes::Length, |state| {
            state.names.entry(path.to_owned()).or_insert(Entry::Directory);
            Ok(())
        })
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        self.operate(&Changes::Nothing, |state| {
            if state.names.get(directory) != Some(&Entry::Directory) {
                return Err(io::ErrorKind::NotFound.into());
            }
            let inside = state.names.keys().filter(|path| path.parent() == Some(directory));
            Ok(inside.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect())
        })
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.descriptor()?;
        let inode = self.operate(&Changes::Length, |state| state.create(path))?;
        Ok(self.file(inode, None))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.descriptor()?;
        let inode = self.operate(&Changes::Nothing, |state| state.find(path))?;
        Ok(self.file(inode, None))
    }

    fn edit(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.descriptor()?;
        let inode = self.operate(&Changes::Something, |state| state.find(path))?;
        Ok(self.file(inode, None))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.descriptor()?;
        // A lock that failed is not held.
        let mut state = self.begin(&Changes::Nothing).map_err(|(_, error, _)| error)?;
        if state.locked.iter().any(|locked| locked == path) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let inode = state.find(path).or_else(|_| state.create(path))?;
        state.locked.push(path.to_owned());
        drop(state);
        Ok(self.file(inode, Some(path.to_owned())))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.operate(&Changes::Something, |state| {
            let entry = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
            state.names.insert(to.to_owned(), entry);
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.operate(&Changes::Something, |state| {
            state.names.remove(path).map(|_| ()).ok_or(io::ErrorKind::NotFound.into())
        })
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.operate(&Changes::Something, |state| {
            let State { names, durable, .. } = state;
            durable.retain(|name, _| name.parent() != Some(path));
            let inside = names.iter().filter(|(name, _)| name.parent() == Some(path));
            durable.extend(inside.map(|(name, entry)| (name.clone(), *entry)));
            Ok(())
        })
    }
}

// === impl State ===

impl State {
    fn create(&mut self, path: &Path) -> io::Result<usize> {
        if self.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.inodes.push(Inode::default());
        let inode = self.inodes.len() - 1;
        self.names.insert(path.to_owned(), Entry::File(inode));
        Ok(inode)
    }

    fn find(&self, path: &Path) -> io::Result<usize> {
        match self.names.get(path) {
            Some(Entry::File(inode)) => Ok(*inode),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

// === impl Inode ===

impl Inode {
    fn change(&mut self, change: Change) {
        apply(&mut self.now, &change);
        self.unsynced.push(change);
    }

    /// The file after a power cut; `keeps` says how much of each unsynced change survives.
    fn survivor(&self, keeps: &mut impl FnMut(u64) -> u64) -> Self {
        let mut content = self.durable.clone();
        for change in self.forgotten.iter().chain(&self.unsynced) {
            match change {
                Change::Write(offset, bytes) => {
                    let kept = usize::try_from(keeps(bytes.len() as u64)).unwrap();
                    // The file may have grown although what was written into it is lost.
                    let grown = keeps(1) == 1;
                    if kept > 0 || grown {
                        apply(&mut content, &Change::Write(*offset, bytes[..kept].to_vec()));
                    }
                    let end = usize::try_from(*offset).unwrap() + bytes.len();
                    if grown && content.len() < end {
                        content.resize(end, 0);
                    }
                }
                Change::Truncate(_) if keeps(1) == 1 => apply(&mut content, change),
                Change::Truncate(_) => {}
            }
        }
        Self { now: content.clone(), durable: content, ..Self::default() }
    }
}

fn apply(content: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write(offset, bytes) => {
            let start = usize::try_from(*offset).unwrap();
            if content.len() < start + bytes.len() {
                content.resize(start + bytes.len(), 0);
            }
            content[start..start + bytes.len()].copy_from_slice(bytes);
        }
        Change::Truncate(length) => content.resize(usize::try_from(*length).unwrap(), 0),
    }
}

// === impl ModelFile ===

impl DiskFile for ModelFile {
    fn length(&self) -> io::Result<u64> {
        self.disk.operate(&Changes::Nothing, |state| Ok(state.inodes[self.inode].now.len() as u64))
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.disk.operate(&Changes::Nothing, |state| {
            let content = &state.inodes[self.inode].now;
            let rest = content.get(usize::try_from(offset).unwrap()..).unwrap_or_default();
            let read = rest.len().min(buffer.len());
            buffer[..read].copy_from_slice(&rest[..read]);
            Ok(read)
        })
    }

    fn write_at(&self, pieces: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        let bytes: Vec<u8> = pieces.iter().flat_map(|piece| piece.iter().copied()).collect();
        match self.disk.begin(&Changes::Length) {
            Ok(mut state) => {
                let length = bytes.len();
                state.inodes[self.inode].change(Change::Write(offset, bytes));
                Ok(length)
            }
            Err((mut state, error, done)) => {
                // A part of it is there.
                let part = if done { bytes.len() * 2 / 3 } else { 0 };
                state.inodes[self.inode].change(Change::Write(offset, bytes[..part].to_vec()));
                Err(error)
            }
        }
    }

    fn sync(&self) -> io::Result<()> {
        match self.disk.begin(&Changes::Something) {
            Ok(mut state) => {
                let inode = &mut state.inodes[self.inode];
                for change in std::mem::take(&mut inode.unsynced) {
                    apply(&mut inode.durable, &change);
                }
                Ok(())
            }
            Err((mut state, error, _)) => {
                let inode = &mut state.inodes[self.inode];
                inode.forgotten.append(&mut inode.unsynced);
                Err(error)
            }
        }
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        self.disk.operate(&Changes::Something, |state| {
            state.inodes[self.inode].change(Change::Truncate(length));
            Ok(())
        })
    }
}

impl Drop for ModelFile {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        state.open.0 -= 1;
        if let Some(path) = &self.lock {
            state.locked.retain(|locked| locked != path);
        }
    }
}

/// Numbers that look random.
pub(super) struct Random(pub(super) u64);

// === impl Random ===

impl Random {
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}
