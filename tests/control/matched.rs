//! Requests that go to a new revision before others do: a canary by header, a preview by cookie or by a second host, under traffic
//! through the built-in gateway, here and behind a relay.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::bed::{Tidegate, free_port, wait_until};
use crate::pods::Pods;
use crate::support::{Control, Gateway, SOON, Stage, path, template};
use crate::traffic::{Load, Recorder, Tally, judge, request};

const REPLICAS: u32 = 2;
const HEADER: &str = "x-canary: yes";
const COOKIE: &str = "cookie: theme=dark; beta=1";
/// A second host that the gateway's route takes as well, as it is asked for by people.
const HOST: &str = "host: Preview.example:80";

/// An App under way: its first revision serves, and its second is asked for.
struct Under {
    stage: Stage,
    control: Control,
    _pods: Pods,
    /// A relay with a gateway of its own, and where that listens.
    _edge: Tidegate,
    behind: SocketAddr,
    recorder: Recorder,
    /// Clients with nothing special, from before the second revision on.
    plain: Load,
    /// The beginning of the names of the pods of the first revision.
    old: String,
}

// === impl Under ===

impl Under {
    fn start(strategy: &Value) -> Self {
        let stage = Stage::with_gateway();
        let control = stage.control();
        let pods = Pods::serve(&stage);
        stage.create_app("web", REPLICAS, strategy, &template());
        stage.release("web", "web-1", "web:1", &json!({}));
        let old = format!("web-{}-", stage.wait_phase("web-1", "Healthy")["revision"].as_str().unwrap());
        let gateway = stage.gateway.unwrap();
        wait_until(SOON, "a gateway that serves the first revision", || request(gateway, &mut None, 1, "").is_ok());
        let behind = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let edge = stage.edge_at("node-1/edge", behind);
        let pool = format!("app/{}/web/http", stage.namespace);
        let serves = |it: &Value| it["name"] == "node-1/edge" && it["pools"][&pool]["applied"].is_i64();
        let known = || stage.gateways()["gateways"].as_array().unwrap().iter().any(serves);
        wait_until(SOON, "a relay's gateway that a switch waits for", known);
        let recorder = Recorder::start(&stage);
        let plain = Load::start(gateway, "");
        stage.release("web", "web-2", "web:2", &json!({}));
        Self { stage, control, _pods: pods, _edge: edge, behind, recorder, plain, old }
    }

    /// Waits until the second release stands at a step of this kind; gives the beginning of its pods' names.
    fn at(&self, action: &str) -> String {
        let status = self.stage.wait("web-2", action, |status| {
            let at = usize::try_from(status["currentStepIndex"].as_u64().unwrap_or_default()).unwrap();
            status["plan"][at]["action"] == action && status["phase"] == "Paused"
        });
        format!("web-{}-", status["revision"].as_str().unwrap())
    }

    /// The members of the policy that have a match.
    fn matched(&self) -> Vec<Value> {
        let policy = self.stage.cluster.client().get(&path(&self.stage.namespace, "trafficpolicies", "web"));
        let members = policy["spec"]["members"].as_array().unwrap().clone();
        members.into_iter().filter(|it| it["match"].is_object()).collect()
    }

    /// Ends all clients: none of them failed, and none of those with nothing special was answered by a pod that is not of these.
    fn end(self, of: &[&str]) {
        let switches = judge(&self.recorder, "web", usize::try_from(REPLICAS).unwrap());
        let tally = self.plain.end();
        assert!(tally.bad.is_empty(), "{:?}\n{}", tally.bad, self.control.log());
        let strange: Vec<_> = tally.good.keys().filter(|pod| !of.iter().any(|of| pod.starts_with(of))).collect();
        assert!(strange.is_empty(), "{strange:?}");
        println!("{} requests, 0 failed, {switches} switches", tally.good.values().sum::<u64>());
    }
}

/// The pods that answer clients with this line from now on.
fn answering(gateway: SocketAddr, line: &'static str) -> Tally {
    let load = Load::start(gateway, line);
    wait_until(SOON, "answers", || load.so_far().good.values().sum::<u64>() > 100 || !load.so_far().bad.is_empty());
    load.end()
}

