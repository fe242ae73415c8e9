//! Hooks of pods as the real API server has them: the test is the kubelet of these pods. It runs the very commands that stand
//! in them, asks the very probes, and shows a pod as ready only when they say so.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::bed::process::Process;
use crate::bed::{WorkDir, http, poll, wait_until};
use crate::support::{SOON, Stage, path, template};

/// Whom hooks ask: it notes each request, and refuses those to `/warm` until it is told otherwise.
struct Asked {
    at: SocketAddr,
    warm: Arc<AtomicBool>,
    /// What was asked and answered well, and when first.
    noted: Arc<Mutex<BTreeMap<String, Instant>>>,
}

/// The kubelet of one namespace's pods.
struct Kubelet<'a> {
    stage: &'a Stage,
    asked: &'a Asked,
    files: WorkDir,
    sidecars: BTreeMap<String, Process>,
    /// The application of each pod: it listens, and no more.
    apps: BTreeMap<String, TcpListener>,
    ready: BTreeSet<String>,
}

// === impl Asked ===

impl Asked {
    /// In the network of pods.
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let (warm, noted) = (Arc::new(AtomicBool::new(false)), Arc::<Mutex<BTreeMap<String, Instant>>>::default());
        let it = Self { at, warm: Arc::clone(&warm), noted: Arc::clone(&noted) };
        // It ends with the process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
                    head.push(byte[0]);
                }
                let head = String::from_utf8_lossy(&head).into_owned();
                let asked = head.split(" HTTP/").next().unwrap_or_default().to_owned();
                let good = !asked.contains("/warm/") || warm.load(Ordering::SeqCst);
                if good {
                    noted.lock().unwrap().entry(asked).or_insert_with(Instant::now);
                }
                let status = if good { "200 OK" } else { "503 Service Unavailable" };
                let _ = write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            }
        });
        it
    }

    fn at(&self, what: &str) -> Option<Instant> {
        self.noted.lock().unwrap().get(what).copied()
    }
}

// === impl Kubelet ===

impl<'a> Kubelet<'a> {
    fn new(stage: &'a Stage, asked: &'a Asked) -> Self {
        let (sidecars, apps, ready) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        Self { stage, asked, files: WorkDir::new("kubelet"), sidecars, apps, ready }
    }

    fn pods(&self) -> Vec<Value> {
        let all = self.stage.cluster.client().get(&format!("/api/v1/namespaces/{}/pods", self.stage.namespace));
        all["items"].as_array().unwrap().clone()
    }

    fn show(&self, pod: &str, state: &str) {
        let path = format!("/api/v1/namespaces/{}/pods/{pod}", self.stage.namespace);
        let _ =
            self.stage.cluster.client().try_patch(&path, &json!({"metadata": {"annotations": {"bed/state": state}}}));
    }

    /// One look at every pod: its sidecar runs once it has an address, its application after that, and it is ready when its
    /// probe says so.
    fn look(&mut self) {
        for pod in self.pods() {
            let name = pod["metadata"]["name"].as_str().unwrap().to_owned();
            if self.ready.contains(&name) {
                continue;
            }
            let Some(address) = pod["status"]["podIP"].as_str() else {
                self.show(&name, "SidecarNotReady");
                continue;
            };
            let sidecar = sidecar_of(&pod);
            if !self.sidecars.contains_key(&name) {
                let words = sidecar["args"].as_array().unwrap().iter().map(|it| it.as_str().unwrap().to_owned());
                let process = self.run(&pod, words.collect(), "serve");
                self.sidecars.insert(name, process);
                continue;
            }
            let probe = &sidecar["readinessProbe"]["httpGet"];
            let at: SocketAddr = format!("{address}:{}", probe["port"]).parse().unwrap();
            let Ok(answer) = http::get(at, probe["path"].as_str().unwrap()) else { continue };
            if let Entry::Vacant(place) = self.apps.entry(name.clone()) {
                assert_eq!(answer.status, 503, "online before the application listens: {}", answer.text());
                place.insert(TcpListener::bind(format!("{address}:8080")).unwrap());
                continue;
            }
            if answer.status == 200 {
                let warmed = self.asked.at(&format!("POST /warm/{name}"));
                assert!(warmed.is_some(), "{name} would be ready before its hook has ended well");
                self.show(&name, "Ready");
                self.ready.insert(name);
            }
        }
    }

