//! Hubs found by the name of their Service, through a name server that answers as a cluster's does: the ready endpoints of
//! a headless Service of a real API server, at the moment of the question.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::bed::{WorkDir, wait_until};
use crate::kube::Cluster;
use crate::kube::objects::{service, slice, slice_path};
use crate::support::{Plane, SOON, Setup};

/// Where the name server of the tests' network listens. It is a network of their own.
const SERVER: (Ipv4Addr, u16) = (Ipv4Addr::new(127, 0, 0, 1), 53);
const A: u16 = 1;
const AAAA: u16 = 28;
const NO_SUCH_NAME: u16 = 3;

/// A name server for one Service.
struct ClusterDns {
    files: WorkDir,
    asked: Arc<AtomicUsize>,
}

impl ClusterDns {
    /// Answers for as long as the tests run.
    fn start(cluster: &'static Cluster, namespace: &str, service: &str) -> Self {
        let socket = UdpSocket::bind(SERVER).expect("port 53 of a network namespace of our own");
        let name = format!("{service}.{namespace}.svc.cluster.local");
        let path = format!(
            "/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices?labelSelector=kubernetes.io%2Fservice-name%3D{service}"
        );
        let asked = Arc::new(AtomicUsize::new(0));
        std::thread::spawn({
            let asked = asked.clone();
            move || {
                let mut question = [0; 512];
                while let Ok((length, from)) = socket.recv_from(&mut question) {
                    let (asked_for, kind) = read_question(&question[..length]);
                    let addresses = (asked_for == name).then(|| ready(&cluster.client().get(&path)));
                    asked.fetch_add(usize::from(kind == A && addresses.is_some()), Ordering::SeqCst);
                    let _ = socket.send_to(&answer(&question[..length], kind, addresses.as_deref()), from);
                }
            }
        });
        let files = WorkDir::new("resolver");
        files.write("resolv.conf", "nameserver 127.0.0.1\noptions timeout:1 attempts:2\n");
        Self { files, asked }
    }
}

/// The ready addresses of slices.
fn ready(slices: &Value) -> Vec<Ipv4Addr> {
    let endpoints = slices["items"].as_array().unwrap().iter().flat_map(|slice| slice["endpoints"].as_array().cloned());
    let ready = endpoints.flatten().filter(|endpoint| endpoint["conditions"]["ready"] != false);
    ready.map(|endpoint| endpoint["addresses"][0].as_str().unwrap().parse().unwrap()).collect()
}

/// The name and the type of a question (RFC 1035, 4.1.2).
fn read_question(message: &[u8]) -> (String, u16) {
    let (mut at, mut labels) = (12, Vec::new());
    while message[at] != 0 {
        let length = usize::from(message[at]);
        labels.push(String::from_utf8_lossy(&message[at + 1..=at + length]).to_ascii_lowercase());
        at += 1 + length;
    }
    (labels.join("."), u16::from_be_bytes([message[at + 1], message[at + 2]]))
}

