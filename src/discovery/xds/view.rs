//! What one client may see of a snapshot, by type and resource name.

use std::net::SocketAddr;
use std::sync::Arc;

use hyper::body::Bytes;

use super::subscription::Name;
use crate::discovery::config::Scope;
use crate::discovery::formats::{Format, envoy, etag};
use crate::discovery::lists::unsynced_of;
use crate::endpoints::Snapshot;
use crate::endpoints::pool::{Pool, Rendering};

/// The types of resource that there are, in the order in which a stream sends them: a cluster before its endpoints, and
/// both before the listeners and routes that lead there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// CDS: the pools' clusters.
    Clusters,
    /// EDS: the pools' endpoints.
    Assignments,
    /// LDS: the listeners of the configuration.
    Listeners,
    /// RDS: one configuration with all hosts.
    Routes,
}

/// The listeners of the configuration, by name.
#[derive(Clone, Debug, Default)]
pub(in crate::discovery) struct Listeners(Arc<[(Name, Rendering)]>);

/// A snapshot as one client may see it.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) scope: &'a Scope,
    pub(super) listeners: &'a Listeners,
}

/// What there is of a name.
#[derive(Clone, Debug)]
pub(super) enum Found<'a> {
    /// A pool.
    Pool(&'a Pool),
    /// A resource that is made of no pool.
    Made(Rendering),
    /// Nothing, for certain.
    Absent,
    /// The source that could have it has not told its pools yet.
    Unknown,
}

/// The place of the route configuration among the renderings of a table of hosts.
const ROUTES_PLACE: usize = 0;

// === impl Listeners ===

impl Listeners {
    /// Listeners at these addresses, which log requests where a path is given.
    pub(in crate::discovery) fn at(addresses: &[SocketAddr], access_log: Option<&str>) -> Self {
        let resource = |address: &SocketAddr| {
            let body = envoy::hosts::listener(*address, access_log);
            let etag = etag(&body);
            (envoy::hosts::listener_name(*address).into(), Rendering { body, etag })
        };
        Self(addresses.iter().map(resource).collect())
    }
}

// === impl Kind ===

impl Kind {
    pub(super) const ALL: [Self; 4] = [Self::Clusters, Self::Assignments, Self::Listeners, Self::Routes];

    pub(super) fn type_url(self) -> &'static str {
        match self {
            Self::Clusters => envoy::CLUSTER,
            Self::Assignments => envoy::ASSIGNMENT,
            Self::Listeners => envoy::hosts::LISTENER,
            Self::Routes => envoy::hosts::ROUTES,
        }
    }

    /// The type of this name; `None` for one that is not served here.
    pub(super) fn of(type_url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.type_url() == type_url)
    }

    /// Whether everything of it can be asked for by naming nothing, and the state of the world has all of it.
    pub(super) fn is_whole(self) -> bool {
        matches!(self, Self::Clusters | Self::Listeners)
    }

    /// Whether its resources are made of pools, each of the pool of its name.
    pub(super) fn is_of_pools(self) -> bool {
        matches!(self, Self::Clusters | Self::Assignments)
    }

    /// A pool as a resource of this type: its encoding, shared by all streams, and its version.
    pub(super) fn resource(self, pool: &Pool) -> (Bytes, Arc<str>) {
        let format = match self {
            Self::Clusters => Format::Cluster,
            Self::Assignments | Self::Listeners | Self::Routes => Format::Assignment,
        };
        let rendering = format.render(pool);
        (rendering.body, rendering.etag)
    }

    /// The version of a pool as a resource of this type.
    pub(super) fn version(self, pool: &Pool) -> Arc<str> {
        match self {
            Self::Clusters => Format::Cluster.render(pool).etag,
            Self::Assignments | Self::Listeners | Self::Routes => Format::Json.render(pool).etag,
        }
    }
}

// === impl Found ===

impl Found<'_> {
    /// The encoding as a resource of a type, and its version.
    pub(super) fn resource(&self, kind: Kind) -> Option<(Bytes, Arc<str>)> {
        match self {
            Self::Pool(pool) => Some(kind.resource(pool)),
            Self::Made(Rendering { body, etag }) => Some((body.clone(), etag.clone())),
            Self::Absent | Self::Unknown => None,
        }
    }

    /// The version as a resource of a type.
    pub(super) fn version(&self, kind: Kind) -> Option<Arc<str>> {
        match self {
            Self::Pool(pool) => Some(kind.version(pool)),
            Self::Made(rendering) => Some(rendering.etag.clone()),
            Self::Absent | Self::Unknown => None,
        }
    }

    pub(super) fn is_unknown(&self) -> bool {
        matches!(self, Self::Unknown)
    }
}

// === impl View ===

impl<'a> View<'a> {
    /// The resource of a type and name.
    pub(super) fn find(&self, kind: Kind, name: &str) -> Found<'a> {
        match kind {
            Kind::Clusters | Kind::Assignments => self.pool(name),
            Kind::Listeners => {
                let listener = self.listeners.0.iter().find(|(known, _)| **known == *name);
                listener.map_or(Found::Absent, |(_, rendering)| Found::Made(rendering.clone()))
            }
            Kind::Routes if name == envoy::hosts::ALL_HOSTS => self.routes(),
            Kind::Routes => Found::Absent,
        }
    }

    /// A pool by its id.
    pub(super) fn pool(&self, id: &str) -> Found<'a> {
        let pool = self.snapshot.pool(id).filter(|pool| self.scope.admits(pool, self.snapshot));
        match pool {
            Some(pool) if unsynced_of(self.snapshot, pool.shards.iter().copied()).is_empty() => Found::Pool(pool),
            Some(_) => Found::Unknown,
            None if self.snapshot.knows_absence_of(id) => Found::Absent,
            None => Found::Unknown,
        }
    }

    fn routes(&self) -> Found<'a> {
        let table = self.snapshot.hosts();
        if !table.is_known() {
            return Found::Unknown;
        }
        let seen = table.granted.iter().filter(|claim| self.scope.may_have_admitted(claim.pool.as_str()));
        let render = || {
            let body = envoy::hosts::routes(seen);
            Rendering { etag: etag(&body), body }
        };
        // Nearly all see all, and share it.
        Found::Made(if *self.scope == Scope::default() { table.renderings.get(ROUTES_PLACE, render) } else { render() })
    }

    /// All pools that the client may see.
    pub(super) fn pools(&self) -> impl Iterator<Item = &'a Arc<Pool>> + use<'a> {
        let Self { snapshot, scope, .. } = *self;
        snapshot.pools().filter(move |pool| scope.admits(pool, snapshot))
    }

    /// All resources of a type that the client may see, by name.
    pub(super) fn all(&self, kind: Kind) -> Box<dyn Iterator<Item = (Name, Found<'a>)> + 'a> {
        match kind {
            Kind::Clusters | Kind::Assignments => {
                Box::new(self.pools().map(|pool| (Name::from(pool.id.as_str()), Found::Pool(pool))))
            }
            Kind::Listeners => {
                let listeners = self.listeners.0.iter();
                Box::new(listeners.map(|(name, rendering)| (name.clone(), Found::Made(rendering.clone()))))
            }
            Kind::Routes => Box::new(std::iter::once((envoy::hosts::ALL_HOSTS.into(), self.routes()))),
        }
    }

    /// Whether all pools are known.
    pub(super) fn is_loaded(&self) -> bool {
        self.snapshot.is_loaded()
    }
}
