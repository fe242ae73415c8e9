//! What the admin server answers.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Json, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};

use super::access::{Access, Refusal};
use super::reload::{self, Reloads};
use super::tail::{self, Tails};
use crate::base::readiness::Readiness;
use crate::net::http::Peer;
use crate::telemetry::metrics::Metrics;

/// A stage's state as JSON, made anew at each call. Called on the admin server's task: it must not block.
pub type DebugDump = Arc<dyn Fn() -> Value + Send + Sync>;

/// What the pages are made from.
#[derive(Clone)]
pub struct Sources {
    /// What each plane awaits.
    pub readiness: Readiness,
    /// The process's metrics.
    pub metrics: Metrics,
    /// The log plane's state; `None` where it does not run.
    pub log: Option<DebugDump>,
    /// Records to follow live; `None` where the log plane does not run.
    pub tails: Option<Tails>,
    /// The traffic plane's state; `None` where it does not run.
    pub pools: Option<DebugDump>,
    /// Reads the configuration again; `None` where none is.
    pub reloads: Option<Reloads>,
}

const PAGE: &str = include_str!("page.html");
/// The page holds all that it needs, and nothing else may run in it.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; frame-ancestors 'none'";

pub(super) fn router(sources: Sources, access: Access) -> Router {
    let guarded = Router::new()
        .route("/", get(|| async { ([(header::CONTENT_SECURITY_POLICY, PAGE_POLICY)], Html(PAGE)) }))
        .route("/debug/log", get(debug_log))
        .route("/v1/tail", get(tail::tail))
        .route("/debug/pools", get(debug_pools))
        .route("/v1/reload", post(reload::reload))
        .route_layer(middleware::from_fn_with_state(Arc::new(access), guard));
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/readyz/{plane}", get(plane_ready))
        .route("/metrics", get(metrics))
        .merge(guarded)
        .with_state(sources)
}

async fn guard(State(access): State<Arc<Access>>, request: Request, next: Next) -> Response {
    match decide(&access, &request) {
        Ok(()) => next.run(request).await,
        Err(Refusal::Token) => {
            let mut headers = HeaderMap::new();
            for scheme in ["Bearer", "Basic realm=\"Tidegate: a token's name and the token\""] {
                headers.append(header::WWW_AUTHENTICATE, header::HeaderValue::from_static(scheme));
            }
            (StatusCode::UNAUTHORIZED, headers, "send Authorization: Bearer TOKEN with a token of admin.tokens_file\n")
                .into_response()
        }
        Err(Refusal::NotLocal) => (
            StatusCode::FORBIDDEN,
            "without admin.tokens_file only this machine may read this, by its address or as localhost\n",
        )
            .into_response(),
    }
}

fn decide(access: &Access, request: &Request) -> Result<(), Refusal> {
    let text = |name| request.headers().get(name).map(|value| value.to_str().unwrap_or_default());
    match request.extensions().get::<Peer>() {
        Some(Peer(peer)) => access.check(peer.ip(), text(header::HOST), text(header::AUTHORIZATION)),
        None => Err(Refusal::NotLocal),
    }
}

async fn ready(State(sources): State<Sources>) -> Response {
    let awaited = sources.readiness.awaited();
    let ready = awaited.values().all(Vec::is_empty);
    (status_of(ready), Json(json!({ "ready": ready, "awaited": awaited }))).into_response()
}

async fn plane_ready(State(sources): State<Sources>, Path(plane): Path<String>) -> Response {
    let Some(awaited) = sources.readiness.awaited_by(&plane) else {
        return (StatusCode::NOT_FOUND, "this plane does not run here\n").into_response();
    };
    let ready = awaited.is_empty();
    (status_of(ready), Json(json!({ "ready": ready, "awaited": awaited }))).into_response()
}

fn status_of(ready: bool) -> StatusCode {
    if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

async fn metrics(State(sources): State<Sources>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], sources.metrics.render()).into_response()
}

async fn debug_log(State(sources): State<Sources>) -> Response {
    match sources.log {
        Some(dump) => Json(dump()).into_response(),
        None => (StatusCode::NOT_FOUND, "the log plane does not run here\n").into_response(),
    }
}

async fn debug_pools(State(sources): State<Sources>) -> Response {
    match sources.pools {
        Some(dump) => Json(dump()).into_response(),
        None => (StatusCode::NOT_FOUND, "the traffic plane does not run here\n").into_response(),
    }
}
