//! What clients of a cluster are told: who the nodes are and which slots each owns.
//!
//! Tidegate needs no cluster, as any instance takes any key; it only looks like one to clients that cannot do otherwise.
//! The slots are split evenly over the addresses in their order, so that every instance with the same list tells the same,
//! and a node's id is made from its address alone. The list stands in the configuration or is the Service's of all
//! instances, which changes as they come and go; an instance that is not in it owns no slots, and one that knows nobody
//! owns them all, so that no client is ever told of no nodes.

use std::net::IpAddr;
use std::sync::Arc;

use sha1::{Digest, Sha1};

use crate::peers::config::PeersConfig;
use crate::peers::{Peer, PeerList, Peers};

/// How many slots a cluster has.
pub const SLOTS: usize = 16_384;

/// What CLUSTER and SENTINEL answer, as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterConfig {
    /// Who owns the slots.
    pub mode: ClusterMode,
    /// The names under which SENTINEL knows this instance.
    pub sentinel_masters: Vec<String>,
    /// The listeners' port whose connections are answered as by a sentinel that is nothing else.
    pub sentinel_port: Option<u16>,
}

/// Who owns the slots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ClusterMode {
    /// Nobody: as a Redis without cluster.
    #[default]
    Off,
    /// This instance, under the address that the client reached it by.
    Own,
    /// These instances, sorted, at least one and at most [`SLOTS`].
    Nodes(Vec<Endpoint>),
    /// The ready instances of a Service.
    Service(PeersConfig),
}

/// What CLUSTER and SENTINEL answer, with the instances that are known.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    /// What was configured.
    pub config: ClusterConfig,
    /// The instances of the Service, where one is configured.
    peers: Option<Arc<Peers>>,
}

/// Where an instance is reached.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// A name or an address, IPv6 without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
}

/// The cluster as one connection sees it.
#[derive(Debug)]
pub struct View {
    /// The owners of slots, by their first slot; at least one.
    pub nodes: Vec<Node>,
    /// The node that this connection reached: one of these, or one that owns no slots.
    pub here: Node,
}

/// An instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Forty hexadecimal digits.
    pub id: String,
    /// Where it is.
    pub endpoint: Endpoint,
    /// Its slots, both included; nothing where it owns none.
    pub slots: Option<(usize, usize)>,
}

// === impl Cluster ===

impl Cluster {
    /// As configured; `peers` are the instances of the Service, where one is configured.
    pub fn new(config: ClusterConfig, peers: Option<Arc<Peers>>) -> Self {
        Self { config, peers }
    }

    /// Whether there is one.
    pub fn is_on(&self) -> bool {
        self.config.mode != ClusterMode::Off
    }

    /// Whether a connection that reached `local` is one to a sentinel: some clients ask a sentinel and its master the same
    /// question, and want different answers.
    pub fn is_sentinel(&self, local: &str) -> bool {
        let port = local.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
        self.is_on() && self.config.sentinel_port.is_some() && port == self.config.sentinel_port
    }

    /// The instances of the Service that are known now, where one is configured.
    pub fn peers(&self) -> Option<Arc<PeerList>> {
        self.peers.as_ref().map(|peers| peers.list())
    }

    /// The cluster as seen by a connection that reached `local`; nothing where there is none. `port` is the listener's,
    /// for connections over a Unix socket.
    pub fn view(&self, local: &str, port: u16) -> Option<View> {
        let mut here = Endpoint::of_socket(local, port);
        if self.is_sentinel(local) {
            here.port = port;
        }
        match &self.config.mode {
            ClusterMode::Off => None,
            ClusterMode::Own => Some(View::alone(&here)),
            ClusterMode::Nodes(endpoints) => {
                // A name in the list may be this instance as well; where no address says so, its port has to do.
                let same_port = |endpoint: &&Endpoint| endpoint.port == here.port;
                let me = endpoints.iter().find(|endpoint| **endpoint == here);
                let me = me.or_else(|| endpoints.iter().find(same_port)).or(endpoints.first());
                Some(View::new(endpoints, me.unwrap_or(&here)))
            }
            ClusterMode::Service(_) => Some(match &self.peers {
                Some(peers) => of_peers(&peers.list(), &peers.node, &here),
                None => View::alone(&here),
            }),
        }
    }
}