    /// Runs a command of a pod's container, with what its arguments name put in as the kubelet does.
    fn run(&self, pod: &Value, words: Vec<String>, what: &str) -> Process {
        let name = pod["metadata"]["name"].as_str().unwrap();
        let values = [
            ("POD_IP", pod["status"]["podIP"].as_str().unwrap()),
            ("POD_NAME", name),
            ("POD_NAMESPACE", self.stage.namespace.as_str()),
        ];
        let put =
            |word: String| values.iter().fold(word, |word, (key, value)| word.replace(&format!("$({key})"), value));
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.args(words.into_iter().map(put)).envs(values);
        Process::start(&command, self.files.path(), &format!("{what}-{name}"))
    }

    fn logs(&self) -> String {
        self.sidecars.iter().map(|(pod, it)| format!("{pod}: {}\n", it.stderr())).collect()
    }
}

fn sidecar_of(pod: &Value) -> Value {
    let init = pod["spec"]["initContainers"].as_array().unwrap();
    init.iter().find(|it| it["name"] == "tidegate-hooks").unwrap().clone()
}

#[test]
fn a_pod_is_ready_only_after_its_hook_and_a_hook_that_hangs_hides_nothing() {
    let stage = Stage::new();
    let control = stage.control();
    let client = stage.cluster.client();
    let mut held = template();
    held["metadata"] = json!({"annotations": {"bed/state": "Hold"}});
    stage.create_app("web", 2, &json!({"blueGreen": {"scaleDownDelaySeconds": 0}}), &held);
    let asked = Asked::start();
    let at = |what: &str| format!("http://{}/{what}/$(POD_NAME)", asked.at);
    let hooks = json!({
        "image": "tidegate:1",
        "beforeOnline": {"http": {"url": at("warm")}, "timeoutSeconds": 300},
        "beforeOffline": {"http": {"url": at("leave"), "method": "PUT"}, "refreshSeconds": 1},
    });
    let policy = json!({"stuckSeconds": 1, "recreate": {"backoffSeconds": 300}});
    client.patch(&path(&stage.namespace, "apps", "web"), &json!({"spec": {"hooks": hooks, "failurePolicy": policy}}));
    let deployed = stage.run(&["deploy", "web", "--image", "web:1"]);
    assert!(deployed.status.success(), "{deployed:?}");
    let mut kubelet = Kubelet::new(&stage, &asked);
    let mut last = Value::Null;
    let told = poll(SOON, || {
        kubelet.look();
        last = stage.status("web-1");
        last["message"].as_str().is_some_and(|it| it.contains("its hook beforeOnline has not ended")).then_some(())
    });
    told.unwrap_or_else(|| panic!("{last:#}\n{}\n{}", control.log(), kubelet.logs()));
    wait_until(SOON, "both applications", || {
        kubelet.look();
        kubelet.apps.len() == 2
    });
    // It hangs: nothing is ready, nothing is hidden, nothing has traffic.
    for pod in kubelet.pods() {
        let status = &pod["status"]["containerStatuses"][0];
        assert!(status["state"]["running"].is_object(), "{status:#}");
        let name = pod["metadata"]["name"].as_str().unwrap();
        let log = format!("/api/v1/namespaces/{}/pods/{name}/log?container=web", stage.namespace);
        assert!(client.text_of(&log).contains("connecting to db"));
    }
    assert!(kubelet.ready.is_empty(), "{}", kubelet.logs());
    assert!(client.try_get(&path(&stage.namespace, "trafficpolicies", "web")).unwrap().is_none());
    asked.warm.store(true, Ordering::SeqCst);
    let healthy = poll(SOON, || {
        kubelet.look();
        (stage.status("web-1")["phase"] == "Healthy").then_some(())
    });
    healthy.unwrap_or_else(|| panic!("{:#}\n{}", stage.status("web-1"), kubelet.logs()));
    assert_eq!(kubelet.ready.len(), 2);
    goes_offline(&kubelet);
}

