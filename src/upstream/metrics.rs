//! Metrics of pools, one set a pool. Names of pools come from the configuration, so that they are few.

use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};

use super::limits::Usage;
use super::outlier::Cause;
use crate::endpoints::pool::PoolId;

/// Handles of one pool.
pub(super) struct PoolMetrics {
    pub(super) retries: Counter,
    pub(super) refused_retries: Counter,
    pub(super) refused_requests: Counter,
    pub(super) refused_connections: Counter,
    pub(super) connects: Counter,
    pub(super) failed_connects: Counter,
    pub(super) good_checks: Counter,
    pub(super) failed_checks: Counter,
    ejections: [(Cause, Counter, Counter); 3],
    requests: Gauge,
    connections: Gauge,
    pending: Gauge,
    serving: Gauge,
    unhealthy: Gauge,
    ejected: Gauge,
    draining: Gauge,
    standby: Gauge,
    panic: Gauge,
}

/// How many endpoints are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct States {
    pub(super) serving: usize,
    pub(super) unhealthy: usize,
    pub(super) ejected: usize,
    pub(super) draining: usize,
    /// Ready, for when another priority cannot take its traffic.
    pub(super) standby: usize,
    pub(super) panic: bool,
}

// === impl PoolMetrics ===

impl PoolMetrics {
    pub(super) fn register(pool: &PoolId) -> Self {
        describe_counter!("tidegate_upstream_retries_total", "Retries, by whether the pool's budget had room for them");
        describe_counter!("tidegate_upstream_refused_total", "Requests refused by a pool's circuit limits");
        describe_counter!("tidegate_upstream_connects_total", "Connections to endpoints, by result");
        describe_counter!("tidegate_upstream_health_checks_total", "Health checks, by result");
        describe_counter!("tidegate_upstream_ejections_total", "Endpoints ejected for their answers, by cause");
        describe_counter!(
            "tidegate_upstream_ejections_spared_total",
            "Endpoints that were to be ejected, but too many were"
        );
        describe_gauge!("tidegate_upstream_requests", "Requests in flight");
        describe_gauge!("tidegate_upstream_connections", "Connections that are open, idle ones among them");
        describe_gauge!("tidegate_upstream_pending_requests", "Requests that wait for a connection");
        describe_gauge!("tidegate_upstream_endpoints", "Endpoints of a pool, by state");
        describe_gauge!("tidegate_upstream_panic", "1 while so few endpoints are healthy that health is not looked at");
        let pool = || pool.to_string();
        let connects = |result| counter!("tidegate_upstream_connects_total", "pool" => pool(), "result" => result);
        let checks = |result| counter!("tidegate_upstream_health_checks_total", "pool" => pool(), "result" => result);
        let refused = |limit| counter!("tidegate_upstream_refused_total", "pool" => pool(), "limit" => limit);
        let retries = |result| counter!("tidegate_upstream_retries_total", "pool" => pool(), "result" => result);
        let endpoints = |state| gauge!("tidegate_upstream_endpoints", "pool" => pool(), "state" => state);
        let ejections = |cause: Cause| {
            let made = counter!("tidegate_upstream_ejections_total", "pool" => pool(), "cause" => cause.name());
            let spared =
                counter!("tidegate_upstream_ejections_spared_total", "pool" => pool(), "cause" => cause.name());
            (cause, made, spared)
        };
        Self {
            retries: retries("sent"),
            refused_retries: retries("refused"),
            refused_requests: refused("requests"),
            refused_connections: refused("pending"),
            connects: connects("ok"),
            failed_connects: connects("failed"),
            good_checks: checks("ok"),
            failed_checks: checks("failed"),
            ejections: [Cause::Consecutive5xx, Cause::ConsecutiveGatewayFailures, Cause::SuccessRate].map(ejections),
            requests: gauge!("tidegate_upstream_requests", "pool" => pool()),
            connections: gauge!("tidegate_upstream_connections", "pool" => pool()),
            pending: gauge!("tidegate_upstream_pending_requests", "pool" => pool()),
            serving: endpoints("serving"),
            unhealthy: endpoints("unhealthy"),
            ejected: endpoints("ejected"),
            draining: endpoints("draining"),
            standby: endpoints("standby"),
            panic: gauge!("tidegate_upstream_panic", "pool" => pool()),
        }
    }

    pub(super) fn ejected(&self, cause: Cause) {
        if let Some((_, made, _)) = self.ejections.iter().find(|(it, ..)| *it == cause) {
            made.increment(1);
        }
    }

    pub(super) fn spared(&self, cause: Cause) {
        if let Some((_, _, spared)) = self.ejections.iter().find(|(it, ..)| *it == cause) {
            spared.increment(1);
        }
    }

    pub(super) fn connected(&self, connected: bool) {
        let counter = if connected { &self.connects } else { &self.failed_connects };
        counter.increment(1);
    }

    pub(super) fn checked(&self, good: bool) {
        let counter = if good { &self.good_checks } else { &self.failed_checks };
        counter.increment(1);
    }

    pub(super) fn show_states(&self, states: States) {
        self.serving.set(number(states.serving));
        self.unhealthy.set(number(states.unhealthy));
        self.ejected.set(number(states.ejected));
        self.draining.set(number(states.draining));
        self.standby.set(number(states.standby));
        self.panic.set(if states.panic { 1.0 } else { 0.0 });
    }

    pub(super) fn show_usage(&self, usage: &Usage) {
        self.requests.set(f64::from(usage.requests()));
        self.connections.set(f64::from(usage.connections()));
        self.pending.set(f64::from(usage.pending()));
    }
}

impl std::fmt::Debug for PoolMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PoolMetrics").finish_non_exhaustive()
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
fn number(count: usize) -> f64 {
    count as f64
}
