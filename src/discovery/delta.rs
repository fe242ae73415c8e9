//! What changed since a revision: for whoever follows many pools.
//!
//! Without `since` the answer is all pools, from which to begin. A pool that no longer fits the filter is told as removed,
//! so that applying every answer in turn always gives what the list would. 410 says that too much happened since, or that
//! the revision is of another life of the process: begin anew.
//!
//! The pools' tags stand beside them in `etags`, in their order, for whoever acknowledges what it applied.
//!
//! A relay (`relay=TAG`) is told as well how true the pools are, and waits for that too. One that knows the content by its
//! tag (`If-None-Match`) waits whatever its revision is of.

use std::sync::Arc;

use axum::extract::{Query as Pairs, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use hyper::body::Bytes;

use super::access::Client;
use super::answer::{Stamp, error};
use super::api::{Api, Asker};
use super::formats::Format;
use super::lists::{admitted, interest, unsynced};
use super::pieces::Pieces;
use super::query::{Index, Query, matches_etag};
use super::relay::{self, Told, View};
use super::truth::Truth;
use super::waiters::Interest;
use crate::endpoints::Snapshot;
use crate::endpoints::pool::{Pool, PoolId};

pub(super) async fn get(
    State(api): State<Arc<Api>>,
    client: Asker,
    Pairs(pairs): Pairs<Vec<(String, String)>>,
    headers: HeaderMap,
) -> Response {
    let query = match Query::read(&pairs) {
        Ok(query) => query,
        Err(bad) => return error(StatusCode::BAD_REQUEST, &bad),
    };
    let has = headers.get(header::IF_NONE_MATCH).map(|value| value.to_str().unwrap_or_default());
    let look = |snapshot: &Snapshot, over| look(&api, &client, &query, has, snapshot, over);
    if query.relay.is_none() {
        return api.answer(&client, || interest(&query.filter), query.wait, look).await;
    }
    relay::note(&api, &client, &headers);
    let answer = api.answer(&client, || Interest::EverythingAndTruth, query.wait, look).await;
    relay::with_hubs(&api, answer)
}

fn look(
    api: &Api,
    client: &Client,
    query: &Query,
    has: Option<&str>,
    snapshot: &Snapshot,
    over: bool,
) -> Option<Response> {
    let stamp = api.stamp(snapshot, Truth::of_snapshot(snapshot));
    let filter = &query.filter;
    let view = query.relay.is_some().then(|| api.views.of(snapshot, filter, &client.scope));
    let unsynced = unsynced(snapshot, filter);
    if !unsynced.is_empty() && view.as_ref().is_none_or(|view| !view.knows_something()) {
        return Some(stamp.unsynced(&unsynced));
    }
    let since = match &query.index {
        None => None,
        Some(index) => {
            let revision = api.revision_of(Some(index)).filter(|revision| snapshot.remembers(*revision));
            // A relay that has the same content under another index is where this snapshot is.
            let known = || {
                let content = view.as_ref()?.content(|| admitted(snapshot, filter, client), snapshot);
                matches_etag(has?, &content).then_some(snapshot.revision())
            };
            let Some(since) = revision.or_else(known) else {
                return Some(stamp.error(StatusCode::GONE, "this revision is not remembered: ask without since"));
            };
            Some(since)
        }
    };
    let told = || told(&stamp, client, query, since, snapshot, view.as_deref());
    // Who has what is true now has the hosts as well.
    let has_truth = |view: &View| since.is_some() && query.relay.as_deref() == Some(view.truth());
    let told = match &view {
        // Thousands of relays ask for the same at once.
        Some(view) => view.told((since, has_truth(view)), told),
        None => told(),
    };
    let same_truth = view.as_ref().is_none_or(|view| query.relay.as_deref() == Some(view.truth()));
    if told.is_nothing && since.is_some() && same_truth && !over {
        return None;
    }
    Some(stamp.pieces(told.body, "application/json"))
}

/// What a client is told as of a snapshot: everything, or what changed since a revision that is remembered.
fn told(
    stamp: &Stamp,
    client: &Client,
    query: &Query,
    since: Option<u64>,
    snapshot: &Snapshot,
    view: Option<&View>,
) -> Told {
    let filter = &query.filter;
    let (changed, removed) = match since {
        None => (admitted(snapshot, filter, client), Vec::new()),
        Some(since) => {
            let changes = filter.changes(snapshot, since).unwrap_or_default();
            let (changed, unfit): (Vec<Arc<Pool>>, Vec<Arc<Pool>>) = changes
                .changed
                .into_iter()
                .filter(|pool| client.scope.admits(pool, snapshot) && filter.may_have_admitted(&pool.id))
                .partition(|pool| filter.admits(pool, snapshot));
            let gone = changes.removed.into_iter();
            let gone = gone.filter(|id| client.scope.may_have_admitted(id.as_str()) && filter.may_have_admitted(id));
            let mut removed: Vec<PoolId> = unfit.iter().map(|pool| pool.id.clone()).chain(gone).collect();
            removed.sort();
            (changed, removed)
        }
    };
    Told {
        is_nothing: changed.is_empty() && removed.is_empty(),
        body: body(
            &stamp.index,
            &changed,
            &removed,
            view.map(|view| (view, snapshot, query.relay.as_deref().filter(|_| since.is_some()))),
        ),
    }
}

/// Made of the pools' shared bodies.
fn body(
    index: &Index,
    changed: &[Arc<Pool>],
    removed: &[PoolId],
    relay: Option<(&View, &Snapshot, Option<&str>)>,
) -> Pieces {
    let mut pieces = Vec::with_capacity(2 * changed.len() + 2);
    pieces.push(Bytes::from(format!("{{\"index\":\"{index}\",\"changed\":[")));
    for (at, pool) in changed.iter().enumerate() {
        if at > 0 {
            pieces.push(Bytes::from_static(b","));
        }
        pieces.push(Format::Json.render(pool).body);
    }
    // Ids have no character that JSON would escape.
    let removed: Vec<_> = removed.iter().map(|id| format!("\"{id}\"")).collect();
    let rest = match relay {
        Some((view, snapshot, known)) => format!(",\"relay\":{}", view.part_with_pools(changed, snapshot, known)),
        None => {
            // Tags have quotes, which JSON escapes.
            let tags: Vec<_> = changed.iter().map(|pool| format!("{:?}", Format::Json.render(pool).etag)).collect();
            format!(",\"etags\":[{}]", tags.join(","))
        }
    };
    pieces.push(format!("],\"removed\":[{}]{}}}", removed.join(","), rest).into());
    pieces.into_iter().collect()
}
