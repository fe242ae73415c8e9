//! The rules of endpoint semantics on a real API server: what is published is what its slices say.

use serde_json::{Value, json};

use crate::bed::wait_until;
use crate::kube::Cluster;
use crate::kube::objects::{deployment, deployment_path, service, service_path, slice, slice_path};
use crate::support::{Plane, SOON, Setup};

fn plane(cluster: &Cluster) -> Plane {
    Setup::new("").cluster("east", cluster, "").start()
}

fn scale(cluster: &Cluster, namespace: &str, replicas: u32) {
    cluster.client().patch(&deployment_path(namespace, "web"), &json!({"spec": {"replicas": replicas}}));
}

fn count(state: &'static str, wanted: usize) -> impl Fn(Option<&std::collections::BTreeSet<String>>) -> bool {
    move |pool| pool.is_some_and(|it| it.iter().filter(|line| line.ends_with(state)).count() == wanted)
}

fn ports() -> Value {
    json!([{"name": "http", "port": 8080, "protocol": "TCP"}])
}

#[test]
fn a_service_is_scaled_from_zero_and_back_and_its_pool_is_then_known_and_empty() {
    let cluster = Cluster::shared(0);
    let namespace = cluster.namespace("scaled");
    let plane = plane(cluster);
    let id = format!("east/{namespace}/web/http");
    assert_eq!(plane.pool(&id), None);
    cluster.client().create(&deployment(&namespace, "web", 0, &json!({})));
    cluster.client().create(&service(&namespace, "web"));
    scale(cluster, &namespace, 5);
    plane.wait_pool(&id, "of five", count("ready", 5));
    plane.wait_equal("east", cluster, &namespace);
    let pool = plane.json(&format!("/v1/pools/{id}"));
    let endpoint = &pool["endpoints"][0];
    assert_eq!(
        (&endpoint["node"], &endpoint["cluster"], &endpoint["weight"]),
        (&"node-1".into(), &"east".into(), &100.into())
    );
    assert!(endpoint["target"].as_str().unwrap().starts_with(&format!("{namespace}/web-")), "{endpoint}");
    scale(cluster, &namespace, 0);
    plane.wait_pool(&id, "known and empty", |pool| pool.is_some_and(|it| it.is_empty()));
    scale(cluster, &namespace, 2);
    plane.wait_pool(&id, "of two", count("ready", 2));
    cluster.client().delete(&service_path(&namespace, "web"));
    plane.wait_pool(&id, "gone", |pool| pool.is_none());
    cluster.client().create(&service(&namespace, "web"));
    plane.wait_pool(&id, "back", count("ready", 2));
}

#[test]
fn a_rolling_update_never_leaves_the_pool_without_the_endpoints_it_needs_and_drains_the_old() {
    let cluster = Cluster::shared(0);
    let namespace = cluster.namespace("rolled");
    let plane = plane(cluster);
    let id = format!("east/{namespace}/web/http");
    cluster.client().create(&deployment(&namespace, "web", 3, &json!({"bed/drain": "2s"})));
    cluster.client().create(&service(&namespace, "web"));
    let before = plane.wait_pool(&id, "of three", count("ready", 3)).unwrap();
    let template = json!({"spec": {"template": {"metadata": {"annotations": {"round": "2"}}}}});
    cluster.client().patch(&deployment_path(&namespace, "web"), &template);
    let mut drained = false;
    wait_until(SOON, "three others", || {
        let pool = plane.pool(&id).unwrap();
        let ready = pool.iter().filter(|line| line.ends_with(" ready")).count();
        // One more is made before one is taken away.
        assert!(ready >= 3, "{pool:?}");
        drained |= pool.iter().any(|line| line.ends_with(" draining"));
        ready == 3 && pool.len() == 3 && pool.is_disjoint(&before)
    });
    assert!(drained, "the old ones were draining before they went");
    plane.wait_equal("east", cluster, &namespace);
}

#[test]
fn terminating_pods_serve_when_nobody_else_does() {
    let cluster = Cluster::shared(0);
    let namespace = cluster.namespace("ending");
    let plane = plane(cluster);
    let id = format!("east/{namespace}/web/http");
    cluster.client().create(&deployment(&namespace, "web", 2, &json!({"bed/drain": "5m"})));
    cluster.client().create(&service(&namespace, "web"));
    let before = plane.wait_pool(&id, "of two", count("ready", 2));
    scale(cluster, &namespace, 0);
    wait_until(SOON, "terminating endpoints", || {
        let path = format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices");
        let slices = cluster.client().get(&path);
        let endpoints = slices["items"][0]["endpoints"].as_array().cloned().unwrap_or_default();
        !endpoints.is_empty() && endpoints.iter().all(|it| it["conditions"]["terminating"] == true)
    });
    plane.wait_equal("east", cluster, &namespace);
    assert_eq!(plane.pool(&id), before, "they still serve, and nobody else does");
    scale(cluster, &namespace, 1);
    plane.wait_pool(&id, "one new", count("ready", 1));
    plane.wait_pool(&id, "two that drain", count("draining", 2));
}

