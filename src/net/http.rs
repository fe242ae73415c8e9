//! A listener for HTTP/1, and HTTP/2 where it is granted: bounded connections, each bounded in time. What is answered is
//! the caller's router's affair.
//!
//! Over TLS the two agree on which of them is spoken. Who speaks HTTP/2 without TLS says so with its first bytes, the
//! preface, which no request of HTTP/1 begins with.

use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::tls::{self, TlsConfig};
use crate::base::drain::Drain;

/// For one request's head, for an idle connection, and for TLS's beginning.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// For the answer that is being sent when a connection is asked to end.
const GRACE: Duration = Duration::from_secs(2);
/// What a connection of HTTP/2 begins with.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// A peer of HTTP/2 that does not answer a ping, sent after a silence of this, within as long is gone.
const PING: Duration = Duration::from_secs(20);
/// Of one request over HTTP/2, in bytes; as much as HTTP/1 takes.
const MAX_HEADERS: u32 = 16 << 10;
/// Bytes of one answer that wait for a slow reader of HTTP/2; then nothing more is made for it.
const SEND_BUFFER: usize = 64 << 10;

/// What a listener grants.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at once; what comes above waits to be accepted.
    pub connections: usize,
    /// A connection is asked to end after this, so that one that reads nothing does not hold its place for ever.
    pub lifetime: Duration,
    /// Requests at once on one connection of HTTP/2; `None` for a listener that speaks HTTP/1 alone.
    pub http2_streams: Option<u32>,
}

/// The peer of a connection, put into each of its requests.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// The names in the certificate that the peer showed, put into each of its requests; not there where it showed none.
#[derive(Clone, Debug)]
pub struct PeerNames(pub Arc<[String]>);

/// A bound address that does not answer yet.
#[derive(Debug)]
pub struct HttpListener {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<Arc<ArcSwap<TlsConfig>>>,
}

/// Who is at the other end.
#[derive(Clone)]
struct Caller {
    peer: SocketAddr,
    names: Option<PeerNames>,
    http2: bool,
}

// === impl HttpListener ===

impl HttpListener {
    /// Binds an address; port 0 is any free one.
    ///
    /// # Errors
    /// The address is taken, or is none of this machine's.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address, tls: None })
    }

    /// The same with TLS on every connection, each with what stands at this place when it begins.
    #[must_use]
    pub fn with_tls(self, tls: Arc<ArcSwap<TlsConfig>>) -> Self {
        Self { tls: Some(tls), ..self }
    }

    /// Where it listens, the port chosen by the system filled in.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until the drain is requested, then lets open connections finish their answer. `name` stands in logs.
    pub async fn serve(self, router: Router, limits: Limits, name: &'static str, drain: Drain) {
        let _guard = drain.guard(name);
        let permits = Arc::new(Semaphore::new(limits.connections));
        loop {
            let accept = async {
                // The semaphore is never closed, so that a permit comes sooner or later.
                let permit = Arc::clone(&permits).acquire_owned().await.ok();
                (self.listener.accept().await, permit)
            };
            let (accepted, permit) = tokio::select! {
                accepted = accept => accepted,
                () = drain.requested() => return,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let guard = drain.guard(name);
                    let tls = self.tls.as_ref().map(|tls| tls.load_full());
                    let (router, drain) = (router.clone(), drain.clone());
                    tokio::spawn(async move {
                        accept_connection(stream, peer, tls.as_deref(), router, limits, drain).await;
                        drop((permit, guard));
                    });
                }
                Err(error) => {
                    // Out of descriptors, say: trying again at once would only heat the processor.
                    tracing::warn!(%error, listener = name, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

async fn accept_connection(
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<&TlsConfig>,
    router: Router,
    limits: Limits,
    drain: Drain,
) {
    // An answer is written whole: nothing is gained by waiting for more. Where it cannot be set, it is only slower.
    let _ = stream.set_nodelay(true);
    let Some(tls) = tls else {
        let http2 = tokio::select! {
            begins = begins_http2(&stream, HEADER_TIMEOUT), if limits.http2_streams.is_some() => begins,
            () = drain.requested(), if limits.http2_streams.is_some() => return,
            else => Ok(false),
        };
        let Ok(http2) = http2 else { return };
        let caller = Caller { peer, names: None, http2 };
        return serve_connection(stream, caller, router, limits, drain).await;
    };
    // A peer that talks nonsense, or whose certificate is not accepted, has been told so by TLS.
    let accepted = tokio::time::timeout(HEADER_TIMEOUT, tls.acceptor().accept(stream)).await;
    let stream = match accepted {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%peer, %error, "no TLS with a peer"),
        Err(_) => return,
    };
    let session = stream.get_ref().1;
    let names = session.peer_certificates().and_then(<[_]>::first).map(|it| PeerNames(tls::names(it).into()));
    let caller = Caller { peer, names, http2: session.alpn_protocol() == Some(b"h2") };
    serve_connection(stream, caller, router, limits, drain).await;
}

async fn serve_connection<S>(stream: S, caller: Caller, router: Router, limits: Limits, drain: Drain)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let http2 = limits.http2_streams.filter(|_| caller.http2);
    let service = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Peer(caller.peer));
        if let Some(names) = &caller.names {
            request.extensions_mut().insert(names.clone());
        }
        service.call(request)
    });
    let lifetime = limits.lifetime;
    if let Some(streams) = http2 {
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING)
            .keep_alive_timeout(PING)
            .max_concurrent_streams(streams)
            .max_header_list_size(MAX_HEADERS)
            .max_send_buf_size(SEND_BUFFER)
            .serve_connection(TokioIo::new(stream), service);
        return until_end(connection, http2::Connection::graceful_shutdown, lifetime, drain).await;
    }
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_headers(64)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    until_end(connection, http1::UpgradeableConnection::graceful_shutdown, lifetime, drain).await;
}

