//! A request to a pool: which, how its head changes, one try after the other, and what its answer becomes.

use std::sync::Arc;

use hyper::body::{Body, Incoming};
use hyper::header::{CONTENT_LENGTH, HOST, HeaderValue, TRANSFER_ENCODING};
use hyper::http::request::Parts;
use hyper::http::uri::PathAndQuery;
use hyper::upgrade::OnUpgrade;
use hyper::{Request, Response, StatusCode, Uri, Version};

use super::answer::{Asking, fail, respond};
use super::body::{Download, Fault, Upload};
use super::config::{Fallback, Forward, HeaderEdits, PathPattern, Timeouts};
use super::reason::Reason;
use super::route::{Asked, choose, fits, rewrite};
use super::tries::{Answered, Failed, Order, Tries};
use super::worker::Worker;
use super::{headers, mirror, trace, tunnel};
use crate::endpoints::matched::Matched;
use crate::upstream::{Pool, RequestBody, hash};

/// What was decided while the request was looked at.
pub(super) struct Way {
    place: usize,
    hash: u64,
    path: Option<PathAndQuery>,
    /// The pool of now, for the first try.
    pool: Option<Arc<Pool>>,
    /// The part of the pool that takes it.
    part: Option<Arc<Matched>>,
}

/// Decides where a request goes, before anything of it changes.
pub(super) fn decide(worker: &Worker, forward: &Forward, matched: &PathPattern, asked: &Asked<'_>) -> Way {
    let random = worker.random();
    let path = forward.rewrite.as_ref().and_then(|rule| rewrite(rule, matched, asked.path, asked.query));
    let hash = asked.with(&forward.hash_by, |value| value.map(hash)).unwrap_or(random);
    let place = choose(forward, asked, random);
    let table = worker.shared.upstreams.table();
    let target = forward.targets.get(place).and_then(|target| target.pool.as_ref());
    let pool = target.and_then(|pool| table.pool(pool.as_str())).cloned();
    let part = pool.as_ref().and_then(|pool| pool.part(|requests| fits(requests, asked)));
    Way { place, hash, path, pool, part }
}

/// Sends a request on and gives the answer.
pub(super) async fn forward(
    worker: &Arc<Worker>,
    forward: &Forward,
    way: Way,
    mut asking: Asking,
    mut head: Parts,
    body: Incoming,
    upgraded: Option<OnUpgrade>,
) -> Response<Download> {
    let upgrade = upgraded.as_ref().and_then(|_| headers::requested_upgrade(&head.headers));
    let upgrade = upgrade.filter(|protocol| allows_upgrade(forward, protocol));
    if forward.max_body.is_some_and(|most| body.size_hint().lower() > most) {
        return fail(asking, Reason::BodyTooLarge);
    }
    let Some(target) = forward.targets.get(way.place) else { return fail(asking, Reason::NoPool) };
    asking.exchange.place = way.place;
    let Some(pool) = &target.pool else { return fail(asking, Reason::NoBackend) };
    prepare(worker, forward, way.path, &asking, &mut head, upgrade.as_ref());
    headers::edit(&mut head.headers, &target.request_headers);
    if let Some(asked) = &mut asking.exchange.asked {
        asked.traced(&head);
    }
    let mut fault = None;
    let mirror = forward.mirror.as_ref().filter(|mirror| mirror::is_due(worker, mirror));
    let mut mirrored = None;
    let body = if body.is_end_stream() {
        RequestBody::empty()
    } else {
        let own = fault.insert(Arc::new(Fault::new(asking.exchange.downstream.clone())));
        let mut upload = Upload::new(body, forward.max_body, forward.timeouts.idle, own.clone());
        asking.exchange.received = Some(upload.received());
        if mirror.is_some() {
            let (copier, body) = mirror::pipe();
            upload.copy_to(copier);
            mirrored = Some(body);
        }
        RequestBody::boxed(upload)
    };
    let request = Request::from_parts(head, body);
    if let Some(mirror) = mirror {
        mirror::send(worker, mirror, &request, mirrored);
    }
    let (found, part) = (way.pool.as_deref(), way.part.as_deref());
    let order = Order { pool, found, part, hash: way.hash, retries: &forward.retries, timeouts: forward.timeouts };
    let mut tries = Tries::new(worker, &asking.exchange);
    let mut outcome = tries.run(&order, request, forward.fallback.is_some()).await;
    if let (Err(failed), Some(Fallback::Pool(pool))) = (&mut outcome, &forward.fallback)
        && stands_in(failed.reason)
        && let Some(request) = failed.request.take()
    {
        asking.exchange.place = forward.targets.len();
        outcome = tries.run(&Order { pool, found: None, part: None, ..order }, *request, false).await;
    }
    asking.exchange.tries = tries.count();
    match outcome {
        Ok(answered) => {
            asking.exchange.upstream = Some(answered.picked.address());
            // Whoever stands in for a target is not the target.
            let edits = forward.targets.get(asking.exchange.place).map(|target| &target.response_headers);
            answer(worker, forward, edits, asking, answered, upgraded.filter(|_| upgrade.is_some()))
        }
        Err(Failed { reason, upstream, .. }) => {
            asking.exchange.upstream = upstream;
            // What the client did to its body is the cause, whatever became of the connection that carried it.
            let reason = fault.and_then(|fault| fault.reason()).unwrap_or(reason);
            match &forward.fallback {
                Some(Fallback::Respond(fixed)) if stands_in(reason) => {
                    asking.exchange.reason = Some(reason);
                    respond(asking, fixed)
                }
                _ => fail(asking, reason),
            }
        }
    }
}

