//! Statuses of Gateways and of our GatewayClasses.

use std::net::IpAddr;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::Patch;
use super::condition::{Conditions, is_same};
use crate::gateway::kubernetes::object::{Gateway, GatewayClass, Key, Object};
use crate::gateway::kubernetes::parent::{Listener, Parent, class_refusal, is_ours};
use crate::gateway::kubernetes::settle::{Known, Rules, Settled};
use crate::gateway::kubernetes::wish::Refusal;

/// What is to be written into the classes of this controller.
pub(super) fn of_classes(known: &Known, now: Timestamp) -> impl Iterator<Item = Patch> {
    let ours = known.classes.values().filter(|class| is_ours(class));
    ours.filter_map(move |class: &Object<GatewayClass>| {
        let conditions = Conditions { before: class.status.get("conditions"), generation: class.generation(), now };
        let refused = class_refusal(class);
        let wanted = json!([conditions.unless("Accepted", "Accepted", refused.as_ref())]);
        let is_written = class.status.get("conditions").is_some_and(|there| is_same(&wanted, there));
        (!is_written).then(|| Patch::new(class, &json!({ "conditions": wanted })))
    })
}

/// What is to be written into the Gateways that are served here.
pub(super) fn of_gateways(known: &Known, rules: &Rules, settled: &Settled, now: Timestamp) -> Vec<Patch> {
    let patch = |(key, parent): (&Key, &Parent)| {
        let object = known.gateways.get(key)?;
        let wanted = status(object, parent, rules, now);
        let same = |name: &str| is_same(wanted.get(name)?, object.status.get(name).unwrap_or(&json!([]))).then_some(());
        let is_written = ["conditions", "listeners", "addresses"].into_iter().all(|name| same(name).is_some());
        (!is_written).then(|| Patch::new(object, &wanted))
    };
    settled.parents.iter().filter_map(patch).collect()
}

fn status(object: &Object<Gateway>, parent: &Parent, rules: &Rules, now: Timestamp) -> Value {
    let generation = object.generation();
    let conditions = Conditions { before: object.status.get("conditions"), generation, now };
    let broken: Vec<&str> = parent.listeners.iter().filter(|it| !it.is_served()).map(|it| it.name.as_str()).collect();
    let accepted = match (&parent.refused, broken.as_slice()) {
        (None, [_, ..]) => {
            let message = format!("not served: {}: see their conditions", broken.join(", "));
            conditions.say("Accepted", true, "ListenersNotValid", &message)
        }
        (refused, _) => conditions.unless("Accepted", "Accepted", refused.as_ref()),
    };
    let programmed = conditions.unless("Programmed", "Programmed", unprogrammed(parent, rules).as_ref());
    let listeners: Vec<Value> = parent
        .listeners
        .iter()
        .map(|listener| {
            of_listener(listener, parent, Conditions { before: before(object, &listener.name), ..conditions })
        })
        .collect();
    let addresses: Vec<Value> = rules.addresses.iter().map(|address| of_address(address)).collect();
    json!({ "conditions": [accepted, programmed], "listeners": listeners, "addresses": addresses })
}

/// Why no request comes by a Gateway.
fn unprogrammed(parent: &Parent, rules: &Rules) -> Option<Refusal> {
    let refusal = |reason, message: &str| Some(Refusal { reason, message: message.to_owned() });
    if parent.refused.is_some() || !parent.listeners.iter().any(Listener::is_served) {
        return refusal("Invalid", "no listener is served: see their conditions");
    }
    if rules.addresses.is_empty() {
        let message = "served, but nobody can be told where: set addresses in [gateway.kubernetes]";
        return refusal("AddressNotAssigned", message);
    }
    None
}

fn before<'a>(object: &'a Object<Gateway>, listener: &str) -> Option<&'a Value> {
    let mut there = object.status.get("listeners").and_then(Value::as_array).into_iter().flatten();
    there.find(|it| it["name"] == listener).and_then(|it| it.get("conditions"))
}

fn of_listener(listener: &Listener, parent: &Parent, conditions: Conditions<'_>) -> Value {
    let conflict = match &listener.conflict {
        Some(conflict) => conditions.say("Conflicted", true, conflict.reason, &conflict.message),
        None => conditions.say("Conflicted", false, "NoConflicts", ""),
    };
    let invalid = |message: &str| Refusal { reason: "Invalid", message: message.to_owned() };
    let unserved = match listener.is_served() {
        _ if parent.refused.is_some() => Some(invalid("the Gateway is not accepted")),
        true => None,
        false => Some(invalid("see the other conditions")),
    };
    json!({
        "name": listener.name,
        "supportedKinds": listener.kinds(),
        "attachedRoutes": listener.attached,
        "conditions": [
            conditions.unless("Accepted", "Accepted", listener.refused.as_ref()),
            conflict,
            conditions.unless("ResolvedRefs", "ResolvedRefs", listener.unresolved.as_ref()),
            conditions.unless("Programmed", "Programmed", unserved.as_ref()),
        ],
    })
}

fn of_address(address: &str) -> Value {
    let kind = if address.parse::<IpAddr>().is_ok() { "IPAddress" } else { "Hostname" };
    json!({ "type": kind, "value": address })
}
