//! Conditions as the API has them.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::gateway::kubernetes::wish::Refusal;

/// Characters of a message, at most: the API server refuses a whole status for a longer one.
const LONGEST: usize = 32_768;

/// What conditions of an object are made with.
#[derive(Clone, Copy)]
pub(super) struct Conditions<'a> {
    /// Those that stand there; one that stays as it is keeps its time.
    pub(super) before: Option<&'a Value>,
    /// The version of the object's wishes that they speak of.
    pub(super) generation: i64,
    pub(super) now: Timestamp,
}

// === impl Conditions ===

impl Conditions<'_> {
    /// A condition.
    pub(super) fn say(&self, kind: &str, holds: bool, reason: &str, message: &str) -> Value {
        let status = if holds { "True" } else { "False" };
        let there = self.before.and_then(Value::as_array).into_iter().flatten();
        let same = there.into_iter().find(|it| it["type"] == kind && it["status"] == status);
        let since = same.and_then(|it| it["lastTransitionTime"].as_str());
        let since = since.map_or_else(|| format!("{:.0}", self.now), str::to_owned);
        let message = message.char_indices().nth(LONGEST).and_then(|(end, _)| message.get(..end)).unwrap_or(message);
        json!({
            "type": kind, "status": status, "reason": reason, "message": message,
            "observedGeneration": self.generation, "lastTransitionTime": since,
        })
    }

    /// A condition that holds unless something speaks against it.
    pub(super) fn unless(&self, kind: &str, reason: &str, against: Option<&Refusal>) -> Value {
        match against {
            Some(refusal) => self.say(kind, false, refusal.reason, &refusal.message),
            None => self.say(kind, true, reason, ""),
        }
    }
}

/// Whether two say the same, whenever they began to.
pub(super) fn is_same(one: &Value, other: &Value) -> bool {
    without_times(one) == without_times(other)
}

fn without_times(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(without_times).collect(),
        Value::Object(fields) => {
            let kept = fields.iter().filter(|(name, _)| *name != "lastTransitionTime");
            Value::Object(kept.map(|(name, value)| (name.clone(), without_times(value))).collect())
        }
        plain => plain.clone(),
    }
}
