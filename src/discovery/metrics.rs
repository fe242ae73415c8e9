//! The pull API's metrics, registered once.

use axum::response::Response;
use metrics::{Gauge, counter, describe_counter, describe_gauge, gauge};

/// Handles of the API.
#[derive(Debug)]
pub(super) struct ApiMetrics {
    waiting: Gauge,
    streams: Gauge,
}

/// Counts one waiting request, or one stream, until it is dropped.
pub(super) struct Waiting(Gauge);

/// Notes until when the listener's certificate is valid, in seconds of the Unix epoch.
#[expect(clippy::cast_precision_loss, reason = "seconds are far below 2^52")]
pub(super) fn certificate_expires(at: i64) {
    describe_gauge!(
        "tidegate_discovery_certificate_expires_timestamp_seconds",
        "Until when the certificate of the pull port is valid"
    );
    gauge!("tidegate_discovery_certificate_expires_timestamp_seconds").set(at as f64);
}

// === impl ApiMetrics ===

impl ApiMetrics {
    pub(super) fn register() -> Self {
        describe_counter!("tidegate_discovery_requests_total", "Requests of the pull API, by status code");
        describe_gauge!("tidegate_discovery_waiting_requests", "Requests of the pull API that wait for a change now");
        describe_gauge!("tidegate_discovery_xds_streams", "Streams of xDS that are open now");
        describe_counter!("tidegate_discovery_xds_responses_total", "Responses sent over xDS, by type");
        describe_counter!(
            "tidegate_discovery_xds_answers_total",
            "What clients of xDS said of responses, by type and result: taken or refused"
        );
        Self {
            waiting: gauge!("tidegate_discovery_waiting_requests"),
            streams: gauge!("tidegate_discovery_xds_streams"),
        }
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

    /// Counts an open stream until it is dropped.
    pub(super) fn stream(&self) -> Waiting {
        self.streams.increment(1.0);
        Waiting(self.streams.clone())
    }

    /// Counts a response on a stream.
    pub(super) fn sent(&self, kind: &'static str) {
        counter!("tidegate_discovery_xds_responses_total", "type" => kind).increment(1);
    }

    /// Counts what a client said of one.
    pub(super) fn answered(&self, kind: &'static str, result: &'static str) {
        counter!("tidegate_discovery_xds_answers_total", "type" => kind, "result" => result).increment(1);
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}
