//! Opening a spool: lock → recovery → threads.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread;

use super::commit::{Committer, Random};
use super::config::{SpoolConfig, Tuning};
use super::disk::{Disk, RealDisk};
use super::engine::{Owner, Shared, Spool};
use super::keeper::Keeper;
use super::replay::Replay;
use super::{lock, recover};

/// Why a spool cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process uses the directory.
    #[error("{}: is in use{holder}: give each process a directory of its own", directory.display())]
    Locked {
        /// The directory.
        directory: PathBuf,
        /// Who has it, as " by process 123", where that is known.
        holder: String,
    },
    /// The directory was written by another version.
    #[error("{}: says {found:?}, and this version reads \"tidegate-spool 1\": drain the spool with the version that wrote it, or name another directory", path.display())]
    Format {
        /// The file that says so.
        path: PathBuf,
        /// What it says.
        found: String,
    },
    /// The disk refused.
    #[error("{}: {cause}", path.display())]
    Disk {
        /// Where.
        path: PathBuf,
        /// What the operating system said.
        cause: io::Error,
    },
    /// No thread could be started.
    #[error("no thread for the spool: {0}")]
    Thread(io::Error),
}

// === impl Spool ===

impl Spool {
    /// Opens a directory and starts the spool's threads. What an earlier process left is there to be replayed.
    ///
    /// # Errors
    /// The directory is in use, of another format, or the disk refused. Damage is no error.
    pub fn open(config: &SpoolConfig) -> Result<(Self, Replay), OpenError> {
        let random = || RandomState::new().build_hasher().finish();
        Self::open_with(config, Tuning::of(config.max_size), Arc::new(RealDisk), Box::new(random))
    }

    /// Opens a spool on another disk, with other sizes and another source of random numbers.
    ///
    /// # Errors
    /// As [`Spool::open`].
    pub fn open_with(
        config: &SpoolConfig,
        tuning: Tuning,
        disk: Arc<dyn Disk>,
        random: Random,
    ) -> Result<(Self, Replay), OpenError> {
        let (shared, committer) = prepare(config, tuning, disk, random)?;
        let keeper = Keeper::new(Arc::clone(&shared));
        let start = |name: &str, run: Box<dyn FnOnce() + Send>| {
            thread::Builder::new().name(name.to_owned()).spawn(run).map_err(OpenError::Thread)
        };
        let owner = Owner { shared: Arc::clone(&shared), threads: Mutex::default() };
        let threads = [
            start("spool-commit", Box::new(move || committer.run()))?,
            start("spool-keeper", Box::new(move || keeper.run()))?,
        ];
        owner.keep_threads(threads);
        Ok((Self { owner: Arc::new(owner) }, Replay::new(shared)))
    }
}

/// Everything but the threads.
pub(super) fn prepare(
    config: &SpoolConfig,
    tuning: Tuning,
    disk: Arc<dyn Disk>,
    random: Random,
) -> Result<(Arc<Shared>, Committer), OpenError> {
    let shared = Arc::new(Shared::new(disk, config, tuning));
    let lock = lock::prepare(&*shared.disk, &shared.paths)?;
    let last = recover::recover(&shared)?;
    shared.keep_lock(lock);
    let committer = Committer::new(Arc::clone(&shared), last, random);
    Ok((shared, committer))
}
