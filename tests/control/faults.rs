//! The API server refuses each write once, or does not answer it, or its answer is lost.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use crate::bed::{WorkDir, poll, wait_until};
use crate::kube::{ApiProxy, Fault};
use crate::support::{Control, Gateway, SOON, Stage, cluster, ready, template};
use crate::traffic::{Recorder, judge};

pub(crate) const REPLICAS: u32 = 2;
/// The pool of the VMs that an App migrates from.
pub(crate) const VMS: &str = "vm/web";
/// How a deploy ended: wanted counts by Deployment, shares by pool.
pub(crate) type End = (BTreeMap<String, u64>, BTreeMap<String, u64>);

/// Strategies, each with the pods that it may never be below. More than the first only where a whole sweep is asked for, of all or of one.
pub(crate) fn strategies() -> Vec<(&'static str, Value, usize)> {
    let steps = json!([{"share": 50, "pauseSeconds": 1}]);
    let requests = json!({"headers": [{"name": "x-canary", "values": ["yes"]}], "hosts": ["preview.example"]});
    let matched = json!([{"setMatch": requests, "pauseSeconds": 1}, {"share": 50}]);
    let all = vec![
        ("blueGreen", json!({"blueGreen": {"scaleDownDelaySeconds": 0}}), 2),
        ("surge", json!({"batch": {"batches": 2, "drainSeconds": 0}}), 2),
        ("shrink", json!({"batch": {"batches": 2, "drainSeconds": 0, "order": "ShrinkFirst"}}), 1),
        ("canary", json!({"canary": {"scaleDownDelaySeconds": 0, "steps": steps}}), 2),
        ("rolling", json!({"rolling": {"maxSurge": 1, "drainSeconds": 0}}), 2),
        ("matched", json!({"canary": {"scaleDownDelaySeconds": 0, "steps": matched}}), 2),
        ("preview", json!({"blueGreen": {"scaleDownDelaySeconds": 0, "preview": requests}}), 2),
        ("migrate", json!({"migrate": {"from": VMS, "steps": steps}}), 2),
    ];
    let Some(swept) = swept() else { return all.into_iter().take(1).collect() };
    let is_swept = |(name, ..): &(&str, Value, usize)| swept == "all" || swept == *name;
    let named: Vec<_> = all.into_iter().filter(is_swept).collect();
    assert!(!named.is_empty(), "TIDEGATE_DEPLOY_SWEEP={swept}: all, or one of the names above");
    named
}

/// What a whole sweep is asked for of: `all` strategies, or one by its name.
fn swept() -> Option<String> {
    std::env::var("TIDEGATE_DEPLOY_SWEEP").ok().filter(|it| !it.is_empty())
}

/// Whether a whole sweep is asked for.
pub(crate) fn is_whole() -> bool {
    swept().is_some()
}

/// VMs, from which a migration is: the pool [`VMS`] in a file, and a data plane's section that reads it.
pub(crate) fn vms() -> (WorkDir, String) {
    let files = WorkDir::new("vms");
    let at = |number: u8| format!("{{ address = \"10.9.9.{number}\", port = 8080 }}");
    let pool = format!("[[pool]]\nid = {VMS:?}\nendpoints = [{}, {}]\n", at(1), at(2));
    let path = files.write("vms.toml", pool);
    (files, format!("[[discovery.source]]\nkind = \"file\"\npath = {path:?}\n"))
}

static FAULTS: [Fault; 5] =
    [Fault::Status(409), Fault::Status(429), Fault::Status(500), Fault::Silence, Fault::LostAnswer];
/// Who cannot renew its Lease leads no more: that is another test's.
const EXCEPT: &str = "/leases";
/// Deploys under way at once.
const AT_ONCE: usize = 6;

/// Which writes of a deploy meet which fault.
#[derive(Clone, Copy, Debug)]
enum Spoils {
    None,
    Each(Fault),
    One(usize, Fault),
}

/// An App about to be deployed, `web-2`, and a gateway that every switch waits for. Before it a first revision serves; where it
/// migrates, VMs do.
pub(crate) struct Before {
    pub(crate) stage: Stage,
    pub(crate) control: Control,
    /// One that notes what it gets; where requests are to be told apart, the built-in one is there in its place.
    gateway: Option<Gateway>,
    recorder: Recorder,
    floor: usize,
    /// The file in which the VMs stand.
    _vms: WorkDir,
}

impl Before {
    /// With a control component that has this kubeconfig.
    pub(crate) fn start(strategy: &Value, floor: usize, kubeconfig: &Path) -> Self {
        let (vms, source) = vms();
        let tells_apart = strategy.to_string().contains("headers");
        let stage = if tells_apart { Stage::with_gateway() } else { Stage::beside(&source) };
        stage.create_app("web", REPLICAS, strategy, &template());
        let control = stage.control_over(kubeconfig, "api_timeout_seconds = 1");
        if strategy["migrate"].is_null() {
            stage.release("web", "web-1", "web:1", &json!({}));
            stage.wait_phase("web-1", "Healthy");
        }
        let gateway = (!tells_apart).then(|| Gateway::start(&stage, "edge-1", "web"));
        let pool = format!("app/{}/web/http", stage.namespace);
        let serves = |it: &Value| it["pools"][&pool]["applied"].is_i64();
        let known = || stage.gateways()["gateways"].as_array().unwrap().iter().any(serves);
        if tells_apart {
            wait_until(SOON, "the built-in gateway, which a switch waits for", known);
        }
        let recorder = Recorder::start(&stage);
        Self { stage, control, gateway, recorder, floor, _vms: vms }
    }

