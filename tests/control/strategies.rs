//! Every strategy that moves shares, under traffic: each an App of its own, all deployed at once, through the built-in gateway and
//! through nginx with `tidegate.lua`, which has to acknowledge each switch as well.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};

use crate::bed::{WorkDir, wait_until};
use crate::gateway::Gateway as _;
use crate::nginx::Nginx;
use crate::pods::{Pod, Pods};
use crate::support::{SOON, Stage, host, path, template};
use crate::traffic::{Load, Recorder, judge, request};

const REPLICAS: usize = 3;
/// Clients of one App at one gateway, and between two requests of one.
const CLIENTS: (usize, Duration) = (3, Duration::from_millis(40));
/// How long a pod that is deleted serves on, as one does that has a step before it goes offline, or ends gracefully. Of the old
/// pods of a batch the ReplicaSet chooses one, which has requests until every gateway has heard that it is going; a pod that
/// drops them at that moment loses some, whoever deploys.
const GRACE_SECONDS: u32 = 3;
/// Where the VMs are from which one App migrates: beside the pods' addresses of all nodes.
const VMS: [&str; 2] = ["10.244.250.1:8080", "10.244.250.2:8080"];

struct Case {
    app: &'static str,
    strategy: Value,
    /// So many pods that have traffic are ready at every moment.
    floor: usize,
    /// How often traffic is switched.
    switches: usize,
}

/// An App under traffic, and the beginning of the names of who served before.
struct Under {
    case: Case,
    old: String,
    /// By gateway.
    loads: Vec<Load>,
}

fn cases() -> Vec<Case> {
    let batch = |order: &str| json!({"batch": {"batches": 3, "drainSeconds": 1, "order": order}});
    let canary = json!([{"share": 20, "pauseSeconds": 1}, {"share": 50}]);
    let migrate = json!({"from": "vm/web", "steps": [{"share": 30, "pauseSeconds": 1}]});
    let case = |app, strategy, switches| Case { app, strategy, floor: REPLICAS, switches };
    vec![
        case("blue-green", json!({"blueGreen": {"scaleDownDelaySeconds": 1}}), 1),
        case("surge-first", batch("SurgeFirst"), 3),
        Case { floor: REPLICAS - 1, ..case("shrink-first", batch("ShrinkFirst"), 3) },
        case("canary", json!({"canary": {"scaleDownDelaySeconds": 1, "steps": canary}}), 3),
        case("rolling", json!({"rolling": {"maxSurge": 2, "drainSeconds": 1}}), 2),
        case("migrate", json!({"migrate": migrate}), 2),
    ]
}

/// Pods with their grace.
fn graceful() -> Value {
    let mut it = template();
    it["metadata"] = json!({"annotations": {"bed/drain": format!("{GRACE_SECONDS}s")}});
    it["spec"]["terminationGracePeriodSeconds"] = json!(GRACE_SECONDS);
    it
}

/// The first revision serves, or the VMs do, from which a migration does not start yet. Gives the beginning of their names.
fn first(stage: &Stage, case: &Case) -> String {
    let app = case.app;
    if case.strategy["migrate"].is_object() {
        stage.release(app, &format!("{app}-2"), "web:2", &json!({"control": {"targetStep": 0}}));
        let served =
            || stage.cluster.client().try_get(&path(&stage.namespace, "trafficpolicies", app)).unwrap().is_some();
        wait_until(SOON, "a policy that leads to VMs", served);
        return "vm-".to_owned();
    }
    let status = stage.wait_phase(&format!("{app}-1"), "Healthy");
    format!("{app}-{}-", status["revision"].as_str().unwrap())
}

/// Waits until nginx says that it serves an App, so that every switch waits for it, and until both gateways answer for it.
fn served(stage: &Stage, nginx: &Nginx, app: &str) {
    let pool = format!("app/{}/{app}/http", stage.namespace);
    let serves = |it: &Value| it["name"] == nginx.name() && it["pools"][&pool]["current"] == true;
    let known = || stage.gateways()["gateways"].as_array().unwrap().iter().any(serves);
    wait_until(SOON, &format!("{pool} acknowledged by nginx"), known);
    for gateway in [stage.gateway.unwrap(), nginx.address()] {
        let answered = || request(gateway, &mut None, 1, &line(stage, app)).is_ok();
        wait_until(SOON, &format!("an answer for {app}"), answered);
    }
}

