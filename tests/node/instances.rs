//! Clients of a cluster whose nodes are the ready endpoints of a Service, as the API server's EndpointSlices say.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::bed::process::Process;
use crate::bed::{
    FaultProxy, Kafka, Reply, RespClient, Tidegate, WorkDir, consume, require, source, unique, wait_until,
};
use crate::kube::Cluster;
use crate::kube::objects::{deployment, deployment_path, service};
use crate::support::Setup;

/// Generous: other suites may have the processors.
const SOON: Duration = Duration::from_secs(60);

/// A Deployment `web` and its Service, whose port `http` is where instances listen.
struct Bed {
    cluster: &'static Cluster,
    namespace: String,
}

impl Bed {
    fn new(prefix: &str, replicas: u32) -> Self {
        let cluster = Cluster::shared(0);
        let namespace = cluster.namespace(prefix);
        cluster.client().create(&deployment(&namespace, "web", replicas, &json!({})));
        cluster.client().create(&service(&namespace, "web"));
        Self { cluster, namespace }
    }

    fn scale(&self, replicas: u32) {
        let path = deployment_path(&self.namespace, "web");
        self.cluster.client().patch(&path, &json!({ "spec": { "replicas": replicas } }));
    }

    /// The addresses of the ready pods in their order, once there are so many.
    fn addresses(&self, count: usize) -> Vec<String> {
        let path = format!("/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices", self.namespace);
        let mut found: BTreeSet<IpAddr> = BTreeSet::new();
        wait_until(SOON, &format!("{count} pods"), || {
            let list = self.cluster.client().get(&path);
            let endpoints = list["items"].as_array().unwrap().iter().flat_map(|slice| slice["endpoints"].as_array());
            let ready = endpoints.flatten().filter(|endpoint| endpoint["conditions"]["ready"] == true);
            found = ready.map(|endpoint| endpoint["addresses"][0].as_str().unwrap().parse().unwrap()).collect();
            found.len() == count
        });
        found.into_iter().map(|address| address.to_string()).collect()
    }

    /// The line of the configuration that names the Service.
    fn service(&self, kubeconfig: &Path) -> String {
        format!("cluster = {{ service = \"{}/web\", port = \"http\", kubeconfig = {kubeconfig:?} }}", self.namespace)
    }

    /// An instance at a pod's address, which is told this of the cluster.
    fn instance(address: &str, cluster: &str) -> Tidegate {
        let route =
            "key = \"*\"\ntopic = \"{key}\"\ncreate_topic = { partitions = 1, replication = 1 }\nhold_ms = 20000";
        let listen = format!("\"{address}:8080\"");
        Setup::shared().listen(&listen).log("anonymous = true").log(cluster).route(route).start()
    }
}

/// The owners of the slots, in their order: address, first and last slot.
fn slots(client: &mut RespClient) -> Vec<(String, i64, i64)> {
    let owner = |entry: &Reply| {
        let entry = entry.array();
        let host = String::from_utf8_lossy(entry[2].array()[0].bytes()).into_owned();
        (host, entry[0].integer(), entry[1].integer())
    };
    client.command(["CLUSTER", "SLOTS"]).array().iter().map(owner).collect()
}

/// What CLUSTER NODES says.
fn nodes(client: &mut RespClient) -> String {
    String::from_utf8(client.command(["CLUSTER", "NODES"]).bytes().to_vec()).unwrap()
}

fn owners(client: &mut RespClient) -> Vec<String> {
    slots(client).into_iter().map(|(owner, ..)| owner).collect()
}

fn connect(tidegate: &Tidegate) -> RespClient {
    RespClient::connect(tidegate.redis_addr())
}

fn wait_owners(client: &mut RespClient, wanted: &[String]) {
    wait_until(SOON, &format!("{wanted:?} to own the slots"), || owners(client) == wanted);
}

/// redis-py's client of a cluster, which pushes on command.
struct ClusterClient {
    process: Process,
    input: std::fs::File,
    rounds: usize,
    _directory: WorkDir,
}

