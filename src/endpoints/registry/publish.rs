//! The next snapshot, made from the last one and from what may have changed.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Published, Registry};
use crate::endpoints::join::{self, Join};
use crate::endpoints::matched;
use crate::endpoints::pool::{Hold, Pool, PoolId, Renderings};
use crate::endpoints::snapshot::{ShardState, Snapshot};

impl Registry {
    /// Makes and gives the next snapshot, if anything differs. Its cost is that of the pools that may have changed.
    pub fn publish(&mut self) -> Option<Published> {
        if !self.is_dirty() {
            return None;
        }
        let mut next = Snapshot::clone(&self.published);
        let revision = next.revision + 1;
        let mut changed = Vec::new();
        let mut status_changed = false;
        let (joined, plain): (Vec<PoolId>, Vec<PoolId>) =
            std::mem::take(&mut self.dirty).into_iter().partition(|id| self.joins.contains_key(id));
        // Members first: a joined pool is made from what they are in this snapshot.
        for id in plain.into_iter().chain(joined) {
            let pool = match self.joins.get(&id) {
                Some(join) => Some(self.joined(join, &next)),
                None => self.plain(&id),
            };
            note_hold(&mut next, &id, pool.as_ref().filter(|_| !self.joins.contains_key(&id)));
            let before = next.pools.get(&id).cloned();
            status_changed |= hold_of(before.as_deref()) != hold_of(pool.as_ref());
            if put(&mut next, &id, before.as_deref(), pool, revision) {
                changed.push(id);
            }
        }
        let (hosts_changed, hosts_settled) = self.publish_hosts(&mut next, revision);
        if !changed.is_empty() || hosts_changed {
            next.revision = revision;
            next.journal.note(revision, &changed, &next.pools);
        }
        status_changed |= hosts_settled;
        let shards = self.shard_states();
        let differs = |(one, other): (&ShardState, &ShardState)| {
            one.status.loaded != other.status.loaded || one.status.lost != other.status.lost
        };
        status_changed |= shards.iter().zip(next.shards.iter()).any(differs) || next.shards.len() != shards.len();
        next.shards = shards;
        next.hubs = self.hubs();
        next.publication += 1;
        self.status_dirty = false;
        self.urgent = false;
        self.published = Arc::new(next);
        self.metrics.published(&self.published, &changed);
        Some(Published { snapshot: self.published.clone(), changed, status_changed })
    }

    fn plain(&self, id: &PoolId) -> Option<Pool> {
        let owner = *self.owners.get(id)?;
        let shard = self.shards.get(owner)?;
        let content = shard.content(id)?;
        let hold = shard.held(id).map(|held| Hold {
            why: format!("a new list of {} lacks endpoints that were ready", shard.name).into(),
            since: held.since,
            until: held.until,
            endpoints: held.content.endpoints.len(),
        });
        let relayed = content.relayed.as_deref();
        let shards = relayed.map(|relayed| self.places_of(owner, &relayed.origins)).unwrap_or_default();
        Some(Pool {
            id: id.clone(),
            endpoints: content.endpoints,
            matched: relayed.map(|relayed| relayed.matched.clone()).unwrap_or_default(),
            traffic_generation: relayed.and_then(|relayed| relayed.traffic_generation),
            namespace: content.namespace,
            labels: content.labels,
            shards: if shards.is_empty() { [owner].into() } else { shards },
            hold: hold.or_else(|| shard.origins().holds.get(id).cloned()),
            revision: 0,
            renderings: Renderings::default(),
        })
    }

    fn joined(&self, join: &Join, next: &Snapshot) -> Pool {
        // A joined pool is no member: there is no order in which a circle could be made.
        let member = |id: &PoolId| next.pools.get(id).filter(|_| !self.joins.contains_key(id));
        let endpoints =
            join::endpoints(join, self.zone.as_deref(), |id| member(id).map(|pool| pool.endpoints.as_ref()));
        let matched = matched::parts(&join.matched, |id| member(id).map(|pool| pool.endpoints.clone()));
        let members = || join.pools().map(|id| (id, member(id)));
        let shards: BTreeSet<usize> =
            members().flat_map(|(id, pool)| self.shards_of(id, pool.map(|it| &**it))).collect();
        Pool {
            id: join.id.clone(),
            endpoints: endpoints.into(),
            matched,
            traffic_generation: join.traffic_generation,
            namespace: join.namespace.clone(),
            labels: Arc::default(),
            shards: shards.into_iter().collect(),
            hold: members().find_map(|(_, pool)| pool?.hold.clone()),
            revision: 0,
            renderings: Renderings::default(),
        }
    }

    /// The shards that a member comes from, or could come from.
    fn shards_of(&self, id: &PoolId, pool: Option<&Pool>) -> Vec<usize> {
        match pool {
            Some(pool) => pool.shards.to_vec(),
            None => {
                (0..self.shards.len()).filter(|at| self.shards.get(*at).is_some_and(|it| it.may_have(id))).collect()
            }
        }
    }
}

fn hold_of(pool: Option<&Pool>) -> Option<&Hold> {
    pool.and_then(|pool| pool.hold.as_ref())
}

/// Notes whether a source's pool has held endpoints.
fn note_hold(next: &mut Snapshot, id: &PoolId, pool: Option<&Pool>) {
    if hold_of(pool).is_some() {
        next.held.insert(id.clone());
    } else if !next.held.is_empty() {
        next.held.remove(id);
    }
}

/// Puts a pool, or its absence, into a snapshot in the making. Says whether that changes what gateways see.
fn put(next: &mut Snapshot, id: &PoolId, before: Option<&Pool>, pool: Option<Pool>, revision: u64) -> bool {
    let Some(mut pool) = pool else {
        return next.pools.remove(id).is_some();
    };
    if let Some(before) = before {
        let same = before.same_content(&pool);
        if same {
            // Its body stays, rendered as it is.
            pool.renderings = before.renderings.clone();
        }
        if same && before.same_place(&pool) {
            // Only how true it is may differ.
            pool.revision = before.revision;
            next.pools.insert(id.clone(), Arc::new(pool));
            return false;
        }
        // Another label makes it fit other filters: whoever follows one must hear of it.
    }
    pool.revision = revision;
    next.pools.insert(id.clone(), Arc::new(pool));
    true
}
