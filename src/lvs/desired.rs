//! Which real servers a virtual server should have now. Pure: the time comes in.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::{Forwarding, Transport, VirtualServer};
use crate::pull::View;
use crate::pull::wire::State;
use crate::render::weights;

/// A virtual server with its real ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Balanced {
    /// What it is.
    pub virtual_server: VirtualServer,
    /// By address, each with its weight; 0 takes no new connections.
    pub real: BTreeMap<SocketAddr, u32>,
}

/// What should be, and what stands in the way of more.
#[derive(Clone, Debug, Default)]
pub struct Desired {
    /// In the order of their addresses.
    pub servers: Vec<Balanced>,
    /// For people.
    pub problems: Vec<String>,
}

type Key = (IpAddr, u16, Transport);

/// Real servers that are gone and finish their connections.
#[derive(Debug, Default)]
pub struct Drains {
    /// What each virtual server had last.
    last: BTreeMap<Key, BTreeMap<SocketAddr, u32>>,
    /// Until when each stays.
    leaving: BTreeMap<(Key, SocketAddr), Instant>,
}

// === impl Balanced ===

impl Balanced {
    /// The real servers as they are to be, the sorry server among them where no other takes new connections: those that
    /// drain keep theirs beside it.
    pub fn with_sorry(&self) -> BTreeMap<SocketAddr, u32> {
        let mut real = self.real.clone();
        if let Some(sorry) = self.virtual_server.sorry.filter(|_| self.takes_none()) {
            real.insert(sorry, 1);
        }
        real
    }

    /// Whether no real server of the pool takes new connections.
    pub fn takes_none(&self) -> bool {
        self.real.values().all(|weight| *weight == 0)
    }
}

// === impl Drains ===

impl Drains {
    /// When the next one is to be removed.
    pub fn next_end(&self) -> Option<Instant> {
        self.leaving.values().min().copied()
    }

    /// Adds those that are gone, for `linger` each.
    fn keep(&mut self, key: Key, real: &mut BTreeMap<SocketAddr, u32>, linger: Duration, now: Instant) {
        let leaving = &mut self.leaving;
        for address in self.last.get(&key).into_iter().flat_map(BTreeMap::keys) {
            if real.contains_key(address) {
                leaving.remove(&(key, *address));
                continue;
            }
            let until = *leaving.entry((key, *address)).or_insert(now + linger);
            if until > now {
                real.insert(*address, 0);
            } else {
                leaving.remove(&(key, *address));
            }
        }
        self.last.insert(key, real.clone());
    }
}

