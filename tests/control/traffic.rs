//! Deploys under traffic: requests go through the built-in gateway to pods that really serve, and everything that happens at
//! the API server is recorded.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};

use crate::bed::wait_until;
use crate::kube::Watching;
use crate::pods::{Pods, pace};
use crate::support::{SOON, Stage, template};

/// Clients, each with a connection that it keeps.
const CLIENTS: usize = 8;
/// Between two requests of one client.
const PAUSE: Duration = Duration::from_millis(15);

/// Clients of the gateway.
struct Load {
    tally: Arc<Mutex<Tally>>,
    end: Arc<AtomicBool>,
    clients: Vec<JoinHandle<()>>,
}

#[derive(Clone, Debug, Default)]
struct Tally {
    /// By pod.
    good: BTreeMap<String, u64>,
    bad: Vec<String>,
}

/// Everything that happened to an App's endpoints, traffic, counts and release, in the order in which the API server says so.
pub(crate) struct Recorder {
    streams: Vec<(&'static str, Watching)>,
    /// The version of what was there when it began.
    began: u64,
}

/// One event, by the version that it made.
#[derive(Debug)]
struct Event {
    version: u64,
    kind: &'static str,
    deleted: bool,
    object: Value,
}

// === impl Load ===

impl Load {
    fn start(gateway: SocketAddr) -> Self {
        let (tally, end) = (Arc::<Mutex<Tally>>::default(), Arc::new(AtomicBool::new(false)));
        let client = |number: usize| {
            let (tally, end) = (Arc::clone(&tally), Arc::clone(&end));
            std::thread::spawn(move || {
                let mut connection = None;
                while !end.load(Ordering::SeqCst) {
                    let answer = request(gateway, &mut connection, number);
                    let mut tally = tally.lock().unwrap();
                    match answer {
                        Ok(pod) => *tally.good.entry(pod).or_default() += 1,
                        Err(why) => {
                            tally.bad.push(why);
                            connection = None;
                        }
                    }
                    drop(tally);
                    pace(PAUSE);
                }
            })
        };
        let clients = (0..CLIENTS).map(client).collect();
        Self { tally, end, clients }
    }

    fn so_far(&self) -> Tally {
        self.tally.lock().unwrap().clone()
    }

    /// Waits for every answer.
    fn end(mut self) -> Tally {
        self.end.store(true, Ordering::SeqCst);
        for client in self.clients.drain(..) {
            client.join().unwrap();
        }
        self.so_far()
    }
}

/// The name of the pod that answered. Every third request may not be sent twice.
fn request(gateway: SocketAddr, connection: &mut Option<TcpStream>, number: usize) -> Result<String, String> {
    let told = |what: &str, error: std::io::Error| format!("{what}: {error}");
    let stream = match connection {
        Some(stream) => stream,
        None => {
            let stream = TcpStream::connect(gateway).map_err(|e| told("connect", e))?;
            stream.set_read_timeout(Some(Duration::from_secs(20))).map_err(|e| told("timeout", e))?;
            connection.insert(stream)
        }
    };
    let method = if number.is_multiple_of(3) { "POST" } else { "GET" };
    let head = format!("{method} / HTTP/1.1\r\nhost: web.example\r\ncontent-length: 0\r\n\r\n");
    stream.write_all(head.as_bytes()).map_err(|e| told("send", e))?;
    let mut answer = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&answer).to_lowercase();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
            if body.len() >= length.trim().parse::<usize>().unwrap() {
                return match head.starts_with("http/1.1 200 ") {
                    true => Ok(body.to_owned()),
                    false => Err(text),
                };
            }
        }
        let mut chunk = [0; 2048];
        let read = stream.read(&mut chunk).map_err(|e| told("read", e))?;
        if read == 0 {
            return Err(format!("closed after {text:?}"));
        }
        answer.extend_from_slice(&chunk[..read]);
    }
}

// === impl Recorder ===

