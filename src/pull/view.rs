//! What a client has of the server's pools, and what follows from each answer. Pure: the time comes in.
//!
//! What changed since the last answer is live, and is honoured as it is: a pool with no endpoint, or one that is gone. A
//! whole answer comes after a gap, perhaps from another server. A pool that it has, empty or not, is as it says; but when it
//! lacks more than half of the pools that have endpoints here, a server that was given the wrong sources is as likely as
//! so much work done at once: then these pools are held, for a bounded time, and less their addresses that other pools have.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::wire::{Delta, Host, Pool, SharedPool};

/// How long pools are held at most.
pub(super) const HELD: Duration = Duration::from_secs(600);

/// All pools, as they are to be served.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// By id.
    pub pools: BTreeMap<String, SharedPool>,
    /// Hosts that services declare; `None` while they are not known, or nobody asked for them.
    pub hosts: Option<Arc<[Host]>>,
    /// How true it is.
    pub truth: Truth,
}

/// How true a view is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Truth {
    /// `fresh`, `stale` or `held` as the server says, or `away` while no server answers.
    pub state: String,
    /// When the server was last in step, in RFC 3339.
    pub synced_at: String,
    /// Why it is not fresh.
    pub reason: String,
}

/// The view as it grows.
#[derive(Debug, Default)]
pub(super) struct Mirror {
    pools: BTreeMap<String, SharedPool>,
    index: Option<String>,
    /// Pools that the server does not name, and until when they are kept.
    held: Option<(BTreeSet<String>, Instant)>,
}

// === impl Mirror ===

impl Mirror {
    /// One that begins with the pools of a file.
    pub(super) fn beginning_with(pools: impl IntoIterator<Item = Pool>) -> Self {
        let pools = pools.into_iter().map(|pool| (pool.id.clone(), Arc::new(pool))).collect();
        Self { pools, ..Self::default() }
    }

    /// `BOOT:REVISION` of the last answer; `None` where all is to be asked for.
    pub(super) fn index(&self) -> Option<&str> {
        self.index.as_deref()
    }

    /// All is to be asked for.
    pub(super) fn forget_index(&mut self) {
        self.index = None;
    }

    /// The pools.
    pub(super) fn pools(&self) -> &BTreeMap<String, SharedPool> {
        &self.pools
    }

    /// How many pools are held.
    pub(super) fn held(&self) -> usize {
        self.held.as_ref().map_or(0, |(ids, _)| ids.len())
    }

    /// Takes in an answer with all pools. Says whether something is another than before.
    pub(super) fn replace(&mut self, all: Delta, now: Instant) -> bool {
        let lacking: BTreeSet<String> = {
            let named: BTreeSet<&str> = all.changed.iter().map(|pool| pool.id.as_str()).collect();
            self.pools.keys().filter(|id| !named.contains(id.as_str())).cloned().collect()
        };
        let serves = |pool: &SharedPool| !pool.endpoints.is_empty();
        let serving = self.pools.values().filter(|pool| serves(pool)).count();
        let lost = lacking.iter().filter(|id| self.pools.get(*id).is_some_and(serves)).count();
        let until = match self.held.take() {
            // What is held already is held until then, however often all is asked for.
            Some((_, until)) => Some(until),
            None if lost * 2 > serving => Some(now + HELD),
            None => None,
        };
        let mut changed = false;
        match until.filter(|until| *until > now && lost > 0) {
            Some(until) => self.held = Some((lacking, until)),
            None => {
                for id in &lacking {
                    changed |= self.pools.remove(id).is_some();
                }
            }
        }
        self.index = Some(all.index);
        changed |= self.take(all.changed);
        changed
    }

    /// Takes in what changed. Says whether something is another than before.
    pub(super) fn apply(&mut self, delta: Delta, now: Instant) -> bool {
        let mut changed = false;
        for id in &delta.removed {
            changed |= self.pools.remove(id).is_some();
            if let Some((held, _)) = &mut self.held {
                held.remove(id);
            }
        }
        self.index = Some(delta.index);
        changed |= self.take(delta.changed);
        changed |= self.expire(now);
        changed
    }

    /// Lets go what was held long enough. Says whether there was something.
    pub(super) fn expire(&mut self, now: Instant) -> bool {
        let Some((held, _)) = self.held.take_if(|(held, until)| held.is_empty() || *until <= now) else { return false };
        let before = self.pools.len();
        self.pools.retain(|id, _| !held.contains(id));
        self.pools.len() < before
    }

    fn take(&mut self, pools: Vec<Pool>) -> bool {
        let mut changed = false;
        for pool in pools {
            if let Some((held, _)) = &mut self.held {
                held.remove(&pool.id);
            }
            if self.pools.get(&pool.id).is_none_or(|known| **known != pool) {
                changed = true;
                self.pools.insert(pool.id.clone(), Arc::new(pool));
            }
        }
        changed | self.give_up_addresses()
    }

