//! Envoy's xDS: the processor time of one delivered update, beside go-control-plane fed the same events.
//!
//! Both follow the same simulated API server and serve the same clients: streams of increments, each on a connection of
//! its own and on 1–10 pools. An update is an assignment in a client's hands. At the end every client must have, endpoint by
//! endpoint, what was written last.

#![allow(clippy::disallowed_methods, reason = "changes are written at a pace")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::bed::process::Process;
use crate::bed::{WorkDir, free_port, source, wait_until};
use crate::feed::{Feed, Kind};
use crate::report::{line, target, title};
use crate::services::{Service, Services};
use crate::subject::Subject;
use crate::system;
use crate::xds_client::messages::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use crate::xds_client::{ASSIGNMENT, DELTA_EDS, begin, endpoints, node};

const SERVICES: usize = 3_000;
const ENDPOINTS: usize = 20;
const CLIENTS: usize = 1_000;
const CHANGES: usize = 4_000;
/// Changes a second.
const RATE: usize = 200;
const PATIENCE: Duration = Duration::from_secs(120);

/// go-control-plane over a feed.
struct Other {
    process: Process,
    address: SocketAddr,
    feed: Feed,
    _files: WorkDir,
}

/// What clients have.
#[derive(Default)]
struct Received {
    /// Assignments that came.
    updates: AtomicUsize,
    /// By client and pool: `ADDRESS STATE` of each endpoint, sorted.
    has: Mutex<BTreeMap<(usize, String), Vec<String>>>,
}

/// Measures both and compares them. `scale` divides everything.
pub fn run(scale: usize) {
    title("EDS over gRPC by increments: processor time of an update delivered");
    let changes = CHANGES / scale;
    println!(
        "{} pools of {ENDPOINTS} endpoints, {} streams on 1-10 pools each, {changes} changes at {RATE}/s\n",
        SERVICES / scale,
        CLIENTS / scale
    );
    let own = {
        let services = Arc::new(Services::new(SERVICES / scale, ENDPOINTS));
        let subject = Subject::start(Kind::Simulator, &services);
        measure("Tidegate", subject.address, subject.tidegate.pid(), &subject.feed, &services, scale)
    };
    let other = {
        let services = Arc::new(Services::new(SERVICES / scale, ENDPOINTS));
        let other = Other::start(&services);
        measure("go-control-plane", other.address, other.process.id(), &other.feed, &services, scale)
    };
    let ratio = own / other;
    line("Tidegate beside go-control-plane", format!("{ratio:.2}  {}", target(ratio, 1.0)));
}

/// Processor time of an update, in microseconds.
fn measure(name: &str, address: SocketAddr, pid: u32, feed: &Feed, services: &Arc<Services>, scale: usize) -> f64 {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let received = Arc::new(Received::default());
    let mut wanted: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for client in 0..CLIENTS / scale {
        let mut of: Vec<usize> = (0..=client % 10).map(|at| (client * 7 + at * 911) % services.len()).collect();
        of.sort_unstable();
        of.dedup();
        let names = of.iter().map(|number| services.get(*number).pool()).collect();
        runtime.spawn(follow(address, client, names, received.clone()));
        wanted.insert(client, of);
    }
    let is_current = || {
        let has = received.has.lock().unwrap();
        wanted.iter().all(|(client, of)| {
            of.iter().all(|number| {
                let service = services.get(*number);
                has.get(&(*client, service.pool())) == Some(&service.endpoints())
            })
        })
    };
    wait_until(PATIENCE, "what there is at first", is_current);
    let mut waited_for: Vec<usize> = wanted.values().flatten().copied().collect();
    waited_for.sort_unstable();
    waited_for.dedup();
    let (cpu, updates, began) = (system::cpu_time(pid), received.updates.load(Ordering::SeqCst), Instant::now());
    for change in 0..CHANGES / scale {
        let due = began + Duration::from_secs_f64(change as f64 / RATE as f64);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        feed.write(services, waited_for[change * 37 % waited_for.len()], Service::step);
    }
    wait_until(PATIENCE, "the last state of every pool in every client", is_current);
    let cpu = system::cpu_time(pid) - cpu;
    let updates = received.updates.load(Ordering::SeqCst) - updates;
    let each = cpu.as_secs_f64() * 1e6 / updates as f64;
    line(name, format!("{each:.1} µs an update, {updates} updates, {:.2} s", cpu.as_secs_f64()));
    each
}

/// One stream, until the bench ends it.
async fn follow(address: SocketAddr, client: usize, names: Vec<String>, received: Arc<Received>) {
    let first = DeltaDiscoveryRequest {
        node: node(&format!("edge-{client}")),
        type_url: ASSIGNMENT.to_owned(),
        resource_names_subscribe: names,
        ..DeltaDiscoveryRequest::default()
    };
    let (requests, mut responses) =
        begin::<_, DeltaDiscoveryResponse>(address, DELTA_EDS, None, first).await.expect("a stream");
    while let Ok(Some(response)) = responses.message().await {
        let answer = DeltaDiscoveryRequest {
            type_url: ASSIGNMENT.to_owned(),
            response_nonce: response.nonce,
            ..DeltaDiscoveryRequest::default()
        };
        let _ = requests.send(answer).await;
        let mut has = received.has.lock().unwrap();
        for resource in &response.resources {
            let (name, lines) = endpoints(&resource.resource);
            // Without their ports they sort otherwise.
            let mut lines: Vec<String> = lines.iter().map(|line| line.replace(":8080 ", " ")).collect();
            lines.sort();
            has.insert((client, name), lines);
        }
        received.updates.fetch_add(response.resources.len(), Ordering::SeqCst);
    }
}

impl Other {
    fn start(services: &Services) -> Self {
        let program = build();
        let feed = Feed::start(Kind::Simulator, services);
        let Feed::Simulator(simulator) = &feed else { unreachable!("it is what was asked for") };
        let kubeconfig: serde_json::Value = serde_json::from_str(&simulator.kubeconfig()).unwrap();
        let files = WorkDir::new("go-control-plane");
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let mut command = Command::new(program);
        command.args(["-api", kubeconfig["clusters"][0]["cluster"]["server"].as_str().unwrap()]);
        command.args(["-listen", &address.to_string()]);
        let process = Process::start(&command, files.path(), "go-control-plane");
        wait_until(PATIENCE, "go-control-plane", || process.stdout().starts_with(b"ready"));
        Self { process, address, feed, _files: files }
    }
}

/// Builds the Go program, for which Go keeps what does not change.
fn build() -> std::path::PathBuf {
    let program = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("go-control-plane");
    let mut command = Command::new("go");
    command.current_dir(source("../benches/discovery/go-control-plane"));
    command.args(["build", "-mod=readonly", "-trimpath", "-o"]).arg(&program).arg(".");
    let output = command.output().expect("go, for the bench beside go-control-plane");
    assert!(output.status.success(), "go build: {}", String::from_utf8_lossy(&output.stderr));
    program
}
