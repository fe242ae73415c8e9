//! The pull API's metrics, registered once.

use axum::response::Response;
use metrics::{Gauge, counter, describe_counter, describe_gauge, gauge};

/// Handles of the API.
#[derive(Debug)]
pub(super) struct ApiMetrics {
    waiting: Gauge,
}

/// Counts one waiting request until it is dropped.
pub(super) struct Waiting(Gauge);

// === impl ApiMetrics ===

impl ApiMetrics {
    pub(super) fn register() -> Self {
        describe_counter!("tidegate_discovery_requests_total", "Requests of the pull API, by status code");
        describe_gauge!("tidegate_discovery_waiting_requests", "Requests of the pull API that wait for a change now");
        Self { waiting: gauge!("tidegate_discovery_waiting_requests") }
    }

    /// Counts an answer and gives it back.
    pub(super) fn counted(&self, response: Response) -> Response {
        counter!("tidegate_discovery_requests_total", "code" => response.status().as_u16().to_string()).increment(1);
        response
    }

    pub(super) fn waiting(&self) -> Waiting {
        self.waiting.increment(1.0);
        Waiting(self.waiting.clone())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}
