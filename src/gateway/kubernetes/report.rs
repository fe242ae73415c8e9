//! What became of objects, for people: in `/debug/pools`, in the log, and in metrics.

use std::collections::BTreeMap;

use metrics::{describe_gauge, gauge};
use serde_json::{Value, json};

use super::State;
use super::object::{Gateway, HttpRoute, Ingress, IngressClass, Kind};
use super::settle::Verdict;
use super::wish::Refusal;

pub(super) fn describe() {
    describe_gauge!("tidegate_gateway_kubernetes_objects", "Objects with routes, by kind and what became of them");
}

/// Of all objects.
pub(super) fn report(state: &State) -> Value {
    let verdict = |verdict: &Verdict| {
        json!({
            "kind": verdict.kind,
            "namespace": verdict.key.0,
            "name": verdict.key.1,
            "accepted": verdict.refused.is_none(),
            "reason": verdict.refused.as_ref().map(|refusal| format!("{}: {}", refusal.reason, refusal.message)),
            "hosts_of_others": verdict.taken,
            "unresolved": messages(&verdict.unresolved),
        })
    };
    json!({
        "objects": state.verdicts.iter().map(verdict).collect::<Vec<_>>(),
        "awaited": state.awaited.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "lost": state.lost.iter().map(|(at, why)| format!("{at}: {why}")).collect::<Vec<_>>(),
    })
}

fn messages(unresolved: &[Refusal]) -> Vec<&str> {
    unresolved.iter().map(|it| it.message.as_str()).collect()
}

/// Says in the log and the metrics what became of them.
pub(super) fn tell(before: &[Verdict], now: &[Verdict]) {
    let known: BTreeMap<_, _> = before.iter().map(|verdict| ((verdict.kind, &verdict.key), verdict)).collect();
    let is_new = |verdict: &&Verdict| known.get(&(verdict.kind, &verdict.key)).is_none_or(|before| before != verdict);
    for verdict in now.iter().filter(is_new) {
        let Verdict { kind, key: (namespace, name), taken, refused, unresolved, .. } = verdict;
        let unresolved = messages(unresolved).join(", ");
        match refused {
            Some(Refusal { reason, message }) => {
                tracing::warn!(kind, namespace, name, reason, message, unresolved, "nothing of an object holds");
            }
            None if taken.is_empty() && unresolved.is_empty() => {
                tracing::info!(kind, namespace, name, "an object holds");
            }
            None => {
                tracing::warn!(kind, namespace, name, taken = taken.join(", "), unresolved, "an object holds in part");
            }
        }
    }
    for kind in [HttpRoute::NAME, Ingress::NAME, IngressClass::NAME, Gateway::NAME] {
        for result in ["accepted", "refused", "host_taken"] {
            let of = |verdict: &&Verdict| verdict.kind == kind && verdict.result() == result;
            #[expect(clippy::cast_precision_loss, reason = "objects are far below 2^52")]
            let count = now.iter().filter(of).count() as f64;
            gauge!("tidegate_gateway_kubernetes_objects", "kind" => kind, "result" => result).set(count);
        }
    }
}
