//! Statuses of Ingresses: where they are reached, and which of their certificates is not shown. There is no place for more.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::Patch;
use crate::gateway::kubernetes::object::{Ingress, Kind};
use crate::gateway::kubernetes::secret::INVALID;
use crate::gateway::kubernetes::settle::{Known, Rules, Settled, Verdict};

/// What is to be written into the Ingresses of our class.
pub(super) fn patches(known: &Known, rules: &Rules, settled: &Settled) -> Vec<Patch> {
    if rules.addresses.is_empty() {
        return Vec::new();
    }
    let ours = settled.verdicts.iter().filter(|verdict| verdict.kind == Ingress::NAME);
    let patch = |verdict: &Verdict| {
        let object = known.ingresses.get(&verdict.key)?;
        let there = object.status.pointer("/loadBalancer/ingress").cloned().unwrap_or_else(|| json!([]));
        let wanted = match verdict.refused {
            None => rules.addresses.iter().map(|address| entry(address, verdict, rules)).collect(),
            Some(_) => json!([]),
        };
        (there != wanted).then(|| Patch::new(object, &json!({ "loadBalancer": { "ingress": wanted } })))
    };
    ours.filter_map(patch).collect()
}

fn entry(address: &str, verdict: &Verdict, rules: &Rules) -> Value {
    let key = if address.parse::<IpAddr>().is_ok() { "ip" } else { "hostname" };
    if !verdict.unresolved.iter().any(|it| it.reason == INVALID) {
        return json!({ key: address });
    }
    let error = format!("tidegate.dev/{INVALID}");
    let secure = rules.listeners.iter().filter(|(_, secure)| *secure);
    let ports: Value = secure.map(|(port, _)| json!({ "port": port, "protocol": "TCP", "error": error })).collect();
    json!({ key: address, "ports": ports })
}
