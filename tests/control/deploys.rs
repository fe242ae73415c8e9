//! Deploys from end to end.

use serde_json::{Value, json};

use crate::bed::wait_until;
use crate::rest::writes_at_rest;
use crate::support::{Gateway, SOON, Stage, path, ready, template};

/// The pods of a body's ready endpoints, by the revision in their names.
fn of_revision<'a>(pods: &'a [String], namespace: &str, app: &str, revision: &str) -> Vec<&'a String> {
    let start = format!("{namespace}/{app}-{revision}-");
    pods.iter().filter(|pod| pod.starts_with(&start)).collect()
}

fn revision(status: &Value) -> String {
    status["revision"].as_str().unwrap().to_owned()
}

#[test]
fn a_blue_green_deploy_switches_only_what_its_gateways_have_acknowledged() {
    let stage = Stage::new();
    let control = stage.control();
    stage.create_app("web", 3, &json!({"blueGreen": {"scaleDownDelaySeconds": 1}}), &template());
    stage.release("web", "web-1", "web:1", &json!({}));
    let first = revision(&stage.wait_phase("web-1", "Healthy"));
    let gateway = Gateway::start(&stage, "edge-1", "web");
    wait_until(SOON, "the gateway serves", || gateway.got().last().is_some_and(|it| ready(it).len() == 3));

    // A gateway that asks and does not say that it serves holds the deploy up, and keeps the old pods.
    gateway.acknowledges(false);
    stage.release("web", "web-2", "web:2", &json!({}));
    let waiting = stage.wait("web-2", "waiting for edge-1", |status| {
        status["message"].as_str().is_some_and(|it| it.contains("is not acknowledged by edge-1"))
    });
    let second = revision(&waiting);
    let counts = stage.counts();
    assert_eq!((counts[&format!("web-{first}")], counts[&format!("web-{second}")]), (3, 3));
    gateway.acknowledges(true);
    stage.wait_phase("web-2", "Healthy");
    let counts = stage.counts();
    assert_eq!((counts[&format!("web-{first}")], counts[&format!("web-{second}")]), (0, 3));
    let pool = format!("east/{}/web-{second}/http", stage.namespace);
    assert_eq!(stage.shares("web").keys().collect::<Vec<_>>(), [&pool]);
    let ended = || control.metric("tidegate_control_release_duration_seconds_count");
    wait_until(SOON, "two releases that are counted", || ended() == Some(2.0));

    // At every moment all pods asked for were in service, and never those of two revisions at once.
    for body in gateway.got() {
        let pods = ready(&body);
        let (old, new) =
            (of_revision(&pods, &stage.namespace, "web", &first), of_revision(&pods, &stage.namespace, "web", &second));
        assert!(pods.len() >= 3 && (old.is_empty() || new.is_empty()), "{body:#}");
    }
    // The App tells of it in a write of its own.
    let app = || stage.cluster.client().get(&path(&stage.namespace, "apps", "web"))["status"]["release"].clone();
    wait_until(SOON, "an App that tells of the end", || app() == "web-2 Healthy");

    // Settled is silent: looked at again and again, nothing is written.
    assert_eq!(writes_at_rest(&stage, &control, "web"), 0.0);
    // Its count is followed without a release.
    stage.cluster.client().patch(&path(&stage.namespace, "apps", "web/scale"), &json!({"spec": {"replicas": 5}}));
    wait_until(SOON, "five pods", || stage.counts()[&format!("web-{second}")] == 5);
}

