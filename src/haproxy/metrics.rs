//! Metrics of feeding an HAProxy.

use metrics::{
    Counter, Gauge, Histogram, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

use super::plan::Verdict;
use super::state::{Admin, Backends};

#[derive(Debug)]
pub(super) struct HaproxyMetrics {
    done: Counter,
    busy: Counter,
    refused: Counter,
    /// Processes of HAProxy that were met.
    pub(super) processes: Counter,
    pub(super) apply: Histogram,
    servers: Gauge,
    leaving: Gauge,
}

// === impl HaproxyMetrics ===

impl HaproxyMetrics {
    pub(super) fn register() -> Self {
        const COMMANDS: &str = "tidegate_haproxy_commands_total";
        describe_counter!(COMMANDS, "Commands on the runtime socket: done, busy (a server with connections), refused");
        describe_counter!(
            "tidegate_haproxy_processes_total",
            "Processes of HAProxy that were fed; one more after each reload"
        );
        describe_histogram!(
            "tidegate_haproxy_apply_seconds",
            "From a change to HAProxy having it, connecting included"
        );
        describe_gauge!("tidegate_haproxy_servers", "Servers that HAProxy has");
        describe_gauge!("tidegate_haproxy_leaving_servers", "Servers that wait for the end of their connections");
        Self {
            done: counter!(COMMANDS, "result" => "done"),
            busy: counter!(COMMANDS, "result" => "busy"),
            refused: counter!(COMMANDS, "result" => "refused"),
            processes: counter!("tidegate_haproxy_processes_total"),
            apply: histogram!("tidegate_haproxy_apply_seconds"),
            servers: gauge!("tidegate_haproxy_servers"),
            leaving: gauge!("tidegate_haproxy_leaving_servers"),
        }
    }

    pub(super) fn count(&self, verdict: Verdict) {
        match verdict {
            Verdict::Done => self.done.increment(1),
            Verdict::Busy => self.busy.increment(1),
            Verdict::Refused => self.refused.increment(1),
        }
    }

    /// Gives the number of those that leave.
    pub(super) fn observe(&self, backends: &Backends) -> usize {
        let servers = || backends.values().flat_map(|backend| backend.servers.values());
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let number = |count: usize| count as f64;
        self.servers.set(number(servers().count()));
        let leaving = servers().filter(|it| it.state == Admin::Maint).count();
        self.leaving.set(number(leaving));
        leaving
    }
}
