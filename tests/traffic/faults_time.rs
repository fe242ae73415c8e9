//! A wall clock that is set while Tidegate runs.

use serde_json::{Value, json};

use crate::bed::{WorkDir, wait_until};
use crate::kube::objects::{slice, slice_path};
use crate::kube::{ApiProxy, Cluster, Gone};
use crate::shim::Shim;
use crate::support::{SOON, Setup};

fn endpoints(address: &str) -> Value {
    json!([{"addresses": [address]}])
}

#[test]
fn a_clock_that_jumps_a_day_ends_no_hold_and_one_set_back_lengthens_none() {
    let cluster = Cluster::shared(0);
    let (namespace, proxy) = (cluster.namespace("clock"), ApiProxy::start(cluster));
    let client = cluster.client();
    let ports = json!([{"name": "http", "port": 8080, "protocol": "TCP"}]);
    client.create(&slice(&namespace, "a", "a", &endpoints("10.244.72.1"), &ports));
    client.create(&slice(&namespace, "b", "b", &endpoints("10.244.72.2"), &ports));
    let directory = WorkDir::new("clock");
    let shim = Shim::new(&directory);
    let setup = Setup::new("hold = { max_drop_percent = 50, max_age_seconds = 25 }");
    let setup = setup.environment(shim.environment(directory.path()));
    let plane = setup.kubeconfig("east", &proxy.kubeconfig()).start();
    let [a, b] = ["a", "b"].map(|service| format!("east/{namespace}/{service}/http"));
    let header = |id: &str, name: &str| plane.header(&format!("/v1/pools/{id}"), name);
    // A list lacks the pool: it is held.
    proxy.refuse(503);
    wait_until(SOON, "stale", || header(&a, "tidegate-state") == "stale");
    client.delete(&slice_path(&namespace, "a"));
    proxy.gone(Gone::Status);
    wait_until(SOON, "held", || header(&a, "tidegate-state") == "held");
    proxy.heal();
    let jumps = || plane.tidegate.log().matches("the wall clock was set").count();
    shim.set_clock(86_400);
    wait_until(SOON, "the jump forward", || jumps() == 1);
    assert_eq!(header(&a, "tidegate-state"), "held", "its time is not over");
    let tomorrow = jiff::Timestamp::now().as_second() + 86_000;
    let reason = header(&a, "tidegate-reason");
    let until = reason.split_once(" until ").and_then(|(_, rest)| rest.split(',').next()).unwrap();
    assert!(until.parse::<jiff::Timestamp>().unwrap().as_second() > tomorrow, "{reason}");
    client.replace(&slice_path(&namespace, "b"), &slice(&namespace, "b", "b", &endpoints("10.244.72.3"), &ports));
    plane.wait_pool(&b, "changed", |pool| pool.is_some_and(|it| it.contains("10.244.72.3:8080 ready")));
    assert_eq!(header(&b, "tidegate-state"), "fresh");
    shim.set_clock(-3_600);
    wait_until(SOON, "the jump back", || jumps() == 2);
    plane.wait_pool(&a, "gone at its time", |pool| pool.is_none());
    assert_eq!(plane.tidegate.metric("tidegate_discovery_held_endpoints"), 0.0);
}
