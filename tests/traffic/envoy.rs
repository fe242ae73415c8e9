//! The real Envoy, fed in each of the ways that it has, with the configurations of `deploy/envoy`: what it says of its
//! clusters, and what requests through it reach.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::process::Command;

use serde_json::{Value, json};

use crate::bed::process::Process;
use crate::bed::{WorkDir, free_port, http, poll, require_gateways};
use crate::kube::Cluster;
use crate::kube::objects::{slice, slice_path};
use crate::support::{Plane, SOON, Setup};

/// A running Envoy.
struct Envoy {
    process: Process,
    admin: SocketAddr,
    listener: SocketAddr,
    /// The cluster of its only route.
    cluster: String,
    files: WorkDir,
}

impl Envoy {
    /// Starts it with a sample configuration, in which ports and pool are replaced by the test's.
    fn start(sample: &str, plane: &Plane, pool: &str, further: &[(&str, &str)]) -> Self {
        let home = require_gateways().home("envoy");
        let program = std::fs::read_to_string(home.join("program")).unwrap();
        let path = format!("{}/deploy/envoy/{sample}", env!("CARGO_MANIFEST_DIR"));
        let mut text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
        let (admin, listener) = (free_port(), free_port());
        let ports = [("8500", plane.address.port()), ("9901", admin), ("10000", listener)];
        let ports = ports.map(|(sample, port)| (format!("port_value: {sample} "), format!("port_value: {port} ")));
        let named = [("east/shop/checkout/http", pool)].into_iter().chain(further.iter().copied());
        let named = named.map(|(sample, own)| (sample.to_owned(), own.to_owned()));
        for (sample, own) in ports.into_iter().chain(named) {
            assert!(text.contains(&sample), "{path} has no {sample:?}");
            text = text.replace(&sample, &own);
        }
        let files = WorkDir::new("envoy");
        let config = files.write("envoy.yaml", &text);
        let mut command = Command::new(program.trim());
        command.arg("-c").arg(&config).args(["--disable-hot-restart", "--concurrency", "1", "-l", "info"]);
        let process = Process::start(&command, files.path(), "envoy");
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let cluster = if text.contains("cluster: checkout") { "checkout" } else { pool };
        Self { process, admin: address(admin), listener: address(listener), cluster: cluster.to_owned(), files }
    }

    /// The cluster's endpoints by address with their health; `None` without the cluster, or before there is an answer.
    fn hosts(&self) -> Option<BTreeMap<String, String>> {
        let answer = http::get(self.admin, "/clusters?format=json").ok()?;
        let clusters: Value = serde_json::from_slice(&answer.body).ok()?;
        let cluster = clusters["cluster_statuses"].as_array()?.iter().find(|it| it["name"] == *self.cluster)?;
        let host = |host: &Value| {
            let address = host["address"]["socket_address"]["address"].as_str().unwrap().to_owned();
            (address, host["health_status"]["eds_health_status"].as_str().unwrap_or("none").to_owned())
        };
        Some(cluster["host_statuses"].as_array().into_iter().flatten().map(host).collect())
    }

    /// Waits until the cluster is as wanted, endpoints with their health.
    fn wait_hosts(&self, wanted: &[(&str, &str)]) {
        let wanted: BTreeMap<_, _> =
            wanted.iter().map(|(one, other)| ((*one).to_owned(), (*other).to_owned())).collect();
        let mut last = None;
        let reached = poll(SOON, || {
            last = self.hosts();
            // An aggregated Envoy has no cluster where there is no pool.
            (last.clone().unwrap_or_default() == wanted && self.is_live()).then_some(())
        });
        reached.unwrap_or_else(|| panic!("Envoy has {last:?} and not {wanted:?}\n{}", self.log()));
    }

    fn is_live(&self) -> bool {
        http::get(self.admin, "/ready").is_ok_and(|answer| answer.status == 200)
    }

    /// Who answers requests through it; the status where that is no success.
    fn reached(&self, requests: usize) -> BTreeSet<String> {
        let reached = (0..requests).map(|_| match http::get(self.listener, "/") {
            Ok(answer) if answer.status == 200 => answer.text(),
            Ok(answer) => answer.status.to_string(),
            Err(error) => error.to_string(),
        });
        reached.collect()
    }

    /// A counter of its own.
    fn stat(&self, name: &str) -> u64 {
        let text = http::get(self.admin, &format!("/stats?filter={name}")).unwrap().text();
        let values = text.lines().filter_map(|line| line.rsplit_once(": ")?.1.parse::<u64>().ok());
        values.sum()
    }

    fn log(&self) -> String {
        let log = self.process.stderr();
        log.lines().rev().take(40).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

/// A server on a pod's address, which answers with that address for as long as the test process lives.
fn back_end(address: &str) {
    let listener = TcpListener::bind((address, 8080)).unwrap();
    let address = address.to_owned();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let address = address.clone();
            std::thread::spawn(move || {
                let mut head = Vec::new();
                let mut bytes = [0; 1024];
                while !head.windows(4).any(|four| four == b"\r\n\r\n") {
                    match stream.read(&mut bytes) {
                        Ok(count @ 1..) => head.extend_from_slice(&bytes[..count]),
                        _ => return,
                    }
                }
                let length = address.len();
                let _ =
                    write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{address}");
            });
        }
    });
}

