//! Clients of xDS over gRPC on the port of the pull API.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tonic::Code;

use crate::bed::{WorkDir, http, wait_until};
use crate::kube::Cluster;
use crate::kube::objects::{slice, slice_path};
use crate::support::{SOON, Setup, kubeconfig_through};
use crate::xds_client::messages::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, RpcStatus,
};
use crate::xds_client::{ASSIGNMENT, DELTA_EDS, STREAM_EDS, Stream, endpoints, node};

type Delta = Stream<DeltaDiscoveryRequest, DeltaDiscoveryResponse>;
type Sotw = Stream<DiscoveryRequest, DiscoveryResponse>;

const SERVICES: usize = 8;

fn ports() -> Value {
    json!([{"name": "http", "port": 8080, "protocol": "TCP"}])
}

fn addresses(list: &[String]) -> Value {
    json!(list.iter().map(|address| json!({"addresses": [address]})).collect::<Vec<_>>())
}

fn one(address: &str) -> Value {
    addresses(&[address.to_owned()])
}

fn delta(names: &[String]) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        node: node("edge-1"),
        type_url: ASSIGNMENT.to_owned(),
        resource_names_subscribe: names.to_vec(),
        ..DeltaDiscoveryRequest::default()
    }
}

fn answer(response: &DeltaDiscoveryResponse, why: Option<&str>) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: ASSIGNMENT.to_owned(),
        response_nonce: response.nonce.clone(),
        error_detail: why.map(|why| RpcStatus { code: 3, message: why.to_owned() }),
        ..DeltaDiscoveryRequest::default()
    }
}

/// What a client has of pools.
type Has = BTreeMap<String, BTreeSet<String>>;

/// Follows pools by increments, through whatever happens to the server, until told to stop and nothing more comes.
fn follow_delta(address: SocketAddr, names: &[String], over: &AtomicBool) -> (Has, usize) {
    let (mut has, mut versions, mut streams) = (Has::new(), HashMap::new(), 0);
    loop {
        let first = DeltaDiscoveryRequest { initial_resource_versions: versions.clone(), ..delta(names) };
        let Ok(mut stream) = Delta::open(address, DELTA_EDS, None, first) else {
            wait_until(SOON, "a server", || http::get(address, "/v1/pools").is_ok_and(|it| it.status < 500));
            continue;
        };
        streams += 1;
        loop {
            let was_over = over.load(Ordering::SeqCst);
            match stream.poll(Duration::from_secs(1)) {
                Ok(Some(response)) => {
                    for resource in &response.resources {
                        let (name, endpoints) = endpoints(&resource.resource);
                        versions.insert(name.clone(), resource.version.clone());
                        has.insert(name, endpoints);
                    }
                    stream.send(answer(&response, None));
                }
                Ok(None) if was_over => return (has, streams),
                Ok(None) => {}
                // It went away, or has not told its pools yet: again, with what is there.
                Err(_) => break,
            }
        }
    }
}

/// As [`follow_delta`], by the state of the world.
fn follow_sotw(address: SocketAddr, names: &[String], over: &AtomicBool) -> (Has, usize) {
    let (mut has, mut version_info, mut streams) = (Has::new(), String::new(), 0);
    let request = |version_info: &str, response_nonce: &str| DiscoveryRequest {
        version_info: version_info.to_owned(),
        node: node("edge-2"),
        resource_names: names.to_vec(),
        type_url: ASSIGNMENT.to_owned(),
        response_nonce: response_nonce.to_owned(),
        error_detail: None,
    };
    loop {
        let Ok(mut stream) = Sotw::open(address, STREAM_EDS, None, request(&version_info, "")) else {
            wait_until(SOON, "a server", || http::get(address, "/v1/pools").is_ok_and(|it| it.status < 500));
            continue;
        };
        streams += 1;
        loop {
            let was_over = over.load(Ordering::SeqCst);
            match stream.poll(Duration::from_secs(1)) {
                Ok(Some(response)) => {
                    has.extend(response.resources.iter().map(endpoints));
                    version_info.clone_from(&response.version_info);
                    stream.send(request(&version_info, &response.nonce));
                }
                Ok(None) if was_over => return (has, streams),
                Ok(None) => {}
                Err(_) => break,
            }
        }
    }
}

/// Changes, deletes and makes slices.
fn churn(cluster: &Cluster, namespace: &str, rounds: std::ops::Range<usize>) {
    for round in rounds {
        for service in 0..SERVICES {
            let name = format!("s{service}");
            if (round + service) % 5 == 4 {
                cluster.client().delete(&slice_path(namespace, &name));
                continue;
            }
            let count = (round + service) % 4;
            let list: Vec<_> =
                (0..count).map(|at| format!("10.244.{}.{}", 60 + service, 1 + (round + at) % 200)).collect();
            let made = slice(namespace, &name, &name, &addresses(&list), &ports());
            if cluster.client().try_create(&made).is_err() {
                cluster.client().patch(&slice_path(namespace, &name), &json!({"endpoints": addresses(&list)}));
            }
        }
    }
}

