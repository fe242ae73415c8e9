//! Rules for metric labels: a label's value never comes straight from a client, because each new value is a new series
//! that stays in memory and in the monitoring for ever.
//!
//! A label is one of a fixed set (`reason`, `cause`, `command`), configured (`route`), or, where its values depend on
//! what clients send (`topic`), bounded by [`BoundedLabel`].

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// The value that stands for all that came after the bound.
pub const OTHER: &str = "_other";

/// A label that takes the first values it sees and puts the rest together as [`OTHER`].
#[derive(Debug)]
pub struct BoundedLabel {
    limit: usize,
    seen: Mutex<BTreeSet<String>>,
}

// === impl BoundedLabel ===

impl BoundedLabel {
    /// A label with at most `limit` values of its own.
    pub fn new(limit: usize) -> Self {
        Self { limit, seen: Mutex::default() }
    }

    /// The label's value for `value`: itself, or [`OTHER`] past the limit. Takes a lock: call it once a topic, not once a record.
    pub fn value(&self, value: &str) -> String {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.contains(value) {
            return value.to_owned();
        }
        if seen.len() >= self.limit {
            return OTHER.to_owned();
        }
        seen.insert(value.to_owned());
        value.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_past_the_limit_share_one_series() {
        let label = BoundedLabel::new(2);
        let values: Vec<_> = ["a", "b", "c", "a", "d"].map(|value| label.value(value)).into();
        assert_eq!(values, ["a", "b", OTHER, "a", OTHER]);
    }
}
