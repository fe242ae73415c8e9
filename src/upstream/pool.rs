//! A pool as of one table, and a pick of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::balance::{Draw, Picker, View};
use super::config::PoolConfig;
use super::life::{Context, Member};
use super::limits::RetryPermit;
use super::outlier::Outcome;
use crate::endpoints::matched::Matched;
use crate::endpoints::pool::{Endpoint, PoolId};
use crate::kubernetes::policy::RequestMatch;

/// A pool's endpoints, who of them serves, and by which weights. Immutable.
#[derive(Debug)]
pub struct Pool {
    pub(super) context: Arc<Context>,
    /// In the snapshot's order, draining ones among them; those of the parts after the others.
    pub(super) members: Box<[Arc<Member>]>,
    /// Who takes the requests that no part takes.
    pub(super) rest: Layout,
    /// Parts that are for some requests alone, each with who takes them.
    pub(super) parts: Box<[(Arc<Matched>, Layout)]>,
    /// The snapshot knows the pool.
    pub(super) known: bool,
}

/// Who of a pool's members takes requests, and how many of them.
#[derive(Debug)]
pub(super) struct Layout {
    /// What each place's weight is; 0 for who gets no requests.
    pub(super) weights: Box<[u64]>,
    pub(super) picker: Picker,
    /// Health is not looked at.
    pub(super) panic: bool,
    /// Endpoints that are ready, in whatever health.
    pub(super) ready: usize,
}

/// What a request goes by.
#[derive(Clone, Copy, Debug)]
pub struct Pick<'a> {
    /// The time.
    pub now: Instant,
    /// 64 random bits (see [`super::Random`]).
    pub random: u64,
    /// Which of the threads asks, from 0.
    pub thread: usize,
    /// The hash of the request's key, for a consistent hash (see [`super::hash()`]).
    pub hash: Option<u64>,
    /// Endpoints that are not to be tried again.
    pub tried: &'a [SocketAddr],
}

/// Why nobody takes a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoEndpoint {
    /// Nobody has heard of the pool.
    #[error("nothing is known of the pool")]
    Unknown,
    /// It has no endpoint that is ready.
    #[error("the pool has no ready endpoint")]
    Empty,
    /// None of its endpoints is in good health, and the pool's panic threshold is 0.
    #[error("no endpoint of the pool is healthy")]
    Unhealthy,
    /// Those that serve have been tried.
    #[error("every endpoint of the pool has been tried")]
    AllTried,
    /// As many requests are in flight as may be.
    #[error("the pool has as many requests in flight as it may")]
    TooManyRequests,
}

/// An endpoint that has a request. The request counts as in flight until this is dropped: keep it as long as the answer's
/// body.
#[derive(Debug)]
pub struct Picked {
    pub(super) member: Arc<Member>,
    thread: usize,
}

/// The pool's members as a picker sees them.
struct Sight<'a> {
    pool: &'a Pool,
    pick: &'a Pick<'a>,
    /// Health does not matter.
    any_health: bool,
}

// === impl Pool ===

impl Pool {
    /// Its id.
    pub fn id(&self) -> &PoolId {
        &self.context.life.id
    }

    /// What it is run by.
    pub fn config(&self) -> &PoolConfig {
        &self.context.config
    }

    /// Whether the snapshot knows it.
    pub fn is_known(&self) -> bool {
        self.known
    }

    /// Whether an endpoint is ready, in whatever health.
    pub fn has_ready(&self) -> bool {
        self.rest.ready > 0
    }

    /// The part that takes a request, by what `fits` says of it; `None` where that is none, or nobody is ready there: then the
    /// request is one as all others.
    #[inline]
    pub fn part(&self, fits: impl Fn(&RequestMatch) -> bool) -> Option<Arc<Matched>> {
        let takes = |(part, layout): &&(Arc<Matched>, Layout)| layout.ready > 0 && fits(&part.requests);
        self.parts.iter().find(takes).map(|(part, _)| Arc::clone(part))
    }

    /// Whether the member at this place takes requests of any kind.
    pub(super) fn serves(&self, place: usize) -> bool {
        let takes = |layout: &Layout| layout.weights.get(place).is_some_and(|weight| *weight > 0);
        takes(&self.rest) || self.parts.iter().any(|(_, layout)| takes(layout))
    }

    /// Requests in flight.
    pub fn in_flight(&self) -> u32 {
        self.context.life.usage.requests()
    }

    /// The endpoint for a request that no part takes; it is in flight from now on.
    ///
    /// # Errors
    /// Nobody takes it.
    #[inline]
    pub fn pick(&self, pick: &Pick<'_>) -> Result<Picked, NoEndpoint> {
        self.pick_in(&self.rest, pick)
    }

    /// The endpoint for a request that a part of this pool took when it was looked at. A part that is no longer there, or for
    /// other requests by now, leaves it to the rest.
    ///
    /// # Errors
    /// Nobody takes it.
    pub fn pick_of(&self, part: &Matched, pick: &Pick<'_>) -> Result<Picked, NoEndpoint> {
        let layout = self.parts.iter().find(|(it, layout)| layout.ready > 0 && it.is(part));
        self.pick_in(layout.map_or(&self.rest, |(_, layout)| layout), pick)
    }

