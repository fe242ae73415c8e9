//! IPVS in generic netlink: what a service and a real server are there, and which messages make of what is what should be.
//! Pure. Numbers are those of `linux/ip_vs.h`.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use super::desired::Balanced;
use super::netlink::{ACKNOWLEDGE, DUMP, Message, REQUEST, attributes, find, number16, number32, put};
use super::{Forwarding, Transport, VirtualServer};

/// The family's name.
pub(super) const FAMILY: &str = "IPVS";
const VERSION: u8 = 1;

const NEW_SERVICE: u8 = 1;
const SET_SERVICE: u8 = 2;
const DEL_SERVICE: u8 = 3;
const GET_SERVICE: u8 = 4;
const NEW_DEST: u8 = 5;
const SET_DEST: u8 = 6;
const DEL_DEST: u8 = 7;
const GET_DEST: u8 = 8;

const SERVICE: u16 = 1;
const DEST: u16 = 2;

const SVC_AF: u16 = 1;
const SVC_PROTOCOL: u16 = 2;
const SVC_ADDR: u16 = 3;
const SVC_PORT: u16 = 4;
const SVC_SCHED_NAME: u16 = 6;
const SVC_FLAGS: u16 = 7;
const SVC_TIMEOUT: u16 = 8;
const SVC_NETMASK: u16 = 9;

const DEST_ADDR: u16 = 1;
const DEST_PORT: u16 = 2;
const DEST_FWD_METHOD: u16 = 3;
const DEST_WEIGHT: u16 = 4;
const DEST_U_THRESH: u16 = 5;
const DEST_L_THRESH: u16 = 6;
const DEST_ADDR_FAMILY: u16 = 11;

const INET: u16 = 2;
const INET6: u16 = 10;
const PERSISTENT: u32 = 1;
/// The bits of a forwarding method that are one.
const METHODS: u32 = 7;

/// What makes a service the same one.
pub(super) type Key = (IpAddr, u16, Transport);

/// A service as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Service {
    pub(super) scheduler: String,
    /// 0 for none.
    pub(super) persistence: u32,
    /// Real servers with weight and forwarding method.
    pub(super) real: BTreeMap<SocketAddr, (u32, u32)>,
}

/// One message's meaning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    NewService(Key, String, u32),
    SetService(Key, String, u32),
    DelService(Key),
    NewDest(Key, SocketAddr, u32, u32),
    SetDest(Key, SocketAddr, u32, u32),
    DelDest(Key, SocketAddr),
}

/// The key of a virtual server.
pub(super) fn key(server: &VirtualServer) -> Key {
    (server.address, server.port, server.transport)
}

fn method(forwarding: Forwarding) -> u32 {
    match forwarding {
        Forwarding::Masquerade => 0,
        Forwarding::Tunnel => 2,
        Forwarding::Direct => 3,
    }
}

/// What is to be changed: new ones before old ones go. `owned` are services that are no longer wanted.
pub(super) fn plan(has: &BTreeMap<Key, Service>, wanted: &[Balanced], owned: &[Key]) -> Vec<Change> {
    let mut changes = Vec::new();
    for balanced in wanted {
        let server = &balanced.virtual_server;
        let (key, method) = (key(server), method(server.forwarding));
        let before = has.get(&key);
        let what = || (server.scheduler.clone(), server.persistence_seconds);
        match before {
            None => changes.push(Change::NewService(key, what().0, what().1)),
            Some(it) if (it.scheduler.clone(), it.persistence) != what() => {
                changes.push(Change::SetService(key, what().0, what().1));
            }
            Some(_) => {}
        }
        let real = balanced.with_sorry();
        let none = BTreeMap::new();
        let known = before.map_or(&none, |it| &it.real);
        for (address, weight) in &real {
            match known.get(address) {
                None => changes.push(Change::NewDest(key, *address, *weight, method)),
                Some(now) if *now != (*weight, method) => changes.push(Change::SetDest(key, *address, *weight, method)),
                Some(_) => {}
            }
        }
        changes.extend(known.keys().filter(|it| !real.contains_key(it)).map(|address| Change::DelDest(key, *address)));
    }
    changes.extend(owned.iter().filter(|key| has.contains_key(key)).map(|key| Change::DelService(*key)));
    changes
}

// === impl Change ===

impl Change {
    /// As a message.
    pub(super) fn message(&self, family: u16, sequence: u32) -> Vec<u8> {
        let (command, service, dest) = match self {
            Self::NewService(key, scheduler, persistence) => (NEW_SERVICE, service(key, scheduler, *persistence), None),
            Self::SetService(key, scheduler, persistence) => (SET_SERVICE, service(key, scheduler, *persistence), None),
            Self::DelService(key) => (DEL_SERVICE, service_key(key), None),
            Self::NewDest(key, at, weight, method) => (NEW_DEST, service_key(key), Some(dest(at, *weight, *method))),
            Self::SetDest(key, at, weight, method) => (SET_DEST, service_key(key), Some(dest(at, *weight, *method))),
            Self::DelDest(key, at) => (DEL_DEST, service_key(key), Some(dest(at, 0, 0))),
        };
        let message = Message::new(family, REQUEST | ACKNOWLEDGE, sequence, command, VERSION).put(SERVICE, &service);
        match dest {
            Some(dest) => message.put(DEST, &dest).finish(),
            None => message.finish(),
        }
    }
}