/// All that answer these clients are of one revision, and none fails.
fn all_of(gateway: SocketAddr, line: &'static str, revision: &str) {
    let Tally { good, bad } = answering(gateway, line);
    assert!(bad.is_empty(), "{line:?}: {bad:?}");
    assert!(good.keys().all(|pod| pod.starts_with(revision)), "{line:?} is not answered by {revision} alone: {good:?}");
}

#[test]
fn a_canary_by_header_gets_the_requests_that_match_here_and_behind_a_relay_and_no_others() {
    let requests = json!({
        "headers": [{"name": "X-Canary", "values": ["yes"]}], "cookies": [{"name": "beta", "values": ["1"]}],
    });
    let steps = json!([{"setMatch": requests, "pauseSeconds": 0}, {"share": 50, "pauseSeconds": 0}]);
    let under = Under::start(&json!({"canary": {"scaleDownDelaySeconds": 1, "steps": steps}}));
    let new = under.at("Pause");
    // Everybody has acknowledged it: from now on each request that matches goes there, and none but those.
    let behind = under.behind;
    for gateway in [under.stage.gateway.unwrap(), behind] {
        all_of(gateway, HEADER, &new);
        all_of(gateway, COOKIE, &new);
        all_of(gateway, "x-canary: no", &under.old);
    }
    assert!(under.plain.so_far().good.keys().all(|pod| pod.starts_with(&under.old)), "a request that does not match");
    assert_eq!((under.matched().len(), &under.matched()[0]["share"]), (1, &json!(0)));
    let told = under.stage.run(&["status", "web"]);
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.contains("SetMatch header X-Canary=yes or cookie beta=1"), "{told}");
    // With a share as well: those that match still all go there.
    let next = under.stage.status("web-2")["currentStepIndex"].as_u64().unwrap() + 1;
    under.stage.control_of("web-2", &json!({"targetStep": next + 5}));
    under.stage.wait("web-2", "at half of the traffic", |status| {
        status["currentStepIndex"].as_u64().unwrap() >= next + 5 && status["phase"] == "Paused"
    });
    all_of(under.stage.gateway.unwrap(), HEADER, &new);
    let both = answering(behind, "");
    assert!(both.good.keys().any(|pod| pod.starts_with(&under.old)) && both.bad.is_empty(), "{both:?}");
    assert!(both.good.keys().any(|pod| pod.starts_with(&new)), "{both:?}");
    under.stage.control_of("web-2", &json!({"targetStep": null, "promoteFull": true}));
    under.stage.wait_phase("web-2", "Healthy");
    assert_eq!(under.matched(), [] as [Value; 0]);
    all_of(behind, "", &new);
    let old = under.old.clone();
    under.end(&[&old, &new]);
}

#[test]
fn a_preview_shows_the_new_revision_to_who_asks_for_it_until_the_switch_or_an_abort() {
    let preview = json!({"cookies": [{"name": "beta", "values": ["1"]}], "hosts": ["preview.example"]});
    let under = Under::start(&json!({"blueGreen": {"approval": true, "scaleDownDelaySeconds": 1, "preview": preview}}));
    let gateway = under.stage.gateway.unwrap();
    let new = under.at("Approval");
    for gateway in [gateway, under.behind] {
        all_of(gateway, COOKIE, &new);
        all_of(gateway, HOST, &new);
        all_of(gateway, HEADER, &under.old);
        all_of(gateway, "host: other.preview.example", &under.old);
    }
    let told = under.stage.run(&["status", "web"]);
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.contains("SetMatch host preview.example or cookie beta=1"), "{told}");
    let preview = Load::start(gateway, HOST);
    wait_until(SOON, "previews", || preview.so_far().good.values().sum::<u64>() > 100);
    under.stage.control_of("web-2", &json!({"abort": true}));
    under.stage.wait_phase("web-2", "Degraded");
    let of_old = || {
        let good = preview.so_far().good;
        good.iter().filter(|(pod, _)| pod.starts_with(&under.old)).map(|(_, it)| it).sum::<u64>()
    };
    wait_until(SOON, "the revision before", || of_old() > 100);
    assert_eq!(under.matched(), [] as [Value; 0]);
    all_of(gateway, COOKIE, &under.old);
    all_of(under.behind, HOST, &under.old);
    let tally = preview.end();
    assert!(tally.bad.is_empty(), "{:?}", tally.bad);
    // The same again, to its end.
    under.stage.release("web", "web-3", "web:3", &json!({}));
    let third = under.stage.wait("web-3", "waiting for an Approval", |status| {
        status["message"].as_str().is_some_and(|it| it.contains("no live Approval of web-3"))
    });
    let third = format!("web-{}-", third["revision"].as_str().unwrap());
    all_of(gateway, COOKIE, &third);
    all_of(under.behind, HOST, &third);
    let approved = under.stage.run(&["approve", "web"]);
    assert!(approved.status.success(), "{approved:?}");
    under.stage.wait_phase("web-3", "Healthy");
    assert_eq!(under.matched(), [] as [Value; 0]);
    all_of(gateway, "", &third);
    let old = under.old.clone();
    under.end(&[&old, &third]);
}

