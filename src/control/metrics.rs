//! The control component's metrics, registered once.

use std::time::Duration;

use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

use super::plan::Write;
use super::resource::strategy::Strategy;
use super::resource::times::PodTimes;

/// Handles.
#[derive(Debug)]
pub(super) struct ControlMetrics {
    leads: Gauge,
    late: Gauge,
    reconciles: Counter,
    errors: Counter,
    conflicts: Counter,
}

/// Whether a cluster answers.
pub(super) fn cluster_reached(cluster: &str, reached: bool) {
    gauge!("tidegate_control_cluster_reachable", "cluster" => cluster.to_owned()).set(if reached { 1.0 } else { 0.0 });
}

// === impl ControlMetrics ===

impl ControlMetrics {
    pub(super) fn register() -> Self {
        describe_gauge!(
            "tidegate_control_cluster_reachable",
            "1 while a cluster that Apps may run in, beside the one that they live in, answers"
        );
        describe_gauge!("tidegate_control_leader", "1 while this instance leads");
        describe_gauge!(
            "tidegate_control_late_seconds",
            "For how long the first App that is due to be looked at has waited for looks at others; of the one that leads"
        );
        describe_counter!("tidegate_control_reconciles_total", "Looks at an App");
        describe_counter!("tidegate_control_writes_total", "Writes to the API server, by kind");
        describe_counter!("tidegate_control_errors_total", "Looks that failed; they are repeated");
        describe_counter!("tidegate_control_conflicts_total", "Writes refused because somebody else had written first");
        describe_histogram!(
            "tidegate_control_release_duration_seconds",
            "From a release's beginning to its end, by strategy, result, and for what is not healthy the cause"
        );
        describe_histogram!(
            "tidegate_control_pod_start_seconds",
            "Of the slowest new pod of a release that ended healthy: where its time went, by part"
        );
        Self {
            leads: gauge!("tidegate_control_leader"),
            late: gauge!("tidegate_control_late_seconds"),
            reconciles: counter!("tidegate_control_reconciles_total"),
            errors: counter!("tidegate_control_errors_total"),
            conflicts: counter!("tidegate_control_conflicts_total"),
        }
    }

    /// Whether this instance leads; one that does not is late for no App.
    pub(super) fn leads(&self, leads: bool) {
        self.leads.set(if leads { 1.0 } else { 0.0 });
        self.late.set(0.0);
    }

    /// For so long the first App that is due waits for looks at others.
    pub(super) fn late(&self, waits: Duration) {
        self.late.set(waits.as_secs_f64());
    }

    pub(super) fn reconciled(&self) {
        self.reconciles.increment(1);
    }

    pub(super) fn failed(&self) {
        self.errors.increment(1);
    }

    pub(super) fn conflict(&self) {
        self.conflicts.increment(1);
    }

    pub(super) fn wrote(&self, write: &Write) {
        let kind = match write {
            Write::Create { .. } => "create",
            Write::Scale { .. } => "scale",
            Write::Traffic { .. } => "traffic",
            Write::Recreate { .. } => "recreate",
            Write::StartJob { .. } => "job",
            Write::Delete { .. } => "delete",
        };
        counter!("tidegate_control_writes_total", "kind" => kind).increment(1);
    }

    pub(super) fn wrote_status(&self) {
        counter!("tidegate_control_writes_total", "kind" => "status").increment(1);
    }

    pub(super) fn wrote_app(&self) {
        counter!("tidegate_control_writes_total", "kind" => "app").increment(1);
    }

    /// A release has ended: with which result, and why not otherwise.
    pub(super) fn ended(&self, strategy: &Strategy, (result, cause): (&'static str, &'static str), took: Duration) {
        histogram!(
            "tidegate_control_release_duration_seconds",
            "strategy" => strategy.name(), "result" => result, "cause" => cause
        )
        .record(took.as_secs_f64());
    }

    /// Where the time of its pods went.
    pub(super) fn pods_came(&self, times: &PodTimes) {
        for (part, seconds) in times.parts() {
            histogram!("tidegate_control_pod_start_seconds", "part" => part).record(f64::from(seconds));
        }
    }
}