/// Asks for all services.
pub(super) fn get_services(family: u16, sequence: u32) -> Vec<u8> {
    Message::new(family, REQUEST | DUMP, sequence, GET_SERVICE, VERSION).finish()
}

/// Asks for all real servers of one.
pub(super) fn get_dests(family: u16, sequence: u32, key: &Key) -> Vec<u8> {
    Message::new(family, REQUEST | DUMP, sequence, GET_DEST, VERSION).put(SERVICE, &service_key(key)).finish()
}

fn octets(address: IpAddr) -> (u16, Vec<u8>) {
    match address {
        IpAddr::V4(four) => (INET, four.octets().to_vec()),
        IpAddr::V6(six) => (INET6, six.octets().to_vec()),
    }
}

fn service_key((address, port, transport): &Key) -> Vec<u8> {
    let (family, octets) = octets(*address);
    let protocol: u16 = match transport {
        Transport::Tcp => 6,
        Transport::Udp => 17,
    };
    let mut bytes = Vec::new();
    put(&mut bytes, SVC_AF, &family.to_ne_bytes());
    put(&mut bytes, SVC_PROTOCOL, &protocol.to_ne_bytes());
    put(&mut bytes, SVC_ADDR, &octets);
    put(&mut bytes, SVC_PORT, &port.to_be_bytes());
    bytes
}

fn service(key: &Key, scheduler: &str, persistence: u32) -> Vec<u8> {
    let mut bytes = service_key(key);
    let name: Vec<u8> = scheduler.bytes().chain([0]).collect();
    put(&mut bytes, SVC_SCHED_NAME, &name);
    let flags = if persistence > 0 { PERSISTENT } else { 0 };
    let flags: Vec<u8> = flags.to_ne_bytes().into_iter().chain(u32::MAX.to_ne_bytes()).collect();
    put(&mut bytes, SVC_FLAGS, &flags);
    put(&mut bytes, SVC_TIMEOUT, &persistence.to_ne_bytes());
    // Of IPv4 a mask, of IPv6 the length of a prefix: each client for itself.
    let mask = if key.0.is_ipv4() { u32::MAX } else { 128 };
    put(&mut bytes, SVC_NETMASK, &mask.to_ne_bytes());
    bytes
}

fn dest(at: &SocketAddr, weight: u32, method: u32) -> Vec<u8> {
    let (family, octets) = octets(at.ip());
    let mut bytes = Vec::new();
    put(&mut bytes, DEST_ADDR_FAMILY, &family.to_ne_bytes());
    put(&mut bytes, DEST_ADDR, &octets);
    put(&mut bytes, DEST_PORT, &at.port().to_be_bytes());
    put(&mut bytes, DEST_FWD_METHOD, &method.to_ne_bytes());
    put(&mut bytes, DEST_WEIGHT, &weight.to_ne_bytes());
    put(&mut bytes, DEST_U_THRESH, &0_u32.to_ne_bytes());
    put(&mut bytes, DEST_L_THRESH, &0_u32.to_ne_bytes());
    bytes
}

/// A service of a dump; `None` for one that is known by a mark of packets.
pub(super) fn read_service(body: &[u8]) -> Option<(Key, Service)> {
    let service = attributes(find(&attributes(body), SERVICE)?);
    let family = number16(find(&service, SVC_AF)?, 0)?;
    let transport = match number16(find(&service, SVC_PROTOCOL)?, 0)? {
        6 => Transport::Tcp,
        17 => Transport::Udp,
        _ => return None,
    };
    let address = address(family, find(&service, SVC_ADDR)?)?;
    let port = u16::from_be_bytes(find(&service, SVC_PORT)?.try_into().ok()?);
    let name = find(&service, SVC_SCHED_NAME)?;
    let scheduler = name.split(|byte| *byte == 0).next().map(String::from_utf8_lossy).unwrap_or_default().into_owned();
    let persistent = find(&service, SVC_FLAGS).and_then(|flags| number32(flags, 0)).unwrap_or_default() & PERSISTENT;
    let timeout = find(&service, SVC_TIMEOUT).and_then(|timeout| number32(timeout, 0)).unwrap_or_default();
    let persistence = if persistent > 0 { timeout } else { 0 };
    Some(((address, port, transport), Service { scheduler, persistence, real: BTreeMap::new() }))
}

/// A real server of a dump.
pub(super) fn read_dest(body: &[u8], key: &Key) -> Option<(SocketAddr, (u32, u32))> {
    let dest = attributes(find(&attributes(body), DEST)?);
    let own = if key.0.is_ipv4() { INET } else { INET6 };
    let family = find(&dest, DEST_ADDR_FAMILY).and_then(|family| number16(family, 0)).unwrap_or(own);
    let port = u16::from_be_bytes(find(&dest, DEST_PORT)?.try_into().ok()?);
    let number = |kind| find(&dest, kind).and_then(|value| number32(value, 0));
    let at = SocketAddr::new(address(family, find(&dest, DEST_ADDR)?)?, port);
    Some((at, (number(DEST_WEIGHT)?, number(DEST_FWD_METHOD)? & METHODS)))
}

