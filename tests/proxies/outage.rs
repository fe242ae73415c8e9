//! Whatever happens to Tidegate, traffic goes on; what it says in earnest is honoured.

use std::time::Duration;

use serde_json::json;

use crate::backend::Backend;
use crate::bed::{free_port, wait_until};
use crate::envoy::{self, Envoy, wait_status};
use crate::gateway::Gateway;
use crate::kube::objects::{slice, slice_path};
use crate::kube::{self, ApiProxy, Cluster};
use crate::load::Load;
use crate::nginx::Nginx;
use crate::plane::{Plane, SOON, pool_file};
use crate::relay::{Relay, Says};

const HOST: &str = "outage.example";
const POOL: &str = "vm/web";

fn backend() -> Backend {
    Backend::start([127, 0, 0, 1], free_port())
}

fn load(gateway: &dyn Gateway) -> Load {
    Load::start(gateway.address(), HOST, 20, Duration::from_millis(40))
}

/// Waits until this many further requests have been answered.
fn wait_served(load: &Load, count: usize) {
    let answered = || load.seen().statuses.values().sum::<usize>();
    let before = answered();
    wait_until(SOON, "further answers", || answered() >= before + count || !load.seen().failures.is_empty());
}

/// What is said in place of Tidegate's answers, by name.
type Lie<'a> = (&'static str, Box<dyn Fn() + 'a>);

