//! Whose a connection is: the pods of this node by their address. An immutable index, swapped as a whole when the watch
//! tells of a change, so that a look takes no lock.
//!
//! An address is a pod's only for a time. A connection is attributed to a pod where the pod had started when the connection
//! was opened, had not ended, and the index was being kept up to date; in doubt it is nobody's. A freed address is handed to
//! the next pod at once, and lines under a wrong name are worse than lines without one.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;

/// Kubernetes tells a start to the second.
const SECOND_MS: u64 = 1000;
/// This machine itself.
const LOOPBACK: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// A pod, as far as its records say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// Kubernetes' own name for this one life of it.
    pub uid: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// What made it, as `Deployment/shop`.
    pub owner: Option<String>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// When it started, in Unix milliseconds, to the second.
    pub started_ms: u64,
    /// When it was told to end, or had ended, in Unix milliseconds.
    pub ended_ms: Option<u64>,
    /// It forwards what others log: its own name would be a wrong one.
    pub forwards: bool,
}

/// All pods of a node at one time.
#[derive(Clone, Debug, Default)]
pub struct PodIndex {
    /// By address; one that was freed may have several.
    pub by_address: HashMap<IpAddr, Vec<Arc<Pod>>>,
    /// Addresses of nodes: pods on the host's network, and whatever is behind the node, come from them.
    pub hosts: HashSet<IpAddr>,
    /// Since when nothing is heard of changes, in Unix milliseconds.
    pub stale_since_ms: Option<u64>,
}

/// The index as workers read it.
#[derive(Debug, Default)]
pub struct Pods {
    index: ArcSwap<PodIndex>,
    version: AtomicU64,
}

/// Whose a connection is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attribution {
    /// This pod's.
    Pod(Arc<Pod>),
    /// Nobody's that is known; a pod may become known.
    Unknown,
    /// No pod's, or one's that forwards for others, and that stays so.
    None,
}

// === impl Pods ===

impl Pods {
    /// Replaces the index.
    pub fn publish(&self, index: PodIndex) {
        self.index.store(Arc::new(index));
        self.version.fetch_add(1, Ordering::Release);
    }

    /// Counts replacements: what was looked up under another number is looked up again.
    #[inline]
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Whose a connection from `address` is that was opened at `opened_ms`, in Unix milliseconds. `before`: whose it was so
    /// far.
    pub fn look(&self, address: IpAddr, opened_ms: u64, before: &Attribution) -> Attribution {
        self.index.load().look(address, opened_ms, before)
    }
}

// === impl PodIndex ===

impl PodIndex {
    fn look(&self, address: IpAddr, opened_ms: u64, before: &Attribution) -> Attribution {
        let address = address.to_canonical();
        if LOOPBACK.contains(&address) || self.hosts.contains(&address) {
            return Attribution::None;
        }
        let known = self.by_address.get(&address).map_or(&[][..], Vec::as_slice);
        let stale = self.stale_since_ms.is_some_and(|since| opened_ms >= since);
        let mut found = known.iter().filter(|pod| pod.may_have_opened(opened_ms));
        match (found.next(), found.next(), before) {
            // A connection does not change hands: what is in it is its first owner's, labels may have changed.
            (Some(pod), None, Attribution::Pod(was)) if pod.uid == was.uid => pod.attribution(),
            (None, _, Attribution::Pod(was)) => was.attribution(),
            // Two may have: one of them would be wrong.
            (Some(_), _, Attribution::Pod(_)) | (Some(_), Some(_), _) => Attribution::Unknown,
            (Some(pod), None, _) if !stale => pod.attribution(),
            _ => Attribution::Unknown,
        }
    }
}

// === impl Pod ===

impl Pod {
    fn may_have_opened(&self, opened_ms: u64) -> bool {
        // Within the second of its start the address may still have been another's.
        self.started_ms + SECOND_MS <= opened_ms && self.ended_ms.is_none_or(|ended| opened_ms < ended)
    }

