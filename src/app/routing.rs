//! What requests go by: the file's routes, a cluster's after them, and the pools of both. Each changes when it likes; every change
//! is one swap.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use crate::config::GatewayPlaneConfig;
use crate::endpoints::join::Join;
use crate::endpoints::pool::PoolId;
use crate::gateway::GatewayReloader;
use crate::gateway::config::{HostPattern, Policy, RouteConfig};
use crate::gateway::kubernetes::ClusterRoutes;
use crate::upstream::{PoolConfig, Upstreams};

/// What there is to go by, and who goes by it.
pub(super) struct Routing {
    gateway: GatewayReloader,
    upstreams: Arc<Upstreams>,
    joins: Arc<[Join]>,
    parts: Mutex<Parts>,
}

/// Where it comes from.
struct Parts {
    /// Of the file: its routes and limits, its pools, and how a pool is run that it says nothing of.
    policy: Policy,
    pools: BTreeMap<PoolId, PoolConfig>,
    default_pool: PoolConfig,
    /// Of the cluster.
    cluster: Vec<RouteConfig>,
}

// === impl Routing ===

impl Routing {
    /// For a gateway that goes by this configuration already.
    pub(super) fn new(
        gateway: GatewayReloader,
        upstreams: Arc<Upstreams>,
        joins: Arc<[Join]>,
        config: &GatewayPlaneConfig,
    ) -> Self {
        let parts = Parts {
            policy: config.gateway.policy.clone(),
            pools: config.pools.clone(),
            default_pool: config.default_pool.clone(),
            cluster: Vec::new(),
        };
        Self { gateway, upstreams, joins, parts: Mutex::new(parts) }
    }

    /// Puts a file's routes, limits, pools' settings and certificates into force.
    pub(super) fn set_file(&self, config: &GatewayPlaneConfig) {
        self.gateway.reload_certificates(&config.gateway);
        self.change(|parts| {
            parts.policy.clone_from(&config.gateway.policy);
            parts.pools.clone_from(&config.pools);
        });
    }

    /// Puts a cluster's routes and certificates into force.
    pub(super) fn set_cluster(&self, cluster: ClusterRoutes) {
        self.gateway.set_cluster_certificates(&cluster.certificates);
        self.change(|parts| parts.cluster = cluster.routes);
    }

    fn change(&self, change: impl FnOnce(&mut Parts)) {
        // Held to the end, so that what is in force is what was changed last.
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut parts);
        let mut policy = parts.policy.clone();
        policy.routes.extend(parts.cluster.iter().cloned());
        let mut pools = parts.pools.clone();
        for pool in policy.pools().filter(|pool| !parts.pools.contains_key(*pool)) {
            pools.insert(pool.clone(), parts.default_pool.clone());
        }
        // First who may be sent to, then who is. Requests that go by the former routes still need those routes' pools.
        let former_pools = self.upstreams.reconfigure(with_members(pools, &self.joins));
        let former_routes = self.gateway.reload(policy);
        tokio::spawn(async move {
            former_routes.await;
            drop(former_pools);
        });
    }
}

/// The hosts that the file's own routes have.
pub(super) fn hosts(config: &GatewayPlaneConfig) -> BTreeSet<HostPattern> {
    config.gateway.policy.routes.iter().map(|route| route.matches.host.clone()).collect()
}

/// Joined pools know their members, so that a priority is left when its endpoints are ill and not only when it is empty.
pub(super) fn with_members(mut pools: BTreeMap<PoolId, PoolConfig>, joins: &[Join]) -> BTreeMap<PoolId, PoolConfig> {
    for join in joins {
        if let Some(pool) = pools.get_mut(&join.id) {
            pool.members.clone_from(&join.members);
        }
    }
    pools
}
