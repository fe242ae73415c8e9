//! `cargo bench --bench relay`: thousands of nodes on two hubs, over a real API server.
//!
//! The nodes are simulated: one process with a connection for each, which asks as a relay does (`/v1/delta` with
//! `relay=`) and throws the pools away. What is measured is the hubs: the watches that they have at the API server, their
//! memory and processor time, and how long a change takes until the last node has it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a bench: a panic is the report"
)]

#[path = "../../tests/bed/mod.rs"]
mod bed;
#[path = "../../tests/kube/mod.rs"]
mod kube;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bed::{Tidegate, WorkDir, free_port, wait_until};
use clap::Parser;
use kube::Cluster;
use kube::objects::{slice, slice_path};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

const SOON: Duration = Duration::from_secs(300);

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
    let before = watches(cluster);
    let hubs = [hub(cluster), hub(cluster)];
    for hub in &hubs {
        wait_until(SOON, "a hub in step", || hub.tidegate.get("/readyz/discovery").status == 200);
    }
    wait_until(SOON, "the hubs' watches", || watches(cluster) >= before + 2);
    let idle = hubs.each_ref().map(|hub| hub.tidegate.rss_bytes());

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (arrivals, mut arrived) = mpsc::channel(options.nodes * 2);
    let began = Instant::now();
    for node in 0..options.nodes {
        let address = hubs[node % 2].address;
        runtime.spawn(follow(address, node, arrivals.clone()));
    }
    let first = gather(&runtime, &mut arrived, options.nodes, began);
    println!("watches at the API server:  {} of endpointslices by both hubs", watches(cluster) - before);
    println!("all pools at all nodes:     {:?} after the first connection", last(&first));
    let settled = || hubs.iter().all(|hub| hub.tidegate.metric("tidegate_discovery_waiting_requests") >= 1.0);
    wait_until(SOON, "waiting nodes", settled);

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

/// Watches of EndpointSlices that the API server serves.
fn watches(cluster: &Cluster) -> usize {
    let text = cluster.client().text_of("/metrics");
    let of_slices = |line: &&str| {
        line.starts_with("apiserver_longrunning_requests{")
            && line.contains("resource=\"endpointslices\"")
            && line.contains("verb=\"WATCH\"")
    };
    let count = |line: &str| line.rsplit_once(' ').and_then(|(_, number)| number.parse::<usize>().ok());
    text.lines().filter(of_slices).filter_map(count).sum()
}

/// How long after `began` each of the nodes had something new.
fn gather(
    runtime: &tokio::runtime::Runtime,
    arrived: &mut mpsc::Receiver<Instant>,
    nodes: usize,
    began: Instant,
) -> Vec<Duration> {
    runtime.block_on(async {
        let mut delays = Vec::with_capacity(nodes);
        while delays.len() < nodes {
            let at = tokio::time::timeout(SOON, arrived.recv()).await.expect("every node hears of it").unwrap();
            delays.push(at.saturating_duration_since(began));
        }
        delays
    })
}

fn last(delays: &[Duration]) -> Duration {
    delays.iter().max().copied().unwrap_or_default()
}

/// One node: asks, and says when something came.
async fn follow(address: SocketAddr, node: usize, arrivals: mpsc::Sender<Instant>) {
    let mut stream = BufReader::with_capacity(4 << 10, TcpStream::connect(address).await.unwrap());
    let mut path = "/v1/delta?relay=".to_owned();
    let mut body = Vec::new();
    loop {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nTidegate-Relay: node-{node}\r\n\r\n");
        stream.get_mut().write_all(request.as_bytes()).await.unwrap();
        read(&mut stream, &mut body).await;
        let text = std::str::from_utf8(&body).unwrap();
        let after = |mark: &str| {
            let from = text.find(mark).unwrap_or_else(|| panic!("no {mark} in an answer")) + mark.len();
            Arc::<str>::from(text[from..].split('"').next().unwrap())
        };
        let (index, truth) = (after("\"index\":\""), after("\"truth\":\""));
        if !text.contains("\"changed\":[]") {
            arrivals.send(Instant::now()).await.unwrap();
        }
        path = format!("/v1/delta?since={index}&wait=20s&relay={truth}");
        body.clear();
        body.shrink_to(4 << 10);
    }
}

async fn read(stream: &mut BufReader<TcpStream>, body: &mut Vec<u8>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 200"), "{head}");
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap();
    body.resize(length, 0);
    stream.read_exact(body).await.unwrap();
}
