//! keepalived's `virtual_server` blocks.

use std::fmt::Write as _;
use std::net::SocketAddr;

use super::desired::Balanced;
use super::{Check, Forwarding, Transport};

/// Seconds that a check's connection may take, and between two checks.
const CONNECT_SECONDS: u32 = 3;
const DELAY_SECONDS: u32 = 5;
/// The last address of the block for documentation: nobody answers there.
const NOBODY: &str = "192.0.2.255";

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
    if let Some(sorry) = server.sorry {
        let _ = writeln!(text, "    sorry_server {} {}", sorry.ip(), sorry.port());
    }
    for (address, weight) in &balanced.real {
        real(text, *address, *weight, server.check, server.transport);
    }
    if balanced.real.is_empty() {
        // A block without any real server is refused, a sorry server or not. One of no weight is no quorum: it is sorry.
        let _ = writeln!(text, "    real_server {NOBODY} {} {{\n        weight 0\n    }}", server.port);
    }
    text.push_str("}\n");
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
    use crate::lvs::VirtualServer;

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
        let udp =
            VirtualServer { transport: Transport::Udp, forwarding: Forwarding::Tunnel, ..VirtualServer::default() };
        let empty = text(&[Balanced { virtual_server: udp, real: [].into() }]);
        assert!(
            empty.contains("lvs_method TUN")
                && empty.contains("protocol UDP")
                && empty.contains("real_server 192.0.2.255")
        );
    }
}
