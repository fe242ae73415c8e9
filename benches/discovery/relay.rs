//! `cargo bench --bench relay`: thousands of nodes on two hubs, over a real API server.
//!
//! The nodes are simulated: one process with a connection for each, which asks as a relay does (`/v1/delta` with
//! `relay=`), connects anew where a relay would, and throws the pools away. What is measured is the hubs: the watches that they have at the API server, their
//! memory and processor time, and how long a change takes until the last node has it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::cast_precision_loss,
    reason = "a bench: a panic is the report"
)]

#[path = "../../tests/bed/mod.rs"]
mod bed;
#[path = "../../tests/kube/mod.rs"]
mod kube;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bed::{Tidegate, WorkDir, free_port, wait_until};
use clap::Parser;
use kube::Cluster;
use kube::objects::{slice, slice_path};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

const SOON: Duration = Duration::from_secs(120);

/// When a node had something new, or why it gave up.
type Arrival = Result<Instant, String>;

#[derive(Parser)]
#[command(about = "Thousands of nodes on two hubs")]
struct Options {
    /// Nodes, half of them on each hub.
    #[arg(long, default_value_t = 5_000)]
    nodes: usize,
    /// Services, each with 20 endpoints.
    #[arg(long, default_value_t = 300)]
    services: usize,
    /// Changes, one after the other.
    #[arg(long, default_value_t = 20)]
    changes: usize,
    /// What cargo passes to a bench.
    #[arg(long, hide = true)]
    bench: bool,
}

struct Hub {
    tidegate: Tidegate,
    address: SocketAddr,
}

fn main() {
    let options = Options::parse();
    let cluster = Cluster::shared(0);
    let namespace = cluster.namespace("scale");
    println!("# {} nodes on two hubs, {} services of 20 endpoints\n", options.nodes, options.services);
    let ports = json!([{"name": "http", "port": 8080, "protocol": "TCP"}]);
    for service in 0..options.services {
        let (name, endpoints) = (format!("s{service}"), endpoints(service, 0));
        cluster.client().create(&slice(&namespace, &name, &name, &endpoints, &ports));
    }
    // A source watches each kind once; TrafficPolicies are not defined here.
    let kinds = ["endpointslices", "services"];
    let before = kinds.map(|kind| watches(cluster, kind));
    let hubs = [hub(cluster), hub(cluster)];
    for hub in &hubs {
        wait_until(SOON, "a hub in step", || hub.tidegate.get("/readyz/discovery").status == 200);
    }
    let added = || std::array::from_fn::<_, 2, _>(|at| watches(cluster, kinds[at]) - before[at]);
    wait_until(SOON, "the hubs' watches", || added().iter().all(|count| *count >= 2));
    let idle = hubs.each_ref().map(|hub| hub.tidegate.rss_bytes());

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (arrivals, mut arrived) = mpsc::channel(options.nodes * 2);
    let (began, reconnected) = (Instant::now(), Arc::new(AtomicUsize::new(0)));
    for node in 0..options.nodes {
        let address = hubs[node % 2].address;
        runtime.spawn(follow(address, node, arrivals.clone(), reconnected.clone()));
    }
    let first = gather(&runtime, &mut arrived, options.nodes, began);
    let [slices, services] = added();
    println!("watches at the API server:  {slices} of endpointslices and {services} of services by both hubs");
    println!("all pools at all nodes:     {:?} after the first connection", last(&first));
    let waiting = || hubs.iter().map(|hub| hub.tidegate.metric("tidegate_discovery_waiting_requests")).sum::<f64>();
    // A few are always between two requests.
    wait_until(SOON, "waiting nodes", || waiting() >= 0.95 * options.nodes as f64);

    let cpu = || hubs.iter().map(|hub| hub.tidegate.cpu_time()).sum::<Duration>();
    let (start, spent) = (Instant::now(), cpu());
    let mut times = Vec::new();
    let mut lasts = Vec::new();
    for change in 1..=options.changes {
        let service = change % options.services;
        let began = Instant::now();
        let patch = json!({"endpoints": endpoints(service, change)});
        cluster.client().patch(&slice_path(&namespace, &format!("s{service}")), &patch);
        let mut delays = gather(&runtime, &mut arrived, options.nodes, began);
        lasts.push(last(&delays));
        times.append(&mut delays);
    }
    let (elapsed, used) = (start.elapsed(), cpu() - spent);
    times.sort_unstable();
    lasts.sort_unstable();
    println!("a change at a node:         p50 {:?}, p99 {:?}", times[times.len() / 2], times[times.len() * 99 / 100]);
    println!("a change at the last node:  p50 {:?}, worst {:?}", lasts[lasts.len() / 2], lasts[lasts.len() - 1]);
    println!("connections closed idle:    {}, and made anew", reconnected.load(Ordering::Relaxed));
    let updates = options.nodes * options.changes;
    println!("processor time of a hub:    {:?} an update delivered", used / u32::try_from(updates).unwrap());
    println!("                            {:?} of {elapsed:?} for both", used);
    for (hub, idle) in hubs.iter().zip(idle) {
        let (now, peak) = (hub.tidegate.rss_bytes(), hub.tidegate.peak_rss_bytes());
        println!(
            "memory of a hub:            {} MB alone, {} MB with its nodes, {} MB at most",
            idle >> 20,
            now >> 20,
            peak >> 20
        );
    }
}

