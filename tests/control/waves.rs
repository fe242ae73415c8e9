//! Apps that run in two clusters, each with its own API server, controllers, scheduler and kubelet.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

use crate::bed::{free_port, wait_until};
use crate::kube::{Cluster, Program, Watching};
use crate::support::{Control, Gateway, SOON, Stage, path, ready, template};

/// One test at a time has the second cluster, which it kills or freezes.
fn west() -> (&'static Cluster, MutexGuard<'static, ()>) {
    static ALONE: Mutex<()> = Mutex::new(());
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    (Cluster::shared(1), alone)
}

/// An App `web` with two pods in the first wave and three in the second, whose first release is through.
struct Both {
    stage: Stage,
    control: Control,
    west: &'static Cluster,
    first: String,
    gateway: Gateway,
    _alone: MutexGuard<'static, ()>,
}

fn app(stage: &Stage, spec: &Value) -> Value {
    let mut app = json!({
        "apiVersion": "tidegate.dev/v1alpha1", "kind": "App", "metadata": {"name": "web", "namespace": stage.namespace},
        "spec": {
            "replicas": 2, "template": template(), "port": "http", "strategy": {"blueGreen": {"scaleDownDelaySeconds": 0}},
            "clusters": [{"name": "east"}, {"name": "west", "replicas": 3, "wave": 2}],
        },
    });
    app["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    app
}

impl Both {
    fn start() -> Self {
        let (west, alone) = west();
        let stage = Stage::with_west(west);
        let control = stage.control_over(&stage.cluster.kubeconfig(), "api_timeout_seconds = 1");
        stage.cluster.client().create(&app(&stage, &json!({})));
        stage.release("web", "web-1", "web:1", &json!({}));
        let first = revision(&stage.wait_phase("web-1", "Healthy"));
        let gateway = Gateway::start(&stage, "edge-1", "web");
        wait_until(SOON, "five pods serve", || gateway.got().last().is_some_and(|it| ready(it).len() == 5));
        Self { stage, control, west, first, gateway, _alone: alone }
    }

    /// Wanted pods of a revision: in the first cluster, and in the second.
    fn pods(&self, revision: &str) -> (u64, u64) {
        let name = format!("web-{revision}");
        let of = |counts: BTreeMap<String, u64>| counts.get(&name).copied().unwrap_or_default();
        (of(self.stage.counts()), of(self.stage.counts_in(self.west)))
    }

    /// The clusters in which a revision has traffic.
    fn serving(&self, revision: &str) -> Vec<String> {
        let shares = self.stage.shares("web");
        let ours = shares.iter().filter(|(pool, share)| **share > 0 && pool.contains(&format!("/web-{revision}/")));
        ours.map(|(pool, _)| pool.split('/').next().unwrap().to_owned()).collect()
    }

    fn wait_message(&self, release: &str, words: &str) -> Value {
        self.stage.wait(release, words, |status| status["message"].as_str().is_some_and(|it| it.contains(words)))
    }

    /// At every moment all pods asked for were in service, whichever revision's.
    fn judge(&self) {
        for body in self.gateway.got().iter().skip_while(|it| ready(it).len() < 5) {
            assert!(ready(body).len() >= 5, "{body:#}\n{}", self.control.log());
        }
    }
}

fn revision(status: &Value) -> String {
    status["revision"].as_str().unwrap().to_owned()
}

/// A server at every pod's address, whose pods of the second cluster answer as told.
struct Health {
    port: u16,
    west: Arc<AtomicBool>,
}

impl Health {
    /// Its thread ends with the test process.
    fn start() -> Self {
        use std::io::{Read as _, Write as _};
        let port = free_port();
        let listener = TcpListener::bind(SocketAddr::from(([0, 0, 0, 0], port))).unwrap();
        let west = Arc::new(AtomicBool::new(false));
        let is_well = west.clone();
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let at = stream.local_addr().unwrap().ip().to_string();
                if stream.read(&mut [0; 4096]).unwrap_or_default() == 0 {
                    continue;
                }
                let status =
                    if !at.starts_with("10.245.") || is_well.load(Ordering::SeqCst) { "200 OK" } else { "503 Not Yet" };
                let _ = write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            }
        });
        Self { port, west }
    }
}

