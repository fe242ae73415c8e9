//! keepalived's `virtual_server` blocks.
//!
//! keepalived refuses a block whose real servers have no weight at all, a `sorry_server` or not; and once it uses that one, it
//! takes the real servers away, with the connections that they finish. So where nobody of the pool takes new connections, the
//! sorry server is a real server beside those that drain; and where there is none, one that never comes up is.

use std::fmt::Write as _;
use std::net::SocketAddr;

use super::desired::Balanced;
use super::{Check, Forwarding, Transport, VirtualServer};

/// Seconds that a check's connection may take, and between two checks.
const CONNECT_SECONDS: u32 = 3;
const DELAY_SECONDS: u32 = 5;
/// Addresses of blocks for documentation: nobody answers there.
const NOBODY: &str = "192.0.2.255";
const NOBODY_6: &str = "2001:db8::ffff";

/// The file. Everything in it was parsed before: addresses, numbers, and words of lower case letters.
pub(super) fn text(servers: &[Balanced]) -> String {
    let mut text = String::from("# Written by Tidegate: changes here are lost.\n");
    for balanced in servers {
        one(&mut text, balanced);
    }
    text
}

fn one(text: &mut String, balanced: &Balanced) {
    let server = &balanced.virtual_server;
    let kind = match server.forwarding {
        Forwarding::Direct => "DR",
        Forwarding::Masquerade => "NAT",
        Forwarding::Tunnel => "TUN",
    };
    let protocol = match server.transport {
        Transport::Tcp => "TCP",
        Transport::Udp => "UDP",
    };
    // Writing to a string does not fail.
    let _ = writeln!(text, "\n# {}\nvirtual_server {} {} {{", server.pool, server.address, server.port);
    let _ = writeln!(
        text,
        "    delay_loop {DELAY_SECONDS}\n    lvs_sched {}\n    lvs_method {kind}\n    protocol {protocol}",
        server.scheduler
    );
    if server.persistence_seconds > 0 {
        let _ = writeln!(text, "    persistence_timeout {}", server.persistence_seconds);
    }
    let takes_none = balanced.takes_none();
    if let Some(sorry) = server.sorry.filter(|_| !takes_none) {
        let _ = writeln!(text, "    sorry_server {} {}", sorry.ip(), sorry.port());
    }
    for (address, weight) in balanced.with_sorry() {
        let check = if takes_none { Check::None } else { server.check };
        real(text, address, weight, check, server.transport);
    }
    if takes_none && server.sorry.is_none() {
        nobody(text, server);
    }
    text.push_str("}\n");
}

/// A real server that is taken for dead (`alpha`) until a check succeeds, which none does: connections are refused.
fn nobody(text: &mut String, server: &VirtualServer) {
    let address = if server.address.is_ipv4() { NOBODY } else { NOBODY_6 };
    let _ = writeln!(
        text,
        "    real_server {address} {} {{\n        weight 1\n        alpha\n        TCP_CHECK {{\n            connect_timeout {CONNECT_SECONDS}\n        }}\n    }}",
        server.port
    );
}

fn real(text: &mut String, address: SocketAddr, weight: u32, check: Check, transport: Transport) {
    let _ = writeln!(text, "    real_server {} {} {{\n        weight {weight}", address.ip(), address.port());
    // One that fails its check keeps its connections: it may only be slow.
    text.push_str("        inhibit_on_failure\n");
    if check == Check::Tcp && transport == Transport::Tcp && weight > 0 {
        let _ = writeln!(text, "        TCP_CHECK {{\n            connect_timeout {CONNECT_SECONDS}\n        }}");
    }
    text.push_str("    }\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_virtual_server_is_a_block_with_weights_checks_and_a_sorry_server() {
        let server = VirtualServer {
            address: "10.9.9.9".parse().unwrap(),
            port: 80,
            pool: "east/shop/web/http".into(),
            persistence_seconds: 60,
            sorry: Some("10.0.0.9:81".parse().unwrap()),
            ..VirtualServer::default()
        };
        let real = [("10.0.0.1:80".parse().unwrap(), 256), ("10.0.0.2:80".parse().unwrap(), 0)].into();
        assert_eq!(
            text(&[Balanced { virtual_server: server, real }]),
            "# Written by Tidegate: changes here are lost.\n\n# east/shop/web/http\nvirtual_server 10.9.9.9 80 {\n    delay_loop 5\n    lvs_sched wrr\n    lvs_method DR\n    protocol TCP\n    persistence_timeout 60\n    sorry_server 10.0.0.9 81\n    real_server 10.0.0.1 80 {\n        weight 256\n        inhibit_on_failure\n        TCP_CHECK {\n            connect_timeout 3\n        }\n    }\n    real_server 10.0.0.2 80 {\n        weight 0\n        inhibit_on_failure\n    }\n}\n"
        );
    }

    fn of(virtual_server: VirtualServer, real: &[(&str, u32)]) -> String {
        let real = real.iter().map(|(address, weight)| (address.parse().unwrap(), *weight)).collect();
        text(&[Balanced { virtual_server, real }])
    }

    #[test]
    fn where_nobody_takes_new_connections_the_sorry_server_does_beside_those_that_drain() {
        let sorry = VirtualServer { sorry: Some("10.0.0.9:81".parse().unwrap()), ..VirtualServer::default() };
        let draining = of(sorry.clone(), &[("10.0.0.1:80", 0)]);
        assert!(!draining.contains("sorry_server") && !draining.contains("TCP_CHECK"), "{draining}");
        assert!(draining.contains("real_server 10.0.0.1 80 {\n        weight 0"), "{draining}");
        assert!(draining.contains("real_server 10.0.0.9 81 {\n        weight 1"), "{draining}");
        let empty = of(sorry, &[]);
        assert!(empty.contains("real_server 10.0.0.9 81 {\n        weight 1"), "{empty}");
    }

    #[test]
    fn without_a_sorry_server_one_stands_there_that_never_comes_up() {
        let udp =
            VirtualServer { transport: Transport::Udp, forwarding: Forwarding::Tunnel, ..VirtualServer::default() };
        let empty = of(udp, &[]);
        assert!(empty.contains("lvs_method TUN") && empty.contains("protocol UDP"), "{empty}");
        assert!(empty.contains("real_server 192.0.2.255 0 {\n        weight 1\n        alpha\n"), "{empty}");
        let six = VirtualServer { address: "fd00::9".parse().unwrap(), ..VirtualServer::default() };
        assert!(of(six, &[("[fd00::1]:80", 0)]).contains("real_server 2001:db8::ffff 0 {\n        weight 1\n"));
    }
}
