//! What becomes of a request.

use std::time::Duration;

use hyper::StatusCode;
use hyper::body::Bytes;
use hyper::header::HeaderValue;
use regex::Regex;

use super::{Field, FieldMatch, HeaderEdits};
use crate::endpoints::pool::PoolId;

/// What becomes of a request.
#[derive(Clone, Debug)]
pub enum Action {
    /// It goes to a pool.
    Forward(Box<Forward>),
    /// It is sent elsewhere.
    Redirect(Redirect),
    /// It is answered here.
    Respond(Respond),
}

/// How requests go to pools.
#[derive(Clone, Debug)]
pub struct Forward {
    /// At least one.
    pub targets: Vec<Target>,
    /// What decides between targets by share, so that who has it once goes there again; `None`: chance.
    pub split_by: Option<Field>,
    /// What a consistent hash is made of.
    pub hash_by: Field,
    /// Changes of the path.
    pub rewrite: Option<Rewrite>,
    /// What `Host` becomes; `None`: it stays.
    pub host: Option<HeaderValue>,
    /// Bounds of time.
    pub timeouts: Timeouts,
    /// When it is tried again.
    pub retries: Retries,
    /// The largest body of a request, in bytes.
    pub max_body: Option<u64>,
    /// Protocols that a connection may be upgraded to; the word `*` is any.
    pub upgrades: Vec<String>,
    /// Where copies go.
    pub mirror: Option<Mirror>,
    /// What answers where no pool can.
    pub fallback: Option<Fallback>,
}

/// A pool and its part.
#[derive(Clone, Debug)]
pub struct Target {
    /// The pool; `None`: there is none, and what falls to this part is answered with 500.
    pub pool: Option<PoolId>,
    /// Its part beside the others'; 0: only what `matches` says.
    pub share: u32,
    /// Requests that go there whatever the shares say.
    pub matches: Option<FieldMatch>,
    /// Changes of the request's fields on their way there, after the route's own.
    pub request_headers: HeaderEdits,
    /// Changes of its answers' fields, before the route's own.
    pub response_headers: HeaderEdits,
}

/// Bounds of time of a request.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// Until the answer's head, all tries together.
    pub request: Option<Duration>,
    /// Until the answer's head, for one try, from the last byte of the request's body on.
    pub per_try: Option<Duration>,
    /// Between two pieces of a body, in either direction.
    pub idle: Duration,
}

/// When a request is tried again.
#[derive(Clone, Debug)]
pub struct Retries {
    /// How often at most.
    pub attempts: u32,
    /// Statuses of answers that are tried again, for methods that may be repeated.
    pub on_status: Vec<StatusCode>,
}

/// What the path becomes.
#[derive(Clone, Debug)]
pub enum Rewrite {
    /// In place of the prefix that the route matched.
    Prefix(String),
    /// All of it.
    Path(String),
    /// What the expression matches, with `$1` for its groups.
    Regex(Regex, String),
}

/// Copies of requests, whose answers nobody hears.
#[derive(Clone, Debug)]
pub struct Mirror {
    /// Where they go.
    pub pool: PoolId,
    /// Of a thousand requests.
    pub per_mille: u32,
}

/// What answers where no pool can: it is unknown or empty, at its limit, or failed.
#[derive(Clone, Debug)]
pub enum Fallback {
    /// Another pool, tried once.
    Pool(PoolId),
    /// A fixed answer.
    Respond(Respond),
}

/// Elsewhere.
#[derive(Clone, Debug)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: StatusCode,
    /// `http` or `https`; `None`: as asked.
    pub scheme: Option<String>,
    /// With its port where it needs one; `None`: as asked.
    pub host: Option<String>,
    /// What the path becomes.
    pub path: Option<Rewrite>,
}

/// A fixed answer.
#[derive(Clone, Debug)]
pub struct Respond {
    /// Its status.
    pub status: StatusCode,
    /// Its type.
    pub content_type: HeaderValue,
    /// Its body.
    pub body: Bytes,
}

// === impl Redirect ===

impl Redirect {
    /// What its status can be.
    pub const STATUSES: [u16; 5] = [301, 302, 303, 307, 308];
}

// === impl Target ===

impl Target {
    /// A pool, or its place, with this part of the requests and nothing else.
    pub fn new(pool: Option<PoolId>, share: u32) -> Self {
        let none = HeaderEdits::default;
        Self { pool, share, matches: None, request_headers: none(), response_headers: none() }
    }
}

// === impl Forward ===

impl Forward {
    /// Every pool that it may send to.
    pub fn pools(&self) -> impl Iterator<Item = &PoolId> {
        let mirror = self.mirror.as_ref().map(|mirror| &mirror.pool);
        self.targets.iter().filter_map(|target| target.pool.as_ref()).chain(self.fallback_pool()).chain(mirror)
    }

    /// To one pool, with nothing else asked for.
    #[cfg(test)]
    pub(in crate::gateway) fn for_tests(pool: &str, upgrades: &[&str]) -> Self {
        let pool = PoolId::parse(pool).unwrap_or_else(|error| panic!("{pool}: {error}"));
        Self {
            targets: vec![Target::new(Some(pool), 1)],
            split_by: None,
            hash_by: Field::Client,
            rewrite: None,
            host: None,
            timeouts: Timeouts { request: None, per_try: None, idle: Duration::from_secs(60) },
            retries: Retries { attempts: 0, on_status: Vec::new() },
            max_body: None,
            upgrades: upgrades.iter().map(|it| (*it).to_owned()).collect(),
            mirror: None,
            fallback: None,
        }
    }

    /// The pool that stands in for the others.
    pub fn fallback_pool(&self) -> Option<&PoolId> {
        match &self.fallback {
            Some(Fallback::Pool(pool)) => Some(pool),
            Some(Fallback::Respond(_)) | None => None,
        }
    }
}