#[test]
fn requests_are_told_apart_by_the_built_in_gateway_alone_and_where_another_serves_that_is_said() {
    let stage = Stage::new();
    let control = stage.control();
    let preview = json!({"headers": [{"name": "x-canary", "values": ["yes"]}]});
    let strategy = json!({"blueGreen": {"approval": true, "scaleDownDelaySeconds": 0, "preview": preview}});
    stage.create_app("web", 1, &strategy, &template());
    stage.release("web", "web-1", "web:1", &json!({}));
    stage.wait_phase("web-1", "Healthy");
    let gateway = Gateway::start(&stage, "edge-1", "web");
    wait_until(SOON, "a gateway that asks", || stage.gateways()["gateways"][0]["name"] == "edge-1");
    stage.release("web", "web-2", "web:2", &json!({}));
    let refused = stage.wait("web-2", "refused", |status| status["failure"].is_object());
    let why = refused["failure"]["reason"].as_str().unwrap();
    assert!(why.contains("edge-1 gets this traffic as well"), "{why}\n{}", control.log());
    for body in gateway.got() {
        assert_eq!(body.get("matched"), None, "{body:#}");
    }
    // Who takes the responsibility goes on; then that gateway is not waited for.
    stage.control_of("web-2", &json!({"ignoreGateways": ["edge-1"], "retries": 1}));
    let told = |body: &Value| body["matched"][0]["match"] == preview;
    wait_until(SOON, "a body with a part for some requests", || gateway.got().iter().any(told));
    wait_until(SOON, "an approval", || stage.run(&["approve", "web"]).status.success());
    stage.wait_phase("web-2", "Healthy");
    for body in gateway.got() {
        assert_eq!(
            body["endpoints"].as_array().map(Vec::len),
            Some(1),
            "it never hears of the other as its own: {body:#}"
        );
    }
}

#[test]
fn the_members_of_an_apps_policy_are_the_controllers_and_what_others_write_there_is_put_right() {
    let stage = Stage::new();
    let _control = stage.control();
    stage.create_app("web", 1, &json!({"blueGreen": {"scaleDownDelaySeconds": 0}}), &template());
    stage.release("web", "web-1", "web:1", &json!({}));
    stage.wait_phase("web-1", "Healthy");
    let it = path(&stage.namespace, "trafficpolicies", "web");
    let members = stage.cluster.client().get(&it)["spec"]["members"].clone();
    let mut mine = members.clone();
    let own = json!({"pool": "vm/mine", "share": 0, "match": {"cookies": [{"name": "mine", "values": ["1"]}]}});
    mine.as_array_mut().unwrap().push(own);
    stage.cluster.client().patch(&it, &json!({"spec": {"members": mine, "hosts": ["mine.example"]}}));
    let now = || stage.cluster.client().get(&it)["spec"].clone();
    wait_until(SOON, "the members as they were", || now()["members"] == members);
    assert_eq!(now()["hosts"], json!(["mine.example"]), "what the App says nothing of is others'");
}