#[test]
fn a_switch_waits_for_a_built_in_gateway_that_lags_as_for_any_other() {
    let stage = Stage::new();
    let _control = stage.control();
    stage.create_app("web", 2, &json!({"blueGreen": {"scaleDownDelaySeconds": 0}}), &template());
    let mut edge = stage.edge("node-1/edge");
    stage.release("web", "web-1", "web:1", &json!({}));
    let first = revision(&stage.wait_phase("web-1", "Healthy"));
    let serves = || {
        let pool = format!("app/{}/web/http", stage.namespace);
        let known = stage.gateways();
        let edge = known["gateways"].as_array().unwrap().iter().find(|it| it["name"] == "node-1/edge").cloned();
        edge.is_some_and(|edge| edge["pools"][&pool]["current"] == true && edge["pools"][&pool]["applied"].is_i64())
    };
    wait_until(SOON, "the gateway's word at the hub", serves);

    // It does not move, and its clients still go to the old pods.
    edge.signal("STOP");
    stage.release("web", "web-2", "web:2", &json!({}));
    stage.wait("web-2", "waiting for the gateway", |status| {
        status["message"].as_str().is_some_and(|it| it.contains("is not acknowledged by node-1/edge"))
    });
    assert_eq!(stage.counts()[&format!("web-{first}")], 2);
    edge.signal("CONT");
    stage.wait_phase("web-2", "Healthy");
    assert_eq!(stage.counts()[&format!("web-{first}")], 0);
    wait_until(SOON, "the gateway's word of the switch", serves);
}

#[test]
fn a_rolling_deploy_never_has_fewer_pods_in_service_and_goes_back_from_its_middle() {
    let stage = Stage::new();
    let control = stage.control();
    stage.create_app("web", 4, &json!({"rolling": {"maxSurge": 1, "drainSeconds": 0}}), &template());
    stage.release("web", "web-1", "web:1", &json!({}));
    let first = revision(&stage.wait_phase("web-1", "Healthy"));
    let gateway = Gateway::start(&stage, "edge-1", "web");
    wait_until(SOON, "the gateway serves", || gateway.got().last().is_some_and(|it| ready(it).len() == 4));
    // It stays in its middle, at the first step of the third of four batches of eight steps each: both revisions have traffic,
    // and old pods have gone.
    stage.release("web", "web-2", "web:2", &json!({"control": {"targetStep": 16}}));
    let second = revision(&stage.wait("web-2", "in its middle", |status| status["currentStepIndex"] == 16));
    assert_eq!((stage.counts()[&format!("web-{first}")], stage.shares("web").len()), (2, 2));
    stage.control_of("web-2", &json!({"abort": true}));
    let ended = stage.wait_phase("web-2", "Degraded");
    assert!(ended["message"].as_str().unwrap().starts_with("aborted"), "{ended:#}");
    let counts = stage.counts();
    assert_eq!((counts[&format!("web-{first}")], counts[&format!("web-{second}")]), (4, 0), "{}", control.log());
    assert_eq!(stage.shares("web").keys().collect::<Vec<_>>(), [&format!("east/{}/web-{first}/http", stage.namespace)]);
    for body in gateway.got() {
        assert!(ready(&body).len() >= 4, "{body:#}");
    }
    // And whole.
    stage.release("web", "web-3", "web:3", &json!({}));
    stage.wait_phase("web-3", "Healthy");
    for body in gateway.got() {
        assert!(ready(&body).len() >= 4, "{body:#}");
    }
}

#[test]
fn pods_that_do_not_start_never_get_traffic_and_their_trouble_is_told() {
    let stage = Stage::new();
    let _control = stage.control();
    stage.create_app("web", 2, &json!({"blueGreen": {"scaleDownDelaySeconds": 0}}), &template());
    stage.release("web", "web-1", "web:1", &json!({}));
    stage.wait_phase("web-1", "Healthy");
    let mut broken = template();
    broken["metadata"] = json!({"annotations": {"bed/state": "ImagePullBackOff"}});
    broken["spec"]["containers"][0]["image"] = json!("web:2");
    stage.release(
        "web",
        "web-2",
        "web:2",
        &json!({"template": broken, "progressDeadlineSeconds": 2, "onFailure": "Abort"}),
    );
    let ended = stage.wait_phase("web-2", "Degraded");
    let message = ended["message"].as_str().unwrap();
    assert!(message.contains("the image of container web cannot be pulled"), "{message}");
    assert_eq!(stage.shares("web").len(), 1);
    // A third takes over from a second that hangs.
    broken["spec"]["containers"][0]["image"] = json!("web:3");
    stage.release("web", "web-3", "web:3", &json!({"template": broken}));
    stage.wait("web-3", "under way", |status| status["currentStepIndex"].as_u64() >= Some(1));
    stage.release("web", "web-4", "web:4", &json!({}));
    stage.wait_phase("web-3", "Superseded");
    stage.wait_phase("web-4", "Healthy");
    wait_until(SOON, "pods of one revision", || stage.counts().values().filter(|count| **count > 0).count() == 1);
}