fn address(family: u16, octets: &[u8]) -> Option<IpAddr> {
    match family {
        INET => Some(IpAddr::from(<[u8; 4]>::try_from(octets.get(..4)?).ok()?)),
        INET6 => Some(IpAddr::from(<[u8; 16]>::try_from(octets.get(..16)?).ok()?)),
        _ => None,
    }
}

#[cfg(all(test, target_endian = "little"))]
mod tests {
    use super::*;
    use crate::lvs::netlink::{Received, messages};

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn vip() -> Key {
        (IpAddr::from([10, 9, 9, 9]), 80, Transport::Tcp)
    }

    /// The bytes are those that another encoder, pyroute2 0.9, makes of the same service and real server.
    #[test]
    fn messages_have_the_bytes_that_another_encoder_makes() {
        assert_eq!(
            hex(&Change::NewService(vip(), "wrr".into(), 60).message(0x1f, 7)),
            "5c0000001f0005000700000000000000010100004800010006000100020000000600020006000000080003000a090909060004000050000008000600777272000c00070001000000ffffffff080008003c00000008000900ffffffff"
        );
        assert_eq!(
            hex(&Change::NewDest(vip(), "10.0.0.1:80".parse().unwrap(), 256, 3).message(0x1f, 8)),
            "740000001f0005000800000000000000050100002400010006000100020000000600020006000000080003000a09090906000400005000003c00020006000b0002000000080001000a00000106000200005000000800030003000000080004000001000008000500000000000800060000000000"
        );
    }

    #[test]
    fn what_is_written_is_read() {
        for key in [vip(), ("fd00::9".parse().unwrap(), 443, Transport::Udp)] {
            let bytes = Change::NewService(key, "wlc".into(), 0).message(1, 1);
            let [Received::Data(body)] = messages(&bytes)[..] else { panic!() };
            let wanted = Service { scheduler: "wlc".into(), persistence: 0, real: BTreeMap::new() };
            assert_eq!(read_service(body), Some((key, wanted)));
            let at: SocketAddr = if key.0.is_ipv4() { "10.0.0.1:80" } else { "[fd00::1]:80" }.parse().unwrap();
            let bytes = Change::SetDest(key, at, 7, 3).message(1, 1);
            let [Received::Data(body)] = messages(&bytes)[..] else { panic!() };
            assert_eq!(read_dest(body, &key), Some((at, (7, 3))));
        }
        assert_eq!(read_service(b"garbage"), None);
    }

    #[test]
    fn the_difference_is_told_and_a_sorry_server_stands_in() {
        let sorry: SocketAddr = "10.0.0.9:80".parse().unwrap();
        let at = |last: u8| SocketAddr::new(IpAddr::from([10, 0, 0, last]), 80);
        let server = VirtualServer { address: vip().0, port: 80, sorry: Some(sorry), ..VirtualServer::default() };
        let wanted = |real: &[(u8, u32)]| {
            let real = real.iter().map(|(last, weight)| (at(*last), *weight)).collect();
            vec![Balanced { virtual_server: server.clone(), real }]
        };
        let nothing = BTreeMap::new();
        assert_eq!(
            plan(&nothing, &wanted(&[(1, 5)]), &[]),
            [Change::NewService(vip(), "wrr".into(), 0), Change::NewDest(vip(), at(1), 5, 3)]
        );
        let has = |scheduler: &str, real: &[(u8, u32)]| {
            let real = real.iter().map(|(last, weight)| (at(*last), (*weight, 3))).collect();
            BTreeMap::from([(vip(), Service { scheduler: scheduler.into(), persistence: 0, real })])
        };
        assert_eq!(plan(&has("wrr", &[(1, 5)]), &wanted(&[(1, 5)]), &[]), []);
        assert_eq!(
            plan(&has("rr", &[(1, 5), (2, 5)]), &wanted(&[(1, 0), (3, 5)]), &[]),
            [
                Change::SetService(vip(), "wrr".into(), 0),
                Change::SetDest(vip(), at(1), 0, 3),
                Change::NewDest(vip(), at(3), 5, 3),
                Change::DelDest(vip(), at(2)),
            ]
        );
        assert_eq!(plan(&has("wrr", &[(1, 5)]), &wanted(&[(1, 0)]), &[])[1], Change::NewDest(vip(), sorry, 1, 3));
        assert_eq!(plan(&has("wrr", &[(1, 0), (9, 1)]), &wanted(&[(1, 7)]), &[])[1], Change::DelDest(vip(), sorry));
        assert_eq!(plan(&has("wrr", &[]), &[], &[vip()]), [Change::DelService(vip())]);
        assert_eq!(plan(&has("wrr", &[]), &[], &[]), [], "somebody else's");
    }
}
