//! One pool, in whatever format.

use std::sync::Arc;

use axum::extract::{Path, Query as Pairs, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;

use super::access::Client;
use super::answer::error;
use super::api::{Api, Asker};
use super::formats::Format;
use super::lists::unsynced_of;
use super::query::{Query, matches_etag};
use super::truth::Truth;
use super::waiters::Interest;
use crate::endpoints::Snapshot;
use crate::endpoints::pool::{Pool, PoolId};

pub(super) async fn get(
    State(api): State<Arc<Api>>,
    client: Asker,
    Path(id): Path<String>,
    Pairs(pairs): Pairs<Vec<(String, String)>>,
    headers: HeaderMap,
    format: Format,
) -> Response {
    let query = match Query::read(&pairs) {
        Ok(query) => query,
        Err(bad) => return error(StatusCode::BAD_REQUEST, &bad),
    };
    let id = match PoolId::parse(&id) {
        Ok(id) => id,
        Err(bad) => return error(StatusCode::BAD_REQUEST, &format!("{id:?} {bad}")),
    };
    if let Some(refused) = api.note_asked(&client, &headers, id.as_str()) {
        return refused;
    }
    let has = headers.get(header::IF_NONE_MATCH).map(|value| value.to_str().unwrap_or_default());
    let revision = api.revision_of(query.index.as_ref()).filter(|_| query.wait.is_some());
    let asked = Asked { id: &id, format, has, revision };
    let interest = || Interest::Pools(vec![id.clone()]);
    api.answer(&client, interest, query.wait, |snapshot, over| asked.look(&api, &client, snapshot, over)).await
}

/// What is asked for, and what the client has of it.
struct Asked<'a> {
    id: &'a PoolId,
    format: Format,
    has: Option<&'a str>,
    /// The revision of this life that the client has seen.
    revision: Option<u64>,
}

// === impl Asked ===

impl Asked<'_> {
    fn look(&self, api: &Api, client: &Client, snapshot: &Snapshot, over: bool) -> Option<Response> {
        let pool = snapshot.pool(self.id.as_str()).filter(|pool| client.scope.admits(pool, snapshot));
        match pool {
            Some(pool) => self.look_at(pool, api, snapshot, over),
            None => self.look_at_nothing(api, snapshot, over),
        }
    }

    fn look_at(&self, pool: &Pool, api: &Api, snapshot: &Snapshot, over: bool) -> Option<Response> {
        let stamp = api.stamp(snapshot, Truth::of(pool, snapshot));
        let unsynced = unsynced_of(snapshot, pool.shards.iter().copied());
        if !unsynced.is_empty() {
            return Some(stamp.unsynced(&unsynced));
        }
        // The content decides, whatever the index says: another replica's index means nothing here.
        let (known, rendering) = match self.has {
            Some(has) => {
                let rendering = self.format.render(pool);
                (matches_etag(has, &rendering.etag), Some(rendering))
            }
            None => (self.revision.is_some_and(|revision| pool.revision <= revision), None),
        };
        match (known, over) {
            (true, false) => None,
            (true, true) => Some(stamp.not_modified(rendering.as_ref().map(|it| &*it.etag))),
            (false, _) => {
                let rendering = rendering.unwrap_or_else(|| self.format.render(pool));
                Some(stamp.body(rendering, self.format.content_type()))
            }
        }
    }

    fn look_at_nothing(&self, api: &Api, snapshot: &Snapshot, over: bool) -> Option<Response> {
        let stamp = api.stamp(snapshot, Truth::of_all([], snapshot));
        if !snapshot.knows_absence_of(self.id.as_str()) {
            return Some(stamp.unsynced(&unsynced_of(snapshot, 0..snapshot.shards().len())));
        }
        // Who has it must hear that it is gone; who does not may wait for it to come.
        let had = self.has.is_some()
            || self.revision.is_some_and(|revision| {
                let changes = snapshot.changes_among(std::slice::from_ref(self.id), revision);
                changes.is_none_or(|changes| changes.removed.contains(self.id))
            });
        (over || had).then(|| stamp.error(StatusCode::NOT_FOUND, "no pool of this id is known"))
    }
}