/// A service's endpoints; the first of them differs from round to round.
fn endpoints(service: usize, round: usize) -> serde_json::Value {
    let address = |at: usize| {
        let last = if at == 0 { 100 + round % 100 } else { at };
        json!({"addresses": [format!("10.244.{}.{}", service % 250, last)], "zone": "a", "nodeName": "node-1"})
    };
    json!((0..20).map(address).collect::<Vec<_>>())
}

fn hub(cluster: &Cluster) -> Hub {
    let (admin, port) = (free_port(), free_port());
    let config = format!(
        "[admin]\nlisten = \"127.0.0.1:{admin}\"\n[discovery]\nlisten = \"127.0.0.1:{port}\"\n\
         max_waits_per_client = 100000\nmax_requests_per_second_per_client = 1000000\n\
         [[discovery.source]]\nkind = \"kubernetes\"\ncluster = \"east\"\ntraffic_policies = false\nkubeconfig = {:?}\n",
        cluster.kubeconfig()
    );
    let tidegate = Tidegate::spawn_in(WorkDir::new("hub"), &config, Vec::new());
    let mut hub = Hub { tidegate, address: ([127, 0, 0, 1], port).into() };
    hub.tidegate.wait_listening();
    hub
}

/// Watches of a kind that the API server serves.
fn watches(cluster: &Cluster, kind: &str) -> usize {
    let text = cluster.client().text_of("/metrics");
    let resource = format!("resource=\"{kind}\"");
    let of_kind = |line: &&str| {
        line.starts_with("apiserver_longrunning_requests{")
            && line.contains(&resource)
            && line.contains("verb=\"WATCH\"")
    };
    let count = |line: &str| line.rsplit_once(' ').and_then(|(_, number)| number.parse::<usize>().ok());
    text.lines().filter(of_kind).filter_map(count).sum()
}

/// How long after `began` each of the nodes had something new.
fn gather(
    runtime: &tokio::runtime::Runtime,
    arrived: &mut mpsc::Receiver<Arrival>,
    nodes: usize,
    began: Instant,
) -> Vec<Duration> {
    runtime.block_on(async {
        let mut delays = Vec::with_capacity(nodes);
        while delays.len() < nodes {
            let arrival = tokio::time::timeout(SOON, arrived.recv()).await;
            let arrival = arrival.unwrap_or_else(|_| panic!("{} of {nodes} nodes heard of it", delays.len()));
            let at = arrival.expect("nodes").unwrap_or_else(|why| panic!("{why}"));
            delays.push(at.saturating_duration_since(began));
        }
        delays
    })
}

