//! A client's connection: who it is (PROXY protocol, TLS), what it speaks, and its requests until one of both sides has enough.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::answer::answer;
use super::config::Limits;
use super::downstream::{Downstream, Facts};
use super::exchange::Exchange;
use super::listener::{Bound, Listener};
use super::proxy_protocol;
use super::reason::Reason;
use super::shared::Place;
use super::strict::Strict;
use super::worker::Worker;
use crate::base::drain::Drain;
use crate::net::{http, tls};

/// After an error of accept that will not go away at once, such as too few descriptors.
const PAUSE: Duration = Duration::from_millis(50);
/// A peer of HTTP/2 that does not answer a ping, sent after a silence of this, within as long is gone.
const PING: Duration = Duration::from_secs(20);
/// Bytes of one answer that wait for a slow reader of HTTP/2; then nothing more is made for it.
const SEND_BUFFER: usize = 64 << 10;
/// Bytes of a request's body, and of a connection's, that a client of HTTP/2 may send before they are taken.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// Streams that a client of HTTP/2 reset before they were looked at; above, the connection ends (CVE-2023-44487).
const MAX_RESET: usize = 32;
/// Streams reset by this side for a client's faults; above, the connection ends (CVE-2025-8671).
const MAX_LOCAL_RESET: usize = 256;
/// For a last word to a client whose request is refused.
const LAST_WORD: Duration = Duration::from_secs(1);

/// Accepts connections once the address is listened on, until the drain is requested and nobody waits any more.
pub(super) async fn accept(worker: Arc<Worker>, bound: Bound, drain: Drain) {
    let Bound { socket, mut open, listener } = bound;
    let mut ended = pin!(drain.requested());
    let opened = tokio::select! {
        opened = open.wait_for(|open| *open) => opened.is_ok(),
        () = ended.as_mut() => false,
    };
    if !opened {
        return;
    }
    let socket = match TcpListener::from_std(socket.into()) {
        Ok(socket) => socket,
        Err(error) => return tracing::error!(address = %listener.address, %error, "a listener is lost"),
    };
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            () = ended.as_mut() => break,
        };
        take(&worker, &listener, accepted).await;
    }
    // Who is in the queue already would be reset when the socket closes. The kernel is asked, not the runtime, which may not
    // have heard of them yet.
    let Ok(socket) = socket.into_std() else { return };
    while let Ok((stream, peer)) = socket.accept() {
        let stream = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream));
        take(&worker, &listener, stream.map(|stream| (stream, peer))).await;
    }
}

async fn take(worker: &Arc<Worker>, listener: &Arc<Listener>, accepted: io::Result<(TcpStream, SocketAddr)>) {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, NotConnected};
    let (stream, peer) = match accepted {
        Ok(accepted) => accepted,
        Err(error) if matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted | NotConnected) => {
            return;
        }
        Err(error) => {
            tracing::warn!(%error, address = %listener.address, "no connection can be accepted");
            return tokio::time::sleep(PAUSE).await;
        }
    };
    let limits = worker.shared.active().policy.limits;
    let Some(place) = worker.shared.place(limits.connections) else { return };
    // An answer is written whole: nothing is gained by waiting for more. Where it cannot be set, it is only slower.
    let _ = stream.set_nodelay(true);
    let opened = worker.opened();
    let (worker, listener) = (worker.clone(), listener.clone());
    tokio::spawn(async move {
        begin(&worker, &listener, &limits, (stream, peer), place).await;
        drop(opened);
    });
}

/// Learns who it is and what it speaks, and serves it.
async fn begin(
    worker: &Arc<Worker>,
    listener: &Listener,
    limits: &Limits,
    (mut stream, peer): (TcpStream, SocketAddr),
    place: Place,
) {
    let (local, port) = (listener.address, listener.address.port());
    let mut facts = Facts { peer, local, port, secure: false, client_names: Vec::new() };
    if let Ok(local) = stream.local_addr() {
        facts.local = local;
    }
    let known = async {
        if listener.proxy_protocol {
            let proxied = tokio::time::timeout(limits.head_timeout, proxy_protocol::read(&mut stream)).await??;
            facts.peer = proxied.source.unwrap_or(facts.peer);
            facts.local = proxied.destination.unwrap_or(facts.local);
        }
        let Some(tls) = listener.tls.load_full() else {
            // A client may connect long before it asks.
            let mut first = [0];
            tokio::select! {
                biased;
                seen = tokio::time::timeout(limits.idle_timeout, stream.peek(&mut first)) => {
                    seen??;
                }
                () = worker.parting() => return Err(io::ErrorKind::ConnectionAborted.into()),
            }
            let http2 = listener.http2 && http::begins_http2(&stream, limits.head_timeout).await?;
            return Ok((Spoken::Plain(stream), http2));
        };
        let failed = |error: &io::Error| {
            worker.shared.metrics.tls_failures.increment(1);
            tracing::debug!(%peer, %error, "no TLS with a client");
        };
        let stream = tokio::time::timeout(limits.head_timeout, tls.acceptor().accept(stream)).await?;
        let stream = stream.inspect_err(failed)?;
        let session = stream.get_ref().1;
        facts.secure = true;
        facts.client_names = session.peer_certificates().and_then(<[_]>::first).map(tls::names).unwrap_or_default();
        let http2 = session.alpn_protocol() == Some(b"h2");
        Ok::<_, io::Error>((Spoken::Tls(Box::new(stream)), http2))
    };
    let (stream, http2) = match known.await {
        Ok(known) => known,
        Err(error) => return tracing::debug!(%peer, %error, "a connection did not come to HTTP"),
    };
    // What holds by now. It is not kept: a connection may outlive many reloads.
    let downstream = Downstream::new(facts, &worker.shared.active().policy.trusted_proxies, Some(place));
    let downstream = Arc::new(downstream);
    match stream {
        Spoken::Plain(stream) if http2 => serve_http2(worker, limits, downstream, stream).await,
        Spoken::Plain(stream) => serve_http1(worker, limits, downstream, stream).await,
        Spoken::Tls(stream) if http2 => serve_http2(worker, limits, downstream, *stream).await,
        Spoken::Tls(stream) => serve_http1(worker, limits, downstream, *stream).await,
    }
}

