//! The router, who may pass it, and how a request waits.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use serde_json::json;
use tokio::sync::Semaphore;

use super::access::{Access, Client, Refusal};
use super::answer::{Stamp, error};
use super::clients::Clients;
use super::formats::Format;
use super::gateways::{Acknowledgement, Gateways};
use super::lists::ListKind;
use super::metrics::ApiMetrics;
use super::query::Index;
use super::relay::Views;
use super::truth::Truth;
use super::waiters::{Interest, Waiters};
use super::xds::refusals::Refusals;
use super::{delta, eureka, hosts, lists, pools, serving, xds};
use crate::base::backoff::random;
use crate::base::drain::Drain;
use crate::endpoints::Snapshot;
use crate::endpoints::hub::wire::Report;
use crate::net::http::{Peer, PeerNames};

/// The largest acknowledgement, in bytes.
const MAX_ACK: usize = 1 << 20;
/// The largest report of a relay, in bytes.
const MAX_REPORT: usize = 16 << 20;
/// The header by which a gateway says who it is when it asks.
const GATEWAY: &str = "tidegate-gateway";

/// Everything that answers are made from.
#[derive(Debug)]
pub(super) struct Api {
    pub(super) snapshot: Arc<ArcSwap<Snapshot>>,
    /// Names this life of the process: revisions of another one mean nothing here.
    pub(super) boot: String,
    pub(super) waiters: Waiters,
    pub(super) clients: Clients,
    pub(super) gateways: Arc<Gateways>,
    pub(super) access: Arc<ArcSwap<Access>>,
    pub(super) views: Views,
    pub(super) metrics: ApiMetrics,
    pub(super) drain: Drain,
    /// A place for each stream of xDS.
    pub(super) streams: Arc<Semaphore>,
    pub(super) refusals: Refusals,
    /// The listeners of Envoys, as resources.
    pub(super) listeners: xds::Listeners,
    pub(super) eureka: eureka::Past,
}

pub(super) fn router(api: Arc<Api>) -> Router {
    Router::new()
        .route(
            "/v1/pools",
            get(|state, client, query, headers| lists::get(state, client, query, headers, ListKind::Pools)),
        )
        .route("/v1/pools/{*id}", get(|s, c, path, q, h| pools::get(s, c, path, q, h, Format::Json)))
        .route("/v1/delta", get(delta::get))
        .route("/v1/hosts", get(hosts::get))
        .route("/v1/render/nginx", get(|s, c, q, h| lists::get(s, c, q, h, ListKind::Rendered(Format::Nginx))))
        .route("/v1/render/nginx/{*id}", get(|s, c, path, q, h| pools::get(s, c, path, q, h, Format::Nginx)))
        .route("/v1/render/haproxy", get(|s, c, q, h| lists::get(s, c, q, h, ListKind::Rendered(Format::Haproxy))))
        .route("/v1/render/haproxy/{*id}", get(|s, c, path, q, h| pools::get(s, c, path, q, h, Format::Haproxy)))
        .route("/v1/prometheus/targets", get(|s, c, q, h| lists::get(s, c, q, h, ListKind::Prometheus)))
        .route("/v1/ack", post(acknowledge).layer(DefaultBodyLimit::max(MAX_ACK)))
        .route("/v1/relay", post(relay_report).layer(DefaultBodyLimit::max(MAX_REPORT)))
        .route("/v1/gateways", get(serving::get))
        .route("/v1/gateways/{name}", axum::routing::delete(forget_gateway))
        .merge(xds::routes())
        .merge(eureka::routes())
        .fallback(|| async { error(StatusCode::NOT_FOUND, "no such path; /v1/pools is where to begin") })
        .layer(middleware::from_fn_with_state(api.clone(), admit))
        .with_state(api)
}

/// Lets a request pass with its client, or answers why not.
async fn admit(State(api): State<Arc<Api>>, mut request: Request, next: Next) -> Response {
    let grpc = xds::is_grpc(request.headers());
    let client = match identify(&api, &request) {
        Ok(client) => client,
        Err(refusal) => {
            // Who guesses tokens is slowed down as well, and for that others are not.
            let guesser = request.extensions().get::<Peer>().map_or_else(String::new, |peer| peer.0.ip().to_string());
            let often = api.clients.request(&format!("refused {guesser}"), Instant::now()).is_err();
            return api.metrics.counted(match (often, grpc) {
                (true, _) => too_often(grpc),
                (false, false) => refuse(refusal),
                (false, true) => xds::refused(refuse(refusal).status(), "send authorization: Bearer TOKEN"),
            });
        }
    };
    if api.clients.request(&client.account, Instant::now()).is_err() {
        return api.metrics.counted(too_often(grpc));
    }
    request.extensions_mut().insert(Arc::new(client));
    let response = next.run(request).await;
    api.metrics.counted(response)
}

fn identify(api: &Api, request: &Request) -> Result<Client, Refusal> {
    let text = |name| request.headers().get(name).map(|value| value.to_str().unwrap_or_default());
    // The listener names the peer of every request.
    let Some(Peer(peer)) = request.extensions().get::<Peer>() else { return Err(Refusal::Token) };
    let names = request.extensions().get::<PeerNames>().map(|names| &*names.0).unwrap_or_default();
    // Over HTTP/2 the name stands in the address.
    let host = text(header::HOST).or_else(|| request.uri().authority().map(|it| it.as_str()));
    api.access.load().check(peer.ip(), host, text(header::AUTHORIZATION), names)
}

