//! Lines on standard output, and targets with whether they are met.

use std::fmt::Display;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::histogram::Histogram;

static MISSED: AtomicUsize = AtomicUsize::new(0);

/// `target ≤ 20: met`, or missed; misses are counted.
pub(crate) fn target(value: f64, most: f64) -> String {
    let met = value <= most;
    MISSED.fetch_add(usize::from(!met), Ordering::Relaxed);
    format!("target ≤ {most}: {}", if met { "met" } else { "MISSED" })
}

/// How many targets were missed.
pub(crate) fn missed() -> usize {
    MISSED.load(Ordering::Relaxed)
}

/// A title, set off.
pub(crate) fn title(text: impl Display) {
    println!("\n## {text}\n");
}

/// One figure with what it is.
pub(crate) fn line(what: &str, figure: impl Display) {
    println!("{what:<58} {figure}");
}

/// Median and 99th percentile of deliveries; the target is for the latter.
pub(crate) fn times(what: &str, times: &Histogram, most: f64) {
    let [p50, p99] = [0.5, 0.99].map(|share| millis(times.quantile(share)));
    line(what, format!("p50 {p50:.2} ms, p99 {p99:.2} ms  p99: {}", target(p99, most)));
}

pub(crate) fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
