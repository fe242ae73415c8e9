//! Real Kafka brokers, one or several, on loopback.

pub use super::kafka_conf::{KafkaOptions, USERS};

use super::admin;
use super::kafka_conf::{self, NodePorts};
use super::process::Process;
use super::proxy::FaultProxy;
use super::wait::wait_until;
use super::workdir::{WorkDir, tail};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// How long a broker may take to come up. Two seconds is usual; other builds may hold the processors.
const START: Duration = Duration::from_secs(60);

/// A running Kafka; it is killed and its data removed when this value goes.
pub struct Kafka {
    home: &'static Path,
    // Before the directory, so that the brokers are dead when their files go.
    nodes: Vec<Node>,
    directory: WorkDir,
}

struct Node {
    directory: PathBuf,
    ports: NodePorts,
    proxy: Option<FaultProxy>,
    process: Mutex<Option<Process>>,
}

impl Kafka {
    /// One broker of this test's own.
    pub fn start() -> Self {
        KafkaOptions::new().start()
    }

    /// Several brokers; topics have three replicas from three on.
    pub fn start_cluster(nodes: usize) -> Self {
        KafkaOptions::new().nodes(nodes).start()
    }

    /// The broker that all tests of this process share. It ends with the process. Use names from
    /// [`unique`](super::unique), and start another one to kill it.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Kafka> = OnceLock::new();
        SHARED.get_or_init(|| {
            let kafka = Self::start();
            kafka.directory.share();
            kafka
        })
    }

    /// Where clients start: all nodes, plain text, past any proxy.
    pub fn bootstrap(&self) -> String {
        self.addresses(|ports| Some(ports.plain))
    }

    /// Where clients start that are to stay behind the fault proxies.
    pub fn proxied_bootstrap(&self) -> String {
        let addresses: Vec<String> = (1..=self.nodes.len())
            .map(|node| self.proxy(node).address().to_string())
            .collect();
        addresses.join(",")
    }

    /// The listener with SASL and without TLS.
    pub fn sasl_bootstrap(&self) -> String {
        self.addresses(|ports| ports.sasl)
    }

    /// The listener with TLS and without SASL.
    pub fn ssl_bootstrap(&self) -> String {
        self.addresses(|ports| ports.tls)
    }

    /// The listener with both.
    pub fn sasl_ssl_bootstrap(&self) -> String {
        self.addresses(|ports| ports.sasl_tls)
    }

    /// The certificate of the authority that signed the brokers' certificate.
    pub fn ca_path(&self) -> PathBuf {
        self.home.join("tls/ca.crt")
    }

    /// The fault proxy before a node (numbered from 1).
    pub fn proxy(&self, node: usize) -> &FaultProxy {
        self.node(node)
            .proxy
            .as_ref()
            .expect("this Kafka was started without `proxied`")
    }

    /// Kills a node (numbered from 1) as a power failure would end its process.
    pub fn kill9(&self, node: usize) {
        if let Some(mut process) = self.node(node).running().take() {
            process.kill9();
        }
    }

    /// Ends a node (numbered from 1) in order, so that it hands over its partitions. One that cannot, because the
    /// others are down, is killed after a while.
    pub fn stop_node(&self, node: usize) {
        if let Some(mut process) = self.node(node).running().take() {
            process.terminate(Duration::from_secs(15));
        }
    }

    /// Ends all nodes in order. What they stored is there again after [`Kafka::restart`].
    pub fn stop(&self) {
        std::thread::scope(|scope| {
            for node in 1..=self.nodes.len() {
                scope.spawn(move || self.stop_node(node));
            }
        });
    }

    /// Starts a node (numbered from 1) again on its old ports and data. After a kill this takes as long as its old
    /// session, three seconds.
    pub fn restart(&self, node: usize) {
        let node = self.node(node);
        node.launch(self.home);
        let running = self.nodes.iter().filter(|n| n.running().is_some()).count();
        node.wait_ready(running);
    }

    /// Stops a node (numbered from 1) in its tracks: its connections stay open and nothing answers.
    pub fn freeze(&self, node: usize) {
        self.signal(node, "STOP");
    }

    /// Lets a frozen node go on.
    pub fn thaw(&self, node: usize) {
        self.signal(node, "CONT");
    }

    /// Creates a topic and waits until all its partitions have a leader.
    pub fn create_topic(
        &self,
        name: &str,
        partitions: i32,
        replication: i32,
        configs: &[(&str, &str)],
    ) {
        admin::create_topic(&self.bootstrap(), name, partitions, replication, configs);
    }

    /// Sets a topic's configuration to these entries; all others return to their defaults.
    pub fn alter_topic(&self, name: &str, configs: &[(&str, &str)]) {
        admin::alter_topic(&self.bootstrap(), name, configs);
    }

    /// Deletes a topic.
    pub fn delete_topic(&self, name: &str) {
        admin::delete_topic(&self.bootstrap(), name);
    }

    fn signal(&self, node: usize, signal: &str) {
        if let Some(process) = self.node(node).running().as_mut() {
            process.signal(signal);
        }
    }

    fn node(&self, node: usize) -> &Node {
        node.checked_sub(1)
            .and_then(|index| self.nodes.get(index))
            .unwrap_or_else(|| panic!("no node {node}: there are {}", self.nodes.len()))
    }

    fn addresses(&self, port: impl Fn(&NodePorts) -> Option<u16>) -> String {
        let addresses: Vec<String> = self
            .nodes
            .iter()
            .map(|node| {
                let port = port(&node.ports).expect("this Kafka was started without that listener");
                format!("127.0.0.1:{port}")
            })
            .collect();
        addresses.join(",")
    }
}

