//! The metrics recorder. Stages register their metrics through the `metrics` macros; [`Metrics::render`] gives the text
//! that Prometheus scrapes.
//!
//! Names are `tidegate_<stage>_<noun>_<unit>[_total]`; a label's value never comes straight from a client,
//! because each new value is a new series that stays in memory and in the monitoring for ever.

use std::sync::{Mutex, PoisonError};

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// Buckets of every histogram in seconds, from a record that never left the machine to a reply held for its full time.
pub(super) const SECONDS_BUCKETS: [f64; 14] =
    [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// Buckets of every histogram of counts (records a batch, replies a write).
const COUNT_BUCKETS: [f64; 11] = [1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 1_000.0, 5_000.0, 20_000.0];

/// The process's metrics; clones are the same ones.
#[derive(Clone)]
pub struct Metrics {
    handle: PrometheusHandle,
}

/// Why metrics could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// The buckets were refused.
    #[error("histogram buckets: {0}")]
    Buckets(#[from] metrics_exporter_prometheus::BuildError),
    /// Something else in this process installed a recorder.
    #[error("this process records its metrics elsewhere already")]
    Foreign,
}

// === impl Metrics ===

impl Metrics {
    /// Makes this process record metrics, before any stage registers its own. Installing twice gives the same metrics.
    pub fn install() -> Result<Self, MetricsError> {
        static INSTALLED: Mutex<Option<Metrics>> = Mutex::new(None);
        let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(metrics) = installed.as_ref() {
            return Ok(metrics.clone());
        }
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS_BUCKETS)?
            .set_buckets(&COUNT_BUCKETS)?
            .build_recorder();
        let handle = recorder.handle();
        metrics::set_global_recorder(recorder).map_err(|_| MetricsError::Foreign)?;
        Ok(installed.insert(Self { handle }).clone())
    }

    /// All metrics in Prometheus' text format.
    pub fn render(&self) -> String {
        let mut text = self.handle.render();
        super::histogram::render(&mut text);
        text
    }

    /// Metrics that nobody records into, for tests beside others in one process.
    #[cfg(test)]
    pub(crate) fn detached() -> Self {
        Self { handle: PrometheusBuilder::new().build_recorder().handle() }
    }

    /// Folds the samples of histograms into their buckets. Without it they pile up until the next [`Metrics::render`]:
    /// call it every few
    /// seconds.
    pub fn upkeep(&self) {
        self.handle.run_upkeep();
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_stage_records_is_rendered() {
        let metrics = Metrics::install().unwrap();
        metrics::counter!("tidegate_test_records_total", "topic" => "logs.app").increment(3);
        metrics::histogram!("tidegate_test_hold_seconds").record(0.003);
        metrics.upkeep();
        // Installing again changes nothing. Other tests of this process record meanwhile.
        for text in [metrics.render(), Metrics::install().unwrap().render()] {
            assert!(text.contains("tidegate_test_records_total{topic=\"logs.app\"} 3"), "{text}");
            assert!(text.contains("tidegate_test_hold_seconds_bucket{le=\"0.005\"} 1"), "{text}");
        }
    }
}
