//! The controller is killed at every write that it makes, before the API server has it and after.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::bed::{WorkDir, poll};
use crate::faults::strategies;
use crate::kube::{ApiProxy, Lost};
use crate::support::{Gateway, SOON, Stage, ready, template};

/// More lives than a deploy has writes.
const LIVES: usize = 120;

/// A deploy of a second revision, with a controller that is killed at each write in turn. Gives the end, and how many died.
fn deploy(strategy: &Value, floor: usize, kills: bool) -> (BTreeMap<String, u64>, BTreeMap<String, u64>, usize) {
    let stage = Stage::new();
    stage.create_app("web", 2, strategy, &template());
    stage.release("web", "web-1", "web:1", &json!({}));
    let mut first = stage.control();
    stage.wait_phase("web-1", "Healthy");
    first.kill();
    stage.free_lease();
    let gateway = Gateway::start(&stage, "edge-1", "web");
    let proxy = ApiProxy::start(stage.cluster);
    let files = WorkDir::new("proxied");
    let kubeconfig = files.write("kubeconfig", proxy.kubeconfig());
    stage.release("web", "web-2", "web:2", &json!({}));
    let is_healthy = || stage.status("web-2")["phase"] == "Healthy";
    let mut died = 0;
    for life in 0..LIVES {
        if is_healthy() {
            break;
        }
        if kills {
            // Even lives lose their first write, odd ones its answer: so each write is met by both.
            proxy.lose_write("/leases", if life % 2 == 0 { Lost::Request } else { Lost::Answer });
        }
        let mut control = stage.control_over(&kubeconfig, "");
        let over = poll(SOON, || {
            if kills && proxy.has_lost() {
                return Some(true);
            }
            is_healthy().then_some(false)
        });
        control.kill();
        stage.free_lease();
        died +=
            usize::from(over.unwrap_or_else(|| {
                panic!("neither a write nor the end: {:#}\n{}", stage.status("web-2"), control.log())
            }));
    }
    assert!(is_healthy(), "{:#}", stage.status("web-2"));
    for body in gateway.got() {
        assert!(ready(&body).len() >= floor, "{body:#}");
    }
    proxy.heal();
    // What is left to do after the end is done by one that lives.
    let control = stage.control_over(&kubeconfig, "");
    let settled = || {
        let counts = stage.counts();
        (counts.values().filter(|count| **count > 0).count() == 1).then_some(counts)
    };
    let counts =
        poll(Duration::from_secs(30), settled).unwrap_or_else(|| panic!("{:?}\n{}", stage.counts(), control.log()));
    let strip = |name: &str| name.replace(&stage.namespace, "NAMESPACE");
    let shares = stage.shares("web").into_iter().map(|(pool, share)| (strip(&pool), share)).collect();
    (counts, shares, died)
}

#[test]
fn a_controller_that_is_killed_at_every_write_leaves_the_same_end() {
    for (name, strategy, floor) in strategies() {
        let (counts, shares, _) = deploy(&strategy, floor, false);
        let (killed_counts, killed_shares, died) = deploy(&strategy, floor, true);
        assert_eq!((killed_counts, killed_shares), (counts, shares), "{name}");
        // Status, Service, Deployment, traffic, count: each met before and after.
        assert!(died >= 12, "{name}: only {died} were killed");
        println!("{name:10} {died} controllers killed");
    }
}