impl KafkaOptions {
    /// Starts it and waits until every node takes part.
    pub fn start(self) -> Kafka {
        let home = super::require().home("kafka");
        let directory = WorkDir::new("kafka");
        let ports: Vec<NodePorts> = (0..self.nodes).map(|_| NodePorts::choose(&self)).collect();
        let controllers: Vec<String> = ports
            .iter()
            .map(|ports| format!("127.0.0.1:{}", ports.controller))
            .collect();
        let controllers = controllers.join(",");
        let mut nodes = Vec::new();
        for (index, ports) in ports.into_iter().enumerate() {
            let id = index + 1;
            let proxy = ports
                .proxied
                .map(|port| FaultProxy::start(([127, 0, 0, 1], port).into()));
            let node = Node {
                directory: directory.path().join(format!("n{id}")),
                ports,
                proxy,
                process: Mutex::new(None),
            };
            fs::create_dir_all(&node.directory).expect("a directory for the broker");
            let properties = kafka_conf::properties(
                &self,
                &kafka_conf::Node {
                    id,
                    directory: &node.directory,
                    ports: &node.ports,
                    advertised: node.proxy.as_ref().map(FaultProxy::address),
                    controllers: &controllers,
                    home,
                },
            );
            fs::write(node.directory.join("server.properties"), properties)
                .expect("the broker's configuration");
            nodes.push(node);
        }
        if self.nodes == 1 {
            copy_template(home, self.sasl, &node_data(&nodes));
        } else {
            format_cluster(home, &nodes, &controllers);
        }
        let kafka = Kafka {
            home,
            nodes,
            directory,
        };
        for node in &kafka.nodes {
            node.launch(home);
        }
        for node in &kafka.nodes {
            node.wait_ready(kafka.nodes.len());
        }
        kafka
    }
}

fn node_data(nodes: &[Node]) -> PathBuf {
    nodes
        .first()
        .expect("at least one node")
        .directory
        .join("data")
}

