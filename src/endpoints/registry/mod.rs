//! All shards and joins, and the snapshot that follows from them. Pure: clock and events come in, snapshots come out.

mod hosts;
mod origins;
mod publish;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::clock::Jump;
use super::config::HoldConfig;
use super::guard::Held;
use super::hosts::{Claim, Owners};
use super::join::Join;
use super::metrics::RegistryMetrics;
use super::pool::{Endpoint, EndpointKey, PoolContent, PoolId};
use super::shard::Shard;
use super::snapshot::{ShardState, Snapshot};
use super::update::{JoinUpdate, SourceEvent, Watched};

/// Merges what sources say and publishes what follows from it.
#[derive(Debug)]
pub struct Registry {
    shards: Vec<Shard>,
    hold: HoldConfig,
    zone: Option<Arc<str>>,
    /// Whose each source's pool is.
    owners: HashMap<PoolId, usize>,
    joins: BTreeMap<PoolId, Join>,
    /// Which shard's policies made each join; none made those of the configuration.
    join_owners: HashMap<PoolId, usize>,
    /// The sources of hubs, each with its hub's shard: their places come after those of the shards, and stay.
    origins: Vec<(usize, Arc<str>)>,
    /// The joins of each member.
    dependents: HashMap<PoolId, BTreeSet<PoolId>>,
    /// What may differ from the snapshot.
    dirty: BTreeSet<PoolId>,
    status_dirty: bool,
    /// The namespace that has each host.
    host_owners: Owners,
    hosts_dirty: bool,
    urgent: bool,
    published: Arc<Snapshot>,
    metrics: RegistryMetrics,
}

/// A publication.
#[derive(Clone, Debug)]
pub struct Published {
    /// What is to be read from now on.
    pub snapshot: Arc<Snapshot>,
    /// Pools whose content changed, came or went.
    pub changed: Vec<PoolId>,
    /// Whether some shard became fresh or stale, or a hold began or ended.
    pub status_changed: bool,
}

/// What a shard is written down as, for a start without its source.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Kept {
    /// The shard's name.
    pub name: Arc<str>,
    /// When it was last true.
    pub synced_at: SystemTime,
    /// What its source said last.
    pub live: Vec<PoolContent>,
    /// What was held.
    pub held: Vec<Held>,
    /// What its policies made.
    pub joins: Vec<Join>,
    /// A hub's sources, by name and prefix.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub origins: Vec<(Arc<str>, Option<Arc<str>>)>,
    /// The hosts that it claimed; `None` where it had not told of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hosts: Option<Vec<Claim>>,
    /// Those of all shards with the namespace that had each; the same in every shard.
    #[serde(default, skip_serializing_if = "Owners::is_empty")]
    pub host_owners: Owners,
}

// === impl Registry ===

impl Registry {
    /// A registry of shards that have not said anything yet, and of the configuration's joins.
    pub fn new(shards: Vec<Shard>, joins: Vec<Join>, hold: HoldConfig, zone: Option<Arc<str>>) -> Self {
        // Before anything is published it must be known who has not spoken yet: no pool is no answer.
        let published = Snapshot { shards: shards.iter().map(ShardState::of).collect(), ..Snapshot::default() };
        let mut registry = Self {
            shards,
            hold,
            zone,
            owners: HashMap::new(),
            joins: BTreeMap::new(),
            join_owners: HashMap::new(),
            origins: Vec::new(),
            dependents: HashMap::new(),
            dirty: BTreeSet::new(),
            status_dirty: true,
            host_owners: Owners::new(),
            hosts_dirty: true,
            urgent: true,
            published: Arc::new(published),
            metrics: RegistryMetrics::register(),
        };
        for join in joins {
            registry.put_join(join, None);
        }
        registry
    }

    /// The last publication.
    pub fn published(&self) -> &Arc<Snapshot> {
        &self.published
    }

