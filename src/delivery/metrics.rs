//! The delivery stage's metrics, registered once.

use metrics::{
    Counter, Gauge, Histogram, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

use crate::record::dead_letter::Reason;

/// Handles of one worker; the registry adds workers up.
pub(super) struct DeliveryMetrics {
    pub(super) delivered: Counter,
    pub(super) failed: Counter,
    pub(super) redelivered: Counter,
    pub(super) groups: Counter,
    pub(super) batch_records: Histogram,
    pub(super) producers_recreated: Counter,
    pub(super) topics: Gauge,
    dead_lettered: [Counter; 3],
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
        describe_counter!(
            "tidegate_log_records_dead_lettered_total",
            "Records that Kafka confirmed in a dead-letter topic, by reason"
        );
        describe_counter!("tidegate_log_groups_total", "Groups of batches handed to Kafka's client");
        describe_histogram!("tidegate_log_batch_records", "Records in a batch");
        describe_counter!("tidegate_log_producers_recreated_total", "Producers made anew after a fatal error");
        describe_gauge!("tidegate_log_topics", "Topics that a worker writes");
        Self {
            delivered: counter!("tidegate_log_records_delivered_total"),
            failed: counter!("tidegate_log_records_undelivered_total"),
            redelivered: counter!("tidegate_log_records_duplicated_total", "cause" => "producer_recreated"),
            groups: counter!("tidegate_log_groups_total"),
            batch_records: histogram!("tidegate_log_batch_records"),
            producers_recreated: counter!("tidegate_log_producers_recreated_total"),
            topics: gauge!("tidegate_log_topics"),
            dead_lettered: Reason::ALL
                .map(|reason| counter!("tidegate_log_records_dead_lettered_total", "reason" => reason.word())),
        }
    }

    /// A dead letter is safe.
    pub(super) fn dead_lettered(&self, reason: Reason) {
        if let Some(counter) = self.dead_lettered.get(reason as usize) {
            counter.increment(1);
        }
    }
}