/// An answer with these addresses; `None` for a name that there is not. As a cluster's name server, it knows no name of a
/// headless Service without endpoints.
fn answer(question: &[u8], kind: u16, addresses: Option<&[Ipv4Addr]>) -> Vec<u8> {
    let found = addresses.filter(|addresses| !addresses.is_empty());
    let told = found.filter(|_| kind == A).unwrap_or_default();
    let name_end = 12 + question[12..].iter().position(|byte| *byte == 0).unwrap() + 5;
    let flags = 0x8580 | if found.is_none() { NO_SUCH_NAME } else { 0 };
    let mut message = question[..2].to_vec();
    for number in [flags, 1, u16::try_from(told.len()).unwrap(), 0, 0] {
        message.extend(number.to_be_bytes());
    }
    message.extend(&question[12..name_end]);
    for address in told {
        // The question's name, an address of the Internet, 0 s to be kept, 4 bytes.
        message.extend([0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
        message.extend(address.octets());
    }
    assert!(kind == A || kind == AAAA, "the resolver asks for nothing else");
    message
}

fn ports() -> Value {
    json!([{"name": "http", "port": 8080, "protocol": "TCP"}])
}

fn endpoints(addresses: &[&str]) -> Value {
    json!(addresses.iter().map(|address| json!({"addresses": [address]})).collect::<Vec<_>>())
}

fn lines(address: &str) -> BTreeSet<String> {
    BTreeSet::from([format!("{address}:8080 ready")])
}

#[test]
fn rule_14_hubs_in_a_row_are_found_by_the_name_of_their_service_and_whoever_is_behind_it_now() {
    let cluster = Cluster::shared(0);
    let namespace = cluster.namespace("named");
    let mut headless = service(&namespace, "hub");
    headless["spec"]["clusterIP"] = json!("None");
    headless["spec"]["selector"] = Value::Null;
    cluster.client().create(&headless);
    cluster.client().create(&slice(&namespace, "a", "a", &endpoints(&["10.244.64.1"]), &ports()));
    let dns = ClusterDns::start(cluster, &namespace, "hub");
    let port = crate::bed::free_port();
    let hub_at = |address: &str| {
        let at: SocketAddr = format!("{address}:{port}").parse().unwrap();
        let setup = Setup::at(at, "anonymous = \"read\"");
        setup.cluster("east", cluster, &format!("namespaces = [\"{namespace}\"]")).start()
    };
    let source = format!(
        "[[discovery.source]]\nkind = \"hub\"\nname = \"named\"\nservice = \"{namespace}/hub\"\nport = {port}\n"
    );
    let resolver = dns.files.path().join("resolv.conf");
    let relayed = Setup::new("").sections(&source).resolver(&resolver).start_unsynced();
    let why = |plane: &Plane| plane.tidegate.get("/debug/pools").text();
    // Nobody is behind the name yet: nothing is known, and why is said.
    wait_until(SOON, "the reason", || why(&relayed).contains(&format!("hub.{namespace}.svc.cluster.local")));
    assert_eq!(relayed.get("/v1/pools").status, 503);
    let mut one = hub_at("10.244.202.1");
    cluster.client().create(&slice(&namespace, "hub-1", "hub", &endpoints(&["10.244.202.1"]), &ports()));
    relayed.wait_synced();
    let id = format!("east/{namespace}/a/http");
    assert_eq!(relayed.pool(&id), Some(lines("10.244.64.1")));
    // A relay of the relay: the same bytes at the end of the row.
    let last = Setup::new("")
        .sections(&format!(
            "[[discovery.source]]\nkind = \"hub\"\nname = \"last\"\nurl = \"http://{}\"",
            relayed.address
        ))
        .start();
    let etag = |plane: &Plane| plane.header(&format!("/v1/pools/{id}"), "etag");
    assert_eq!(etag(&last), etag(&one));
    // Two behind the name, of which one goes: the other is asked, and nothing is emptied.
    let mut other = hub_at("10.244.202.2");
    let both = json!({"endpoints": endpoints(&["10.244.202.1", "10.244.202.2"])});
    cluster.client().patch(&slice_path(&namespace, "hub-1"), &both);
    one.tidegate.kill9();
    cluster.client().patch(&slice_path(&namespace, "a"), &json!({"endpoints": endpoints(&["10.244.64.2"])}));
    last.wait_pool(&id, "changed", |pool| pool == Some(&lines("10.244.64.2")));
    // Everybody behind the name is another than before, as after a rolling update of the hubs.
    let third = hub_at("10.244.202.3");
    let moved = json!({"endpoints": endpoints(&["10.244.202.3"])});
    cluster.client().patch(&slice_path(&namespace, "hub-1"), &moved);
    let questions = dns.asked.load(Ordering::SeqCst);
    other.tidegate.kill9();
    cluster.client().patch(&slice_path(&namespace, "a"), &json!({"endpoints": endpoints(&["10.244.64.3"])}));
    last.wait_pool(&id, "changed", |pool| pool == Some(&lines("10.244.64.3")));
    assert!(dns.asked.load(Ordering::SeqCst) > questions, "the name is looked up whenever a hub is needed");
    assert_eq!(etag(&last), etag(&third));
    assert_eq!(last.header(&format!("/v1/pools/{id}"), "tidegate-state"), "fresh");
}
