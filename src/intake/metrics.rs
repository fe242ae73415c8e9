//! The intake stage's metrics, registered once, and what a worker counts in a turn before it adds it up.

use std::sync::atomic::Ordering;

use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};

use super::policy::Policy;
use super::shared::Shared;
use crate::net::tls::TlsConfig;

/// Why a record was not taken or not confirmed: the label `reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// No route takes the key or the command.
    NoRoute,
    /// Over the route's size.
    TooLarge,
    /// Not what the route asks for: not JSON, or no topic.
    Invalid,
    /// The byte budget was used up for longer than the route holds.
    Memory,
    /// Kafka did not confirm in time.
    TimedOut,
    /// Kafka refused.
    Kafka,
    /// The spool's disk.
    Spool,
    /// The process stops.
    Stopping,
    /// Over the route's rate limit.
    RateLimit,
}

/// How many there are: a name that is missing below does not compile.
const REFUSALS: usize = Refusal::RateLimit as usize + 1;
const CLOSES: usize = Closed::Tls as usize + 1;

/// Why a connection was closed from here: the label `reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closed {
    /// The client sent what is no protocol.
    Protocol,
    /// It left too many replies unread, or none read for too long.
    Output,
    /// It was silent for too long.
    Idle,
    /// A route closes in place of an error.
    Refused,
    /// TLS was broken or not agreed upon, in time or at all.
    Tls,
}

/// Handles for all workers.
pub(super) struct IntakeMetrics {
    received: Counter,
    received_bytes: Counter,
    acknowledged: Counter,
    commands: Counter,
    not_enriched: Counter,
    pod_unknown: Counter,
    refused: [Counter; REFUSALS],
    closed: [Counter; CLOSES],
    pub(super) connections: Counter,
    pub(super) connections_rejected: Counter,
    pub(super) connected: Gauge,
    pub(super) failed_logins: Counter,
    pub(super) in_flight_bytes: Gauge,
}

/// What one worker counted since it last told.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Records and their bytes by the route's place in the table.
    received: Vec<(u64, u64)>,
    pub(super) acknowledged: u64,
    pub(super) commands: u64,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    /// Records that their route could add nothing to.
    pub(super) not_enriched: u64,
    /// Records that went out without their pod's name, and say so.
    pub(super) pod_unknown: u64,
    refused: [u64; REFUSALS],
}

// === impl IntakeMetrics ===

impl IntakeMetrics {
    pub(super) fn register() -> Self {
        describe_counter!("tidegate_log_records_received_total", "Records taken in");
        describe_counter!("tidegate_log_received_bytes_total", "Bytes of records taken in");
        describe_counter!("tidegate_log_records_acknowledged_total", "Records whose command was answered with success");
        describe_counter!(
            "tidegate_log_records_refused_total",
            "Records whose command was answered with an error, by reason"
        );
        describe_counter!(
            "tidegate_log_records_not_enriched_total",
            "Records that their route's fields could not be added to: no JSON object"
        );
        describe_counter!(
            "tidegate_log_records_pod_unknown_total",
            "Records whose pod was not known, and which say so"
        );
        describe_counter!("tidegate_log_commands_total", "Commands decoded");
        describe_counter!("tidegate_log_connections_total", "Connections accepted");
        describe_counter!("tidegate_log_connections_rejected_total", "Connections turned away at max_connections");
        describe_counter!("tidegate_log_connections_closed_total", "Connections closed from this side, by reason");
        describe_counter!("tidegate_log_logins_failed_total", "Logins with a wrong name or password");
        describe_gauge!("tidegate_log_connections", "Connections now");
        describe_gauge!("tidegate_log_in_flight_bytes", "Bytes of the memory limit in use");
        let refused = |reason: &'static str| counter!("tidegate_log_records_refused_total", "reason" => reason);
        let closed = |reason: &'static str| counter!("tidegate_log_connections_closed_total", "reason" => reason);
        Self {
            received: counter!("tidegate_log_records_received_total"),
            received_bytes: counter!("tidegate_log_received_bytes_total"),
            acknowledged: counter!("tidegate_log_records_acknowledged_total"),
            commands: counter!("tidegate_log_commands_total"),
            not_enriched: counter!("tidegate_log_records_not_enriched_total"),
            pod_unknown: counter!("tidegate_log_records_pod_unknown_total"),
            refused: [
                "no_route",
                "too_large",
                "invalid",
                "memory",
                "timed_out",
                "kafka",
                "spool",
                "stopping",
                "rate_limit",
            ]
            .map(refused),
            closed: ["protocol", "output", "idle", "refused", "tls"].map(closed),
            connections: counter!("tidegate_log_connections_total"),
            connections_rejected: counter!("tidegate_log_connections_rejected_total"),
            failed_logins: counter!("tidegate_log_logins_failed_total"),
            connected: gauge!("tidegate_log_connections"),
            in_flight_bytes: gauge!("tidegate_log_in_flight_bytes"),
        }
    }

