//! The sources of hubs: each is a shard to whoever reads a snapshot, so that a pool that came through a hub has the
//! cluster and the freshness that it has there.

use std::sync::Arc;
use std::time::SystemTime;

use super::Registry;
use crate::endpoints::shard::{Shard, Status};
use crate::endpoints::snapshot::ShardState;
use crate::endpoints::update::{Origin, Origins};

/// Sources of hubs that are told apart; pools of further ones have the freshness of their hub.
const MAX_ORIGINS: usize = 1_024;

impl Registry {
    pub(super) fn apply_origins(&mut self, shard: usize, origins: Origins, now: SystemTime) {
        for origin in &origins.sources {
            let known = self.origins.iter().any(|(at, name)| *at == shard && *name == origin.name);
            if !known && self.origins.len() < MAX_ORIGINS {
                self.origins.push((shard, origin.name.clone()));
            }
        }
        let Some(source) = self.shards.get_mut(shard) else { return };
        let changed = source.set_origins(origins, now);
        self.touch(shard, changed);
        self.status_dirty = true;
    }

    /// What a former life knew of a hub's sources: all that is kept was loaded, and is as old as the rest.
    pub(super) fn restore_origins(
        &mut self,
        shard: usize,
        kept: Vec<(Arc<str>, Option<Arc<str>>)>,
        synced_at: SystemTime,
    ) {
        let status = Status { loaded: true, synced_at: Some(synced_at), ..Status::default() };
        let sources = kept.into_iter().map(|(name, prefix)| Origin { name, prefix, status: status.clone() });
        self.apply_origins(shard, Origins { sources: sources.collect(), ..Origins::default() }, synced_at);
    }

    /// The places in a snapshot of a hub's sources, by their names; those that are not told apart are left out.
    pub(super) fn places_of(&self, shard: usize, names: &[Arc<str>]) -> Box<[usize]> {
        let place = |name: &Arc<str>| self.origins.iter().position(|(at, known)| *at == shard && known == name);
        let mut places: Vec<usize> = names.iter().filter_map(place).map(|at| self.shards.len() + at).collect();
        places.sort_unstable();
        places.into()
    }

    /// All shards, then the sources of hubs.
    pub(super) fn shard_states(&self) -> Arc<[ShardState]> {
        let own = self.shards.iter().map(ShardState::of);
        let of_hubs = self.origins.iter().enumerate().filter_map(|(place, (at, name))| {
            let hub = self.shards.get(*at)?;
            let origin = hub.origins().sources.iter().find(|origin| origin.name == *name);
            let taken = self.shards.iter().any(|shard| shard.name == *name)
                || self.origins.iter().take(place).any(|(_, other)| other == name);
            let name = if taken { format!("{}/{name}", hub.name).into() } else { name.clone() };
            Some(match origin {
                Some(origin) => {
                    ShardState { name, prefix: origin.prefix.clone(), status: status_through(hub, &origin.status) }
                }
                // The hub no longer has it: nothing is expected of it.
                None => ShardState { name, prefix: None, status: Status { loaded: true, ..Status::default() } },
            })
        });
        own.chain(of_hubs).collect()
    }

    /// The hubs behind all sources.
    pub(super) fn hubs(&self) -> Arc<[Arc<str>]> {
        self.shards.iter().flat_map(Shard::hubs).cloned().collect()
    }
}

