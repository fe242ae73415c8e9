//! Nothing is lost: pools that change ten times a second, back ends that end with and without notice, all of it under mixed
//! traffic and with endpoints from a real API server.
//!
//! `TIDEGATE_LOSS_SECONDS` makes each of them longer; `make gateway-loss` runs a minute each.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::backend::{Backend, Load};
use crate::bed::{WorkDir, poll, wait_until};
use crate::kube::ApiProxy;
use crate::kube::Cluster;
use crate::kube::objects::{slice, slice_path};
use crate::support::{Gateway, SOON, Setup};

const CONNECTIONS: &str = "200";
const KINDS: [&str; 6] = ["get", "post", "stream", "grpc", "grpc-stream", "ws"];
/// Reasons that a back end's sudden end may have: what was under way there and may not be repeated.
const OF_A_KILL: [&str; 5] = ["reset", "answer_cut", "connect_failed", "client_gone", "upstream"];

/// Of the tests' own network namespace.
const MIGRATE: &str = "/proc/sys/net/ipv4/tcp_migrate_req";

/// How an endpoint stands in its slice.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Condition {
    Ready,
    Terminating,
    Gone,
}

/// A service of six back ends with addresses of their own.
struct Stage {
    cluster: &'static Cluster,
    namespace: String,
    backends: Vec<Backend>,
    conditions: Vec<Condition>,
}

fn seconds() -> f64 {
    std::env::var("TIDEGATE_LOSS_SECONDS").map_or(8.0, |text| text.parse().expect("TIDEGATE_LOSS_SECONDS is a number"))
}

// === impl Stage ===

impl Stage {
    fn new(network: u8) -> Self {
        let cluster = Cluster::shared(0);
        let namespace = cluster.namespace("loss");
        let backends: Vec<Backend> = (1..=6)
            .map(|number| {
                let address = IpAddr::from([10, 244, network, number]);
                let addresses = [8080, 8081, 8082].map(|port| SocketAddr::new(address, port));
                Backend::start_on(&format!("b{number}"), addresses, &[])
            })
            .collect();
        let conditions = vec![Condition::Ready; backends.len()];
        let stage = Self { cluster, namespace, backends, conditions };
        cluster.client().create(&stage.slice());
        stage
    }

    fn slice(&self) -> Value {
        let told = self.backends.iter().zip(&self.conditions).filter(|(_, condition)| **condition != Condition::Gone);
        let endpoints: Vec<Value> = told
            .map(|(backend, condition)| {
                let ready = *condition == Condition::Ready;
                json!({
                    "addresses": [backend.http.ip().to_string()],
                    "conditions": {"ready": ready, "serving": true, "terminating": !ready},
                })
            })
            .collect();
        let ports = json!([
            {"name": "http", "port": 8080, "protocol": "TCP"},
            {"name": "grpc", "port": 8081, "protocol": "TCP", "appProtocol": "kubernetes.io/h2c"},
        ]);
        slice(&self.namespace, "s", "mix", &json!(endpoints), &ports)
    }

    /// Writes the slice as it is to be.
    fn write(&self) {
        self.cluster
            .client()
            .patch(&slice_path(&self.namespace, "s"), &json!({"endpoints": self.slice()["endpoints"]}));
    }

    fn set(&mut self, number: usize, condition: Condition) {
        self.conditions[number] = condition;
        self.write();
    }

    fn pool(&self, port: &str) -> String {
        format!("east/{}/mix/{port}", self.namespace)
    }

    /// A gateway that follows the cluster. Its retries have no budget: whether a request may be repeated decides.
    fn gateway(&self) -> Gateway {
        self.setup(&self.cluster.kubeconfig()).start()
    }

    /// The same with this kubeconfig, not started.
    fn setup(&self, kubeconfig: &Path) -> Setup {
        Setup::new()
            .source(&format!(
                "[[discovery.source]]\nkind = \"kubernetes\"\ncluster = \"east\"\nkubeconfig = {kubeconfig:?}\nnamespaces = [\"{}\"]",
                self.namespace
            ))
            .keys("threads = 2")
            .route(&format!(
                "name = \"grpc\"\nmatch = [{{ header = \"content-type\", regex = \"application/grpc.*\" }}]\npool = \"{}\"",
                self.pool("grpc")
            ))
            .route(&format!("name = \"http\"\npool = \"{}\"", self.pool("http")))
            .section(&format!("[[gateway.pool]]\nid = \"{}\"\nretry_budget_min = 1000", self.pool("http")))
    }

