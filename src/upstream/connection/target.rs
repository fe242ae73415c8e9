//! An address with its connections, whatever pools it is in.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::http1::Http1;
use super::http2::Http2;
use crate::upstream::config::UpstreamTls;

/// What connections are shared by.
pub(in crate::upstream) type TargetKey = (SocketAddr, Option<Arc<str>>);

/// Where connections go. Each thread has a shelf of its own for those that are not in use.
#[derive(Debug)]
pub(in crate::upstream) struct Target {
    address: SocketAddr,
    tls: Option<Arc<UpstreamTls>>,
    /// Made when the first connection is: most endpoints of a large pool see few of the threads.
    shelves: OnceLock<Shelves>,
    threads: usize,
    /// In how many pools it is ready. In none, no connection is kept once it has done what it does.
    wanted: AtomicU32,
}

/// A shelf for each thread, at least one.
#[derive(Debug)]
struct Shelves {
    first: Shelf,
    others: Box<[Shelf]>,
}

/// One thread's connections. Its locks are taken by others only to close what is no longer wanted, or what another
/// needs the room of.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Shelf {
    idle: Mutex<Vec<Idle>>,
    pub(super) http2: Mutex<Vec<Http2>>,
    /// Whoever opens a connection of HTTP/2 holds it, so that a burst shares one.
    pub(super) opening: tokio::sync::Mutex<()>,
    /// Whether the thread's sweeper knows of it.
    pub(super) is_swept: AtomicBool,
}

/// A connection that waits for a request.
#[derive(Debug)]
struct Idle {
    connection: Box<Http1>,
    /// The sweeper's turn in which it has waited long enough.
    until: u32,
}

// === impl Target ===

impl Target {
    pub(in crate::upstream) fn new(address: SocketAddr, tls: Option<Arc<UpstreamTls>>, threads: usize) -> Self {
        Self { address, tls, shelves: OnceLock::new(), threads: threads.max(1), wanted: AtomicU32::new(0) }
    }

    #[inline]
    pub(in crate::upstream) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(in crate::upstream) fn key(&self) -> TargetKey {
        (self.address, self.tls.as_ref().map(|tls| Arc::clone(tls.identity())))
    }

    pub(super) fn tls(&self) -> Option<&Arc<UpstreamTls>> {
        self.tls.as_ref()
    }

    /// One more pool has it as ready.
    pub(in crate::upstream) fn want(&self) {
        self.wanted.fetch_add(1, Ordering::AcqRel);
    }

    /// One pool less has it as ready. Nobody at all: what is idle is closed at once, what is in use when it is done.
    pub(in crate::upstream) fn unwant(&self) {
        if self.wanted.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.all_shelves().for_each(Shelf::close);
        }
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Acquire) > 0
    }

    #[inline]
    pub(super) fn shelf(&self, thread: usize) -> &Shelf {
        let made =
            || Shelves { first: Shelf::default(), others: (1..self.threads).map(|_| Shelf::default()).collect() };
        let shelves = self.shelves.get_or_init(made);
        thread.checked_sub(1).and_then(|at| shelves.others.get(at)).unwrap_or(&shelves.first)
    }

    fn all_shelves(&self) -> impl Iterator<Item = &Shelf> {
        self.shelves.get().into_iter().flat_map(|shelves| std::iter::once(&shelves.first).chain(&shelves.others))
    }

    /// Closes one idle connection of any thread; says whether there was one.
    pub(in crate::upstream) fn close_one_idle(&self) -> bool {
        self.all_shelves().any(|shelf| {
            let oldest = {
                let mut idle = shelf.idle();
                (!idle.is_empty()).then(|| idle.remove(0))
            };
            oldest.is_some()
        })
    }

    /// Connections of all threads that are not in use (HTTP/1), and those that requests share (HTTP/2).
    pub(in crate::upstream) fn connections(&self) -> (usize, usize) {
        self.all_shelves()
            .fold((0, 0), |(idle, shared), shelf| (idle + shelf.idle().len(), shared + shelf.http2().len()))
    }
}

// === impl Shelf ===

impl Shelf {
    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn http2(&self) -> MutexGuard<'_, Vec<Http2>> {
        self.http2.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection that was used last.
    #[inline]
    pub(super) fn take(&self) -> Option<Box<Http1>> {
        self.idle().pop().map(|idle| idle.connection)
    }

    /// Keeps a connection until the sweeper's turn `until`, unless there are enough.
    #[inline]
    pub(super) fn put(&self, connection: Box<Http1>, until: u32, most: usize) {
        let mut idle = self.idle();
        if idle.len() < most {
            idle.push(Idle { connection, until });
        }
    }

    /// Closes what the other side has closed, and what has waited until `turn`. Says whether anything is left.
    pub(super) fn sweep(&self, turn: u32) -> bool {
        let mut closed = Vec::new();
        let mut idle = self.idle();
        let mut kept = Vec::with_capacity(idle.len());
        for mut it in idle.drain(..) {
            // Turns are compared so that they may wrap.
            let over = turn.wrapping_sub(it.until) < u32::MAX / 2;
            if over || !it.connection.is_still_idle() {
                closed.push(it);
            } else {
                kept.push(it);
            }
        }
        *idle = kept;
        let mut http2 = self.http2();
        http2.retain(|connection| !connection.is_over(turn));
        let left = !idle.is_empty() || !http2.is_empty();
        drop((idle, http2));
        // A system call each, outside the locks.
        drop(closed);
        left
    }

    fn close(&self) {
        let idle = std::mem::take(&mut *self.idle());
        let http2 = std::mem::take(&mut *self.http2());
        drop((idle, http2));
    }
}
