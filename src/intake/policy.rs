//! What a reload swaps: who may connect, and where records go.
//!
//! All of it is one value that never changes, behind one pointer. A worker takes the pointer at the start of a turn and
//! works through the turn with it, so that no command sees half of a change; whoever keeps something of an older policy
//! (a session its user and its route) tells by the version and looks again.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::cluster::Cluster;
use super::commands::table::{Kind, Spec};
use super::config::UserConfig;
use super::rate_limit::RouteLimit;
use super::route_counts::RouteCounts;
use super::shared::Shared;
use super::users::{Users, UsersError};
use crate::net::tls::TlsConfig;
use crate::record::route::RouteTable;

/// What holds from one reload to the next.
pub(super) struct Policy {
    /// Rises by one with every reload.
    pub(super) version: u64,
    /// Who may connect.
    pub(super) users: Users,
    /// What listeners with TLS show and ask for.
    pub(super) tls: Option<TlsConfig>,
    /// What CLUSTER and SENTINEL answer.
    pub(super) cluster: Cluster,
    /// Where records go.
    pub(super) routes: RouteTable,
    /// What is kept of each route, by its place in the table.
    pub(super) states: Vec<RouteState>,
    /// The longest that any route lets a reply wait.
    pub(super) longest_hold: Duration,
}

/// What outlives a reload as long as a route of the same key stands in the configuration.
#[derive(Clone)]
pub(super) struct RouteState {
    /// What it took and refused.
    pub(super) counts: Arc<RouteCounts>,
    /// What it may take; of another reload's only while the limit is the same.
    pub(super) limit: Option<Arc<RouteLimit>>,
}

/// Puts a new policy in the place of the one that holds. There is one for a plane.
pub struct Reloader {
    shared: Arc<Shared>,
    /// Whom new routes are told.
    told: Option<Told>,
}

/// Takes note of new routes.
type Told = Box<dyn Fn(&RouteTable) + Send>;

// === impl Policy ===

impl Policy {
    pub(super) fn new(users: Users, routes: RouteTable, tls: Option<TlsConfig>, cluster: Cluster) -> Self {
        Self::over(users, routes, tls, cluster, 0, HashMap::new())
    }

    /// Whether the command exists here: SENTINEL does only where it is configured.
    #[inline]
    pub(super) fn knows(&self, spec: &Spec) -> bool {
        !matches!(spec.kind, Kind::Sentinel) || self.cluster.is_on()
    }

    /// The policy after this one. A route whose key stood there before goes on counting.
    fn next(&self, users: Users, routes: RouteTable, tls: Option<TlsConfig>, cluster: Cluster) -> Self {
        let before = self.routes.routes().iter().zip(&self.states);
        let before = before.map(|(route, state)| (route.config.key.as_str(), state)).collect();
        // A listener that speaks TLS goes on doing so.
        let tls = tls.or_else(|| self.tls.clone());
        Self::over(users, routes, tls, cluster, self.version + 1, before)
    }

    fn over(
        users: Users,
        routes: RouteTable,
        tls: Option<TlsConfig>,
        cluster: Cluster,
        version: u64,
        before: HashMap<&str, &RouteState>,
    ) -> Self {
        let states = routes.routes().iter().map(|route| {
            let before = before.get(route.config.key.as_str());
            let limit = route.config.rate_limit.as_ref().map(|config| {
                let same = before.and_then(|state| state.limit.as_ref()).filter(|limit| limit.config() == config);
                same.cloned().unwrap_or_else(|| Arc::new(RouteLimit::new(config.clone())))
            });
            RouteState { counts: before.map(|state| state.counts.clone()).unwrap_or_default(), limit }
        });
        let states = states.collect();
        let longest_hold = routes.routes().iter().map(|route| route.config.hold).max().unwrap_or_default();
        Self { version, users, tls, cluster, routes, states, longest_hold }
    }
}

// === impl Reloader ===

impl Reloader {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, told: None }
    }

    /// Calls `told` with new routes before they are in force.
    pub fn telling(self, told: impl Fn(&RouteTable) + Send + 'static) -> Self {
        Self { told: Some(Box::new(told)), ..self }
    }

    /// From the next turn of each worker on these users, routes and certificates hold, and this cluster is told of. Open
    /// connections go on: their users have the rights of now, one who is gone has to log in again, and keys that were
    /// agreed upon stay. `cluster` is asked only once nothing can be refused any more.
    ///
    /// # Errors
    /// A user is configured wrongly; what was goes on.
    pub fn reload(
        &mut self,
        users: &[UserConfig],
        routes: RouteTable,
        tls: Option<TlsConfig>,
        cluster: impl FnOnce() -> Cluster,
    ) -> Result<(), UsersError> {
        let users = Users::from_config(users)?;
        if let Some(told) = &self.told {
            told(&routes);
        }
        let next = self.shared.policy.load().next(users, routes, tls, cluster());
        self.shared.metrics.certificate(next.tls.as_ref());
        self.shared.policy.store(Arc::new(next));
        Ok(())
    }
}