/// Serves a connection to its end; one that has lived long enough, or is to end with all others, after its answer.
async fn until_end<C: Future>(connection: C, shut_down: fn(Pin<&mut C>), lifetime: Duration, drain: Drain) {
    let mut connection = pin!(connection);
    tokio::select! {
        // A peer that goes away or talks nonsense is its own affair.
        _ = connection.as_mut() => return,
        () = drain.requested() => {}
        () = tokio::time::sleep(lifetime) => {}
    }
    shut_down(connection.as_mut());
    let _ = tokio::time::timeout(GRACE, connection).await;
}

/// Whether a connection begins with the preface of HTTP/2; nothing is taken from it.
///
/// # Errors
/// The peer went away, or has not sent enough to tell in this time.
pub(crate) async fn begins_http2(stream: &TcpStream, patience: Duration) -> io::Result<bool> {
    let look = async {
        let mut bytes = [0; PREFACE.len()];
        loop {
            let seen = stream.peek(&mut bytes).await?;
            match PREFACE.get(..seen) {
                _ if seen == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                Some(begin) if bytes.starts_with(begin) && seen < PREFACE.len() => {}
                Some(begin) => return Ok(bytes.starts_with(begin)),
                None => return Ok(false),
            }
            // Clients send it whole. Where the network cut it, what is there stays readable, so that waiting for
            // readiness would not wait.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(patience, look).await?
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (client, listener.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn http2_is_told_by_its_preface_even_in_pieces() {
        for (sent, wanted) in
            [(&PREFACE[..], true), (b"GET / HTTP/1.1\r\n", false), (b"PRIVATE", false), (b"P / ", false)]
        {
            let (mut client, server) = pair().await;
            let (first, rest) = sent.split_at(1);
            client.write_all(first).await.unwrap();
            let (found, ()) = tokio::join!(begins_http2(&server, HEADER_TIMEOUT), async {
                tokio::task::yield_now().await;
                client.write_all(rest).await.unwrap();
            });
            assert_eq!(found.unwrap(), wanted, "{:?}", String::from_utf8_lossy(sent));
        }
        let (client, server) = pair().await;
        drop(client);
        assert!(begins_http2(&server, HEADER_TIMEOUT).await.is_err());
    }
}
