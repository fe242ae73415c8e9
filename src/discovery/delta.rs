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

use super::access::Client;
use super::answer::error;
use super::api::{Api, Asker};
use super::formats::{Format, rendering};
use super::lists::{admitted, interest, unsynced};
use super::query::{Index, Query, matches_etag};
use super::relay::{self, View};
use super::truth::Truth;
use super::waiters::Interest;
use crate::endpoints::pool::{Pool, PoolId};
use crate::endpoints::{Changes, Snapshot};

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
    let (changed, removed) = match &query.index {
        None => match &view {
            // Thousands of relays may begin anew together.
            Some(view) => {
                let all = || admitted(snapshot, filter, client);
                let rendering = view.whole(|| rendering(body(&stamp.index, &all(), &[], Some((view, snapshot, None)))));
                return Some(stamp.body(rendering, "application/json"));
            }
            None => (admitted(snapshot, filter, client), Vec::new()),
        },
        Some(since) => {
            let revision = api.revision_of(Some(since));
            let known = || {
                let content = view.as_ref()?.content(|| admitted(snapshot, filter, client), snapshot);
                matches_etag(has?, &content).then(Changes::default)
            };
            let Some(changes) = revision.and_then(|revision| snapshot.changes_since(revision)).or_else(known) else {
                return Some(stamp.error(StatusCode::GONE, "this revision is not remembered: ask without since"));
            };
            let same_truth = view.as_ref().is_none_or(|view| query.relay.as_deref() == Some(view.truth()));
            let (changed, unfit): (Vec<Arc<Pool>>, Vec<Arc<Pool>>) = changes
                .changed
                .into_iter()
                .filter(|pool| client.scope.admits(pool, snapshot) && filter.may_have_admitted(&pool.id))
                .partition(|pool| filter.admits(pool, snapshot));
            let gone = changes.removed.into_iter();
            let gone = gone.filter(|id| client.scope.may_have_admitted(id.as_str()) && filter.may_have_admitted(id));
            let mut removed: Vec<PoolId> = unfit.iter().map(|pool| pool.id.clone()).chain(gone).collect();
            removed.sort();
            if changed.is_empty() && removed.is_empty() && same_truth && !over {
                return None;
            }
            (changed, removed)
        }
    };
    let relay = view.as_ref().map(|view| (&**view, snapshot, query.relay.as_deref()));
    Some(stamp.body(rendering(body(&stamp.index, &changed, &removed, relay)), "application/json"))
}

/// Made of the pools' shared bodies.
fn body(
    index: &Index,
    changed: &[Arc<Pool>],
    removed: &[PoolId],
    relay: Option<(&View, &Snapshot, Option<&str>)>,
) -> String {
    let pools: Vec<_> = changed.iter().map(|pool| Format::Json.render(pool).body).collect();
    let mut text = String::with_capacity(64 + pools.iter().map(|pool| pool.len() + 1).sum::<usize>());
    text.push_str("{\"index\":\"");
    text.push_str(&index.to_string());
    text.push_str("\",\"changed\":[");
    for (at, pool) in pools.iter().enumerate() {
        if at > 0 {
            text.push(',');
        }
        text.push_str(&String::from_utf8_lossy(pool));
    }
    text.push_str("],\"removed\":[");
    // Ids have no character that JSON would escape.
    let removed: Vec<_> = removed.iter().map(|id| format!("\"{id}\"")).collect();
    text.push_str(&removed.join(","));
    text.push(']');
    if relay.is_none() {
        // Tags have quotes, which JSON escapes.
        let tags: Vec<_> = changed.iter().map(|pool| format!("{:?}", Format::Json.render(pool).etag)).collect();
        text.push_str(",\"etags\":[");
        text.push_str(&tags.join(","));
        text.push(']');
    }
    if let Some((view, snapshot, known)) = relay {
        text.push_str(",\"relay\":");
        text.push_str(&view.part_with_pools(changed, snapshot, known));
    }
    text.push('}');
    text
}
