//! What is thought of every pool and endpoint: for the person who asks why a request went where it went.

use std::time::{Instant, SystemTime};

use serde_json::{Value, json};

use super::config::UpstreamProtocol;
use super::host::Out;
use super::life::Member;
use super::pool::{Layout, Pool};
use super::table::Table;
use crate::endpoints::Snapshot;
use crate::endpoints::matched::Matched;

/// Endpoints of one pool that a report shows; their number stands beside it.
const MAX_ENDPOINTS: usize = 1_000;

/// The pools of a table in the order of their ids, beside the snapshot that they follow.
pub(super) fn report(table: &Table, snapshot: &Snapshot, now: Instant) -> Value {
    let mut pools: Vec<_> = table.names.keys().filter_map(|id| table.pool(id.as_str())).collect();
    pools.sort_by(|one, other| one.id().cmp(other.id()));
    json!({
        "revision": table.revision,
        "snapshot_revision": snapshot.revision(),
        "pools": pools.into_iter().map(|pool| of_pool(pool, snapshot, now)).collect::<Vec<_>>(),
    })
}

fn of_pool(pool: &Pool, snapshot: &Snapshot, now: Instant) -> Value {
    let life = &pool.context.life;
    let config = pool.config();
    let total: u128 = pool.rest.weights.iter().map(|weight| u128::from(*weight)).sum();
    let endpoints = (0..).zip(pool.members.iter().zip(&pool.rest.weights)).take(MAX_ENDPOINTS);
    let endpoints: Vec<_> = endpoints
        .map(|(place, (member, weight))| {
            let some_requests = *weight == 0 && pool.serves(place);
            of_endpoint(member, *weight, total, some_requests, pool, now)
        })
        .collect();
    let part = |(part, layout): &(std::sync::Arc<Matched>, Layout)| json!({ "pool": part.pool.as_str(), "match": part.requests, "ready": layout.ready, "panic": layout.panic });
    let protocol = match config.connection.protocol {
        UpstreamProtocol::Auto => "auto",
        UpstreamProtocol::Http1 => "http1",
        UpstreamProtocol::Http2 => "http2",
    };
    json!({
        "id": pool.id().as_str(),
        "known": pool.known,
        "ready": pool.rest.ready,
        "panic": pool.rest.panic,
        "matched": pool.parts.iter().map(part).collect::<Vec<_>>(),
        "balancer": config.balancer.name(),
        "protocol": protocol,
        "tls": config.connection.tls.as_ref().map(|tls| tls.identity().to_string()),
        "health_check": config.health_check.is_some(),
        "requests": life.usage.requests(),
        "adaptive_limit": config.limits.adaptive.map(|adaptive| life.usage.adaptive.get(&adaptive)),
        "retries": life.usage.retries(),
        "connections": life.usage.connections(),
        "pending": life.usage.pending(),
        "sources": sources(pool, snapshot),
        "endpoints_total": pool.members.len(),
        "endpoints": endpoints,
    })
}

/// How fresh the pools are that it is made of.
fn sources(pool: &Pool, snapshot: &Snapshot) -> Vec<Value> {
    let members = pool.config().members.iter().map(|member| &member.pool);
    let own = pool.config().members.is_empty().then(|| pool.id());
    let source = |source: &crate::endpoints::pool::Pool| {
        let shards = source.shards.iter().filter_map(|at| snapshot.shards().get(*at));
        let shards = shards.map(|shard| {
            json!({
                "name": &*shard.name,
                "fresh": shard.status.is_fresh(),
                "synced_at": shard.status.synced_at.map(iso),
                "lost": shard.status.lost.values().map(|(since, why)| format!("since {}: {why}", iso(*since)))
                    .collect::<Vec<_>>(),
            })
        });
        json!({
            "pool": source.id.as_str(),
            "changed_in_revision": source.revision,
            "traffic_generation": source.traffic_generation,
            "held": source.hold.as_ref().map(|hold| format!("until {}: {}", iso(hold.until), hold.why)),
            "shards": shards.collect::<Vec<_>>(),
        })
    };
    members.chain(own).filter_map(|id| snapshot.pool(id.as_str())).map(|pool| source(pool)).collect()
}

fn of_endpoint(member: &Member, weight: u64, total: u128, some_requests: bool, pool: &Pool, now: Instant) -> Value {
    let host = &member.host;
    let life = &member.context.life;
    let (state, why) = match state(member, weight, pool, now) {
        ("standby", _) if some_requests => ("serving", Some("only the requests that match".to_owned())),
        told => told,
    };
    let verdict = host.health.verdict();
    let seconds = |since: Instant| now.saturating_duration_since(since).as_secs_f64();
    let (idle, shared) = host.target.connections();
    let percent = (total > 0).then(|| weight as f64 * 100.0 / total as f64);
    json!({
        "address": member.endpoint.address.to_string(),
        "port": member.endpoint.port,
        "state": state,
        "why": why,
        "weight": member.endpoint.weight,
        "percent": percent.map(|percent| (percent * 1_000.0).round() / 1_000.0),
        "zone": member.endpoint.zone.as_deref(),
        "target": member.endpoint.target.as_deref(),
        "http2": member.http2,
        "in_flight": host.in_flight(),
        "latency_ms": host.latency(life.milliseconds(now)).map(|it| f64::from(it * 1e6).round() / 1e3),
        "new_for_seconds": host.since.map(seconds),
        "ejections": host.tally.times(),
        "checks": verdict.checks,
        "checked_seconds_ago": verdict.last.map(seconds),
        "check_failure": verdict.failure,
        "idle_connections": idle,
        "http2_connections": shared,
    })
}

/// In or out, and why.
fn state(member: &Member, weight: u64, pool: &Pool, now: Instant) -> (&'static str, Option<String>) {
    let (host, life) = (&member.host, &member.context.life);
    if !member.endpoint.is_ready() {
        return ("draining", Some("its source says that it ends: requests in flight finish".to_owned()));
    }
    let panic = if pool.rest.panic { "; it serves all the same, too few are healthy (panic)" } else { "" };
    if host.is_out_for(Out::Unhealthy) {
        let failure = host.health.verdict().failure.unwrap_or_else(|| "too few checks were good since".to_owned());
        return ("unhealthy", Some(format!("checks failed: {failure}{panic}")));
    }
    if host.is_out_for(Out::Ejected) {
        let cause = host.tally.cause().map_or("", |cause| cause.name());
        let until = host.tally.ejected_until().map(|until| life.instant(until).saturating_duration_since(now));
        let left = until.unwrap_or_default().as_secs_f64();
        return ("ejected", Some(format!("{cause}, for {left:.1} s more{panic}")));
    }
    match (weight, pool.config().slow_start, host.since) {
        (0, ..) => ("standby", Some("another priority, or another member's share, takes the traffic".to_owned())),
        (_, Some(window), Some(since)) if now < since + window => {
            ("serving", Some("slow start: new, with a part of its weight".to_owned()))
        }
        _ => ("serving", None),
    }
}

fn iso(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time).map(|it| format!("{it:.3}")).unwrap_or_default()
}
