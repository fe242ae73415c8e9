//! What changed since a revision: for whoever follows many pools.
//!
//! Without `since` the answer is all pools, from which to begin. A pool that no longer fits the filter is told as removed,
//! so that applying every answer in turn always gives what the list would. 410 says that too much happened since, or that
//! the revision is of another life of the process: begin anew.

use std::sync::Arc;

use axum::extract::{Query as Pairs, State};
use axum::http::StatusCode;
use axum::response::Response;

use super::access::Client;
use super::answer::error;
use super::api::{Api, Asker};
use super::formats::{Format, rendering};
use super::lists::{admitted, interest, unsynced};
use super::query::{Filter, Index, Query};
use super::truth::Truth;
use crate::endpoints::Snapshot;
use crate::endpoints::pool::{Pool, PoolId};

pub(super) async fn get(
    State(api): State<Arc<Api>>,
    client: Asker,
    Pairs(pairs): Pairs<Vec<(String, String)>>,
) -> Response {
    let query = match Query::read(&pairs) {
        Ok(query) => query,
        Err(bad) => return error(StatusCode::BAD_REQUEST, &bad),
    };
    let look = |snapshot: &Snapshot, over| look(&api, &client, &query.filter, query.index.as_ref(), snapshot, over);
    api.answer(&client, || interest(&query.filter), query.wait, look).await
}

fn look(
    api: &Api,
    client: &Client,
    filter: &Filter,
    since: Option<&Index>,
    snapshot: &Snapshot,
    over: bool,
) -> Option<Response> {
    let stamp = api.stamp(snapshot, Truth::of_snapshot(snapshot));
    let unsynced = unsynced(snapshot, filter);
    if !unsynced.is_empty() {
        return Some(stamp.unsynced(&unsynced));
    }
    let (changed, removed) = match since {
        None => (admitted(snapshot, filter, client), Vec::new()),
        Some(since) => {
            let revision = api.revision_of(Some(since));
            let Some(changes) = revision.and_then(|revision| snapshot.changes_since(revision)) else {
                return Some(stamp.error(StatusCode::GONE, "this revision is not remembered: ask without since"));
            };
            let (changed, unfit): (Vec<Arc<Pool>>, Vec<Arc<Pool>>) = changes
                .changed
                .into_iter()
                .filter(|pool| client.scope.admits(pool, snapshot) && filter.may_have_admitted(&pool.id))
                .partition(|pool| filter.admits(pool, snapshot));
            let gone = changes.removed.into_iter();
            let gone = gone.filter(|id| client.scope.may_have_admitted(id.as_str()) && filter.may_have_admitted(id));
            let mut removed: Vec<PoolId> = unfit.iter().map(|pool| pool.id.clone()).chain(gone).collect();
            removed.sort();
            if changed.is_empty() && removed.is_empty() && !over {
                return None;
            }
            (changed, removed)
        }
    };
    Some(stamp.body(rendering(body(&stamp.index, &changed, &removed)), "application/json"))
}

/// Made of the pools' shared bodies.
fn body(index: &Index, changed: &[Arc<Pool>], removed: &[PoolId]) -> String {
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
    text.push_str("]}");
    text
}
