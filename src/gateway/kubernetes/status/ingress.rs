//! Statuses of Ingresses: where they are reached, and which of their certificates is not shown. There is no place for more.
//!
//! What stands in one that is no longer for us is taken back if we wrote it: nobody else would, until another controller has it.

use std::net::IpAddr;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use serde_json::{Value, json};

use super::{MANAGER, Patch};
use crate::gateway::kubernetes::class::Classes;
use crate::gateway::kubernetes::object::{Ingress, Kind, Object};
use crate::gateway::kubernetes::secret::INVALID;
use crate::gateway::kubernetes::settle::{Known, Rules, Settled, Verdict};

/// What is to be written into the Ingresses of our class, and into those that were.
pub(super) fn patches(known: &Known, rules: &Rules, settled: &Settled) -> Vec<Patch> {
    if rules.addresses.is_empty() {
        return Vec::new();
    }
    let wanted = |verdict: &Verdict| match verdict.refused {
        None => rules.addresses.iter().map(|address| entry(address, verdict, rules)).collect(),
        Some(_) => Vec::new(),
    };
    let verdicts = settled.verdicts.iter().filter(|verdict| verdict.kind == Ingress::NAME);
    let ours = verdicts.filter_map(|verdict| Some((known.ingresses.get(&verdict.key)?, wanted(verdict))));
    let classes = Classes::new(&known.ingress_classes, rules.ingress_class.as_deref());
    let left = known.ingresses.values().filter(|object| classes.leave(object) && is_told_by_us(object));
    ours.chain(left.map(|object| (object, Vec::new()))).filter_map(|(object, wanted)| patch(object, &wanted)).collect()
}

fn patch(object: &Object<Ingress>, wanted: &[Value]) -> Option<Patch> {
    let there = object.status.pointer("/loadBalancer/ingress").and_then(Value::as_array);
    let differs = there.map_or(&[][..], Vec::as_slice) != wanted;
    differs.then(|| Patch::new(object, &json!({ "loadBalancer": { "ingress": wanted } })))
}

/// Whether what stands there was written by us last: whoever writes something else becomes its manager.
fn is_told_by_us(object: &Object<Ingress>) -> bool {
    let ours = |it: &&ManagedFieldsEntry| {
        it.manager.as_deref() == Some(MANAGER) && it.subresource.as_deref() == Some("status")
    };
    let mut fields =
        object.metadata.managed_fields.iter().flatten().filter(ours).filter_map(|it| it.fields_v1.as_ref());
    fields.any(|fields| fields.0.pointer("/f:status/f:loadBalancer/f:ingress").is_some())
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