/// A pod is to go: its containers are told only after it has left, and two periods later.
fn goes_offline(kubelet: &Kubelet<'_>) {
    let pod = kubelet.pods().remove(0);
    let name = pod["metadata"]["name"].as_str().unwrap();
    let sidecar = sidecar_of(&pod);
    assert_eq!(pod["spec"]["terminationGracePeriodSeconds"], 1 + 10 + 2 + 5);
    let stop = &pod["spec"]["containers"][0]["lifecycle"]["preStop"]["httpGet"];
    let at: SocketAddr = format!("{}:{}", pod["status"]["podIP"].as_str().unwrap(), stop["port"]).parse().unwrap();
    let waits = stop["path"].as_str().unwrap().to_owned();
    let left = || kubelet.asked.at(&format!("PUT /leave/{name}"));
    // The kubelet runs the preStop of all containers at once, in no order.
    let told = std::thread::spawn(move || {
        let answer = http::get(at, &waits).unwrap();
        (answer.status, Instant::now())
    });
    assert!(left().is_none() && !told.is_finished(), "who only waits has begun it");
    let command = sidecar["lifecycle"]["preStop"]["exec"]["command"].as_array().unwrap();
    let words = command.iter().skip(1).map(|it| it.as_str().unwrap().to_owned()).collect();
    let mut offline = kubelet.run(&pod, words, "offline");
    assert!(offline.wait(SOON).success(), "{}\n{}", offline.stderr(), kubelet.logs());
    let (status, when) = told.join().unwrap();
    let left = left().unwrap_or_else(|| panic!("{name} has not left\n{}", kubelet.logs()));
    assert_eq!(status, 200);
    assert!(when.duration_since(left) >= Duration::from_secs(2), "{:?}", when.duration_since(left));
}

#[test]
fn what_hooks_cannot_be_is_refused_with_the_field() {
    let stage = Stage::new();
    let client = stage.cluster.client();
    stage.create_app("web", 1, &json!({"rolling": {}}), &template());
    let app = path(&stage.namespace, "apps", "web");
    let refused = |hooks: Value| client.try_patch(&app, &json!({"spec": {"hooks": hooks}})).unwrap_err().0;
    let hook = json!({"command": ["x"]});
    assert!(refused(json!({"image": "t"})).contains("at least one of beforeStart"));
    assert!(refused(json!({"image": "t", "beforeStart": {}})).contains("one of http and command"));
    let both = json!({"command": ["x"], "http": {"url": "http://a/"}});
    assert!(refused(json!({"image": "t", "beforeOnline": both})).contains("one of http and command"));
    assert!(refused(json!({"image": "t", "port": 80, "beforeStart": hook})).contains("spec.hooks.port"));
    let long = json!({"command": ["x"], "timeoutSeconds": 3601});
    assert!(refused(json!({"image": "t", "beforeStart": long})).contains("timeoutSeconds"));
    let long = json!({"refreshSeconds": 301});
    assert!(refused(json!({"image": "t", "beforeOffline": long})).contains("refreshSeconds"));
    // What only the template shows is told by who makes a Release of it.
    client.patch(&app, &json!({"spec": {"hooks": {"image": "t", "port": 8080, "beforeStart": hook}}}));
    let told = stage.run(&["deploy", "web", "--image", "web:1"]);
    assert!(String::from_utf8_lossy(&told.stderr).contains("spec.hooks: port 8080 is a container's own"), "{told:?}");
}