    /// Takes in what a source says.
    pub fn apply(&mut self, shard: usize, event: SourceEvent, now: SystemTime) {
        match event {
            SourceEvent::Pools(updates) => {
                for update in updates {
                    let Some(source) = self.shards.get_mut(shard) else { return };
                    let changed = source.apply(update, self.hold, now);
                    self.status_dirty = true;
                    self.touch(shard, changed);
                }
            }
            SourceEvent::Joins(updates) => updates.into_iter().for_each(|update| self.apply_join(shard, update)),
            SourceEvent::Hosts(of, claims) => self.apply_hosts(shard, of, claims),
            SourceEvent::Contact(what) => {
                let Some(source) = self.shards.get_mut(shard) else { return };
                if source.contact(what, now) {
                    tracing::info!(source = &*source.name, ?what, "in step with the source again");
                }
                self.status_dirty = true;
            }
            SourceEvent::Lost(what, why) => {
                let Some(source) = self.shards.get_mut(shard) else { return };
                let known = source.status().lost.contains_key(&what);
                if !known {
                    tracing::warn!(
                        source = &*source.name,
                        ?what,
                        why,
                        "out of step with the source; what is known is kept"
                    );
                }
                source.lost(what, why, now);
                self.metrics.lost(&source.name);
                self.status_dirty = true;
            }
            SourceEvent::Origins(origins) => self.apply_origins(shard, origins, now),
            SourceEvent::Hubs(hubs) => {
                let Some(source) = self.shards.get_mut(shard) else { return };
                source.set_hubs(hubs);
                self.status_dirty = true;
            }
        }
    }

    /// Ends holds whose time is over.
    pub fn expire(&mut self, now: SystemTime) {
        for shard in 0..self.shards.len() {
            let over = self.shards.get_mut(shard).map(|it| it.expire(now)).unwrap_or_default();
            self.touch(shard, over);
        }
    }

    /// The wall clock was set.
    pub fn clock_jumped(&mut self, jump: Jump) {
        tracing::warn!(?jump, "the wall clock was set; what is held or stale is so for as long as before");
        for shard in 0..self.shards.len() {
            let held = self.shards.get_mut(shard).map(|it| it.clock_jumped(jump)).unwrap_or_default();
            self.touch(shard, held);
        }
        self.status_dirty = true;
    }

    /// When the next hold's time is over.
    pub fn next_expiry(&self) -> Option<SystemTime> {
        self.shards.iter().filter_map(Shard::next_expiry).min()
    }

    /// Whether there is something to publish.
    pub fn is_dirty(&self) -> bool {
        !self.dirty.is_empty() || self.status_dirty || self.hosts_dirty
    }