/// A lone node's freshly formatted directory fits any port, so it is copied. The cluster id is made anew, so that a
/// client that strays to another test's broker notices.
fn copy_template(home: &Path, sasl: bool, data: &Path) {
    let template = home.join(if sasl {
        "template-sasl"
    } else {
        "template-plain"
    });
    copy_directory(&template, data).expect("the data template can be copied");
    let meta = data.join("meta.properties");
    let text = fs::read_to_string(&meta).expect("the template has meta.properties");
    let text: String = text
        .lines()
        .map(|line| {
            if line.starts_with("cluster.id=") {
                format!("cluster.id={}\n", uuid())
            } else {
                format!("{line}\n")
            }
        })
        .collect();
    fs::write(meta, text).expect("meta.properties");
}

fn copy_directory(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_directory(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

fn format_cluster(home: &Path, nodes: &[Node], controllers: &str) {
    let cluster = uuid();
    let voters: Vec<String> = controllers
        .split(',')
        .enumerate()
        .map(|(index, address)| format!("{}@{address}:{}", index + 1, uuid()))
        .collect();
    let voters = voters.join(",");
    std::thread::scope(|scope| {
        for node in nodes {
            let (cluster, voters) = (&cluster, &voters);
            scope.spawn(move || {
                let mut command = Command::new(super::source("bed/kafka/kafka.sh"));
                command.arg("format").arg(home).arg(&node.directory);
                command.arg(cluster).args(["--initial-controllers", voters]);
                let mut process = Process::start(&command, &node.directory, "format-script");
                let status = process.wait(START);
                assert!(status.success(), "kafka.sh format: {}", process.stderr());
            });
        }
    });
}

/// 22 characters that Kafka reads as 16 bytes; a last one of `A` leaves no bit over.
fn uuid() -> String {
    let random = fs::read_to_string("/proc/sys/kernel/random/uuid").expect("Linux");
    let hex: String = random
        .chars()
        .filter(char::is_ascii_hexdigit)
        .take(21)
        .collect();
    format!("{hex}A")
}

impl Node {
    fn running(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn launch(&self, home: &Path) {
        let mut process = self.running();
        assert!(process.is_none(), "this node is running already");
        let mut command = Command::new(super::source("bed/kafka/kafka.sh"));
        command.arg("run").arg(home).arg(&self.directory);
        *process = Some(Process::start(&command, &self.directory, "stdout"));
    }

    /// Waits until this node serves and knows so many live brokers.
    fn wait_ready(&self, brokers: usize) {
        let id = self.running().as_ref().expect("launched").id();
        wait_until(START, "a broker that serves", || {
            if let Some(status) = self.running().as_mut().and_then(Process::exited) {
                panic!(
                    "the broker ended while it started: {status}\n{}",
                    tail(&self.directory.join("broker.log"), 20)
                );
            }
            owns_port(id, self.ports.plain)
                && live_brokers(self.ports.plain).is_some_and(|live| live >= brokers)
        });
    }
}

/// Whether the process itself listens on this port: another broker may sit on a port that was thought free.
fn owns_port(process: u32, port: u16) -> bool {
    let address = format!("0100007F:{port:04X}");
    let table = fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let inode = table.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        (fields.get(1) == Some(&address.as_str()) && fields.get(3) == Some(&"0A"))
            .then(|| fields.get(9).map(|inode| format!("socket:[{inode}]")))
            .flatten()
    });
    let Some(inode) = inode else { return false };
    fs::read_dir(format!("/proc/{process}/fd"))
        .into_iter()
        .flatten()
        .flatten()
        .any(|entry| fs::read_link(entry.path()).is_ok_and(|link| link.as_os_str() == &*inode))
}

/// How many live brokers the node on this port lists, by a Metadata request written by hand: a client library would
/// hide for how long it tries.
fn live_brokers(port: u16) -> Option<usize> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    // Length, Metadata, version 1, correlation id, client id, no topics.
    stream
        .write_all(b"\0\0\0\x13\0\x03\0\x01\0\0\0\x01\0\x05probe\0\0\0\0")
        .ok()?;
    let mut head = [0; 12];
    stream.read_exact(&mut head).ok()?;
    let [.., a, b, c, d] = head;
    usize::try_from(u32::from_be_bytes([a, b, c, d])).ok()
}
