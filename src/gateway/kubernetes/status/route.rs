//! Statuses of HTTPRoutes.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::condition::{Conditions, is_same};
use super::{CONTROLLER, Patch};
use crate::gateway::kubernetes::attach::Attachment;
use crate::gateway::kubernetes::object::{HttpRoute, Key, Kind, Object};
use crate::gateway::kubernetes::settle::{Known, Settled, Verdict};

/// Parents in an HTTPRoute's status, at most, those of other controllers among them.
const MOST_PARENTS: usize = 32;

/// What is to be written into HTTPRoutes; one that is no longer ours has no entry of ours.
pub(super) fn patches(known: &Known, settled: &Settled, now: Timestamp) -> Vec<Patch> {
    let of_routes = settled.verdicts.iter().filter(|verdict| verdict.kind == HttpRoute::NAME);
    let of: BTreeMap<&Key, &Verdict> = of_routes.map(|verdict| (&verdict.key, verdict)).collect();
    let patch = |(key, object): (&Key, &Object<HttpRoute>)| {
        let there = object.status.get("parents").and_then(Value::as_array).cloned().unwrap_or_default();
        let (own, mut all): (Vec<_>, Vec<_>) =
            there.into_iter().partition(|entry| entry["controllerName"] == CONTROLLER);
        let room = MOST_PARENTS.saturating_sub(all.len());
        let wanted: Vec<Value> = of.get(key).map_or_else(Vec::new, |verdict| {
            let entry = |attachment| entry(attachment, verdict, object, &own, now);
            verdict.attachments.iter().take(room).map(entry).collect()
        });
        let (wanted, own) = (Value::Array(wanted), Value::Array(own));
        if is_same(&wanted, &own) {
            return None;
        }
        all.extend(wanted.as_array().cloned().unwrap_or_default());
        Some(Patch::new(object, &json!({ "parents": all })))
    };
    known.routes.iter().filter_map(patch).collect()
}

/// The entry for one parent.
fn entry(
    Attachment { reference, listeners, .. }: &Attachment,
    verdict: &Verdict,
    object: &Object<HttpRoute>,
    own: &[Value],
    now: Timestamp,
) -> Value {
    let before = own.iter().find(|entry| entry["parentRef"] == *reference).and_then(|entry| entry.get("conditions"));
    let conditions = Conditions { before, generation: object.generation(), now };
    let refused = listeners.as_ref().err().or(verdict.refused.as_ref());
    let mut all = vec![conditions.unless("Accepted", "Accepted", refused)];
    if refused.is_none() && !verdict.taken.is_empty() {
        all.push(conditions.say("PartiallyInvalid", true, "HostTaken", &verdict.taken.join(", ")));
    }
    all.push(match verdict.unresolved.as_slice() {
        [] => conditions.say("ResolvedRefs", true, "ResolvedRefs", ""),
        [first, ..] => {
            let messages: Vec<&str> = verdict.unresolved.iter().map(|it| it.message.as_str()).collect();
            conditions.say("ResolvedRefs", false, first.reason, &messages.join(", "))
        }
    });
    json!({ "parentRef": reference, "controllerName": CONTROLLER, "conditions": all })
}