#[test]
fn an_app_that_tidegate_does_not_route_is_switched_by_its_services_selector() {
    let stage = Stage::new();
    let _control = stage.control();
    let client = stage.cluster.client();
    let app = json!({
        "apiVersion": "tidegate.dev/v1alpha1", "kind": "App", "metadata": {"name": "plain", "namespace": stage.namespace},
        "spec": {
            "replicas": 3, "template": template(), "port": "http", "routing": "Service",
            "strategy": {"blueGreen": {"scaleDownDelaySeconds": 0}},
        },
    });
    for (field, value) in [("strategy", json!({"rolling": {}})), ("failurePolicy", json!({"ignore": {"maxRatio": 10}}))]
    {
        let mut bad = app.clone();
        bad["spec"][field] = value;
        let refused = client.try_create(&bad).unwrap_err().0;
        assert!(refused.contains("selector has no shares"), "{refused}");
    }
    client.create(&app);
    stage.release("plain", "plain-1", "web:1", &json!({}));
    let first = revision(&stage.wait_phase("plain-1", "Healthy"));
    let service = format!("/api/v1/namespaces/{}/services/plain", stage.namespace);
    assert_eq!(client.get(&service)["spec"]["selector"]["tidegate.dev/revision"], first);
    let slices = format!("/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices", stage.namespace);
    let deployments = format!("/apis/apps/v1/namespaces/{}/deployments", stage.namespace);
    let (slices, deployments) = (client.watch(&slices), client.watch(&deployments));
    stage.release("plain", "plain-2", "web:2", &json!({}));
    let second = revision(&stage.wait_phase("plain-2", "Healthy"));
    wait_until(SOON, "no old pod", || stage.counts()[&format!("plain-{first}")] == 0);
    assert_eq!(client.get(&service)["spec"]["selector"]["tidegate.dev/revision"], second);
    assert!(client.try_get(&path(&stage.namespace, "trafficpolicies", "plain")).unwrap().is_none());

    // In the order in which the API server has it: all three serve at every moment, and old pods go only once none is listed.
    let version = |it: &Value| it["object"]["metadata"]["resourceVersion"].as_str().unwrap().parse::<u64>().unwrap();
    let mut events: Vec<Value> = slices.events().into_iter().chain(deployments.events()).collect();
    events.sort_by_key(version);
    let old = format!("plain-{first}");
    let mut listed = Vec::new();
    for event in &events {
        let object = &event["object"];
        let is_stable = object["metadata"]["labels"]["kubernetes.io/service-name"] == "plain";
        if is_stable {
            let endpoints = object["endpoints"].as_array().cloned().unwrap_or_default();
            let ready = endpoints.iter().filter(|it| it["conditions"]["ready"] == true);
            listed = ready.map(|it| it["targetRef"]["name"].as_str().unwrap().to_owned()).collect();
            assert!(listed.len() >= 3, "{listed:?}");
        }
        if object["metadata"]["name"] == old.as_str() && object["spec"]["replicas"] == 0 {
            assert!(listed.iter().all(|pod| !pod.starts_with(&old)), "{listed:?}");
        }
    }
    // Back by the same way.
    stage.release("plain", "plain-3", "web:1", &json!({"rollback": true}));
    stage.wait_phase("plain-3", "Healthy");
    assert_eq!(client.get(&service)["spec"]["selector"]["tidegate.dev/revision"], first);
}
