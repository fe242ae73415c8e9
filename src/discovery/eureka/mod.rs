//! Eureka's REST API, read-only, for clients that know nothing else: under `/eureka` and `/eureka/v2`, and for the services
//! of one namespace under `/eureka/namespaces/NAMESPACE`.
//!
//! | path | answers |
//! |---|---|
//! | `/apps` | all applications |
//! | `/apps/delta` | what changed in the last minutes, with the hash code of everything (see [`past`]) |
//! | `/apps/APP`, `/apps/APP/INSTANCE` | one |
//!
//! JSON where `Accept` names it, else XML, as Netflix's server does. Registrations are refused with 405: what is served
//! comes from the sources, and an instance that holds no state of its own can be replaced at any time.

mod body;
mod past;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use axum::routing::{MethodRouter, any, get};

pub(super) use self::past::Past;

use self::body::{Encoding, delta, whole};
use super::access::Client;
use super::answer::{Stamp, error};
use super::api::{Api, Asker};
use super::formats::eureka::{AppCollision, Apps, apps, hash_code, instances};
use super::formats::rendering;
use super::lists::{admitted, unsynced_of};
use super::query::{Filter, matches_etag};
use super::truth::Truth;
use crate::endpoints::Snapshot;

const PREFIXES: [&str; 3] = ["/eureka", "/eureka/v2", "/eureka/namespaces/{namespace}"];

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    All,
    Delta,
    /// An application, or one of its instances, as the path says.
    One,
}

/// What a path has names for.
type Names = Path<HashMap<String, String>>;

pub(super) fn routes() -> Router<Arc<Api>> {
    let mut router = Router::new();
    for prefix in PREFIXES {
        let path = |rest: &str| format!("{prefix}/apps{rest}");
        router = router
            .route(&path(""), reading(What::All))
            // The JVM client asks with the slash.
            .route(&path("/"), reading(What::All))
            .route(&path("/delta"), reading(What::Delta))
            .route(&path("/{app}"), reading(What::One))
            .route(&path("/{app}/{instance}"), reading(What::One))
            .route(&path("/{app}/{instance}/{*more}"), any(refuse));
    }
    router
}

fn reading(what: What) -> MethodRouter<Arc<Api>> {
    get(move |api, client, names, headers| answer(api, client, names, headers, what)).fallback(refuse)
}

async fn refuse() -> Response {
    let text = "this Eureka is read-only: registrations, renewals and changes of status are not taken; \
                set registerWithEureka=false";
    let mut response = error(StatusCode::METHOD_NOT_ALLOWED, text);
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET"));
    response
}

async fn answer(
    State(api): State<Arc<Api>>,
    client: Asker,
    Path(names): Names,
    headers: HeaderMap,
    what: What,
) -> Response {
    let snapshot = api.snapshot.load_full();
    let stamp = api.stamp(&snapshot, Truth::of_snapshot(&snapshot));
    if !snapshot.is_loaded() {
        return stamp.unsynced(&unsynced_of(&snapshot, 0..snapshot.shards().len()));
    }
    let encoding = Encoding::of(&headers);
    let filter = Filter { namespace: names.get("namespace").cloned(), ..Filter::default() };
    let base = api.eureka.told(&snapshot, Instant::now());
    let made = match what {
        What::All => visible(&snapshot, &filter, &client).map(|apps| Some(whole(&apps, encoding))),
        What::Delta => changes(base.as_deref(), &snapshot, &filter, &client, encoding),
        What::One => one(&names, &snapshot, &filter, &client, encoding),
    };
    match made {
        Ok(Some(text)) => conditional(&stamp, text, encoding, &headers),
        Ok(None) if what == What::Delta => {
            // A client takes 404 for "no delta now" and fetches everything.
            stamp.error(StatusCode::NOT_FOUND, "no delta can be told yet: fetch everything")
        }
        Ok(None) => stamp.error(StatusCode::NOT_FOUND, "no such application or instance"),
        Err(collision) => stamp.error(StatusCode::CONFLICT, &collision.to_string()),
    }
}

fn conditional(stamp: &Stamp, text: String, encoding: Encoding, headers: &HeaderMap) -> Response {
    let rendering = rendering(text);
    let has = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    match has.is_some_and(|has| matches_etag(has, &rendering.etag)) {
        true => stamp.not_modified(Some(&rendering.etag)),
        false => stamp.body(rendering, encoding.content_type()),
    }
}

/// The applications that a client may see.
fn visible(snapshot: &Snapshot, filter: &Filter, client: &Client) -> Result<Apps, AppCollision> {
    apps(admitted(snapshot, filter, client))
}

fn one(
    names: &HashMap<String, String>,
    snapshot: &Snapshot,
    filter: &Filter,
    client: &Client,
    encoding: Encoding,
) -> Result<Option<String>, AppCollision> {
    // Clients write names as they like.
    let app = names.get("app").map(|app| app.to_ascii_uppercase()).unwrap_or_default();
    let apps = visible(snapshot, filter, client)?;
    let Some(pools) = apps.get(&app) else { return Ok(None) };
    Ok(match names.get("instance") {
        Some(id) => instances(&app, pools).get(id).map(|instance| body::instance(instance, encoding)),
        None => Some(body::application(&app, pools, encoding)),
    })
}

/// What is different from what was published some minutes ago; `None` where nobody knows what that was.
fn changes(
    base: Option<&Snapshot>,
    snapshot: &Snapshot,
    filter: &Filter,
    client: &Client,
    encoding: Encoding,
) -> Result<Option<String>, AppCollision> {
    let Some(base) = base else { return Ok(None) };
    let (Ok(before), now) = (visible(base, filter, client), visible(snapshot, filter, client)?) else {
        // What was refused then, nobody has.
        return Ok(None);
    };
    Ok(Some(delta(&before, &now, &hash_code(&now), encoding)))
}
