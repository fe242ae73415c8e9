//! The spool as a whole: what its threads share, and the handle that others hold.

use std::collections::VecDeque;
use std::fmt;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::config::{SpoolConfig, Tuning};
use super::desk::{Chunk, Desk};
use super::disk::{Disk, DiskFile};
use super::keeper::Keeper;
use super::lane::Lane;
use super::ledger::Ledger;
use super::metrics::SpoolMetrics;
use super::quarantine::Quarantine;
use super::quota::Quota;
use super::report::SpoolReport;
use super::spares::Spares;
use super::writer::{WriteError, Writer};
use crate::record::topic::TopicName;

/// The spool of one directory; clones are the same one. The last to be dropped closes it.
#[derive(Clone)]
pub struct Spool {
    pub(super) owner: Arc<Owner>,
}

/// Ends the threads with the last handle.
pub(super) struct Owner {
    pub(super) shared: Arc<Shared>,
    pub(super) threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What writers, the commit thread, the keeper and the reader share.
pub(super) struct Shared {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) paths: Paths,
    pub(super) tuning: Tuning,
    pub(super) quota: Quota,
    pub(super) spares: Spares,
    pub(super) quarantine: Quarantine,
    pub(super) metrics: SpoolMetrics,
    ledger: Mutex<Ledger>,
    queue: Mutex<Queue>,
    arrived: Condvar,
    ended: Condvar,
    /// Bytes in the queue or at the disk.
    pub(super) pending: AtomicUsize,
    /// False after a failure of the disk, until a probe succeeds.
    pub(super) writable: AtomicBool,
    /// The highest sequence of a segment that there ever was.
    pub(super) highest: AtomicU64,
    /// Something may have become readable.
    pub(super) news: News,
    /// Held while the spool is open.
    lock: Mutex<Option<Box<dyn DiskFile>>>,
}

/// Files and directories of one spool.
#[derive(Clone, Debug)]
pub(super) struct Paths {
    pub(super) root: PathBuf,
    pub(super) segments: PathBuf,
    pub(super) quarantine: PathBuf,
}

/// Chunks that wait for the disk. Bounded by the writers, who stop at `Tuning::pending_bytes`.
#[derive(Default)]
struct Queue {
    chunks: VecDeque<Chunk>,
    closed: bool,
}

/// A bell for whoever waits for something to happen.
#[derive(Default)]
pub(super) struct News {
    count: Mutex<u64>,
    came: Condvar,
}

// === impl Spool ===

impl Spool {
    /// The lane of a topic and partition. To be kept: finding it costs a look into a table behind a lock.
    pub fn lane(&self, topic: &TopicName, partition: Option<i32>) -> Lane {
        self.owner.shared.ledger().lane(topic, partition)
    }

    /// All lanes that were met so far, in the order of their numbers.
    pub fn lanes(&self) -> Vec<Lane> {
        self.owner.shared.ledger().lanes.iter().map(|state| state.lane.clone()).collect()
    }

    /// A writer for one thread. `wake`, an eventfd, is written whenever outcomes are there for it.
    pub fn writer(&self, wake: Arc<OwnedFd>) -> Writer {
        Writer::new(Arc::clone(&self.owner.shared), Desk::new(wake))
    }

    /// True while the disk takes data and the size is below its bound.
    pub fn is_writable(&self) -> bool {
        let shared = &self.owner.shared;
        shared.writable.load(Ordering::Relaxed) && shared.quota.used() < shared.quota.limit()
    }

    /// Bytes on disk, and those that wait to be written.
    pub fn bytes(&self) -> u64 {
        self.owner.shared.quota.used()
    }

    /// What there is, lane by lane.
    pub fn report(&self) -> SpoolReport {
        SpoolReport::of(&self.owner.shared)
    }

    /// Writes what was submitted, then the checkpoint, and gives the directory free. Chunks that are submitted later fail.
    pub fn close(&self) {
        self.owner.close();
    }
}

impl fmt::Debug for Spool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Spool({}, {} bytes)", self.owner.shared.paths.root.display(), self.bytes())
    }
}

// === impl Owner ===

impl Owner {
    pub(super) fn keep_threads(&self, threads: impl IntoIterator<Item = JoinHandle<()>>) {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).extend(threads);
    }

    fn close(&self) {
        self.shared.queue().closed = true;
        self.shared.arrived.notify_all();
        self.shared.ended.notify_all();
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            // A panic was printed where it happened.
            let _ = thread.join();
        }
        if self.shared.is_locked() {
            Keeper::new(Arc::clone(&self.shared)).turn();
            self.shared.unlock();
        }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.close();
    }
}

// === impl Shared ===

