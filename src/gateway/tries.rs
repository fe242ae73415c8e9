//! One request, tried until an endpoint answers: another endpoint each time, within the route's number, the pool's budget and the
//! request's time, and only where a second try cannot do a thing twice. That is so where nothing of the request was
//! written, or where its method may be repeated (RFC 9110, section 9.2.2) and it has no body.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use hyper::body::Body;
use hyper::{Method, Request, Response};

use super::alarm::within;
use super::config::{Retries, Timeouts};
use super::exchange::Exchange;
use super::reason::Reason;
use super::worker::Worker;
use crate::endpoints::matched::Matched;
use crate::endpoints::pool::PoolId;
use crate::upstream::{
    NoEndpoint, Outcome, Pick, Picked, Pool, RequestBody, ResponseBody, RetryPermit, SendError, SendErrorKind,
    SendOptions,
};

/// What is asked of a pool.
#[derive(Clone, Copy)]
pub(super) struct Order<'a> {
    pub(super) pool: &'a PoolId,
    /// What the request found when it was looked at: later tries go by the pool of their time.
    pub(super) found: Option<&'a Pool>,
    /// The part of the pool that takes the request.
    pub(super) part: Option<&'a Matched>,
    pub(super) hash: u64,
    pub(super) retries: &'a Retries,
    pub(super) timeouts: Timeouts,
}

/// An endpoint's answer. The request is in flight there until both are dropped.
pub(super) struct Answered {
    pub(super) response: Response<ResponseBody>,
    pub(super) picked: Picked,
}

/// Nobody answered.
pub(super) struct Failed {
    pub(super) reason: Reason,
    /// Who was tried last.
    pub(super) upstream: Option<SocketAddr>,
    /// The request, where it may be sent elsewhere.
    pub(super) request: Option<Box<Request<RequestBody>>>,
}

/// The tries of one request, at whatever pools.
pub(super) struct Tries<'a> {
    worker: &'a Worker,
    options: SendOptions,
    started: Instant,
    /// Counts the bytes of the request's body.
    received: Option<Arc<AtomicU64>>,
    count: u32,
    tried: Vec<SocketAddr>,
    /// Who closed an idle connection under this request once.
    stale: Vec<SocketAddr>,
    last: Option<SocketAddr>,
}

/// One try that failed.
struct Miss {
    reason: Reason,
    /// Another endpoint may do better.
    elsewhere: bool,
    /// So may the same: it closed a connection that had been idle, as it may at any time.
    stale: bool,
    /// The request, where nothing of it was written.
    request: Option<Box<Request<RequestBody>>>,
}

// === impl Tries ===

impl<'a> Tries<'a> {
    pub(super) fn new(worker: &'a Worker, exchange: &Exchange) -> Self {
        let downstream = &exchange.downstream;
        let options = SendOptions { client: Some(downstream.peer), local: Some(downstream.local) };
        let received = exchange.received.clone();
        Self {
            worker,
            options,
            started: exchange.started,
            received,
            count: 0,
            tried: Vec::new(),
            stale: Vec::new(),
            last: None,
        }
    }