#[test]
fn slices_are_merged_split_relabelled_and_deduplicated() {
    let cluster = Cluster::shared(0);
    let namespace = cluster.namespace("sliced");
    let plane = plane(cluster);
    let client = cluster.client();
    let endpoint = |address: &str| json!({"addresses": [address]});
    let both = json!([endpoint("10.244.9.1"), endpoint("10.244.9.2")]);
    client.create(&slice(&namespace, "one", "web", &both, &ports()));
    client.create(&slice(&namespace, "two", "web", &json!([endpoint("10.244.9.2"), endpoint("10.244.9.3")]), &ports()));
    let id = format!("east/{namespace}/web/http");
    plane.wait_pool(&id, "the union", count("ready", 3));
    plane.wait_equal("east", cluster, &namespace);
    // Another number under the same name, in another slice.
    let other = json!([{"name": "http", "port": 9090, "protocol": "TCP"}]);
    client.create(&slice(&namespace, "three", "web", &json!([endpoint("10.244.9.4")]), &other));
    plane.wait_pool(&id, "with another port", |pool| pool.is_some_and(|it| it.contains("10.244.9.4:9090 ready")));
    // Its label changes: its endpoints leave one service and come to another at once.
    let label = json!({"metadata": {"labels": {"kubernetes.io/service-name": "api"}}});
    client.patch(&slice_path(&namespace, "one"), &label);
    plane.wait_pool(&format!("east/{namespace}/api/http"), "of two", count("ready", 2));
    plane.wait_equal("east", cluster, &namespace);
    assert!(!plane.pool(&id).unwrap().contains("10.244.9.1:8080 ready"));
    client
        .patch(&slice_path(&namespace, "two"), &json!({"metadata": {"labels": {"kubernetes.io/service-name": null}}}));
    plane.wait_equal("east", cluster, &namespace);
    assert_eq!(plane.pool(&id).unwrap().len(), 1);
}

#[test]
fn conditions_in_every_combination_are_what_the_oracle_says() {
    let cluster = Cluster::shared(0);
    let namespace = cluster.namespace("combined");
    let plane = plane(cluster);
    let values = [json!(null), json!(true), json!(false)];
    let mut combinations = Vec::new();
    for ready in &values {
        for serving in &values {
            for terminating in &values {
                combinations.push(json!({"ready": ready, "serving": serving, "terminating": terminating}));
            }
        }
    }
    let all: Vec<_> = combinations
        .iter()
        .enumerate()
        .map(|(at, conditions)| json!({"addresses": [format!("10.244.8.{}", at + 1)], "conditions": conditions}))
        .collect();
    cluster.client().create(&slice(&namespace, "all", "all", &json!(all), &ports()));
    // And each by itself, where it may be the only one that serves.
    for (at, endpoint) in all.iter().enumerate() {
        cluster.client().create(&slice(
            &namespace,
            &format!("s{at}"),
            &format!("alone{at}"),
            &json!([endpoint]),
            &ports(),
        ));
    }
    plane.wait_pool(&format!("east/{namespace}/alone26/http"), "known", |pool| pool.is_some());
    plane.wait_equal("east", cluster, &namespace);
}

#[test]
fn both_families_are_pools_of_their_own_and_names_are_refused() {
    let cluster = Cluster::shared(0);
    let namespace = cluster.namespace("dual");
    let plane = plane(cluster);
    let client = cluster.client();
    client.create(&slice(&namespace, "four", "web", &json!([{"addresses": ["10.244.7.1"]}]), &ports()));
    let mut six = slice(&namespace, "six", "web", &json!([{"addresses": ["fd00:10:244::7"]}]), &ports());
    six["addressType"] = json!("IPv6");
    client.create(&six);
    let mut named = slice(&namespace, "named", "named", &json!([{"addresses": ["host.example"]}]), &ports());
    named["addressType"] = json!("FQDN");
    client.create(&named);
    plane.wait_pool(&format!("east/{namespace}/web/http"), "of one", count("ready", 1));
    plane.wait_pool(&format!("east/{namespace}/web/http/ipv6"), "of one", count("ready", 1));
    plane.wait_equal("east", cluster, &namespace);
    assert_eq!(plane.pool(&format!("east/{namespace}/named/http")), None);
    wait_until(SOON, "a warning", || plane.tidegate.log().contains("FQDN"));
}

