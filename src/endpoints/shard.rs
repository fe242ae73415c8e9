//! One source's part of the registry: what it said last, what is held of what it said before, and how fresh that is.
//!
//! A shard is never emptied by a fault. What a source said stays until it says something else; a fault only makes it
//! stale, and says since when and why.

use std::cell::LazyCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use super::clock::Jump;
use super::config::HoldConfig;
use super::guard::{Held, decide};
use super::hosts::{Claimants, ShardHosts};
use super::pool::{Endpoint, PoolContent, PoolId, sort};
use super::update::{Origins, Update, Watched};

/// A source's pools.
#[derive(Debug)]
pub struct Shard {
    /// What it is called in logs and metrics: the cluster, or the file's path.
    pub name: Arc<str>,
    /// First parts of the ids that only this source can have, as `east`; `None` for a source that may have any.
    pub prefix: Option<Arc<str>>,
    live: HashMap<PoolId, PoolContent>,
    held: BTreeMap<PoolId, Held>,
    /// What its source has not told of yet.
    awaited: BTreeSet<Watched>,
    status: Status,
    /// What it says of its own sources, where it is a hub.
    origins: Origins,
    /// Those of them that have not told the hub their pools yet.
    unheard: BTreeSet<Arc<str>>,
    /// The hubs that its pools come through.
    hubs: Vec<Arc<str>>,
    /// The hosts that it claims for pools.
    pub(super) hosts: ShardHosts,
}

/// How fresh a shard is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Whether it has all that it serves: its source told it, or a former life of this process kept it.
    pub loaded: bool,
    /// When what it has was last known to be true; `None` for never.
    pub synced_at: Option<SystemTime>,
    /// What is outdated, since when and why; empty for a shard that is fresh.
    pub lost: BTreeMap<Watched, (SystemTime, String)>,
}

// === impl Shard ===

impl Shard {
    /// A shard whose source has not said anything yet.
    pub fn new(name: Arc<str>, prefix: Option<Arc<str>>) -> Self {
        let awaited = BTreeSet::from([Watched::Endpoints]);
        Self {
            name,
            prefix,
            live: HashMap::new(),
            held: BTreeMap::new(),
            awaited,
            status: Status::default(),
            origins: Origins::default(),
            unheard: BTreeSet::new(),
            hubs: Vec::new(),
            hosts: ShardHosts::default(),
        }
    }

    /// The same, of a source that tells of policies as well.
    #[must_use]
    pub fn awaiting_policies(mut self) -> Self {
        self.awaited.insert(Watched::Policies);
        self
    }

    /// The same, of a source that tells of hosts as well.
    #[must_use]
    pub fn awaiting_hosts(mut self, claimants: &[Claimants]) -> Self {
        self.hosts = ShardHosts::awaiting(claimants.iter().copied());
        self
    }

    /// All of a kind was told for the first time, or again.
    pub fn told(&mut self, what: Watched) {
        self.awaited.remove(&what);
        self.status.loaded = self.awaited.is_empty();
    }

    /// How fresh it is.
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// What was told of `what` is true as of now. Says whether that changes more than a time.
    pub fn contact(&mut self, what: Watched, now: SystemTime) -> bool {
        if what == Watched::Endpoints && !self.awaited.contains(&what) {
            self.status.synced_at = Some(now);
        }
        self.status.lost.remove(&what).is_some()
    }

    /// What was told of `what` may be outdated. The time of the first word of it stays.
    pub fn lost(&mut self, what: Watched, why: String, now: SystemTime) {
        let since = self.status.lost.get(&what).map_or(now, |(since, _)| *since);
        self.status.lost.insert(what, (since, why));
    }

    /// What its source says of its own sources.
    pub fn origins(&self) -> &Origins {
        &self.origins
    }

