//! Servers that tests ask: hyper's, which does what the path says, and bare sockets, which do what the test says.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::{CONNECTION, HeaderMap, HeaderValue, TRAILER, UPGRADE};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc};

type Body = BoxBody<Bytes, hyper::Error>;

/// A server that counts its connections.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) address: SocketAddr,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    opened: AtomicUsize,
    closed: AtomicUsize,
    healthy: AtomicBool,
    held_no_more: AtomicBool,
    release: Notify,
    shut_down: Notify,
}

// === impl Server ===

impl Server {
    /// HTTP/1.1.
    pub(super) async fn start() -> Self {
        Self::serving(|stream, server| async move {
            let service = service_fn(move |request| answer(request, server.clone()));
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades();
            _ = connection.await;
        })
        .await
    }

    /// HTTP/2 by prior knowledge.
    pub(super) async fn start_http2() -> Self {
        Self::serving(|stream, server| async move { server.serve_http2(stream).await }).await
    }

    pub(super) async fn serve_http2<S>(self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let server = self.clone();
        let service = service_fn(move |request| answer(request, server.clone()));
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            _ = connection.as_mut() => return,
            () = self.counts.shut_down.notified() => {}
        }
        connection.as_mut().graceful_shutdown();
        _ = connection.await;
    }

    /// Each connection is served by `serve`.
    pub(super) async fn serving<F, R>(serve: F) -> Self
    where
        F: Fn(TcpStream, Self) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self { address: listener.local_addr().unwrap(), counts: Arc::default() };
        let served = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                served.counts.opened.fetch_add(1, Ordering::SeqCst);
                let (work, counts) = (serve(stream, served.clone()), Arc::clone(&served.counts));
                tokio::spawn(async move {
                    work.await;
                    counts.closed.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        server
    }

    /// Connections that were ever opened.
    pub(super) fn opened(&self) -> usize {
        self.counts.opened.load(Ordering::SeqCst)
    }

    /// Connections that are open now.
    pub(super) fn open(&self) -> usize {
        self.opened() - self.counts.closed.load(Ordering::SeqCst)
    }

    /// What `/health` says.
    pub(super) fn set_healthy(&self, healthy: bool) {
        self.counts.healthy.store(healthy, Ordering::SeqCst);
    }

    /// Lets one request for `/held` be answered.
    pub(super) fn release(&self) {
        self.counts.release.notify_one();
    }

    /// Lets every request for `/held` be answered from now on.
    pub(super) fn release_all(&self) {
        self.counts.held_no_more.store(true, Ordering::SeqCst);
        self.counts.release.notify_waiters();
    }

    /// Asks one connection of HTTP/2 to end.
    pub(super) fn shut_down(&self) {
        self.counts.shut_down.notify_one();
    }
}

fn full(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).map_err(|never: Infallible| match never {}).boxed()
}

/// A body out of frames that come through a channel.
struct Frames(mpsc::Receiver<Frame<Bytes>>);

impl hyper::body::Body for Frames {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.0.poll_recv(cx).map(|frame| frame.map(Ok))
    }
}

async fn answer(mut request: Request<Incoming>, server: Server) -> Result<Response<Body>, hyper::Error> {
    let path = request.uri().path().to_owned();
    let mut response = Response::new(full(path.clone()));
    match path.as_str() {
        "/echo" => *response.body_mut() = request.into_body().boxed(),
        "/who" => {
            let authority = request.uri().authority().map(ToString::to_string);
            let host = request.headers().get("host").map(|host| host.to_str().unwrap().to_owned());
            *response.body_mut() = full(format!("{:?} {}", request.version(), authority.or(host).unwrap_or_default()));
        }
        "/health" if !server.counts.healthy.load(Ordering::SeqCst) => {
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        }
        "/held" if !server.counts.held_no_more.load(Ordering::SeqCst) => server.counts.release.notified().await,
        "/close" => _ = response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close")),
        "/none" => *response.status_mut() = StatusCode::NO_CONTENT,
        "/early" => *response.status_mut() = StatusCode::PAYLOAD_TOO_LARGE,
        "/endless" | "/trailers" | "/grpc.health.v1.Health/Check" => {
            response.headers_mut().insert(TRAILER, HeaderValue::from_static("checksum"));
            let (sender, frames) = mpsc::channel(1);
            *response.body_mut() = Frames(frames).boxed();
            tokio::spawn(send_frames(path, server, sender));
        }
        "/upgrade" => {
            *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
            response.headers_mut().insert(UPGRADE, HeaderValue::from_static("echo"));
            *response.body_mut() = full("");
            let upgrade = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                let mut io = TokioIo::new(upgrade.await.unwrap());
                let mut bytes = [0; 64];
                while let Ok(count @ 1..) = io.read(&mut bytes).await {
                    io.write_all(&bytes[..count]).await.unwrap();
                }
            });
        }
        _ => {}
    }
    Ok(response)
}

async fn send_frames(path: String, server: Server, sender: mpsc::Sender<Frame<Bytes>>) {
    if path == "/endless" {
        while sender.send(Frame::data(Bytes::from_static(&[b'x'; 4096]))).await.is_ok() {}
        return;
    }
    let mut trailers = HeaderMap::new();
    let first = if path == "/trailers" {
        trailers.insert("checksum", HeaderValue::from_static("42"));
        Bytes::from_static(b"with trailers")
    } else {
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        // HealthCheckResponse { status: SERVING | NOT_SERVING }
        let status = if server.counts.healthy.load(Ordering::SeqCst) { 1 } else { 2 };
        Bytes::from(vec![0, 0, 0, 0, 2, 8, status])
    };
    _ = sender.send(Frame::data(first)).await;
    _ = sender.send(Frame::trailers(trailers)).await;
}

/// Reads the head of a request, up to the empty line.
pub(super) async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match tokio::time::timeout(Duration::from_secs(10), stream.read_u8()).await.expect("a request") {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head).unwrap()
}
