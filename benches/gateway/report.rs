//! Tables on standard output, and targets with whether they are met.

use std::fmt::Display;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::subject::Figures;

static MISSED: AtomicUsize = AtomicUsize::new(0);

/// `target ≤ 1: met`, or missed; misses are counted.
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

/// The heading of [`row`]s.
pub(crate) fn heading() {
    println!(
        "{:<28} {:>11} {:>8} {:>6} {:>8} {:>8} {:>9} {:>9}",
        "", "requests/s", "CPU µs", "ratio", "p50 ms", "p99 ms", "p99.9 ms", "under way"
    );
}

/// One measurement; `reference` is nginx's processor time a request in the same run.
pub(crate) fn row(name: &str, figures: &Figures, reference: f64, remark: &str) {
    let Figures { rate, cpu, p50, p99, p999, under_way } = figures;
    let ratio = cpu / reference;
    println!(
        "{name:<28} {rate:>11.0} {cpu:>8.2} {ratio:>6.2} {p50:>8.3} {p99:>8.3} {p999:>9.3} {under_way:>9.0}  {remark}"
    );
}
