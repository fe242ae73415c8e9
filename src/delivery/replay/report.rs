//! What replay tells the metrics and the admin page.

/// How far the spool is, and how long it will take.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct BacklogReport {
    /// Records that Kafka does not have yet.
    pub records_left: u64,
    /// Bytes on disk that hold them, about.
    pub bytes_left: u64,
    /// Since when the oldest of them has waited, in seconds; 0 where none does.
    pub oldest_age_seconds: f64,
    /// Until nothing is left, in seconds; nothing while that is not known, or it grows.
    pub time_left_seconds: Option<f64>,
    /// Bytes on disk, what is done and not deleted included.
    pub disk_bytes: u64,
    /// The most bytes on disk.
    pub max_size: u64,
    /// The disk takes records.
    pub writable: bool,
    /// Kafka answers nobody.
    pub kafka_away: bool,
    /// Lanes that pause after a failure, with why.
    pub paused: Vec<PausedLane>,
}

/// A lane that pauses.
#[derive(Clone, Debug, serde::Serialize)]
pub struct PausedLane {
    /// Its topic.
    pub topic: String,
    /// Its partition; nothing where it is not known.
    pub partition: Option<i32>,
    /// Records in it.
    pub records: u64,
    /// Why it pauses.
    pub why: String,
    /// Until it is tried again, in seconds.
    pub retry_in_seconds: f64,
}
