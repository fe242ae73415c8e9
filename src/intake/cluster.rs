//! What clients of a cluster are told: who the nodes are and which slots each owns.
//!
//! Tidegate needs no cluster, as any instance takes any key; it only looks like one to clients that cannot do otherwise.
//! The slots are split evenly over the addresses in their order, so that every instance with the same list tells the same,
//! and a node's id is made from its address alone.

use std::net::IpAddr;

use sha1::{Digest, Sha1};

/// How many slots a cluster has.
pub const SLOTS: usize = 16_384;

/// What CLUSTER and SENTINEL answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterConfig {
    /// Who owns the slots.
    pub mode: ClusterMode,
    /// The names under which SENTINEL knows this instance.
    pub sentinel_masters: Vec<String>,
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
    /// All nodes, by their first slot.
    pub nodes: Vec<Node>,
    /// The place of the node that this connection reached.
    pub me: usize,
}

/// An owner of slots.
#[derive(Debug)]
pub struct Node {
    /// Forty hexadecimal digits.
    pub id: String,
    /// Where it is.
    pub endpoint: Endpoint,
    /// Its slots, both included.
    pub slots: (usize, usize),
}

// === impl ClusterConfig ===

impl ClusterConfig {
    /// The cluster as seen by a connection that reached `local`; nothing where there is none. `port` is the listener's,
    /// for connections over a Unix socket.
    pub fn view(&self, local: &str, port: u16) -> Option<View> {
        let here = Endpoint::of_socket(local, port);
        match &self.mode {
            ClusterMode::Off => None,
            ClusterMode::Own => Some(View { nodes: nodes(&[here]), me: 0 }),
            ClusterMode::Nodes(endpoints) => {
                // A name in the list may be this instance as well; where no address says so, its port has to do.
                let same_port = |endpoint: &Endpoint| endpoint.port == here.port;
                let me = endpoints.iter().position(|endpoint| *endpoint == here);
                let me = me.or_else(|| endpoints.iter().position(same_port)).unwrap_or(0);
                Some(View { nodes: nodes(endpoints), me })
            }
        }
    }
}

impl Default for ClusterConfig {
    fn default() -> Self {
        Self { mode: ClusterMode::Off, sentinel_masters: vec!["mymaster".into()] }
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

    /// Forty hexadecimal digits, the same wherever they are made.
    pub fn id(&self) -> String {
        let digest = Sha1::digest(format!("{}:{}", self.host, self.port));
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

// === impl View ===

impl View {
    /// The node that this connection reached.
    pub fn here(&self) -> Option<&Node> {
        self.nodes.get(self.me)
    }
}

fn nodes(endpoints: &[Endpoint]) -> Vec<Node> {
    let count = endpoints.len().max(1);
    let first = |place: usize| place * SLOTS / count;
    let node = |(place, endpoint): (usize, &Endpoint)| Node {
        id: endpoint.id(),
        endpoint: endpoint.clone(),
        slots: (first(place), first(place + 1).saturating_sub(1)),
    };
    endpoints.iter().enumerate().map(node).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(addresses: &[&str]) -> ClusterConfig {
        let nodes = addresses.iter().map(|text| Endpoint::parse(text).unwrap()).collect();
        ClusterConfig { mode: ClusterMode::Nodes(nodes), ..ClusterConfig::default() }
    }

    #[test]
    fn every_slot_has_exactly_one_owner() {
        for count in [1, 2, 3, 7, 1000] {
            let addresses: Vec<String> = (0..count).map(|n| format!("10.0.{}.{}:6379", n / 250, n % 250)).collect();
            let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
            let view = config(&addresses).view("10.0.0.1:6379", 6379).unwrap();
            let mut next = 0;
            for node in &view.nodes {
                assert_eq!(node.slots.0, next);
                next = node.slots.1 + 1;
            }
            assert_eq!(next, SLOTS);
            assert_eq!(view.me, 1.min(count - 1));
        }
    }

    #[test]
    fn alone_it_owns_all_slots_under_the_address_that_it_was_reached_by() {
        let own = ClusterConfig { mode: ClusterMode::Own, ..ClusterConfig::default() };
        for (local, host, port) in
            [("10.1.2.3:7000", "10.1.2.3", 7000), ("[::1]:7000", "::1", 7000), ("/run/x.sock:0", "127.0.0.1", 6379)]
        {
            let view = own.view(local, 6379).unwrap();
            let node = view.here().unwrap();
            assert_eq!((node.endpoint.host.as_str(), node.endpoint.port, node.slots), (host, port, (0, SLOTS - 1)));
            assert_eq!(node.id.len(), 40);
        }
    }

    #[test]
    fn an_instance_behind_a_name_knows_itself_by_its_port() {
        let view = config(&["a.logs:7001", "b.logs:7002"]).view("10.0.0.9:7002", 7002).unwrap();
        assert_eq!(view.me, 1);
    }

    #[test]
    fn what_is_no_address_is_none() {
        for bad in ["", "a", ":1", "a:", "a:0", "a:65536", "a b:1", "[a]:1", "::1:1"] {
            assert!(Endpoint::parse(bad).is_none(), "{bad}");
        }
        assert_eq!(Endpoint::parse("[::1]:1").unwrap().host, "::1");
    }
}
