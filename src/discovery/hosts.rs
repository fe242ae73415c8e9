//! Which hosts, and paths below them, lead to which pools: what a gateway makes its virtual hosts of.

use std::sync::Arc;

use axum::extract::{Query as Pairs, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use serde::Serialize;

use super::access::Client;
use super::answer::error;
use super::api::{Api, Asker};
use super::formats::etag;
use super::query::{Filter, Query, matches_etag};
use super::truth::Truth;
use super::waiters::Interest;
use crate::endpoints::Snapshot;
use crate::endpoints::hosts::{Claim, Conflict};
use crate::endpoints::pool::Rendering;

/// The body up to the index, which is no part of the content.
#[derive(Serialize)]
struct Content<'a> {
    hosts: Vec<HostBody<'a>>,
    conflicts: Vec<ConflictBody<'a>>,
}

#[derive(Serialize)]
struct HostBody<'a> {
    host: &'a str,
    path_prefix: &'a str,
    pool: &'a str,
    /// Empty for what the operator wrote down.
    namespace: &'a str,
}

#[derive(Serialize)]
struct ConflictBody<'a> {
    #[serde(flatten)]
    wanted: HostBody<'a>,
    taken_by: &'a str,
}

pub(super) async fn get(
    State(api): State<Arc<Api>>,
    client: Asker,
    Pairs(pairs): Pairs<Vec<(String, String)>>,
    headers: HeaderMap,
) -> Response {
    let query = match Query::read(&pairs) {
        Ok(query) if !query.filter.labels.is_empty() => {
            return error(
                StatusCode::BAD_REQUEST,
                "label: hosts have none; filter by namespace, cluster, prefix or id",
            );
        }
        Ok(query) => query,
        Err(bad) => return error(StatusCode::BAD_REQUEST, &bad),
    };
    let has = headers.get(header::IF_NONE_MATCH).map(|value| value.to_str().unwrap_or_default());
    let since = api.revision_of(query.index.as_ref()).filter(|_| query.wait.is_some());
    let mut asked = Asked { api: &api, client: &client, filter: &query.filter, has, since, looked_at: None };
    api.answer(&client, || Interest::EverythingAndTruth, query.wait, |snapshot, over| asked.look(snapshot, over)).await
}

/// What is asked for, and what the client has of it.
struct Asked<'a> {
    api: &'a Api,
    client: &'a Client,
    filter: &'a Filter,
    has: Option<&'a str>,
    /// The revision as of which the client has everything.
    since: Option<u64>,
    /// The revision of the table that was found to be what the client has.
    looked_at: Option<u64>,
}

// === impl Asked ===

impl Asked<'_> {
    fn look(&mut self, snapshot: &Snapshot, over: bool) -> Option<Response> {
        let table = snapshot.hosts();
        // Who waits is woken by other things as well.
        if self.looked_at == Some(table.revision) && !over {
            return None;
        }
        let stamp = self.api.stamp(snapshot, Truth::of_snapshot(snapshot));
        if !table.is_known() {
            // An empty list would take every virtual host from a gateway.
            return Some(stamp.unsynced(&table.unheard.iter().map(|name| &**name).collect::<Vec<_>>()));
        }
        let unchanged = self.has.is_none() && self.since.is_some_and(|since| table.revision <= since);
        if unchanged {
            self.looked_at = Some(table.revision);
            return over.then(|| stamp.not_modified(None));
        }
        let rendering = self.render(snapshot);
        match self.has.is_some_and(|has| matches_etag(has, &rendering.etag)) {
            true => {
                self.looked_at = Some(table.revision);
                over.then(|| stamp.not_modified(Some(&rendering.etag)))
            }
            false => Some(stamp.body(rendering, "application/json")),
        }
    }

    fn render(&self, snapshot: &Snapshot) -> Rendering {
        let table = snapshot.hosts();
        let granted = table.granted.iter().filter(|claim| self.admits(claim));
        let conflicts = table.conflicts.iter().filter(|conflict| self.admits(&conflict.claim));
        let content = Content {
            hosts: granted.map(HostBody::of).collect(),
            conflicts: conflicts.map(ConflictBody::of).collect(),
        };
        // Strings only: nothing in it can fail to be written.
        let content = serde_json::to_string(&content).unwrap_or_default();
        let etag = etag(content.as_bytes());
        let rest = content.strip_prefix('{').unwrap_or_default();
        let body = format!("{{\"index\":\"{}:{}\",{rest}", self.api.boot, snapshot.revision());
        Rendering { body: body.into(), etag }
    }

    fn admits(&self, claim: &Claim) -> bool {
        let Filter { namespace, cluster, .. } = self.filter;
        let id = claim.pool.as_str();
        self.client.scope.may_have_admitted(id)
            && self.filter.may_have_admitted(&claim.pool)
            && namespace.as_deref().is_none_or(|it| claim.namespace.as_deref() == Some(it))
            && cluster.as_deref().is_none_or(|it| id.split('/').next() == Some(it))
    }
}

// === impl HostBody ===

impl<'a> HostBody<'a> {
    fn of(claim: &'a Claim) -> Self {
        Self {
            host: &claim.at.host,
            path_prefix: &claim.at.path_prefix,
            pool: claim.pool.as_str(),
            namespace: claim.namespace.as_deref().unwrap_or_default(),
        }
    }
}

// === impl ConflictBody ===

impl<'a> ConflictBody<'a> {
    fn of(conflict: &'a Conflict) -> Self {
        Self { wanted: HostBody::of(&conflict.claim), taken_by: &conflict.taken_by }
    }
}
