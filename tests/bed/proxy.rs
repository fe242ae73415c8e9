//! A TCP proxy that misbehaves on command, to stand before a broker or before Tidegate.
//!
//! What changes while it runs is a set of rules that each connection watches. Bytes that a rule lets pass go through
//! a queue with the time at which each is due, so a delay adds latency without taking throughput.

use super::wait::wait_until;
use socket2::SockRef;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

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

const OPEN: Way = Way {
    flow: Flow::Pass,
    delay: Duration::ZERO,
    chunk: (64 * 1024, Duration::ZERO),
};

#[derive(Clone, Copy)]
struct Rules {
    refuse: bool,
    ways: [Way; 2],
}

const HEALTHY: Rules = Rules {
    refuse: false,
    ways: [OPEN, OPEN],
};

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
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
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
        let proxy = Self {
            address,
            shared,
            runtime: Some(runtime),
        };
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
        self.shared
            .rules
            .send_modify(|rules| change(&mut rules.ways[direction as usize]));
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

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn listen(address: SocketAddr, shared: Arc<Shared>) {
    let mut rules = shared.rules.subscribe();
    loop {
        if rules.wait_for(|rules| !rules.refuse).await.is_err() {
            return;
        }
        let Ok(listener) = TcpListener::bind(address).await else {
            // Another program has taken the port meanwhile; the caller's deadline reports it.
            sleep(Duration::from_millis(20)).await;
            continue;
        };
        shared.listening.store(true, Ordering::SeqCst);
        loop {
            tokio::select! {
                biased;
                _ = rules.wait_for(|rules| rules.refuse) => break,
                client = listener.accept() => if let Ok((client, _)) = client {
                    shared.accepted.fetch_add(1, Ordering::SeqCst);
                    tokio::spawn(serve(client, Arc::clone(&shared)));
                },
            }
        }
        drop(listener);
        shared.listening.store(false, Ordering::SeqCst);
    }
}

async fn serve(mut client: TcpStream, shared: Arc<Shared>) {
    // Before anything else, so that a cut from now on reaches this connection.
    let mut cut = shared.cut.subscribe();
    let upstream = *lock(&shared.upstream);
    let Ok(mut server) = TcpStream::connect(upstream).await else {
        let _ = SockRef::from(&client).set_linger(Some(Duration::ZERO));
        return;
    };
    shared.open.fetch_add(1, Ordering::SeqCst);
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    let end = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let up = pump(from_client, to_server, Direction::ToServer, &shared);
        let down = pump(from_server, to_client, Direction::ToClient, &shared);
        tokio::select! {
            biased;
            _ = cut.changed() => Some(*cut.borrow()),
            ended = async { tokio::try_join!(up, down) } => ended.err().map(|_| Cut::Reset),
        }
    };
    match end {
        Some(Cut::Reset) => {
            for stream in [&client, &server] {
                let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
            }
        }
        Some(Cut::InOrder) => {
            // A socket closed with unread bytes sends a reset, which would take the last forwarded bytes with it.
            let _ = client.shutdown().await;
            let _ = server.shutdown().await;
            let _ = timeout(Duration::from_secs(1), async {
                tokio::join!(drain(&mut client), drain(&mut server))
            })
            .await;
        }
        None => {}
    }
    drop((client, server));
    shared.open.fetch_sub(1, Ordering::SeqCst);
}

async fn drain(stream: &mut TcpStream) {
    let mut buffer = [0; 4096];
    while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
}

/// Moves the bytes of one direction until its end. An error ends the whole connection.
async fn pump(
    mut from: ReadHalf<'_>,
    to: WriteHalf<'_>,
    direction: Direction,
    shared: &Shared,
) -> io::Result<()> {
    let mut rules = shared.rules.subscribe();
    let (queue, due) = mpsc::channel(1024);
    let read = async move {
        let mut buffer = vec![0; OPEN.chunk.0];
        let mut lost = false;
        loop {
            let way = rules.borrow_and_update().ways[direction as usize];
            if lost && way.flow != Flow::Swallow {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            if way.flow == Flow::Stall {
                changed(&mut rules).await?;
                continue;
            }
            let most = way.chunk.0.min(buffer.len());
            let read = tokio::select! {
                biased;
                changed = changed(&mut rules) => { changed?; continue }
                read = from.read(&mut buffer[..most]) => read?,
            };
            if read == 0 {
                return Ok(());
            }
            if way.flow == Flow::Swallow {
                lost = true;
                continue;
            }
            let item = (Instant::now() + way.delay, buffer[..read].to_vec());
            if queue.send(item).await.is_err() {
                return Ok(());
            }
            if !way.chunk.1.is_zero() {
                sleep(way.chunk.1).await;
            }
        }
    };
    tokio::try_join!(read, write(to, due, direction, shared)).map(|_| ())
}

async fn changed(rules: &mut watch::Receiver<Rules>) -> io::Result<()> {
    rules
        .changed()
        .await
        .map_err(|_| io::ErrorKind::ConnectionReset.into())
}

async fn write(
    mut to: WriteHalf<'_>,
    mut due: mpsc::Receiver<(Instant, Vec<u8>)>,
    direction: Direction,
    shared: &Shared,
) -> io::Result<()> {
    while let Some((time, bytes)) = due.recv().await {
        sleep_until(time).await;
        let (allowed, end) = spend(shared, direction, bytes.len());
        to.write_all(&bytes[..allowed]).await?;
        shared.forwarded[direction as usize].fetch_add(allowed as u64, Ordering::SeqCst);
        if let Some(after) = end {
            if after == After::Refuse {
                shared.rules.send_modify(|rules| rules.refuse = true);
            }
            *lock(&shared.budgets[direction as usize]) = None;
            shared.cut.send_replace(Cut::InOrder);
            // The connection's own task sees the cut and ends this one.
            std::future::pending::<()>().await;
        }
    }
    to.shutdown().await
}

/// How many of these bytes may pass, and whether that is the end.
fn spend(shared: &Shared, direction: Direction, bytes: usize) -> (usize, Option<After>) {
    let mut budget = lock(&shared.budgets[direction as usize]);
    match budget.as_mut() {
        None => (bytes, None),
        Some((left, after)) => {
            let allowed = bytes.min(*left);
            *left -= allowed;
            (allowed, (*left == 0).then_some(*after))
        }
    }
}
