//! Back ends as pods are: they come up, serve, finish and go, or are killed.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU16, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::bed::wait_until;

/// How long a request takes.
const WORK: Duration = Duration::from_millis(2);

/// A running back end. It is killed when this value goes.
pub(crate) struct Pod {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    phase: watch::Sender<Phase>,
    served: AtomicU64,
    /// Open ones, and the listener.
    connections: AtomicUsize,
    /// Requests that it has and has not answered, by the number that the client gave them.
    in_flight: Mutex<BTreeSet<u64>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Up,
    /// It ends: what it has is answered, idle connections are closed.
    Ending,
    Killed,
}

/// An address of this machine that no other pod of this process has.
pub(crate) fn address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let [high, low] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    // Several test processes may run on one machine.
    let own = u8::try_from(std::process::id() % 120).unwrap() + 100;
    SocketAddr::new(IpAddr::from([127, own, high, low.max(1)]), 8080)
}

impl Pod {
    /// Starts one at a new address.
    pub(crate) fn start(runtime: &Handle) -> Self {
        let mut at = address();
        // The numbers 0 and 1 would be one address.
        if at.ip().to_string().ends_with(".1") {
            at = address();
        }
        Self::start_at(runtime, at)
    }

    /// Starts one.
    pub(crate) fn start_at(runtime: &Handle, address: SocketAddr) -> Self {
        let shared = Arc::new(Shared {
            phase: watch::Sender::new(Phase::Up),
            served: AtomicU64::new(0),
            connections: AtomicUsize::new(1),
            in_flight: Mutex::default(),
        });
        let listener = std::net::TcpListener::bind(address).unwrap_or_else(|e| panic!("{address}: {e}"));
        listener.set_nonblocking(true).unwrap();
        let _guard = runtime.enter();
        let listener = TcpListener::from_std(listener).unwrap();
        runtime.spawn(serve(listener, address, shared.clone()));
        Self { address, shared }
    }

    /// How many requests it answered.
    pub(crate) fn served(&self) -> u64 {
        self.shared.served.load(Ordering::Relaxed)
    }

    /// Ends as a pod does on SIGTERM, and waits for it: a request that comes nevertheless is answered.
    pub(crate) fn end(self) {
        self.shared.phase.send_replace(Phase::Ending);
        let shared = &self.shared;
        wait_until(Duration::from_secs(20), "the end of a pod's connections", || {
            shared.connections.load(Ordering::Relaxed) == 0
        });
    }

    /// Ends as a pod does on SIGKILL: connections are cut. Gives the requests that were in flight, and the time.
    pub(crate) fn kill(self) -> (BTreeSet<u64>, Instant) {
        let at = Instant::now();
        self.shared.phase.send_replace(Phase::Killed);
        let in_flight = self.shared.in_flight.lock().unwrap().clone();
        let shared = &self.shared;
        wait_until(Duration::from_secs(20), "the end of a killed pod's connections", || {
            shared.connections.load(Ordering::Relaxed) == 0
        });
        (in_flight, at)
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        self.shared.phase.send_if_modified(|phase| {
            let up = *phase == Phase::Up;
            if up {
                *phase = Phase::Killed;
            }
            up
        });
    }
}

async fn serve(listener: TcpListener, address: SocketAddr, shared: Arc<Shared>) {
    let mut phase = shared.phase.subscribe();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                shared.connections.fetch_add(1, Ordering::Relaxed);
                let shared = shared.clone();
                tokio::spawn(async move {
                    // A client that went away is the client's affair.
                    let _ = connection(stream, address, &shared).await;
                    shared.connections.fetch_sub(1, Ordering::Relaxed);
                });
            }
            _ = phase.wait_for(|phase| *phase != Phase::Up) => break,
        }
    }
    drop(listener);
    shared.connections.fetch_sub(1, Ordering::Relaxed);
}

async fn connection(mut stream: TcpStream, address: SocketAddr, shared: &Shared) -> std::io::Result<()> {
    let mut phase = shared.phase.subscribe();
    let mut buffer = Vec::new();
    loop {
        let head = loop {
            if let Some(at) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            let idle = buffer.is_empty();
            tokio::select! {
                biased;
                // Bytes that are here come first: an ending pod answers what it got.
                read = stream.read_buf(&mut buffer) => if read? == 0 { return Ok(()) },
                killed = ends(&mut phase, idle) => return if killed { cut(stream) } else { Ok(()) },
            }
        };
        let text = String::from_utf8_lossy(&buffer[..head]).to_ascii_lowercase();
        let number = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.map_or(0, |value| value.trim().parse::<u64>().unwrap_or_default())
        };
        let (id, length) = (number("x-id:"), usize::try_from(number("content-length:")).unwrap());
        // Checks of gateways have no number.
        if id > 0 {
            shared.in_flight.lock().unwrap().insert(id);
        }
        let work = async {
            while buffer.len() < head + length {
                if stream.read_buf(&mut buffer).await? == 0 {
                    return Ok(());
                }
            }
            tokio::time::sleep(WORK).await;
            Ok::<_, std::io::Error>(())
        };
        let worked = tokio::select! {
            worked = work => Some(worked),
            _ = ends(&mut phase, false) => None,
        };
        let Some(worked) = worked else { return cut(stream) };
        worked?;
        let body = format!("{address} {length}");
        let close = if *phase.borrow() == Phase::Up { "" } else { "Connection: close\r\n" };
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{close}\r\n{body}", body.len());
        stream.write_all(answer.as_bytes()).await?;
        buffer.drain(..head + length);
        if id > 0 {
            shared.served.fetch_add(1, Ordering::Relaxed);
            shared.in_flight.lock().unwrap().remove(&id);
        }
        if !close.is_empty() {
            return Ok(());
        }
    }
}

/// Waits until the pod is killed, or, with `idle`, until it ends; says whether it was killed.
async fn ends(phase: &mut watch::Receiver<Phase>, idle: bool) -> bool {
    let over = phase.wait_for(|phase| *phase == Phase::Killed || (idle && *phase == Phase::Ending)).await;
    over.is_ok_and(|phase| *phase == Phase::Killed)
}

/// As the kernel ends the connections of a killed process that had not read everything.
fn cut(stream: TcpStream) -> std::io::Result<()> {
    let stream = socket2::Socket::from(stream.into_std()?);
    stream.set_linger(Some(Duration::ZERO))
}
