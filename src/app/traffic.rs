//! The traffic plane, from its sources to the gateways that pull.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::reload::Status;
use crate::admin::DebugDump;
use crate::base::drain::Drain;
use crate::base::readiness::Readiness;
use crate::config::TrafficConfig;
use crate::discovery::{Book, Discovery, DiscoveryReloader, OwnGateway};
use crate::endpoints::{Endpoints, Listener, Snapshot};

/// How long waiting gateways have for their last answer, and the registry to write its file.
const DEADLINE: Duration = Duration::from_secs(10);
/// How often it is looked whether every source has told its pools.
const LOOK: Duration = Duration::from_millis(20);

/// The running plane.
pub(super) struct TrafficPlane {
    address: SocketAddr,
    // Its sources end when it is dropped.
    endpoints: Endpoints,
    heard: Arc<OnceLock<Listener>>,
    reloader: DiscoveryReloader,
    book: Book,
    secure: bool,
    drain: Drain,
}

// === impl TrafficPlane ===

impl TrafficPlane {
    /// Starts everything and gives what `/debug/pools` shows.
    pub(super) async fn start(
        config: TrafficConfig,
        readiness: &Readiness,
        configuration: Status,
    ) -> anyhow::Result<(Self, DebugDump)> {
        let drain = Drain::new();
        let secure = config.api.tls.is_some();
        let discovery = Discovery::bind(config.api).await?;
        let address = discovery.address();
        let heard = Arc::new(OnceLock::<Listener>::new());
        let listener: Listener = {
            let (own, other) = (discovery.listener(), heard.clone());
            Arc::new(move |published| {
                own(published);
                if let Some(other) = other.get() {
                    other(published);
                }
            })
        };
        let endpoints = Endpoints::start(config.endpoints, discovery.boot(), listener, &drain)?;
        let snapshot = endpoints.snapshot();
        let gate = readiness.gate("discovery", "the first pools of every source");
        tokio::spawn({
            let (snapshot, drain) = (snapshot.clone(), drain.clone());
            async move {
                let mut looks = tokio::time::interval(LOOK);
                // Not closed again when a source goes away later: what is known is served, and said to be stale.
                while !snapshot.load().is_loaded() {
                    tokio::select! {
                        _ = looks.tick() => {}
                        () = drain.requested() => break,
                    }
                }
                drop(gate);
            }
        });
        let reloader = discovery.reloader();
        let book = discovery.book(snapshot.clone());
        let report = discovery.relaying(endpoints.links()).serve(snapshot, drain.clone());
        let dump = move || {
            let mut report = report();
            if let Some(fields) = report.as_object_mut() {
                fields.insert("configuration".to_owned(), configuration.dump());
            }
            report
        };
        Ok((Self { address, endpoints, heard, reloader, book, secure, drain }, Arc::new(dump)))
    }

    /// Where the pull API listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The snapshot's place.
    pub(super) fn snapshot(&self) -> Arc<ArcSwap<Snapshot>> {
        self.endpoints.snapshot()
    }

    /// What speaks for the gateway in this process, by its name.
    pub(super) fn own_gateway(&self, name: Arc<str>) -> OwnGateway {
        self.book.of(name)
    }

    /// Lets another plane hear of every publication from now on; one only.
    pub(super) fn tell(&self, listener: Listener) {
        // Called once, where the planes are joined.
        let _ = self.heard.set(listener);
    }

    /// The same as people paste it.
    pub(super) fn url(&self) -> String {
        format!("{}://{}", if self.secure { "https" } else { "http" }, self.address)
    }

    /// What changes its tokens and certificates while it runs.
    pub(super) fn reloader(&self) -> DiscoveryReloader {
        self.reloader.clone()
    }

    /// Answers everybody who waits, and ends.
    pub(super) async fn stop(self) {
        if let Err(error) = self.drain.finish(DEADLINE).await {
            tracing::warn!(%error, "the traffic plane's end was forced");
        }
        drop(self.endpoints);
    }
}