/// The instances of a Service: by the addresses of the family that the client came by, where there are any.
fn of_peers(list: &PeerList, node: &str, here: &Endpoint) -> View {
    let families = if here.host.contains(':') { [&list.v6, &list.v4] } else { [&list.v4, &list.v6] };
    let peers = families.into_iter().find(|peers| !peers.is_empty()).map_or(&[][..], Vec::as_slice);
    if peers.is_empty() {
        return View::alone(here);
    }
    let endpoints: Vec<Endpoint> = peers.iter().map(Endpoint::of_peer).collect();
    // Who comes by loopback or by the node's own address did not reach the one that others know. A node has one instance.
    let of_node = || peers.iter().position(|peer| !node.is_empty() && peer.node.as_deref() == Some(node));
    let me = endpoints.iter().position(|endpoint| endpoint == here).or_else(of_node);
    View::new(&endpoints, me.and_then(|me| endpoints.get(me)).unwrap_or(here))
}

// === impl ClusterConfig ===

impl Default for ClusterConfig {
    fn default() -> Self {
        Self { mode: ClusterMode::Off, sentinel_masters: vec!["mymaster".into()], sentinel_port: None }
    }
}

// === impl Endpoint ===

impl Endpoint {
    /// `HOST:PORT`, IPv6 in brackets; nothing where it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let port: u16 = port.parse().ok().filter(|port| *port > 0)?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let good = match bare {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte)),
        };
        good.then(|| Self { host: bare.unwrap_or(host).to_owned(), port })
    }

    /// The address of a connection's own end; a Unix socket's path is none, and is called loopback.
    fn of_socket(local: &str, port: u16) -> Self {
        match Self::parse(local) {
            Some(endpoint) if endpoint.host.parse::<IpAddr>().is_ok() => endpoint,
            _ => Self { host: "127.0.0.1".into(), port },
        }
    }

    fn of_peer(peer: &Peer) -> Self {
        Self { host: peer.address.ip().to_string(), port: peer.address.port() }
    }

    /// Forty hexadecimal digits, the same wherever they are made.
    pub fn id(&self) -> String {
        let digest = Sha1::digest(format!("{}:{}", self.host, self.port));
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

// === impl View ===

impl View {
    /// These instances, and the one that was reached.
    fn new(endpoints: &[Endpoint], here: &Endpoint) -> Self {
        let count = endpoints.len().max(1);
        let first = |place: usize| place * SLOTS / count;
        let node = |(place, endpoint): (usize, &Endpoint)| Node {
            slots: Some((first(place), first(place + 1).saturating_sub(1))),
            ..Node::without_slots(endpoint)
        };
        let nodes: Vec<Node> = endpoints.iter().enumerate().map(node).collect();
        let owner = nodes.iter().find(|node| node.endpoint == *here);
        let here = owner.cloned().unwrap_or_else(|| Node::without_slots(here));
        Self { nodes, here }
    }

    /// This instance owns all slots.
    fn alone(here: &Endpoint) -> Self {
        Self::new(std::slice::from_ref(here), here)
    }

    /// All instances: those that own slots, and this one where it owns none.
    pub fn all(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().chain(Some(&self.here).filter(|here| here.slots.is_none()))
    }
}

// === impl Node ===

impl Node {
    fn without_slots(endpoint: &Endpoint) -> Self {
        Self { id: endpoint.id(), endpoint: endpoint.clone(), slots: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(mode: ClusterMode) -> Cluster {
        Cluster::new(ClusterConfig { mode, ..ClusterConfig::default() }, None)
    }

    fn listed(addresses: &[&str]) -> Cluster {
        of(ClusterMode::Nodes(addresses.iter().map(|text| Endpoint::parse(text).unwrap()).collect()))
    }

    /// Of a Service; each instance is written `ADDRESS NODE`, this one is on node `n1`.
    fn served(v4: &[&str], v6: &[&str]) -> Cluster {
        let config = PeersConfig { namespace: "a".into(), service: "b".into(), port: "c".into(), kubeconfig: None };
        let peers = Arc::new(Peers::new("n1".into()));
        let peer = |text: &&str| {
            let (address, node) = text.split_once(' ').unwrap();
            Peer { address: address.parse().unwrap(), node: Some(node.to_owned()) }
        };
        let (v4, v6) = (v4.iter().map(peer).collect(), v6.iter().map(peer).collect());
        peers.publish(PeerList { v4, v6, ..PeerList::default() });
        Cluster { peers: Some(peers), ..of(ClusterMode::Service(config)) }
    }

    fn assert_whole(view: &View) {
        let mut next = 0;
        for node in &view.nodes {
            let (first, last) = node.slots.unwrap();
            assert_eq!(first, next);
            next = last + 1;
        }
        assert_eq!(next, SLOTS);
    }

    fn hosts(view: &View) -> Vec<&str> {
        view.nodes.iter().map(|node| node.endpoint.host.as_str()).collect()
    }

    #[test]
    fn every_slot_has_exactly_one_owner() {
        for count in [1, 2, 3, 7, 1000] {
            let addresses: Vec<String> = (0..count).map(|n| format!("10.0.{}.{}:6379", n / 250, n % 250)).collect();
            let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
            let view = listed(&addresses).view("10.0.0.1:6379", 6379).unwrap();
            assert_whole(&view);
            assert_eq!(view.here, view.nodes[1.min(count - 1)]);
        }
    }

    #[test]
    fn alone_it_owns_all_slots_under_the_address_that_it_was_reached_by() {
        let everything = Some((0, SLOTS - 1));
        for cluster in [of(ClusterMode::Own), served(&[], &[])] {
            for (local, host, port) in
                [("10.1.2.3:7000", "10.1.2.3", 7000), ("[::1]:7000", "::1", 7000), ("/run/x.sock:0", "127.0.0.1", 6379)]
            {
                let View { nodes, here } = cluster.view(local, 6379).unwrap();
                assert_eq!((here.endpoint.host.as_str(), here.endpoint.port, here.slots), (host, port, everything));
                assert_eq!((here.id.len(), nodes), (40, vec![here]));
            }
        }
    }

    #[test]
    fn who_comes_by_the_sentinels_port_is_told_of_the_other() {
        let mut cluster = of(ClusterMode::Own);
        cluster.config.sentinel_port = Some(26_379);
        assert!(cluster.is_sentinel("10.1.2.3:26379") && !cluster.is_sentinel("10.1.2.3:6379"));
        let view = cluster.view("10.1.2.3:26379", 6379).unwrap();
        assert_eq!(view.here.endpoint, Endpoint::parse("10.1.2.3:6379").unwrap());
        cluster.config.mode = ClusterMode::Off;
        assert!(!cluster.is_sentinel("10.1.2.3:26379"));
    }

    #[test]
    fn an_instance_behind_a_name_knows_itself_by_its_port() {
        let view = listed(&["a.logs:7001", "b.logs:7002"]).view("10.0.0.9:7002", 7002).unwrap();
        assert_eq!(view.here.endpoint.host, "b.logs");
    }

    #[test]
    fn an_instance_of_a_service_knows_itself_by_its_address_and_else_by_its_node() {
        let cluster = served(&["10.0.0.1:6379 n0", "10.0.0.2:6379 n1", "10.0.0.3:6379 n2"], &[]);
        for (local, me) in [("10.0.0.1:6379", "10.0.0.1"), ("127.0.0.1:6379", "10.0.0.2"), ("/s:0", "10.0.0.2")] {
            let view = cluster.view(local, 6379).unwrap();
            assert_whole(&view);
            assert_eq!(
                (hosts(&view), view.here.endpoint.host.as_str()),
                (vec!["10.0.0.1", "10.0.0.2", "10.0.0.3"], me)
            );
        }
    }

    #[test]
    fn an_instance_that_is_not_ready_owns_nothing_and_tells_of_those_who_do() {
        let view = served(&["10.0.0.2:6379 n2", "10.0.0.3:6379 n3"], &[]).view("10.0.0.1:6379", 6379).unwrap();
        assert_whole(&view);
        assert_eq!(hosts(&view), ["10.0.0.2", "10.0.0.3"]);
        assert_eq!((view.here.endpoint.host.as_str(), view.here.slots, view.all().count()), ("10.0.0.1", None, 3));
    }

    #[test]
    fn who_comes_by_ipv6_is_told_of_ipv6() {
        let both = served(&["10.0.0.1:1 n1"], &["[fd00::1]:1 n1"]);
        assert_eq!(hosts(&both.view("10.0.0.1:1", 1).unwrap()), ["10.0.0.1"]);
        assert_eq!(hosts(&both.view("[fd00::1]:1", 1).unwrap()), ["fd00::1"]);
        let six = served(&[], &["[fd00::1]:1 n1"]);
        assert_eq!(hosts(&six.view("10.0.0.1:1", 1).unwrap()), ["fd00::1"]);
    }

    #[test]
    fn what_is_no_address_is_none() {
        for bad in ["", "a", ":1", "a:", "a:0", "a:65536", "a b:1", "[a]:1", "::1:1"] {
            assert!(Endpoint::parse(bad).is_none(), "{bad}");
        }
        assert_eq!(Endpoint::parse("[::1]:1").unwrap().host, "::1");
    }
}