    /// Waits until a gateway thinks so of a back end.
    fn wait_state(&self, gateway: &Gateway, number: usize, wanted: &str) {
        let address = self.backends[number].http;
        wait_until(SOON, &format!("{address} is {wanted}"), || gateway.state_of(&self.pool("http"), address) == wanted);
    }
}

/// The mixed load on a gateway.
fn load(address: SocketAddr) -> Load {
    let (url, remote) = (format!("http://{address}"), address.to_string());
    // It is ended by the test; the time is a bound.
    let seconds = (seconds() + 120.0).to_string();
    Load::start(&[
        "mix",
        "-url",
        &url,
        "-grpc",
        &remote,
        "-connections",
        CONNECTIONS,
        "-seconds",
        &seconds,
        "-kinds",
        &KINDS.join(","),
    ])
}

/// Does something at each of these moments until the test's time is over, and at least so often however slow the machine is.
fn every(pause: Duration, least: usize, mut act: impl FnMut(usize)) -> usize {
    let end = Instant::now() + Duration::from_secs_f64(seconds());
    let mut turn = 0;
    let mut next = Instant::now() + pause;
    while Instant::now() < end || turn < least {
        // The moment, and not a guess of how long anything takes.
        let _ = poll(Duration::from_secs(5), || (Instant::now() >= next).then_some(()));
        next += pause;
        act(turn);
        turn += 1;
    }
    turn
}

/// Every kind had traffic; the failures of each.
fn failures(outcome: &Value) -> BTreeMap<&'static str, u64> {
    KINDS
        .into_iter()
        .map(|kind| {
            let count = |what: &str| outcome[kind][what].as_u64().unwrap();
            assert!(count("ok") > 0 && count("ok") + count("failed") > 50, "too little of {kind} to tell: {outcome}");
            (kind, count("failed"))
        })
        .filter(|(_, failed)| *failed > 0)
        .collect()
}

