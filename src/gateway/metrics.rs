//! Metrics of the gateway. Labels are names of the configuration: routes and pools, never what a client sent.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hyper::StatusCode;
use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};

use super::config::{Action, RouteConfig};
use super::reason::Reason;
use crate::endpoints::pool::PoolId;
use crate::telemetry::histogram::Histogram;

/// Statuses whose counters are kept at hand; others are looked up at each use.
const COMMON: [u16; 24] = [
    200, 404, 304, 503, 429, 204, 201, 202, 206, 101, 301, 302, 307, 308, 400, 401, 403, 405, 413, 499, 500, 502, 504,
    501,
];
/// The label of a request that no route took.
const NO_ROUTE: &str = "-";

/// Of the gateway as a whole.
#[derive(Debug)]
pub(super) struct GatewayMetrics {
    pub(super) connections: Gauge,
    pub(super) accepted: Counter,
    pub(super) refused: Counter,
    pub(super) tls_failures: Counter,
    pub(super) retries: Counter,
    pub(super) mirrored: Counter,
    pub(super) mirror_dropped: Counter,
    pub(super) upgraded: Gauge,
    pub(super) received: Counter,
    pub(super) sent: Counter,
    pub(super) logged: Counter,
    pub(super) log_dropped: Counter,
    /// Of requests that no route took.
    pub(super) unrouted: RouteMetrics,
}

/// Of one route.
#[derive(Debug)]
pub(super) struct RouteMetrics {
    route: Arc<str>,
    /// Its targets in order, its fallback, and no pool at all, last.
    pools: Vec<PoolCounters>,
    failures: [OnceLock<Counter>; Reason::ALL.len()],
    seconds: Histogram,
}

#[derive(Debug)]
struct PoolCounters {
    pool: Arc<str>,
    codes: [OnceLock<Counter>; COMMON.len()],
}

// === impl GatewayMetrics ===

impl GatewayMetrics {
    pub(super) fn register() -> Self {
        describe_counter!(
            "tidegate_gateway_requests_total",
            "Requests by route, pool and the status that was answered"
        );
        describe_counter!("tidegate_gateway_failures_total", "Requests that were no success, by route and reason");
        describe_gauge!("tidegate_gateway_connections", "Connections of clients");
        describe_counter!("tidegate_gateway_connections_accepted_total", "Connections that were accepted");
        describe_counter!("tidegate_gateway_connections_refused_total", "Connections above the limit, closed at once");
        describe_counter!("tidegate_gateway_tls_failures_total", "Connections that did not come to TLS");
        describe_counter!("tidegate_gateway_retries_total", "Tries after a request's first");
        describe_counter!("tidegate_gateway_mirrored_total", "Copies of requests that were sent to a mirror");
        describe_counter!("tidegate_gateway_mirror_dropped_total", "Copies of requests that were not sent whole");
        describe_gauge!("tidegate_gateway_upgraded_connections", "Connections that speak another protocol now");
        describe_counter!("tidegate_gateway_received_bytes_total", "Bytes of requests' bodies");
        describe_counter!("tidegate_gateway_sent_bytes_total", "Bytes of answers' bodies");
        describe_counter!("tidegate_gateway_access_records_total", "Records handed to the access log");
        describe_counter!("tidegate_gateway_access_dropped_total", "Records of the access log that found no room");
        Self {
            connections: gauge!("tidegate_gateway_connections"),
            accepted: counter!("tidegate_gateway_connections_accepted_total"),
            refused: counter!("tidegate_gateway_connections_refused_total"),
            tls_failures: counter!("tidegate_gateway_tls_failures_total"),
            retries: counter!("tidegate_gateway_retries_total"),
            mirrored: counter!("tidegate_gateway_mirrored_total"),
            mirror_dropped: counter!("tidegate_gateway_mirror_dropped_total"),
            upgraded: gauge!("tidegate_gateway_upgraded_connections"),
            received: counter!("tidegate_gateway_received_bytes_total"),
            sent: counter!("tidegate_gateway_sent_bytes_total"),
            logged: counter!("tidegate_gateway_access_records_total"),
            log_dropped: counter!("tidegate_gateway_access_dropped_total"),
            unrouted: RouteMetrics::of(NO_ROUTE.into(), std::iter::empty()),
        }
    }
}

// === impl RouteMetrics ===

impl RouteMetrics {
    pub(super) fn new(config: &RouteConfig) -> Self {
        match &config.action {
            Action::Forward(forward) => {
                // One without a pool has a place as well.
                let targets = forward.targets.iter().map(|target| target.pool.as_ref().map_or("", PoolId::as_str));
                Self::of(config.name.clone(), targets.chain(forward.fallback_pool().map(PoolId::as_str)))
            }
            Action::Redirect(_) | Action::Respond(_) => Self::of(config.name.clone(), std::iter::empty()),
        }
    }

    fn of<'a>(route: Arc<str>, pools: impl Iterator<Item = &'a str>) -> Self {
        let counters = |pool: &str| PoolCounters { pool: pool.into(), codes: Default::default() };
        let pools = pools.chain([""]).map(counters).collect();
        let help = "Time of a request, its answer's body included";
        let seconds = Histogram::of("tidegate_gateway_request_seconds", help, ("route", &route));
        Self { route, pools, failures: std::array::from_fn(|_| OnceLock::new()), seconds }
    }

    /// The route's name.
    pub(super) fn route(&self) -> &str {
        &self.route
    }

    /// The pool at a place; empty where there is none.
    pub(super) fn pool(&self, place: usize) -> &str {
        self.pools.get(place).map_or("", |counters| &counters.pool)
    }

    /// Counts a request that has ended. `place` is the target's, [`usize::MAX`] where it went to no pool.
    pub(super) fn count(&self, place: usize, status: StatusCode, reason: Option<Reason>, took: Duration) {
        self.seconds.record(took);
        if let Some(counters) = self.pools.get(place).or(self.pools.last()) {
            let make = || {
                counter!("tidegate_gateway_requests_total", "route" => self.route.clone(),
                    "pool" => counters.pool.clone(), "code" => status.as_u16().to_string())
            };
            let kept = COMMON.iter().position(|code| *code == status.as_u16());
            match kept.and_then(|place| counters.codes.get(place)) {
                Some(kept) => kept.get_or_init(make).increment(1),
                None => make().increment(1),
            }
        }
        let Some(reason) = reason else { return };
        let make =
            || counter!("tidegate_gateway_failures_total", "route" => self.route.clone(), "reason" => reason.name());
        // In the order of their definition, as in `ALL`.
        if let Some(kept) = self.failures.get(reason as usize) {
            kept.get_or_init(make).increment(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_place_of_its_own() {
        for (place, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, place, "{}", reason.name());
        }
    }
}
