//! Pools joined from clusters, files and TrafficPolicies, and what people see of them.

use std::time::Duration;

use serde_json::{Value, json};

use crate::bed::{Tidegate, poll, wait_until};
use crate::kube::Cluster;
use crate::kube::objects::{deployment, service, slice, slice_path};
use crate::support::{SOON, Setup};

fn ports() -> Value {
    json!([{"name": "http", "port": 8080, "protocol": "TCP"}])
}

fn endpoints(addresses: &[&str]) -> Value {
    json!(addresses.iter().map(|address| json!({"addresses": [address]})).collect::<Vec<_>>())
}

/// Address and weight of a pool's endpoints.
fn weights(pool: &Value) -> Vec<(String, u64)> {
    let pair = |it: &Value| (it["address"].as_str().unwrap().to_owned(), it["weight"].as_u64().unwrap());
    pool["endpoints"].as_array().unwrap().iter().map(pair).collect()
}

const VMS: &str = "[[pool]]\nid = \"vm/checkout\"\nendpoints = [{ address = \"10.9.0.1\", port = 8080 }]\n";

#[test]
fn pods_of_two_clusters_and_vms_are_one_pool_with_shares_and_failover() {
    let (east, west) = (Cluster::shared(0), Cluster::shared(1));
    let (near, far) = (east.namespace("joined"), west.namespace("joined"));
    east.client().create(&slice(&near, "s", "checkout", &endpoints(&["10.244.40.1", "10.244.40.2"]), &ports()));
    west.client().create(&slice(&far, "s", "checkout", &endpoints(&["10.245.40.1"]), &ports()));
    let setup = Setup::new("").cluster("east", east, "").cluster("west", west, "").file("vms.toml", VMS);
    let plane = setup
        .sections(&format!(
            "[[discovery.pool]]\nid = \"checkout\"\nmembers = [\
             {{ pool = \"east/{near}/checkout/http\", share = 70, priority = 0 }}, \
             {{ pool = \"vm/checkout\", share = 30, priority = 0 }}, \
             {{ pool = \"west/{far}/checkout/http\", share = 100, priority = 1 }}]"
        ))
        .start();
    let checkout = || weights(&plane.json("/v1/pools/checkout"));
    let pair = |address: &str, weight| (address.to_owned(), weight);
    assert_eq!(checkout(), [pair("10.244.40.1", 350_000), pair("10.244.40.2", 350_000), pair("10.9.0.1", 300_000)]);
    east.client().patch(&slice_path(&near, "s"), &json!({"endpoints": []}));
    wait_until(SOON, "the VM alone", || checkout() == [pair("10.9.0.1", 1_000_000)]);
    // The file is edited: the VM leaves, and the other cluster serves.
    let path = plane.file("vms.toml");
    std::fs::write(&path, "[[pool]]\nid = \"vm/checkout\"\nendpoints = []\n").unwrap();
    wait_until(SOON, "the other cluster", || checkout() == [pair("10.245.40.1", 1_000_000)]);
    // A file that was written half changes nothing and is said to be bad.
    std::fs::write(&path, "[[pool]]\nid = \"vm/ch").unwrap();
    wait_until(SOON, "stale", || plane.header("/v1/pools/vm/checkout", "tidegate-state") == "stale");
    assert_eq!(plane.pool("vm/checkout").map(|it| it.len()), Some(0));
    std::fs::write(&path, VMS).unwrap();
    wait_until(SOON, "the VM again", || checkout() == [pair("10.9.0.1", 1_000_000)]);
    assert_eq!(plane.header("/v1/pools/checkout", "tidegate-state"), "fresh");
}

/// The definition of TrafficPolicies, as much of it as pools are made from.
fn definition() -> Value {
    let any = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "trafficpolicies.tidegate.dev"},
        "spec": {
            "group": "tidegate.dev", "scope": "Namespaced",
            "names": {"kind": "TrafficPolicy", "plural": "trafficpolicies", "singular": "trafficpolicy"},
            "versions": [{"name": "v1alpha1", "served": true, "storage": true,
                          "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": any}}}}],
        },
    })
}