/// What the gateway counted by reason; none of it unknown.
fn reasons(gateway: &Gateway) -> BTreeMap<String, u64> {
    let mut reasons = BTreeMap::new();
    for (series, value) in gateway.tidegate.metrics() {
        let Some(labels) = series.strip_prefix("tidegate_gateway_failures_total{") else { continue };
        let reason = labels.split("reason=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("a reason");
        *reasons.entry(reason.to_owned()).or_default() += value as u64;
    }
    reasons.retain(|_, count| *count > 0);
    assert!(!reasons.contains_key("unknown"), "{reasons:?}");
    reasons
}

fn told(what: &str, gateway: &Gateway, outcome: &Value) {
    let ok: u64 = KINDS.iter().map(|kind| outcome[*kind]["ok"].as_u64().unwrap()).sum();
    println!("{what}: {ok} good, {:?} failed, reasons {:?}", failures(outcome), reasons(gateway));
}

#[test]
fn endpoints_that_are_swapped_ten_times_a_second_lose_no_request() {
    let mut stage = Stage::new(21);
    let gateway = stage.gateway();
    let mut load = load(gateway.address);
    wait_until(SOON, "load", || stage.backends[0].requests() > 100);
    let before = gateway.tidegate.metric("tidegate_discovery_revision");
    let swaps = every(Duration::from_millis(100), 60, |turn| {
        // Three of six, other ones each time; who leaves is gone at once or ends in order.
        for number in 0..6 {
            let stays = (number + turn) % 6 < 3;
            let leaves = if turn % 2 == 0 { Condition::Gone } else { Condition::Terminating };
            stage.conditions[number] = if stays { Condition::Ready } else { leaves };
        }
        stage.write();
    });
    let revisions = gateway.tidegate.metric("tidegate_discovery_revision") - before;
    load.stop();
    let outcome = load.result(SOON);
    told(&format!("{swaps} swaps, {revisions} revisions"), &gateway, &outcome);
    assert!(revisions >= swaps as f64 / 2.0, "{revisions} revisions for {swaps} swaps");
    assert_eq!(failures(&outcome), BTreeMap::new(), "{outcome:#}");
    assert_eq!(reasons(&gateway), BTreeMap::new());
    assert!(stage.backends.iter().all(|backend| backend.requests() > 50), "somebody had no traffic");
}

#[test]
fn back_ends_that_end_in_order_one_after_the_other_lose_no_request() {
    let mut stage = Stage::new(22);
    let gateway = stage.gateway();
    let mut load = load(gateway.address);
    wait_until(SOON, "load", || stage.backends[0].requests() > 100);
    let restarts = every(Duration::from_millis(200), 6, |turn| {
        let number = turn % 6;
        stage.set(number, Condition::Terminating);
        stage.wait_state(&gateway, number, "draining");
        // A pod that ends in order waits for what is under way before it stops to listen.
        wait_until(SOON, "nothing is under way", || stage.backends[number].statistics()["in_flight"] == 0);
        stage.backends[number].terminate();
        stage.set(number, Condition::Gone);
        stage.backends[number].restart();
        stage.set(number, Condition::Ready);
        stage.wait_state(&gateway, number, "serving");
    });
    load.stop();
    let outcome = load.result(SOON);
    told(&format!("{restarts} restarts"), &gateway, &outcome);
    assert_eq!(failures(&outcome), BTreeMap::new(), "{outcome:#}");
    assert_eq!(reasons(&gateway), BTreeMap::new());
}

#[test]
fn back_ends_that_are_killed_lose_only_what_may_not_be_repeated_and_that_is_explained() {
    let mut stage = Stage::new(23);
    let gateway = stage.gateway();
    let mut load = load(gateway.address);
    wait_until(SOON, "load", || stage.backends[0].requests() > 100);
    let kills = every(Duration::from_millis(700), 6, |turn| {
        let number = turn % 6;
        stage.backends[number].kill9();
        // Somebody notices after a while, and another pod takes its place.
        let _ = poll(Duration::from_millis(300), || None::<()>);
        stage.set(number, Condition::Gone);
        stage.backends[number].restart();
        stage.set(number, Condition::Ready);
    });
    load.stop();
    let outcome = load.result(SOON);
    told(&format!("{kills} kills"), &gateway, &outcome);
    let failed = failures(&outcome);
    assert_eq!(failed.get("get"), None, "GET may be repeated: {outcome:#}");
    let reasons = reasons(&gateway);
    assert!(reasons.keys().all(|reason| OF_A_KILL.contains(&reason.as_str())), "{reasons:?}");
    // Whatever a client saw fail is counted with a reason. But for a WebSocket whose server's connection ended in order, as
    // the kernel does for a process that was killed: whether it should have is known to its two ends alone.
    let seen = failed.iter().filter(|(kind, _)| **kind != "ws").map(|(_, count)| count).sum::<u64>();
    let explained = reasons.values().sum::<u64>();
    assert!(seen <= explained, "{seen} failures, {explained} explained: {outcome:#} {reasons:?}");
    // Only what was under way: far fewer than there were connections, each time.
    assert!(seen <= kills as u64 * 100, "{seen} failures in {kills} kills: {outcome:#}");
}

#[test]
fn gateways_that_are_replaced_one_after_the_other_on_one_port_lose_no_request() {
    let stage = Stage::new(24);
    // As README.md has it: what is in the middle of connecting to a socket that closes is handed to another one's. Without it
    // the kernel resets it, and between the last look at a socket's queue and its end there is always a moment.
    std::fs::write(MIGRATE, "1").unwrap_or_else(|error| panic!("{MIGRATE}, of Linux 5.14 or later: {error}"));
    let mut gateway = stage.gateway();
    let address = gateway.address;
    // Those that follow hear of their pools late: until then, the one before has all the clients.
    let slow = ApiProxy::start(stage.cluster);
    slow.delay(Duration::from_millis(500));
    let files = WorkDir::new("slow");
    let kubeconfig = files.write("kubeconfig", slow.kubeconfig());
    let mut load = load(address);
    wait_until(SOON, "load", || stage.backends[0].requests() > 100);
    let mut seen = BTreeMap::new();
    let replaced = every(Duration::from_millis(1000), 3, |_| {
        let mut former = std::mem::replace(&mut gateway, stage.setup(&kubeconfig).at(address).start());
        for (reason, count) in reasons(&former) {
            *seen.entry(reason).or_insert(0) += count;
        }
        former.tidegate.sigterm();
        assert_eq!(former.tidegate.wait_exit(Duration::from_secs(40)).code(), Some(0), "{}", former.tidegate.log());
    });
    load.stop();
    let outcome = load.result(SOON);
    told(&format!("{replaced} replaced"), &gateway, &outcome);
    assert_eq!(failures(&outcome), BTreeMap::new(), "{outcome:#} {seen:?}");
}
