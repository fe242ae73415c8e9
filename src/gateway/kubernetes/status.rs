//! What became of an HTTPRoute, written into its status: an entry for each of its parents that is one of ours, beside those of
//! other controllers. Written where it differs from what stands there, so that instances that agree write once.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::header::CONTENT_TYPE;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::timeout;

use super::Shared;
use super::object::{HttpRoute, Key, Kind, Object};
use super::settle::{Known, Rules, Verdict, parents};
use crate::base::drain::Drain;
use crate::kubernetes::connect;

/// Who writes these entries.
pub(super) const CONTROLLER: &str = "tidegate.dev/gateway";
/// For one write.
const ANSWER: Duration = Duration::from_secs(10);
/// Between rounds of writes, and after one that failed.
const PAUSE: Duration = Duration::from_secs(1);
const FAILED: Duration = Duration::from_secs(15);

/// A change of one HTTPRoute's status.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Patch {
    pub(super) key: Key,
    /// A merge patch, which holds for the version that it was made of alone.
    pub(super) body: Value,
}

/// What is to be written as of a time.
pub(super) fn patches(known: &Known, rules: &Rules, verdicts: &[Verdict], now: Timestamp) -> Vec<Patch> {
    let of_routes = verdicts.iter().filter(|verdict| verdict.kind == HttpRoute::NAME);
    let of: BTreeMap<&Key, &Verdict> = of_routes.map(|verdict| (&verdict.key, verdict)).collect();
    let patch = |(key, object): (&Key, &Object<HttpRoute>)| {
        let parents = of.get(key).map(|verdict| (verdict, parents(object, rules)));
        let there = object.status.get("parents").and_then(Value::as_array).cloned().unwrap_or_default();
        let (own, mut all): (Vec<_>, Vec<_>) =
            there.into_iter().partition(|entry| entry["controllerName"] == CONTROLLER);
        let wanted: Vec<Value> = parents
            .map(|(verdict, parents)| {
                parents.iter().map(|(parent, _)| entry(parent, verdict, object, &own, now)).collect()
            })
            .unwrap_or_default();
        if without_times(&wanted) == without_times(&own) {
            return None;
        }
        all.extend(wanted);
        let version = &object.metadata.resource_version;
        let body = json!({ "metadata": { "resourceVersion": version }, "status": { "parents": all } });
        Some(Patch { key: key.clone(), body })
    };
    known.routes.iter().filter_map(patch).collect()
}

/// The entry for one parent; a condition that stays as it is keeps its time.
fn entry(parent: &Value, verdict: &Verdict, object: &Object<HttpRoute>, own: &[Value], now: Timestamp) -> Value {
    let before = own.iter().find(|entry| entry["parentRef"] == *parent);
    let condition = |kind: &str, holds: bool, reason: &str, message: &str| {
        let status = if holds { "True" } else { "False" };
        let there = before.and_then(|entry| entry["conditions"].as_array()).into_iter().flatten();
        let same = there.into_iter().find(|it| it["type"] == kind && it["status"] == status);
        let time =
            same.and_then(|it| it["lastTransitionTime"].as_str()).map_or_else(|| format!("{now:.0}"), str::to_owned);
        json!({
            "type": kind, "status": status, "reason": reason, "message": message,
            "observedGeneration": object.metadata.generation.unwrap_or_default(), "lastTransitionTime": time,
        })
    };
    let mut conditions = Vec::new();
    match &verdict.refused {
        Some(refusal) => conditions.push(condition("Accepted", false, refusal.reason, &refusal.message)),
        None => conditions.push(condition("Accepted", true, "Accepted", "")),
    }
    if verdict.refused.is_none() && !verdict.taken.is_empty() {
        conditions.push(condition("PartiallyInvalid", true, "HostTaken", &verdict.taken.join(", ")));
    }
    if verdict.unresolved.is_empty() {
        conditions.push(condition("ResolvedRefs", true, "ResolvedRefs", ""));
    } else {
        conditions.push(condition("ResolvedRefs", false, "BackendNotFound", &verdict.unresolved.join(", ")));
    }
    json!({ "parentRef": parent, "controllerName": CONTROLLER, "conditions": conditions })
}

fn without_times(entries: &[Value]) -> Vec<Value> {
    let mut entries = entries.to_vec();
    for condition in entries.iter_mut().filter_map(|it| it["conditions"].as_array_mut()).flatten() {
        if let Some(fields) = condition.as_object_mut() {
            fields.remove("lastTransitionTime");
        }
    }
    entries
}

/// Writes what is sent last, until the drain is requested.
pub(super) fn write(kubeconfig: Option<PathBuf>, shared: Arc<Shared>, drain: &Drain) -> watch::Sender<Vec<Patch>> {
    let (sender, mut patches) = watch::channel(Vec::new());
    let drain = drain.clone();
    let writing = async move {
        while patches.changed().await.is_ok() {
            let now = patches.borrow_and_update().clone();
            if now.is_empty() {
                continue;
            }
            match write_all(kubeconfig.as_deref(), now).await {
                Ok(()) => tokio::time::sleep(PAUSE).await,
                Err(why) => {
                    tracing::warn!(why, "what became of HTTPRoutes is not written into their status");
                    tokio::time::sleep(FAILED).await;
                    // What is to be written is found anew.
                    shared.changed.notify_one();
                }
            }
        }
    };
    tokio::spawn(async move {
        tokio::select! {
            () = writing => {}
            () = drain.requested() => {}
        }
    });
    sender
}

async fn write_all(kubeconfig: Option<&std::path::Path>, patches: Vec<Patch>) -> Result<(), String> {
    let client = connect(kubeconfig).await.map_err(|error| error.to_string())?;
    for Patch { key: (namespace, name), body } in patches {
        let path = format!("/apis/{}/v1/namespaces/{namespace}/{}/{name}/status", HttpRoute::GROUP, HttpRoute::PLURAL);
        let request = Request::patch(format!("{path}?fieldManager=tidegate-gateway"))
            .header(CONTENT_TYPE, "application/merge-patch+json")
            .body(body.to_string().into_bytes())
            .map_err(|error| error.to_string())?;
        match timeout(ANSWER, client.request::<Value>(request)).await {
            Ok(Ok(_)) => {}
            // Another was faster, or it is gone: whoever follows it hears of that, and settles again.
            Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => {}
            Ok(Err(error)) => return Err(format!("{namespace}/{name}: {error}")),
            Err(_) => return Err(format!("{namespace}/{name}: no answer within {ANSWER:?}")),
        }
    }
    Ok(())
}