fn line(stage: &Stage, app: &str) -> String {
    format!("host: {}", host(app, &stage.namespace))
}

fn answers(load: &Load, of: &str) -> u64 {
    load.so_far().good.iter().filter(|(pod, _)| pod.starts_with(of)).map(|(_, it)| it).sum()
}

#[test]
fn no_strategy_loses_a_request_through_the_built_in_gateway_or_nginx_and_none_goes_below_its_floor() {
    let files = WorkDir::new("vms");
    let endpoint = |at: &&str| {
        let (address, port) = at.split_once(':').unwrap();
        format!("{{ address = \"{address}\", port = {port} }}")
    };
    let endpoints: Vec<String> = VMS.iter().map(endpoint).collect();
    let pool = files.write("vms.toml", format!("[[pool]]\nid = \"vm/web\"\nendpoints = [{}]\n", endpoints.join(", ")));
    let apps: Vec<&str> = cases().iter().map(|it| it.app).collect();
    let stage = Stage::with_apps(&apps, &format!("[[discovery.source]]\nkind = \"file\"\npath = {pool:?}\n"));
    let control = stage.control();
    let _pods = Pods::serve(&stage);
    let vms = VMS.iter().enumerate().map(|(number, at)| Pod::start(format!("vm-{number}"), at.parse().unwrap()));
    let _vms: Vec<_> = vms.collect();
    for case in cases() {
        let replicas = u32::try_from(REPLICAS).unwrap();
        stage.create_app(case.app, replicas, &case.strategy, &graceful());
        let exposure = json!({"spec": {"exposure": {"hosts": [host(case.app, &stage.namespace)]}}});
        stage.cluster.client().patch(&path(&stage.namespace, "apps", case.app), &exposure);
        if !case.strategy["migrate"].is_object() {
            stage.release(case.app, &format!("{}-1", case.app), "web:1", &json!({}));
        }
    }
    let olds: Vec<String> = cases().iter().map(|case| first(&stage, case)).collect();
    let nginx = Nginx::start(&[stage.pools]);
    apps.iter().for_each(|app| served(&stage, &nginx, app));

    let recorder = Recorder::start(&stage);
    let load = |gateway: SocketAddr, app: &str| Load::of(gateway, &line(&stage, app), CLIENTS.0, CLIENTS.1);
    let gateways = [stage.gateway.unwrap(), nginx.address()];
    let under = |(case, old): (Case, String)| {
        let loads = gateways.iter().map(|gateway| load(*gateway, case.app)).collect();
        Under { case, old, loads }
    };
    let all: Vec<Under> = cases().into_iter().zip(olds).map(under).collect();
    for Under { case, old, loads } in &all {
        loads.iter().for_each(|load| wait_until(SOON, "requests to who serves before", || answers(load, old) > 20));
        match case.strategy["migrate"].is_object() {
            true => stage.control_of(&format!("{}-2", case.app), &json!({"targetStep": null})),
            false => stage.release(case.app, &format!("{}-2", case.app), "web:2", &json!({})),
        }
    }
    println!("{:12}  requests by the built-in gateway and nginx, failed, switches", "strategy");
    for Under { case, old, loads } in all {
        let (app, floor) = (case.app, case.floor);
        let ended = stage.wait_phase(&format!("{app}-2"), "Healthy");
        let new = format!("{app}-{}-", ended["revision"].as_str().unwrap());
        wait_until(SOON, "no pod of the first", || {
            stage.counts().get(old.trim_end_matches('-')).is_none_or(|count| *count == 0)
        });
        for load in &loads {
            let before = answers(load, &new);
            wait_until(SOON, "requests to the second", || answers(load, &new) > before + 20);
        }
        let tallies: Vec<_> = loads.into_iter().map(Load::end).collect();
        let switches = judge(&recorder, app, floor);
        for tally in &tallies {
            assert!(tally.bad.is_empty(), "{app}: {:?}\n{}\n{}", tally.bad, control.log(), nginx.log());
            let strange = tally.good.keys().find(|pod| !pod.starts_with(&old) && !pod.starts_with(&new));
            assert_eq!(strange, None, "{app} is served by a stranger");
        }
        let requests: Vec<u64> = tallies.iter().map(|it| it.good.values().sum()).collect();
        println!("{app:12} {:6} {:6}  0  {switches}", requests[0], requests[1]);
        assert_eq!(switches, case.switches, "{app}");
    }
}