impl ClusterClient {
    fn start(address: &str, key: &str) -> Self {
        let directory = WorkDir::new("cluster-client");
        let path = directory.path().join("input");
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        // Opened for both, so that neither side waits for the other to open.
        let input = std::fs::File::options().read(true).write(true).open(&path).unwrap();
        let mut command = Command::new(require().home("python").join("venv/bin/python"));
        command.arg(source("clients/python/cluster.py")).args([address, "8080", key]);
        let process = Process::start_with_input(&command, directory.path(), "cluster-client", &path);
        Self { process, input, rounds: 0, _directory: directory }
    }

    fn said(&self) -> Vec<String> {
        String::from_utf8_lossy(&self.process.stdout()).lines().map(str::to_owned).collect()
    }

    /// Pushes a value under each of 32 keys; gives the nodes that it knows then.
    fn push(&mut self) -> BTreeSet<String> {
        writeln!(self.input, "round {}", self.rounds).unwrap();
        self.rounds += 1;
        wait_until(SOON, "the client to push", || {
            assert!(self.process.exited().is_none(), "{:?}\n{}", self.said(), self.process.stderr());
            self.said().len() == self.rounds
        });
        let line = self.said().pop().unwrap();
        line.strip_prefix("nodes ").unwrap_or_else(|| panic!("{line}")).split(' ').map(str::to_owned).collect()
    }
}

#[test]
fn a_client_of_a_cluster_finds_the_instances_of_the_service_and_goes_on_when_one_goes_away() {
    let bed = Bed::new("instances", 2);
    let pods = bed.addresses(2);
    let service = bed.service(&bed.cluster.kubeconfig());
    let [one, two] = [0, 1].map(|place| Bed::instance(&pods[place], &service));
    let (mut at_one, mut at_two) = (connect(&one), connect(&two));
    wait_owners(&mut at_one, &pods);
    wait_owners(&mut at_two, &pods);
    assert_eq!(slots(&mut at_one), slots(&mut at_two), "all instances say the same");
    assert_eq!(slots(&mut at_one)[1].1, 8_192);
    assert_ne!(at_one.command(["CLUSTER", "MYID"]), at_two.command(["CLUSTER", "MYID"]));
    let nodes = nodes(&mut at_two);
    let myself = nodes.lines().find(|line| line.contains("myself")).unwrap();
    assert!(myself.contains(&format!("{}:8080@18080 myself,master", pods[1])), "{nodes}");

    let key = unique("sharded");
    let mut client = ClusterClient::start(&pods[0], &key);
    assert_eq!(client.push(), pods.iter().cloned().collect());
    for (tidegate, name) in [(&one, "the first"), (&two, "the second")] {
        let received = tidegate.metric("tidegate_log_records_received_total");
        assert!(received > 0.0 && received < 32.0, "{name} instance took {received}");
    }
    // The Deployment takes one of them away, whichever: the test ends the instance of that pod.
    bed.scale(1);
    let left = bed.addresses(1);
    let (mut gone, mut stays) = if left[0] == pods[1] { (one, two) } else { (two, one) };
    gone.sigterm();
    gone.wait_exit(SOON);
    let mut at_left = connect(&stays);
    wait_owners(&mut at_left, &left);
    assert_eq!(client.push(), left.iter().cloned().collect());
    // And another one comes.
    bed.scale(2);
    let now = bed.addresses(2);
    let new = now.iter().find(|address| **address != left[0]).unwrap();
    let third = Bed::instance(new, &service);
    wait_owners(&mut at_left, &now);
    wait_owners(&mut connect(&third), &now);
    client.push();
    let mut values = BTreeSet::new();
    for number in 0..32 {
        let records = consume(&Kafka::shared().bootstrap(), &format!("{key}-{number}"));
        values.extend(records.into_iter().map(|record| (number, record.value)));
    }
    assert_eq!(values.len(), 3 * 32);
    stays.sigterm();
    stays.wait_exit(SOON);
}

