//! Active health checks: one small task an endpoint, on the runtime that follows the pools, never on a thread that serves.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::client::conn;
use hyper::header::{HOST, USER_AGENT};
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::task::JoinHandle;

use super::config::{CheckKind, HealthCheck};
use super::connection::{ProbeDial, RequestBody, probe_dial};
use super::host::{Host, Out};
use super::life::Context;
use super::random::Random;
use crate::net::grpc_health;

/// The first check of an endpoint comes within this.
const FIRST: Duration = Duration::from_secs(1);
/// An endpoint's checks; they end when it is dropped.
#[derive(Debug)]
pub(super) struct Checks(JoinHandle<()>);

/// Ends a connection's task.
struct Abort(JoinHandle<()>);

// === impl Checks ===

impl Checks {
    /// Checks an endpoint from now on.
    pub(super) fn start(
        runtime: &tokio::runtime::Handle,
        host: &Arc<Host>,
        context: &Arc<Context>,
        http2: bool,
    ) -> Option<Self> {
        let check = context.config.health_check.clone()?;
        let (host, context) = (Arc::downgrade(host), Arc::clone(context));
        Some(Self(runtime.spawn(run(host, context, check, http2))))
    }
}

impl Drop for Checks {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Drop for Abort {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn run(host: Weak<Host>, context: Arc<Context>, check: HealthCheck, http2: bool) {
    let mut random = Random::default();
    // Endpoints that came together are not checked together; but nobody is trusted for long without one.
    tokio::time::sleep(check.interval.min(FIRST).mul_f64(unit(&mut random) * 0.9)).await;
    loop {
        let Some(checked) = host.upgrade() else { return };
        let result = ask(&checked, &context, &check, http2).await;
        context.life.metrics.checked(result.is_ok());
        let failure = result.as_ref().err().cloned();
        if let Some(good) = checked.health.checked(result, &check, Instant::now()) {
            let (pool, endpoint) = (&context.life.id, checked.target.address());
            match failure {
                Some(why) => tracing::warn!(%pool, %endpoint, why, "an endpoint is unhealthy"),
                None => tracing::info!(%pool, %endpoint, "an endpoint is healthy again"),
            }
            checked.set_out(Out::Unhealthy, !good);
            context.life.call();
        }
        drop(checked);
        tokio::time::sleep(wait(&check, unit(&mut random))).await;
    }
}

/// A tenth less to a tenth more than the interval.
fn wait(check: &HealthCheck, random: f64) -> Duration {
    check.interval.mul_f64(0.9 + random.clamp(0.0, 1.0) * 0.2)
}

fn unit(random: &mut Random) -> f64 {
    (random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
}

/// One check.
async fn ask(host: &Host, context: &Context, check: &HealthCheck, http2: bool) -> Result<(), String> {
    let whole = tokio::time::timeout(check.timeout, async {
        let mut address = host.target.address();
        if let Some(port) = check.port {
            address.set_port(port);
        }
        let http2 = http2 || matches!(check.kind, CheckKind::Grpc { .. });
        let tls = context.config.connection.tls.as_ref();
        let greeting = context.config.connection.proxy_protocol.map(|version| (version, None));
        let dial = ProbeDial { address, tls, http2, timeout: check.timeout, greeting };
        let scheme = if tls.is_some() { "https" } else { "http" };
        let stream = probe_dial(dial).await.map_err(|(kind, error)| format!("{}: {error}", kind.reason()))?;
        let io = TokioIo::new(stream);
        match &check.kind {
            CheckKind::Tcp => Ok(()),
            CheckKind::Http { path, host, expected } => {
                let named = host.clone().unwrap_or_else(|| address.to_string());
                let request = Request::builder().method(Method::GET).header(USER_AGENT, "tidegate-health-check");
                let request = if http2 {
                    request.uri(format!("{scheme}://{named}{path}"))
                } else {
                    request.uri(path).header(HOST, named)
                };
                let request = request.body(RequestBody::empty()).map_err(|error| error.to_string())?;
                let (_connection, response) = exchange(io, http2, request).await?;
                let status = response.status().as_u16();
                if (expected.0..=expected.1).contains(&status) { Ok(()) } else { Err(format!("status {status}")) }
            }
            CheckKind::Grpc { service } => {
                let request = grpc_health::request(scheme, &address.to_string(), service);
                let request = request.map_err(|error| error.to_string())?.map(RequestBody::full);
                let (_connection, response) = exchange(io, true, request).await?;
                grpc_health::verdict(response).await
            }
        }
    });
    whole.await.unwrap_or_else(|_| Err(format!("no answer within {} ms", check.timeout.as_millis())))
}

async fn exchange(
    io: TokioIo<impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static>,
    http2: bool,
    request: Request<RequestBody>,
) -> Result<(Abort, Response<Incoming>), String> {
    let said = |error: hyper::Error| crate::net::fetch::flat(&error);
    if http2 {
        let builder = conn::http2::Builder::new(TokioExecutor::new()).timer(TokioTimer::new()).handshake(io);
        let (mut sender, connection) = builder.await.map_err(said)?;
        let task = Abort(tokio::spawn(async move { _ = connection.await }));
        return Ok((task, sender.send_request(request).await.map_err(said)?));
    }
    let (mut sender, connection) = conn::http1::handshake(io).await.map_err(said)?;
    let task = Abort(tokio::spawn(async move { _ = connection.await }));
    Ok((task, sender.send_request(request).await.map_err(said)?))
}
