//! The listener, and how the pull API hangs together with the registry.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use ring::rand::{SecureRandom, SystemRandom};
use serde_json::Value;

use super::access::Access;
use super::api::{Api, router};
use super::clients::Clients;
use super::config::DiscoveryConfig;
use super::eureka::Past;
use super::gateways::Gateways;
use super::metrics::ApiMetrics;
use super::report::report;
use super::waiters::Waiters;
use super::xds::{self, refusals::Refusals};
use crate::base::drain::Drain;
use crate::endpoints::{Listener, Snapshot};
use crate::net::http::{HttpListener, Limits};

/// Longer than the longest wait, so that none is cut.
const LIFETIME: Duration = Duration::from_secs(3_600);
/// An Envoy that is not told to aggregate has a stream for each of its clusters on one connection.
const HTTP2_STREAMS: u32 = 4_096;

/// Why the pull API does not run.
#[derive(Debug, thiserror::Error)]
pub enum DiscoveryError {
    /// Another process holds the port, or the address is not this machine's.
    #[error("discovery.listen: {address} cannot be listened on: {cause}")]
    Listen {
        /// The address as configured.
        address: SocketAddr,
        /// What the operating system said.
        cause: std::io::Error,
    },
    /// The system has no random bytes.
    #[error("no random bytes from the system")]
    Random,
}

/// The pull API, bound and not answering yet.
#[derive(Debug)]
pub struct Discovery {
    listener: HttpListener,
    config: DiscoveryConfig,
    waiters: Waiters,
    boot: String,
}

// === impl Discovery ===

impl Discovery {
    /// Binds the address of the configuration.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub async fn bind(config: DiscoveryConfig) -> Result<Self, DiscoveryError> {
        let listener = HttpListener::bind(config.listen).await;
        let listener = listener.map_err(|cause| DiscoveryError::Listen { address: config.listen, cause })?;
        Ok(Self { listener, config, waiters: Waiters::default(), boot: boot()? })
    }

    /// Where it listens, the port chosen by the system filled in.
    pub fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    /// What the registry calls with each publication: it wakes those who wait for it.
    pub fn listener(&self) -> Listener {
        let waiters = self.waiters.clone();
        Arc::new(move |published| waiters.wake(&published.changed))
    }

    /// Answers until the drain is requested; whoever waits then is answered at once. Gives what `/debug/pools` shows.
    pub fn serve(self, snapshot: Arc<ArcSwap<Snapshot>>, drain: Drain) -> impl Fn() -> Value + Send + Sync + 'static {
        let api = Arc::new(Api {
            snapshot,
            boot: self.boot,
            waiters: self.waiters,
            clients: Clients::new(self.config.limits),
            gateways: Gateways::default(),
            access: Access::new(self.config.tokens, self.config.anonymous_reads),
            metrics: ApiMetrics::register(),
            drain: drain.clone(),
            streams: xds::limit(),
            refusals: Refusals::default(),
            eureka: Past::default(),
        });
        let limits =
            Limits { connections: self.config.max_connections, lifetime: LIFETIME, http2_streams: Some(HTTP2_STREAMS) };
        tokio::spawn(self.listener.serve(router(api.clone()), limits, "discovery", drain));
        move || report(&api)
    }
}

/// A name for this life of the process that no other has.
fn boot() -> Result<String, DiscoveryError> {
    let mut bytes = [0; 8];
    SystemRandom::new().fill(&mut bytes).map_err(|_| DiscoveryError::Random)?;
    let mut text = String::new();
    for byte in bytes {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    Ok(text)
}
