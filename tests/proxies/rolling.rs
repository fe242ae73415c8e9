//! Every endpoint replaced, ten times over, through a real API server and under load.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::backend::Backend;
use crate::bed::poll;
use crate::envoy::{self, Envoy};
use crate::gateway::Gateway;
use crate::kube::Cluster;
use crate::kube::objects::{slice, slice_path};
use crate::load::{Failure, Load};
use crate::nginx::Nginx;
use crate::plane::{Plane, SOON};

const ROUNDS: usize = 10;
const ENDPOINTS: usize = 3;
const CONNECTIONS: usize = 200;
/// From a gateway's acknowledgement to the last request on what drains.
const MOMENT: Duration = Duration::from_millis(100);

/// Pods' addresses of one test, each given once.
struct Addresses {
    network: u8,
    next: u8,
}

impl Addresses {
    fn backend(&mut self) -> Backend {
        self.next += 1;
        Backend::start(IpAddr::V4(Ipv4Addr::new(10, 244, self.network, self.next)), 8080)
    }

    fn backends(&mut self) -> Vec<Backend> {
        (0..ENDPOINTS).map(|_| self.backend()).collect()
    }
}

fn endpoints(ready: &[Backend], draining: &[Backend]) -> Value {
    let ready = ready.iter().map(|it| json!({"addresses": [it.address.ip()]}));
    let gone = json!({"ready": false, "serving": true, "terminating": true});
    let draining = draining.iter().map(|it| json!({"addresses": [it.address.ip()], "conditions": gone}));
    ready.chain(draining).collect()
}

fn percentile(times: &mut [Duration], percent: usize) -> Duration {
    times.sort();
    times[(times.len() * percent).div_ceil(100).saturating_sub(1)]
}

/// Replaces every endpoint with draining, then kills one without a word.
fn replaces_everything(network: u8, namespace: &str, plane: &Plane, start: impl FnOnce() -> Box<dyn Gateway>) {
    let cluster = Cluster::shared(0);
    // One host has one owner in a cluster that tests share.
    let host = format!("{namespace}.example");
    let mut addresses = Addresses { network, next: 0 };
    let mut ready = addresses.backends();
    let ports = json!([{"name": "http", "port": 8080, "protocol": "TCP"}]);
    let made = slice(namespace, "s", "web", &endpoints(&ready, &[]), &ports);
    cluster.client().create(&made);
    cluster.client().create(&json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "web", "namespace": namespace, "labels": {"tidegate.dev/hosts": host}},
        "spec": {"ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
    }));
    let id = format!("east/{namespace}/web/http");
    let path = slice_path(namespace, "s");
    let gateway = start();
    envoy::wait_status(&*gateway, &host, "/", 200);

    let load = Load::start(gateway.address(), &host, CONNECTIONS, Duration::from_millis(130));
    let all_used = |backends: &[Backend]| {
        let seen = load.seen();
        backends.iter().all(|it| seen.backends.contains_key(&it.name())).then_some(())
    };
    poll(SOON, || all_used(&ready)).expect("every endpoint takes requests");
    let (mut first, mut last) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let new = addresses.backends();
        let changed = Instant::now();
        cluster.client().patch(&path, &json!({"endpoints": endpoints(&new, &ready)}));
        let old = std::mem::replace(&mut ready, new);
        plane.wait_acknowledged(gateway.name(), &id);
        let acknowledged = Instant::now();
        poll(SOON, || all_used(&ready)).unwrap_or_else(|| panic!("a new endpoint is not used\n{}", gateway.log()));
        let answers = || load.seen().statuses.values().sum::<usize>();
        let before = answers();
        poll(SOON, || (answers() >= before + 2 * CONNECTIONS).then_some(())).expect("every connection goes on");
        let seen = load.seen();
        let when = |it: &Backend| seen.backends[&it.name()];
        first.extend(ready.iter().map(|it| when(it).1.saturating_duration_since(changed)).min());
        last.extend(old.iter().map(|it| when(it).2.saturating_duration_since(changed)).max());
        for it in &old {
            // Envoy's worker follows its main thread a moment later.
            let late = when(it).2.saturating_duration_since(acknowledged);
            assert!(late < MOMENT, "{} drains and got a request {late:?} after that was acknowledged", it.name());
        }
        // What has been told to drain ends as a pod does.
        old.into_iter().for_each(Backend::quit);
        cluster.client().patch(&path, &json!({"endpoints": endpoints(&ready, &[])}));
    }
    let seen = load.seen();
    seen.assert_all_answered(CONNECTIONS * 20);
    assert_eq!(seen.backends.len(), ENDPOINTS * (ROUNDS + 1), "every back end had its turn");
    let times =
        [percentile(&mut first, 50), percentile(&mut first, 99), percentile(&mut last, 50), percentile(&mut last, 99)];
    println!(
        "{} replacements of {ENDPOINTS} endpoints, {} requests, 0 failed; from the change at the API server to the first \
         request on a new endpoint p50 {:?} p99 {:?}, to the last on an old one p50 {:?} p99 {:?}",
        ROUNDS, seen.statuses[&200], times[0], times[1], times[2], times[3],
    );

    // Killed without a word: only what was on it may be lost, and each loss is found among what had reached it.
    let mut killed: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for _ in 0..3 {
        let new = addresses.backend();
        let mut gone = std::mem::replace(&mut ready[0], new);
        let name = gone.name();
        killed.insert(name, gone.kill9());
        cluster.client().patch(&path, &json!({"endpoints": endpoints(&ready, &[])}));
        plane.wait_acknowledged(gateway.name(), &id);
        poll(SOON, || all_used(&ready)).expect("its successor takes requests");
    }
    let seen = load.stop();
    let in_flight: BTreeSet<&String> = killed.values().flatten().collect();
    // It had reached the process, or was on the wire to it by the gateway's own word.
    let on_the_wire = |it: &Failure| gateway.sent_to(&it.id).is_some_and(|to| killed.contains_key(&to));
    let explained = |it: &Failure| in_flight.contains(&it.id) || on_the_wire(it);
    let unexplained: Vec<&Failure> = seen.failures.iter().filter(|failure| !explained(failure)).collect();
    assert!(unexplained.is_empty(), "lost and on no killed back end: {unexplained:?}");
    let (all, posts) = (seen.failures.len(), seen.failures.iter().filter(|it| it.method == "POST").count());
    println!(
        "3 killed: {all} lost of {} ({posts} of them POST), each was on the one that was killed",
        seen.statuses.values().sum::<usize>()
    );
}

#[test]
fn nginx_loses_no_request_while_every_endpoint_is_replaced_ten_times() {
    let cluster = Cluster::shared(0);
    let namespace = cluster.namespace("nginx");
    let plane = Plane::over(cluster, "");
    let start = || -> Box<dyn Gateway> { Box::new(Nginx::start(&[plane.address])) };
    replaces_everything(60, &namespace, &plane, start);
}

#[test]
fn envoy_loses_no_request_while_every_endpoint_is_replaced_ten_times() {
    let cluster = Cluster::shared(0);
    let namespace = cluster.namespace("envoy");
    let (keys, listener) = envoy::listener();
    let plane = Plane::over(cluster, &keys);
    let start = || -> Box<dyn Gateway> { Box::new(Envoy::start(plane.address, listener, "DELTA_GRPC")) };
    replaces_everything(61, &namespace, &plane, start);
}
