//! Parts of a joined pool that are for some requests alone: those of a host, or with a header or a cookie, that a member's `match`
//! names.
//!
//! They stand beside the pool's endpoints and are none of them, so that whoever cannot tell requests apart, as every gateway but
//! the built-in one, never sends anything there. A member that has a share as well is in both. Within a part all ready endpoints
//! serve by their own weights. A part without a ready endpoint takes nothing: its requests go where all others go.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::pool::{Endpoint, PoolId};
use crate::kubernetes::policy::RequestMatch;

/// Which requests go to a member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// The member.
    pub pool: PoolId,
    /// Its requests.
    pub requests: RequestMatch,
}

/// A part of a published pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Matched {
    /// The member that it is.
    pub pool: PoolId,
    /// Its requests.
    pub requests: RequestMatch,
    /// Sorted as [`super::pool::sort`] does; draining ones among them.
    pub endpoints: Arc<[Endpoint]>,
}

/// The parts of a pool. The first that is for a request takes it.
pub type Parts = Arc<[Arc<Matched>]>;

/// The parts that rules make. `endpoints` gives those of a member, none for a pool that is not known.
pub(super) fn parts(rules: &[Rule], endpoints: impl Fn(&PoolId) -> Option<Arc<[Endpoint]>>) -> Parts {
    let part = |Rule { pool, requests }: &Rule| {
        let endpoints = endpoints(pool).unwrap_or_default();
        Arc::new(Matched { pool: pool.clone(), requests: requests.clone(), endpoints })
    };
    rules.iter().map(part).collect()
}

/// Whether there is none.
pub(super) fn is_none(parts: &Parts) -> bool {
    parts.is_empty()
}

// === impl Matched ===

impl Matched {
    /// Whether this is the same part as another one, whatever endpoints either has.
    pub fn is(&self, other: &Self) -> bool {
        self.pool == other.pool && self.requests == other.requests
    }
}