    /// A held pool has no address that another one has by now.
    fn give_up_addresses(&mut self) -> bool {
        let Some((held, _)) = &self.held else { return false };
        let live = self.pools.values().filter(|pool| !held.contains(&pool.id));
        let taken: BTreeSet<SocketAddr> = live.flat_map(|pool| pool.endpoints.iter().map(|it| it.socket())).collect();
        let mut changed = false;
        for id in held {
            let Some(pool) = self.pools.get_mut(id) else { continue };
            if pool.endpoints.iter().any(|it| taken.contains(&it.socket())) {
                changed = true;
                Arc::make_mut(pool).endpoints.retain(|it| !taken.contains(&it.socket()));
            }
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pull::wire::{Endpoint, State};

    fn pool(id: &str, addresses: &[&str]) -> Pool {
        let endpoint = |address: &&str| Endpoint {
            address: address.parse().unwrap(),
            port: 80,
            protocol: "TCP".into(),
            weight: 100,
            state: State::Ready,
            zone: None,
            node: None,
            cluster: None,
            target: None,
            app_protocol: None,
        };
        let endpoints = addresses.iter().map(endpoint).collect();
        Pool { id: id.into(), traffic_generation: None, endpoints, etag: format!("{addresses:?}") }
    }

    fn all(pools: &[Pool]) -> Delta {
        Delta { index: "b:1".into(), changed: pools.to_vec(), removed: Vec::new() }
    }

    fn ids(mirror: &Mirror) -> Vec<(&str, usize)> {
        mirror.pools().values().map(|pool| (pool.id.as_str(), pool.endpoints.len())).collect()
    }

    #[test]
    fn what_a_live_answer_says_is_honoured_an_empty_pool_and_a_gone_one_included() {
        let now = Instant::now();
        let mut mirror = Mirror::default();
        assert!(mirror.replace(all(&[pool("a", &["10.0.0.1"]), pool("b", &["10.0.0.2"])]), now));
        assert!(!mirror.replace(all(&[pool("a", &["10.0.0.1"]), pool("b", &["10.0.0.2"])]), now), "the same again");
        let delta = Delta { index: "b:2".into(), changed: vec![pool("a", &[])], removed: vec!["b".into()] };
        assert!(mirror.apply(delta, now));
        assert_eq!((ids(&mirror), mirror.index()), (vec![("a", 0)], Some("b:2")));
    }

    #[test]
    fn a_whole_answer_that_lacks_most_pools_is_an_accident_for_a_time() {
        let now = Instant::now();
        let later = now + Duration::from_secs(599);
        let before = [pool("a", &["10.0.0.1"]), pool("b", &["10.0.0.2"]), pool("c", &["10.0.0.3"])];
        let mut mirror = Mirror::beginning_with(before.clone());
        assert!(!mirror.replace(all(&[]), now), "nothing changes for gateways");
        assert_eq!((mirror.pools().len(), mirror.held()), (3, 3));
        assert!(!mirror.replace(all(&[]), later));
        assert_eq!(mirror.held(), 3);
        assert!(mirror.replace(all(&[]), now + Duration::from_secs(600)), "held from the first time on, not the last");
        assert_eq!(ids(&mirror), []);
        let mut mirror = Mirror::beginning_with(before);
        mirror.replace(all(&[]), now);
        assert!(!mirror.expire(later) && mirror.expire(now + Duration::from_secs(600)));
        assert_eq!((ids(&mirror), mirror.held()), (vec![], 0));
    }

    #[test]
    fn a_whole_answer_with_an_empty_pool_or_without_a_few_is_honoured() {
        let now = Instant::now();
        let before = ["a", "b", "c"].map(|id| pool(id, &["10.0.0.1"]));
        let mut mirror = Mirror::beginning_with(before);
        let after = [pool("a", &[]), pool("b", &["10.0.0.1"])];
        assert!(mirror.replace(all(&after), now));
        assert_eq!((ids(&mirror), mirror.held()), (vec![("a", 0), ("b", 1)], 0));
        let all_empty = [pool("a", &[]), pool("b", &[])];
        assert!(mirror.replace(all(&all_empty), now));
        assert_eq!(ids(&mirror), [("a", 0), ("b", 0)]);
        assert!(mirror.replace(all(&[]), now), "pools that serve nobody are no loss");
    }

    #[test]
    fn a_held_pool_goes_when_it_is_told_and_gives_up_addresses_that_others_have() {
        let now = Instant::now();
        let mut mirror = Mirror::beginning_with([pool("a", &["10.0.0.1", "10.0.0.2"]), pool("b", &["10.0.0.3"])]);
        mirror.replace(all(&[]), now);
        let delta = Delta { index: "b:2".into(), changed: vec![pool("c", &["10.0.0.2"])], removed: vec!["b".into()] };
        assert!(mirror.apply(delta, now));
        assert_eq!((ids(&mirror), mirror.held()), (vec![("a", 1), ("c", 1)], 1));
        let delta = Delta { index: "b:3".into(), changed: vec![pool("a", &["10.0.0.9"])], removed: Vec::new() };
        mirror.apply(delta, now);
        assert!(!mirror.expire(now + Duration::from_secs(900)), "what is told is held no longer");
        assert_eq!(ids(&mirror), [("a", 1), ("c", 1)]);
    }
}