impl Recorder {
    pub(crate) fn start(stage: &Stage) -> Self {
        let namespace = &stage.namespace;
        let watch = |kind, path: String| (kind, stage.cluster.client().watch(&path));
        let ours = |plural: &str| crate::support::path(namespace, plural, "");
        let mut recorder = Self {
            began: 0,
            streams: vec![
                watch("slice", format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices")),
                watch("deployment", format!("/apis/apps/v1/namespaces/{namespace}/deployments")),
                watch("policy", ours("trafficpolicies")),
                watch("release", ours("releases")),
            ],
        };
        recorder.began = recorder.events().last().unwrap().version;
        recorder
    }

    /// All events so far, of all kinds, by their versions: etcd counts writes one by one.
    fn events(&self) -> Vec<Event> {
        let version = |it: &Value| it["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
        let of = |(kind, watching): &(&'static str, Watching)| {
            let events = watching.events().into_iter();
            let kind = *kind;
            let event = move |it: Value| {
                let (deleted, object) = (it["type"] == "DELETED", it["object"].clone());
                Event { version: version(&object), kind, deleted, object }
            };
            events.map(event).collect::<Vec<_>>()
        };
        let mut all: Vec<Event> = self.streams.iter().flat_map(of).collect();
        all.sort_by_key(|it| it.version);
        all
    }
}

/// Goes through everything that happened since the recorder began and demands, after each event: of the pods that have traffic by the policy so many
/// are ready; a revision has traffic only after its gate was passed; no Deployment that serves is asked for fewer pods than
/// leave the floor. Gives how often traffic was switched.
pub(crate) fn judge(recorder: &Recorder, app: &str, floor: usize) -> usize {
    let mut slices: BTreeMap<String, (String, BTreeSet<String>)> = BTreeMap::new();
    let (mut shares, mut passed) = (BTreeMap::<String, u64>::new(), BTreeSet::<String>::new());
    let mut switches = 0;
    for event in &recorder.events() {
        let (object, is_judged) = (&event.object, event.version > recorder.began);
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        match event.kind {
            "slice" if event.deleted => drop(slices.remove(&name)),
            "slice" => {
                let service = object["metadata"]["labels"]["kubernetes.io/service-name"].as_str().unwrap();
                let endpoints = object["endpoints"].as_array().into_iter().flatten();
                let ready = endpoints.filter(|it| it["conditions"]["ready"] == true);
                let names = ready.map(|it| it["targetRef"]["name"].as_str().unwrap().to_owned()).collect();
                slices.insert(name.clone(), (service.to_owned(), names));
            }
            "release" => {
                if let Some(revision) = object["status"]["gatePassed"].as_str() {
                    passed.insert(revision.to_owned());
                }
            }
            "policy" => {
                let members = object["spec"]["members"].as_array().unwrap();
                let share = |it: &Value| {
                    let service = it["pool"].as_str().unwrap().split('/').nth(2).unwrap().to_owned();
                    (service, it["share"].as_u64().unwrap())
                };
                let now: BTreeMap<String, u64> = members.iter().map(share).filter(|(_, share)| *share > 0).collect();
                switches += usize::from(is_judged && now != shares);
                shares = now;
                for service in shares.keys().filter(|_| is_judged) {
                    let revision = service.strip_prefix(&format!("{app}-")).unwrap();
                    assert!(passed.contains(revision), "{revision} has traffic before its gate was passed: {object:#}");
                }
            }
            _ => {}
        }
        let in_service: usize =
            slices.values().filter(|(service, _)| shares.contains_key(service)).map(|(_, pods)| pods.len()).sum();
        assert!(
            !is_judged || in_service >= floor,
            "{in_service} pods in service, {floor} demanded, after {} {name}: {shares:?} {slices:?}",
            event.kind
        );
    }
    switches
}

/// One deploy under traffic: gives the tally of it and how often traffic was switched.
fn deploy_under_traffic(replicas: u32, strategy: &Value) -> (Tally, usize, Stage) {
    let stage = Stage::with_gateway();
    let control = stage.control();
    let pods = Pods::serve(&stage);
    stage.create_app("web", replicas, strategy, &template());
    stage.release("web", "web-1", "web:1", &json!({}));
    let first = stage.wait_phase("web-1", "Healthy")["revision"].as_str().unwrap().to_owned();
    let gateway = stage.gateway.unwrap();
    wait_until(SOON, "a gateway that serves the first revision", || request(gateway, &mut None, 1).is_ok());
    let recorder = Recorder::start(&stage);
    let load = Load::start(gateway);
    wait_until(SOON, "requests", || load.so_far().good.values().sum::<u64>() > 100);
    stage.release("web", "web-2", "web:2", &json!({}));
    let second = stage.wait_phase("web-2", "Healthy")["revision"].as_str().unwrap().to_owned();
    // What is left of the first goes, and requests go on.
    wait_until(SOON, "no pod of the first", || stage.counts()[&format!("web-{first}")] == 0);
    let new = format!("web-{second}-");
    let answered = || load.so_far().good.iter().filter(|(pod, _)| pod.starts_with(&new)).map(|(_, it)| it).sum::<u64>();
    let before = answered();
    wait_until(SOON, "requests to the second alone", || answered() > before + 100);
    let tally = load.end();
    let switches = judge(&recorder, "web", usize::try_from(replicas).unwrap());
    assert!(tally.bad.is_empty(), "{:?}\n{}", tally.bad, control.log());
    let old = format!("web-{first}-");
    let (olds, news): (Vec<_>, Vec<_>) = tally.good.keys().partition(|pod| pod.starts_with(&old));
    assert!(!olds.is_empty() && news.len() >= usize::try_from(replicas).unwrap(), "{:?}", tally.good);
    let served = pods.served();
    let by_old = served.iter().filter(|it| it.pod.starts_with(&old)).map(|it| it.at).max().unwrap();
    let last = served.iter().map(|it| it.at).max().unwrap();
    assert!(last > by_old, "the old pods are not the last that were asked");
    (tally, switches, stage)
}

#[test]
fn a_blue_green_deploy_under_traffic_loses_no_request_and_switches_once() {
    let (tally, switches, _) = deploy_under_traffic(4, &json!({"blueGreen": {"scaleDownDelaySeconds": 1}}));
    assert_eq!(switches, 1);
    println!("{} requests, 0 failed", tally.good.values().sum::<u64>());
}

#[test]
fn a_deploy_in_batches_under_traffic_loses_no_request_and_moves_share_by_share() {
    let (tally, switches, _) = deploy_under_traffic(4, &json!({"batch": {"batches": 2, "drainSeconds": 1}}));
    assert_eq!(switches, 2, "one a batch");
    println!("{} requests, 0 failed", tally.good.values().sum::<u64>());
}
