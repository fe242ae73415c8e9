//! Times of what happens with every request. A sample of [`metrics::histogram!`] is kept until the next upkeep, with the time at which
//! it came; here it is counted at once, by two additions and no clock.
//!
//! [`super::metrics::Metrics::render`] gives both kinds in the same form.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::metrics::SECONDS_BUCKETS;

/// All of this process.
static FAMILIES: Mutex<BTreeMap<&'static str, Family>> = Mutex::new(BTreeMap::new());

const BOUNDS: usize = SECONDS_BUCKETS.len();

/// Times by bucket. Clones count together.
#[derive(Clone, Debug)]
pub struct Histogram(Arc<Cells>);

/// A metric, with each of its series by its labels as they are rendered.
#[derive(Debug)]
struct Family {
    help: &'static str,
    series: BTreeMap<String, Histogram>,
}

#[derive(Debug, Default)]
struct Cells {
    /// By bucket, each without those before it; what is above all bounds is last.
    counts: [AtomicU64; BOUNDS + 1],
    /// All times together.
    nanoseconds: AtomicU64,
}

// === impl Histogram ===

impl Histogram {
    /// The series of a metric with this label; asked for again, it is the same one.
    pub fn of(name: &'static str, help: &'static str, (label, value): (&'static str, &str)) -> Self {
        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let mut families = FAMILIES.lock().unwrap_or_else(PoisonError::into_inner);
        let family = families.entry(name).or_insert_with(|| Family { help, series: BTreeMap::new() });
        let series = family.series.entry(format!("{label}=\"{value}\""));
        series.or_insert_with(|| Self(Arc::default())).clone()
    }

    /// Something took so long.
    #[inline]
    pub fn record(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let place = SECONDS_BUCKETS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS);
        if let Some(count) = self.0.counts.get(place) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.0.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    fn render(&self, name: &str, labels: &str, text: &mut String) -> std::fmt::Result {
        let mut counts = self.0.counts.iter().map(|count| count.load(Ordering::Relaxed));
        let mut total = 0;
        for (bound, count) in SECONDS_BUCKETS.iter().zip(&mut counts) {
            total += count;
            writeln!(text, "{name}_bucket{{{labels},le=\"{bound}\"}} {total}")?;
        }
        total += counts.sum::<u64>();
        writeln!(text, "{name}_bucket{{{labels},le=\"+Inf\"}} {total}")?;
        let sum = Duration::from_nanos(self.0.nanoseconds.load(Ordering::Relaxed)).as_secs_f64();
        writeln!(text, "{name}_sum{{{labels}}} {sum}\n{name}_count{{{labels}}} {total}")
    }
}

/// Adds all of this process to a text in Prometheus' format.
pub(super) fn render(text: &mut String) {
    let families = FAMILIES.lock().unwrap_or_else(PoisonError::into_inner);
    for (name, family) in families.iter() {
        // Nothing is written that could fail.
        let _ = writeln!(text, "# HELP {name} {}\n# TYPE {name} histogram", family.help);
        for (labels, histogram) in &family.series {
            let _ = histogram.render(name, labels, text);
        }
        text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_counted_by_bucket_and_a_series_is_kept() {
        let name = "tidegate_test_own_seconds";
        for millis in [0, 1, 3, 700, 60_000] {
            // Asked for anew each time.
            Histogram::of(name, "Times", ("route", "a\"b\\")).record(Duration::from_millis(millis));
        }
        let mut text = String::new();
        render(&mut text);
        for line in [
            "# HELP tidegate_test_own_seconds Times",
            "# TYPE tidegate_test_own_seconds histogram",
            r#"tidegate_test_own_seconds_bucket{route="a\"b\\",le="0.0001"} 1"#,
            r#"tidegate_test_own_seconds_bucket{route="a\"b\\",le="0.001"} 2"#,
            r#"tidegate_test_own_seconds_bucket{route="a\"b\\",le="0.005"} 3"#,
            r#"tidegate_test_own_seconds_bucket{route="a\"b\\",le="1"} 4"#,
            r#"tidegate_test_own_seconds_bucket{route="a\"b\\",le="5"} 4"#,
            r#"tidegate_test_own_seconds_bucket{route="a\"b\\",le="+Inf"} 5"#,
            r#"tidegate_test_own_seconds_sum{route="a\"b\\"} 60.704"#,
            r#"tidegate_test_own_seconds_count{route="a\"b\\"} 5"#,
        ] {
            assert!(text.lines().any(|it| it == line), "{line}\n{text}");
        }
    }
}
