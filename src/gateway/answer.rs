//! From a request to its answer. [`answer`] is the whole path in order.

use std::borrow::Cow;
use std::sync::Arc;

use hyper::body::{Bytes, Incoming};
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, HeaderName, HeaderValue, LOCATION, RETRY_AFTER, UPGRADE};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, Request, Response, StatusCode, Version};

use super::body::Download;
use super::config::{Action, Redirect, Respond};
use super::downstream::Downstream;
use super::exchange::Exchange;
use super::reason::Reason;
use super::route::{Asked, Route, is_ambiguous, plain_host, rewrite};
use super::shared::Active;
use super::worker::Worker;
use super::{access_log, cors, forward, headers};

const REASON: HeaderName = HeaderName::from_static("tidegate-reason");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// A request that a route took.
pub(super) struct Asking {
    pub(super) exchange: Box<Exchange>,
    pub(super) active: Arc<Active>,
    pub(super) route: Arc<Route>,
    /// As the client wrote it.
    pub(super) host: HeaderValue,
    /// Where the route has cross-origin rules: the origin, if it may ask.
    origin: Option<Option<HeaderValue>>,
}

/// What is to be done, decided while the request is looked at and before anything of it changes.
enum Verdict {
    Forward(forward::Way),
    Redirect(Option<HeaderValue>),
    Respond,
    Preflight(HeaderMap),
    /// For so many seconds.
    Limited(u64),
}

/// Answers a request of a connection.
pub(super) async fn answer(
    worker: Arc<Worker>,
    downstream: Arc<Downstream>,
    mut request: Request<Incoming>,
) -> Response<Download> {
    let mut exchange = Exchange::begin(worker.clone(), downstream);
    let active = worker.shared.active();
    exchange.http2 = request.version() == Version::HTTP_2;
    exchange.grpc = exchange.http2 && is_grpc(request.headers());
    exchange.wants_upgrade = !exchange.http2 && request.headers().contains_key(UPGRADE);
    let upgraded = exchange.wants_upgrade.then(|| hyper::upgrade::on(&mut request));
    let (head, body) = request.into_parts();
    let host = match host_of(&head) {
        Ok(host) => host,
        Err(reason) => return refuse(exchange, reason),
    };
    let (route, verdict, origin) = {
        let client = exchange.downstream.client(&head.headers, &active.policy.trusted_proxies);
        let plain = host.to_str().ok().and_then(plain_host);
        if worker.shared.logs() {
            exchange.asked =
                Some(Box::new(access_log::Asked::new(&head, plain.as_deref().unwrap_or_default(), client)));
        }
        let Some(plain) = plain else { return refuse(exchange, Reason::Host) };
        let asked = Asked {
            host: plain,
            method: &head.method,
            path: head.uri.path(),
            query: head.uri.query(),
            headers: &head.headers,
            client,
            port: exchange.downstream.port,
        };
        if let Some(reason) = refusal(&asked) {
            return refuse(exchange, reason);
        }
        let Some(route) = active.routes.find(&asked).cloned() else { return refuse(exchange, Reason::NoRoute) };
        exchange.route = Some(route.clone());
        let origin = route.config.cors.as_ref().map(|config| cors::origin(config, &head.headers));
        let verdict = decide(&worker, &route, &asked, &host, &exchange, origin.as_ref());
        (route, verdict, origin)
    };
    let asking = Asking { exchange, active, route: route.clone(), host, origin };
    match (verdict, &route.config.action) {
        (Verdict::Forward(way), Action::Forward(config)) => {
            // Boxed: what it holds while it waits would be moved with every answer that is ready at once.
            Box::pin(forward::forward(&worker, config, way, asking, head, body, upgraded)).await
        }
        (Verdict::Redirect(Some(location)), Action::Redirect(redirect)) => {
            let mut response = respond_with(asking, redirect.status, Bytes::new());
            response.headers_mut().insert(LOCATION, location);
            response
        }
        (Verdict::Respond, Action::Respond(fixed)) => respond(asking, fixed),
        (Verdict::Preflight(fields), _) => {
            let mut exchange = asking.exchange;
            exchange.status = Some(StatusCode::NO_CONTENT);
            let mut response = Response::new(Download::whole(Bytes::new(), exchange));
            *response.status_mut() = StatusCode::NO_CONTENT;
            *response.headers_mut() = fields;
            response
        }
        (Verdict::Limited(seconds), _) => {
            let mut response = fail(asking, Reason::RateLimited);
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
            response
        }
        // A verdict is of its route's action; a redirect whose place is none is the request's fault.
        (Verdict::Forward(_) | Verdict::Redirect(_) | Verdict::Respond, _) => fail(asking, Reason::Malformed),
    }
}

/// The host that is asked for: the target's own, else that of the field.
fn host_of(head: &Parts) -> Result<HeaderValue, Reason> {
    let field = head.headers.get(HOST);
    let Some(authority) = head.uri.authority() else {
        return match field {
            Some(host) => Ok(host.clone()),
            // HTTP/1.0 may do without.
            None if head.version == Version::HTTP_10 => Ok(HeaderValue::from_static("")),
            None => Err(Reason::Host),
        };
    };
    // Two that differ are two requests to two programs.
    let differs = |host: &HeaderValue| !host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes());
    if head.version == Version::HTTP_2 && (head.headers.get_all(HOST).iter().any(differs)) {
        return Err(Reason::Host);
    }
    HeaderValue::from_str(authority.as_str()).map_err(|_| Reason::Host)
}

fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

/// What is refused whatever the routes say.
fn refusal(asked: &Asked<'_>) -> Option<Reason> {
    if *asked.method == Method::CONNECT || *asked.method == Method::TRACE {
        return Some(Reason::NotSupported);
    }
    is_ambiguous(asked.path).then_some(Reason::Path)
}

fn decide(
    worker: &Worker,
    route: &Route,
    asked: &Asked<'_>,
    host: &HeaderValue,
    exchange: &Exchange,
    origin: Option<&Option<HeaderValue>>,
) -> Verdict {
    if let Some(limit) = &route.limit {
        let now = worker.shared.nanos(exchange.started);
        let taken = match &limit.config().per {
            Some(field) => asked.with(field, |value| limit.take(value, now)),
            None => limit.take(None, now),
        };
        if let Err(wait) = taken {
            return Verdict::Limited(wait.div_ceil(1_000_000_000));
        }
    }
    if let (Some(config), Some(origin)) = (&route.config.cors, origin)
        && cors::is_preflight(asked.method, asked.headers)
    {
        return Verdict::Preflight(cors::preflight(config, origin.clone(), asked.headers));
    }
    match &route.config.action {
        Action::Forward(config) => Verdict::Forward(forward::decide(worker, config, &route.config.matches.path, asked)),
        Action::Redirect(redirect) => {
            let proto = exchange.downstream.asked_scheme(asked.headers);
            Verdict::Redirect(location(redirect, route, asked, host, proto))
        }
        Action::Respond(_) => Verdict::Respond,
    }
}

fn location(
    redirect: &Redirect,
    route: &Route,
    asked: &Asked<'_>,
    host: &HeaderValue,
    scheme: &str,
) -> Option<HeaderValue> {
    let scheme = redirect.scheme.as_deref().unwrap_or(scheme);
    let host = match &redirect.host {
        Some(host) => Cow::Borrowed(host.as_str()),
        // Another scheme has another port: the usual one.
        None if redirect.scheme.is_some() && asked.host.contains(':') => Cow::Owned(format!("[{}]", asked.host)),
        None if redirect.scheme.is_some() => Cow::Borrowed(asked.host.as_ref()),
        None => Cow::Borrowed(host.to_str().ok()?),
    };
    let path = match &redirect.path {
        Some(rule) => rewrite(rule, &route.config.matches.path, asked.path, asked.query)?.to_string(),
        None => asked.query.map_or_else(|| asked.path.to_owned(), |query| format!("{}?{query}", asked.path)),
    };
    HeaderValue::try_from(format!("{scheme}://{host}{path}")).ok()
}

// === impl Asking ===

impl Asking {
    /// What every answer to the route's requests gets: the request's status is known from here on.
    pub(super) fn finish(&mut self, status: StatusCode, fields: &mut HeaderMap) {
        self.exchange.status = Some(status);
        let config = &self.route.config;
        headers::edit(fields, &config.response_headers);
        if let (Some(cors), Some(origin)) = (&config.cors, self.origin.take()) {
            cors::mark(cors, origin, fields);
        }
    }
}

/// A fixed answer.
pub(super) fn respond(mut asking: Asking, fixed: &Respond) -> Response<Download> {
    let failed = fixed.status.is_client_error() || fixed.status.is_server_error();
    if failed && asking.exchange.reason.is_none() {
        asking.exchange.reason = Some(Reason::Route);
    }
    let mut response = respond_with(asking, fixed.status, fixed.body.clone());
    response.headers_mut().entry(CONTENT_TYPE).or_insert_with(|| fixed.content_type.clone());
    response
}

fn respond_with(mut asking: Asking, status: StatusCode, body: Bytes) -> Response<Download> {
    let mut fields = HeaderMap::new();
    asking.finish(status, &mut fields);
    let mut response = Response::new(Download::whole(body, asking.exchange));
    *response.status_mut() = status;
    *response.headers_mut() = fields;
    response
}

/// The answer to a request that failed here.
pub(super) fn fail(mut asking: Asking, reason: Reason) -> Response<Download> {
    let mut fields = HeaderMap::new();
    asking.finish(reason.status(), &mut fields);
    failure(asking.exchange, reason, fields)
}

/// The answer to a request that no route takes.
fn refuse(exchange: Box<Exchange>, reason: Reason) -> Response<Download> {
    failure(exchange, reason, HeaderMap::new())
}

fn failure(mut exchange: Box<Exchange>, reason: Reason, mut fields: HeaderMap) -> Response<Download> {
    exchange.status = Some(reason.status());
    exchange.reason = Some(reason);
    if exchange.grpc {
        // A call has its status in its trailers, which are all that there is of this answer.
        fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        fields.insert(GRPC_STATUS, HeaderValue::from_static(reason.grpc_status()));
        fields.insert(GRPC_MESSAGE, HeaderValue::from_static(reason.name()));
        fields.insert(REASON, HeaderValue::from_static(reason.name()));
        let mut response = Response::new(Download::whole(Bytes::new(), exchange));
        *response.headers_mut() = fields;
        return response;
    }
    if reason.is_doubtful() && !exchange.http2 {
        fields.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    fields.insert(REASON, HeaderValue::from_static(reason.name()));
    let text = Bytes::from_static(reason.text().as_bytes());
    let mut response = Response::new(Download::whole(text, exchange));
    *response.status_mut() = reason.status();
    *response.headers_mut() = fields;
    response
}
