//! What `/debug/pools` shows: sources, pools and gateways, who is held or stale, since when and why.

use std::sync::Arc;
use std::time::SystemTime;

use serde_json::{Value, json};

use super::api::Api;
use super::iso;
use super::truth::Truth;
use crate::endpoints::pool::Pool;
use crate::endpoints::{ShardState, Snapshot};

/// Pools that a page can show; the number of all stands beside it. Those that are held stand in a list of their own, in
/// which none is lost among thousands of others.
const MAX_POOLS: usize = 2_000;

/// The state now.
pub(super) fn report(api: &Api) -> Value {
    let snapshot = api.snapshot.load();
    json!({
        "index": format!("{}:{}", api.boot, snapshot.revision()),
        "sources": sources(&snapshot),
        "holds_total": snapshot.held().count(),
        "holds": snapshot.held().take(MAX_POOLS).filter_map(|pool| hold(pool, &snapshot)).collect::<Vec<_>>(),
        "pools_total": snapshot.len(),
        "pools": pools(&snapshot),
        "waiting_requests": api.clients.waiting(),
        "gateways": api.gateways.report(&snapshot, SystemTime::now(), |_| true),
        "relays": api.gateways.relays_report(SystemTime::now()),
    })
}

fn sources(snapshot: &Snapshot) -> Vec<Value> {
    let source = |shard: &ShardState| {
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

/// Who is held, since when and why.
fn hold(pool: &Pool, snapshot: &Snapshot) -> Option<Value> {
    let hold = pool.hold.as_ref()?;
    Some(json!({
        "pool": pool.id.as_str(),
        "sources": sources_of(pool, snapshot),
        "since": iso(hold.since),
        "until": iso(hold.until),
        "endpoints": hold.endpoints,
        "why": &*hold.why,
    }))
}

fn sources_of<'a>(pool: &Pool, snapshot: &'a Snapshot) -> Vec<&'a str> {
    pool.shards.iter().filter_map(|at| snapshot.shards().get(*at)).map(|shard| &*shard.name).collect()
}

fn pools(snapshot: &Snapshot) -> Vec<Value> {
    let pool = |pool: &Arc<Pool>| {
        let truth = Truth::of(pool, snapshot);
        json!({
            "id": pool.id.as_str(),
            "state": truth.state.name(),
            "reason": truth.reason.map(|reason| reason.to_string()),
            "synced_at": truth.synced_at.map(iso),
            "ready": pool.ready(),
            "draining": pool.endpoints.len() - pool.ready(),
            "changed_in_revision": pool.revision,
            "traffic_generation": pool.traffic_generation,
            "hold": hold(pool, snapshot),
        })
    };
    snapshot.pools().take(MAX_POOLS).map(pool).collect()
}
