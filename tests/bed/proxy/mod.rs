//! A TCP proxy that misbehaves on command, to stand before a broker or before Tidegate.
//!
//! What changes while it runs is a set of rules that each connection watches. Bytes that a rule lets pass go through
//! a queue with the time at which each is due, so a delay adds latency without taking throughput.

mod io;

use self::io::{listen, lock};
use super::wait::wait_until;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::watch;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client that connected.
    ToServer,
    /// Back to it.
    ToClient,
}

/// What follows a cut after so many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// New connections pass.
    Pass,
    /// New connections are refused until [`FaultProxy::heal`].
    Refuse,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    Pass,
    Swallow,
    Stall,
}

#[derive(Clone, Copy)]
struct Way {
    flow: Flow,
    delay: Duration,
    /// Bytes per read, and the pause after each so that the receiver sees them one by one.
    chunk: (usize, Duration),
}

const OPEN: Way = Way { flow: Flow::Pass, delay: Duration::ZERO, chunk: (64 * 1024, Duration::ZERO) };

#[derive(Clone, Copy)]
struct Rules {
    refuse: bool,
    ways: [Way; 2],
}

const HEALTHY: Rules = Rules { refuse: false, ways: [OPEN, OPEN] };

/// How connections end: both sides reset at once, or in order, so that what was forwarded is still read.
#[derive(Clone, Copy)]
enum Cut {
    Reset,
    InOrder,
}

struct Shared {
    upstream: Mutex<SocketAddr>,
    rules: watch::Sender<Rules>,
    cut: watch::Sender<Cut>,
    budgets: [Mutex<Option<(usize, After)>>; 2],
    listening: AtomicBool,
    accepted: AtomicUsize,
    open: AtomicUsize,
    forwarded: [AtomicU64; 2],
}

/// The proxy; its connections end when this value goes.
pub struct FaultProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

impl FaultProxy {
    /// Listens on a free port and forwards to this address, which need not be served yet.
    pub fn start(upstream: SocketAddr) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let shared = Arc::new(Shared {
            upstream: Mutex::new(upstream),
            rules: watch::Sender::new(HEALTHY),
            cut: watch::Sender::new(Cut::Reset),
            budgets: [Mutex::new(None), Mutex::new(None)],
            listening: AtomicBool::new(false),
            accepted: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            forwarded: [AtomicU64::new(0), AtomicU64::new(0)],
        });
        let address = SocketAddr::from(([127, 0, 0, 1], super::free_port()));
        runtime.spawn(listen(address, Arc::clone(&shared)));
        let proxy = Self { address, shared, runtime: Some(runtime) };
        proxy.await_listener(true);
        proxy
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where new connections go from now on.
    pub fn set_upstream(&self, upstream: SocketAddr) {
        *lock(&self.shared.upstream) = upstream;
    }

    /// Closes the listener: new connections are refused, open ones go on.
    pub fn refuse(&self) {
        self.shared.rules.send_modify(|rules| rules.refuse = true);
        self.await_listener(false);
    }

    /// Resets all connections now.
    pub fn cut(&self) {
        self.shared.cut.send_replace(Cut::Reset);
    }

    /// Resets all connections now and refuses new ones, as a dead machine's kernel would not but a dead process's does.
    pub fn down(&self) {
        self.refuse();
        self.cut();
    }

    /// Forwards exactly so many further bytes in this direction, all connections together, then closes all
    /// connections in order, so that the receiver still reads these bytes.
    pub fn cut_after(&self, direction: Direction, bytes: usize, after: After) {
        *lock(&self.shared.budgets[direction as usize]) = Some((bytes, after));
    }

    /// Reads and drops what comes in this direction. Connections stay open and new ones are accepted. A connection
    /// that has lost bytes this way is reset when the rule ends: its stream has a hole.
    pub fn swallow(&self, direction: Direction) {
        self.change(direction, |way| way.flow = Flow::Swallow);
    }

    /// Drops everything, both ways.
    pub fn black_hole(&self) {
        self.swallow(Direction::ToServer);
        self.swallow(Direction::ToClient);
    }

    /// Holds what comes in this direction, as a network that loses every packet does: nothing is lost when it heals.
    pub fn stall(&self, direction: Direction) {
        self.change(direction, |way| way.flow = Flow::Stall);
    }

    /// Adds latency in this direction.
    pub fn delay(&self, direction: Direction, delay: Duration) {
        self.change(direction, |way| way.delay = delay);
    }

    /// Forwards at most so many bytes at a time in this direction, with a pause after each.
    pub fn throttle(&self, direction: Direction, bytes: usize, pause: Duration) {
        self.change(direction, |way| way.chunk = (bytes.max(1), pause));
    }

    /// Takes back every rule.
    pub fn heal(&self) {
        for budget in &self.shared.budgets {
            *lock(budget) = None;
        }
        self.shared.rules.send_replace(HEALTHY);
        self.await_listener(true);
    }

    /// How many connections there have been.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// How many connections are open.
    pub fn open(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// How many bytes it has forwarded in this direction.
    pub fn forwarded(&self, direction: Direction) -> u64 {
        self.shared.forwarded[direction as usize].load(Ordering::SeqCst)
    }

    fn change(&self, direction: Direction, change: impl FnOnce(&mut Way)) {
        self.shared.rules.send_modify(|rules| change(&mut rules.ways[direction as usize]));
    }

    fn await_listener(&self, listening: bool) {
        wait_until(Duration::from_secs(10), "the proxy's listener", || {
            self.shared.listening.load(Ordering::SeqCst) == listening
        });
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Also allowed where a runtime must not block.
            runtime.shutdown_background();
        }
    }
}