/// What should be; a real server that is gone stays for `linger`.
pub fn desired(servers: &[VirtualServer], view: &View, drains: &mut Drains, linger: Duration, now: Instant) -> Desired {
    let mut found: BTreeMap<Key, Balanced> = BTreeMap::new();
    let mut problems = Vec::new();
    for server in servers {
        let key = (server.address, server.port, server.transport);
        let at = SocketAddr::new(server.address, server.port);
        if let Some(other) = found.get(&key) {
            let (one, two) = (&other.virtual_server.pool, &server.pool);
            problems.push(format!(
                "the virtual server {at} is taken by the pool {one}: give {two} another address or port"
            ));
            continue;
        }
        let Some(pool) = view.pools.get(&server.pool) else {
            problems.push(format!("the virtual server {at} has the pool {}, which is not known", server.pool));
            // One that was there keeps what it has until its pool is said to be gone for as long as a server drains.
            let mut real = BTreeMap::new();
            drains.keep(key, &mut real, linger, now);
            if !real.is_empty() || server.sorry.is_some() {
                found.insert(key, Balanced { virtual_server: server.clone(), real });
            }
            continue;
        };
        let mut real = BTreeMap::new();
        let protocol = match server.transport {
            Transport::Tcp => "TCP",
            Transport::Udp => "UDP",
        };
        for (it, weight) in pool.endpoints.iter().zip(weights(pool)).filter(|(it, _)| it.protocol == protocol) {
            let family = it.address.is_ipv4() == server.address.is_ipv4();
            if !family && server.forwarding != Forwarding::Tunnel {
                problems
                    .push(format!("the virtual server {at} and the real server {} are of two families", it.socket()));
                continue;
            }
            if server.forwarding == Forwarding::Direct && it.port != server.port {
                problems.push(format!("the virtual server {at} routes directly, which keeps the port, and {} has another: use forwarding = \"masquerade\", or the port {}", it.socket(), it.port));
                continue;
            }
            real.insert(it.socket(), if it.state == State::Draining { 0 } else { weight });
        }
        drains.keep(key, &mut real, linger, now);
        found.insert(key, Balanced { virtual_server: server.clone(), real });
    }
    drains.last.retain(|key, _| found.contains_key(key));
    drains.leaving.retain(|(key, _), _| found.contains_key(key));
    Desired { servers: found.into_values().collect(), problems }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::pull::wire::{Endpoint, Pool};

    fn view(endpoints: &[(&str, u32, &str)]) -> View {
        let endpoint = |(address, weight, state): &(&str, u32, &str)| {
            let address: SocketAddr = address.parse().unwrap();
            let text =
                serde_json::json!({"address": address.ip(), "port": address.port(), "weight": weight, "state": state});
            serde_json::from_value::<Endpoint>(text).unwrap()
        };
        let endpoints = endpoints.iter().map(endpoint).collect();
        let pool = Pool { id: "p".into(), traffic_generation: None, endpoints, etag: String::new() };
        View { pools: [("p".to_owned(), Arc::new(pool))].into(), ..View::default() }
    }

    fn server(port: u16) -> VirtualServer {
        VirtualServer { address: "10.9.9.9".parse().unwrap(), port, pool: "p".into(), ..VirtualServer::default() }
    }

    fn real(found: &Desired) -> Vec<(String, u32)> {
        found.servers.iter().flat_map(|it| &it.real).map(|(address, weight)| (address.to_string(), *weight)).collect()
    }

    #[test]
    fn a_real_server_that_drains_or_is_gone_has_the_weight_zero_for_a_time() {
        let now = Instant::now();
        let mut drains = Drains::default();
        let linger = Duration::from_secs(30);
        let at = |seconds| now + Duration::from_secs(seconds);
        let one = |address: &str, weight| (address.to_owned(), weight);
        let both = view(&[("10.0.0.1:80", 100, "ready"), ("10.0.0.2:80", 50, "ready")]);
        assert_eq!(
            real(&desired(&[server(80)], &both, &mut drains, linger, now)),
            [one("10.0.0.1:80", 256), one("10.0.0.2:80", 128)]
        );
        let draining = view(&[("10.0.0.1:80", 100, "ready"), ("10.0.0.2:80", 50, "draining")]);
        assert_eq!(real(&desired(&[server(80)], &draining, &mut drains, linger, at(1)))[1], one("10.0.0.2:80", 0));
        let gone = view(&[("10.0.0.1:80", 100, "ready")]);
        assert_eq!(
            real(&desired(&[server(80)], &gone, &mut drains, linger, at(10)))[1],
            one("10.0.0.2:80", 0),
            "not yet removed"
        );
        assert_eq!(drains.next_end(), Some(at(40)));
        assert_eq!(real(&desired(&[server(80)], &gone, &mut drains, linger, at(39))).len(), 2);
        assert_eq!(real(&desired(&[server(80)], &gone, &mut drains, linger, at(40))), [one("10.0.0.1:80", 256)]);
        assert_eq!(drains.next_end(), None);
        let none = view(&[]);
        assert_eq!(
            real(&desired(&[server(80)], &none, &mut drains, linger, at(50))),
            [one("10.0.0.1:80", 0)],
            "scaled to zero"
        );
        assert_eq!(
            real(&desired(&[server(80)], &both, &mut drains, linger, at(60)))[0],
            one("10.0.0.1:80", 256),
            "it came back"
        );
        assert_eq!(drains.next_end(), None);
    }

    #[test]
    fn what_cannot_be_balanced_is_said() {
        let now = Instant::now();
        let found = |servers: &[VirtualServer]| {
            let view = view(&[("10.0.0.1:8080", 100, "ready"), ("[fd00::1]:80", 100, "ready")]);
            desired(servers, &view, &mut Drains::default(), Duration::ZERO, now)
        };
        let direct = found(&[server(80)]);
        assert_eq!(real(&direct), []);
        assert!(
            direct.problems[0].contains("masquerade") && direct.problems[1].contains("two families"),
            "{:?}",
            direct.problems
        );
        let masquerade = VirtualServer { forwarding: Forwarding::Masquerade, ..server(80) };
        assert_eq!(real(&found(std::slice::from_ref(&masquerade))), [("10.0.0.1:8080".to_owned(), 256)]);
        assert!(found(&[masquerade.clone(), masquerade.clone()]).problems.iter().any(|it| it.contains("is taken")));
        let unknown = VirtualServer { pool: "q".into(), ..masquerade };
        assert!(found(&[unknown]).problems[0].contains("not known"));
    }
}