impl Shared {
    pub(super) fn new(disk: Arc<dyn Disk>, config: &SpoolConfig, tuning: Tuning) -> Self {
        let paths = Paths::new(&config.directory);
        Self {
            quarantine: Quarantine::new(Arc::clone(&disk), paths.quarantine.clone()),
            disk,
            paths,
            tuning,
            quota: Quota::new(config.max_size),
            spares: Spares::default(),
            metrics: SpoolMetrics::register(),
            ledger: Mutex::default(),
            queue: Mutex::default(),
            arrived: Condvar::new(),
            ended: Condvar::new(),
            pending: AtomicUsize::new(0),
            writable: AtomicBool::new(true),
            highest: AtomicU64::new(0),
            news: News::default(),
            lock: Mutex::new(None),
        }
    }

    /// Holds the directory's lock until the spool is closed.
    pub(super) fn keep_lock(&self, lock: Box<dyn DiskFile>) {
        *self.lock.lock().unwrap_or_else(PoisonError::into_inner) = Some(lock);
    }

    /// Gives the directory free.
    pub(super) fn unlock(&self) {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    fn is_locked(&self) -> bool {
        self.lock.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    pub(super) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a chunk where the commit thread finds it.
    pub(super) fn submit(&self, chunk: Chunk) {
        self.pending.fetch_add(chunk.bytes, Ordering::Relaxed);
        let mut queue = self.queue();
        if queue.closed {
            drop(queue);
            return self.refuse(vec![chunk], WriteError::Closed);
        }
        queue.chunks.push_back(chunk);
        drop(queue);
        self.arrived.notify_one();
    }

    /// The chunks that wait, up to the bound of a group; `None` once the spool is closed and none is left. Blocks until
    /// there are any, at most for `time`.
    pub(super) fn take_group(&self, time: Duration) -> Option<Vec<Chunk>> {
        let waited =
            self.arrived.wait_timeout_while(self.queue(), time, |queue| queue.chunks.is_empty() && !queue.closed);
        let (mut queue, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if queue.chunks.is_empty() {
            return (!queue.closed).then(Vec::new);
        }
        let (mut group, mut bytes) = (Vec::new(), 0);
        while let Some(next) = queue.chunks.front() {
            bytes += next.bytes;
            if !group.is_empty() && bytes > self.tuning.group_bytes {
                break;
            }
            group.extend(queue.chunks.pop_front());
        }
        Some(group)
    }

    /// Fails chunks: their records are not in the spool.
    pub(super) fn refuse(&self, chunks: Vec<Chunk>, error: WriteError) {
        let entries: Vec<_> = chunks.iter().flat_map(|chunk| &chunk.frames).map(|frame| frame.entry(0)).collect();
        self.ledger().fail(&entries);
        for chunk in &chunks {
            self.quota.give_back(chunk.bytes as u64);
        }
        self.report_outcome(chunks, Err(error));
    }

    /// Tells the writers what became of their chunks.
    pub(super) fn report_outcome(&self, chunks: Vec<Chunk>, outcome: Result<(), WriteError>) {
        let mut desks: Vec<Arc<Desk>> = Vec::new();
        for chunk in chunks {
            self.pending.fetch_sub(chunk.bytes, Ordering::Relaxed);
            chunk.desk.put(chunk.sequence, outcome, chunk.frames);
            if !desks.iter().any(|desk| Arc::ptr_eq(desk, &chunk.desk)) {
                desks.push(chunk.desk);
            }
        }
        for desk in desks {
            desk.ring();
        }
    }

    /// Blocks until the spool is closed, at most for `time`; whether it is.
    pub(super) fn wait_closed(&self, time: Duration) -> bool {
        let waited = self.ended.wait_timeout_while(self.queue(), time, |queue| !queue.closed);
        waited.unwrap_or_else(PoisonError::into_inner).0.closed
    }
}

// === impl Paths ===

impl Paths {
    pub(super) fn new(root: &Path) -> Self {
        Self { segments: root.join("segments"), quarantine: root.join("quarantine"), root: root.to_owned() }
    }

    pub(super) fn segment(&self, sequence: u64) -> PathBuf {
        self.segments.join(super::segment::file_name(sequence))
    }
}

// === impl News ===

impl News {
    /// Says that something happened.
    pub(super) fn tell(&self) {
        *self.count.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.came.notify_all();
    }

    /// How often something happened.
    pub(super) fn count(&self) -> u64 {
        *self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Blocks until something happened more often than `seen`, at most for `time`.
    pub(super) fn wait(&self, seen: u64, time: Duration) {
        let deadline = Instant::now() + time;
        let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        while *count <= seen {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            count = self.came.wait_timeout(count, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
