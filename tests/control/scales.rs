//! Apps that are autoscaled: their count is the autoscaler's, at every step of a deploy.

use serde_json::{Value, json};

use crate::bed::wait_until;
use crate::support::{Gateway, SOON, Stage, path, ready, template};

fn revision(status: &Value) -> String {
    status["revision"].as_str().unwrap().to_owned()
}

#[test]
fn an_autoscalers_count_is_followed_during_a_deploy_and_never_written() {
    let stage = Stage::new();
    let _control = stage.control();
    let client = stage.cluster.client();
    let canary = json!({"canary": {"scaleDownDelaySeconds": 0, "steps": [{"share": 50, "pauseSeconds": 0}]}});
    stage.create_app("web", 2, &canary, &template());
    let app = path(&stage.namespace, "apps", "web");
    client.patch(&app, &json!({"spec": {"autoscaling": {"minReplicas": 2, "maxReplicas": 6}}}));
    stage.release("web", "web-1", "web:1", &json!({}));
    let first = revision(&stage.wait_phase("web-1", "Healthy"));
    // The real autoscaler's controller reads the scale; it has no metrics here, and a person scales in its place.
    let hpa = format!("/apis/autoscaling/v2/namespaces/{}/horizontalpodautoscalers/web", stage.namespace);
    let able = |it: &Value| it["type"] == "AbleToScale" && it["status"] == "True";
    wait_until(SOON, "an autoscaler that can scale", || {
        let found = client.try_get(&hpa).unwrap().unwrap_or_default();
        found["status"]["conditions"].as_array().is_some_and(|all| all.iter().any(able))
    });
    let scale = path(&stage.namespace, "appscales", "web/scale");
    let scaled = |count: u32| client.patch(&scale, &json!({"spec": {"replicas": count}}));
    scaled(4);
    wait_until(SOON, "four pods", || stage.counts()[&format!("web-{first}")] == 4);
    let gateway = Gateway::start(&stage, "edge-1", "web");
    wait_until(SOON, "the gateway serves", || gateway.got().last().is_some_and(|it| ready(it).len() == 4));
    stage.release("web", "web-2", "web:2", &json!({}));
    let paused =
        |status: &Value| status["message"].as_str().is_some_and(|it| it.contains("a pause until a person goes on"));
    let second = revision(&stage.wait("web-2", "in its pause", paused));
    assert_eq!(stage.counts()[&format!("web-{second}")], 2);
    // In the middle of a deploy, and beyond what is allowed.
    scaled(9);
    wait_until(SOON, "half of six", || stage.counts()[&format!("web-{second}")] == 3);
    stage.control_of("web-2", &json!({"promoteFull": true}));
    stage.wait_phase("web-2", "Healthy");
    wait_until(SOON, "six of the second", || {
        let counts = stage.counts();
        (counts[&format!("web-{first}")], counts[&format!("web-{second}")]) == (0, 6)
    });
    // From when all four are published.
    for body in gateway.got().iter().skip_while(|it| ready(it).len() < 4) {
        assert!(ready(body).len() >= 4, "{body:#}");
    }
    // It is not ours to write; the real autoscaler brings what is beyond its bounds back to them, when it comes to that.
    let asked = client.get(&path(&stage.namespace, "appscales", "web"))["spec"]["replicas"].as_u64();
    assert!(matches!(asked, Some(9 | 6)), "{asked:?}");
    assert_eq!(client.get(&app)["spec"]["replicas"], 2);
    wait_until(SOON, "what the autoscaler reads", || {
        client.get(&scale)["status"] == json!({"replicas": 6, "selector": "tidegate.dev/app=web"})
    });
    // Without an autoscaler the App's own count holds again.
    client.patch(&app, &json!({"spec": {"autoscaling": null}}));
    wait_until(SOON, "no autoscaler", || client.try_get(&hpa).unwrap().is_none());
    wait_until(SOON, "two pods", || stage.counts()[&format!("web-{second}")] == 2);
}
