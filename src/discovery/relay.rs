//! What relays are told beside the pools: how true each is, and where it comes from. The shapes stand in
//! [`crate::endpoints::hub::wire`].
//!
//! Thousands of relays ask for the same; so what depends on the snapshot alone is made once for each publication, and for
//! each filter and scope that is asked with.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::SystemTime;

use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;
use serde::Serialize;

use super::access::Client;
use super::answer::error;
use super::api::Api;
use super::config::Scope;
use super::formats::{Format, rendering};
use super::lists::{admitted, unsynced};
use super::pieces::Pieces;
use super::query::Filter;
use super::truth::Truth;
use crate::endpoints::hosts::Claim;
use crate::endpoints::hub::wire::{HUBS, HoldPart, PoolPart, RELAY, RelayPart, SourcePart, content_tag, hex, millis};
use crate::endpoints::pool::{Pool, Rendering};
use crate::endpoints::{ShardState, Snapshot, Watched};

/// Views of one publication; for further filters and scopes they are made for each request.
const MAX_VIEWS: usize = 32;
/// Revisions since which relays are told by one body. Those who keep up are at the last one or at one of a few before.
const MAX_TOLD: usize = 8;

/// The views of the last publication that was asked for.
#[derive(Debug, Default)]
pub(super) struct Views(Mutex<(u64, Vec<Arc<View>>)>);

/// What relays with one filter and scope are told of one publication.
#[derive(Debug)]
pub(super) struct View {
    filter: Filter,
    scope: Scope,
    part: RelayPart,
    /// The hosts that may be seen; `None` until all are known.
    hosts: Option<Arc<[Claim]>>,
    /// The place in the part of each shard; `None` for one that may not be seen.
    places: Vec<Option<usize>>,
    content: OnceLock<Arc<str>>,
    told: Mutex<Vec<(Asked, Told)>>,
    list: OnceLock<Rendering>,
}

/// Since which revision it is told, and whether who asks has the hosts.
type Asked = (Option<u64>, bool);

/// What is told of a snapshot: everything, or what changed since a revision.
#[derive(Clone, Debug)]
pub(super) struct Told {
    /// The answer.
    pub(super) body: Pieces,
    /// No pool is in it.
    pub(super) is_nothing: bool,
}

#[derive(Serialize)]
struct ListBody<'a> {
    index: String,
    pools: Vec<ListEntry<'a>>,
    relay: RelayPart,
}

#[derive(Serialize)]
struct ListEntry<'a> {
    id: &'a str,
    etag: Arc<str>,
    endpoints: usize,
    state: &'static str,
}

/// Notes that a relay asked, where it may say who it is.
pub(super) fn note(api: &Api, client: &Client, headers: &HeaderMap) {
    let name = headers.get(RELAY).and_then(|name| name.to_str().ok());
    if let Some(name) = name.filter(|name| client.owns(name) == Ok(true)) {
        api.gateways.relay_asked(name, &client.name, SystemTime::now());
    }
}

/// An answer with the hubs on its way, this one first.
pub(super) fn with_hubs(api: &Api, mut answer: Response) -> Response {
    let snapshot = api.snapshot.load();
    let mut hubs = api.boot.clone();
    for hub in snapshot.hubs() {
        hubs.push(',');
        hubs.push_str(hub);
    }
    if let Ok(hubs) = HeaderValue::from_str(&hubs) {
        answer.headers_mut().insert(HUBS, hubs);
    }
    answer
}

