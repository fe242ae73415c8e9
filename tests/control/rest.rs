//! An App at rest: looked at again and again, nothing is written about it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::bed::{unique, wait_for, wait_until};
use crate::support::{Control, SOON, Stage, path};

/// Looks after which what was written last has come back as a change.
const BEFORE: usize = 3;
/// Looks whose writes are counted.
const COUNTED: usize = 5;

/// The Deployments and pods of an App by name, each in its version.
type Versions = BTreeMap<String, String>;

/// How many writes come of looks at an App about which nothing is to be done. A pod that another controller replaces meanwhile
/// is a reason to write: such looks are not counted, and others are made once all is at rest again.
pub(crate) fn writes_at_rest(stage: &Stage, control: &Control, app: &str) -> f64 {
    wait_for(SOON, "an App at rest", || {
        let before = at_rest(stage, app)?;
        if writes_of_looks(stage, control, app, BEFORE) > 0.0 {
            return None;
        }
        let writes = writes_of_looks(stage, control, app, COUNTED);
        (at_rest(stage, app)? == before).then_some(writes)
    })
}

/// What others may still change about an App, if nobody is doing so: each pod that its Deployments ask for is ready, none is on
/// its way out, and the App tells of as many.
fn at_rest(stage: &Stage, app: &str) -> Option<Versions> {
    let (client, namespace) = (stage.cluster.client(), &stage.namespace);
    let label = format!("labelSelector=tidegate.dev/app={app}");
    let list = |collection: String| client.get(&format!("{collection}?{label}"))["items"].as_array().unwrap().clone();
    let deployments = list(format!("/apis/apps/v1/namespaces/{namespace}/deployments"));
    let pods = list(format!("/api/v1/namespaces/{namespace}/pods"));
    let asked: u64 = deployments.iter().filter_map(|it| it["spec"]["replicas"].as_u64()).sum();
    let is_whole = |it: &Value| {
        let available = it["status"]["availableReplicas"].as_u64().unwrap_or_default();
        it["spec"]["replicas"] == available && it["status"]["observedGeneration"] == it["metadata"]["generation"]
    };
    let is_ready = |pod: &Value| {
        let conditions = pod["status"]["conditions"].as_array();
        let ready = conditions.is_some_and(|all| all.iter().any(|it| it["type"] == "Ready" && it["status"] == "True"));
        ready && pod["metadata"]["deletionTimestamp"].is_null()
    };
    let told = client.get(&path(namespace, "apps", app))["status"].clone();
    let is_told = told["replicas"] == asked && told["readyReplicas"] == asked;
    let is_whole = deployments.iter().all(is_whole) && pods.iter().all(is_ready);
    let version = |it: &Value| {
        let text = |field: &str| it["metadata"][field].as_str().unwrap().to_owned();
        (text("name"), text("resourceVersion"))
    };
    let is_at_rest = is_told && is_whole && json!(pods.len()) == asked;
    is_at_rest.then(|| deployments.iter().chain(&pods).map(version).collect())
}

/// Has an App looked at so often, and counts the writes of that time.
fn writes_of_looks(stage: &Stage, control: &Control, app: &str, looks: usize) -> f64 {
    let metric = |name: &str| wait_for(SOON, name, || control.metric(name));
    let before = metric("tidegate_control_writes_total");
    for _ in 0..looks {
        let from = metric("tidegate_control_reconciles_total");
        let note = json!({"metadata": {"annotations": {"look": unique("look")}}});
        stage.cluster.client().patch(&path(&stage.namespace, "apps", app), &note);
        wait_until(SOON, "a look", || metric("tidegate_control_reconciles_total") > from);
    }
    metric("tidegate_control_writes_total") - before
}
