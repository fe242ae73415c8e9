//! The built-in HTTP gateway: clients' requests to the pools that routes name.
//!
//! ```text
//! socket (listener) → connection: PROXY protocol, TLS, HTTP/1.1 (strict) or HTTP/2 → answer: host, route, limits
//!   → forward: pool, head → tries: pick, send, again → body → access log, metrics
//! ```
//!
//! Each thread has a runtime, sockets and connections of its own ([`worker`]); what they share is read by one load: the routes
//! (replaced by a reload) and the table of endpoints (replaced when endpoints come and go). A request reads each of them once
//! and is answered by [`answer`](answer::answer), which is the whole path in order.
//!
//! Nobody is let in before whoever started it says that its pools are there ([`Opener`]). Routes are those of the file and, where they
//! are asked for, of a cluster's own objects ([`kubernetes`]); either way a change is one swap.
//!
//! Bodies are never kept: a piece is read when the other side takes it. So a request with a body is tried again only
//! where none of it was written.
//!
//! Every request that is no success has one [`Reason`], in the access log, in
//! `tidegate_gateway_failures_total` and, where it is answered here, in the field `tidegate-reason`.

mod access_log;
mod alarm;
mod answer;
mod body;
mod certificates;
pub mod config;
mod connection;
mod cors;
mod downstream;
mod exchange;
mod forward;
pub mod framing;
mod headers;
pub mod kubernetes;
mod limit;
mod listener;
mod metrics;
mod mirror;
pub mod proxy_protocol;
mod reason;
mod route;
mod shared;
mod strict;
pub mod tls;
mod trace;
mod tries;
pub mod trust;
mod tunnel;
mod worker;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde_json::{Value, json};
use tokio::sync::Barrier;

pub use access_log::Records;
pub use listener::Opener;
pub use reason::Reason;

use self::config::{GatewayConfig, Policy};
use self::listener::Listener;
use self::shared::Shared;
use self::tls::HostCertificate;
use self::worker::Start;
use crate::base::drain::Drain;
use crate::upstream::Reader;

/// What the threads may take beyond their connections' time to end.
const SLACK: Duration = Duration::from_secs(2);

/// The running gateway.
pub struct Gateway {
    shared: Arc<Shared>,
    listeners: Vec<Arc<Listener>>,
    threads: Vec<JoinHandle<()>>,
    drain: Drain,
    patience: Duration,
}

/// Changes a gateway while it runs.
#[derive(Clone)]
pub struct GatewayReloader {
    shared: Arc<Shared>,
    listeners: Vec<Arc<Listener>>,
}

/// Why it does not start.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// An address is taken, or is none of this machine's.
    #[error("gateway.listener: {0}: {1}")]
    Bind(SocketAddr, io::Error),
    /// A thread, or its runtime, cannot be had.
    #[error("a thread of the gateway: {0}")]
    Thread(#[from] io::Error),
}

// === impl Gateway ===

impl Gateway {
    /// Binds every address and starts the threads, which accept nobody before the [`Opener`] lets them in. Gives what the log plane
    /// takes access records from, too, where they are asked for.
    ///
    /// # Errors
    /// An address or a thread cannot be had.
    pub fn start(config: GatewayConfig, upstreams: Reader) -> Result<(Self, Opener, Option<Records>), GatewayError> {
        let GatewayConfig { threads, pin_threads, shutdown_timeout, listeners, access_log, policy } = config;
        let (access, records) = match access_log {
            Some(config) => {
                let (log, records) = access_log::queue(config.queue);
                (Some((log, config.failures_only)), Some(records))
            }
            None => (None, None),
        };
        let shared = Arc::new(Shared::new(policy, upstreams, access));
        let mut sockets: Vec<_> = (0..threads).map(|_| Vec::new()).collect();
        let mut opener = Opener::new();
        let mut bound = Vec::new();
        for config in &listeners {
            let failed = |error| GatewayError::Bind(config.listen, error);
            let (listener, own) = listener::bind(config, threads).map_err(failed)?;
            for (socket, thread) in own.into_iter().zip(&mut sockets) {
                thread.push(opener.hold(socket, &listener).map_err(failed)?);
            }
            bound.push(listener);
        }
        let drain = Drain::new();
        let closed = Arc::new(Barrier::new(threads));
        let processors = if pin_threads { processors(threads) } else { Vec::new() };
        let mut handles = Vec::new();
        for (thread, listeners) in sockets.into_iter().enumerate() {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let guard = drain.guard("gateway thread");
            let (shared, drain, closed, patience) = (shared.clone(), drain.clone(), closed.clone(), shutdown_timeout);
            let processor = processors.get(thread).copied();
            let work = move || {
                if let Some(processor) = processor {
                    pin(processor);
                }
                runtime.block_on(worker::run(Start { shared, thread, listeners, drain, guard, patience, closed }));
            };
            handles.push(std::thread::Builder::new().name(format!("gateway-{thread}")).spawn(work)?);
        }
        let gateway = Self { shared, listeners: bound, threads: handles, drain, patience: shutdown_timeout };
        Ok((gateway, opener, records))
    }