fn last(delays: &[Duration]) -> Duration {
    delays.iter().max().copied().unwrap_or_default()
}

/// One node: asks, and says when something came. As a relay does, it connects anew where the hub has closed a connection on
/// which it did not ask in time; anything else that goes wrong ends the bench.
async fn follow(address: SocketAddr, node: usize, arrivals: mpsc::Sender<Arrival>, reconnected: Arc<AtomicUsize>) {
    let mut path = "/v1/delta?relay=".to_owned();
    loop {
        match ask(address, node, &mut path, &arrivals).await {
            Ok(()) => {
                reconnected.fetch_add(1, Ordering::Relaxed);
            }
            Err(why) => {
                let _ = arrivals.send(Err(format!("node {node}: {why}"))).await;
                return;
            }
        }
    }
}

/// Asks on one connection until the hub closes it between two answers.
async fn ask(
    address: SocketAddr,
    node: usize,
    path: &mut String,
    arrivals: &mpsc::Sender<Arrival>,
) -> std::io::Result<()> {
    let mut stream = BufReader::with_capacity(4 << 10, TcpStream::connect(address).await?);
    loop {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nTidegate-Relay: node-{node}\r\n\r\n");
        if stream.get_mut().write_all(request.as_bytes()).await.is_err() {
            return Ok(());
        }
        let Some(answer) = Answer::read(&mut stream).await? else { return Ok(()) };
        if answer.has_pools && arrivals.send(Ok(Instant::now())).await.is_err() {
            // The bench is over.
            std::future::pending::<()>().await;
        }
        *path = format!("/v1/delta?since={}&wait=10s&relay={}", answer.index, answer.truth);
    }
}

/// What a node keeps of an answer. The rest is read and thrown away, so that thousands of nodes fit into this process.
#[derive(Default)]
struct Answer {
    index: String,
    truth: String,
    has_pools: bool,
}

const INDEX: &str = "{\"index\":\"";
const TRUTH: &str = "\"truth\":\"";
/// More than the index, and than the truth with its mark.
const KEPT: usize = 128;

impl Answer {
    /// Reads one answer; `None` where the connection is closed instead.
    async fn read(stream: &mut BufReader<TcpStream>) -> std::io::Result<Option<Self>> {
        let bad = |what: &str| std::io::Error::other(what.to_owned());
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) if head.is_empty() => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
        if !head.starts_with("http/1.1 200") {
            return Err(bad(&head));
        }
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        let mut left: usize = length.ok_or_else(|| bad("no length"))?;
        let (mut answer, mut window) = (Self::default(), Vec::new());
        while left > 0 {
            let chunk = stream.fill_buf().await?;
            if chunk.is_empty() {
                return Err(bad("closed within an answer"));
            }
            let taken = chunk.len().min(left);
            window.extend_from_slice(&chunk[..taken]);
            stream.consume(taken);
            left -= taken;
            answer.look_at(&window, left == 0);
            window.drain(..window.len().saturating_sub(KEPT));
        }
        let complete = !answer.index.is_empty() && !answer.truth.is_empty();
        if complete { Ok(Some(answer)) } else { Err(bad("neither index nor truth")) }
    }

    /// Looks for what is kept in the last bytes that came, of which `is_last` says that no more do.
    fn look_at(&mut self, window: &[u8], is_last: bool) {
        let text = String::from_utf8_lossy(window);
        let enough = window.len() >= KEPT || is_last;
        if let Some(rest) = text.strip_prefix(INDEX).filter(|_| enough && self.index.is_empty()) {
            self.index = rest.split('"').next().unwrap_or_default().to_owned();
            self.has_pools = !rest[self.index.len()..].starts_with("\",\"changed\":[]");
        }
        if let Some((_, rest)) = text.split_once(TRUTH).filter(|_| self.truth.is_empty()) {
            self.truth = rest.split_once('"').map(|(truth, _)| truth.to_owned()).unwrap_or_default();
        }
    }
}