#[test]
fn a_traffic_policy_makes_a_pool_and_each_switch_has_its_generation() {
    let cluster = Cluster::start(0);
    let namespace = cluster.namespace("switched");
    let client = cluster.client();
    client.create(&slice(&namespace, "blue", "blue", &endpoints(&["10.244.41.1"]), &ports()));
    client.create(&slice(&namespace, "green", "green", &endpoints(&["10.244.41.2"]), &ports()));
    let plane = Setup::new("").cluster("east", &cluster, "").start();
    let id = format!("app/{namespace}/web/http");
    assert_eq!(plane.pool(&id), None, "ready although nobody has installed the resource");
    client.create(&definition());
    let member = |service: &str, share| json!({"pool": format!("east/{namespace}/{service}/http"), "share": share});
    let policy = json!({
        "apiVersion": "tidegate.dev/v1alpha1", "kind": "TrafficPolicy",
        "metadata": {"name": "web", "namespace": namespace},
        "spec": {"port": "http", "members": [member("blue", 100), member("green", 0)]},
    });
    poll(SOON, || client.try_create(&policy).ok()).expect("the resource is served");
    plane.wait_pool(&id, "there", |pool| pool.is_some_and(|it| it.contains("10.244.41.1:8080 ready")));
    let pool = plane.json(&format!("/v1/pools/{id}"));
    assert_eq!((pool["traffic_generation"].as_i64(), pool["endpoints"].as_array().unwrap().len()), (Some(1), 1));
    let path = format!("/apis/tidegate.dev/v1alpha1/namespaces/{namespace}/trafficpolicies/web");
    client.patch(&path, &json!({"spec": {"members": [member("blue", 0), member("green", 100)]}}));
    plane.wait_pool(&id, "switched", |pool| pool.is_some_and(|it| it.contains("10.244.41.2:8080 ready")));
    assert_eq!(plane.json(&format!("/v1/pools/{id}"))["traffic_generation"], 2);
    // A gateway says that it serves this switch.
    let ack = json!({"gateway": "edge-1", "applied": {&id: 2}}).to_string();
    assert_eq!(plane.post("/v1/ack", &ack).status, 204);
    let gateways = plane.json("/v1/gateways");
    assert_eq!(gateways["gateways"][0]["pools"][&id]["current"], true, "{gateways}");
    // What is for some requests alone stands beside the pool, and nowhere where requests are not told apart.
    let mut canary = member("blue", 0);
    canary["match"] = json!({"headers": [{"name": "x-canary", "values": ["yes"]}]});
    client.patch(&path, &json!({"spec": {"members": [canary, member("green", 100)]}}));
    let part = || plane.json(&format!("/v1/pools/{id}"))["matched"][0].clone();
    wait_until(SOON, "a part for some requests", || part()["pool"] == format!("east/{namespace}/blue/http"));
    assert_eq!((&part()["match"], &part()["endpoints"][0]["address"]), (&canary["match"], &json!("10.244.41.1")));
    for format in ["render/nginx", "render/haproxy"] {
        let text = plane.get(&format!("/v1/{format}/{id}")).text();
        assert!(text.contains("10.244.41.2") && !text.contains("10.244.41.1"), "{format}: {text}");
    }
    client.delete(&path);
    plane.wait_pool(&id, "gone", |pool| pool.is_none());
}

#[test]
fn people_see_pools_as_a_table_and_each_change_as_a_line() {
    let cluster = Cluster::shared(0);
    let namespace = cluster.namespace("shown");
    cluster.client().create(&slice(&namespace, "s", "web", &endpoints(&["10.244.42.1"]), &ports()));
    let plane = Setup::new("").cluster("east", cluster, "").start();
    let id = format!("east/{namespace}/web/http");
    let server = format!("http://{}", plane.address);
    let all = Tidegate::run_to_end(&["pools", "--server", &server]);
    let text = String::from_utf8_lossy(&all.stdout).into_owned();
    assert!(all.status.success() && text.contains(&id) && text.contains("ENDPOINTS"), "{text}");
    let mut watching = plane.watch(&["pools", &id, "--watch", "--server", &server]);
    wait_until(SOON, "the table", || String::from_utf8_lossy(&watching.stdout()).contains("10.244.42.1:8080"));
    cluster.client().patch(&slice_path(&namespace, "s"), &json!({"endpoints": endpoints(&["10.244.42.2"])}));
    wait_until(SOON, "the change", || {
        let text = String::from_utf8_lossy(&watching.stdout()).into_owned();
        text.contains("- 10.244.42.1:8080") && text.contains("+ 10.244.42.2:8080  ready")
    });
    assert!(watching.terminate(Duration::from_secs(10)));
    let unknown = Tidegate::run_to_end(&["pools", "east/none/none/http", "--server", &server]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("404"), "{unknown:?}");
}

#[test]
fn an_empty_pool_is_explained() {
    let cluster = Cluster::shared(0);
    let namespace = cluster.namespace("linted");
    let plane = Setup::new("").cluster("east", cluster, "").start();
    let lint = |id: &str| {
        let config = plane.tidegate.directory().join("tidegate.toml");
        let output = Tidegate::run_to_end(&["lint", "pool", id, "--config", config.to_str().unwrap()]);
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let id = format!("east/{namespace}/web/http");
    let (code, text) = lint(&id);
    assert!(code == Some(1) && text.contains("no Service of this name"), "{text}");
    cluster.client().create(&service(&namespace, "web"));
    let (code, text) = lint(&id);
    assert!(code == Some(1) && text.contains("selector app=web means no pod"), "{text}");
    cluster.client().create(&deployment(&namespace, "web", 1, &json!({"bed/state": "CrashLoopBackOff"})));
    let told = poll(SOON, || Some(lint(&id)).filter(|(_, text)| text.contains("CrashLoopBackOff")));
    let (code, text) = told.expect("the pods' reason");
    assert!(code == Some(1) && text.contains("no pod of it is ready"), "{text}");
    let (code, text) = lint(&format!("east/{namespace}/web/grpc"));
    assert!(code == Some(1) && text.contains("its ports are http"), "{text}");
}