#[test]
fn a_service_that_publishes_what_is_not_ready_has_it_unless_serving_is_asked_for() {
    let cluster = Cluster::shared(0);
    let namespace = cluster.namespace("forced");
    let [lenient, strict] =
        ["", "strict_serving = true"].map(|keys| Setup::new("").cluster("east", cluster, keys).start());
    let mut publishing = service(&namespace, "web");
    publishing["spec"]["publishNotReadyAddresses"] = json!(true);
    cluster.client().create(&publishing);
    cluster.client().create(&deployment(&namespace, "web", 2, &json!({"bed/state": "NotReady"})));
    let id = format!("east/{namespace}/web/http");
    lenient.wait_pool(&id, "of two", count("ready", 2));
    strict.wait_pool(&id, "known and empty", |pool| pool.is_some_and(|it| it.is_empty()));
}

#[test]
fn an_address_that_another_service_gets_at_once_is_only_there() {
    let cluster = Cluster::shared(0);
    let namespace = cluster.namespace("reused");
    let plane = plane(cluster);
    let client = cluster.client();
    let (old, new) = (format!("east/{namespace}/old/http"), format!("east/{namespace}/new/http"));
    for round in 1..=10 {
        let endpoints = json!([{"addresses": [format!("10.244.6.{round}")]}]);
        client.create(&slice(&namespace, "old", "old", &endpoints, &ports()));
        plane.wait_pool(&old, "of one", count("ready", 1));
        client.delete(&slice_path(&namespace, "old"));
        client.create(&slice(&namespace, "new", "new", &endpoints, &ports()));
        plane.wait_pool(&new, "of one", count("ready", 1));
        assert_eq!(plane.pool(&old), None, "whoever has the address now has it alone");
        client.delete(&slice_path(&namespace, "new"));
        plane.wait_pool(&new, "gone", |pool| pool.is_none());
    }
}

#[test]
fn one_service_has_two_and_a_half_thousand_endpoints() {
    let cluster = Cluster::shared(0);
    let namespace = cluster.namespace("large");
    let plane = plane(cluster);
    for part in 0..25 {
        let endpoints: Vec<_> =
            (0..100).map(|at| json!({"addresses": [format!("10.244.{}.{}", 100 + part, at + 1)]})).collect();
        cluster.client().create(&slice(&namespace, &format!("p{part}"), "web", &json!(endpoints), &ports()));
    }
    let id = format!("east/{namespace}/web/http");
    plane.wait_pool(&id, "whole", count("ready", 2_500));
    let last = slice_path(&namespace, "p24");
    cluster.client().patch(&last, &json!({"endpoints": [{"addresses": ["10.244.99.1"]}]}));
    plane.wait_pool(&id, "one slice less but one", count("ready", 2_401));
    plane.wait_equal("east", cluster, &namespace);
}

#[test]
fn endpoints_of_old_clusters_give_the_same_pools() {
    let cluster = Cluster::shared(0);
    let namespace = cluster.namespace("old");
    let plane = Setup::new("").cluster("east", cluster, "resource = \"endpoints\"").start();
    cluster.client().create(&deployment(&namespace, "web", 2, &json!({})));
    cluster.client().create(&service(&namespace, "web"));
    plane.wait_pool(&format!("east/{namespace}/web/http"), "of two", count("ready", 2));
    plane.wait_equal("east", cluster, &namespace);
}

#[test]
fn only_the_named_namespaces_are_followed() {
    let cluster = Cluster::shared(0);
    let [one, two, other] = ["first", "second", "third"].map(|prefix| cluster.namespace(prefix));
    let endpoints = json!([{"addresses": ["10.244.5.1"]}]);
    for namespace in [&one, &two, &other] {
        cluster.client().create(&slice(namespace, "s", "web", &endpoints, &ports()));
    }
    let keys = format!("namespaces = [\"{one}\", \"{two}\"]");
    let plane = Setup::new("").cluster("east", cluster, &keys).start();
    let list = plane.json("/v1/pools?cluster=east");
    assert_eq!(list["pools"].as_array().unwrap().len(), 2, "{list}");
    assert_eq!(plane.pools_of("east", &other).len(), 0);
}
