//! What goes wrong between Tidegate and a cluster: pools are never emptied by it, never outdated without saying so, and
//! right again soon after.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::bed::{FaultProxy, wait_until};
use crate::kube::objects::{slice, slice_path};
use crate::kube::{Cluster, Program};
use crate::support::{Plane, SOON, Setup, kubeconfig_through};

fn ports() -> Value {
    json!([{"name": "http", "port": 8080, "protocol": "TCP"}])
}

fn endpoints(addresses: &[&str]) -> Value {
    json!(addresses.iter().map(|address| json!({"addresses": [address]})).collect::<Vec<_>>())
}

fn lines(addresses: &[&str]) -> BTreeSet<String> {
    addresses.iter().map(|address| format!("{address}:8080 ready")).collect()
}

fn state(plane: &Plane, id: &str) -> String {
    plane.header(&format!("/v1/pools/{id}"), "tidegate-state")
}

fn wait_state(plane: &Plane, id: &str, wanted: &str) {
    wait_until(Duration::from_secs(90), wanted, || state(plane, id) == wanted);
}

#[test]
fn an_api_server_that_dies_leaves_the_pools_as_they_were_and_they_are_right_again_when_it_is_back() {
    let cluster = Cluster::start(0);
    let namespace = cluster.namespace("killed");
    cluster.client().create(&slice(&namespace, "a", "a", &endpoints(&["10.244.4.1", "10.244.4.2"]), &ports()));
    let plane = Setup::new("").cluster("east", &cluster, "").start();
    let id = format!("east/{namespace}/a/http");
    let path = format!("/v1/pools/{id}");
    assert_eq!((state(&plane, &id).as_str(), plane.pool(&id)), ("fresh", Some(lines(&["10.244.4.1", "10.244.4.2"]))));
    cluster.kill(Program::ApiServer);
    wait_state(&plane, &id, "stale");
    let synced = plane.header(&path, "tidegate-synced-at");
    assert_eq!(plane.pool(&id), Some(lines(&["10.244.4.1", "10.244.4.2"])));
    assert_eq!(plane.header(&path, "tidegate-synced-at"), synced, "the time stands still");
    assert_eq!(plane.tidegate.metric("tidegate_discovery_source_synced"), 0.0);
    let page: Value = serde_json::from_slice(&plane.tidegate.get("/debug/pools").body).unwrap();
    assert!(page["sources"][0]["lost"][0]["why"].is_string(), "{page}");
    assert_eq!(plane.tidegate.get("/readyz/discovery").status, 200, "what is known is served");
    cluster.run(Program::ApiServer);
    cluster.wait_ready();
    cluster
        .client()
        .patch(&slice_path(&namespace, "a"), &json!({"endpoints": endpoints(&["10.244.4.1", "10.244.4.3"])}));
    wait_state(&plane, &id, "fresh");
    plane.wait_equal("east", &cluster, &namespace);
    assert_ne!(plane.header(&path, "tidegate-synced-at"), synced);
    // What a live watch says is honoured, a scale to zero included.
    cluster.client().patch(&slice_path(&namespace, "a"), &json!({"endpoints": []}));
    plane.wait_pool(&id, "known and empty", |pool| pool.is_some_and(|it| it.is_empty()));
}

#[test]
fn rule_11_a_frozen_api_server_is_noticed_within_a_minute_and_nothing_is_emptied() {
    let cluster = Cluster::start(1);
    let namespace = cluster.namespace("frozen");
    cluster.client().create(&slice(&namespace, "a", "a", &endpoints(&["10.245.4.1"]), &ports()));
    let plane = Setup::new("").cluster("west", &cluster, "").start();
    let id = format!("west/{namespace}/a/http");
    cluster.freeze(Program::ApiServer);
    let began = Instant::now();
    wait_state(&plane, &id, "stale");
    assert!(began.elapsed() < Duration::from_secs(40), "{:?}", began.elapsed());
    assert_eq!(plane.pool(&id), Some(lines(&["10.245.4.1"])));
    cluster.thaw(Program::ApiServer);
    wait_state(&plane, &id, "fresh");
    cluster.client().patch(&slice_path(&namespace, "a"), &json!({"endpoints": endpoints(&["10.245.4.2"])}));
    plane.wait_equal("west", &cluster, &namespace);
}