#[test]
fn clients_of_both_protocols_reach_the_final_state_across_a_restart_of_the_server() {
    let cluster = Cluster::shared(0);
    let namespace = cluster.namespace("streamed");
    let mut plane = Setup::new("").cluster("east", cluster, "").start();
    let names: Vec<String> = (0..SERVICES).map(|it| format!("east/{namespace}/s{it}/http")).collect();
    let over = AtomicBool::new(false);
    let address = plane.address;
    let (by_delta, by_sotw) = std::thread::scope(|scope| {
        let (names, over) = (&names, &over);
        let deltas: Vec<_> = (0..3).map(|_| scope.spawn(move || follow_delta(address, names, over))).collect();
        let sotws: Vec<_> = (0..3).map(|_| scope.spawn(move || follow_sotw(address, names, over))).collect();
        churn(cluster, &namespace, 0..12);
        plane.tidegate.kill9();
        churn(cluster, &namespace, 12..16);
        plane.tidegate.restart_unready();
        churn(cluster, &namespace, 16..28);
        plane.wait_synced();
        plane.wait_equal("east", cluster, &namespace);
        over.store(true, Ordering::SeqCst);
        let join = |all: Vec<std::thread::ScopedJoinHandle<'_, (Has, usize)>>| -> Vec<_> {
            all.into_iter().map(|it| it.join().unwrap()).collect()
        };
        (join(deltas), join(sotws))
    });
    let filled = |has: Has| has.into_iter().filter(|(_, it)| !it.is_empty()).collect::<Has>();
    let wanted = filled(plane.pools_of("east", &namespace));
    assert!(!wanted.is_empty());
    for (has, streams) in by_delta.into_iter().chain(by_sotw) {
        assert_eq!(filled(has), wanted);
        assert!(streams > 1, "the server was restarted under it");
    }
}

#[test]
fn who_comes_back_is_sent_only_what_changed_while_it_was_away() {
    let cluster = Cluster::shared(0);
    let namespace = cluster.namespace("returned");
    for name in ["a", "b"] {
        cluster.client().create(&slice(&namespace, name, name, &one("10.244.70.1"), &ports()));
    }
    let mut plane = Setup::new("").cluster("east", cluster, "").start();
    let names: Vec<String> = ["a", "b"].map(|it| format!("east/{namespace}/{it}/http")).to_vec();
    let mut stream = Delta::open(plane.address, DELTA_EDS, None, delta(&names)).unwrap();
    let first = stream.next();
    assert_eq!(first.resources.len(), 2);
    assert_eq!(first.resources[0].version, plane.header(&format!("/v1/pools/{}", first.resources[0].name), "etag"));
    let versions: HashMap<_, _> = first.resources.iter().map(|it| (it.name.clone(), it.version.clone())).collect();
    plane.tidegate.kill9();
    assert!(stream.poll(SOON).is_err(), "it ends with its server");
    cluster.client().patch(&slice_path(&namespace, "b"), &json!({"endpoints": one("10.244.70.2")}));
    plane.tidegate.restart_unready();
    plane.wait_synced();
    plane.wait_equal("east", cluster, &namespace);
    let again = DeltaDiscoveryRequest { initial_resource_versions: versions, ..delta(&names) };
    let mut stream = Delta::open(plane.address, DELTA_EDS, None, again).unwrap();
    let changed = stream.next();
    let changed: Vec<_> = changed.resources.iter().map(|it| it.name.clone()).collect();
    assert_eq!(changed, names[1..]);
}

#[test]
fn a_refusal_is_the_gateway_s_error_and_the_same_version_is_not_sent_again() {
    let cluster = Cluster::shared(0);
    let namespace = cluster.namespace("refused");
    cluster.client().create(&slice(&namespace, "a", "a", &one("10.244.71.1"), &ports()));
    let plane = Setup::new("").cluster("east", cluster, "").start();
    let id = format!("east/{namespace}/a/http");
    let mut stream = Delta::open(plane.address, DELTA_EDS, None, delta(std::slice::from_ref(&id))).unwrap();
    let bad = stream.next();
    stream.send(answer(&bad, Some("weights: I cannot")));
    let edge = || plane.json("/v1/gateways")["gateways"][0].clone();
    wait_until(SOON, "the refusal", || edge()["error"] == "weights: I cannot");
    assert_eq!((&edge()["name"], edge()["pools"][&id]["current"].clone()), (&"edge-1".into(), false.into()));
    let refused = || plane.tidegate.metric_with("tidegate_discovery_xds_answers_total", "result=\"refused\"");
    assert_eq!((refused(), plane.tidegate.metric("tidegate_discovery_xds_streams")), (1.0, 1.0));
    stream.assert_silent();
    cluster.client().patch(&slice_path(&namespace, "a"), &json!({"endpoints": one("10.244.71.2")}));
    let good = stream.next();
    assert_eq!(endpoints(&good.resources[0].resource).1, BTreeSet::from(["10.244.71.2:8080 ready".to_owned()]));
    stream.send(answer(&good, None));
    wait_until(SOON, "the acknowledgement", || edge()["pools"][&id]["current"] == true);
    assert!(edge().get("error").is_none(), "{}", edge());
    drop(stream);
    wait_until(SOON, "the stream's end", || plane.tidegate.metric("tidegate_discovery_xds_streams") == 0.0);
}