    pub(crate) fn is_healthy(&self) -> bool {
        self.stage.status("web-2")["phase"] == "Healthy"
    }

    /// How it ended, once one revision alone has pods.
    pub(crate) fn end(&self) -> Option<End> {
        let counts = self.stage.counts();
        if !self.is_healthy() || counts.values().filter(|count| **count > 0).count() != 1 {
            return None;
        }
        let strip = |name: &str| name.replace(&self.stage.namespace, "NAMESPACE");
        let shares = self.stage.shares("web").into_iter().map(|(pool, share)| (strip(&pool), share)).collect();
        Some((counts, shares))
    }

    /// Demands what must hold of everything that happened, `so` far.
    pub(crate) fn judge(&self, so: &str) {
        for body in self.gateway.iter().flat_map(Gateway::got) {
            assert!(ready(&body).len() >= self.floor, "{so}: {body:#}");
        }
        judge(&self.recorder, "web", self.floor);
    }
}

/// A deploy some of whose writes meet a fault. Gives the end, how many writes met it, and how many there were.
fn deploy(strategy: &Value, floor: usize, spoils: Spoils) -> (End, usize, usize) {
    let proxy = ApiProxy::start(cluster());
    let files = WorkDir::new("proxied");
    let before = Before::start(strategy, floor, &files.write("kubeconfig", proxy.kubeconfig()));
    match spoils {
        // All are counted.
        Spoils::None => proxy.spoil_one(EXCEPT, usize::MAX - 1, Fault::Silence),
        Spoils::Each(fault) => proxy.spoil_writes(EXCEPT, fault),
        Spoils::One(number, fault) => proxy.spoil_one(EXCEPT, number, fault),
    }
    before.stage.release("web", "web-2", "web:2", &json!({}));
    let (stage, control) = (&before.stage, &before.control);
    let end = poll(3 * SOON, || before.end())
        .unwrap_or_else(|| panic!("{spoils:?}: {:#}\n{}", stage.status("web-2"), control.log()));
    before.judge(&format!("{spoils:?}"));
    (end, proxy.spoiled(), proxy.writes())
}

/// Deploys side by side, as many as the machine takes; what came of each, in their order.
fn deploys(strategy: &Value, floor: usize, all: &[Spoils]) -> Vec<(End, usize, usize)> {
    let beside = |some: &[Spoils]| {
        std::thread::scope(|scope| {
            let begun: Vec<_> = some.iter().map(|it| scope.spawn(move || deploy(strategy, floor, *it))).collect();
            begun.into_iter().map(|it| it.join().unwrap()).collect::<Vec<_>>()
        })
    };
    all.chunks(AT_ONCE).flat_map(beside).collect()
}

#[test]
fn a_fault_of_the_api_server_at_every_write_leaves_the_same_end() {
    for (name, strategy, floor) in strategies() {
        let began = std::time::Instant::now();
        let all: Vec<Spoils> = std::iter::once(Spoils::None).chain(FAULTS.map(Spoils::Each)).collect();
        let ends = deploys(&strategy, floor, &all);
        let (wanted, ..) = &ends[0];
        for (fault, (end, spoiled, _)) in FAULTS.iter().zip(&ends[1..]) {
            assert_eq!(end, wanted, "{name} {fault:?}");
            // The plan, Service, Deployment, steps, gate, traffic, acknowledgement, old pods, the end: each met it.
            assert!(*spoiled >= 8, "{name} {fault:?}: only {spoiled} writes met it");
            println!("{name:10} {:16} {spoiled:3} writes met it", format!("{fault:?}"));
        }
        println!("{name:10} all faults in {:.0} s", began.elapsed().as_secs_f64());
    }
}

/// Who recovers from one fault must not count on the next write failing as well. Each write meets one of the faults, in turn; all
/// of them where a whole sweep is asked for.
#[test]
fn a_fault_of_the_api_server_at_exactly_one_write_leaves_the_same_end() {
    for (name, strategy, floor) in strategies() {
        let (wanted, _, writes) = deploy(&strategy, floor, Spoils::None);
        assert!(writes >= 8, "{name}: {writes} writes are no deploy");
        let is_met = |number: usize, fault: usize| is_whole() || number % FAULTS.len() == fault;
        let of = |number: usize| {
            let faults = FAULTS.iter().enumerate().filter(move |(at, _)| is_met(number, *at));
            faults.map(move |(_, fault)| Spoils::One(number, *fault))
        };
        let all: Vec<Spoils> = (0..writes).flat_map(of).collect();
        let ends = deploys(&strategy, floor, &all);
        let met: usize = ends.iter().map(|(_, spoiled, _)| spoiled).sum();
        for (spoils, (end, ..)) in all.iter().zip(&ends) {
            assert_eq!(*end, wanted, "{name} {spoils:?}");
        }
        // What is told of the App comes as often as somebody looks: a deploy may have a write less than the one that was counted.
        assert!(met * 10 >= all.len() * 8, "{name}: only {met} of {} deploys met their fault", all.len());
        println!("{name:10} {writes} writes, {met} deploys with one fault each");
    }
}