#[test]
fn rule_13_after_a_gap_a_list_that_lacks_most_is_held_but_no_address_that_somebody_else_has() {
    let cluster = Cluster::start(0);
    let namespace = cluster.namespace("held");
    let client = cluster.client();
    client.create(&slice(&namespace, "a", "a", &endpoints(&["10.244.3.1", "10.244.3.2", "10.244.3.3"]), &ports()));
    client.create(&slice(&namespace, "c", "c", &endpoints(&["10.244.3.9"]), &ports()));
    let proxy = FaultProxy::start(([127, 0, 0, 1], cluster.port()).into());
    let setup = Setup::new("hold = { max_drop_percent = 50, max_age_seconds = 30 }");
    let plane = setup.kubeconfig("east", &kubeconfig_through(&cluster, proxy.address())).start();
    let [a, b, c] = ["a", "b", "c"].map(|service| format!("east/{namespace}/{service}/http"));
    assert_eq!(plane.pool(&a).unwrap().len(), 3);
    proxy.down();
    wait_state(&plane, &a, "stale");
    client.delete(&slice_path(&namespace, "a"));
    client.create(&slice(&namespace, "b", "b", &endpoints(&["10.244.3.2"]), &ports()));
    // A new API server has no memory of the watch, so that Tidegate has to list again.
    cluster.kill(Program::ApiServer);
    cluster.run(Program::ApiServer);
    cluster.wait_ready();
    proxy.heal();
    wait_until(SOON, "the other's pool", || plane.pool(&b) == Some(lines(&["10.244.3.2"])));
    assert_eq!(plane.pool(&a), Some(lines(&["10.244.3.1", "10.244.3.3"])));
    assert_eq!((state(&plane, &a).as_str(), state(&plane, &c).as_str()), ("held", "fresh"));
    assert_eq!(plane.tidegate.metric("tidegate_discovery_held_endpoints"), 2.0);
    // A live event takes one more of the addresses away from it.
    client.patch(&slice_path(&namespace, "c"), &json!({"endpoints": endpoints(&["10.244.3.1"])}));
    plane.wait_pool(&a, "without the other's address", |pool| pool == Some(&lines(&["10.244.3.3"])));
    // And its time ends.
    plane.wait_pool(&a, "gone", |pool| pool.is_none());
    assert_eq!(plane.tidegate.metric("tidegate_discovery_held_endpoints"), 0.0);
}

#[test]
fn one_of_two_clusters_that_is_gone_for_good_does_not_disturb_the_other() {
    let (east, west) = (Cluster::shared(0), Cluster::shared(1));
    let proxy = FaultProxy::start(([127, 0, 0, 1], west.port()).into());
    let (namespace, gone) = (east.namespace("stays"), west.namespace("goes"));
    east.client().create(&slice(&namespace, "a", "a", &endpoints(&["10.244.2.1"]), &ports()));
    west.client().create(&slice(&gone, "a", "a", &endpoints(&["10.245.2.1"]), &ports()));
    let setup = Setup::new("").cluster("east", east, "");
    let plane = setup.kubeconfig("west", &kubeconfig_through(west, proxy.address())).start();
    let (near, far) = (format!("east/{namespace}/a/http"), format!("west/{gone}/a/http"));
    proxy.down();
    wait_state(&plane, &far, "stale");
    east.client().patch(&slice_path(&namespace, "a"), &json!({"endpoints": endpoints(&["10.244.2.2"])}));
    plane.wait_pool(&near, "changed", |pool| pool == Some(&lines(&["10.244.2.2"])));
    assert_eq!((state(&plane, &near).as_str(), plane.pool(&far)), ("fresh", Some(lines(&["10.245.2.1"]))));
}

#[test]
fn a_cold_start_with_the_api_server_away_serves_the_last_pools_and_without_them_nothing_and_never_an_empty_list() {
    let cluster = Cluster::shared(0);
    let namespace = cluster.namespace("cold");
    cluster.client().create(&slice(&namespace, "a", "a", &endpoints(&["10.244.1.201"]), &ports()));
    let proxy = FaultProxy::start(([127, 0, 0, 1], cluster.port()).into());
    let kubeconfig = kubeconfig_through(cluster, proxy.address());
    let mut plane = Setup::new("snapshot_file = \"pools.snapshot\"").kubeconfig("east", &kubeconfig).start();
    let id = format!("east/{namespace}/a/http");
    wait_until(SOON, "a snapshot", || plane.tidegate.directory().join("pools.snapshot").exists());
    let etag = plane.header(&format!("/v1/pools/{id}"), "etag");
    plane.tidegate.kill9();
    proxy.down();
    plane.tidegate.restart_unready();
    plane.wait_synced();
    assert_eq!((state(&plane, &id).as_str(), plane.pool(&id)), ("stale", Some(lines(&["10.244.1.201"]))));
    assert_eq!(plane.header(&format!("/v1/pools/{id}"), "etag"), etag, "content alone decides");

    let blind = Setup::new("").kubeconfig("east", &kubeconfig).start_unsynced();
    for path in ["/v1/pools", "/v1/delta", "/v1/render/nginx", "/v1/prometheus/targets", &format!("/v1/pools/{id}")] {
        assert_eq!(blind.get(path).status, 503, "{path}");
    }
    assert_eq!(blind.tidegate.get("/readyz/discovery").status, 503);
    proxy.heal();
    wait_state(&plane, &id, "fresh");
    blind.wait_synced();
    assert_eq!(blind.pool(&id), Some(lines(&["10.244.1.201"])));
}
