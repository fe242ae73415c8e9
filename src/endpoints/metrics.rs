//! The registry's metrics, registered once.

use std::time::{SystemTime, UNIX_EPOCH};

use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};

use super::pool::PoolId;
use super::snapshot::Snapshot;

/// Handles of the registry.
#[derive(Debug)]
pub(super) struct RegistryMetrics {
    revision: Gauge,
    pools: Gauge,
    publications: Counter,
    changes: Counter,
    collisions: Counter,
    hosts: Gauge,
    host_conflicts: Gauge,
}

// === impl RegistryMetrics ===

impl RegistryMetrics {
    pub(super) fn register() -> Self {
        describe_gauge!("tidegate_discovery_revision", "Publications with a change of some pool's content");
        describe_gauge!("tidegate_discovery_pools", "Pools now");
        describe_gauge!("tidegate_discovery_hosts", "Hosts and paths that lead to a pool, now");
        describe_gauge!("tidegate_discovery_host_conflicts", "Claims of a host that another has, now");
        describe_gauge!("tidegate_discovery_held_endpoints", "Endpoints that their source no longer names, now");
        describe_gauge!("tidegate_discovery_held_since_timestamp_seconds", "When the oldest hold began; 0 for none");
        describe_gauge!("tidegate_discovery_source_synced", "1 while what is served of a source is known to be true");
        describe_gauge!("tidegate_discovery_source_synced_timestamp_seconds", "When it was last known to be true");
        describe_gauge!(
            "tidegate_discovery_source_lost_since_timestamp_seconds",
            "Since when it is not known to be true; 0 while it is"
        );
        describe_counter!("tidegate_discovery_publications_total", "Snapshots swapped in");
        describe_counter!("tidegate_discovery_pool_changes_total", "Changes of a pool's content");
        describe_counter!("tidegate_discovery_source_lost_total", "Lists and watches that failed, by source");
        describe_counter!("tidegate_discovery_collisions_total", "Pools refused because another has their id");
        Self {
            revision: gauge!("tidegate_discovery_revision"),
            pools: gauge!("tidegate_discovery_pools"),
            publications: counter!("tidegate_discovery_publications_total"),
            changes: counter!("tidegate_discovery_pool_changes_total"),
            collisions: counter!("tidegate_discovery_collisions_total"),
            hosts: gauge!("tidegate_discovery_hosts"),
            host_conflicts: gauge!("tidegate_discovery_host_conflicts"),
        }
    }

    pub(super) fn lost(&self, source: &str) {
        counter!("tidegate_discovery_source_lost_total", "cluster" => source.to_owned()).increment(1);
    }

    pub(super) fn collision(&self) {
        self.collisions.increment(1);
    }

    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float; 53 bits of a revision are exact")]
    pub(super) fn published(&self, snapshot: &Snapshot, changed: &[PoolId]) {
        self.revision.set(snapshot.revision() as f64);
        self.pools.set(number(snapshot.len()));
        self.hosts.set(number(snapshot.hosts().granted.len()));
        self.host_conflicts.set(number(snapshot.hosts().conflicts.len()));
        self.publications.increment(1);
        self.changes.increment(changed.len() as u64);
        for (at, shard) in snapshot.shards().iter().enumerate() {
            let status = &shard.status;
            let set = |name: &'static str, value: f64| gauge!(name, "cluster" => shard.name.to_string()).set(value);
            set("tidegate_discovery_source_synced", if status.is_fresh() { 1.0 } else { 0.0 });
            if let Some(synced_at) = status.synced_at {
                set("tidegate_discovery_source_synced_timestamp_seconds", seconds(Some(synced_at)));
            }
            let lost_since = status.lost.values().map(|(since, _)| *since).min();
            set("tidegate_discovery_source_lost_since_timestamp_seconds", seconds(lost_since));
            let holds =
                || snapshot.held().filter(|pool| pool.shards.contains(&at)).filter_map(|pool| pool.hold.as_ref());
            set("tidegate_discovery_held_endpoints", number(holds().map(|hold| hold.endpoints).sum()));
            set("tidegate_discovery_held_since_timestamp_seconds", seconds(holds().map(|hold| hold.since).min()));
        }
    }
}

/// As Prometheus has times; 0 for none.
fn seconds(at: Option<SystemTime>) -> f64 {
    at.and_then(|at| at.duration_since(UNIX_EPOCH).ok()).map_or(0.0, |since| since.as_secs_f64())
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
fn number(count: usize) -> f64 {
    count as f64
}
