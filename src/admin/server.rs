//! The listener: bounded connections, each bounded in time.

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

use super::access::Access;
use super::config::AdminConfig;
use super::pages::{self, Peer, Sources};
use crate::base::drain::Drain;

/// Enough for probes, scrapes and a few open pages; what comes above waits to be accepted.
const MAX_CONNECTIONS: usize = 64;
/// For one request's head, and for an idle connection.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection ends after this, so that one that reads nothing does not hold its place for ever.
const LIFETIME: Duration = Duration::from_secs(300);
/// For the answer that is being sent when a connection is asked to end.
const GRACE: Duration = Duration::from_secs(2);

/// Why the admin server does not run. Another process holds the port, or the address is not this machine's.
#[derive(Debug, thiserror::Error)]
#[error("admin.listen: {address} cannot be listened on: {cause}")]
pub struct AdminError {
    /// The address as configured.
    pub address: SocketAddr,
    /// What the operating system said.
    pub cause: std::io::Error,
}

/// A server that is bound and does not answer yet.
#[derive(Debug)]
pub struct AdminServer {
    listener: TcpListener,
    address: SocketAddr,
    access: Access,
}

// === impl AdminServer ===

impl AdminServer {
    /// Binds the address of the configuration.
    pub async fn bind(config: AdminConfig) -> Result<Self, AdminError> {
        let failed = |cause| AdminError { address: config.listen, cause };
        let listener = TcpListener::bind(config.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address, access: Access::new(config.tokens) })
    }

    /// Where it listens, the port chosen by the system filled in.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until the drain is requested, then lets open connections finish their answer.
    pub async fn serve(self, sources: Sources, drain: Drain) {
        let _guard = drain.guard("admin listener");
        let router = pages::router(sources, self.access);
        let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
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
                    let guard = drain.guard("admin connection");
                    let connection = serve_connection(stream, peer, router.clone(), drain.clone());
                    tokio::spawn(async move {
                        connection.await;
                        drop((permit, guard));
                    });
                }
                Err(error) => {
                    // Out of descriptors, say: trying again at once would only heat the processor.
                    tracing::warn!(%error, "admin: cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

async fn serve_connection(stream: TcpStream, peer: SocketAddr, router: Router, drain: Drain) {
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
        () = tokio::time::sleep(LIFETIME) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(GRACE, connection).await;
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use serde_json::json;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::super::config::Token;
    use super::*;
    use crate::base::readiness::Readiness;
    use crate::telemetry::metrics::Metrics;

    struct Running {
        address: SocketAddr,
        readiness: Readiness,
        drain: Drain,
    }

    async fn start(tokens: &[(&str, &str)]) -> Running {
        let tokens =
            tokens.iter().map(|(name, secret)| Token { name: (*name).into(), secret: (*secret).into() }).collect();
        let config = AdminConfig { listen: (Ipv4Addr::LOCALHOST, 0).into(), tokens };
        let server = AdminServer::bind(config).await.unwrap();
        let (address, readiness, drain) = (server.address(), Readiness::new(), Drain::new());
        let log: super::super::DebugDump = Arc::new(|| json!({ "routes": [{ "key": "app-*", "received_total": 7 }] }));
        let sources =
            Sources { readiness: readiness.clone(), metrics: Metrics::detached(), log: Some(log), tails: None };
        tokio::spawn(server.serve(sources, drain.clone()));
        Running { address, readiness, drain }
    }

    /// Sends one request and returns the whole answer.
    async fn get(address: SocketAddr, path: &str, headers: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let host = if headers.contains("Host: ") { "" } else { "Host: localhost\r\n" };
        let request = format!("GET {path} HTTP/1.1\r\n{host}Connection: close\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn readiness_follows_the_gates() {
        let running = start(&[]).await;
        let gate = running.readiness.gate("log", "kafka seen");
        for path in ["/readyz", "/readyz/log"] {
            let answer = get(running.address, path, "").await;
            assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
            assert!(answer.contains("kafka seen"), "{answer}");
        }
        assert!(get(running.address, "/livez", "").await.starts_with("HTTP/1.1 200 "), "alive although not ready");
        drop(gate);
        let answer = get(running.address, "/readyz/log", "").await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with(r#"{"awaited":[],"ready":true}"#), "{answer}");
        assert!(get(running.address, "/readyz/gateway", "").await.starts_with("HTTP/1.1 404 "));
    }

    #[tokio::test]
    async fn what_is_not_open_asks_for_a_token() {
        let running = start(&[("ops", "s3cret")]).await;
        for path in ["/", "/debug/log"] {
            let answer = get(running.address, path, "Host: node-1.example\r\n").await;
            assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
            assert!(answer.contains("www-authenticate: Bearer"), "{answer}");
            let answer = get(running.address, path, "Host: node-1.example\r\nAuthorization: Bearer s3cret\r\n").await;
            assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        }
        for path in ["/livez", "/readyz", "/metrics"] {
            assert!(get(running.address, path, "").await.starts_with("HTTP/1.1 200 "), "{path}");
        }
    }

    #[tokio::test]
    async fn without_tokens_this_machine_reads_everything() {
        let running = start(&[]).await;
        assert!(get(running.address, "/debug/log", "").await.contains(r#""received_total":7"#));
        assert!(get(running.address, "/", "").await.contains("<title>Tidegate</title>"));
        assert!(get(running.address, "/nothing", "").await.starts_with("HTTP/1.1 404 "));
    }

    #[tokio::test]
    async fn the_drain_ends_idle_connections_and_the_listener() {
        let running = start(&[]).await;
        let mut idle = TcpStream::connect(running.address).await.unwrap();
        idle.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let mut answer = [0; 512];
        assert!(idle.read(&mut answer).await.unwrap() > 0);
        running.drain.finish(Duration::from_secs(5)).await.unwrap();
        assert_eq!(idle.read(&mut answer).await.unwrap(), 0, "closed");
        assert!(TcpStream::connect(running.address).await.is_err(), "nobody listens");
    }
}