#[test]
fn while_the_api_server_is_away_the_instances_stay_and_nobody_is_told_of_no_nodes() {
    let bed = Bed::new("away", 0);
    let directory = WorkDir::new("away");
    let proxy = FaultProxy::start(([127, 0, 0, 1], bed.cluster.port()).into());
    let text = std::fs::read_to_string(bed.cluster.kubeconfig()).unwrap();
    let through = text.replace(&format!("127.0.0.1:{}", bed.cluster.port()), &proxy.address().to_string());
    let kubeconfig = directory.write("kubeconfig", &through);
    let service = bed.service(&kubeconfig);
    let nowhere = ["10.244.250.1".to_owned()];
    let tidegate = Bed::instance(&nowhere[0], &service);
    let mut client = connect(&tidegate);
    // The Service has no endpoint: the instance is what there is.
    wait_until(SOON, "the list", || cluster_of(&tidegate)["stale_since"].is_null());
    assert_eq!(slots(&mut client), [(nowhere[0].clone(), 0, 16_383)]);
    bed.scale(2);
    let pods = bed.addresses(2);
    wait_owners(&mut client, &pods);
    // It is not ready: it owns nothing, and says who does.
    let nodes = nodes(&mut client);
    assert!(nodes.contains("10.244.250.1:8080@18080 myself,master - 0 0 2 connected\n"), "{nodes}");
    proxy.down();
    tidegate.wait_metric("tidegate_log_cluster_stale", SOON, |stale| stale == 1.0);
    assert!(cluster_of(&tidegate)["last_error"].is_string());
    bed.scale(0);
    bed.addresses(0);
    assert_eq!(owners(&mut client), pods, "what is known stays");
    assert_eq!(client.command(["RPUSH", &unique("away"), "value"]), Reply::Integer(1));
    proxy.heal();
    wait_owners(&mut client, &nowhere);
    assert_eq!(tidegate.metric("tidegate_log_cluster_stale"), 0.0);
}

#[test]
fn a_reload_brings_the_service_in_and_out_on_open_connections() {
    let bed = Bed::new("reloaded", 2);
    let pods = bed.addresses(2);
    let mut tidegate = Bed::instance(&pods[0], "cluster = \"off\"");
    let mut client = connect(&tidegate);
    let off = Reply::Error("ERR This instance has cluster support disabled".into());
    assert_eq!(client.command(["CLUSTER", "SLOTS"]), off);
    let file = tidegate.directory().join("tidegate.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let service = bed.service(&bed.cluster.kubeconfig());
    std::fs::write(&file, text.replace("cluster = \"off\"", &service)).unwrap();
    tidegate.signal("HUP");
    wait_until(SOON, "a cluster", || client.command(["CLUSTER", "SLOTS"]) != off);
    wait_owners(&mut client, &pods);
    let master = client.command(["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster"]);
    assert_eq!(master.array()[0].bytes(), pods[0].as_bytes());
    std::fs::write(&file, text).unwrap();
    tidegate.signal("HUP");
    wait_until(SOON, "no cluster", || client.command(["CLUSTER", "SLOTS"]) == off);
    assert!(cluster_of(&tidegate).is_null());
}

/// What the admin page says of the other instances.
fn cluster_of(tidegate: &Tidegate) -> Value {
    let page: Value = serde_json::from_slice(&tidegate.get("/debug/log").body).unwrap();
    page["cluster"].clone()
}

#[test]
fn all_slots_have_an_owner_however_many_instances_there_are() {
    let bed = Bed::new("many", 5);
    let pods = bed.addresses(5);
    let tidegate = Bed::instance(&pods[4], &bed.service(&bed.cluster.kubeconfig()));
    let mut client = connect(&tidegate);
    wait_owners(&mut client, &pods);
    let mut next = 0;
    for (owner, first, last) in slots(&mut client) {
        assert_eq!(first, next, "{owner}");
        next = last + 1;
    }
    assert_eq!(next, 16_384);
}