enum Spoken {
    Plain(TcpStream),
    Tls(Box<tokio_rustls::server::TlsStream<TcpStream>>),
}

async fn serve_http1<S>(worker: &Arc<Worker>, limits: &Limits, downstream: Arc<Downstream>, stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let times = (limits.head_timeout, limits.idle_timeout);
    let stream = Strict::new(stream, limits.head, times, downstream.clone());
    let service = service_fn({
        let (worker, downstream) = (worker.clone(), downstream.clone());
        move |request: Request<Incoming>| {
            let answer = answer(worker.clone(), downstream.clone(), request);
            let worker = worker.clone();
            async move {
                let mut answer = answer.await;
                if worker.is_draining() && answer.status() != StatusCode::SWITCHING_PROTOCOLS {
                    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, Infallible>(answer)
            }
        }
    });
    let connection = http1::Builder::new()
        // Heads and their time are bounded where they are read.
        .header_read_timeout(None)
        .max_buf_size(limits.head.size.max(64 << 10))
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = connection;
    until_end(worker, worker.parting(), &mut connection, http1::UpgradeableConnection::graceful_shutdown).await;
    let Some(reason) = downstream.refusal() else { return };
    if !downstream.is_idle() {
        // A request that was good is being answered: whatever is said now could be taken for its answer.
        return;
    }
    if let Some(parts) = connection.into_parts() {
        let mut stream = parts.io.into_inner();
        if !stream.is_at_head() {
            // The rest of a request was refused, whose answer has said so.
            return;
        }
        Exchange::refused(&worker.shared, &downstream, reason);
        let _ = tokio::time::timeout(LAST_WORD, refuse(stream.stream(), reason)).await;
    }
}

/// Tells a client why its bytes are refused.
async fn refuse<S: AsyncWrite + Unpin>(stream: &mut S, reason: Reason) -> io::Result<()> {
    let (status, text) = (reason.status(), reason.text());
    let words = status.canonical_reason().unwrap_or_default();
    let answer = format!(
        "HTTP/1.1 {} {words}\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\n\
         connection: close\r\ntidegate-reason: {}\r\n\r\n{text}",
        status.as_u16(),
        text.len(),
        reason.name(),
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

async fn serve_http2<S>(worker: &Arc<Worker>, limits: &Limits, downstream: Arc<Downstream>, stream: S)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn({
        let (worker, downstream) = (worker.clone(), downstream.clone());
        move |request: Request<Incoming>| {
            let answer = answer(worker.clone(), downstream.clone(), request);
            async move { Ok::<_, Infallible>(answer.await) }
        }
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .max_concurrent_streams(limits.http2_streams)
        .max_header_list_size(u32::try_from(limits.head.size).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(MAX_RESET)
        .max_local_error_reset_streams(MAX_LOCAL_RESET)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = connection;
    let idle = async {
        // Ends after the idle time, at most twice as long: gracefully, or at once for a client that does not take its answers.
        let mut was_idle = false;
        loop {
            tokio::time::sleep(limits.idle_timeout).await;
            if downstream.look_for_stalled() {
                return false;
            }
            if was_idle && downstream.is_idle() {
                return true;
            }
            was_idle = downstream.is_idle();
        }
    };
    let graceful = tokio::select! {
        () = until_end(worker, worker.drained(), &mut connection, http2::Connection::graceful_shutdown) => return,
        graceful = idle => graceful,
    };
    if graceful {
        Pin::new(&mut connection).graceful_shutdown();
        until_end(worker, worker.drained(), &mut connection, http2::Connection::graceful_shutdown).await;
    }
}

/// Serves a connection to its end; once it is told, to the end of its present requests.
async fn until_end<C: Future + Unpin>(
    worker: &Worker,
    told: impl Future<Output = ()>,
    connection: &mut C,
    shut_down: fn(Pin<&mut C>),
) {
    let mut told = pin!(told);
    let (mut waits, mut shut) = (false, false);
    poll_fn(|context| {
        // Asked once, it wakes this task when it is time; until then there is no reason to look again.
        if !shut && (!waits || worker.is_draining()) {
            waits = true;
            if told.as_mut().poll(context).is_ready() {
                shut = true;
                shut_down(Pin::new(&mut *connection));
            }
        }
        // A client that goes away or talks nonsense is its own affair.
        Pin::new(&mut *connection).poll(context).map(drop)
    })
    .await;
}
