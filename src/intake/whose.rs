//! Whose a connection is, and how long a connection waits to be known.
//!
//! A pod's first line may come before the watch tells of the pod: a young connection's records wait a bounded time for it,
//! then they go out marked. An address that nobody was known for in that time is not waited for again for a while, so that
//! clients outside of the cluster pay for it once.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::client::Client;
use crate::record::lag::Lags;
use crate::record::pods::{Attribution, Pods};

/// How long an address is not waited for after it was in vain.
const STRANGER: Duration = Duration::from_secs(60);
/// How many such addresses are remembered.
const STRANGERS: usize = 4096;

/// What surrounds this process: part of what records say of their sender, and who reads them.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// The node's name; empty: not known.
    pub node: String,
    /// This node's pods, where they are watched.
    pub pods: Option<Arc<Pods>>,
    /// How long a young connection's records wait for its pod to be known.
    pub pod_wait: Duration,
    /// What a consumer group has not read yet, where LLEN tells of it.
    pub lags: Option<Arc<Lags>>,
}

/// Whose one connection is.
#[derive(Debug)]
pub(super) struct Whose {
    pub(super) attribution: Attribution,
    address: Option<IpAddr>,
    /// The index that it was looked up in.
    version: Option<u64>,
    opened: Instant,
}

/// Addresses that were waited for in vain, of one worker.
#[derive(Debug, Default)]
pub(super) struct Strangers(HashMap<IpAddr, Instant>);

// === impl Whose ===

impl Whose {
    pub(super) fn new(client: &Client, opened: Instant) -> Self {
        let address = client.address.parse::<SocketAddr>().ok().map(|address| address.ip());
        // Who comes over a Unix socket has no address, and so no pod.
        let attribution = if address.is_some() { Attribution::Unknown } else { Attribution::None };
        Self { attribution, address, version: None, opened }
    }

    /// Looks again where the index has changed. True where it is another's now.
    #[inline]
    pub(super) fn refresh(&mut self, surroundings: &Surroundings, client: &Client) -> bool {
        let (Some(pods), Some(address)) = (&surroundings.pods, self.address) else { return false };
        let version = Some(pods.version());
        if self.version == version {
            return false;
        }
        self.version = version;
        let found = pods.look(address, client.connected_at_ms, &self.attribution);
        let is_news = found != self.attribution;
        self.attribution = found;
        is_news
    }

    /// True while its records wait for its pod to be known.
    pub(super) fn awaits(&self, surroundings: &Surroundings, strangers: &mut Strangers, now: Instant) -> bool {
        let (Attribution::Unknown, Some(address)) = (&self.attribution, self.address) else { return false };
        if surroundings.pods.is_none() || strangers.contains(address, now) {
            return false;
        }
        let waits = now.duration_since(self.opened) < surroundings.pod_wait;
        if !waits {
            strangers.insert(address, now);
        }
        waits
    }
}

// === impl Strangers ===

impl Strangers {
    fn contains(&self, address: IpAddr, now: Instant) -> bool {
        self.0.get(&address).is_some_and(|since| now.duration_since(*since) < STRANGER)
    }

    fn insert(&mut self, address: IpAddr, now: Instant) {
        if self.0.len() >= STRANGERS {
            self.0.retain(|_, since| now.duration_since(*since) < STRANGER);
        }
        if self.0.len() < STRANGERS {
            self.0.insert(address, now);
        }
    }
}
