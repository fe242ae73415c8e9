//! A listener for HTTP/1: bounded connections, each bounded in time. What is answered is the caller's router's affair.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::base::drain::Drain;

/// For one request's head, and for an idle connection.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// For the answer that is being sent when a connection is asked to end.
const GRACE: Duration = Duration::from_secs(2);

/// What a listener grants.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at once; what comes above waits to be accepted.
    pub connections: usize,
    /// A connection is asked to end after this, so that one that reads nothing does not hold its place for ever.
    pub lifetime: Duration,
}

/// The peer of a connection, put into each of its requests.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// A bound address that does not answer yet.
#[derive(Debug)]
pub struct HttpListener {
    listener: TcpListener,
    address: SocketAddr,
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
        Ok(Self { listener, address })
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
                    let connection = serve_connection(stream, peer, router.clone(), limits.lifetime, drain.clone());
                    tokio::spawn(async move {
                        connection.await;
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

async fn serve_connection(stream: TcpStream, peer: SocketAddr, router: Router, lifetime: Duration, drain: Drain) {
    // An answer is written whole: nothing is gained by waiting for more. Where it cannot be set, it is only slower.
    let _ = stream.set_nodelay(true);
    let service = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        service.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_headers(64)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    tokio::select! {
        // A peer that goes away or talks nonsense is its own affair.
        _ = connection.as_mut() => return,
        () = drain.requested() => {}
        () = tokio::time::sleep(lifetime) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(GRACE, connection).await;
}
