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
use super::metrics::{ApiMetrics, certificate_expires};
use super::own::Book;
use super::relay::Views;
use super::report::report;
use super::waiters::Waiters;
use super::xds::{self, refusals::Refusals};
use super::{export, uplink};
use crate::base::drain::Drain;
use crate::endpoints::hub::HubLink;
use crate::endpoints::{Listener, Snapshot};
use crate::net::http::{HttpListener, Limits};
use crate::net::tls::TlsConfig;

/// Longer than the longest wait, so that none is cut.
const LIFETIME: Duration = Duration::from_secs(3_600);
/// What is spoken over TLS: both kinds of HTTP, on the one port.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];
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
    gateways: Arc<Gateways>,
    boot: String,
    links: Vec<HubLink>,
    reloader: DiscoveryReloader,
}

/// Puts other tokens and certificates into force while connections are open.
#[derive(Clone, Debug)]
pub struct DiscoveryReloader {
    access: Arc<ArcSwap<Access>>,
    tls: Option<Arc<ArcSwap<TlsConfig>>>,
    address: SocketAddr,
}

/// The running listener would let everybody in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "discovery: the running listener {0} is not on loopback, and nobody would be asked for a token: set \
     discovery.tokens_file, or anonymous = \"read\", or restart on another address"
)]
pub struct OpenError(SocketAddr);

// === impl Discovery ===

impl Discovery {
    /// Binds the address of the configuration.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub async fn bind(config: DiscoveryConfig) -> Result<Self, DiscoveryError> {
        let listener = HttpListener::bind(config.listen).await;
        let listener = listener.map_err(|cause| DiscoveryError::Listen { address: config.listen, cause })?;
        let reloader = DiscoveryReloader {
            access: Arc::new(ArcSwap::from_pointee(Access::of(&config))),
            tls: config.tls.as_ref().map(|tls| Arc::new(ArcSwap::from_pointee(tls.with_protocols(&PROTOCOLS)))),
            address: listener.address(),
        };
        reloader.note_expiry(&config);
        let listener = match &reloader.tls {
            Some(tls) => listener.with_tls(tls.clone()),
            None => listener,
        };
        Ok(Self {
            listener,
            config,
            waiters: Waiters::default(),
            gateways: Arc::default(),
            boot: boot()?,
            links: Vec::new(),
            reloader,
        })
    }

    /// Tells the hubs at the other end of these links what gateways say here.
    #[must_use]
    pub fn relaying(mut self, links: &[HubLink]) -> Self {
        self.links = links.to_vec();
        self
    }

    /// What names this life of the process.
    pub fn boot(&self) -> &str {
        &self.boot
    }

    /// What changes its tokens and certificates while it runs.
    pub fn reloader(&self) -> DiscoveryReloader {
        self.reloader.clone()
    }

    /// The book of what gateways serve, for one in this process that goes by this snapshot.
    pub fn book(&self, snapshot: Arc<ArcSwap<Snapshot>>) -> Book {
        Book::new(self.gateways.clone(), snapshot)
    }

    /// Where it listens, the port chosen by the system filled in.
    pub fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    /// What the registry calls with each publication: it wakes those who wait for it.
    pub fn listener(&self) -> Listener {
        let waiters = self.waiters.clone();
        Arc::new(move |published| waiters.wake(&published.changed, published.status_changed))
    }

    /// Answers until the drain is requested; whoever waits then is answered at once. Gives what `/debug/pools` shows.
    pub fn serve(self, snapshot: Arc<ArcSwap<Snapshot>>, drain: Drain) -> impl Fn() -> Value + Send + Sync + 'static {
        let api = Arc::new(Api {
            snapshot,
            boot: self.boot,
            waiters: self.waiters,
            clients: Clients::new(self.config.limits),
            gateways: self.gateways,
            access: self.reloader.access.clone(),
            views: Views::default(),
            metrics: ApiMetrics::register(),
            drain: drain.clone(),
            streams: xds::limit(),
            refusals: Refusals::default(),
            listeners: xds::listeners(&self.config.envoy_listeners, self.config.envoy_access_log.as_deref()),
            eureka: Past::default(),
        });
        let limits =
            Limits { connections: self.config.max_connections, lifetime: LIFETIME, http2_streams: Some(HTTP2_STREAMS) };
        if let Some(export) = self.config.export {
            tokio::spawn(export::run(export, api.snapshot.clone(), drain.clone()));
        }
        for link in self.links {
            tokio::spawn(uplink::run(api.clone(), link));
        }
        tokio::spawn(self.listener.serve(router(api.clone()), limits, "discovery", drain));
        move || report(&api)
    }
}

// === impl DiscoveryReloader ===

impl DiscoveryReloader {
    /// Whether a configuration may be put into force.
    ///
    /// # Errors
    /// The listener that runs would let everybody in: the file was checked with its own, which may be another.
    pub fn check(&self, config: &DiscoveryConfig) -> Result<(), OpenError> {
        let open = !self.address.ip().to_canonical().is_loopback() && config.is_open();
        if open { Err(OpenError(self.address)) } else { Ok(()) }
    }

    /// Puts the tokens, the `anonymous` rule and the certificates of a configuration into force: for the next request,
    /// and for the next connection. Whether TLS is spoken stays as it was.
    pub fn reload(&self, config: &DiscoveryConfig) {
        self.access.store(Arc::new(Access::of(config)));
        if let (Some(place), Some(tls)) = (&self.tls, &config.tls) {
            place.store(Arc::new(tls.with_protocols(&PROTOCOLS)));
            self.note_expiry(config);
        }
    }

    fn note_expiry(&self, config: &DiscoveryConfig) {
        if let Some(tls) = &config.tls {
            certificate_expires(tls.expires_at());
        }
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