    /// Whether pools may have changed since the last publication, and not only how fresh they are.
    pub fn has_changes(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Whether an endpoint has stopped taking requests since the last publication: that must not wait.
    pub fn is_urgent(&self) -> bool {
        self.urgent
    }

    /// Puts in what a former life kept of a shard.
    pub fn restore(&mut self, kept: Kept, now: SystemTime) {
        let Some(at) = self.shards.iter().position(|shard| shard.name == kept.name) else { return };
        let ids: BTreeSet<PoolId> = kept
            .live
            .iter()
            .map(|pool| pool.id.clone())
            .chain(kept.held.iter().map(|held| held.content.id.clone()))
            .collect();
        if let Some(shard) = self.shards.get_mut(at) {
            shard.restore(kept.live, kept.held, kept.synced_at, now);
        }
        self.restore_origins(at, kept.origins, kept.synced_at);
        self.restore_hosts(at, kept.hosts, kept.host_owners);
        self.touch(at, ids);
        for join in kept.joins {
            self.put_join(join, Some(at));
        }
    }

    /// What is to be written down for a start without sources: of shards that have something.
    pub fn keep(&self) -> Vec<Kept> {
        let kept = |(at, shard): (usize, &Shard)| {
            let of_shard = self.joins.values().filter(|join| self.join_owners.get(&join.id) == Some(&at));
            Some(Kept {
                name: shard.name.clone(),
                synced_at: shard.status().synced_at?,
                live: shard.all_live().cloned().collect(),
                held: shard.all_held().cloned().collect(),
                joins: of_shard.cloned().collect(),
                hosts: shard.hosts.is_heard().then(|| shard.hosts.claims().cloned().collect()),
                host_owners: self.host_owners.clone(),
                origins: shard.origins().sources.iter().map(|it| (it.name.clone(), it.prefix.clone())).collect(),
            })
        };
        self.shards.iter().enumerate().filter_map(kept).collect()
    }

    /// Notes that pools of a shard may have changed, and settles whose they are.
    fn touch(&mut self, shard: usize, ids: BTreeSet<PoolId>) {
        for id in ids {
            if self.joins.contains_key(&id) {
                tracing::error!(
                    pool = id.as_str(),
                    "a source has a pool of this id, which is joined from others here; that one is kept"
                );
                self.metrics.collision();
            }
            let has = |at: usize| self.shards.get(at).is_some_and(|it| it.content(&id).is_some());
            let owner = self.owners.get(&id).copied().filter(|owner| has(*owner));
            let owner = owner.or_else(|| (0..self.shards.len()).find(|at| has(*at)));
            match owner {
                Some(owner) if owner != shard => {
                    self.warn_of_collision(&id, owner, shard);
                    self.owners.insert(id.clone(), owner);
                }
                Some(owner) => {
                    self.owners.insert(id.clone(), owner);
                }
                None => {
                    self.owners.remove(&id);
                }
            }
            self.mark(id);
        }
    }

    fn warn_of_collision(&self, id: &PoolId, owner: usize, other: usize) {
        let name = |at: usize| self.shards.get(at).map(|shard| shard.name.clone()).unwrap_or_default();
        if self.shards.get(other).is_some_and(|shard| shard.content(id).is_some()) {
            tracing::error!(
                pool = id.as_str(),
                kept = &*name(owner),
                refused = &*name(other),
                "two sources have a pool of this id"
            );
            self.metrics.collision();
        }
    }

    fn mark(&mut self, id: PoolId) {
        self.urgent = self.urgent || self.loses_ready(&id);
        if let Some(dependents) = self.dependents.get(&id) {
            self.dirty.extend(dependents.iter().cloned());
        }
        self.dirty.insert(id);
    }

    /// Whether an endpoint that is published as ready no longer is.
    fn loses_ready(&self, id: &PoolId) -> bool {
        let Some(pool) = self.published.pools.get(id) else { return false };
        let Some(now) = self.owners.get(id).and_then(|owner| self.shards.get(*owner)?.content(id)) else { return true };
        if Arc::ptr_eq(&now.endpoints, &pool.endpoints) {
            return false;
        }
        let ready: BTreeSet<EndpointKey> = now.endpoints.iter().filter(|it| it.is_ready()).map(Endpoint::key).collect();
        pool.endpoints.iter().any(|endpoint| endpoint.is_ready() && !ready.contains(&endpoint.key()))
    }

    fn apply_join(&mut self, shard: usize, update: JoinUpdate) {
        match update {
            JoinUpdate::Reset(joins) => {
                if let Some(source) = self.shards.get_mut(shard) {
                    source.told(Watched::Policies);
                    self.status_dirty = true;
                }
                let named: BTreeSet<&PoolId> = joins.iter().map(|join| &join.id).collect();
                let of_shard = self.join_owners.iter().filter(|(_, owner)| **owner == shard).map(|(id, _)| id);
                let gone: Vec<PoolId> = of_shard.filter(|id| !named.contains(id)).cloned().collect();
                gone.iter().for_each(|id| self.take_join(id, shard));
                joins.into_iter().for_each(|join| self.put_join(join, Some(shard)));
            }
            JoinUpdate::Add(join) => self.put_join(join, Some(shard)),
            JoinUpdate::Remove(id) => self.take_join(&id, shard),
        }
    }

    fn put_join(&mut self, join: Join, shard: Option<usize>) {
        let owner = self.joins.contains_key(&join.id).then(|| self.join_owners.get(&join.id).copied());
        if owner.is_some_and(|owner| owner != shard) {
            tracing::error!(
                pool = join.id.as_str(),
                "two configurations or policies make a pool of this id; the first is kept"
            );
            self.metrics.collision();
            return;
        }
        self.unlink(&join.id);
        for member in join.pools() {
            self.dependents.entry(member.clone()).or_default().insert(join.id.clone());
        }
        if let Some(shard) = shard {
            self.join_owners.insert(join.id.clone(), shard);
        }
        self.urgent = true;
        self.dirty.insert(join.id.clone());
        self.joins.insert(join.id.clone(), join);
    }

    fn take_join(&mut self, id: &PoolId, shard: usize) {
        if self.join_owners.get(id) == Some(&shard) {
            self.unlink(id);
            self.join_owners.remove(id);
            self.joins.remove(id);
            self.urgent = true;
            self.dirty.insert(id.clone());
        }
    }

    fn unlink(&mut self, id: &PoolId) {
        for member in self.joins.get(id).into_iter().flat_map(Join::pools) {
            if let Some(dependents) = self.dependents.get_mut(member) {
                dependents.remove(id);
                if dependents.is_empty() {
                    self.dependents.remove(member);
                }
            }
        }
    }
}

// === impl ShardState ===

impl ShardState {
    fn of(shard: &Shard) -> Self {
        Self { name: shard.name.clone(), prefix: shard.prefix.clone(), status: shard.status().clone() }
    }
}

#[cfg(test)]
mod tests;
