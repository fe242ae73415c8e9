//! Several pools: the list, whole files for gateways, Prometheus' targets.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use axum::extract::{Query as Pairs, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use serde::Serialize;

use super::access::Client;
use super::answer::error;
use super::api::{Api, Asker};
use super::formats::{Format, NameCollision, etag, prometheus, rendering};
use super::query::{Filter, Query, matches_etag};
use super::relay;
use super::truth::Truth;
use super::waiters::Interest;
use crate::endpoints::Snapshot;
use crate::endpoints::pool::{Pool, Rendering};

/// What is made of the pools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ListKind {
    /// Their ids, tags and sizes.
    Pools,
    /// A file for a gateway.
    Rendered(Format),
    /// Scrape targets.
    Prometheus,
}

#[derive(Serialize)]
struct ListBody<'a> {
    index: String,
    pools: Vec<ListEntry<'a>>,
}

#[derive(Serialize)]
struct ListEntry<'a> {
    id: &'a str,
    etag: Arc<str>,
    endpoints: usize,
    state: &'static str,
    /// The port of its endpoints; none for an empty pool.
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
    /// Those of its Service that speak to Tidegate.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<&'a str, &'a str>,
}

/// How labels begin that a list shows.
const OWN_LABELS: &str = "tidegate.dev/";

pub(super) async fn get(
    State(api): State<Arc<Api>>,
    client: Asker,
    Pairs(pairs): Pairs<Vec<(String, String)>>,
    headers: HeaderMap,
    kind: ListKind,
) -> Response {
    let query = match Query::read(&pairs) {
        Ok(query) => query,
        Err(bad) => return error(StatusCode::BAD_REQUEST, &bad),
    };
    if query.relay.is_some() && kind == ListKind::Pools {
        relay::note(&api, &client, &headers);
        let snapshot = api.snapshot.load_full();
        return relay::with_hubs(&api, relay::list(&api, &client, &query.filter, &snapshot));
    }
    for id in &query.filter.ids {
        if let Some(refused) = api.note_asked(&client, &headers, id.as_str()) {
            return refused;
        }
    }
    let has = headers.get(header::IF_NONE_MATCH).map(|value| value.to_str().unwrap_or_default());
    let since = api.revision_of(query.index.as_ref()).filter(|_| query.wait.is_some());
    let mut asked = Asked { api: &api, client: &client, filter: &query.filter, kind, has, since };
    api.answer(&client, || interest(&query.filter), query.wait, |snapshot, over| asked.look(snapshot, over)).await
}

/// Who names pools waits for these only.
pub(super) fn interest(filter: &Filter) -> Interest {
    if filter.ids.is_empty() { Interest::Everything } else { Interest::Pools(filter.ids.clone()) }
}

/// The pools that a filter means and a client may see, in the order of their ids.
pub(super) fn admitted(snapshot: &Snapshot, filter: &Filter, client: &Client) -> Vec<Arc<Pool>> {
    let admits = |pool: &&Arc<Pool>| filter.admits(pool, snapshot) && client.scope.admits(pool, snapshot);
    if !filter.ids.is_empty() {
        let mut pools: Vec<_> =
            filter.ids.iter().filter_map(|id| snapshot.pool(id.as_str())).filter(admits).cloned().collect();
        pools.sort_by(|one, other| one.id.cmp(&other.id));
        pools.dedup_by(|one, other| one.id == other.id);
        return pools;
    }
    snapshot.pools_with_prefix(filter.prefix.as_deref().unwrap_or_default()).filter(admits).cloned().collect()
}

/// The names of those of these shards that have not told their pools yet.
pub(super) fn unsynced_of(snapshot: &Snapshot, shards: impl IntoIterator<Item = usize>) -> Vec<&str> {
    let shards = shards.into_iter().filter_map(|at| snapshot.shards().get(at));
    shards.filter(|shard| !shard.status.loaded).map(|shard| &*shard.name).collect()
}

/// The shards that could have pools which a filter means and that have not told theirs yet.
pub(super) fn unsynced<'a>(snapshot: &'a Snapshot, filter: &Filter) -> Vec<&'a str> {
    let of_cluster = |at: &usize| {
        let prefix = snapshot.shards().get(*at).and_then(|shard| shard.prefix.as_deref());
        let cluster = prefix.and_then(|prefix| prefix.split('/').next());
        filter.cluster.as_deref().is_none_or(|named| cluster == Some(named))
    };
    unsynced_of(snapshot, (0..snapshot.shards().len()).filter(of_cluster))
}

