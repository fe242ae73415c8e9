//! The table of hosts, from what all shards claim.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Registry;
use crate::endpoints::hosts::{Claim, Claimants, Conflict, HostTable, Owners, settle};
use crate::endpoints::snapshot::Snapshot;

impl Registry {
    pub(super) fn apply_hosts(&mut self, shard: usize, of: Claimants, claims: Vec<Claim>) {
        let Some(source) = self.shards.get_mut(shard) else { return };
        source.hosts.set(of, claims);
        self.hosts_dirty = true;
    }

    /// What a former life knew. The owners are put in for those who still claim.
    pub(super) fn restore_hosts(&mut self, shard: usize, claims: Option<Vec<Claim>>, owners: Owners) {
        let (Some(source), Some(claims)) = (self.shards.get_mut(shard), claims) else { return };
        source.hosts.restore(claims);
        self.host_owners.extend(owners);
        self.hosts_dirty = true;
    }

    /// Settles the hosts anew if a claim may differ. Says whether that changes what gateways see, and whether it changes
    /// anything, as that the last source has told its hosts.
    pub(super) fn publish_hosts(&mut self, next: &mut Snapshot, revision: u64) -> (bool, bool) {
        if !std::mem::take(&mut self.hosts_dirty) {
            return (false, false);
        }
        let unheard = self.shards.iter().filter(|shard| !shard.hosts.is_heard()).map(|shard| shard.name.clone());
        let unheard: Vec<Arc<str>> = unheard.collect();
        // An owner whose source has not spoken yet may still claim what it has.
        let mut owners = self.host_owners.clone();
        let claims = self.shards.iter().flat_map(|shard| shard.hosts.claims());
        let table = HostTable { unheard, ..settle(claims, &mut owners) };
        if table.unheard.is_empty() {
            self.host_owners = owners;
        }
        let before = &self.published.hosts;
        let same = if before.settled { before.tag == table.tag } else { table.is_empty() };
        if same && before.settled && before.unheard == table.unheard {
            return (false, false);
        }
        warn_of_conflicts(&before.conflicts, &table.conflicts);
        next.hosts = Arc::new(HostTable { revision: if same { before.revision } else { revision }, ..table });
        (!same, true)
    }
}

fn warn_of_conflicts(before: &[Conflict], now: &[Conflict]) {
    let known: BTreeSet<&Conflict> = before.iter().collect();
    for Conflict { claim, taken_by } in now.iter().filter(|conflict| !known.contains(conflict)) {
        let (at, pool) = (claim.at.to_string(), claim.pool.as_str());
        tracing::warn!(
            host = at,
            pool,
            taken_by = &**taken_by,
            "a host is claimed that another has; that one keeps it"
        );
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::endpoints::config::HoldConfig;
    use crate::endpoints::hosts::HostPath;
    use crate::endpoints::pool::PoolId;
    use crate::endpoints::shard::Shard;
    use crate::endpoints::update::{SourceEvent, Update, Watched};

    const HOLD: HoldConfig = HoldConfig { max_drop_percent: 50, max_age: Duration::from_secs(600) };
    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    fn claim(at: &str, namespace: &str, since: u64) -> Claim {
        let pool = PoolId::parse(&format!("east/{namespace}/web/http")).unwrap();
        Claim { at: HostPath::parse(at).unwrap(), pool, namespace: Some(namespace.into()), since }
    }

    fn registry() -> Registry {
        let shard = |name: &str| Shard::new(name.into(), Some(name.into())).awaiting_hosts(&[Claimants::Source]);
        let mut registry = Registry::new(vec![shard("east"), shard("west")], Vec::new(), HOLD, None);
        for shard in 0..2 {
            registry.apply(shard, SourceEvent::Pools(vec![Update::Reset(Vec::new())]), NOW);
            registry.apply(shard, SourceEvent::Contact(Watched::Endpoints), NOW);
        }
        registry.publish();
        registry
    }

    fn tell(registry: &mut Registry, shard: usize, claims: &[Claim]) -> bool {
        registry.apply(shard, SourceEvent::Hosts(Claimants::Source, claims.to_vec()), NOW);
        registry.publish().is_some_and(|published| published.status_changed)
    }

    fn owner_of(registry: &Registry, at: usize) -> String {
        registry.published().hosts().granted[at].namespace.as_deref().unwrap().to_owned()
    }

    #[test]
    fn hosts_are_a_revision_of_their_own_and_what_says_the_same_is_none() {
        let mut registry = registry();
        assert_eq!(registry.published().hosts().unheard.len(), 2, "no hosts is no answer yet");
        assert!(tell(&mut registry, 0, &[claim("a.example", "shop", 5)]));
        assert!(tell(&mut registry, 1, &[]));
        let revision = registry.published().revision();
        assert_eq!(registry.published().hosts().revision, revision);
        assert!(!tell(&mut registry, 0, &[claim("a.example", "shop", 5)]));
        assert_eq!(registry.published().revision(), revision);
        assert!(registry.published().changes_since(0).unwrap().changed.is_empty());
    }

    #[test]
    fn a_host_stays_whose_it_is_over_a_restart_with_a_snapshot_file() {
        let mut before = registry();
        tell(&mut before, 0, &[claim("a.example", "shop", 9)]);
        tell(&mut before, 1, &[]);
        tell(&mut before, 1, &[claim("a.example", "thief", 1)]);
        assert_eq!(owner_of(&before, 0), "shop");
        let mut after = registry();
        for kept in before.keep() {
            after.restore(kept, NOW);
        }
        after.publish();
        assert_eq!(owner_of(&after, 0), "shop");
        // The thief's cluster is heard first.
        tell(&mut after, 1, &[claim("a.example", "thief", 1)]);
        assert_eq!((owner_of(&after, 0).as_str(), after.published().hosts().conflicts.len()), ("shop", 1));
    }
}
