//! What became of objects, written into their status: HTTPRoutes an entry for each of their parents that is one of ours, beside those
//! of other controllers; Gateways and our GatewayClasses what is served of them; Ingresses where they are reached. Written where it
//! differs from what stands there, so that instances that agree write once.

mod condition;
mod gateway;
mod ingress;
mod route;

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
use super::object::{Kind, Object};
use super::settle::{Known, Rules, Settled};
use crate::base::drain::Drain;
use crate::kubernetes::connect;

/// Who writes these statuses, and whose GatewayClasses are ours.
pub(super) const CONTROLLER: &str = "tidegate.dev/gateway";
/// As whom statuses are written.
const MANAGER: &str = "tidegate-gateway";
/// For one write.
const ANSWER: Duration = Duration::from_secs(10);
/// Between rounds of writes, and after one that failed.
const PAUSE: Duration = Duration::from_secs(1);
const FAILED: Duration = Duration::from_secs(15);

/// A change of one object's status.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Patch {
    /// Of the object, as people write it.
    pub(super) name: String,
    path: String,
    /// A merge patch, which holds for the version that it was made of alone.
    pub(super) body: Value,
}

/// What is to be written as of a time.
pub(super) fn patches(known: &Known, rules: &Rules, settled: &Settled, now: Timestamp) -> Vec<Patch> {
    let mut patches = route::patches(known, settled, now);
    if !rules.gateways.is_empty() {
        patches.extend(gateway::of_classes(known, now));
        patches.extend(gateway::of_gateways(known, rules, settled, now));
    }
    patches.extend(ingress::patches(known, rules, settled));
    patches
}

// === impl Patch ===

impl Patch {
    /// Puts this into an object's status.
    fn new<K: Kind>(object: &Object<K>, status: &Value) -> Self {
        let (namespace, name) = object.key();
        let (within, shown) = match namespace.as_str() {
            "" => (String::new(), name.clone()),
            _ => (format!("namespaces/{namespace}/"), format!("{namespace}/{name}")),
        };
        let path = format!("/apis/{}/{}/{within}{}/{name}/status", K::GROUP, K::VERSION, K::PLURAL);
        let version = &object.metadata.resource_version;
        let body = json!({ "metadata": { "resourceVersion": version }, "status": status });
        Self { name: format!("{} {shown}", K::NAME), path, body }
    }
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
                    tracing::warn!(why, "what became of objects is not written into their status");
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

/// Writes each; one that is refused keeps no other from being written.
async fn write_all(kubeconfig: Option<&std::path::Path>, patches: Vec<Patch>) -> Result<(), String> {
    let client = connect(kubeconfig).await.map_err(|error| error.to_string())?;
    let mut failed = Vec::new();
    for Patch { name, path, body } in patches {
        let request = Request::patch(format!("{path}?fieldManager={MANAGER}"))
            .header(CONTENT_TYPE, "application/merge-patch+json")
            .body(body.to_string().into_bytes())
            .map_err(|error| error.to_string())?;
        match timeout(ANSWER, client.request::<Value>(request)).await {
            Ok(Ok(_)) => {}
            // Another was faster, or it is gone: whoever follows it hears of that, and settles again.
            Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => {}
            Ok(Err(error @ kube::Error::Api(_))) => failed.push(format!("{name}: {error}")),
            // The others would not be heard either.
            Ok(Err(error)) => return Err(format!("{name}: {error}")),
            Err(_) => return Err(format!("{name}: no answer within {ANSWER:?}")),
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(failed.join(", ")) }
}