/// What is outdated at the hub is outdated here, and so is all of it while the hub itself is lost.
fn status_through(hub: &Shard, origin: &Status) -> Status {
    let mut status = origin.clone();
    status.lost.extend(hub.status().lost.iter().map(|(what, why)| (*what, why.clone())));
    status
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;
    use crate::endpoints::config::HoldConfig;
    use crate::endpoints::pool::{Endpoint, Hold, PoolContent, PoolId, Relayed};
    use crate::endpoints::update::{SourceEvent, Update, Watched};

    const HOLD: HoldConfig = HoldConfig { max_drop_percent: 50, max_age: Duration::from_secs(600) };

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn registry() -> Registry {
        Registry::new(vec![Shard::new("hub".into(), None)], Vec::new(), HOLD, None)
    }

    fn pool(id: &str, origin: &str) -> PoolContent {
        PoolContent {
            id: PoolId::parse(id).unwrap(),
            // Each cluster has addresses of its own.
            endpoints: [Endpoint::new([10, 0, 0, origin.as_bytes()[0]].into(), 80)].into(),
            namespace: None,
            labels: Arc::default(),
            relayed: Some(Arc::new(Relayed {
                traffic_generation: Some(7),
                matched: Arc::default(),
                origins: vec![origin.into()],
            })),
        }
    }

    fn origins(sources: &[(&str, bool, &[&str])]) -> Origins {
        let source = |(name, loaded, lost): &(&str, bool, &[&str])| Origin {
            name: (*name).into(),
            prefix: Some((*name).into()),
            status: Status {
                loaded: *loaded,
                synced_at: Some(at(5)),
                lost: lost.iter().map(|why| (Watched::Endpoints, (at(6), (*why).to_owned()))).collect(),
            },
        };
        Origins { sources: sources.iter().map(source).collect(), holds: BTreeMap::new() }
    }

    /// Tells a list of a hub.
    fn list(registry: &mut Registry, origins: Origins, pools: Vec<PoolContent>, now: SystemTime) {
        registry.apply(0, SourceEvent::Origins(origins), now);
        registry.apply(0, SourceEvent::Pools(vec![Update::Reset(pools)]), now);
        registry.apply(0, SourceEvent::Contact(Watched::Endpoints), now);
        registry.publish();
    }

    /// The shards of a pool, each with whether it is fresh.
    fn shards(registry: &Registry, id: &str) -> Vec<(String, bool)> {
        let snapshot = registry.published();
        let shard = |at: &usize| snapshot.shards().get(*at).map(|it| (it.name.to_string(), it.status.is_fresh()));
        snapshot.pool(id).unwrap().shards.iter().filter_map(shard).collect()
    }

    #[test]
    fn a_pool_through_a_hub_has_the_cluster_the_generation_and_the_freshness_that_it_has_there() {
        let mut registry = registry();
        let told = origins(&[("east", true, &[]), ("west", true, &["refused"])]);
        list(&mut registry, told, vec![pool("east/a", "east"), pool("west/a", "west")], at(10));
        assert_eq!(shards(&registry, "east/a"), [("east".to_owned(), true)]);
        assert_eq!(shards(&registry, "west/a"), [("west".to_owned(), false)]);
        assert_eq!(registry.published().pool("east/a").unwrap().traffic_generation, Some(7));
        assert!(registry.published().is_loaded() && registry.published().knows_absence_of("east/b"));
        registry.apply(0, SourceEvent::Lost(Watched::Endpoints, "the hub is away".into()), at(20));
        registry.publish();
        assert_eq!(shards(&registry, "east/a"), [("east".to_owned(), false)]);
    }

    #[test]
    fn a_hold_at_the_hub_is_one_here_and_changes_no_content() {
        let mut registry = registry();
        list(&mut registry, origins(&[("east", true, &[])]), vec![pool("east/a", "east")], at(10));
        let (revision, id) = (registry.published().revision(), PoolId::parse("east/a").unwrap());
        let mut told = origins(&[("east", true, &[])]);
        told.holds.insert(id, Hold { why: "less".into(), since: at(11), until: at(99), endpoints: 1 });
        registry.apply(0, SourceEvent::Origins(told), at(12));
        let published = registry.publish().unwrap();
        assert!(published.status_changed && published.changed.is_empty());
        assert_eq!(registry.published().pool("east/a").unwrap().hold.as_ref().unwrap().until, at(99));
        registry.apply(0, SourceEvent::Origins(origins(&[("east", true, &[])])), at(13));
        registry.publish();
        assert_eq!(
            (registry.published().pool("east/a").unwrap().hold.is_none(), registry.published().revision()),
            (true, revision)
        );
    }

    #[test]
    fn what_a_restarted_hub_does_not_know_yet_stays_and_is_old_and_then_is_a_list_again() {
        let mut registry = registry();
        let both = || vec![pool("east/a", "east"), pool("west/a", "west")];
        list(&mut registry, origins(&[("east", true, &[]), ("west", true, &[])]), both(), at(10));
        let unheard = origins(&[("east", true, &[]), ("west", false, &[])]);
        list(&mut registry, unheard, vec![pool("east/a", "east")], at(20));
        assert_eq!(shards(&registry, "west/a"), [("west".to_owned(), false)]);
        assert!(registry.published().is_loaded(), "what is known is served");
        assert_eq!(registry.published().held().count(), 0);
        // It says that there is nothing, which is a drop like any other.
        let heard = origins(&[("east", true, &[]), ("west", true, &[])]);
        list(&mut registry, heard, vec![pool("east/a", "east")], at(30));
        assert_eq!(registry.published().held().count(), 1);
    }

    #[test]
    fn what_was_kept_of_a_hub_is_there_after_a_start_without_it() {
        let mut before = registry();
        list(&mut before, origins(&[("east", true, &[])]), vec![pool("east/a", "east")], at(10));
        let mut after = registry();
        for kept in before.keep() {
            after.restore(kept, at(100));
        }
        after.publish();
        assert_eq!(shards(&after, "east/a"), [("east".to_owned(), false)]);
        list(&mut after, origins(&[("east", false, &[])]), Vec::new(), at(110));
        assert_eq!(shards(&after, "east/a"), [("east".to_owned(), false)], "this hub knows less than the file");
    }

    #[test]
    fn a_source_that_a_hub_no_longer_has_is_waited_for_by_nobody() {
        let mut registry = registry();
        list(&mut registry, origins(&[("east", true, &[]), ("west", false, &[])]), Vec::new(), at(10));
        assert!(!registry.published().is_loaded() && !registry.published().knows_absence_of("west/a"));
        list(&mut registry, origins(&[("east", true, &[])]), Vec::new(), at(20));
        assert!(registry.published().is_loaded());
    }
}
