//! From a change at the real API server to HAProxy: draining pods, the time that it takes, the API server gone, labels.

use std::net::SocketAddr;
use std::time::Instant;

use serde_json::{Value, json};

use crate::bed::{Tidegate, WorkDir, free_port, http, poll, wait_until};
use crate::haproxy::{Haproxy, wait_answered};
use crate::kube::objects::{slice, slice_path};
use crate::kube::{Cluster, Program};
use crate::load::Load;
use crate::pods::Pod;
use crate::support::{SOON, quantile, runtime, tidegate};

/// Tidegate over the cluster, in the cluster's network namespace.
struct Plane {
    _tidegate: Tidegate,
    address: SocketAddr,
}

impl Plane {
    fn start(cluster: &Cluster) -> Self {
        let (listen, admin) = (free_port(), free_port());
        let address = SocketAddr::from(([127, 0, 0, 1], listen));
        let text = format!(
            "[admin]\nlisten = \"127.0.0.1:{admin}\"\n[discovery]\nlisten = \"{address}\"\n[[discovery.source]]\n\
             kind = \"kubernetes\"\ncluster = \"east\"\nkubeconfig = {:?}\n",
            cluster.kubeconfig()
        );
        let mut tidegate = Tidegate::spawn_in(WorkDir::new("tidegate"), &text, Vec::new());
        tidegate.wait_listening();
        wait_until(SOON, "pools of the cluster", || {
            http::get(address, "/v1/pools").is_ok_and(|answer| answer.status == 200)
        });
        Self { _tidegate: tidegate, address }
    }
}

/// Pods as a slice has them: those that are ready, and those that end.
fn endpoints(ready: &[Pod], ending: &[Pod]) -> Value {
    let endpoint = |pod: &Pod, ready: bool| json!({"addresses": [pod.address.ip()], "conditions": {"ready": ready, "serving": true, "terminating": !ready}});
    let all = ready.iter().map(|pod| endpoint(pod, true)).chain(ending.iter().map(|pod| endpoint(pod, false)));
    Value::Array(all.collect())
}

/// Pods of the cluster's network that no other test has.
fn pods(runtime: &tokio::runtime::Runtime, next: &mut u8, count: u8) -> Vec<Pod> {
    let start = |last: u8| Pod::start_at(runtime.handle(), SocketAddr::from(([10, 244, 177, last], 8080)));
    let pods = (*next..*next + count).map(start).collect();
    *next += count;
    pods
}

#[test]
fn pods_that_drain_lose_no_request_and_a_change_at_the_api_server_is_quick() {
    let cluster = Cluster::start(0);
    let runtime = runtime();
    let namespace = cluster.namespace("agents");
    let ports = json!([{"name": "http", "port": 8080, "protocol": "TCP"}]);
    let mut next = 1;
    let mut live = pods(&runtime, &mut next, 3);
    cluster.client().create(&slice(&namespace, "s", "web", &endpoints(&live, &[]), &ports));
    let plane = Plane::start(&cluster);
    let backend = format!("east_{namespace}_web_http");
    let haproxy = Haproxy::start(&format!("backend {backend}\n    balance roundrobin\nbackend vm_shop\n"));
    let map = format!("shop.example/ {backend}\n");
    haproxy
        .ask(&format!("add map {} {}", haproxy.files.path().join("tidegate-hosts.map").display(), map.trim()))
        .unwrap();
    let _agent = haproxy.agent(&[plane.address], false);
    wait_until(SOON, "three servers", || haproxy.servers(&backend).len() == 3);
    let load = Load::start(runtime.handle(), haproxy.listener, "shop.example", 200);
    wait_answered(&load, &live);
    let (mut firsts, mut lasts) = (Vec::new(), Vec::new());
    for _ in 0..10 {
        let new = pods(&runtime, &mut next, 3);
        let old = std::mem::replace(&mut live, new);
        let began = Instant::now();
        cluster.client().patch(&slice_path(&namespace, "s"), &json!({"endpoints": endpoints(&live, &old)}));
        wait_answered(&load, &live);
        let drained = || {
            let servers = haproxy.servers(&backend);
            old.iter().all(|pod| {
                servers
                    .iter()
                    .any(|(name, state, _)| name.starts_with(&format!("{}_", pod.address.ip())) && *state == 8)
            })
        };
        wait_until(SOON, "servers that drain", drained);
        cluster.client().patch(&slice_path(&namespace, "s"), &json!({"endpoints": endpoints(&live, &[])}));
        wait_until(SOON, "three servers again", || haproxy.servers(&backend).len() == 3);
        for pod in old {
            lasts.push(load.times(pod.address).unwrap().1.saturating_duration_since(began));
            pod.end();
        }
        firsts.extend(live.iter().map(|pod| load.times(pod.address).unwrap().0.duration_since(began)));
    }
    println!(
        "from the API server's change to the first request on the new: p50 {:?}, p99 {:?}; to the last on the old: p50 {:?}, p99 {:?}",
        quantile(&mut firsts, 50),
        quantile(&mut firsts, 99),
        quantile(&mut lasts, 50),
        quantile(&mut lasts, 99)
    );
    // The API server goes, and nothing changes for clients.
    cluster.kill(Program::ApiServer);
    let before = load.ok();
    wait_until(SOON, "answers without an API server", || load.ok() > before + 500);
    assert_eq!(haproxy.servers(&backend).len(), 3);
    let tally = load.stop();
    assert!(tally.failures.is_empty() && tally.resent == 0, "{:?}", tally.failures);
    cluster.run(Program::ApiServer);
    cluster.wait_ready();
    labelled_services_are_virtual_servers(&cluster, &plane);
}

/// In the same cluster: its start is what takes time.
fn labelled_services_are_virtual_servers(cluster: &Cluster, plane: &Plane) {
    let namespace = cluster.namespace("virtual");
    let ports = json!([{"name": "http", "port": 80, "protocol": "TCP"}]);
    let mut object = slice(&namespace, "v", "web", &json!([{"addresses": ["10.244.178.1"]}]), &ports);
    object["metadata"]["labels"]["tidegate.dev/virtual-address"] = "10.9.9.8".into();
    cluster.client().create(&object);
    let files = WorkDir::new("marked");
    let output = files.path().join("k.conf");
    let config = files.write(
        "agent.toml",
        format!("[pull]\nurl = \"http://{}\"\nname = \"lvs-2\"\n[keepalived]\noutput = {output:?}\n", plane.address),
    );
    let _agent = tidegate(&["sync", "keepalived", "--config", &config.display().to_string()], &files, "agent");
    let text = || std::fs::read_to_string(&output).unwrap_or_default();
    let found = poll(SOON, || text().contains("virtual_server 10.9.9.8 80").then_some(()));
    assert!(found.is_some() && text().contains("real_server 10.244.178.1 80"), "{}", text());
}
