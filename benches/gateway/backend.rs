//! The back end of all subjects: this program started again as a process of its own. HTTP/1.1 on one port, h2c on another, at
//! each of the addresses.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;

use crate::bed::process::Process;
use crate::bed::{WorkDir, free_port, wait_until};
use crate::services::ADDRESSES;

/// The hidden argument that makes this program the back end.
pub(crate) const ARGUMENT: &str = "--serve-backend";
/// Bytes of a small answer.
pub(crate) const SMALL: usize = 90;
/// Bytes of a large answer, and of a large request.
pub(crate) const LARGE: usize = 16 << 10;
/// Bytes of a message of gRPC, its prefix included.
pub(crate) const MESSAGE: usize = 105;

type Frames = futures_util::stream::Iter<std::array::IntoIter<Result<Frame<Bytes>, Infallible>, 2>>;

/// A running back end.
pub(crate) struct Backend {
    pub(crate) http: u16,
    pub(crate) grpc: u16,
    _process: Process,
    _directory: WorkDir,
}

// === impl Backend ===

impl Backend {
    pub(crate) fn start() -> Self {
        let (http, grpc) = (free_port(), free_port());
        let directory = WorkDir::new("backend");
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg(ARGUMENT).args([http.to_string(), grpc.to_string()]);
        let process = Process::start(&command, directory.path(), "backend");
        wait_until(Duration::from_secs(10), "the back end", || {
            ADDRESSES
                .iter()
                .all(|address| [http, grpc].iter().all(|port| std::net::TcpStream::connect((*address, *port)).is_ok()))
        });
        Self { http, grpc, _process: process, _directory: directory }
    }
}

/// Is the back end until it is killed. Arguments: the ports of HTTP and of gRPC.
pub(crate) fn serve(arguments: impl Iterator<Item = String>) -> ! {
    let ports: Vec<u16> = arguments.map(|port| port.parse().unwrap()).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        for address in ADDRESSES {
            for (port, grpc) in [(ports[0], false), (ports[1], true)] {
                let listener = TcpListener::bind(SocketAddr::from((address, port))).await.unwrap();
                tokio::spawn(accept(listener, grpc));
            }
        }
        std::future::pending::<()>().await;
    });
    unreachable!("it never ends by itself")
}

async fn accept(listener: TcpListener, grpc: bool) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        tokio::spawn(async move {
            let io = TokioIo::new(stream);
            // A connection that breaks off is the subject's affair; what it lost is counted by the client.
            if grpc {
                let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                let _ = server.serve_connection(io, service_fn(unary)).await;
            } else {
                let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, service_fn(answer)).await;
            }
        });
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    static BODY: [u8; LARGE] = [b'x'; LARGE];
    let length = if request.uri().path() == "/large" { LARGE } else { SMALL };
    if !request.body().is_end_stream() {
        request.into_body().collect().await?;
    }
    Ok(Response::new(Full::new(Bytes::from_static(&BODY[..length]))))
}

async fn unary(request: Request<Incoming>) -> Result<Response<StreamBody<Frames>>, hyper::Error> {
    static MESSAGE_BYTES: [u8; MESSAGE] = {
        let mut bytes = [b'x'; MESSAGE];
        (bytes[0], bytes[1], bytes[2], bytes[3], bytes[4]) = (0, 0, 0, 0, (MESSAGE - 5) as u8);
        bytes
    };
    request.into_body().collect().await?;
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let frames = [Ok(Frame::data(Bytes::from_static(&MESSAGE_BYTES))), Ok(Frame::trailers(trailers))];
    let body = StreamBody::new(futures_util::stream::iter(frames));
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    Ok(response)
}