/// Whether another answer takes the place of a pool's that failed for this reason.
fn stands_in(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::NoPool
            | Reason::NoEndpoint
            | Reason::Overloaded
            | Reason::ConnectFailed
            | Reason::ConnectTimeout
            | Reason::Reset
            | Reason::BadAnswer
            | Reason::TryTimeout
            | Reason::RequestTimeout
    )
}

fn allows_upgrade(forward: &Forward, protocol: &HeaderValue) -> bool {
    let protocol = protocol.as_bytes();
    // HTTP/2 is spoken with the client by the gateway itself, or not at all.
    let own = protocol.len() >= 2 && protocol.get(..2).is_some_and(|begin| begin.eq_ignore_ascii_case(b"h2"));
    !own && forward.upgrades.iter().any(|it| it == "*" || protocol.eq_ignore_ascii_case(it.as_bytes()))
}

/// Makes the head of what is sent out of the head of what came.
fn prepare(
    worker: &Worker,
    forward: &Forward,
    path: Option<PathAndQuery>,
    asking: &Asking,
    head: &mut Parts,
    upgrade: Option<&HeaderValue>,
) {
    let policy = &asking.active.policy;
    headers::strip_request(&mut head.headers);
    if let Some(protocol) = upgrade {
        headers::ask_upgrade(&mut head.headers, protocol);
    }
    headers::tell_origin(&mut head.headers, &asking.exchange.downstream, &asking.host);
    headers::tell_via(&mut head.headers, policy.via.as_ref().map(|via| via.member(head.version)));
    if policy.start_traces {
        trace::start(&mut head.headers, || worker.random());
    }
    let host = forward.host.as_ref().unwrap_or(&asking.host);
    head.headers.insert(HOST, host.clone());
    headers::edit(&mut head.headers, &asking.route.config.request_headers);
    if path.is_some() || head.uri.scheme().is_some() || head.uri.authority().is_some() {
        // In the form of origins: path and query alone.
        let path = path.or_else(|| head.uri.path_and_query().cloned());
        head.uri = path.map_or_else(|| Uri::from_static("/"), Uri::from);
    }
    head.version = Version::HTTP_11;
    head.extensions.clear();
}

/// Makes the answer out of what a pool answered.
fn answer(
    worker: &Arc<Worker>,
    forward: &Forward,
    edits: Option<&HeaderEdits>,
    mut asking: Asking,
    answered: Answered,
    upgraded: Option<OnUpgrade>,
) -> Response<Download> {
    let Answered { mut response, picked } = answered;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return match upgraded {
            Some(client) => tunnel::open(worker, asking, response, picked, client, forward.timeouts),
            // Nobody asked for it.
            None => fail(asking, Reason::BadAnswer),
        };
    }
    if response.headers().contains_key(TRANSFER_ENCODING) && response.headers().contains_key(CONTENT_LENGTH) {
        // Two lengths: what one side takes for the rest of it another takes for the next answer (RFC 9112, section 6.3).
        asking.exchange.upstream = Some(picked.address());
        return fail(asking, Reason::BadAnswer);
    }
    let (mut head, body) = {
        let version = response.version();
        let via = asking.active.policy.via.as_ref().map(|via| via.member(version).clone());
        let headers = response.headers_mut();
        headers::strip(headers);
        headers::tell_via(headers, via.as_ref());
        response.into_parts()
    };
    head.version = Version::HTTP_11;
    head.extensions.clear();
    if head.status.is_client_error() || head.status.is_server_error() {
        asking.exchange.reason = Some(Reason::Upstream);
    }
    let Timeouts { idle, .. } = forward.timeouts;
    if let Some(edits) = edits {
        headers::edit(&mut head.headers, edits);
    }
    asking.finish(head.status, &mut head.headers);
    let Asking { exchange, .. } = asking;
    Response::from_parts(head, Download::streamed(body, picked, idle, exchange))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upgrade_is_let_through_where_the_route_says_so_and_never_to_http2() {
        let forward = |upgrades: &[&str]| Forward::for_tests("a", upgrades);
        let allows =
            |upgrades: &[&str], protocol| allows_upgrade(&forward(upgrades), &HeaderValue::from_static(protocol));
        assert!(allows(&["websocket"], "WebSocket"));
        assert!(!allows(&["websocket"], "spdy"));
        assert!(allows(&["*"], "spdy"));
        assert!(!allows(&["*"], "h2c"));
        assert!(!allows(&[], "websocket"));
    }
}