#[test]
fn a_token_decides_what_a_stream_sees_and_whose_acknowledgements_count() {
    let cluster = Cluster::shared(0);
    let (own, foreign) = (cluster.namespace("own"), cluster.namespace("foreign"));
    for namespace in [&own, &foreign] {
        cluster.client().create(&slice(namespace, "a", "a", &one("10.244.72.1"), &ports()));
    }
    let tokens = WorkDir::new("tokens");
    let lines = format!(
        "reader:secret-of-the-reader namespaces={own}\nedge-1:secret-of-edge-1 namespaces={own} write gateways=edge-1\n"
    );
    let file = tokens.write("tokens", &lines);
    let plane = Setup::new(&format!("tokens_file = {file:?}")).cluster("east", cluster, "").start();
    let names: Vec<String> = [&own, &foreign].map(|namespace| format!("east/{namespace}/a/http")).to_vec();
    let refused = Delta::open(plane.address, DELTA_EDS, Some("none-of-ours"), delta(&names));
    assert_eq!(refused.map(drop).unwrap_err().code(), Code::Unauthenticated);
    for (token, counts) in [("secret-of-the-reader", false), ("secret-of-edge-1", true)] {
        let mut stream = Delta::open(plane.address, DELTA_EDS, Some(token), delta(&names)).unwrap();
        let response = stream.next();
        let sent: Vec<_> = response.resources.iter().map(|it| it.name.clone()).collect();
        assert_eq!((sent, response.removed_resources.clone()), (names[..1].to_vec(), names[1..].to_vec()), "{token}");
        stream.send(answer(&response, None));
        let taken = || plane.tidegate.metric_with("tidegate_discovery_xds_answers_total", "result=\"taken\"");
        wait_until(SOON, "an answer", || taken() == if counts { 2.0 } else { 1.0 });
        let known = |it: &Value| it["gateways"].as_array().unwrap().len();
        wait_until(SOON, "the book of gateways", || known(&plane.json("/v1/gateways")) == usize::from(counts));
    }
}

#[test]
fn before_the_sources_have_told_their_pools_a_stream_is_refused_and_never_answered_empty() {
    let cluster = Cluster::shared(0);
    let namespace = cluster.namespace("unsynced");
    // Nobody listens there.
    let nowhere = ([127, 0, 0, 1], crate::bed::free_port()).into();
    let plane = Setup::new("").kubeconfig("east", &kubeconfig_through(cluster, nowhere)).start_unsynced();
    wait_until(SOON, "a listener", || std::net::TcpStream::connect(plane.address).is_ok());
    let names = [format!("east/{namespace}/a/http")];
    let opened = Delta::open(plane.address, DELTA_EDS, None, delta(&names));
    let status = opened.and_then(|mut stream| stream.poll(SOON)).map(drop).unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    let request = json!({"resource_names": names}).to_string();
    assert_eq!(plane.post("/v3/discovery:endpoints", &request).status, 503);
}

#[test]
fn over_rest_every_name_is_answered_and_who_has_the_version_is_told_so() {
    let cluster = Cluster::shared(0);
    let namespace = cluster.namespace("polled");
    cluster.client().create(&slice(&namespace, "a", "a", &one("10.244.73.1"), &ports()));
    let plane = Setup::new("").cluster("east", cluster, "").start();
    let names = ["a", "none"].map(|it| format!("east/{namespace}/{it}/http"));
    let ask = |version: &str, id: &str| {
        let request = json!({"versionInfo": version, "node": {"id": id}, "resource_names": names, "extensions": {}});
        plane.post("/v3/discovery:endpoints", &request.to_string())
    };
    let answer = ask("", "edge-1");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    let shown: Vec<_> = body["resources"].as_array().unwrap().iter().map(|it| it["cluster_name"].clone()).collect();
    assert_eq!(shown, names);
    assert_eq!(body["resources"][1]["endpoints"], json!([]));
    let version = body["version_info"].as_str().unwrap();
    assert_eq!(ask(version, "edge-1").status, 304);
    let edge = &plane.json("/v1/gateways")["gateways"][0];
    assert_eq!((&edge["name"], &edge["pools"][&names[0]]["current"]), (&"edge-1".into(), &true.into()));
    cluster.client().patch(&slice_path(&namespace, "a"), &json!({"endpoints": one("10.244.73.2")}));
    wait_until(SOON, "another version", || ask(version, "").status == 200);
    assert_eq!(plane.post("/v3/discovery:endpoints", "{").status, 400);
    let listeners = json!({"type_url": "type.googleapis.com/envoy.config.listener.v3.Listener"}).to_string();
    assert_eq!(plane.post("/v3/discovery:endpoints", &listeners).status, 400);
}
