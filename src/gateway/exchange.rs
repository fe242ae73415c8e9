//! A request from its head to the end of its answer: what is counted and logged of it. Whoever holds it keeps the request under
//! way; dropping it ends it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hyper::StatusCode;

use super::access_log::{Asked, Outcome};
use super::downstream::{Downstream, Upgrade};
use super::reason::Reason;
use super::route::Route;
use super::shared::Shared;
use super::worker::Worker;

/// One request.
pub(super) struct Exchange {
    worker: Arc<Worker>,
    pub(super) downstream: Arc<Downstream>,
    pub(super) started: Instant,
    pub(super) route: Option<Arc<Route>>,
    /// The place of its target; [`usize::MAX`] while it has none.
    pub(super) place: usize,
    /// Nothing until it is answered.
    pub(super) status: Option<StatusCode>,
    pub(super) reason: Option<Reason>,
    pub(super) tries: u32,
    pub(super) upstream: Option<SocketAddr>,
    /// Bytes of its body, where it has one.
    pub(super) received: Option<Arc<AtomicU64>>,
    pub(super) sent: u64,
    /// Present where there is an access log.
    pub(super) asked: Option<Box<Asked>>,
    /// It asked for an upgrade, and the connection's reader waits for the answer.
    pub(super) wants_upgrade: bool,
    /// It came over HTTP/2.
    pub(super) http2: bool,
    /// It is a call of gRPC.
    pub(super) grpc: bool,
}

// === impl Exchange ===

impl Exchange {
    /// Boxed: it goes through many hands until its answer has ended.
    pub(super) fn begin(worker: Arc<Worker>, downstream: Arc<Downstream>) -> Box<Self> {
        downstream.begin();
        Box::new(Self {
            worker,
            downstream,
            started: Instant::now(),
            route: None,
            place: usize::MAX,
            status: None,
            reason: None,
            tries: 0,
            upstream: None,
            received: None,
            sent: 0,
            asked: None,
            wants_upgrade: false,
            http2: false,
            grpc: false,
        })
    }

    /// Counts and logs what never became a request: its connection's bytes were refused.
    pub(super) fn refused(shared: &Shared, downstream: &Downstream, reason: Reason) {
        shared.metrics.unrouted.count(usize::MAX, reason.status(), Some(reason), Duration::ZERO);
        if !shared.logs() {
            return;
        }
        let outcome = Outcome {
            peer: downstream.peer,
            scheme: downstream.scheme(),
            status: reason.status().as_u16(),
            reason: Some(reason.name()),
            route: "",
            pool: "",
            upstream: None,
            tries: 0,
            received: 0,
            sent: 0,
            took: Duration::ZERO,
        };
        shared.log(&Asked::unread(downstream.peer.ip()), &outcome);
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let shared = &self.worker.shared;
        self.downstream.end();
        if self.wants_upgrade && self.downstream.upgrade() != Upgrade::Taken {
            self.downstream.set_upgrade(Upgrade::Refused);
        }
        // Not answered: whoever asked went away, and all that was done for it was dropped.
        let reason = if self.status.is_none() { Some(Reason::ClientGone) } else { self.reason };
        let status = self.status.unwrap_or_else(|| Reason::ClientGone.status());
        let took = self.started.elapsed();
        let metrics = self.route.as_ref().map_or(&shared.metrics.unrouted, |route| &route.metrics);
        metrics.count(self.place, status, reason, took);
        let received = self.received.as_ref().map_or(0, |received| received.load(Ordering::Relaxed));
        if received > 0 {
            shared.metrics.received.increment(received);
        }
        if self.sent > 0 {
            shared.metrics.sent.increment(self.sent);
        }
        let Some(asked) = &self.asked else { return };
        let outcome = Outcome {
            peer: self.downstream.peer,
            scheme: self.downstream.scheme(),
            status: status.as_u16(),
            reason: reason.map(Reason::name),
            route: if self.route.is_some() { metrics.route() } else { "" },
            pool: metrics.pool(self.place),
            upstream: self.upstream,
            tries: self.tries,
            received,
            sent: self.sent,
            took,
        };
        shared.log(asked, &outcome);
    }
}
