//! Connections that were upgraded: bytes go both ways, whatever they mean, until both sides have ended or nothing has come for the
//! route's time.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::body::Bytes;
use hyper::header::UPGRADE;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper::{Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};

use super::answer::{Asking, fail};
use super::body::Download;
use super::config::Timeouts;
use super::downstream::Upgrade;
use super::exchange::Exchange;
use super::headers;
use super::reason::Reason;
use super::worker::{Opened, Worker};
use crate::upstream::{Picked, ResponseBody};

/// What one direction holds of bytes that the other side has not taken.
const PIECE: usize = 16 << 10;

/// Answers a client's upgrade with the pool's.
pub(super) fn open(
    worker: &Arc<Worker>,
    mut asking: Asking,
    mut response: Response<ResponseBody>,
    picked: Picked,
    client: OnUpgrade,
    timeouts: Timeouts,
) -> Response<Download> {
    let Some(protocol) = response.headers().get(UPGRADE).cloned() else { return fail(asking, Reason::BadAnswer) };
    let server = hyper::upgrade::on(&mut response);
    let (mut head, _) = response.into_parts();
    headers::strip(&mut head.headers);
    asking.finish(StatusCode::SWITCHING_PROTOCOLS, &mut head.headers);
    headers::ask_upgrade(&mut head.headers, &protocol);
    head.extensions.clear();
    asking.exchange.downstream.set_upgrade(Upgrade::Taken);
    let open = Open { worker: worker.clone(), exchange: asking.exchange, picked, _opened: worker.opened() };
    tokio::spawn(open.run(client, server, timeouts.idle));
    let mut answer = Response::new(Download::bare(Bytes::new()));
    *answer.status_mut() = head.status;
    *answer.headers_mut() = head.headers;
    answer
}

/// A request whose answer is a connection.
struct Open {
    worker: Arc<Worker>,
    exchange: Box<Exchange>,
    picked: Picked,
    _opened: Opened,
}

// === impl Open ===

impl Open {
    async fn run(mut self, client: OnUpgrade, server: OnUpgrade, idle: Duration) {
        let metrics = &self.worker.shared.metrics;
        let (client, server) = match tokio::try_join!(client, server) {
            Ok(both) => both,
            Err(_) => {
                self.exchange.reason = Some(Reason::ClientGone);
                return;
            }
        };
        metrics.upgraded.increment(1.0);
        let (received, sent) = (Arc::new(AtomicU64::new(0)), AtomicU64::new(0));
        self.exchange.received = Some(received.clone());
        tokio::select! {
            broke = both(client, server, &received, &sent) => self.exchange.reason = broke,
            () = silent(idle, &received, &sent) => self.exchange.reason = Some(Reason::AnswerTimeout),
        }
        metrics.upgraded.decrement(1.0);
        self.exchange.sent = sent.load(Ordering::Relaxed);
        drop(self.picked);
    }
}

/// Both directions, until each has ended; says who broke off. An end in order is none of that, whoever ends first: what it
/// means is said in a protocol that only the two know.
async fn both(client: Upgraded, server: Upgraded, received: &AtomicU64, sent: &AtomicU64) -> Option<Reason> {
    let (client_reads, client_writes) = split(TokioIo::new(client));
    let (server_reads, server_writes) = split(TokioIo::new(server));
    let (client_broke, server_broke) = (|_| Reason::ClientGone, |_| Reason::AnswerCut);
    let up = pump((client_reads, client_broke), (server_writes, server_broke), received);
    let down = pump((server_reads, server_broke), (client_writes, client_broke), sent);
    // One that broke off ends the other: nobody is left to answer it.
    tokio::try_join!(up, down).err()
}

async fn pump<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    (mut from, reader_broke): (R, impl Fn(io::Error) -> Reason),
    (mut to, writer_broke): (W, impl Fn(io::Error) -> Reason),
    count: &AtomicU64,
) -> Result<(), Reason> {
    let mut piece = vec![0; PIECE];
    loop {
        let read = from.read(&mut piece).await.map_err(&reader_broke)?;
        if read == 0 {
            return to.shutdown().await.map_err(writer_broke);
        }
        to.write_all(piece.get(..read).unwrap_or_default()).await.map_err(&writer_broke)?;
        count.fetch_add(u64::try_from(read).unwrap_or_default(), Ordering::Relaxed);
    }
}

/// Ends when no byte has gone either way for this time, at most twice as long.
async fn silent(idle: Duration, received: &AtomicU64, sent: &AtomicU64) {
    let moved = || (received.load(Ordering::Relaxed), sent.load(Ordering::Relaxed));
    let mut before = moved();
    loop {
        tokio::time::sleep(idle).await;
        let now = moved();
        if now == before {
            return;
        }
        before = now;
    }
}
