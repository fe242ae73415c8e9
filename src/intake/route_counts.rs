//! What each route took and refused, for `/debug/log`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

/// Counters of one route over all workers.
#[derive(Debug, Default)]
pub(super) struct RouteCounts {
    received: AtomicU64,
    received_bytes: AtomicU64,
    refused: AtomicU64,
    last_refusal: Mutex<Option<(SystemTime, String)>>,
}

/// Their values at one time.
#[derive(Clone, Debug, serde::Serialize)]
pub struct RouteReport {
    /// The route's key pattern.
    pub key: String,
    /// Its topic template.
    pub topic: String,
    /// Records taken in.
    pub received_total: u64,
    /// Their bytes.
    pub received_bytes: u64,
    /// Records refused at intake.
    pub refused_total: u64,
    /// Why the last one was.
    pub last_error: Option<String>,
    /// When, in seconds of the Unix epoch.
    pub last_error_at: Option<u64>,
}

// === impl RouteCounts ===

impl RouteCounts {
    pub(super) fn received(&self, records: u64, bytes: u64) {
        self.received.fetch_add(records, Ordering::Relaxed);
        self.received_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn refused(&self, records: u64, why: &str) {
        self.refused.fetch_add(records, Ordering::Relaxed);
        let refusal = (SystemTime::now(), why.to_owned());
        *self.last_refusal.lock().unwrap_or_else(PoisonError::into_inner) = Some(refusal);
    }

    /// The values now.
    pub(super) fn report(&self, key: &str, topic: &str) -> RouteReport {
        let last = self.last_refusal.lock().unwrap_or_else(PoisonError::into_inner).clone();
        RouteReport {
            key: key.to_owned(),
            topic: topic.to_owned(),
            received_total: self.received.load(Ordering::Relaxed),
            received_bytes: self.received_bytes.load(Ordering::Relaxed),
            refused_total: self.refused.load(Ordering::Relaxed),
            last_error_at: last
                .as_ref()
                .map(|(at, _)| at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()),
            last_error: last.map(|(_, why)| why),
        }
    }
}