    /// How often an endpoint was asked.
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// Sends a request to the order's pool. With `keep`, a request that failed is given back where another pool may have it.
    ///
    /// # Errors
    /// No endpoint answered.
    pub(super) async fn run(
        &mut self,
        order: &Order<'_>,
        mut request: Request<RequestBody>,
        keep: bool,
    ) -> Result<Answered, Failed> {
        let repeatable = is_repeatable(&request);
        let mut left = order.retries.attempts;
        // Room within the pool's budget, while a try after the first is under way.
        let mut _permit: Option<RetryPermit> = None;
        loop {
            // The last one as well: an idle connection that was closed costs none of the route's tries.
            let spare = repeatable.then(|| copy(&request));
            // The first goes out as the request comes in.
            let now = if self.count == 0 { self.started } else { Instant::now() };
            let picked = match self.pick(order, now) {
                Ok(picked) => picked,
                Err(reason) => return Err(self.failed(reason, keep.then_some(request))),
            };
            self.count += 1;
            let address = picked.address();
            let miss = match self.send(order, &picked, request, now).await {
                Ok(response) => {
                    let status = response.status();
                    let answered = Instant::now();
                    picked.record(Outcome::Status(status.as_u16()), answered - now, answered);
                    let again = left > 0 && order.retries.on_status.contains(&status);
                    let Some(next) = spare.filter(|_| again) else { return Ok(Answered { response, picked }) };
                    // A bad answer is better than none: it is let go when another can be had.
                    self.last = Some(address);
                    self.tried.push(address);
                    match self.retry(order).filter(|_| self.has_untried(order)) {
                        Some(permit) => _permit = Some(permit),
                        None => return Ok(Answered { response, picked }),
                    }
                    left -= 1;
                    request = next;
                    continue;
                }
                Err(miss) => miss,
            };
            drop(picked);
            self.last = Some(address);
            // It says nothing of the endpoint, and takes none of the route's tries; the second time it does.
            let is_free = miss.stale && !self.stale.contains(&address);
            if is_free {
                self.stale.push(address)
            } else {
                self.tried.push(address)
            }
            let next = miss.request.map(|request| *request).or(spare);
            let reason = miss.reason;
            let Some(next) = next else { return Err(self.failed(reason, None)) };
            if is_free {
                self.worker.shared.metrics.retries.increment(1);
                request = next;
                continue;
            }
            if left == 0 || !miss.elsewhere {
                return Err(self.failed(reason, keep.then_some(next)));
            }
            match self.retry(order) {
                Some(permit) => _permit = Some(permit),
                None => return Err(self.failed(reason, keep.then_some(next))),
            }
            left -= 1;
            request = next;
            if !self.has_untried(order) {
                return Err(self.failed(reason, keep.then_some(request)));
            }
        }
    }

    fn failed(&self, reason: Reason, request: Option<Request<RequestBody>>) -> Failed {
        Failed { reason, upstream: self.last, request: request.map(Box::new) }
    }

    fn pick(&self, order: &Order<'_>, now: Instant) -> Result<Picked, Reason> {
        let table;
        let pool: &Pool = match order.found.filter(|_| self.count == 0) {
            Some(found) => found,
            None => {
                table = self.worker.shared.upstreams.table();
                table.pool(order.pool.as_str()).ok_or(Reason::NoPool)?
            }
        };
        let (random, thread) = (self.worker.random(), self.worker.thread);
        let pick = Pick { now, random, thread, hash: Some(order.hash), tried: &self.tried };
        let picked = order.part.map_or_else(|| pool.pick(&pick), |part| pool.pick_of(part, &pick));
        picked.map_err(|error| match error {
            NoEndpoint::Unknown => Reason::NoPool,
            NoEndpoint::TooManyRequests => Reason::Overloaded,
            NoEndpoint::Empty | NoEndpoint::Unhealthy | NoEndpoint::AllTried => Reason::NoEndpoint,
        })
    }

    /// Whether somebody is left to try. Where nobody is, the reason of the last try says more.
    fn has_untried(&self, order: &Order<'_>) -> bool {
        self.pick(order, Instant::now()).is_ok()
    }

    fn retry(&self, order: &Order<'_>) -> Option<RetryPermit> {
        let table = self.worker.shared.upstreams.table();
        let permit = table.pool(order.pool.as_str())?.retry()?;
        self.worker.shared.metrics.retries.increment(1);
        Some(permit)
    }