/// Whether a Deployment was ever asked for fewer pods than before.
fn lessened(watching: &Watching) -> bool {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    watching.events().iter().any(|event| {
        let object = &event["object"];
        let (name, count) =
            (object["metadata"]["name"].as_str().unwrap(), object["spec"]["replicas"].as_u64().unwrap());
        event["type"] == "DELETED" || counts.insert(name.to_owned(), count).is_some_and(|before| count < before)
    })
}

#[test]
fn a_release_goes_through_two_clusters_in_waves_and_each_gets_traffic_after_its_own_gate() {
    let both = Both::start();
    let (stage, health) = (&both.stage, Health::start());
    assert_eq!((both.pods(&both.first), both.serving(&both.first).len()), ((2, 3), 2));
    let gate = json!({"gate": {"http": {"path": "/health", "port": health.port}}});
    stage.release("web", "web-2", "web:2", &gate);
    let waiting = both.wait_message("web-2", "wave 2 of 2, cluster west: step 3 of");
    let second = revision(&waiting);
    // The first cluster is through; in the second all pods are there, and none has traffic.
    assert_eq!((both.pods(&second), both.pods(&both.first)), ((2, 3), (0, 3)));
    assert_eq!((both.serving(&second), both.serving(&both.first)), (vec!["east".to_owned()], vec!["west".to_owned()]));
    let of = |it: &Value| {
        (it["name"].clone(), it["wave"].clone(), it["phase"].clone(), it["ready"].clone(), it["desired"].clone())
    };
    wait_until(SOON, "both clusters told of", || {
        let clusters: Vec<_> = stage.status("web-2")["clusters"].as_array().unwrap().iter().map(of).collect();
        clusters
            == [
                (json!("east"), json!(1), json!("Healthy"), json!(2), json!(2)),
                (json!("west"), json!(2), json!("Progressing"), json!(3), json!(3)),
            ]
    });
    let told = String::from_utf8(stage.run(&["status", "web"]).stdout).unwrap();
    assert!(told.lines().any(|it| it.starts_with("east") && it.contains("Healthy")), "{told}");
    assert!(told.lines().any(|it| it.starts_with("west") && it.contains("Progressing")), "{told}");
    health.west.store(true, Ordering::SeqCst);
    stage.wait_phase("web-2", "Healthy");
    wait_until(SOON, "no old pod", || both.pods(&both.first) == (0, 0));
    assert_eq!((both.pods(&second), both.serving(&second)), ((2, 3), vec!["east".to_owned(), "west".to_owned()]));
    both.judge();
    // Settled is silent.
    let client = stage.cluster.client();
    let told = || client.get(&path(&stage.namespace, "apps", "web"))["status"].clone();
    wait_until(SOON, "an App that tells of the end", || {
        told()["release"] == "web-2 Healthy" && told()["readyReplicas"] == 5
    });
    let metric = |name: &str| both.control.metric(name).unwrap();
    let (looks, writes) = ("tidegate_control_reconciles_total", "tidegate_control_writes_total");
    wait_until(SOON, "nothing is written", || {
        let (before, from) = (metric(writes), metric(looks));
        for round in 0..4 {
            let note = json!({"metadata": {"annotations": {"round": round.to_string()}}});
            client.patch(&path(&stage.namespace, "apps", "web"), &note);
            wait_until(SOON, "a look", || metric(looks) > from + f64::from(round));
        }
        metric(writes) == before
    });
    assert_eq!(metric("tidegate_control_cluster_reachable"), 1.0);
    // Its count in one cluster is followed there; and with the App goes what is in the other, where nothing owns it.
    let clusters = json!([{"name": "east"}, {"name": "west", "replicas": 4, "wave": 2}]);
    client.patch(&path(&stage.namespace, "apps", "web"), &json!({"spec": {"clusters": clusters}}));
    wait_until(SOON, "four pods", || both.pods(&second) == (2, 4));
    client.delete(&path(&stage.namespace, "apps", "web"));
    wait_until(SOON, "no App", || client.try_get(&path(&stage.namespace, "apps", "web")).unwrap().is_none());
    assert_eq!(both.stage.counts_in(both.west), BTreeMap::new());
}

