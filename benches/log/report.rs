//! Tables on standard output, and targets with whether they are met.

use crate::subject::Figures;
use std::fmt::Display;
use std::sync::atomic::{AtomicUsize, Ordering};

static MISSED: AtomicUsize = AtomicUsize::new(0);

/// `target ≤ 0.60: met`, or missed; misses are counted.
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
pub(crate) fn heading(first: &str) {
    println!(
        "{first:<34} {:>10} {:>9} {:>6} {:>9} {:>9} {:>9} {:>8}",
        "records/s", "CPU µs", "ratio", "p50 ms", "p99 ms", "p99.9 ms", "batch"
    );
}

/// One measurement; `reference` is redis-server's processor time a record in the same run.
pub(crate) fn row(name: &str, figures: &Figures, reference: f64, remark: &str) {
    let Figures { rate, cpu, p50, p99, p999, batch } = figures;
    let ratio = cpu / reference;
    println!(
        "{name:<34} {rate:>10.0} {cpu:>9.3} {ratio:>6.2} {p50:>9.3} {p99:>9.3} {p999:>9.3} {batch:>8.1}  {remark}"
    );
}
