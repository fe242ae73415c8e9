//! What `/debug/pools` shows: sources, pools and gateways, who is held or stale, since when and why.

use std::time::SystemTime;

use serde_json::{Value, json};

use super::api::Api;
use super::iso;
use super::truth::Truth;
use crate::endpoints::Snapshot;

/// Pools that a page can show; the number of all stands beside it.
const MAX_POOLS: usize = 2_000;

/// The state now.
pub(super) fn report(api: &Api) -> Value {
    let snapshot = api.snapshot.load();
    json!({
        "index": format!("{}:{}", api.boot, snapshot.revision()),
        "sources": sources(&snapshot),
        "pools_total": snapshot.len(),
        "pools": pools(&snapshot),
        "waiting_requests": api.clients.waiting(),
        "gateways": api.gateways.report(&snapshot, SystemTime::now(), |_| true),
        "relays": api.gateways.relays_report(SystemTime::now()),
    })
}

fn sources(snapshot: &Snapshot) -> Vec<Value> {
    let source = |shard: &crate::endpoints::ShardState| {
        let status = &shard.status;
        let lost = status.lost.iter().map(|(what, (since, why))| {
            json!({ "what": format!("{what:?}").to_lowercase(), "since": iso(*since), "why": why })
        });
        json!({
            "name": &*shard.name,
            "state": if status.is_fresh() { "fresh" } else if status.loaded { "stale" } else { "unknown" },
            "synced_at": status.synced_at.map(iso),
            "lost": lost.collect::<Vec<_>>(),
        })
    };
    snapshot.shards().iter().map(source).collect()
}

fn pools(snapshot: &Snapshot) -> Vec<Value> {
    let pool = |pool: &std::sync::Arc<crate::endpoints::pool::Pool>| {
        let truth = Truth::of(pool, snapshot);
        let hold = pool.hold.as_ref().map(|hold| {
            json!({ "why": &*hold.why, "since": iso(hold.since), "until": iso(hold.until), "endpoints": hold.endpoints })
        });
        json!({
            "id": pool.id.as_str(),
            "state": truth.state.name(),
            "synced_at": truth.synced_at.map(iso),
            "ready": pool.ready(),
            "draining": pool.endpoints.len() - pool.ready(),
            "changed_in_revision": pool.revision,
            "traffic_generation": pool.traffic_generation,
            "hold": hold,
        })
    };
    snapshot.pools().take(MAX_POOLS).map(pool).collect()
}
