//! Connections of HTTP/2: many requests at once. Each has a task, because it serves several clients.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use hyper::client::conn::http2::{self, SendRequest};
use hyper::header::HOST;
use hyper::http::uri::{Authority, PathAndQuery, Scheme};
use hyper::{Request, Uri, Version};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};

use super::body::{self, RequestBody};
use super::stream::Stream;
use crate::upstream::limits::ConnectionPermit;

/// An endpoint that does not answer a ping, sent after a silence of this, within as long is gone.
const PING: Duration = Duration::from_secs(20);
/// Of one answer's header, in bytes.
const MAX_HEADERS: u32 = 64 << 10;
/// Bytes of one request that wait for a slow endpoint.
const SEND_BUFFER: usize = 128 << 10;

/// A shared connection.
#[derive(Debug)]
pub(super) struct Http2 {
    sender: SendRequest<RequestBody>,
    streams: Arc<AtomicU32>,
    /// The sweeper's turn until which it may be without requests.
    until: AtomicU32,
}

// === impl Http2 ===

impl Http2 {
    /// Speaks HTTP/2 on an open stream.
    pub(super) async fn new(stream: Stream, permit: ConnectionPermit) -> hyper::Result<Self> {
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING)
            .keep_alive_timeout(PING)
            .max_header_list_size(MAX_HEADERS)
            .max_send_buf_size(SEND_BUFFER)
            .handshake(TokioIo::new(stream))
            .await?;
        tokio::spawn(async move {
            // Whoever has a request on it is told why it ended.
            let _ = connection.await;
            drop(permit);
        });
        Ok(Self { sender, streams: Arc::new(AtomicU32::new(0)), until: AtomicU32::new(0) })
    }

    /// Requests on it.
    pub(super) fn streams(&self) -> u32 {
        self.streams.load(Ordering::Relaxed)
    }

    pub(super) fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }

    /// A way to send one request, which counts as on it until the second of the pair is dropped. `until`: the turn up to
    /// which it may be without requests from now on.
    pub(super) fn begin(&self, until: u32) -> (SendRequest<RequestBody>, body::Stream) {
        self.until.store(until, Ordering::Relaxed);
        (self.sender.clone(), body::Stream::begin(&self.streams))
    }

    /// Whether it is closed, or has been without requests for too long.
    pub(super) fn is_over(&self, turn: u32) -> bool {
        let waited = turn.wrapping_sub(self.until.load(Ordering::Relaxed)) < u32::MAX / 2;
        !self.is_open() || (self.streams() == 0 && waited)
    }
}

/// A request as HTTP/2 has it: what the `Host` header said is its authority.
pub(super) fn prepare(request: &mut Request<RequestBody>, tls: bool) {
    *request.version_mut() = Version::HTTP_2;
    let host = request.headers_mut().remove(HOST);
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.scheme = Some(if tls { Scheme::HTTPS } else { Scheme::HTTP });
    if let Some(host) = host.and_then(|host| Authority::try_from(host.as_bytes()).ok()) {
        parts.authority = Some(host);
    }
    parts.authority.get_or_insert(Authority::from_static("localhost"));
    parts.path_and_query.get_or_insert(PathAndQuery::from_static("/"));
    // With scheme, authority and path there is nothing that could be missing.
    *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_header_becomes_the_authority() {
        let mut request = Request::new(RequestBody::empty());
        *request.uri_mut() = "/a?b=c".parse().unwrap();
        request.headers_mut().insert(HOST, "shop.example:8443".parse().unwrap());
        prepare(&mut request, true);
        assert_eq!(request.uri(), "https://shop.example:8443/a?b=c");
        assert!(request.headers().is_empty());
        let mut bare = Request::new(RequestBody::empty());
        *bare.uri_mut() = "*".parse().unwrap();
        prepare(&mut bare, false);
        assert_eq!(bare.uri().authority().unwrap(), "localhost");
    }
}
