//! From EndpointSlices to addresses: the union of all slices, each endpoint that is ready, at the port of the given name.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::discovery::v1::EndpointSlice;

use super::Peer;

/// The most instances that clients are told of: a cluster has five thousand nodes.
const MOST: usize = 5000;

/// The instances by IPv4 and by IPv6 address, each sorted; a Service of both families has each instance in both.
pub(super) fn ready<'a>(slices: impl Iterator<Item = &'a EndpointSlice>, port: &str) -> (Vec<Peer>, Vec<Peer>) {
    let mut found: BTreeMap<SocketAddr, Option<String>> = BTreeMap::new();
    for slice in slices {
        let ports = slice.ports.iter().flatten();
        let of_name = |name: Option<&String>| name.map_or("", String::as_str) == port;
        let is_tcp = |protocol: Option<&String>| protocol.is_none_or(|protocol| protocol == "TCP");
        let mut ports = ports.filter(|port| of_name(port.name.as_ref()) && is_tcp(port.protocol.as_ref()));
        let number = ports.find_map(|port| u16::try_from(port.port?).ok().filter(|number| *number > 0));
        let Some(number) = number else { continue };
        for endpoint in slice.endpoints.iter().flatten() {
            // Nothing said is ready.
            let is_ready = endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true);
            // Further addresses of an endpoint mean the same as its first.
            let address = endpoint.addresses.first().and_then(|address| address.parse::<IpAddr>().ok());
            if let (true, Some(address)) = (is_ready, address) {
                // In two slices at once while it moves from one to the other.
                let node = found.entry(SocketAddr::new(address, number)).or_default();
                if node.is_none() {
                    node.clone_from(&endpoint.node_name);
                }
            }
        }
    }
    let peers = found.into_iter().map(|(address, node)| Peer { address, node });
    let (mut v4, mut v6): (Vec<_>, Vec<_>) = peers.partition(|peer| peer.address.is_ipv4());
    v4.truncate(MOST);
    v6.truncate(MOST);
    (v4, v6)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn slice(family: &str, ports: Value, endpoints: Value) -> EndpointSlice {
        let slice = json!({ "metadata": {}, "addressType": family, "ports": ports, "endpoints": endpoints });
        serde_json::from_value(slice).unwrap()
    }

    fn texts(peers: &[Peer]) -> Vec<String> {
        let text = |peer: &Peer| format!("{} {}", peer.address, peer.node.as_deref().unwrap_or("-"));
        peers.iter().map(text).collect()
    }

    #[test]
    fn the_list_is_the_union_of_what_is_ready_at_the_named_port() {
        let ports = |number: u16| json!([{ "name": "admin", "port": 9900 }, { "name": "redis", "port": number }]);
        let one = slice(
            "IPv4",
            ports(6379),
            json!([
                { "addresses": ["10.0.0.9"], "nodeName": "n9", "conditions": { "ready": true } },
                { "addresses": ["10.0.0.2"], "nodeName": "n2" },
                { "addresses": ["10.0.0.3"], "conditions": { "ready": false, "serving": true, "terminating": true } },
            ]),
        );
        // Ready here, and no longer there.
        let two = slice("IPv4", ports(6379), json!([{ "addresses": ["10.0.0.3"], "nodeName": "n3" }]));
        let other_number = slice("IPv4", ports(7000), json!([{ "addresses": ["10.0.0.4"] }]));
        let six = slice("IPv6", ports(6379), json!([{ "addresses": ["fd00::1"], "nodeName": "n9" }]));
        let slices = [one, two, other_number, six];
        let (v4, v6) = ready(slices.iter(), "redis");
        assert_eq!(texts(&v4), ["10.0.0.2:6379 n2", "10.0.0.3:6379 n3", "10.0.0.4:7000 -", "10.0.0.9:6379 n9"]);
        assert_eq!(texts(&v6), ["[fd00::1]:6379 n9"]);
        let (backwards, _) = ready(slices.iter().rev(), "redis");
        assert_eq!(v4, backwards);
    }

    #[test]
    fn what_has_no_such_port_or_no_address_is_nobody() {
        let endpoints = json!([{ "addresses": ["10.0.0.1"] }]);
        for (family, ports, endpoints) in [
            ("IPv4", json!([{ "name": "redis", "port": 6379, "protocol": "UDP" }]), endpoints.clone()),
            ("IPv4", json!([{ "name": "redis" }]), endpoints.clone()),
            ("IPv4", json!([{ "port": 6379 }]), endpoints.clone()),
            ("IPv4", Value::Null, endpoints),
            ("FQDN", json!([{ "name": "redis", "port": 6379 }]), json!([{ "addresses": ["a.example"] }])),
        ] {
            assert_eq!(ready([slice(family, ports, endpoints)].iter(), "redis"), (vec![], vec![]));
        }
        let unnamed = slice("IPv4", json!([{ "port": 6379 }]), json!([{ "addresses": ["10.0.0.1"] }]));
        assert_eq!(ready([unnamed].iter(), "").0.len(), 1);
    }
}
