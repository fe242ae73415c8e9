//! Waiting for a condition, with a deadline: the only place of the bed that sleeps.

use std::time::{Duration, Instant};

/// Asks again and again until there is an answer; `None` if there was none within the deadline.
#[allow(clippy::disallowed_methods, reason = "the one pause between two looks at a condition that has a deadline")]
pub fn poll<T>(deadline: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + deadline;
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if Instant::now() >= end {
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// As [`poll`]; panics, naming what was awaited, when the deadline passes.
pub fn wait_for<T>(deadline: Duration, what: &str, ask: impl FnMut() -> Option<T>) -> T {
    poll(deadline, ask).unwrap_or_else(|| panic!("not within {deadline:?}: {what}"))
}

/// Waits until the condition holds; panics, naming what was awaited, when the deadline passes.
pub fn wait_until(deadline: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    wait_for(deadline, what, || condition().then_some(()));
}