    /// Takes in what the source says of its own sources. One that has not told the hub its pools yet, and had before,
    /// stays as it was, and is outdated. Gives the ids of the pools whose hold there differs.
    pub fn set_origins(&mut self, mut origins: Origins, now: SystemTime) -> BTreeSet<PoolId> {
        self.unheard.clear();
        for origin in origins.sources.iter_mut().filter(|origin| !origin.status.loaded) {
            self.unheard.insert(origin.name.clone());
            let before = self.origins.sources.iter().find(|it| it.name == origin.name && it.status.loaded);
            let Some(before) = before else { continue };
            (origin.status.loaded, origin.status.synced_at) = (true, before.status.synced_at);
            let since = before.status.lost.get(&Watched::Endpoints).map_or(now, |(since, _)| *since);
            let why = "the hub has not heard of it since its start".to_owned();
            origin.status.lost.insert(Watched::Endpoints, (since, why));
        }
        let before = std::mem::replace(&mut self.origins, origins).holds;
        let now = &self.origins.holds;
        before.keys().chain(now.keys()).filter(|id| before.get(*id) != now.get(*id)).cloned().collect()
    }

    /// The hubs that its pools come through.
    pub fn hubs(&self) -> &[Arc<str>] {
        &self.hubs
    }

    /// Takes in the hubs that its pools come through.
    pub fn set_hubs(&mut self, hubs: Vec<Arc<str>>) {
        self.hubs = hubs;
    }

    /// Puts in what a former life kept: stale, until the source says otherwise.
    pub fn restore(&mut self, live: Vec<PoolContent>, held: Vec<Held>, synced_at: SystemTime, now: SystemTime) {
        let awaited = std::mem::take(&mut self.awaited);
        self.live = live.into_iter().map(|pool| (pool.id.clone(), pool)).collect();
        self.held = held.into_iter().map(|held| (held.content.id.clone(), held)).collect();
        self.status.loaded = true;
        self.status.synced_at = Some(synced_at);
        for what in awaited {
            self.lost(what, "not listed since this process began: from the snapshot file".to_owned(), now);
        }
    }

    /// Takes a change in and gives the ids of the pools that it may have changed.
    pub fn apply(&mut self, update: Update, hold: HoldConfig, now: SystemTime) -> BTreeSet<PoolId> {
        match update {
            Update::Reset(pools) => self.reset(pools, hold, now),
            Update::Add(pool) => self.add(pool),
            Update::Remove(id) => {
                let known = self.live.remove(&id).is_some() | self.held.remove(&id).is_some();
                known.then_some(id).into_iter().collect()
            }
        }
    }

    /// Gives the ids of the pools that differ: a list mostly says what was said before.
    fn reset(&mut self, pools: Vec<PoolContent>, hold: HoldConfig, now: SystemTime) -> BTreeSet<PoolId> {
        let before: BTreeMap<PoolId, PoolContent> =
            self.ids().into_iter().filter_map(|id| Some((id.clone(), self.content(&id)?))).collect();
        // A hub that does not know a source's pools yet says nothing of them.
        let unheard = std::mem::take(&mut self.live).into_iter().filter(|(_, pool)| self.is_unheard(pool));
        let mut live: HashMap<PoolId, PoolContent> = unheard.collect();
        live.extend(pools.into_iter().map(|pool| (pool.id.clone(), pool)));
        self.live = live;
        self.told(Watched::Endpoints);
        // Most lists lack nothing, and then nobody asks whose an address is.
        let owners = LazyCell::new(|| owners_of(&self.live));
        let mut held = BTreeMap::new();
        for (id, before) in &before {
            let owned = |address| owners.get(&address).is_some_and(|owner| *owner != Some(id));
            let decided = decide(before, self.held.get(id), self.live.get(id), owned, hold, now);
            held.extend(decided.map(|it| (id.clone(), it)));
        }
        let held_before = std::mem::replace(&mut self.held, held);
        let differs =
            |id: &&PoolId| before.get(*id) != self.content(id).as_ref() || held_before.get(*id) != self.held.get(*id);
        before.keys().chain(self.live.keys()).filter(differs).cloned().collect()
    }