    #[inline]
    fn pick_in(&self, layout: &Layout, pick: &Pick<'_>) -> Result<Picked, NoEndpoint> {
        let usage = &self.context.life.usage;
        let draw = Draw { random: pick.random, hash: pick.hash };
        let sight = Sight { pool: self, pick, any_health: layout.panic };
        let place = match layout.picker.pick(draw, &sight) {
            Some(place) => place,
            None => self.pick_at_last(layout, draw, pick)?,
        };
        let member = self.members.get(place as usize).ok_or(NoEndpoint::Empty)?;
        if !usage.begin(pick.thread, &self.context.config.limits) {
            self.context.life.metrics.refused_requests.increment(1);
            return Err(NoEndpoint::TooManyRequests);
        }
        member.host.begin();
        Ok(Picked { member: Arc::clone(member), thread: pick.thread })
    }

    /// Whoever served when the table was made may be out since: until the next table, one of them is better than nobody.
    #[cold]
    fn pick_at_last(&self, layout: &Layout, draw: Draw, pick: &Pick<'_>) -> Result<u32, NoEndpoint> {
        let nobody = || match () {
            () if !self.known => NoEndpoint::Unknown,
            () if layout.ready == 0 => NoEndpoint::Empty,
            () if layout.weights.iter().all(|weight| *weight == 0) => NoEndpoint::Unhealthy,
            () if pick.tried.is_empty() => NoEndpoint::Unhealthy,
            () => NoEndpoint::AllTried,
        };
        if self.context.config.panic_threshold_percent == 0 {
            return Err(nobody());
        }
        layout.picker.pick(draw, &Sight { pool: self, pick, any_health: true }).ok_or_else(nobody)
    }

    /// Room for a retry, within the pool's budget; hold it while the retry is under way.
    pub fn retry(&self) -> Option<RetryPermit> {
        let config = &self.context.config;
        let permit = self.context.life.usage.retry(&config.limits, &config.retry_budget);
        match permit {
            Some(_) => self.context.life.metrics.retries.increment(1),
            None => self.context.life.metrics.refused_retries.increment(1),
        }
        permit
    }
}

// === impl NoEndpoint ===

impl NoEndpoint {
    /// A short name for logs and metrics.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Unknown => "pool_unknown",
            Self::Empty => "no_endpoint",
            Self::Unhealthy => "no_healthy_endpoint",
            Self::AllTried => "endpoints_exhausted",
            Self::TooManyRequests => "pool_overloaded",
        }
    }
}

// === impl Sight ===

impl View for Sight<'_> {
    #[inline]
    fn is_usable(&self, place: u32) -> bool {
        let Some(member) = self.pool.members.get(place as usize) else { return false };
        (self.any_health || !member.host.is_out())
            && (self.pick.tried.is_empty() || !self.pick.tried.contains(&member.host.target.address()))
    }

    #[inline]
    fn in_flight(&self, place: u32) -> u32 {
        self.pool.members.get(place as usize).map_or(0, |member| member.host.in_flight())
    }

    #[inline]
    fn latency(&self, place: u32) -> Option<f32> {
        let now = self.pool.context.life.milliseconds(self.pick.now);
        self.pool.members.get(place as usize).and_then(|member| member.host.latency(now))
    }

    #[inline]
    fn turn(&self) -> u64 {
        self.pool.context.life.usage.turn(self.pick.thread)
    }
}

// === impl Picked ===

impl Picked {
    /// What is known of the endpoint.
    pub fn endpoint(&self) -> &Endpoint {
        &self.member.endpoint
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.member.host.target.address()
    }

    /// The pool's id.
    pub fn pool(&self) -> &PoolId {
        &self.member.context.life.id
    }

    /// Whether it is spoken to in HTTP/2.
    pub fn is_http2(&self) -> bool {
        self.member.http2
    }

    /// Notes what became of the request, at the head of the answer or when there will be none: health and latency follow
    /// from it. Once a request.
    #[inline]
    pub fn record(&self, outcome: Outcome, latency: Duration, now: Instant) {
        let Member { host, context, .. } = &*self.member;
        if matches!(outcome, Outcome::Status(_) | Outcome::TimedOut) {
            host.took(latency, context.life.milliseconds(now));
        }
        if let Some(config) = &context.config.limits.adaptive {
            let usage = &context.life.usage;
            usage.adaptive.count(config, outcome, latency, usage.requests(), context.life.milliseconds(now));
        }
        if let Some(config) = &context.config.outlier
            && let Some(cause) = host.tally.count(outcome, config)
        {
            context.life.eject(host, cause, config, now);
        }
    }
}

impl Drop for Picked {
    fn drop(&mut self) {
        self.member.host.end();
        self.member.context.life.usage.end(self.thread);
    }
}