fn ports() -> Value {
    json!([{"name": "http", "port": 8080, "protocol": "TCP"}])
}

fn ready(address: &str) -> Value {
    json!({"addresses": [address], "zone": "a"})
}

fn terminating(address: &str) -> Value {
    json!({"addresses": [address], "conditions": {"ready": false, "serving": true, "terminating": true}})
}

/// Feeds an Envoy through everything that happens to a pool.
fn follows(sample: &str, network: &str, further: &[(&str, &str)]) {
    let [first, second, third] = [1, 2, 3].map(|last| format!("{network}.{last}"));
    let cluster = Cluster::shared(0);
    [&first, &second, &third].into_iter().for_each(|address| back_end(address));
    let namespace = cluster.namespace("envoy");
    let made = |addresses: &Value| slice(&namespace, "s", "checkout", addresses, &ports());
    cluster.client().create(&made(&json!([ready(&first)])));
    let tokens = WorkDir::new("tokens");
    let line = format!("edge-1:secret-of-edge-1 namespaces={namespace} write gateways=edge-1\n");
    let file = tokens.write("tokens", &line);
    let mut plane = Setup::new(&format!("tokens_file = {file:?}")).cluster("east", cluster, "").start();
    let id = format!("east/{namespace}/checkout/http");
    let envoy = Envoy::start(sample, &plane, &id, further);

    envoy.wait_hosts(&[(&first, "HEALTHY")]);
    assert_eq!(envoy.reached(5), BTreeSet::from([first.clone()]));
    let path = slice_path(&namespace, "s");
    cluster.client().patch(&path, &json!({"endpoints": [terminating(&first), ready(&second)]}));
    envoy.wait_hosts(&[(&first, "DRAINING"), (&second, "HEALTHY")]);
    assert_eq!(envoy.reached(10), BTreeSet::from([second.clone()]), "who drains gets no requests");
    wait_acknowledged(&plane, &id);

    // What is deleted is no longer sent to: its addresses may be another service's.
    cluster.client().delete(&path);
    envoy.wait_hosts(&[]);
    assert_eq!(envoy.reached(1), BTreeSet::from(["503".to_owned()]));
    cluster.client().create(&made(&json!([ready(&second)])));
    envoy.wait_hosts(&[(&second, "HEALTHY")]);

    // A server that is away, and one that has just begun, take nothing from it.
    plane.tidegate.kill9();
    assert_eq!(envoy.reached(5), BTreeSet::from([second.clone()]));
    cluster.client().patch(&path, &json!({"endpoints": [ready(&second), ready(&third)]}));
    plane.tidegate.restart_unready();
    let mut seen = BTreeSet::new();
    let reached = poll(SOON, || {
        seen.extend(envoy.reached(4));
        seen.contains(&third).then_some(())
    });
    reached.unwrap_or_else(|| panic!("{seen:?}\n{}", envoy.log()));
    assert_eq!(seen, BTreeSet::from([second.clone(), third.clone()]), "no request failed meanwhile");
    plane.wait_synced();
    wait_acknowledged(&plane, &id);
    assert_eq!(envoy.stat("update_rejected"), 0, "it refused nothing:\n{}", envoy.log());
    assert!(envoy.files.path().exists());
}

/// Waits until the gateway is known to serve what is published.
fn wait_acknowledged(plane: &Plane, id: &str) {
    let mut last = Value::Null;
    let acknowledged = poll(SOON, || {
        last = plane.json("/v1/gateways");
        let edge = last["gateways"].as_array()?.iter().find(|it| it["name"] == "edge-1")?.clone();
        (edge["pools"][id]["current"] == true && edge.get("error").is_none()).then_some(())
    });
    acknowledged.unwrap_or_else(|| panic!("not acknowledged: {last}"));
}

#[test]
fn envoy_follows_a_pool_over_rest() {
    follows("rest.yaml", "10.244.50", &[]);
}

#[test]
fn envoy_follows_a_pool_over_grpc_by_increments() {
    follows("eds.yaml", "10.244.51", &[]);
}

#[test]
fn envoy_follows_a_pool_over_grpc_by_the_state_of_the_world() {
    follows("eds.yaml", "10.244.52", &[("DELTA_GRPC", "GRPC")]);
}

#[test]
fn envoy_has_all_pools_of_its_token_over_an_aggregated_stream_of_increments() {
    follows("ads.yaml", "10.244.53", &[("Bearer TOKEN", "Bearer secret-of-edge-1")]);
}

#[test]
fn envoy_has_all_pools_of_its_token_over_an_aggregated_stream_of_the_state_of_the_world() {
    follows("ads.yaml", "10.244.54", &[("Bearer TOKEN", "Bearer secret-of-edge-1"), ("DELTA_GRPC", "GRPC")]);
}