    fn add(&mut self, pool: PoolContent) -> BTreeSet<PoolId> {
        let mut changed = self.give_up(&pool);
        // What a live watch says of a pool ends its hold.
        let released = self.held.remove(&pool.id).is_some();
        let known = self.live.get(&pool.id).is_some_and(|before| *before == pool);
        if released || !known {
            changed.insert(pool.id.clone());
        }
        self.live.insert(pool.id.clone(), pool);
        changed
    }

    /// Ends the hold of every address that this pool has now, in whatever other pool.
    fn give_up(&mut self, pool: &PoolContent) -> BTreeSet<PoolId> {
        let mut changed = BTreeSet::new();
        if self.held.is_empty() {
            return changed;
        }
        let taken: HashSet<IpAddr> = pool.endpoints.iter().map(|endpoint| endpoint.address).collect();
        for (id, held) in self.held.iter_mut().filter(|(id, _)| **id != pool.id) {
            let endpoints = &mut held.content.endpoints;
            if endpoints.iter().any(|endpoint| taken.contains(&endpoint.address)) {
                *endpoints = endpoints.iter().filter(|it| !taken.contains(&it.address)).cloned().collect();
                changed.insert(id.clone());
            }
        }
        self.held.retain(|_, held| !held.content.endpoints.is_empty());
        changed
    }

    /// Ends the holds whose time is over.
    pub fn expire(&mut self, now: SystemTime) -> BTreeSet<PoolId> {
        let over: BTreeSet<PoolId> =
            self.held.iter().filter(|(_, held)| held.until <= now).map(|(id, _)| id.clone()).collect();
        self.held.retain(|id, _| !over.contains(id));
        over
    }

    /// The wall clock was set: all times that are remembered move with it. Gives the ids of the pools with a hold.
    pub fn clock_jumped(&mut self, jump: Jump) -> BTreeSet<PoolId> {
        self.status.synced_at = self.status.synced_at.map(|at| jump.of(at));
        for (since, _) in self.status.lost.values_mut() {
            *since = jump.of(*since);
        }
        for held in self.held.values_mut() {
            (held.since, held.until) = (jump.of(held.since), jump.of(held.until));
        }
        self.held.keys().cloned().collect()
    }

    /// When the next hold's time is over.
    pub fn next_expiry(&self) -> Option<SystemTime> {
        self.held.values().map(|held| held.until).min()
    }

    /// A pool with what is held of it; `None` where there is neither.
    pub fn content(&self, id: &PoolId) -> Option<PoolContent> {
        match (self.live.get(id), self.held.get(id)) {
            (Some(live), None) => Some(live.clone()),
            (None, Some(held)) => Some(held.content.clone()),
            (Some(live), Some(held)) => {
                let kept = held.content.endpoints.iter();
                let kept = kept.filter(|it| live.endpoints.iter().all(|live| live.key() != it.key()));
                let mut endpoints: Vec<Endpoint> = live.endpoints.iter().chain(kept).cloned().collect();
                sort(&mut endpoints);
                Some(PoolContent { endpoints: endpoints.into(), ..live.clone() })
            }
            (None, None) => None,
        }
    }

    /// Whether a pool of this id could be its.
    pub fn may_have(&self, id: &PoolId) -> bool {
        may_have(self.prefix.as_deref(), id.as_str())
    }

    /// The hold of a pool.
    pub fn held(&self, id: &PoolId) -> Option<&Held> {
        self.held.get(id)
    }

    /// All holds.
    pub fn all_held(&self) -> impl Iterator<Item = &Held> {
        self.held.values()
    }

    /// What the source said last, without what is held.
    pub fn all_live(&self) -> impl Iterator<Item = &PoolContent> {
        self.live.values()
    }

    fn is_unheard(&self, pool: &PoolContent) -> bool {
        pool.relayed.as_deref().is_some_and(|it| it.origins.iter().any(|origin| self.unheard.contains(origin)))
    }

    fn ids(&self) -> BTreeSet<PoolId> {
        self.live.keys().chain(self.held.keys()).cloned().collect()
    }
}

