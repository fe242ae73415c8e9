//! What a test broker is told: ports, listeners and `server.properties`.

use super::ports::free_port;
use std::fmt::Write as _;
use std::path::Path;

/// The users of a broker with SASL, with their passwords; the same in PLAIN and SCRAM.
pub const USERS: [(&str, &str); 2] = [("alice", "alice-secret"), ("admin", "admin-secret")];

/// What kind of Kafka a test wants.
#[derive(Clone, Debug)]
pub struct KafkaOptions {
    pub(super) nodes: usize,
    pub(super) sasl: bool,
    pub(super) tls: bool,
    pub(super) proxied: bool,
    pub(super) configs: Vec<(String, String)>,
}

impl Default for KafkaOptions {
    fn default() -> Self {
        Self { nodes: 1, sasl: false, tls: false, proxied: false, configs: Vec::new() }
    }
}

impl KafkaOptions {
    /// One broker, plain text only.
    pub fn new() -> Self {
        Self::default()
    }

    /// So many nodes, each broker and controller. From three on, topics have three replicas of which two must be in
    /// sync, unless said otherwise.
    pub fn nodes(mut self, nodes: usize) -> Self {
        self.nodes = nodes;
        self
    }

    /// Adds a listener with SASL (PLAIN and SCRAM) for [`USERS`].
    pub fn sasl(mut self) -> Self {
        self.sasl = true;
        self
    }

    /// Adds a listener with TLS; together with SASL also one with both.
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Puts a fault proxy before each node: a listener of its own, whose advertised address is the proxy's, so that
    /// clients that follow Kafka's metadata stay behind the proxy. The plain listener remains direct.
    pub fn proxied(mut self) -> Self {
        self.proxied = true;
        self
    }

    /// Makes it keep access control lists; everybody may do what no list forbids.
    pub fn authorized(self) -> Self {
        self.config("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer")
            .config("allow.everyone.if.no.acl.found", "true")
    }

    /// A line of `server.properties`; it wins over the bed's own.
    pub fn config(mut self, key: &str, value: &str) -> Self {
        self.configs.push((key.to_owned(), value.to_owned()));
        self
    }
}

/// The ports of one node.
#[derive(Clone, Debug)]
pub(super) struct NodePorts {
    pub plain: u16,
    pub controller: u16,
    pub proxied: Option<u16>,
    pub sasl: Option<u16>,
    pub tls: Option<u16>,
    pub sasl_tls: Option<u16>,
}

impl NodePorts {
    pub(super) fn choose(options: &KafkaOptions) -> Self {
        let when = |wanted: bool| wanted.then(free_port);
        Self {
            plain: free_port(),
            controller: free_port(),
            proxied: when(options.proxied),
            sasl: when(options.sasl),
            tls: when(options.tls),
            sasl_tls: when(options.sasl && options.tls),
        }
    }
}

/// What a node's configuration depends on besides the options.
pub(super) struct Node<'a> {
    pub id: usize,
    pub directory: &'a Path,
    pub ports: &'a NodePorts,
    /// The address of its fault proxy.
    pub advertised: Option<std::net::SocketAddr>,
    /// The controllers of all nodes, `host:port,…`.
    pub controllers: &'a str,
    /// Where `kafka.sh` has installed Kafka.
    pub home: &'a Path,
}

/// The text of `server.properties`.
pub(super) fn properties(options: &KafkaOptions, node: &Node<'_>) -> String {
    let (replicas, in_sync) = if options.nodes >= 3 { (3, 2) } else { (1, 1) };
    let ports = node.ports;
    let plain = Some(ports.plain);
    let mut listeners = Vec::new();
    let mut advertised = Vec::new();
    let mut protocols = vec!["CONTROLLER:PLAINTEXT".to_owned()];
    for (name, protocol, port) in [
        ("PLAINTEXT", "PLAINTEXT", plain),
        ("PROXIED", "PLAINTEXT", ports.proxied),
        ("SASL_PLAINTEXT", "SASL_PLAINTEXT", ports.sasl),
        ("SSL", "SSL", ports.tls),
        ("SASL_SSL", "SASL_SSL", ports.sasl_tls),
    ] {
        let Some(port) = port else { continue };
        listeners.push(format!("{name}://127.0.0.1:{port}"));
        advertised.push(match node.advertised {
            Some(proxy) if name == "PROXIED" => format!("{name}://{proxy}"),
            _ => format!("{name}://127.0.0.1:{port}"),
        });
        protocols.push(format!("{name}:{protocol}"));
    }
    listeners.push(format!("CONTROLLER://127.0.0.1:{}", ports.controller));
    // A broker killed with SIGKILL is refused until its old session ends: hence the short session.
    let mut text = format!(
        "process.roles=broker,controller\n\
         node.id={}\n\
         listeners={}\n\
         advertised.listeners={}\n\
         listener.security.protocol.map={}\n\
         inter.broker.listener.name=PLAINTEXT\n\
         controller.listener.names=CONTROLLER\n\
         controller.quorum.bootstrap.servers={}\n\
         log.dirs={}\n\
         num.partitions=1\n\
         default.replication.factor={replicas}\n\
         min.insync.replicas={in_sync}\n\
         offsets.topic.replication.factor={replicas}\n\
         offsets.topic.num.partitions=4\n\
         transaction.state.log.replication.factor={replicas}\n\
         transaction.state.log.min.isr={in_sync}\n\
         transaction.state.log.num.partitions=4\n\
         group.initial.rebalance.delay.ms=0\n\
         broker.session.timeout.ms=3000\n\
         broker.heartbeat.interval.ms=500\n",
        node.id,
        listeners.join(","),
        advertised.join(","),
        protocols.join(","),
        node.controllers,
        node.directory.join("data").display(),
    );
    if options.sasl {
        sasl(&mut text);
    }
    if options.tls {
        let tls = node.home.join("tls");
        let _ = write!(
            text,
            "ssl.keystore.type=PEM\nssl.keystore.location={}\nssl.truststore.type=PEM\nssl.truststore.location={}\n",
            tls.join("server.pem").display(),
            tls.join("ca.crt").display(),
        );
    }
    for (key, value) in &options.configs {
        let _ = writeln!(text, "{key}={value}");
    }
    text
}

fn sasl(text: &mut String) {
    const MODULES: &str = "org.apache.kafka.common.security";
    text.push_str("sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512\n");
    let users: String = USERS.iter().map(|(user, password)| format!(" user_{user}=\"{password}\"")).collect();
    for listener in ["sasl_plaintext", "sasl_ssl"] {
        let _ = writeln!(
            text,
            "listener.name.{listener}.plain.sasl.jaas.config={MODULES}.plain.PlainLoginModule required{users};"
        );
        for bits in [256, 512] {
            let _ = writeln!(
                text,
                "listener.name.{listener}.scram-sha-{bits}.sasl.jaas.config={MODULES}.scram.ScramLoginModule required;"
            );
        }
    }
}