/// The list that a relay begins with: tags in place of bodies.
pub(super) fn list(api: &Api, client: &Client, filter: &Filter, snapshot: &Snapshot) -> Response {
    let view = api.views.of(snapshot, filter, &client.scope);
    let stamp = api.stamp(snapshot, Truth::of_snapshot(snapshot));
    let unsynced = unsynced(snapshot, filter);
    if !unsynced.is_empty() && !view.knows_something() {
        return stamp.unsynced(&unsynced);
    }
    let made = view.list.get_or_init(|| {
        let pools = admitted(snapshot, filter, client);
        let body = ListBody {
            index: stamp.index.to_string(),
            pools: pools.iter().map(|pool| ListEntry::of(pool, snapshot)).collect(),
            relay: RelayPart {
                tags: pools.iter().map(|pool| tag(pool, snapshot)).collect(),
                hosts: view.hosts.clone(),
                ..view.part.clone()
            },
        };
        // Numbers and strings only: nothing in it can fail to be written.
        rendering(serde_json::to_string(&body).unwrap_or_default())
    });
    if made.body.is_empty() {
        return error(axum::http::StatusCode::INTERNAL_SERVER_ERROR, "no list");
    }
    stamp.body(made.clone(), "application/json")
}

// === impl ListEntry ===

impl<'a> ListEntry<'a> {
    fn of(pool: &'a Pool, snapshot: &Snapshot) -> Self {
        Self {
            id: pool.id.as_str(),
            etag: Format::Json.render(pool).etag,
            endpoints: pool.endpoints.len(),
            state: Truth::of(pool, snapshot).state.name(),
        }
    }
}

// === impl Views ===

impl Views {
    /// What relays with this filter and scope are told of a snapshot.
    pub(super) fn of(&self, snapshot: &Snapshot, filter: &Filter, scope: &Scope) -> Arc<View> {
        let mut guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (publication, views) = &mut *guard;
        if snapshot.publication() < *publication {
            // Somebody looks at an older snapshot than others have seen: soon nobody does.
            return Arc::new(View::new(snapshot, filter, scope));
        }
        if snapshot.publication() > *publication {
            (*publication, *views) = (snapshot.publication(), Vec::new());
        }
        if let Some(view) = views.iter().find(|view| view.filter == *filter && view.scope == *scope) {
            return view.clone();
        }
        let view = Arc::new(View::new(snapshot, filter, scope));
        if views.len() < MAX_VIEWS {
            views.push(view.clone());
        }
        view
    }
}

// === impl View ===

impl View {
    fn new(snapshot: &Snapshot, filter: &Filter, scope: &Scope) -> Self {
        let mut sources = Vec::new();
        let mut places = Vec::new();
        for shard in snapshot.shards() {
            let seen = scope.clusters.is_empty() || shard.prefix.as_deref().is_some_and(|it| scope.names_cluster(it));
            places.push(seen.then_some(sources.len()));
            if seen {
                sources.push(source(shard));
            }
        }
        let mut part = RelayPart { sources, holds: holds(snapshot, scope), ..RelayPart::default() };
        let table = snapshot.hosts();
        let hosts = table.is_known().then(|| {
            let seen = table.granted.iter().filter(|claim| scope.may_have_admitted(claim.pool.as_str()));
            seen.cloned().collect::<Arc<[Claim]>>()
        });
        part.truth = truth(&part, hosts.as_ref().map(|_| table.tag.as_str()));
        let (filter, scope) = (filter.clone(), scope.clone());
        let (content, told, list) = (OnceLock::new(), Mutex::default(), OnceLock::new());
        Self { filter, scope, part, hosts, places, content, told, list }
    }

    /// Whether some source has told its pools: what the others could have is told to be unknown.
    pub(super) fn knows_something(&self) -> bool {
        self.part.sources.iter().any(|source| source.loaded)
    }

    /// Tag of how true the pools are.
    pub(super) fn truth(&self) -> &str {
        &self.part.truth
    }

    /// Tag of all pools, quotes included.
    pub(super) fn content(&self, pools: impl FnOnce() -> Vec<Arc<Pool>>, snapshot: &Snapshot) -> Arc<str> {
        let made = self.content.get_or_init(|| {
            let pools = pools();
            let tags: Vec<Arc<str>> = pools.iter().map(|pool| tag(pool, snapshot)).collect();
            let pairs = pools.iter().zip(&tags).map(|(pool, tag)| (pool.id.as_str(), &**tag));
            format!("\"{}\"", content_tag(pairs)).into()
        });
        made.clone()
    }