#[test]
fn a_cluster_whose_api_server_is_frozen_or_gone_pauses_the_release_and_costs_no_pod() {
    let both = Both::start();
    let (stage, health) = (&both.stage, Health::start());
    let gate = json!({"gate": {"http": {"path": "/health", "port": health.port}}});
    let deployments =
        stage.cluster.client().watch(&format!("/apis/apps/v1/namespaces/{}/deployments", stage.namespace));
    // Frozen before the first wave has switched: it stays where it is, and so does the other cluster.
    both.west.freeze(Program::ApiServer);
    stage.release("web", "web-2", "web:2", &gate);
    let paused = both.wait_message("web-2", "cluster west cannot be reached");
    let message = paused["message"].as_str().unwrap();
    for words in ["since 20", "nothing is switched or scaled down in any cluster", "it goes on by itself then"] {
        assert!(message.contains(words), "{message}");
    }
    let reachable = || both.control.metric("tidegate_control_cluster_reachable");
    wait_until(SOON, "a cluster that is known to be away", || reachable() == Some(0.0));
    assert!(!lessened(&deployments), "{:#?}", deployments.events());
    assert_eq!(both.serving(&both.first).len(), 2);
    both.west.thaw(Program::ApiServer);
    let second = revision(&both.wait_message("web-2", "wave 2 of 2, cluster west: step 3 of"));

    // Killed in the second wave: the first keeps what it has, also when people want to go back.
    both.west.kill(Program::ApiServer);
    let paused = stage.wait("web-2", "Paused for west", |status| {
        status["phase"] == "Paused" && status["clusters"][1]["unreachable"]["since"].is_string()
    });
    assert_eq!(paused["clusters"][0]["phase"], "Healthy", "{paused:#}");
    let told = String::from_utf8(stage.run(&["status", "web"]).stdout).unwrap();
    assert!(told.lines().any(|it| it.starts_with("west") && it.contains("unreachable")), "{told}");
    stage.control_of("web-2", &json!({"abort": true}));
    wait_until(SOON, "old pods beside the new", || stage.counts().values().all(|count| *count == 2));
    assert_eq!(both.serving(&second), ["east"]);
    both.west.run(Program::ApiServer);
    // It is back, and so is what ran before, in both.
    stage.wait_phase("web-2", "Degraded");
    wait_until(SOON, "no new pod", || both.pods(&second) == (0, 0));
    assert_eq!((both.pods(&both.first), both.serving(&both.first).len(), both.serving(&second).len()), ((2, 3), 2, 0));
    both.judge();
}

#[test]
fn an_abort_in_the_second_wave_goes_back_in_both_clusters() {
    let both = Both::start();
    let (stage, health) = (&both.stage, Health::start());
    let gate = json!({"gate": {"http": {"path": "/health", "port": health.port}}});
    stage.release("web", "web-2", "web:2", &gate);
    let second = revision(&both.wait_message("web-2", "wave 2 of 2, cluster west: step 3 of"));
    assert_eq!((both.pods(&both.first), both.serving(&second)), ((0, 3), vec!["east".to_owned()]));
    let aborted = stage.run(&["abort", "web", "--wait"]);
    assert!(aborted.status.success(), "{}", String::from_utf8_lossy(&aborted.stderr));
    let told = String::from_utf8_lossy(&aborted.stdout).into_owned();
    assert!(told.contains("new pods east 0/2 (Degraded), west 0/3 (Degraded)"), "{told}");
    assert_eq!((both.pods(&both.first), both.pods(&second)), ((2, 3), (0, 0)));
    assert_eq!((both.serving(&both.first).len(), both.serving(&second).len()), (2, 0));
    both.judge();
}

#[test]
fn clusters_that_do_not_go_with_an_app_are_refused() {
    let (west, _alone) = west();
    let stage = Stage::with_west(west);
    let client = stage.cluster.client();
    for (spec, why) in [
        (json!({"routing": "Service"}), "clusters go without routing Service"),
        (json!({"strategy": {"migrate": {"from": "vm/web", "steps": [{"share": 50}]}}}), "clusters go without"),
        (json!({"clusters": [{"name": "east"}, {"name": "east"}]}), "Duplicate"),
        (json!({"clusters": [{"name": "east", "replicas": 0}]}), "replicas"),
        (json!({"clusters": [{"name": "east", "wave": 17}]}), "wave"),
    ] {
        let refused = client.try_create(&app(&stage, &spec)).unwrap_err().0;
        assert!(refused.contains(why), "{spec}: {refused}");
    }
    client.create(&app(&stage, &json!({})));
    let emptied = client.try_patch(&path(&stage.namespace, "apps", "web"), &json!({"spec": {"clusters": []}}));
    assert!(emptied.unwrap_err().0.contains("keeps one at least"));
}
