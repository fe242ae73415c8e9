//! Traffic during deploys: requests go through gateways to pods that really serve, and everything that happens at the API server
//! is recorded and judged.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

use crate::kube::Watching;
use crate::pods::pace;
use crate::support::Stage;

/// Clients, each with a connection that it keeps.
const CLIENTS: usize = 8;
/// Between two requests of one client.
const PAUSE: Duration = Duration::from_millis(15);

/// Clients of the gateway.
pub(crate) struct Load {
    tally: Arc<Mutex<Tally>>,
    end: Arc<AtomicBool>,
    clients: Vec<JoinHandle<()>>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// By pod.
    pub(crate) good: BTreeMap<String, u64>,
    pub(crate) bad: Vec<String>,
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
    /// Clients whose requests have this further line of their head, or none.
    pub(crate) fn start(gateway: SocketAddr, line: &str) -> Self {
        Self::of(gateway, line, CLIENTS, PAUSE)
    }

    /// So many, each with this pause between two requests.
    pub(crate) fn of(gateway: SocketAddr, line: &str, clients: usize, pause: Duration) -> Self {
        let (tally, end) = (Arc::<Mutex<Tally>>::default(), Arc::new(AtomicBool::new(false)));
        let client = |number: usize| {
            let (tally, end, line) = (Arc::clone(&tally), Arc::clone(&end), line.to_owned());
            std::thread::spawn(move || {
                let mut connection = None;
                while !end.load(Ordering::SeqCst) {
                    let answer = request(gateway, &mut connection, number, &line);
                    let mut tally = tally.lock().unwrap();
                    match answer {
                        Ok(pod) => *tally.good.entry(pod).or_default() += 1,
                        Err(why) => {
                            tally.bad.push(why);
                            connection = None;
                        }
                    }
                    drop(tally);
                    pace(pause);
                }
            })
        };
        let clients = (0..clients).map(client).collect();
        Self { tally, end, clients }
    }

    pub(crate) fn so_far(&self) -> Tally {
        self.tally.lock().unwrap().clone()
    }

    /// Waits for every answer.
    pub(crate) fn end(mut self) -> Tally {
        self.end.store(true, Ordering::SeqCst);
        for client in self.clients.drain(..) {
            client.join().unwrap();
        }
        self.so_far()
    }
}