/// What the gateway must not take for an answer.
fn lies(relay: &Relay) -> Vec<Lie<'_>> {
    let answer = |status: &'static str, body: &'static str| -> Box<dyn Fn() + '_> {
        Box::new(move || relay.answer(status, body))
    };
    vec![
        ("503", answer("503 Service Unavailable", r#"{"error":"not in step yet"}"#)),
        ("500", answer("500 Oops", "")),
        ("a page", answer("200 OK", "<html>captive portal</html>")),
        ("an empty body", answer("200 OK", "")),
        ("half an answer", answer("200 OK", r#"{"index":"b:7","changed":[{"id":"vm/web","endpoints":["#)),
        (
            "an endpoint that is none",
            answer(
                "200 OK",
                r#"{"index":"b:7","changed":[{"id":"vm/web","endpoints":[{"address":"evil host","port":"x"}]}],"removed":[]}"#,
            ),
        ),
        ("a list that is none", answer("200 OK", r#"{"index":"b:7","changed":null,"removed":[]}"#)),
        ("bytes", Box::new(|| relay.say(Says::Bytes(vec![0xff; 300])))),
        ("the connection's end", Box::new(|| relay.say(Says::Bytes(Vec::new())))),
        ("nothing", Box::new(|| relay.say(Says::Nothing))),
    ]
}

#[test]
fn nginx_serves_the_last_known_pools_whatever_tidegate_says_or_does() {
    kube::enter();
    let (one, two) = (backend(), backend());
    let mut plane = Plane::over_file(&pool_file(POOL, HOST, &[&one]), "");
    let relay = Relay::before(plane.address);
    let mut nginx = Nginx::start(&[relay.address]);
    wait_status(&nginx, HOST, "/", 200);
    plane.wait_acknowledged("edge-1", POOL);
    let load = load(&nginx);
    for (what, lie) in lies(&relay) {
        lie();
        // The pools and the hosts are asked for by one connection each.
        wait_until(SOON, what, || relay.met() >= 2);
        wait_served(&load, 40);
        assert_eq!(nginx.pool(POOL)["endpoints"].as_array().unwrap().len(), 1, "{what}");
    }
    nginx.wait("stale", |status| status["state"] == "stale" && status["error"].is_string());

    // An empty list of another life is an accident: what it lacks is kept, for a while.
    relay.answer("200 OK", r#"{"index":"other:1","changed":[],"removed":[],"hosts":[],"conflicts":[]}"#);
    nginx.wait("held", |status| status["held"] == 1);
    wait_served(&load, 40);
    assert!(load.seen().failures.is_empty(), "{:?}\n{}", load.seen().failures[0], nginx.log());

    // Back again, a change gets through; frozen, killed and restarted nothing is lost.
    relay.say(Says::Tidegate);
    plane.write(&pool_file(POOL, HOST, &[&one, &two]));
    wait_until(SOON, "the change", || nginx.pool(POOL)["endpoints"].as_array().is_some_and(|it| it.len() == 2));
    nginx.wait("fresh", |status| status["error"].is_null() && status["held"] == 0);
    plane.tidegate.signal("STOP");
    wait_served(&load, 40);
    let old = nginx.reload();
    // A reload is over when the workers of before are gone, and it does not wait for who does not answer.
    wait_until(Duration::from_secs(5), "the end of the old workers", || {
        let workers = nginx.workers();
        !workers.is_empty() && old.iter().all(|it| !workers.contains(it))
    });
    wait_served(&load, 40);
    plane.tidegate.signal("CONT");
    plane.tidegate.kill9();
    wait_served(&load, 40);
    nginx.reload();
    wait_served(&load, 40);
    load.stop().assert_all_answered_once(500, &[&one, &two]);
    // Its memory lost as well, it begins with the state file.
    nginx.restart();
    assert_eq!(envoy::ask(&nginx, HOST, "/").0, 200);
    plane.tidegate.restart_unready();
    plane.wait_synced();
    nginx.wait("fresh", |status| status["error"].is_null() && status["state"] == "fresh");

    // What is meant is done: scaled to zero, and gone.
    plane.write(&pool_file(POOL, HOST, &[]));
    wait_status(&nginx, HOST, "/", 503);
    plane.write(&pool_file(POOL, HOST, &[&two]));
    wait_status(&nginx, HOST, "/", 200);
    plane.write("[[pool]]\nid = \"other\"\nendpoints = []\n");
    wait_status(&nginx, HOST, "/", 404);
    wait_until(SOON, "no pool", || nginx.pool(POOL).is_null());
}

#[test]
fn nginx_asks_another_server_when_one_is_gone_and_weights_are_parts_of_the_traffic() {
    kube::enter();
    let (one, two) = (backend(), backend());
    let text = pool_file(POOL, HOST, &[&one, &two]).replacen("port", "weight = 300, port", 1);
    let mut plane = Plane::over_file(&text, "");
    let other = Plane::over_file(&text, "");
    let nginx = Nginx::start(&[plane.address, other.address]);
    wait_status(&nginx, HOST, "/", 200);
    let load = load(&nginx);
    wait_served(&load, 800);
    plane.tidegate.kill9();
    nginx.wait("with the other server", |it| {
        it["server"] == format!("http://{}", other.address) && it["error"].is_null()
    });
    let seen = load.stop();
    seen.assert_all_answered(800);
    let count = |it: &Backend| seen.backends[&it.name()].0 as f64;
    let part = count(&one) / (count(&one) + count(&two));
    assert!((0.72..0.78).contains(&part), "{part} of the traffic, and 0.75 is its part");
}

#[test]
fn envoy_serves_the_last_known_pools_whatever_tidegate_says_or_does() {
    kube::enter();
    let one = backend();
    let (keys, listener) = envoy::listener();
    let mut plane = Plane::over_file(&pool_file(POOL, HOST, &[&one]), &keys);
    let relay = Relay::before(plane.address);
    let envoy = Envoy::start(relay.address, listener, "DELTA_GRPC");
    envoy.wait_status(HOST, "/", 200);
    let load = load(&envoy);
    // Envoy comes back to a stream that failed later each time, so each of these is not asked for by itself.
    for (what, lie) in lies(&relay) {
        lie();
        wait_served(&load, 40);
        assert!(load.seen().failures.is_empty(), "{what}: {:?}", load.seen().failures);
    }
    wait_until(SOON, "one that was met", || relay.met() >= 1);
    relay.say(Says::Tidegate);
    plane.tidegate.signal("STOP");
    wait_served(&load, 40);
    plane.tidegate.signal("CONT");
    plane.tidegate.kill9();
    wait_served(&load, 40);
    plane.tidegate.restart_unready();
    plane.wait_synced();
    wait_served(&load, 40);
    load.stop().assert_all_answered(300);
    plane.write(&pool_file(POOL, HOST, &[]));
    envoy.wait_status(HOST, "/", 503);
    let two = backend();
    plane.write(&pool_file(POOL, HOST, &[&two]));
    envoy.wait_status(HOST, "/", 200);
    assert_eq!(envoy.stat("update_rejected"), 0, "{}", envoy.log());
}

#[test]
fn an_api_server_that_is_gone_and_comes_back_is_no_event_for_traffic_and_an_empty_service_is() {
    let cluster = Cluster::shared(0);
    let namespace = cluster.namespace("gone");
    let one = Backend::start([10, 244, 73, 1], 8080);
    let ports = json!([{"name": "http", "port": 8080, "protocol": "TCP"}]);
    let endpoints = json!([{"addresses": [one.address.ip()]}]);
    cluster.client().create(&slice(&namespace, "s", "web", &endpoints, &ports));
    cluster.client().create(&json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "web", "namespace": namespace, "labels": {"tidegate.dev/hosts": HOST}},
        "spec": {"ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
    }));
    let proxy = ApiProxy::start(cluster);
    let (keys, listener) = envoy::listener();
    let plane = Plane::over_kubeconfig(&proxy.kubeconfig(), &keys);
    let (nginx, envoy) = (Nginx::start(&[plane.address]), Envoy::start(plane.address, listener, "GRPC"));
    let both: [&dyn Gateway; 2] = [&nginx, &envoy];
    both.iter().for_each(|gateway| wait_status(*gateway, HOST, "/", 200));
    let loads = both.map(load);
    proxy.refuse(503);
    proxy.cut();
    wait_until(SOON, "stale", || plane.tidegate.metric("tidegate_discovery_source_synced") < 1.0);
    loads.iter().for_each(|load| wait_served(load, 80));
    proxy.heal();
    wait_until(SOON, "in step again", || plane.tidegate.metric("tidegate_discovery_source_synced") > 0.0);
    loads.iter().for_each(|load| wait_served(load, 40));
    loads.into_iter().for_each(|load| load.stop().assert_all_answered(100));
    cluster.client().patch(&slice_path(&namespace, "s"), &json!({"endpoints": []}));
    both.iter().for_each(|gateway| wait_status(*gateway, HOST, "/", 503));
}