/// What is asked for, and what the client has of it.
struct Asked<'a> {
    api: &'a Api,
    client: &'a Client,
    filter: &'a Filter,
    kind: ListKind,
    has: Option<&'a str>,
    /// The revision as of which the client has everything; moves on while it waits.
    since: Option<u64>,
}

// === impl Asked ===

impl Asked<'_> {
    fn look(&mut self, snapshot: &Snapshot, over: bool) -> Option<Response> {
        let unsynced = unsynced(snapshot, self.filter);
        if !unsynced.is_empty() {
            let stamp = self.api.stamp(snapshot, Truth::of_snapshot(snapshot));
            return Some(stamp.unsynced(&unsynced));
        }
        // Whoever waits is not worth a new list for each change of another's pool.
        let unchanged = self.since.is_some_and(|since| !self.concerned(snapshot, since));
        if unchanged && !over {
            self.since = Some(snapshot.revision());
            return None;
        }
        let pools = admitted(snapshot, self.filter, self.client);
        let stamp = self.api.stamp(snapshot, Truth::of_all(pools.iter().map(|pool| &**pool), snapshot));
        if unchanged && self.has.is_none() {
            return Some(stamp.not_modified(None));
        }
        let rendering = match self.render(&pools, snapshot) {
            Ok(rendering) => rendering,
            Err(collision) => return Some(stamp.error(StatusCode::CONFLICT, &collision.to_string())),
        };
        let known = self.has.is_some_and(|has| matches_etag(has, &rendering.etag));
        match (known, over) {
            (true, false) => {
                self.since = Some(snapshot.revision());
                None
            }
            (true, true) => Some(stamp.not_modified(Some(&rendering.etag))),
            (false, _) => Some(stamp.body(rendering, self.content_type())),
        }
    }

    /// Whether a change since then is one of what is asked for.
    fn concerned(&self, snapshot: &Snapshot, since: u64) -> bool {
        let Some(changes) = self.filter.changes(snapshot, since) else { return true };
        let admits = |pool: &Arc<Pool>| self.filter.admits(pool, snapshot) && self.client.scope.admits(pool, snapshot);
        // One whose labels no longer fit has left the list.
        let left = |pool: &Arc<Pool>| !self.filter.labels.is_empty() && self.filter.may_have_admitted(&pool.id);
        changes.changed.iter().any(|pool| admits(pool) || left(pool))
            || changes
                .removed
                .iter()
                .any(|id| self.filter.may_have_admitted(id) && self.client.scope.may_have_admitted(id.as_str()))
    }

    fn render(&self, pools: &[Arc<Pool>], snapshot: &Snapshot) -> Result<Rendering, NameCollision> {
        match self.kind {
            ListKind::Pools => Ok(self.list(pools, snapshot)),
            ListKind::Rendered(format) => format.render_all(pools),
            ListKind::Prometheus => Ok(rendering(prometheus::targets(pools))),
        }
    }

    /// The tag is that of the content, without the index, so that it is the same on every replica.
    fn list(&self, pools: &[Arc<Pool>], snapshot: &Snapshot) -> Rendering {
        let entry = |pool: &'_ Arc<Pool>| (Format::Json.render(pool).etag, Truth::of(pool, snapshot).state.name());
        let mut content = String::new();
        let mut entries = Vec::with_capacity(pools.len());
        for pool in pools {
            let (etag, state) = entry(pool);
            // Writing to a string does not fail.
            let _ = writeln!(content, "{} {etag}", pool.id);
            let own = pool.labels.iter().filter(|(name, _)| name.starts_with(OWN_LABELS));
            let labels: BTreeMap<&str, &str> = own.map(|(name, value)| (name.as_str(), value.as_str())).collect();
            for (name, value) in &labels {
                let _ = writeln!(content, " {name}={value}");
            }
            let port = pool.endpoints.first().map(|endpoint| endpoint.port);
            entries.push(ListEntry {
                id: pool.id.as_str(),
                etag,
                endpoints: pool.endpoints.len(),
                state,
                port,
                labels,
            });
        }
        let index = format!("{}:{}", self.api.boot, snapshot.revision());
        // Numbers and strings only: nothing in it can fail to be written.
        let body = serde_json::to_string(&ListBody { index, pools: entries }).unwrap_or_default();
        Rendering { body: body.into(), etag: etag(content.as_bytes()) }
    }

    fn content_type(&self) -> &'static str {
        match self.kind {
            ListKind::Pools | ListKind::Prometheus => "application/json",
            ListKind::Rendered(format) => format.content_type(),
        }
    }
}