/// The name of the pod that answered a request with this further line, or none; a line that says the host is in the place of
/// `web.example`. Every third client's requests may not be sent twice.
pub(crate) fn request(
    gateway: SocketAddr,
    connection: &mut Option<TcpStream>,
    number: usize,
    line: &str,
) -> Result<String, String> {
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
    let host = if line.starts_with("host: ") { "" } else { "host: web.example\r\n" };
    let end = if line.is_empty() { "" } else { "\r\n" };
    let head = format!("{method} / HTTP/1.1\r\n{host}{line}{end}content-length: 0\r\n\r\n");
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
        recorder.began = recorder.events(|_| true).last().map_or(0, |it| it.version);
        recorder
    }

    /// What was told of one kind after so many events.
    pub(crate) fn told(&self, kind: &str, seen: usize) -> Vec<Value> {
        let of = self.streams.iter().find(|(it, _)| *it == kind);
        of.map(|(_, watching)| watching.after(seen)).unwrap_or_default()
    }

    /// All events so far about objects of these names, of all kinds, by their versions: etcd counts writes one by one.
    fn events(&self, is_wanted: impl Fn(&str) -> bool) -> Vec<Event> {
        let is_wanted = |it: &Value| is_wanted(it["object"]["metadata"]["name"].as_str().unwrap());
        let version = |it: &Value| it["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
        let of = |(kind, watching): &(&'static str, Watching)| {
            let events = watching.all(is_wanted).into_iter();
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

/// Goes through everything that happened to an App since the recorder began and demands, after each event: of the pods that have
/// traffic by the policy so many are ready; a revision has traffic only after its gate was passed; no Deployment is asked for
/// fewer pods before the traffic as it is was acknowledged by everybody; while a release says that it is stopped by a person, it
/// gains no pod and traffic stays. A pool that is no revision's counts as whole. Gives how often traffic was switched.
pub(crate) fn judge(recorder: &Recorder, app: &str, floor: usize) -> usize {
    let start = format!("{app}-");
    let mut slices: BTreeMap<String, (String, BTreeSet<String>)> = BTreeMap::new();
    let (mut shares, mut passed) = (BTreeMap::<String, u64>::new(), BTreeSet::<String>::new());
    let (mut counts, mut generation, mut acknowledged) = (BTreeMap::<String, u64>::new(), 0, 0);
    let (mut switches, mut is_routed, mut stopped) = (0, false, BTreeSet::<String>::new());
    for event in &recorder.events(|name| name == app || name.starts_with(&start)) {
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
            "deployment" if object["metadata"]["labels"]["tidegate.dev/app"] == app && !event.deleted => {
                let count = object["spec"]["replicas"].as_u64().unwrap();
                let had = counts.insert(name.clone(), count).unwrap_or_default();
                assert!(
                    count >= had || acknowledged >= generation || !is_judged,
                    "{name} goes from {had} to {count} while generation {acknowledged} of {generation} is acknowledged"
                );
                assert!(
                    count <= had || !stopped.contains(&name),
                    "{name} goes from {had} to {count}: {stopped:?} stopped"
                );
            }
            "release" if object["spec"]["app"] == app => {
                if let Some(revision) = object["status"]["gatePassed"].as_str() {
                    passed.insert(revision.to_owned());
                }
                let revision = object["status"]["revision"].as_str().unwrap_or_default();
                match is_stopped(object) {
                    true => stopped.insert(format!("{start}{revision}")),
                    false => stopped.remove(&format!("{start}{revision}")),
                };
                let known = object["status"]["traffic"]["generation"].as_i64().unwrap_or_default();
                acknowledged = acknowledged.max(known);
            }
            "policy" if name == app => {
                let members = object["spec"]["members"].as_array().unwrap();
                let now: BTreeMap<String, u64> = members.iter().map(share).filter(|(_, share)| *share > 0).collect();
                assert!(now == shares || stopped.is_empty(), "{shares:?} become {now:?} while {stopped:?} is stopped");
                switches += usize::from(is_judged && now != shares);
                (shares, is_routed) = (now, true);
                generation = object["metadata"]["generation"].as_i64().unwrap();
                let matched = members.iter().filter(|it| it["match"].is_object()).map(|it| share(it).0);
                for side in shares.keys().cloned().chain(matched).filter(|_| is_judged) {
                    let is_passed = side.strip_prefix(&start).is_none_or(|revision| passed.contains(revision));
                    assert!(is_passed, "{side} has traffic before its gate was passed: {object:#}");
                }
            }
            _ => {}
        }
        let is_whole = shares.keys().any(|side| !side.starts_with(&start));
        let pods = slices.values().filter(|(service, _)| shares.contains_key(service)).map(|(_, pods)| pods.len());
        let in_service: usize = pods.sum();
        assert!(
            !is_judged || !is_routed || is_whole || in_service >= floor,
            "{in_service} pods in service, {floor} demanded, after {} {name}: {shares:?} {slices:?}",
            event.kind
        );
    }
    switches
}

/// Whether a release says that it stays where it is, because a person said so.
pub(crate) fn is_stopped(release: &Value) -> bool {
    let says = release["status"]["message"].as_str().is_some_and(|it| it.contains("control.paused is set"));
    says && release["spec"]["control"]["paused"] == true
}

/// A member of a policy: the Service of its revision, or a pool that is none's, and its share.
pub(crate) fn share(member: &Value) -> (String, u64) {
    let pool = member["pool"].as_str().unwrap();
    let side = pool.split('/').nth(2).unwrap_or(pool);
    (side.to_owned(), member["share"].as_u64().unwrap())
}
