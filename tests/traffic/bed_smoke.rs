//! The clusters of the bed do what the suites rely on.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};

use crate::bed::{wait_for, wait_until};
use crate::kube::objects::{deployment, deployment_path, service, slice_path};
use crate::kube::{Cluster, Program};

const SOON: Duration = Duration::from_secs(60);

/// The endpoints of all slices of a service.
fn endpoints(cluster: &Cluster, namespace: &str, name: &str) -> Vec<Value> {
    let path = format!(
        "/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices?labelSelector=kubernetes.io/service-name%3D{name}"
    );
    let slices = cluster.client().get(&path);
    let slices = slices["items"].as_array().cloned().unwrap_or_default();
    slices.iter().flat_map(|slice| slice["endpoints"].as_array().cloned().unwrap_or_default()).collect()
}

fn ready(endpoint: &Value) -> bool {
    endpoint["conditions"]["ready"] == true
}

#[test]
fn pods_are_placed_become_ready_and_are_endpoints_that_answer() {
    let cluster = Cluster::shared(0);
    let namespace = cluster.namespace("placed");
    cluster.client().create(&deployment(&namespace, "web", 3, &json!({})));
    cluster.client().create(&service(&namespace, "web"));
    let found = wait_for(SOON, "three ready endpoints", || {
        let found = endpoints(cluster, &namespace, "web");
        (found.len() == 3 && found.iter().all(ready)).then_some(found)
    });
    let address = found[0]["addresses"][0].as_str().unwrap().to_owned();
    assert!(address.starts_with("10.244."), "{address}");
    // The pod's address is ours: what listens there is a real back end.
    let listener = TcpListener::bind((address.as_str(), 8080)).unwrap();
    let mut stream = TcpStream::connect((address.as_str(), 8080)).unwrap();
    listener.accept().unwrap().0.write_all(b"pod").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "pod");
}

#[test]
fn what_happens_to_a_pod_is_scripted_and_can_change_while_it_lives() {
    let cluster = Cluster::shared(0);
    let namespace = cluster.namespace("scripted");
    cluster.client().create(&deployment(&namespace, "web", 1, &json!({"bed/state": "NotReady", "bed/drain": "2m"})));
    cluster.client().create(&service(&namespace, "web"));
    wait_until(SOON, "an endpoint that is not ready", || {
        endpoints(cluster, &namespace, "web").first().is_some_and(|it| !ready(it))
    });
    let pods = cluster.client().get(&format!("/api/v1/namespaces/{namespace}/pods"));
    let pod = format!("/api/v1/namespaces/{namespace}/pods/{}", pods["items"][0]["metadata"]["name"].as_str().unwrap());
    cluster.client().patch(&pod, &json!({"metadata": {"annotations": {"bed/state": "Ready"}}}));
    wait_until(SOON, "a ready endpoint", || endpoints(cluster, &namespace, "web").first().is_some_and(ready));
    cluster.client().patch(&deployment_path(&namespace, "web"), &json!({"spec": {"replicas": 0}}));
    wait_until(SOON, "an endpoint that is terminating and still serves", || {
        endpoints(cluster, &namespace, "web").first().is_some_and(|it| {
            let conditions = &it["conditions"];
            conditions["terminating"] == true && conditions["serving"] == true && conditions["ready"] == false
        })
    });
}

#[test]
fn two_clusters_run_side_by_side_with_pods_of_different_addresses() {
    let clusters = [Cluster::shared(0), Cluster::shared(1)];
    for (cluster, network) in clusters.iter().zip(["10.244.", "10.245."]) {
        let namespace = cluster.namespace("beside");
        cluster.client().create(&deployment(&namespace, "web", 1, &json!({})));
        cluster.client().create(&service(&namespace, "web"));
        let found =
            wait_for(SOON, "a ready endpoint", || endpoints(cluster, &namespace, "web").into_iter().find(ready));
        assert!(found["addresses"][0].as_str().unwrap().starts_with(network), "{found}");
    }
}

#[test]
fn the_first_pods_of_a_node_have_addresses_of_their_own() {
    const PODS: usize = 8;
    let cluster = Cluster::shared(0);
    let namespace = cluster.namespace("addresses");
    for number in 0..20 {
        let name = format!("{namespace}-{number}");
        // They are there before their node is, so that the fake kubelet gets them all at once.
        for pod in 0..PODS {
            cluster.client().create_pod(&json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": format!("on-{number}-{pod}"), "namespace": namespace},
                "spec": {"nodeName": name, "containers": [{"name": "web", "image": "web:1"}]},
            }));
        }
        let network = format!("10.244.{}.0/24", 100 + number);
        cluster.client().create(&json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": name},
            "spec": {"podCIDR": network, "podCIDRs": [network], "unschedulable": true},
        }));
        let path = format!("/api/v1/namespaces/{namespace}/pods?fieldSelector=spec.nodeName%3D{name}");
        let addresses: Vec<String> = wait_for(SOON, "an address of each pod", || {
            let pods = cluster.client().get(&path)["items"].as_array().cloned().unwrap_or_default();
            let addresses = pods.iter().map(|it| it["status"]["podIP"].as_str().map(str::to_owned));
            addresses.collect::<Option<Vec<_>>>().filter(|it| it.len() == PODS)
        });
        assert_eq!(addresses.iter().collect::<BTreeSet<_>>().len(), PODS, "{addresses:?}");
        cluster.client().delete(&format!("/api/v1/nodes/{name}"));
    }
}

#[test]
fn an_api_server_that_was_killed_comes_back_with_what_it_knew() {
    let cluster = Cluster::start(0);
    let namespace = cluster.namespace("killed");
    let slice = crate::kube::objects::slice(
        &namespace,
        "by-hand",
        "web",
        &json!([{"addresses": ["10.244.200.1"]}]),
        &json!([{"name": "http", "port": 8080}]),
    );
    cluster.client().create(&slice);
    cluster.kill(Program::ApiServer);
    assert!(!cluster.client().is_ready());
    cluster.run(Program::ApiServer);
    cluster.wait_ready();
    let slice = cluster.client().get(&slice_path(&namespace, "by-hand"));
    assert_eq!(slice["endpoints"][0]["addresses"][0], "10.244.200.1");
}
