//! What `/debug/log` shows: per route and topic what came, what became of it, and how fast.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use serde_json::{Value, json};

use super::reload::Status;
use crate::base::budget::Budget;
use crate::delivery::{Backlog, Directory, LagWatch};
use crate::intake::{Intake, RouteReport};
use crate::peers::PeerList;

/// The log plane's state, put together when asked for.
pub(super) struct LogState {
    routes: Box<dyn Fn() -> Vec<RouteReport> + Send + Sync>,
    connected: Box<dyn Fn() -> u64 + Send + Sync>,
    peers: Box<dyn Fn() -> Option<Arc<PeerList>> + Send + Sync>,
    directory: Directory,
    budget: Budget,
    backlog: Option<Arc<Backlog>>,
    lag: Option<LagWatch>,
    configuration: Status,
    rates: Mutex<Rates>,
}

/// Growth of counters between the last two samples.
struct Rates {
    sampled: Instant,
    counts: HashMap<String, u64>,
    per_second: HashMap<String, f64>,
}

// === impl LogState ===

impl LogState {
    pub(super) fn new(
        intake: &Intake,
        directory: Directory,
        budget: Budget,
        backlog: Option<Arc<Backlog>>,
        lag: Option<LagWatch>,
        configuration: Status,
    ) -> Self {
        Self {
            routes: Box::new(intake.routes_report()),
            connected: Box::new(intake.connections()),
            peers: Box::new(intake.peers()),
            directory,
            budget,
            backlog,
            lag,
            configuration,
            rates: Mutex::new(Rates { sampled: Instant::now(), counts: HashMap::new(), per_second: HashMap::new() }),
        }
    }

    /// Measures the rates; to be called about once a second.
    pub(super) fn sample(&self) {
        let routes = (self.routes)().into_iter().map(|route| (route_name(&route.key), route.received_total));
        let topics = self.directory.report().into_iter().map(|topic| (topic_name(&topic.topic), topic.delivered_total));
        let counts: HashMap<String, u64> = routes.chain(topics).collect();
        let mut rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner);
        let seconds = rates.sampled.elapsed().as_secs_f64().max(0.001);
        #[expect(clippy::cast_precision_loss, reason = "a rate is for people to read")]
        let per_second = counts
            .iter()
            .map(|(name, count)| {
                let before = rates.counts.get(name).copied().unwrap_or_default();
                (name.clone(), (count.saturating_sub(before) as f64 / seconds).round())
            })
            .collect();
        *rates = Rates { sampled: Instant::now(), counts, per_second };
    }

    /// The state now.
    pub(super) fn dump(&self) -> Value {
        let health = self.directory.health();
        let trouble = health.last_error();
        let rates = self.rates.lock().unwrap_or_else(PoisonError::into_inner).per_second.clone();
        let with_rate = |value: Value, name: &str| {
            let mut value = value;
            if let Some(fields) = value.as_object_mut() {
                fields.insert("records_per_second".into(), json!(rates.get(name).copied().unwrap_or_default()));
            }
            value
        };
        let routes: Vec<Value> =
            (self.routes)().iter().map(|route| with_rate(json!(route), &route_name(&route.key))).collect();
        let topics: Vec<Value> =
            self.directory.report().iter().map(|topic| with_rate(json!(topic), &topic_name(&topic.topic))).collect();
        json!({
            "kafka": {
                "seen": health.seen(),
                "last_error": trouble.as_ref().map(|trouble| trouble.text.clone()),
                "last_error_at": trouble.as_ref().map(crate::delivery::Trouble::seconds),
            },
            "connections": (self.connected)(),
            "cluster": (self.peers)().map(|list| json!(*list)),
            "in_flight_bytes": self.budget.used(),
            "memory_limit": self.budget.limit(),
            "spool": self.backlog.as_ref().map(|backlog| backlog.report()),
            "lag": self.lag.as_ref().map(LagWatch::report),
            "configuration": self.configuration.dump(),
            "routes": routes,
            "topics": topics,
        })
    }
}

fn route_name(key: &str) -> String {
    format!("route {key}")
}

fn topic_name(topic: &str) -> String {
    format!("topic {topic}")
}
