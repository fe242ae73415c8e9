//! The API server takes what the definitions allow, and refuses the rest.

use serde_json::{Value, json};

use crate::support::{cluster, path, template};

fn app(namespace: &str, name: &str, strategy: &Value) -> Value {
    json!({
        "apiVersion": "tidegate.dev/v1alpha1", "kind": "App", "metadata": {"name": name, "namespace": namespace},
        "spec": {"replicas": 2, "template": template(), "port": "http", "strategy": strategy},
    })
}

#[test]
fn an_app_has_exactly_one_strategy_and_its_count_is_scaled_as_any_others() {
    let cluster = cluster();
    let (client, namespace) = (cluster.client(), cluster.namespace("resources"));
    for bad in [
        json!({}),
        json!({"blueGreen": {}, "rolling": {}}),
        json!({"canary": {"steps": []}}),
        json!({"batch": {"batches": 0}}),
    ] {
        let refused = client.try_create(&app(&namespace, "bad", &bad)).unwrap_err().0;
        assert!(refused.contains("spec.strategy"), "{bad}: {refused}");
    }
    let long = client.try_create(&app(&namespace, &"a".repeat(51), &json!({"rolling": {}}))).unwrap_err().0;
    assert!(long.contains("up to 50"), "{long}");
    let made = client.create(&app(&namespace, "web", &json!({"rolling": {}})));
    assert_eq!(made["spec"]["strategy"]["rolling"], json!({"maxSurge": 1, "drainSeconds": 10}), "defaults are told");
    assert_eq!(made["spec"]["template"], template(), "nothing of a template is cut off");
    let scale = path(&namespace, "apps", "web/scale");
    client.patch(&scale, &json!({"spec": {"replicas": 5}}));
    assert_eq!(client.get(&path(&namespace, "apps", "web"))["spec"]["replicas"], 5);
}

#[test]
fn requests_of_a_canary_or_a_preview_are_named_by_a_host_a_header_or_a_cookie_and_a_selector_knows_none() {
    let cluster = cluster();
    let (client, namespace) = (cluster.client(), cluster.namespace("resources"));
    let field = |name: &str, values: &[&str]| json!([{"name": name, "values": values}]);
    let canary = |step: Value| json!({"canary": {"steps": [step]}});
    for bad in [
        canary(json!({"pauseSeconds": 5})),
        canary(json!({"setMatch": {}})),
        canary(json!({"setMatch": {"headers": field("x-canary", &[])}})),
        canary(json!({"setMatch": {"headers": field("x canary", &["yes"])}})),
        json!({"blueGreen": {"preview": {"cookies": []}}}),
        json!({"blueGreen": {"preview": {"hosts": []}}}),
        json!({"blueGreen": {"preview": {"hosts": ["Preview.example"]}}}),
        json!({"blueGreen": {"preview": {"hosts": ["preview.example:80"]}}}),
    ] {
        let refused = client.try_create(&app(&namespace, "bad", &bad)).unwrap_err().0;
        assert!(refused.contains("spec.strategy"), "{bad}: {refused}");
    }
    let requests = json!({"headers": field("x-canary", &["yes"]), "cookies": field("beta", &["1", "2"])});
    for (name, good) in [
        ("canary", canary(json!({"setMatch": requests, "podPercent": 20}))),
        ("both", canary(json!({"setMatch": requests, "share": 5}))),
        ("preview", json!({"blueGreen": {"preview": requests}})),
        ("host", json!({"blueGreen": {"preview": {"hosts": ["preview.shop.example"]}}})),
    ] {
        client.create(&app(&namespace, name, &good));
    }
    let mut selected = app(&namespace, "selected", &json!({"blueGreen": {"preview": requests}}));
    selected["spec"]["routing"] = json!("Service");
    let refused = client.try_create(&selected).unwrap_err().0;
    assert!(refused.contains("without preview"), "{refused}");
    let policy = |matches: Value| {
        json!({
            "apiVersion": "tidegate.dev/v1alpha1", "kind": "TrafficPolicy",
            "metadata": {"name": crate::bed::unique("policy"), "namespace": namespace},
            "spec": {"port": "http", "members": [{"pool": "a"}, {"pool": "b", "match": matches}]},
        })
    };
    assert!(client.try_create(&policy(json!({}))).unwrap_err().0.contains("any of them is enough"));
    client.create(&policy(requests));
}

#[test]
fn what_a_release_brings_is_never_changed_and_what_is_asked_of_it_is() {
    let cluster = cluster();
    let (client, namespace) = (cluster.client(), cluster.namespace("resources"));
    client.create(&json!({
        "apiVersion": "tidegate.dev/v1alpha1", "kind": "Release", "metadata": {"name": "web-1", "namespace": namespace},
        "spec": {"app": "web", "image": "web@sha256:0a", "template": template(), "port": "http", "strategy": {"blueGreen": {}}},
    }));
    let it = path(&namespace, "releases", "web-1");
    for (field, value) in
        [("image", json!("web@sha256:0b")), ("app", json!("other")), ("port", json!("grpc")), ("rollback", json!(true))]
    {
        let refused = client.try_patch(&it, &json!({"spec": {field: value}})).unwrap_err().0;
        assert!(refused.contains(&format!("spec.{field}")), "{refused}");
    }
    client.patch(&it, &json!({"spec": {"control": {"paused": true, "targetStep": 3}}}));
    // Its status is another's: who may deploy may not say how it went.
    client.patch(&it, &json!({"status": {"phase": "Healthy"}}));
    assert_eq!(client.get(&it).get("status"), None);
}

#[test]
fn an_approval_is_given_in_ones_own_name_and_never_changed() {
    let cluster = cluster();
    let (client, namespace) = (cluster.client(), cluster.namespace("resources"));
    let approval = |name: &str, by: &str| {
        json!({
            "apiVersion": "tidegate.dev/v1alpha1", "kind": "Approval", "metadata": {"name": name, "namespace": namespace},
            "spec": {"release": "web-1", "image": "web:1", "verdict": "Approved", "by": by, "expiresAt": "2030-01-01T00:00:00Z"},
        })
    };
    // A policy holds a moment after it was made.
    let refused = crate::bed::wait_for(crate::support::SOON, "a refusal", || {
        let name = crate::bed::unique("forged");
        client.try_create(&approval(&name, "somebody-else")).err()
    });
    assert!(refused.0.contains("spec.by must be admin"), "{}", refused.0);
    client.create(&approval("mine", "admin"));
    let changed = client.try_patch(&path(&namespace, "approvals", "mine"), &json!({"spec": {"verdict": "Rejected"}}));
    assert!(changed.unwrap_err().0.contains("never changed"));
    let block = json!({
        "apiVersion": "tidegate.dev/v1alpha1", "kind": "RolloutBlock", "metadata": {"name": "b", "namespace": namespace},
        "spec": {"from": "2030-01-02T00:00:00Z", "until": "2030-01-01T00:00:00Z", "reason": "the sale"},
    });
    assert!(client.try_create(&block).unwrap_err().0.contains("from must be before until"));
}
