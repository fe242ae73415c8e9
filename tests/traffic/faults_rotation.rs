//! What a cluster's credentials and history are replaced by while Tidegate runs: certificates, tokens, etcd's versions.

use std::time::Duration;

use serde_json::{Value, json};

use crate::bed::{FaultProxy, WorkDir, wait_until};
use crate::kube::Cluster;
use crate::kube::objects::{slice, slice_path};
use crate::support::{Plane, SOON, Setup, kubeconfig_through};

fn ports() -> Value {
    json!([{"name": "http", "port": 8080, "protocol": "TCP"}])
}

fn endpoints(last: u8) -> Value {
    json!([{"addresses": [format!("10.244.71.{last}")]}])
}

fn change(cluster: &Cluster, namespace: &str, last: u8) {
    let object = slice(namespace, "a", "a", &endpoints(last), &ports());
    cluster.client().replace(&slice_path(namespace, "a"), &object);
}

fn wait_stale(plane: &Plane, path: &str, reason: &str) {
    wait_until(Duration::from_secs(90), "stale", || plane.header(path, "tidegate-state") == "stale");
    wait_until(SOON, reason, || {
        let answer = plane.get(path);
        answer.header("tidegate-reason").is_some_and(|text| text.contains(reason))
    });
}

fn wait_right(plane: &Plane, id: &str, last: u8) {
    let line = format!("10.244.71.{last}:8080 ready");
    plane.wait_pool(id, "the new endpoint", |pool| pool.is_some_and(|it| it.len() == 1 && it.contains(&line)));
    let state = || plane.header(&format!("/v1/pools/{id}"), "tidegate-state");
    wait_until(SOON, "fresh", || state() == "fresh");
}

/// A kubeconfig that names files.
fn kubeconfig_of_files(server: &str, files: &WorkDir, user: Value) -> String {
    let authority = files.path().join("ca.crt");
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "it",
        "clusters": [{"name": "it", "cluster": {"server": server, "certificate-authority": authority}}],
        "users": [{"name": "it", "user": user}],
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
    });
    config.to_string()
}

#[test]
fn new_certificates_of_authority_server_and_client_are_found_without_a_restart() {
    let mut cluster = Cluster::start(0);
    let namespace = cluster.namespace("rotated");
    cluster.client().create(&slice(&namespace, "a", "a", &endpoints(1), &ports()));
    let files = WorkDir::new("certificates");
    let copy = |cluster: &Cluster| {
        for name in ["ca.crt", "admin.crt", "admin.key"] {
            files.write(name, std::fs::read(cluster.file(name)).unwrap());
        }
    };
    copy(&cluster);
    let path = |name: &str| files.path().join(name);
    let user = json!({"client-certificate": path("admin.crt"), "client-key": path("admin.key")});
    let kubeconfig = kubeconfig_of_files(&format!("https://127.0.0.1:{}", cluster.port()), &files, user);
    let plane = Setup::new("").kubeconfig("east", &kubeconfig).start();
    let id = format!("east/{namespace}/a/http");
    wait_right(&plane, &id, 1);
    // The server is first: its certificate is of an authority that the old files do not know.
    cluster.rotate();
    change(&cluster, &namespace, 2);
    wait_stale(&plane, &format!("/v1/pools/{id}"), "certificate");
    assert!(plane.pool(&id).unwrap().contains("10.244.71.1:8080 ready"));
    copy(&cluster);
    wait_right(&plane, &id, 2);
}

#[test]
fn a_new_token_is_found_when_the_old_one_is_revoked() {
    let cluster = Cluster::shared(0);
    let namespace = cluster.namespace("tokens");
    let client = cluster.client();
    client.create(&slice(&namespace, "a", "a", &endpoints(1), &ports()));
    let files = WorkDir::new("tokens");
    files.write("ca.crt", std::fs::read(cluster.file("ca.crt")).unwrap());
    let account = |name: &str| format!("/api/v1/namespaces/{namespace}/serviceaccounts/{name}");
    let issue = |name: &str| {
        client.create(&json!({
            "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace},
        }));
        client.create(&json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": format!("{namespace}-{name}")},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
        }));
        let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
        let token = client.post(&format!("{}/token", account(name)), &request);
        files.write("token", token["status"]["token"].as_str().unwrap());
    };
    issue("one");
    let proxy = FaultProxy::start(([127, 0, 0, 1], cluster.port()).into());
    let user = json!({"tokenFile": files.path().join("token")});
    let kubeconfig = kubeconfig_of_files(&format!("https://{}", proxy.address()), &files, user);
    let plane = Setup::new("").kubeconfig("east", &kubeconfig).start();
    let id = format!("east/{namespace}/a/http");
    wait_right(&plane, &id, 1);
    client.delete(&account("one"));
    // A watch goes on as it began, and the API server remembers for some seconds whom it let in.
    wait_until(SOON, "a refusal", || {
        let answer = plane.get(&format!("/v1/pools/{id}"));
        if answer.header("tidegate-state") == Some("fresh") {
            proxy.cut();
        }
        answer.header("tidegate-reason").is_some_and(|reason| reason.contains("401"))
    });
    assert!(plane.pool(&id).unwrap().contains("10.244.71.1:8080 ready"));
    change(cluster, &namespace, 2);
    issue("two");
    wait_right(&plane, &id, 2);
}

#[test]
fn versions_that_etcd_has_compacted_away_are_made_up_for_by_a_list() {
    let cluster = Cluster::start(0);
    let namespace = cluster.namespace("compacted");
    cluster.client().create(&slice(&namespace, "a", "a", &endpoints(1), &ports()));
    cluster.client().create(&slice(&namespace, "gone", "gone", &endpoints(9), &ports()));
    let proxy = FaultProxy::start(([127, 0, 0, 1], cluster.port()).into());
    let setup = Setup::new("hold = { max_drop_percent = 100, max_age_seconds = 600 }");
    let plane = setup.kubeconfig("east", &kubeconfig_through(&cluster, proxy.address())).start();
    let id = format!("east/{namespace}/a/http");
    wait_right(&plane, &id, 1);
    let collection = format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices");
    let version = cluster.client().get(&collection)["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    proxy.down();
    wait_stale(&plane, &format!("/v1/pools/{id}"), "lost since");
    (2..=5).for_each(|last| change(&cluster, &namespace, last));
    cluster.client().delete(&slice_path(&namespace, "gone"));
    cluster.compact();
    let refused = cluster.client().watch_from(&collection, &version);
    assert!(refused.as_ref().map_or_else(|error| error.0.contains("410"), |text| text.contains("410")), "{refused:?}");
    assert!(plane.pool(&id).unwrap().contains("10.244.71.1:8080 ready"));
    proxy.heal();
    wait_right(&plane, &id, 5);
    plane.wait_equal("east", &cluster, &namespace);
    assert_eq!(plane.pool(&format!("east/{namespace}/gone/http")), None, "no ghost of what nobody told is gone");
}
