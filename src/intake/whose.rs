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
    /// It was one's, and may have been another's: it is nobody's for good.
    doubtful: bool,
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
        Self { attribution, address, doubtful: false, version: None, opened }
    }

    /// Looks again where the index has changed. True where it is another's now.
    #[inline]
    pub(super) fn refresh(&mut self, surroundings: &Surroundings, client: &Client) -> bool {
        let (Some(pods), Some(address)) = (&surroundings.pods, self.address) else { return false };
        let version = Some(pods.version());
        if self.version == version || self.doubtful {
            return false;
        }
        self.version = version;
        let found = pods.look(address, client.connected_at_ms, &self.attribution);
        let is_news = found != self.attribution;
        self.doubtful = found == Attribution::Unknown && matches!(self.attribution, Attribution::Pod(_));
        self.attribution = found;
        is_news
    }

    /// True while its records wait for its pod to be known.
    pub(super) fn awaits(&self, surroundings: &Surroundings, strangers: &mut Strangers, now: Instant) -> bool {
        let (Attribution::Unknown, Some(address)) = (&self.attribution, self.address) else { return false };
        if surroundings.pods.is_none() || self.doubtful || strangers.contains(address, now) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intake::users::Users;
    use crate::record::pods::{Pod, PodIndex};

    fn index(uid: &str, started_ms: u64) -> PodIndex {
        let pod = Arc::new(Pod { uid: uid.into(), started_ms, ..Pod::default() });
        let address = IpAddr::from([10, 244, 0, 7]);
        PodIndex { by_address: HashMap::from([(address, vec![pod])]), ..PodIndex::default() }
    }

    #[test]
    fn a_connection_whose_owner_is_in_doubt_is_nobodys_for_good() {
        let users = Users::from_config(&[]).unwrap();
        let client = Client::new(1, "10.244.0.7:1".into(), "10.0.0.1:6379".into(), 20_000, &users);
        let pods = Arc::new(Pods::default());
        let pod_wait = Duration::from_secs(60);
        let surroundings = Surroundings { pods: Some(pods.clone()), pod_wait, ..Surroundings::default() };
        let mut whose = Whose::new(&client, Instant::now());
        pods.publish(index("old", 10_000));
        assert!(whose.refresh(&surroundings, &client) && matches!(whose.attribution, Attribution::Pod(_)));
        // Another had started before it was opened, and the first is not known any more.
        for _ in 0..2 {
            pods.publish(index("new", 15_000));
            whose.refresh(&surroundings, &client);
            assert_eq!(whose.attribution, Attribution::Unknown);
        }
        assert!(!whose.awaits(&surroundings, &mut Strangers::default(), Instant::now()));
    }
}
