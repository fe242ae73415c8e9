//! What a template sees.
//!
//! | name | what |
//! |---|---|
//! | `pools` | all pools by id: `id`, `name` (no slashes or colons), `etag`, `traffic_generation`, `endpoints`, `ready`, `draining` |
//! | an endpoint | `address`, `port`, `socket` (`ADDRESS:PORT`, IPv6 in brackets), `name` (`ADDRESS_PORT`), `protocol`, `weight`, `weight256` (1 to 256, 0 while draining), `state`, `zone`, `node`, `cluster`, `target`, `app_protocol` |
//! | `pool("ID")` | one of them; an error where it is not known |
//! | `hosts` | `host`, `path_prefix`, `pool` (its id), `pool_name`, `namespace`, `known` (whether the pool is here) |
//!
//! What is not known of an endpoint is an empty text.

use std::collections::BTreeMap;

use minijinja::Value;
use serde::Serialize;

use crate::pull::name;
use crate::pull::view::View;
use crate::pull::wire::{Endpoint, Pool, State};

/// The names that a template can use.
pub(super) const NAMES: [&str; 3] = ["pools", "hosts", "pool"];

/// The most that HAProxy and IPVS' weighted schedulers are given.
const MOST: u64 = 256;

#[derive(Serialize)]
struct PoolContext<'a> {
    id: &'a str,
    name: String,
    etag: &'a str,
    traffic_generation: Option<i64>,
    endpoints: Vec<Value>,
    ready: Vec<Value>,
    draining: Vec<Value>,
}

#[derive(Serialize)]
struct EndpointContext<'a> {
    address: String,
    port: u16,
    socket: String,
    name: String,
    protocol: &'a str,
    weight: u32,
    weight256: u32,
    state: &'static str,
    zone: &'a str,
    node: &'a str,
    cluster: &'a str,
    target: &'a str,
    app_protocol: &'a str,
}

#[derive(Serialize)]
struct HostContext<'a> {
    host: &'a str,
    path_prefix: &'a str,
    pool: &'a str,
    pool_name: String,
    namespace: &'a str,
    known: bool,
}

/// The view as templates see it.
pub(super) fn of(view: &View) -> Value {
    let host = |host: &'_ crate::pull::wire::Host| {
        serde_json::json!(HostContext {
            host: &host.host,
            path_prefix: &host.path_prefix,
            pool: &host.pool,
            pool_name: name(&host.pool),
            namespace: &host.namespace,
            known: view.pools.contains_key(&host.pool),
        })
    };
    let pools: BTreeMap<&str, Value> = view.pools.iter().map(|(id, it)| (id.as_str(), pool(it))).collect();
    let hosts: Vec<_> = view.hosts.iter().flat_map(|hosts| hosts.iter()).map(host).collect();
    let list: Vec<Value> = pools.values().cloned().collect();
    Value::from_iter([
        ("pools".to_owned(), Value::from(list)),
        ("hosts".to_owned(), Value::from_serialize(hosts)),
        (BY_ID.to_owned(), Value::from_iter(pools.into_iter().map(|(id, pool)| (id.to_owned(), pool)))),
    ])
}

/// Where `pool("ID")` looks.
pub(super) const BY_ID: &str = "__pools_by_id";

fn pool(pool: &Pool) -> Value {
    let weights = weights(pool);
    let endpoints: Vec<(State, Value)> =
        pool.endpoints.iter().zip(weights).map(|(it, weight)| (it.state, endpoint(it, weight))).collect();
    let of = |state: State| endpoints.iter().filter(|(it, _)| *it == state).map(|(_, value)| value.clone()).collect();
    Value::from_serialize(PoolContext {
        id: &pool.id,
        name: name(&pool.id),
        etag: &pool.etag,
        traffic_generation: pool.traffic_generation,
        ready: of(State::Ready),
        draining: of(State::Draining),
        endpoints: endpoints.iter().map(|(_, value)| value.clone()).collect(),
    })
}

fn endpoint(it: &Endpoint, weight256: u32) -> Value {
    fn text(text: &Option<String>) -> &str {
        text.as_deref().unwrap_or_default()
    }
    Value::from_serialize(EndpointContext {
        address: it.address.to_string(),
        port: it.port,
        socket: it.socket().to_string(),
        name: format!("{}_{}", it.address, it.port),
        protocol: &it.protocol,
        weight: it.weight,
        weight256,
        state: match it.state {
            State::Ready => "ready",
            State::Draining => "draining",
        },
        zone: text(&it.zone),
        node: text(&it.node),
        cluster: text(&it.cluster),
        target: text(&it.target),
        app_protocol: text(&it.app_protocol),
    })
}

/// The weights of a pool's endpoints, in their order, from 1 to 256; a draining one's is 0.
pub fn weights(pool: &Pool) -> Vec<u32> {
    let heaviest = pool.ready().map(|it| u64::from(it.weight)).max().unwrap_or(1).max(1);
    let scaled = |it: &Endpoint| match it.state {
        State::Ready => u32::try_from((u64::from(it.weight) * MOST / heaviest).clamp(1, MOST)).unwrap_or(1),
        State::Draining => 0,
    };
    pool.endpoints.iter().map(scaled).collect()
}