    /// What is told of everything (`None`) or since a revision, made once for all who ask the same, with the hosts or, to who
    /// has what is true now, without.
    pub(super) fn told(&self, asked: (Option<u64>, bool), make: impl FnOnce() -> Told) -> Told {
        // Who asks for the same meanwhile waits for what is being made, which is shorter than making it again.
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, known)) = told.iter().find(|(of, _)| *of == asked) {
            return known.clone();
        }
        let new = make();
        if told.len() < MAX_TOLD {
            told.push((asked, new.clone()));
        }
        new
    }

    /// What stands beside these pools, as JSON. `known` is the tag of what the relay has: then it has the hosts too.
    pub(super) fn part_with_pools(&self, pools: &[Arc<Pool>], snapshot: &Snapshot, known: Option<&str>) -> String {
        let place = |at: &usize| self.places.get(*at).copied().flatten();
        let pool = |pool: &Arc<Pool>| PoolPart {
            tag: tag(pool, snapshot),
            namespace: pool.namespace.clone(),
            labels: pool.labels.clone(),
            sources: pool.shards.iter().filter_map(place).collect(),
        };
        let hosts = self.hosts.clone().filter(|_| known != Some(self.truth()));
        let part = RelayPart { pools: pools.iter().map(pool).collect(), hosts, ..self.part.clone() };
        // Numbers and strings only: nothing in it can fail to be written.
        serde_json::to_string(&part).unwrap_or_default()
    }
}

fn source(shard: &ShardState) -> SourcePart {
    let status = &shard.status;
    SourcePart {
        name: shard.name.clone(),
        prefix: shard.prefix.clone(),
        loaded: status.loaded,
        synced_at: status.synced_at.map(millis),
        // Hosts are told when they change, and relays of before do not know of this.
        lost: status
            .lost
            .iter()
            .filter(|(what, _)| **what != Watched::Hosts)
            .map(|(what, (since, why))| (*what, millis(*since), why.clone()))
            .collect(),
    }
}

fn holds(snapshot: &Snapshot, scope: &Scope) -> BTreeMap<crate::endpoints::pool::PoolId, HoldPart> {
    if snapshot.held().next().is_none() {
        // A joined pool is held only where a member is. Mostly none is, and then nobody need look at all pools.
        return BTreeMap::new();
    }
    let held = snapshot.pools().filter(|pool| pool.hold.is_some() && scope.admits(pool, snapshot));
    let part = |pool: &Arc<Pool>| {
        let hold = pool.hold.as_ref()?;
        let (since, until) = (millis(hold.since), millis(hold.until));
        Some((pool.id.clone(), HoldPart { why: hold.why.clone(), since, until, endpoints: hold.endpoints }))
    };
    held.filter_map(part).collect()
}

/// Times and reasons are left out: hubs that know the same differ in these.
fn truth(part: &RelayPart, hosts: Option<&str>) -> String {
    let mut text = format!("{hosts:?}\n");
    for source in &part.sources {
        let lost: Vec<_> = source.lost.iter().map(|(what, _, _)| format!("{what:?}")).collect();
        text.push_str(&format!("{} {:?} {} {}\n", source.name, source.prefix, source.loaded, lost.join(",")));
    }
    for (id, hold) in &part.holds {
        text.push_str(&format!("{id} {}\n", hold.endpoints));
    }
    hex(ring::digest::digest(&ring::digest::SHA256, text.as_bytes()).as_ref())
}

/// Tag of everything that a relay has of a pool.
fn tag(pool: &Pool, snapshot: &Snapshot) -> Arc<str> {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    let mut part = |text: &str| {
        context.update(text.as_bytes());
        context.update(b"\n");
    };
    part(&Format::Json.render(pool).etag);
    part(pool.namespace.as_deref().unwrap_or_default());
    for (name, value) in pool.labels.iter() {
        part(name);
        part(value);
    }
    part("");
    for shard in pool.shards.iter().filter_map(|at| snapshot.shards().get(*at)) {
        part(&shard.name);
    }
    hex(context.finish().as_ref()).into()
}