    /// One try.
    async fn send(
        &self,
        order: &Order<'_>,
        picked: &Picked,
        request: Request<RequestBody>,
        now: Instant,
    ) -> Result<Response<ResponseBody>, Miss> {
        let mut sending = pin!(self.worker.connections.send(picked, request, &self.options));
        let (mut moved, mut from) = (self.moved(), now);
        let sent = loop {
            let Some((until, reason)) = self.limit(order.timeouts, from) else { break Ok(sending.await) };
            match within(until, sending.as_mut()).await {
                Some(sent) => break Ok(sent),
                // A body that is still on its way is no endpoint that does not answer.
                None if reason == Reason::TryTimeout && self.moved() != moved => {
                    (moved, from) = (self.moved(), Instant::now());
                }
                None => break Err(reason),
            }
        };
        match sent {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => {
                picked.record(error.outcome(), now.elapsed(), Instant::now());
                Err(Miss::of(error))
            }
            Err(reason) => {
                picked.record(Outcome::TimedOut, now.elapsed(), Instant::now());
                Err(Miss { reason, elsewhere: reason == Reason::TryTimeout, stale: false, request: None })
            }
        }
    }

    /// How much of the request's body has come.
    fn moved(&self) -> u64 {
        self.received.as_ref().map_or(0, |received| received.load(Ordering::Relaxed))
    }

    /// Until when a try may last that begins, or goes on, at this time; and what it is when that is over.
    fn limit(&self, timeouts: Timeouts, from: Instant) -> Option<(Instant, Reason)> {
        let whole = timeouts.request.map(|time| (self.started + time, Reason::RequestTimeout));
        let own = timeouts.per_try.map(|time| (from + time, Reason::TryTimeout));
        match (own, whole) {
            (Some(own), Some(whole)) => Some(if whole.0 <= own.0 { whole } else { own }),
            (own, whole) => own.or(whole),
        }
    }
}

// === impl Miss ===

impl Miss {
    fn of(mut error: SendError) -> Self {
        let request = error.take_request().map(Box::new);
        let closed = matches!(error.kind(), SendErrorKind::Closed | SendErrorKind::Reset);
        let stale = closed && error.is_reused();
        let (reason, elsewhere) = match error.kind() {
            SendErrorKind::Connect | SendErrorKind::Tls => (Reason::ConnectFailed, true),
            SendErrorKind::ConnectTimeout => (Reason::ConnectTimeout, true),
            SendErrorKind::Connections | SendErrorKind::ConnectionsTimeout => (Reason::Overloaded, false),
            SendErrorKind::Closed | SendErrorKind::Reset | SendErrorKind::Refused => (Reason::Reset, true),
            SendErrorKind::Protocol => (Reason::BadAnswer, true),
            SendErrorKind::Body => (Reason::ClientGone, false),
        };
        Self { reason, elsewhere, stale, request }
    }
}

/// Whether sending it twice is as sending it once.
fn is_repeatable(request: &Request<RequestBody>) -> bool {
    let method = request.method();
    let idempotent = [Method::GET, Method::HEAD, Method::OPTIONS, Method::PUT, Method::DELETE].contains(method);
    idempotent && request.body().is_end_stream() && !request.headers().contains_key(hyper::header::UPGRADE)
}

/// A request without a body, once more.
pub(super) fn copy<B>(request: &Request<B>) -> Request<RequestBody> {
    let mut copy = Request::new(RequestBody::empty());
    copy.method_mut().clone_from(request.method());
    copy.uri_mut().clone_from(request.uri());
    copy.headers_mut().clone_from(request.headers());
    copy
}

#[cfg(test)]
mod tests {
    use hyper::body::Bytes;

    use super::*;

    #[test]
    fn only_what_may_be_repeated_is_repeatable() {
        let request = |method, body| Request::builder().method(method).body(body).unwrap();
        assert!(is_repeatable(&request("GET", RequestBody::empty())));
        assert!(is_repeatable(&request("DELETE", RequestBody::empty())));
        assert!(!is_repeatable(&request("POST", RequestBody::empty())));
        assert!(!is_repeatable(&request("PATCH", RequestBody::empty())));
        assert!(!is_repeatable(&request("PUT", RequestBody::full(Bytes::from_static(b"x")))));
        let mut upgrade = request("GET", RequestBody::empty());
        upgrade.headers_mut().insert("upgrade", "websocket".parse().unwrap());
        assert!(!is_repeatable(&upgrade));
    }
}