fn too_often(grpc: bool) -> Response {
    let (status, text) = (StatusCode::TOO_MANY_REQUESTS, "more requests than one client gets");
    if grpc { xds::refused(status, text) } else { error(status, text) }
}

fn refuse(refusal: Refusal) -> Response {
    match refusal {
        Refusal::Token => {
            let text = "send Authorization: Bearer TOKEN with a token of discovery.tokens_file";
            let mut response = error(StatusCode::UNAUTHORIZED, text);
            response.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
            response
        }
        Refusal::ReadOnly => error(StatusCode::FORBIDDEN, "writing needs a token, or a certificate, that may write"),
        Refusal::Foreign => error(StatusCode::FORBIDDEN, "this token does not speak for this name"),
    }
}

// === impl Api ===

impl Api {
    /// What an answer from this snapshot says of it.
    pub(super) fn stamp(&self, snapshot: &Snapshot, truth: Truth<'_>) -> Stamp {
        Stamp::new(Index { boot: self.boot.clone(), revision: snapshot.revision() }, truth)
    }

    /// The revision that an index of this life names.
    pub(super) fn revision_of(&self, index: Option<&Index>) -> Option<u64> {
        index.filter(|index| index.boot == self.boot).map(|index| index.revision)
    }

    /// Answers at once if `look` has an answer, else waits until it has one. `look` is asked again after each change of
    /// interest, and with `true` when the wait is over: then it must answer.
    pub(super) async fn answer(
        &self,
        client: &Client,
        interest: impl FnOnce() -> Interest,
        wait: Option<Duration>,
        mut look: impl FnMut(&Snapshot, bool) -> Option<Response> + Send,
    ) -> Response {
        let no_answer = || error(StatusCode::INTERNAL_SERVER_ERROR, "no answer");
        let Some(wait) = wait else { return look(&self.snapshot.load(), true).unwrap_or_else(no_answer) };
        if let Some(answer) = look(&self.snapshot.load(), false) {
            return answer;
        }
        let Ok(_permit) = self.clients.wait(&client.account) else {
            return error(StatusCode::TOO_MANY_REQUESTS, "more waiting requests than one client gets");
        };
        let _waiting = self.metrics.waiting();
        let waiter = self.waiters.wait_for(interest());
        // Not all in step: who began together would end together, again and again.
        let deadline = Instant::now() + wait.mul_f64(1.0 - random() / 16.0);
        loop {
            if let Some(answer) = look(&self.snapshot.load(), false) {
                return answer;
            }
            tokio::select! {
                () = waiter.changed() => {}
                () = tokio::time::sleep_until(deadline.into()) => break,
                () = self.drain.requested() => break,
            }
        }
        look(&self.snapshot.load(), true).unwrap_or_else(no_answer)
    }

    /// Notes which gateway asks for a pool, where it says so. Gives the refusal of one that may not say so.
    pub(super) fn note_asked(&self, client: &Client, headers: &HeaderMap, pool: &str) -> Option<Response> {
        let name = headers.get(GATEWAY)?.to_str().unwrap_or_default();
        let noted = || self.gateways.asked(name, &client.name, pool, SystemTime::now()).err();
        refused_for(client, name).or_else(|| Some(error(StatusCode::BAD_REQUEST, &noted()?.to_string())))
    }
}

/// The refusal of a client that does not speak for a gateway.
fn refused_for(client: &Client, gateway: &str) -> Option<Response> {
    match client.owns(gateway) {
        Ok(true) => None,
        Ok(false) => Some(error(StatusCode::FORBIDDEN, "this token does not speak for this gateway")),
        Err(refusal) => Some(refuse(refusal)),
    }
}

/// The client that [`admit`] found.
pub(super) type Asker = axum::Extension<Arc<Client>>;

async fn acknowledge(State(api): State<Arc<Api>>, client: Asker, body: Bytes) -> Response {
    let ack: Acknowledgement = match serde_json::from_slice(&body) {
        Ok(ack) => ack,
        Err(bad) => return error(StatusCode::BAD_REQUEST, &format!("not an acknowledgement: {bad}")),
    };
    if let Some(refused) = refused_for(&client, &ack.gateway) {
        return refused;
    }
    match api.gateways.acknowledge(ack, &client.name, SystemTime::now()) {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(refused) => error(StatusCode::BAD_REQUEST, &refused.to_string()),
    }
}

async fn relay_report(State(api): State<Arc<Api>>, client: Asker, body: Bytes) -> Response {
    let report: Report = match serde_json::from_slice(&body) {
        Ok(report) => report,
        Err(bad) => return error(StatusCode::BAD_REQUEST, &format!("not a relay's report: {bad}")),
    };
    match api.gateways.relayed(report, &client, SystemTime::now()) {
        Ok(verdict) => Json(verdict).into_response(),
        Err(refusal) => refuse(refusal),
    }
}

async fn forget_gateway(State(api): State<Arc<Api>>, client: Asker, Path(name): Path<String>) -> Response {
    if let Some(refused) = refused_for(&client, &name) {
        return refused;
    }
    tracing::info!(gateway = name, by = client.name, "a gateway was removed");
    match api.gateways.forget(&name) {
        true => Json(json!({ "removed": name })).into_response(),
        false => error(StatusCode::NOT_FOUND, "no gateway of this name was heard of"),
    }
}
