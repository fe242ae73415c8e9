//! What is made of an App beside its revisions: it is there while it is wanted, as the App says, and gone when it is not.

use serde_json::{Value, json};

use crate::bed::{http, wait_until};
use crate::rest::writes_at_rest;
use crate::support::{SOON, Stage, path, template};

fn budget(stage: &Stage, app: &str) -> String {
    format!("/apis/policy/v1/namespaces/{}/poddisruptionbudgets/{app}", stage.namespace)
}

fn service(stage: &Stage, name: &str) -> String {
    format!("/api/v1/namespaces/{}/services/{name}", stage.namespace)
}

/// Somebody empties a node.
fn evict(stage: &Stage, pod: &str) -> Result<Value, String> {
    let eviction = json!({
        "apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": stage.namespace},
    });
    let at = format!("/api/v1/namespaces/{}/pods/{pod}/eviction", stage.namespace);
    stage.cluster.client().try_post(&at, &eviction).map_err(|error| error.0)
}

#[test]
fn who_empties_nodes_takes_no_more_pods_at_once_than_the_app_allows() {
    let stage = Stage::new();
    let control = stage.control_as_installed();
    let client = stage.cluster.client();
    stage.create_app("web", 3, &json!({"blueGreen": {"scaleDownDelaySeconds": 0}}), &template());
    stage.release("web", "web-1", "web:1", &json!({}));
    stage.wait_phase("web-1", "Healthy");
    // The real controller of budgets counts the pods.
    let allowed = || {
        let status = client.try_get(&budget(&stage, "web")).unwrap().unwrap_or_default()["status"].clone();
        (status["expectedPods"].as_u64(), status["disruptionsAllowed"].as_u64())
    };
    wait_until(SOON, "a budget of three pods", || allowed() == (Some(3), Some(1)));
    let made = client.get(&budget(&stage, "web"));
    let owner = &made["metadata"]["ownerReferences"][0];
    assert_eq!((&owner["kind"], &owner["name"]), (&json!("App"), &json!("web")));
    let pods = client.get(&format!("/api/v1/namespaces/{}/pods", stage.namespace));
    let names: Vec<String> = pods["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["metadata"]["name"].as_str().unwrap().to_owned())
        .collect();
    // One is missing: no other may go, and that one may.
    let first = format!("/api/v1/namespaces/{}/pods/{}", stage.namespace, names[0]);
    client.patch(&first, &json!({"metadata": {"annotations": {"bed/state": "NotReady"}}}));
    wait_until(SOON, "no disruption is allowed", || allowed().1 == Some(0));
    let refused = evict(&stage, &names[1]).unwrap_err();
    assert!(refused.contains("disruption budget"), "{refused}");
    evict(&stage, &names[0]).unwrap();
    wait_until(SOON, "another in its place", || allowed() == (Some(3), Some(1)));
    evict(&stage, &names[1]).unwrap();

    assert_eq!(writes_at_rest(&stage, &control, "web"), 0.0);
    // Another word of the App's, and one of somebody else's.
    let app = path(&stage.namespace, "apps", "web");
    client.patch(&app, &json!({"spec": {"disruption": {"maxUnavailable": 2}}}));
    let max = || client.try_get(&budget(&stage, "web")).unwrap().map(|it| it["spec"]["maxUnavailable"].clone());
    wait_until(SOON, "two at once", || max() == Some(json!(2)));
    client.patch(&budget(&stage, "web"), &json!({"spec": {"maxUnavailable": 3}}));
    wait_until(SOON, "two again", || max() == Some(json!(2)));
    // It keeps nothing of two pods, and something of three.
    client.patch(&app, &json!({"spec": {"replicas": 2}}));
    wait_until(SOON, "no budget", || max().is_none());
    client.patch(&app, &json!({"spec": {"replicas": 3}}));
    wait_until(SOON, "a budget", || max() == Some(json!(2)));
    let refused = client.try_patch(&app, &json!({"spec": {"disruption": {"maxUnavailable": 0}}})).unwrap_err();
    assert!(refused.0.contains("maxUnavailable"), "{}", refused.0);
    // All that was made of it goes with it.
    let pools = stage.counts().into_keys().next().unwrap();
    client.delete(&app);
    wait_until(SOON, "nothing of it", || {
        max().is_none() && client.try_get(&service(&stage, &pools)).unwrap().is_none() && stage.counts().is_empty()
    });
}

#[test]
fn a_stable_service_is_reached_as_the_app_says_while_it_says_so() {
    let stage = Stage::new();
    let control = stage.control_as_installed();
    let client = stage.cluster.client();
    let exposure = json!({
        "type": "LoadBalancer", "ports": [{"name": "http", "port": 80}], "hosts": [format!("{}.example", stage.namespace)],
        "annotations": {"cloud.example/class": "public"},
    });
    client.create(&json!({
        "apiVersion": "tidegate.dev/v1alpha1", "kind": "App", "metadata": {"name": "plain", "namespace": stage.namespace},
        "spec": {
            "replicas": 2, "template": template(), "port": "http", "routing": "Service", "exposure": exposure,
            "strategy": {"blueGreen": {"scaleDownDelaySeconds": 0}},
        },
    }));
    stage.release("plain", "plain-1", "web:1", &json!({}));
    stage.wait_phase("plain-1", "Healthy");
    let stable = || client.get(&service(&stage, "plain"));
    wait_until(SOON, "a load balancer's Service", || stable()["spec"]["type"] == "LoadBalancer");
    let made = stable();
    let ports = &made["spec"]["ports"];
    assert_eq!(
        (ports.as_array().unwrap().len(), &ports[0]["port"], &ports[0]["targetPort"]),
        (1, &json!(80), &json!("http"))
    );
    assert_eq!(made["metadata"]["annotations"]["cloud.example/class"], "public");
    // The traffic plane gives the Service its hosts.
    let hosts = || {
        let body: Value = serde_json::from_slice(&http::get(stage.pools, "/v1/hosts").unwrap().body).unwrap();
        let of = |it: &Value| format!("{} {}", it["host"].as_str().unwrap(), it["pool"].as_str().unwrap());
        body["hosts"].as_array().unwrap().iter().map(of).collect::<Vec<_>>()
    };
    let wanted = format!("{0}.example east/{0}/plain/http", stage.namespace);
    wait_until(SOON, "its host", || hosts() == [wanted.clone()]);
    assert_eq!(writes_at_rest(&stage, &control, "plain"), 0.0);
    // A deploy switches the selector, and nothing of this.
    stage.release("plain", "plain-2", "web:2", &json!({}));
    stage.wait_phase("plain-2", "Healthy");
    assert_eq!(
        (&stable()["spec"]["type"], &stable()["spec"]["ports"][0]["port"]),
        (&json!("LoadBalancer"), &json!(80))
    );
    let app = path(&stage.namespace, "apps", "plain");
    client.patch(&app, &json!({"spec": {"exposure": {"type": "ClusterIP", "hosts": null, "annotations": null}}}));
    wait_until(SOON, "a Service of the cluster", || stable()["spec"]["type"] == "ClusterIP");
    assert_eq!(stable()["metadata"]["annotations"].get("cloud.example/class"), None);
    wait_until(SOON, "no host", || hosts().is_empty());
    client.patch(&app, &json!({"spec": {"exposure": null}}));
    wait_until(SOON, "the container's own port", || stable()["spec"]["ports"][0]["port"] == 8080);
    assert_eq!(stable()["metadata"]["annotations"].get("tidegate.dev/exposure"), None);
    assert_eq!(writes_at_rest(&stage, &control, "plain"), 0.0);
}

#[test]
fn an_exposure_that_would_pass_the_gateways_is_refused() {
    let stage = Stage::new();
    let client = stage.cluster.client();
    stage.create_app("web", 1, &json!({"blueGreen": {}}), &template());
    let app = path(&stage.namespace, "apps", "web");
    let refused = |exposure: Value| client.try_patch(&app, &json!({"spec": {"exposure": exposure}})).unwrap_err().0;
    for exposure in [
        json!({"type": "LoadBalancer"}),
        json!({"type": "ClusterIP"}),
        json!({"ports": [{"name": "http", "port": 80}]}),
        json!({"annotations": {"a": "b"}}),
    ] {
        let said = refused(exposure);
        assert!(said.contains("goes with routing Service"), "{said}");
    }
    let other = refused(json!({"ports": [{"name": "grpc", "port": 80}]}));
    assert!(other.contains("has the App's port"), "{other}");
    client.patch(&app, &json!({"spec": {"exposure": {"hosts": ["shop.example"]}}}));
}