    fn attribution(self: &Arc<Self>) -> Attribution {
        if self.forwards { Attribution::None } else { Attribution::Pod(self.clone()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 244, 0, 7));

    fn pod(uid: &str, started_ms: u64, ended_ms: Option<u64>) -> Arc<Pod> {
        Arc::new(Pod { uid: uid.into(), started_ms, ended_ms, ..Pod::default() })
    }

    fn index(pods: &[Arc<Pod>]) -> PodIndex {
        PodIndex { by_address: HashMap::from([(ADDRESS, pods.to_vec())]), ..PodIndex::default() }
    }

    fn uid(attribution: &Attribution) -> &str {
        match attribution {
            Attribution::Pod(pod) => &pod.uid,
            Attribution::Unknown => "unknown",
            Attribution::None => "none",
        }
    }

    #[test]
    fn an_address_that_a_new_pod_has_is_no_longer_the_old_ones() {
        let (old, new) = (pod("old", 10_000, None), pod("new", 60_000, None));
        let ended = pod("old", 10_000, Some(55_000));
        let nobody = Attribution::Unknown;
        let look = |pods: &[Arc<Pod>], opened| uid(&index(pods).look(ADDRESS, opened, &nobody)).to_owned();
        assert_eq!(look(std::slice::from_ref(&old), 20_000), "old");
        assert_eq!(look(std::slice::from_ref(&ended), 62_000), "unknown");
        assert_eq!(look(&[ended.clone(), new.clone()], 62_000), "new");
        assert_eq!(look(&[ended, new.clone()], 20_000), "old");
        assert_eq!(look(std::slice::from_ref(&new), 20_000), "unknown");
        // Both may have: nobody's.
        assert_eq!(look(&[old, new], 62_000), "unknown");
    }

    #[test]
    fn a_connection_keeps_its_first_owner() {
        let (old, new) = (pod("old", 10_000, None), pod("new", 60_000, None));
        let was = Attribution::Pod(old.clone());
        assert_eq!(uid(&index(&[]).look(ADDRESS, 20_000, &was)), "old");
        assert_eq!(uid(&index(std::slice::from_ref(&new)).look(ADDRESS, 20_000, &was)), "old");
        let relabelled = Arc::new(Pod { labels: BTreeMap::from([("a".into(), "b".into())]), ..(*old).clone() });
        assert_eq!(index(std::slice::from_ref(&relabelled)).look(ADDRESS, 20_000, &was), Attribution::Pod(relabelled));
        // Within the second of the new one's start it was the old one's already.
        assert_eq!(uid(&index(std::slice::from_ref(&new)).look(ADDRESS, 60_999, &was)), "old");
        assert_eq!(uid(&index(std::slice::from_ref(&new)).look(ADDRESS, 60_999, &Attribution::Unknown)), "unknown");
        // It was opened after the new one had started, so the old one's name may have been wrong.
        assert_eq!(uid(&index(&[new]).look(ADDRESS, 61_000, &was)), "unknown");
    }

    #[test]
    fn what_is_opened_while_nothing_is_heard_is_nobodys() {
        let mut index = index(&[pod("old", 10_000, None)]);
        index.stale_since_ms = Some(30_000);
        assert_eq!(uid(&index.look(ADDRESS, 29_999, &Attribution::Unknown)), "old");
        assert_eq!(uid(&index.look(ADDRESS, 30_000, &Attribution::Unknown)), "unknown");
    }

    #[test]
    fn hosts_and_those_who_forward_are_no_pods() {
        let forwards = Arc::new(Pod { forwards: true, ..Pod::default() });
        let mut index = index(&[forwards]);
        assert_eq!(uid(&index.look(ADDRESS, 1_000, &Attribution::Unknown)), "none");
        index.hosts.insert("10.0.0.1".parse().unwrap());
        for address in ["10.0.0.1", "::ffff:10.0.0.1", "127.0.0.1", "::1"] {
            assert_eq!(uid(&index.look(address.parse().unwrap(), 1, &Attribution::Unknown)), "none", "{address}");
        }
    }
}
