//! What the fault proxy's tasks do: one per connection, each with a reader and a writer per direction.

use super::{After, Cut, Direction, Flow, OPEN, Rules, Shared};
use socket2::SockRef;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) async fn listen(address: SocketAddr, shared: Arc<Shared>) {
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
            let _ =
                timeout(Duration::from_secs(1), async { tokio::join!(drain(&mut client), drain(&mut server)) }).await;
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
async fn pump(mut from: ReadHalf<'_>, to: WriteHalf<'_>, direction: Direction, shared: &Shared) -> io::Result<()> {
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
    rules.changed().await.map_err(|_| io::ErrorKind::ConnectionReset.into())
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
