//! What one client may see of a snapshot, by resource name.

use std::sync::Arc;

use hyper::body::Bytes;

use crate::discovery::config::Scope;
use crate::discovery::formats::{Format, envoy};
use crate::discovery::lists::unsynced_of;
use crate::endpoints::Snapshot;
use crate::endpoints::pool::Pool;

/// The types of resource that there are, in the order in which a stream sends them: a cluster before its endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// CDS: the pools' clusters.
    Clusters,
    /// EDS: the pools' endpoints.
    Assignments,
}

/// A snapshot as one client may see it.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) scope: &'a Scope,
}

/// What there is of a name.
#[derive(Clone, Copy, Debug)]
pub(super) enum Found<'a> {
    /// A pool.
    Pool(&'a Pool),
    /// No pool, for certain.
    Absent,
    /// The source that could have it has not told its pools yet.
    Unknown,
}

// === impl Kind ===

impl Kind {
    pub(super) const ALL: [Self; 2] = [Self::Clusters, Self::Assignments];

    pub(super) fn type_url(self) -> &'static str {
        match self {
            Self::Clusters => envoy::CLUSTER,
            Self::Assignments => envoy::ASSIGNMENT,
        }
    }

    /// The type of this name; `None` for one that is not served here.
    pub(super) fn of(type_url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.type_url() == type_url)
    }

    /// A pool as a resource of this type: its encoding, shared by all streams, and its version.
    pub(super) fn resource(self, pool: &Pool) -> (Bytes, Arc<str>) {
        let format = match self {
            Self::Clusters => Format::Cluster,
            Self::Assignments => Format::Assignment,
        };
        let rendering = format.render(pool);
        (rendering.body, rendering.etag)
    }

    /// The version of a pool as a resource of this type.
    pub(super) fn version(self, pool: &Pool) -> Arc<str> {
        match self {
            Self::Clusters => Format::Cluster.render(pool).etag,
            Self::Assignments => Format::Json.render(pool).etag,
        }
    }
}

// === impl View ===

impl<'a> View<'a> {
    pub(super) fn find(&self, name: &str) -> Found<'a> {
        let pool = self.snapshot.pool(name).filter(|pool| self.scope.admits(pool, self.snapshot));
        match pool {
            Some(pool) if unsynced_of(self.snapshot, pool.shards.iter().copied()).is_empty() => Found::Pool(pool),
            Some(_) => Found::Unknown,
            None if self.snapshot.knows_absence_of(name) => Found::Absent,
            None => Found::Unknown,
        }
    }

    /// All pools that the client may see.
    pub(super) fn all(&self) -> impl Iterator<Item = &'a Arc<Pool>> {
        let Self { snapshot, scope } = *self;
        snapshot.pools().filter(move |pool| scope.admits(pool, snapshot))
    }

    /// Whether all pools are known.
    pub(super) fn is_loaded(&self) -> bool {
        self.snapshot.is_loaded()
    }
}
