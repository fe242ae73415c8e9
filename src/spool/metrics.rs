//! The spool's metrics, registered once.

use metrics::{
    Counter, Gauge, Histogram, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};

/// Handles of one spool.
pub(super) struct SpoolMetrics {
    pub(super) bytes: Gauge,
    pub(super) spooled: Counter,
    pub(super) unwritten: Counter,
    pub(super) damaged: Counter,
    pub(super) poisoned: Counter,
    pub(super) commit_seconds: Histogram,
    pub(super) commit_records: Histogram,
}

// === impl SpoolMetrics ===

impl SpoolMetrics {
    pub(super) fn register() -> Self {
        describe_gauge!("tidegate_spool_bytes", "Bytes of the spool, written or waiting for the disk");
        describe_counter!("tidegate_log_records_spooled_total", "Records that became durable in the spool");
        describe_counter!("tidegate_spool_unwritten_records_total", "Records that the spool's disk did not take");
        describe_counter!("tidegate_spool_damaged_records_total", "Spooled records that could not be read back");
        describe_counter!("tidegate_spool_poisoned_segments_total", "Segments given up after a failed write or sync");
        describe_histogram!("tidegate_spool_commit_seconds", "Time of one write and sync");
        describe_histogram!("tidegate_spool_commit_records", "Records of one write and sync");
        Self {
            bytes: gauge!("tidegate_spool_bytes"),
            spooled: counter!("tidegate_log_records_spooled_total"),
            unwritten: counter!("tidegate_spool_unwritten_records_total"),
            damaged: counter!("tidegate_spool_damaged_records_total"),
            poisoned: counter!("tidegate_spool_poisoned_segments_total"),
            commit_seconds: histogram!("tidegate_spool_commit_seconds"),
            commit_records: histogram!("tidegate_spool_commit_records"),
        }
    }
}
