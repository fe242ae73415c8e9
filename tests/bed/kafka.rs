//! Real Kafka brokers, one or several, on loopback.

pub use super::kafka_conf::{KafkaOptions, USERS};

use super::admin;
use super::kafka_conf::{self, NodePorts};
use super::kafka_node::{Node, copy_template, format_cluster};
use super::kafka_wire;
use super::process::Process;
use super::proxy::FaultProxy;
use super::workdir::WorkDir;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

/// How long Kafka may take for a change of rights.
const ACT: Duration = Duration::from_secs(20);

/// A running Kafka; it is killed and its data removed when this value goes.
pub struct Kafka {
    home: &'static Path,
    // Before the directory, so that the brokers are dead when their files go.
    nodes: Vec<Node>,
    directory: WorkDir,
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
        let addresses: Vec<String> =
            (1..=self.nodes.len()).map(|node| self.proxy(node).address().to_string()).collect();
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
        self.node(node).proxy.as_ref().expect("this Kafka was started without `proxied`")
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
    pub fn create_topic(&self, name: &str, partitions: i32, replication: i32, configs: &[(&str, &str)]) {
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

    /// Gives each partition of a topic that every node replicates another leader. Says whether Kafka took it; it does
    /// not while a node is away.
    pub fn move_leaders(&self, topic: &str, partitions: i32, first: usize) -> bool {
        let ids: Vec<i32> = (0..self.nodes.len())
            .map(|place| i32::try_from((first + place) % self.nodes.len() + 1).expect("a few nodes"))
            .collect();
        let port = self.node(first % self.nodes.len() + 1).ports.plain;
        kafka_wire::reassign(port, topic, partitions, &ids) && kafka_wire::elect_preferred(port, topic, partitions)
    }

    /// Takes the right to write a topic from everybody who has not logged in. The broker must have been started with
    /// [`KafkaOptions::authorized`].
    pub fn deny_writing(&self, topic: &str) {
        let port = self.node(1).ports.plain;
        super::wait::wait_until(ACT, "the right to be taken", || kafka_wire::deny_writing(port, topic));
    }

    /// Gives it back.
    pub fn allow_writing(&self, topic: &str) {
        let port = self.node(1).ports.plain;
        super::wait::wait_until(ACT, "the right to be given back", || kafka_wire::allow_writing(port, topic));
    }

    /// How many nodes there are, running or not.
    pub fn nodes(&self) -> usize {
        self.nodes.len()
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
        let controllers: Vec<String> = ports.iter().map(|ports| format!("127.0.0.1:{}", ports.controller)).collect();
        let controllers = controllers.join(",");
        let mut nodes = Vec::new();
        for (index, ports) in ports.into_iter().enumerate() {
            let id = index + 1;
            let proxy = ports.proxied.map(|port| FaultProxy::start(([127, 0, 0, 1], port).into()));
            let node =
                Node { directory: directory.path().join(format!("n{id}")), ports, proxy, process: Mutex::new(None) };
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
            fs::write(node.directory.join("server.properties"), properties).expect("the broker's configuration");
            nodes.push(node);
        }
        if self.nodes == 1 {
            copy_template(home, self.sasl, &directory.path().join("n1/data"));
        } else {
            format_cluster(home, &nodes, &controllers);
        }
        let kafka = Kafka { home, nodes, directory };
        for node in &kafka.nodes {
            node.launch(home);
        }
        for node in &kafka.nodes {
            node.wait_ready(kafka.nodes.len());
        }
        kafka
    }
}
