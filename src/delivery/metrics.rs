//! The delivery stage's metrics, registered once.

use super::replay::BacklogReport;
use metrics::{
    Counter, Gauge, Histogram, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

use crate::record::dead_letter::Reason;

/// Handles of one worker; the registry adds workers up.
pub(super) struct DeliveryMetrics {
    pub(super) delivered: Counter,
    pub(super) failed: Counter,
    pub(super) redelivered: Counter,
    pub(super) resent: Counter,
    pub(super) unguarded: Counter,
    pub(super) given_back: Counter,
    pub(super) groups: Counter,
    pub(super) batch_records: Histogram,
    pub(super) producers_recreated: Counter,
    pub(super) topics: Gauge,
    pub(super) dead_lettered: DeadLettered,
}

/// Dead letters that Kafka has, by reason.
pub(super) struct DeadLettered([Counter; 3]);

// === impl DeadLettered ===

impl DeadLettered {
    fn register() -> Self {
        let name = "tidegate_log_records_dead_lettered_total";
        describe_counter!(name, "Records that Kafka confirmed in a dead-letter topic, by reason");
        Self(Reason::ALL.map(|reason| counter!(name, "reason" => reason.word())))
    }

    /// A dead letter is safe.
    pub(super) fn count(&self, reason: Reason) {
        if let Some(counter) = self.0.get(reason as usize) {
            counter.increment(1);
        }
    }
}

// === impl DeliveryMetrics ===

impl DeliveryMetrics {
    pub(super) fn register() -> Self {
        describe_counter!("tidegate_log_records_delivered_total", "Records that Kafka confirmed");
        describe_counter!(
            "tidegate_log_records_undelivered_total",
            "Records that Kafka refused or did not confirm in time"
        );
        describe_counter!(
            "tidegate_log_records_duplicated_total",
            "Records handed to Kafka again though an earlier try may have arrived, by cause"
        );
        describe_counter!("tidegate_log_groups_total", "Groups of batches handed to Kafka's client");
        describe_histogram!("tidegate_log_batch_records", "Records in a batch");
        describe_counter!(
            "tidegate_log_producers_recreated_total",
            "Producers made anew: after a fatal error, a shortage of descriptors, or where librdkafka no longer worked"
        );
        describe_gauge!("tidegate_log_topics", "Topics that a worker writes");
        Self {
            delivered: counter!("tidegate_log_records_delivered_total"),
            failed: counter!("tidegate_log_records_undelivered_total"),
            redelivered: counter!("tidegate_log_records_duplicated_total", "cause" => "producer_recreated"),
            resent: counter!("tidegate_log_records_duplicated_total", "cause" => "failed_neighbour"),
            unguarded: counter!("tidegate_log_records_duplicated_total", "cause" => "failed_over"),
            given_back: counter!("tidegate_log_records_duplicated_total", "cause" => "disk_failed"),
            groups: counter!("tidegate_log_groups_total"),
            batch_records: histogram!("tidegate_log_batch_records"),
            producers_recreated: counter!("tidegate_log_producers_recreated_total"),
            topics: gauge!("tidegate_log_topics"),
            dead_lettered: DeadLettered::register(),
        }
    }
}

/// Records in the spool that Kafka has not confirmed. Workers count what they append at once, so that the backlog never
/// looks drained while a record of it waits for the disk; replay says from time to time how many there are.
pub(super) struct RecordsLeft(Gauge);

// === impl RecordsLeft ===

impl RecordsLeft {
    pub(super) fn register() -> Self {
        describe_gauge!("tidegate_spool_records_left", "Records in the spool that Kafka has not confirmed");
        Self(gauge!("tidegate_spool_records_left"))
    }

    #[expect(clippy::cast_precision_loss, reason = "a count of records in memory is far below 2^52")]
    pub(super) fn appended(&self, records: usize) {
        self.0.increment(records as f64);
    }
}

/// Handles of the thread that replays.
pub(super) struct ReplayMetrics {
    pub(super) delivered: Counter,
    pub(super) replayed: Counter,
    pub(super) doubled: Counter,
    pub(super) restarted: Counter,
    pub(super) resent: Counter,
    pub(super) restamped: Counter,
    pub(super) moved: Counter,
    pub(super) dead_lettered: DeadLettered,
    records_left: RecordsLeft,
    bytes_left: Gauge,
    oldest_age: Gauge,
    time_left: Gauge,
    writable: Gauge,
    away: Gauge,
    paused: Gauge,
}

// === impl ReplayMetrics ===

impl ReplayMetrics {
    pub(super) fn register() -> Self {
        describe_counter!("tidegate_log_records_replayed_total", "Records that Kafka confirmed out of the spool");
        describe_counter!(
            "tidegate_log_records_restamped_total",
            "Records out of the spool that went without their own time, which Kafka did not take"
        );
        describe_counter!(
            "tidegate_log_records_moved_total",
            "Records out of the spool that went to another partition, as theirs is no longer there"
        );
        describe_gauge!("tidegate_spool_bytes_left", "Bytes of these records");
        describe_gauge!(
            "tidegate_spool_oldest_age_seconds",
            "Age of the oldest record in the spool, 0 where there is none"
        );
        describe_gauge!("tidegate_spool_time_left_seconds", "Until the spool is drained, infinite while it grows");
        describe_gauge!("tidegate_spool_writable", "1 while the spool takes records");
        describe_gauge!("tidegate_log_kafka_away", "1 while Kafka answers nobody");
        describe_gauge!("tidegate_spool_lanes_paused", "Partitions whose replay pauses after a failure");
        let doubled = |cause: &'static str| counter!("tidegate_log_records_duplicated_total", "cause" => cause);
        Self {
            delivered: counter!("tidegate_log_records_delivered_total"),
            replayed: counter!("tidegate_log_records_replayed_total"),
            doubled: doubled("replayed_again"),
            restarted: doubled("restart"),
            resent: doubled("failed_neighbour"),
            restamped: counter!("tidegate_log_records_restamped_total"),
            moved: counter!("tidegate_log_records_moved_total"),
            dead_lettered: DeadLettered::register(),
            records_left: RecordsLeft::register(),
            bytes_left: gauge!("tidegate_spool_bytes_left"),
            oldest_age: gauge!("tidegate_spool_oldest_age_seconds"),
            time_left: gauge!("tidegate_spool_time_left_seconds"),
            writable: gauge!("tidegate_spool_writable"),
            away: gauge!("tidegate_log_kafka_away"),
            paused: gauge!("tidegate_spool_lanes_paused"),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "counts and bytes of one disk are far below 2^52")]
    pub(super) fn tell(&self, report: &BacklogReport) {
        let flag = |value: bool| if value { 1.0 } else { 0.0 };
        self.records_left.0.set(report.records_left as f64);
        self.bytes_left.set(report.bytes_left as f64);
        self.oldest_age.set(report.oldest_age_seconds);
        self.time_left.set(report.time_left_seconds.unwrap_or(f64::INFINITY));
        self.writable.set(flag(report.writable));
        self.away.set(flag(report.kafka_away));
        self.paused.set(report.paused.len() as f64);
    }
}
