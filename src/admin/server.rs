//! The admin server: its listener and who may read.

use std::net::SocketAddr;
use std::time::Duration;

use super::access::Access;
use super::config::AdminConfig;
use super::pages::{self, Sources};
use crate::base::drain::Drain;
use crate::net::http::{HttpListener, Limits};

/// Connections are enough for probes, scrapes and a few open pages.
const LIMITS: Limits = Limits { connections: 64, lifetime: Duration::from_secs(300), http2_streams: None };

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
    listener: HttpListener,
    access: Access,
}

// === impl AdminServer ===

impl AdminServer {
    /// Binds the address of the configuration.
    pub async fn bind(config: AdminConfig) -> Result<Self, AdminError> {
        let listener = HttpListener::bind(config.listen).await;
        let listener = listener.map_err(|cause| AdminError { address: config.listen, cause })?;
        Ok(Self { listener, access: Access::new(config.tokens) })
    }

    /// Where it listens, the port chosen by the system filled in.
    pub fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    /// Answers until the drain is requested, then lets open connections finish their answer.
    pub async fn serve(self, sources: Sources, drain: Drain) {
        let router = pages::router(sources, self.access);
        self.listener.serve(router, LIMITS, "admin", drain).await;
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::Arc;

    use serde_json::json;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

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
        let sources = Sources {
            readiness: readiness.clone(),
            metrics: Metrics::detached(),
            log: Some(log),
            tails: None,
            pools: None,
            reloads: None,
        };
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
        assert!(get(running.address, "/debug/pools", "").await.starts_with("HTTP/1.1 404 "), "it does not run here");
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
