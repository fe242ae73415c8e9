//! The API server refuses each write once, or does not answer it, or its answer is lost.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::bed::{WorkDir, poll};
use crate::kube::{ApiProxy, Fault};
use crate::support::{Gateway, SOON, Stage, ready, template};
use crate::traffic::{Recorder, judge};

const REPLICAS: u32 = 2;
/// How a deploy ended: wanted counts by Deployment, shares by pool.
type End = (BTreeMap<String, u64>, BTreeMap<String, u64>);

/// Strategies, each with the pods that it may never be below. All of them only where a whole sweep is asked for.
pub(crate) fn strategies() -> Vec<(&'static str, Value, usize)> {
    let steps = json!([{"share": 50, "pauseSeconds": 1}]);
    let all = vec![
        ("blueGreen", json!({"blueGreen": {"scaleDownDelaySeconds": 0}}), 2),
        ("surge", json!({"batch": {"batches": 2, "drainSeconds": 0}}), 2),
        ("shrink", json!({"batch": {"batches": 2, "drainSeconds": 0, "order": "ShrinkFirst"}}), 1),
        ("canary", json!({"canary": {"scaleDownDelaySeconds": 0, "steps": steps}}), 2),
        ("rolling", json!({"rolling": {"maxSurge": 1, "drainSeconds": 0}}), 2),
    ];
    let count = if std::env::var("TIDEGATE_DEPLOY_SWEEP").is_ok_and(|it| it == "all") { all.len() } else { 1 };
    all.into_iter().take(count).collect()
}

/// A deploy of a second revision, each of whose writes meets a fault. Gives the end, and how many writes met it.
fn deploy(strategy: &Value, floor: usize, fault: Option<Fault>) -> (End, usize) {
    let stage = Stage::new();
    let proxy = ApiProxy::start(stage.cluster);
    let files = WorkDir::new("proxied");
    let kubeconfig = files.write("kubeconfig", proxy.kubeconfig());
    stage.create_app("web", REPLICAS, strategy, &template());
    stage.release("web", "web-1", "web:1", &json!({}));
    let control = stage.control_over(&kubeconfig, "api_timeout_seconds = 1");
    stage.wait_phase("web-1", "Healthy");
    let gateway = Gateway::start(&stage, "edge-1", "web");
    let recorder = Recorder::start(&stage);
    if let Some(fault) = fault {
        // Who cannot renew its Lease leads no more: that is another test's.
        proxy.spoil_writes("/leases", fault);
    }
    stage.release("web", "web-2", "web:2", &json!({}));
    let settled = || {
        let counts = stage.counts();
        let alone = counts.values().filter(|count| **count > 0).count() == 1;
        (alone && stage.status("web-2")["phase"] == "Healthy").then_some(counts)
    };
    let counts =
        poll(3 * SOON, settled).unwrap_or_else(|| panic!("{fault:?}: {:#}\n{}", stage.status("web-2"), control.log()));
    for body in gateway.got() {
        assert!(ready(&body).len() >= floor, "{fault:?}: {body:#}");
    }
    judge(&recorder, "web", floor);
    let strip = |name: &str| name.replace(&stage.namespace, "NAMESPACE");
    let shares = stage.shares("web").into_iter().map(|(pool, share)| (strip(&pool), share)).collect();
    ((counts, shares), proxy.spoiled())
}

#[test]
fn a_fault_of_the_api_server_at_every_write_leaves_the_same_end() {
    let faults = [Fault::Status(409), Fault::Status(429), Fault::Status(500), Fault::Silence, Fault::LostAnswer];
    for (name, strategy, floor) in strategies() {
        let began = std::time::Instant::now();
        let ends = std::thread::scope(|scope| {
            let deploys = std::iter::once(None).chain(faults.map(Some));
            let begun: Vec<_> = deploys
                .map(|fault| {
                    scope.spawn({
                        let strategy = &strategy;
                        move || deploy(strategy, floor, fault)
                    })
                })
                .collect();
            begun.into_iter().map(|it| it.join().unwrap()).collect::<Vec<_>>()
        });
        let (wanted, _) = &ends[0];
        for (fault, (end, spoiled)) in faults.iter().zip(&ends[1..]) {
            assert_eq!(end, wanted, "{name} {fault:?}");
            // The plan, Service, Deployment, steps, gate, traffic, acknowledgement, old pods, the end: each met it.
            assert!(*spoiled >= 8, "{name} {fault:?}: only {spoiled} writes met it");
            println!("{name:10} {:16} {spoiled:3} writes met it", format!("{fault:?}"));
        }
        println!("{name:10} all faults in {:.0} s", began.elapsed().as_secs_f64());
        assert!(began.elapsed() < Duration::from_secs(300));
    }
}