    /// Says until when the certificate of listeners with TLS is valid.
    pub(super) fn certificate(&self, tls: Option<&TlsConfig>) {
        if let Some(tls) = tls {
            describe_gauge!(
                "tidegate_log_certificate_expires_timestamp_seconds",
                "Until when the certificate of listeners with TLS is valid"
            );
            #[expect(clippy::cast_precision_loss, reason = "seconds are far below 2^52")]
            gauge!("tidegate_log_certificate_expires_timestamp_seconds").set(tls.expires_at() as f64);
        }
    }

    pub(super) fn closed(&self, why: Closed) {
        if let Some(counter) = self.closed.get(why as usize) {
            counter.increment(1);
        }
    }
}

// === impl Tally ===

impl Tally {
    pub(super) fn new(routes: usize) -> Self {
        Self { received: vec![(0, 0); routes], ..Self::default() }
    }

    #[inline]
    pub(super) fn received(&mut self, route: usize, records: u64, bytes: u64) {
        if let Some(count) = self.received.get_mut(route) {
            count.0 += records;
            count.1 += bytes;
        }
    }

    pub(super) fn refused(&mut self, why: Refusal, records: u64) {
        if let Some(count) = self.refused.get_mut(why as usize) {
            *count += records;
        }
    }

    /// Adds what was counted to what everybody sees. `policy` is the one that it was counted under.
    pub(super) fn tell(&mut self, shared: &Shared, policy: &Policy) {
        let silent = self.bytes_in == 0 && self.bytes_out == 0;
        // CLIENT REPLY OFF: an outcome comes with no byte.
        if silent && self.acknowledged == 0 && self.refused.iter().all(|count| *count == 0) {
            return;
        }
        self.add_up(shared, policy);
    }

    /// Adds up, then counts for another policy's routes.
    pub(super) fn turn_to(&mut self, next: &Policy, shared: &Shared, last: &Policy) {
        self.add_up(shared, last);
        self.received.resize(next.states.len(), (0, 0));
    }

    fn add_up(&mut self, shared: &Shared, policy: &Policy) {
        let (metrics, counters) = (&shared.metrics, &shared.counters);
        for ((records, bytes), route) in self.received.iter_mut().zip(&policy.states) {
            if *records > 0 {
                route.counts.received(*records, *bytes);
                metrics.received.increment(*records);
                metrics.received_bytes.increment(*bytes);
                counters.received.fetch_add(*records, Ordering::Relaxed);
                (*records, *bytes) = (0, 0);
            }
        }
        let received = std::mem::take(&mut self.received);
        let told = std::mem::replace(self, Self { received, ..Self::default() });
        metrics.acknowledged.increment(told.acknowledged);
        metrics.commands.increment(told.commands);
        metrics.not_enriched.increment(told.not_enriched);
        metrics.pod_unknown.increment(told.pod_unknown);
        metrics.refused.iter().zip(told.refused).filter(|(_, count)| *count > 0).for_each(|(counter, count)| {
            counter.increment(count);
        });
        counters.acknowledged.fetch_add(told.acknowledged, Ordering::Relaxed);
        counters.refused.fetch_add(told.refused.iter().sum(), Ordering::Relaxed);
        counters.commands.fetch_add(told.commands, Ordering::Relaxed);
        counters.bytes_in.fetch_add(told.bytes_in, Ordering::Relaxed);
        counters.bytes_out.fetch_add(told.bytes_out, Ordering::Relaxed);
    }
}
