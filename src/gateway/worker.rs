//! One thread of the gateway: its own runtime, its own listening sockets, its own connections to pools. Nothing moves from one
//! thread to another; the system spreads clients over the sockets (SO_REUSEPORT).

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Barrier, Notify};

use super::connection;
use super::listener::Bound;
use super::mirror::Copies;
use super::shared::Shared;
use crate::base::drain::{Drain, Guard};
use crate::upstream::{Connections, Random};

/// How long connections of HTTP/1.1 are still read from once the end is asked for. Each answer says that it is the last one; who
/// sent a request just before it knew is answered rather than cut off, and a POST cut off may not be repeated.
const PARTING: Duration = Duration::from_secs(1);
/// How long a thread waits for the others' sockets to close.
const TOGETHER: Duration = Duration::from_secs(1);

thread_local! {
    static RANDOM: RefCell<Random> = RefCell::new(Random::default());
}

/// What the connections of one thread share.
pub(super) struct Worker {
    pub(super) shared: Arc<Shared>,
    pub(super) connections: Connections,
    pub(super) thread: usize,
    pub(super) copies: Copies,
    draining: AtomicBool,
    told: Notify,
    open: AtomicUsize,
    closed: Notify,
}

/// What a thread is started with.
pub(super) struct Start {
    pub(super) shared: Arc<Shared>,
    pub(super) thread: usize,
    pub(super) listeners: Vec<Bound>,
    pub(super) drain: Drain,
    pub(super) guard: Guard,
    /// How long connections have for what is under way once the end is asked for.
    pub(super) patience: Duration,
    /// Where the threads meet once their sockets are closed.
    pub(super) closed: Arc<Barrier>,
}

/// Holds the thread's end back while a connection, or what came of it, is open.
pub(super) struct Opened(Arc<Worker>);

/// Runs a thread's listeners until the drain is requested, then lets connections finish. What has not by then ends with the
/// runtime.
pub(super) async fn run(start: Start) {
    let Start { shared, thread, listeners, drain, guard, patience, closed } = start;
    let worker = Arc::new(Worker {
        shared,
        connections: Connections::new(thread),
        thread,
        copies: Copies::default(),
        draining: AtomicBool::new(false),
        told: Notify::new(),
        open: AtomicUsize::new(0),
        closed: Notify::new(),
    });
    let accepting: Vec<_> = listeners
        .into_iter()
        .map(|bound| tokio::spawn(connection::accept(worker.clone(), bound, drain.clone())))
        .collect();
    drain.requested().await;
    for task in accepting {
        // It ends once nobody waits to be accepted.
        let _ = task.await;
    }
    // Clients that are told connect anew at once: to whoever listens here next, and not to a socket that is about to close.
    let _ = tokio::time::timeout(TOGETHER, closed.wait()).await;
    // First the flag, then the call: who wakes sees it.
    worker.draining.store(true, Ordering::Release);
    worker.told.notify_waiters();
    let ended = async {
        loop {
            let closed = worker.closed.notified();
            if worker.open.load(Ordering::Acquire) == 0 {
                break;
            }
            closed.await;
        }
    };
    if tokio::time::timeout(patience, ended).await.is_err() {
        let open = worker.open.load(Ordering::Acquire);
        tracing::warn!(open, thread, "connections of the gateway are cut: they did not finish in time");
    }
    drop(guard);
}

// === impl Worker ===

impl Worker {
    /// 64 random bits.
    pub(super) fn random(&self) -> u64 {
        RANDOM.with_borrow_mut(Random::next_u64)
    }

    /// Counts a connection that is open until the guard is dropped.
    pub(super) fn opened(self: &Arc<Self>) -> Opened {
        self.open.fetch_add(1, Ordering::AcqRel);
        Opened(self.clone())
    }

    /// Whether the end has been asked for.
    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Wakes when connections that have nothing under way are to be closed, a while after the end was asked for.
    pub(super) async fn parting(&self) {
        self.drained().await;
        tokio::time::sleep(PARTING).await;
    }

    /// Wakes when the end is asked for; at once if it was.
    pub(super) async fn drained(&self) {
        let told = self.told.notified();
        if !self.is_draining() {
            told.await;
        }
    }
}

// === impl Opened ===

impl Drop for Opened {
    fn drop(&mut self) {
        if self.0.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.closed.notify_waiters();
        }
    }
}