/// The pool that has each address; `None` for an address that several have.
fn owners_of(live: &HashMap<PoolId, PoolContent>) -> HashMap<IpAddr, Option<&PoolId>> {
    let mut owners = HashMap::new();
    for pool in live.values() {
        for endpoint in pool.endpoints.iter() {
            let owner = owners.entry(endpoint.address).or_insert(Some(&pool.id));
            if *owner != Some(&pool.id) {
                *owner = None;
            }
        }
    }
    owners
}

/// Whether a source with this prefix could have a pool of this id.
pub(super) fn may_have(prefix: Option<&str>, id: &str) -> bool {
    prefix.is_none_or(|prefix| id.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/')))
}

// === impl Status ===

impl Status {
    /// Whether everything is as it was said to be.
    pub fn is_fresh(&self) -> bool {
        self.loaded && self.lost.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const HOLD: HoldConfig = HoldConfig { max_drop_percent: 50, max_age: Duration::from_secs(600) };

    fn pool(id: &str, addresses: &[u8]) -> PoolContent {
        let endpoint = |last: &u8| Endpoint::new(IpAddr::from([10, 0, 0, *last]), 80);
        PoolContent {
            id: PoolId::parse(id).unwrap(),
            endpoints: addresses.iter().map(endpoint).collect(),
            namespace: None,
            labels: Arc::default(),
            relayed: None,
        }
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn shard(pools: Vec<PoolContent>) -> Shard {
        let mut shard = Shard::new("east".into(), None);
        shard.apply(Update::Reset(pools), HOLD, at(0));
        shard
    }

    fn last_bytes(shard: &Shard, id: &str) -> Option<Vec<String>> {
        let content = shard.content(&PoolId::parse(id).unwrap())?;
        Some(content.endpoints.iter().map(|it| it.address.to_string().replace("10.0.0.", "")).collect())
    }

    #[test]
    fn a_live_event_empties_a_pool_and_a_list_does_not() {
        let mut live = shard(vec![pool("a", &[1, 2])]);
        live.apply(Update::Add(pool("a", &[])), HOLD, at(1));
        assert_eq!(last_bytes(&live, "a").unwrap(), [""; 0]);
        let mut listed = shard(vec![pool("a", &[1, 2])]);
        listed.apply(Update::Reset(vec![pool("a", &[])]), HOLD, at(1));
        assert_eq!(last_bytes(&listed, "a").unwrap(), ["1", "2"]);
        listed.apply(Update::Add(pool("a", &[])), HOLD, at(2));
        assert_eq!(last_bytes(&listed, "a").unwrap(), [""; 0], "the first live event ends the hold");
    }

    #[test]
    fn a_held_address_is_given_up_when_another_pool_gets_it() {
        let mut shard = shard(vec![pool("a", &[1, 2]), pool("b", &[3])]);
        shard.apply(Update::Reset(vec![pool("b", &[3])]), HOLD, at(1));
        assert_eq!(last_bytes(&shard, "a").unwrap(), ["1", "2"]);
        let changed = shard.apply(Update::Add(pool("b", &[3, 2])), HOLD, at(2));
        assert_eq!(last_bytes(&shard, "a").unwrap(), ["1"]);
        assert_eq!(changed.len(), 2);
        shard.apply(Update::Add(pool("c", &[1])), HOLD, at(3));
        assert_eq!(last_bytes(&shard, "a"), None);
    }

    #[test]
    fn a_list_gives_only_the_pools_that_differ_and_those_whose_hold_does() {
        let mut shard = shard(vec![pool("a", &[1]), pool("b", &[2]), pool("c", &[3]), pool("d", &[4])]);
        let changed = |shard: &mut Shard, pools, now| {
            let changed = shard.apply(Update::Reset(pools), HOLD, now);
            changed.iter().map(|id| id.as_str().to_owned()).collect::<Vec<_>>()
        };
        let again = vec![pool("a", &[1]), pool("b", &[2]), pool("c", &[3]), pool("d", &[4])];
        assert_eq!(changed(&mut shard, again, at(1)), [""; 0]);
        let next = vec![pool("a", &[1]), pool("b", &[2, 5]), pool("d", &[]), pool("e", &[6])];
        assert_eq!(changed(&mut shard, next, at(2)), ["b", "c", "d", "e"], "c and d are held, whose content stays");
        let next = vec![pool("a", &[1]), pool("b", &[2, 5]), pool("d", &[4]), pool("e", &[6])];
        assert_eq!(changed(&mut shard, next, at(3)), ["d"], "the hold of d is over, and that of c goes on");
    }

    #[test]
    fn a_hold_ends_at_its_time() {
        let mut shard = shard(vec![pool("a", &[1])]);
        shard.apply(Update::Reset(vec![]), HOLD, at(10));
        assert_eq!(shard.next_expiry(), Some(at(610)));
        assert!(shard.expire(at(609)).is_empty());
        assert_eq!(shard.expire(at(610)).len(), 1);
        assert_eq!((last_bytes(&shard, "a"), shard.next_expiry()), (None, None));
    }

    #[test]
    fn a_hold_lasts_as_long_as_it_was_to_although_the_wall_clock_is_set() {
        for jump in [Jump::Forward(Duration::from_secs(86_400)), Jump::Back(Duration::from_secs(5_000))] {
            let mut shard = shard(vec![pool("a", &[1])]);
            shard.contact(Watched::Endpoints, at(9_000));
            shard.apply(Update::Reset(vec![]), HOLD, at(10_000));
            shard.lost(Watched::Endpoints, "gone".into(), at(10_001));
            assert_eq!(shard.clock_jumped(jump).len(), 1);
            assert!(shard.expire(jump.of(at(10_599))).is_empty(), "{jump:?}");
            assert_eq!(shard.expire(jump.of(at(10_600))).len(), 1, "{jump:?}");
            assert_eq!(shard.status().synced_at, Some(jump.of(at(9_000))));
            assert_eq!(shard.status().lost[&Watched::Endpoints].0, jump.of(at(10_001)));
        }
    }

    #[test]
    fn an_endpoint_that_comes_back_is_live_and_no_longer_held() {
        let mut shard = shard(vec![pool("a", &[1, 2, 3])]);
        shard.apply(Update::Reset(vec![pool("a", &[1])]), HOLD, at(1));
        assert_eq!(last_bytes(&shard, "a").unwrap(), ["1", "2", "3"]);
        shard.apply(Update::Reset(vec![pool("a", &[1, 2])]), HOLD, at(2));
        assert_eq!(last_bytes(&shard, "a").unwrap(), ["1", "2"]);
    }

    #[test]
    fn a_fault_makes_a_shard_stale_and_empties_nothing() {
        let mut shard = shard(vec![pool("a", &[1])]);
        shard.contact(Watched::Endpoints, at(5));
        assert!(shard.status().is_fresh());
        shard.lost(Watched::Endpoints, "refused".into(), at(6));
        shard.lost(Watched::Endpoints, "refused again".into(), at(9));
        assert_eq!(shard.status().lost[&Watched::Endpoints], (at(6), "refused again".to_owned()));
        assert_eq!(shard.status().synced_at, Some(at(5)));
        assert_eq!(last_bytes(&shard, "a").unwrap(), ["1"]);
        assert!(shard.contact(Watched::Endpoints, at(12)));
        assert!(shard.status().is_fresh());
    }

    #[test]
    fn what_a_former_life_kept_is_served_as_stale_and_guards_the_first_list() {
        let mut shard = Shard::new("east".into(), None);
        assert!(!shard.status().loaded);
        shard.restore(vec![pool("a", &[1, 2])], vec![], at(0), at(100));
        assert!(shard.status().loaded && !shard.status().is_fresh());
        shard.apply(Update::Reset(vec![]), HOLD, at(101));
        assert_eq!(last_bytes(&shard, "a").unwrap(), ["1", "2"]);
    }
}