    /// Where clients connect, and whether it is over TLS; ports chosen by the system filled in.
    pub fn addresses(&self) -> Vec<(SocketAddr, bool)> {
        self.listeners.iter().map(|listener| (listener.address, listener.tls.load().is_some())).collect()
    }

    /// What changes it while it runs.
    pub fn reloader(&self) -> GatewayReloader {
        GatewayReloader { shared: self.shared.clone(), listeners: self.listeners.clone() }
    }

    /// What there is to say of it now, for people.
    pub fn report(&self) -> impl Fn() -> Value + Send + Sync + 'static {
        let (shared, listeners) = (self.shared.clone(), self.listeners.clone());
        move || {
            let addresses = listeners.iter().map(|listener| {
                json!({ "listen": listener.address, "tls": listener.tls.load().is_some(),
                    "proxy_protocol": listener.proxy_protocol, "http2": listener.http2 })
            });
            json!({
                "listeners": addresses.collect::<Vec<_>>(),
                "connections": shared.connections(),
                "routes": shared.active().routes.report(),
            })
        }
    }

    /// Accepts no more, lets what is under way finish within the configured time, and ends.
    pub async fn stop(self) {
        if let Err(error) = self.drain.finish(self.patience + SLACK).await {
            tracing::warn!(%error, "the gateway's end was forced");
            return;
        }
        let joined = tokio::task::spawn_blocking(move || self.threads.into_iter().all(|thread| thread.join().is_ok()));
        if !joined.await.unwrap_or(false) {
            tracing::error!("a thread of the gateway ended by a panic");
        }
    }
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway").field("listeners", &self.addresses()).finish_non_exhaustive()
    }
}

// === impl GatewayReloader ===

impl GatewayReloader {
    /// Puts other routes and limits into force while connections are open. Those who come see it; nobody is cut off. The future ends
    /// when no request goes by the former routes any more.
    pub fn reload(&self, policy: Policy) -> impl Future<Output = ()> + Send + 'static {
        self.shared.reload(policy)
    }

    /// Puts the certificates of a configuration into force, by the order of the listeners: for those who connect from now on.
    pub fn reload_certificates(&self, config: &GatewayConfig) {
        for (listener, config) in self.listeners.iter().zip(&config.listeners) {
            let (own, wanted) = (listener.address, config.listen);
            let same = own.ip() == wanted.ip() && (wanted.port() == 0 || own.port() == wanted.port());
            if let Some(tls) = config.tls.as_ref().filter(|_| same) {
                listener.set_file(tls);
            }
        }
    }

    /// Puts a cluster's certificates into force beside those of the configuration: for those who connect from now on.
    pub fn set_cluster_certificates(&self, certificates: &[HostCertificate]) {
        for listener in &self.listeners {
            listener.set_cluster(certificates);
        }
    }
}

/// A processor for each thread, where there are as many.
fn processors(threads: usize) -> Vec<usize> {
    let allowed = match sched_getaffinity(None) {
        Ok(set) => (0..CpuSet::MAX_CPU).filter(|processor| set.is_set(*processor)).collect::<Vec<_>>(),
        Err(_) => Vec::new(),
    };
    if allowed.len() < threads { Vec::new() } else { allowed }
}

/// Keeps the calling thread on a processor.
fn pin(processor: usize) {
    let mut set = CpuSet::new();
    set.set(processor);
    if let Err(error) = sched_setaffinity(None, &set) {
        tracing::debug!(%error, processor, "a thread of the gateway is not kept on a processor");
    }
}
