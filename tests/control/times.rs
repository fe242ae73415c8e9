//! Where the time of a deploy's pods went, as its status and the metrics tell it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::bed::{wait_for, wait_until};
use crate::support::{SOON, Stage, path, template};

/// Whole seconds, as Kubernetes counts them.
fn stamp(pod: &Value, later: u64) -> String {
    let created: jiff::Timestamp = pod["metadata"]["creationTimestamp"].as_str().unwrap().parse().unwrap();
    (created + Duration::from_secs(later)).to_string()
}

#[test]
fn a_release_tells_where_the_time_of_its_slowest_pod_went() {
    let stage = Stage::new();
    let control = stage.control_as_installed();
    let client = stage.cluster.client();
    let mut slow = template();
    slow["metadata"] = json!({"annotations": {"bed/state": "Hold"}});
    slow["spec"]["containers"][0]["readinessProbe"] = json!({"initialDelaySeconds": 90, "tcpSocket": {"port": 8080}});
    stage.create_app("web", 1, &json!({"blueGreen": {"scaleDownDelaySeconds": 0}}), &slow);
    stage.release("web", "web-1", "web:1", &json!({}));
    let pods = format!("/api/v1/namespaces/{}/pods", stage.namespace);
    let pod = wait_for(SOON, "a pod on a node", || {
        let pod = client.get(&pods)["items"][0].clone();
        pod["spec"]["nodeName"].is_string().then_some(pod)
    });
    let (name, began) = (pod["metadata"]["name"].as_str().unwrap(), Instant::now());
    // What a kubelet would say while it pulls for two seconds.
    for (reason, at) in [("Pulling", 1), ("Pulled", 3)] {
        client.create(&json!({
            "apiVersion": "v1", "kind": "Event",
            "metadata": {"name": format!("{name}.{}", reason.to_lowercase()), "namespace": stage.namespace},
            "involvedObject": {
                "kind": "Pod", "name": name, "namespace": stage.namespace, "uid": pod["metadata"]["uid"],
                "fieldPath": "spec.containers{web}",
            },
            "reason": reason, "type": "Normal", "firstTimestamp": stamp(&pod, at), "lastTimestamp": stamp(&pod, at),
        }));
    }
    wait_until(SOON, "four seconds", || began.elapsed() > Duration::from_secs(4));
    client.patch(&format!("{pods}/{name}"), &json!({"metadata": {"annotations": {"bed/state": "Ready"}}}));
    let times = stage.wait_phase("web-1", "Healthy")["podTimes"].clone();
    assert_eq!((&times["pods"], &times["slowest"]), (&json!(1), &json!(name)), "{times:#}\n{}", control.log());
    assert_eq!(times["pull"], 2, "{times:#}\n{}", control.log());
    let parts = ["schedule", "pull", "init", "start", "probeDelay"].map(|part| times[part].as_u64().unwrap());
    assert!((4..60).contains(&parts.iter().sum::<u64>()), "{times:#}");
    let counted = || control.metric("tidegate_control_pod_start_seconds_count");
    wait_until(SOON, "six parts that are counted", || counted() == Some(6.0));
    let shown = stage.run(&["status", "web"]);
    assert!(String::from_utf8_lossy(&shown.stdout).contains("slowest of 1 new pods: schedule"), "{shown:?}");
}

#[test]
fn a_release_that_ends_otherwise_is_counted_by_its_strategy_and_its_cause() {
    let stage = Stage::new();
    let control = stage.control();
    let mut broken = template();
    broken["metadata"] = json!({"annotations": {"bed/state": "ImagePullBackOff"}});
    stage.create_app("web", 1, &json!({"rolling": {}}), &broken);
    stage.release("web", "web-1", "web:1", &json!({"onFailure": "Abort", "progressDeadlineSeconds": 1}));
    let ended = stage.wait_phase("web-1", "Degraded");
    assert_eq!(ended["failure"]["cause"], "Deadline", "{ended:#}");
    stage.release("web", "web-2", "web:2", &json!({"onFailure": "Abort", "failurePolicy": {"fail": {}}}));
    let ended = stage.wait_phase("web-2", "Degraded");
    assert_eq!(ended["failure"]["cause"], "Pods", "{ended:#}");
    client_aborts(&stage);
    for cause in ["deadline", "pods", "person"] {
        let series = format!(
            "tidegate_control_release_duration_seconds_count{{strategy=\"rolling\",result=\"aborted\",cause=\"{cause}\"}}"
        );
        wait_until(SOON, &series, || control.metric(&series) == Some(1.0));
    }
}

fn client_aborts(stage: &Stage) {
    stage.release("web", "web-3", "web:3", &json!({}));
    stage.wait("web-3", "begun", |status| status["revision"].is_string());
    stage
        .cluster
        .client()
        .patch(&path(&stage.namespace, "releases", "web-3"), &json!({"spec": {"control": {"abort": true}}}));
    stage.wait_phase("web-3", "Degraded");
}
