//! Hubs and relays: what a relay has is what its hub has, whatever happens to either or between them.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::bed::{After, Direction, FaultProxy, http, poll, wait_until};
use crate::kube::Cluster;
use crate::kube::objects::{slice, slice_path};
use crate::support::{Plane, SOON, Setup, kubeconfig_through};

fn ports() -> Value {
    json!([{"name": "http", "port": 8080, "protocol": "TCP"}])
}

fn endpoints(addresses: &[&str]) -> Value {
    json!(addresses.iter().map(|address| json!({"addresses": [address], "zone": "a"})).collect::<Vec<_>>())
}

fn lines(addresses: &[&str]) -> BTreeSet<String> {
    addresses.iter().map(|address| format!("{address}:8080 ready")).collect()
}

/// A relay of these hubs.
fn relay(name: &str, hubs: &[SocketAddr], keys: &str) -> Setup {
    let urls: Vec<String> = hubs.iter().map(|hub| format!("http://{hub}")).collect();
    Setup::new("").sections(&format!("[[discovery.source]]\nkind = \"hub\"\nname = \"{name}\"\nurl = {urls:?}\n{keys}"))
}

fn state(plane: &Plane, id: &str) -> String {
    plane.header(&format!("/v1/pools/{id}"), "tidegate-state")
}

fn wait_state(plane: &Plane, id: &str, wanted: &str) {
    wait_until(Duration::from_secs(90), wanted, || state(plane, id) == wanted);
}

/// Why a source of a plane is lost.
fn why(plane: &Plane) -> String {
    let page: Value = serde_json::from_slice(&plane.tidegate.get("/debug/pools").body).unwrap();
    let sources = page["sources"].as_array().unwrap().clone();
    sources.iter().filter_map(|source| source["lost"][0]["why"].as_str()).collect::<Vec<_>>().join("; ")
}

/// Body and tag of every pool.
fn bodies(plane: &Plane) -> Vec<(String, String, String)> {
    let list = plane.json("/v1/pools");
    let body = |pool: &Value| {
        let id = pool["id"].as_str().unwrap();
        let answer = plane.get(&format!("/v1/pools/{id}"));
        let tag = answer.header("etag").unwrap_or_default().to_owned();
        assert_eq!((answer.status, pool["etag"].as_str()), (200, Some(tag.as_str())), "{id}");
        (id.to_owned(), answer.text(), tag)
    };
    list["pools"].as_array().unwrap().iter().map(body).collect()
}

fn wait_same(hub: &Plane, relay: &Plane) {
    let mut seen = None;
    let same = || {
        let (one, other) = (bodies(hub), bodies(relay));
        let same = one == other;
        seen = Some((one, other));
        same.then_some(())
    };
    poll(SOON, same).unwrap_or_else(|| panic!("hub and relay differ: {seen:#?}\n{}", relay.tidegate.log()));
}

#[test]
fn rule_14_a_relay_of_a_relay_has_the_bytes_tags_filters_and_freshness_of_its_hub() {
    let (east, west) = (Cluster::shared(0), Cluster::shared(1));
    let (near, far) = (east.namespace("relayed"), west.namespace("relayed"));
    let mut labelled = slice(&near, "a", "a", &endpoints(&["10.244.60.1", "10.244.60.2"]), &ports());
    labelled["metadata"]["labels"]["team"] = json!("shop");
    east.client().create(&labelled);
    west.client().create(&slice(&far, "b", "b", &endpoints(&["10.245.60.1"]), &ports()));
    let proxy = FaultProxy::start(([127, 0, 0, 1], west.port()).into());
    let hub = Setup::new("")
        .cluster("east", east, &format!("namespaces = [\"{near}\"]"))
        .kubeconfig("west", &kubeconfig_through(west, proxy.address()))
        .file(
            "vms.toml",
            "[[pool]]\nid = \"vm/a\"\nendpoints = [{ address = \"10.9.0.1\", port = 8080, zone = \"b\" }]\n",
        )
        .sections(&format!(
            "[[discovery.pool]]\nid = \"joined\"\nmembers = [\
             {{ pool = \"east/{near}/a/http\", share = 70 }}, {{ pool = \"vm/a\", share = 30, priority = 1 }}]"
        ))
        .start();
    let middle = relay("middle", &[hub.address], "").start();
    let last = relay("last", &[middle.address], "").start();
    wait_same(&hub, &last);
    for path in [
        "/v1/pools?cluster=east".to_owned(),
        "/v1/pools?cluster=west".to_owned(),
        format!("/v1/pools?namespace={near}"),
        format!("/v1/pools?namespace={near}&label=team=shop"),
        "/v1/render/nginx".to_owned(),
        "/v1/render/haproxy".to_owned(),
        "/v1/prometheus/targets".to_owned(),
    ] {
        assert_eq!(hub.header(&path, "etag"), last.header(&path, "etag"), "{path}");
    }
    let labelled = format!("/v1/pools?namespace={near}&label=team=shop");
    assert_eq!(last.json(&labelled)["pools"].as_array().unwrap().len(), 1);
    // A change of a label alone is one of what a filter gives.
    east.client().patch(&slice_path(&near, "a"), &json!({"metadata": {"labels": {"team": "search"}}}));
    wait_until(SOON, "the label", || last.json(&labelled)["pools"].as_array().unwrap().is_empty());
    // One of the hub's clusters is lost: its pools say so at the end of the chain, and those of the other do not.
    let (a, b) = (format!("east/{near}/a/http"), format!("west/{far}/b/http"));
    assert_eq!((state(&last, &a).as_str(), state(&last, &b).as_str()), ("fresh", "fresh"));
    proxy.down();
    wait_state(&last, &b, "stale");
    assert_eq!((state(&last, &a).as_str(), last.pool(&b)), ("fresh", Some(lines(&["10.245.60.1"]))));
    assert_eq!(last.tidegate.metric_with("tidegate_discovery_source_synced", "cluster=\"west\""), 0.0);
    proxy.heal();
    wait_state(&last, &b, "fresh");
}

/// Follows a pool by its tag through whatever its server does; gives what it has once told that all is over.
fn follow(address: SocketAddr, id: &str, over: &AtomicBool) -> Option<Value> {
    let (mut etag, mut has) = (String::new(), None);
    let mut emptied = 0;
    loop {
        let last = over.load(Ordering::SeqCst);
        let header = if etag.is_empty() { String::new() } else { format!("If-None-Match: {etag}\r\n") };
        let wait = if last { "" } else { "?wait=1s" };
        // A server that is away, or not in step yet, changes nothing.
        let answer = http::get_with(address, &format!("/v1/pools/{id}{wait}"), &header).ok();
        match answer.as_ref().map(|answer| answer.status) {
            Some(200) => {
                let answer = answer.unwrap();
                etag = answer.header("etag").unwrap().to_owned();
                let pool: Value = serde_json::from_slice(&answer.body).unwrap();
                emptied += usize::from(pool["endpoints"].as_array().unwrap().is_empty());
                has = Some(pool);
            }
            Some(404) => emptied += 1,
            Some(304 | 503) | None => {}
            Some(status) => panic!("{status}"),
        }
        if last && has.is_some() {
            assert_eq!(emptied, 0, "a pool that never had less than one endpoint was seen empty");
            return has;
        }
    }
}

#[test]
fn clients_of_a_relay_reach_what_the_cluster_says_across_restarts_of_hubs_and_relay_and_see_nothing_emptied() {
    const SERVICES: usize = 6;
    let cluster = Cluster::shared(0);
    let namespace = cluster.namespace("chain");
    let address = |service: usize, round: usize| format!("10.244.{}.{}", 70 + service, 1 + round % 200);
    for service in 0..SERVICES {
        let first = endpoints(&[&address(service, 0)]);
        cluster.client().create(&slice(&namespace, &format!("s{service}"), &format!("s{service}"), &first, &ports()));
    }
    let hub = || Setup::new("snapshot_file = \"pools.snapshot\"").cluster("east", cluster, "");
    let (mut one, mut other) = (hub().start(), hub().start());
    let relayed = relay("chain", &[one.address, other.address], "");
    let mut relayed = relayed.start();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (over, at, namespace) = (&over, relayed.address, namespace.as_str());
        let followers: Vec<_> = (0..SERVICES)
            .map(|service| {
                let id = format!("east/{namespace}/s{service}/http");
                scope.spawn(move || (id.clone(), follow(at, &id, over)))
            })
            .collect();
        for round in 1..=24 {
            for service in 0..SERVICES {
                let now = endpoints(&[&address(service, round), &address(service, round + 100)]);
                cluster.client().patch(&slice_path(namespace, &format!("s{service}")), &json!({"endpoints": now}));
            }
            match round {
                4 | 16 => one.tidegate.kill9(),
                6 | 18 => one.tidegate.restart_unready(),
                8 => other.tidegate.kill9(),
                10 => other.tidegate.restart_unready(),
                12 => relayed.tidegate.kill9(),
                13 => {
                    relayed.tidegate.restart_unready();
                    relayed.wait_synced();
                }
                _ => {}
            }
        }
        relayed.wait_equal("east", cluster, namespace);
        over.store(true, Ordering::SeqCst);
        for follower in followers {
            let (id, has) = follower.join().unwrap();
            assert_eq!(has, Some(relayed.json(&format!("/v1/pools/{id}"))), "{id}");
        }
    });
    other.wait_synced();
    wait_same(&other, &relayed);
}

#[test]
fn hubs_that_take_turns_behind_one_address_make_no_relay_spin() {
    let cluster = Cluster::shared(0);
    let namespace = cluster.namespace("turns");
    cluster.client().create(&slice(&namespace, "a", "a", &endpoints(&["10.244.61.1"]), &ports()));
    let hub = || Setup::new("").cluster("east", cluster, &format!("namespaces = [\"{namespace}\"]")).start();
    let hubs = [hub(), hub()];
    let proxy = FaultProxy::start(hubs[0].address);
    let relayed = relay("turns", &[proxy.address()], "").start();
    let id = format!("east/{namespace}/a/http");
    let asked = || hubs.iter().map(|hub| hub.tidegate.metric("tidegate_discovery_requests_total")).sum::<f64>();
    for turn in 1..=8 {
        let before = proxy.accepted();
        proxy.set_upstream(hubs[turn % 2].address);
        proxy.cut();
        wait_until(SOON, "the other hub", || proxy.accepted() > before);
        let last = format!("10.244.61.{}", turn + 1);
        cluster.client().patch(&slice_path(&namespace, "a"), &json!({"endpoints": endpoints(&[&last])}));
        relayed.wait_pool(&id, "changed", |pool| pool == Some(&lines(&[&last])));
    }
    wait_state(&relayed, &id, "fresh");
    assert!(asked() < 150.0, "{} requests for 8 turns", asked());
    // Hubs of the same content: nothing is listed again, however often they change places.
    wait_same(&hubs[0], &hubs[1]);
    let lists = relayed.tidegate.metric("tidegate_discovery_hub_lists_total");
    for turn in 0..4 {
        let before = proxy.accepted();
        proxy.set_upstream(hubs[turn % 2].address);
        proxy.cut();
        wait_until(SOON, "the other hub", || proxy.accepted() > before);
        wait_until(SOON, "a request that waits", || {
            hubs[turn % 2].tidegate.metric("tidegate_discovery_waiting_requests") >= 1.0
        });
    }
    assert_eq!(relayed.tidegate.metric("tidegate_discovery_hub_lists_total"), lists);
}

#[test]
fn a_partition_and_a_half_open_connection_make_a_relay_stale_within_a_minute_and_empty_nothing() {
    let cluster = Cluster::shared(0);
    let namespace = cluster.namespace("parted");
    cluster.client().create(&slice(&namespace, "a", "a", &endpoints(&["10.244.62.1"]), &ports()));
    let mut hub = Setup::new("").cluster("east", cluster, &format!("namespaces = [\"{namespace}\"]")).start();
    let proxy = FaultProxy::start(hub.address);
    let relayed = relay("parted", &[proxy.address()], "").start();
    let id = format!("east/{namespace}/a/http");
    // A frozen hub: its kernel keeps the connection, and nothing comes.
    hub.tidegate.signal("STOP");
    let began = std::time::Instant::now();
    wait_state(&relayed, &id, "stale");
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    assert!(why(&relayed).contains("no answer within"), "{}", why(&relayed));
    assert_eq!(relayed.pool(&id), Some(lines(&["10.244.62.1"])));
    hub.tidegate.signal("CONT");
    wait_state(&relayed, &id, "fresh");
    // A network that takes everything and gives nothing.
    proxy.black_hole();
    wait_state(&relayed, &id, "stale");
    let synced = relayed.header(&format!("/v1/pools/{id}"), "tidegate-synced-at");
    assert_eq!(relayed.pool(&id), Some(lines(&["10.244.62.1"])));
    // What went on meanwhile is live when it is back: the hub's word follows from the last one.
    cluster.client().patch(&slice_path(&namespace, "a"), &json!({"endpoints": []}));
    hub.wait_pool(&id, "empty", |pool| pool.is_some_and(|it| it.is_empty()));
    proxy.heal();
    relayed.wait_pool(&id, "known and empty", |pool| pool.is_some_and(|it| it.is_empty()));
    wait_state(&relayed, &id, "fresh");
    assert_ne!(relayed.header(&format!("/v1/pools/{id}"), "tidegate-synced-at"), synced);
}

#[test]
fn a_hub_that_comes_back_with_less_is_held_and_one_that_knows_nothing_yet_is_not_believed() {
    let three = "[[pool]]\nid = \"vm/a\"\nendpoints = [{ address = \"10.9.1.1\", port = 8080 }, \
                 { address = \"10.9.1.2\", port = 8080 }, { address = \"10.9.1.3\", port = 8080 }]\n";
    let cluster = Cluster::shared(1);
    let namespace = cluster.namespace("fewer");
    cluster.client().create(&slice(&namespace, "a", "a", &endpoints(&["10.245.62.1"]), &ports()));
    let api = FaultProxy::start(([127, 0, 0, 1], cluster.port()).into());
    let setup = Setup::new("").kubeconfig("west", &kubeconfig_through(cluster, api.address()));
    let mut hub = setup.file("vms.toml", three).start();
    let relayed = relay("fewer", &[hub.address], "").start();
    let pod = format!("west/{namespace}/a/http");
    let all: BTreeSet<String> = (1..=3).map(|last| format!("10.9.1.{last}:8080 ready")).collect();
    assert_eq!(relayed.pool("vm/a"), Some(all.clone()));
    hub.tidegate.kill9();
    wait_state(&relayed, "vm/a", "stale");
    std::fs::write(hub.file("vms.toml"), "[[pool]]\nid = \"vm/other\"\nendpoints = []\n").unwrap();
    api.down();
    hub.tidegate.restart_unready();
    wait_state(&relayed, "vm/a", "held");
    assert_eq!(relayed.pool("vm/a"), Some(all.clone()));
    // The hub does not know the cluster's pools yet: the relay has them still, and says that they are old.
    relayed.wait_pool("vm/other", "there", |pool| pool.is_some());
    assert_eq!(hub.get(&format!("/v1/pools/{pod}")).status, 503);
    assert_eq!((state(&relayed, &pod).as_str(), relayed.pool(&pod)), ("stale", Some(lines(&["10.245.62.1"]))));
    assert!(why(&relayed).contains("the hub has not heard of it"), "{}", why(&relayed));
    api.heal();
    wait_state(&relayed, &pod, "fresh");
    assert_eq!(relayed.pool("vm/a"), Some(all), "the hold goes on");
}

fn failures(relay: &Plane) -> f64 {
    relay.tidegate.metric("tidegate_discovery_hub_failures_total")
}

fn wait_failure(relay: &Plane, before: f64) {
    relay.tidegate.wait_metric("tidegate_discovery_hub_failures_total", SOON, |now| now > before);
}

/// A server that gives whatever it is told to, to everybody, at once.
struct Scripted {
    address: SocketAddr,
    answer: Arc<Mutex<String>>,
    asked: Arc<AtomicUsize>,
}

impl Scripted {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (answer, asked) = (Arc::new(Mutex::new(String::new())), Arc::new(AtomicUsize::new(0)));
        let shared = (answer.clone(), asked.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let mut request = [0; 4096];
                let _ = stream.read(&mut request);
                shared.1.fetch_add(1, Ordering::SeqCst);
                let text = shared.0.lock().unwrap().clone();
                let _ = stream.write_all(text.as_bytes());
            }
        });
        Self { address, answer, asked }
    }

    /// Answers so from now on, and waits until a relay has asked and found that it fails.
    fn say(&self, answer: String, relay: &Plane) {
        *self.answer.lock().unwrap() = answer;
        let before = self.asked.load(Ordering::SeqCst);
        wait_until(SOON, "a request", || self.asked.load(Ordering::SeqCst) > before);
        wait_failure(relay, failures(relay));
    }
}

#[test]
fn garbage_half_an_answer_and_refusals_change_nothing_and_are_said() {
    crate::kube::enter();
    let file = "[[pool]]\nid = \"vm/a\"\nendpoints = [{ address = \"10.9.2.1\", port = 8080 }]\n";
    let hub = Setup::new("").file("vms.toml", file).start();
    let proxy = FaultProxy::start(hub.address);
    let relayed = relay("garbage", &[proxy.address()], "").start();
    let there = Some(lines(&["10.9.2.1"]));
    let scripted = Scripted::start();
    proxy.set_upstream(scripted.address);
    proxy.cut();
    let ok =
        |body: &str| format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
    let whole = ok(r#"{"index":"x:9","pools":[]}"#);
    for answer in [
        String::new(),
        "nonsense\r\n\r\n".to_owned(),
        ok("<html>"),
        ok(r#"{"index":"x:9"}"#),
        ok(r#"{"index":"x:9","changed":[],"removed":[]}"#),
        ok(r#"{"index":"x:9","changed":[{"id":"vm/a","endpoints":[{"address":"nowhere"}]}],"removed":[]}"#),
        whole.trim_end_matches("]}").to_owned(),
        "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned(),
        "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned(),
    ] {
        scripted.say(answer.clone(), &relayed);
        assert_eq!((relayed.pool("vm/a"), state(&relayed, "vm/a").as_str()), (there.clone(), "stale"), "{answer}");
    }
    wait_until(SOON, "the reason", || why(&relayed).contains("the hub says 401"));
    // The real one, cut within its answer.
    proxy.set_upstream(hub.address);
    wait_state(&relayed, "vm/a", "fresh");
    let mut before = there;
    for (round, bytes) in [40, 300, 600].into_iter().enumerate() {
        let failed = failures(&relayed);
        proxy.cut_after(Direction::ToClient, bytes, After::Pass);
        std::fs::write(hub.file("vms.toml"), file.replace("10.9.2.1", &format!("10.9.2.{}", 10 + round))).unwrap();
        wait_failure(&relayed, failed);
        let after = Some(lines(&[&format!("10.9.2.{}", 10 + round)]));
        let has = relayed.pool("vm/a");
        assert!(has == before || has == after, "{bytes} bytes: {has:?}");
        relayed.wait_pool("vm/a", "changed", |pool| pool == after.as_ref());
        before = after;
    }
}

#[test]
fn what_gateways_say_at_a_relay_is_known_at_the_top_with_the_way_that_it_came() {
    crate::kube::enter();
    let file = "[[pool]]\nid = \"vm/a\"\nendpoints = [{ address = \"10.9.3.1\", port = 8080 }]\n";
    let mut hub = Setup::new("").file("vms.toml", file).start();
    let middle = relay("middle", &[hub.address], "").start();
    let node = relay("node-1", &[middle.address], "").start();
    let seen = http::get_with(node.address, "/v1/pools/vm/a", "Tidegate-Gateway: edge-1\r\n").unwrap();
    let etag = seen.header("etag").unwrap().to_owned();
    assert_eq!(node.post("/v1/ack", &json!({"gateway": "edge-1", "applied": {"vm/a": etag}}).to_string()).status, 204);
    let at_top = |hub: &Plane| hub.json("/v1/gateways")["gateways"][0].clone();
    let arrived =
        |hub: &Plane| wait_until(SOON, "the acknowledgement", || at_top(hub)["pools"]["vm/a"]["current"] == true);
    arrived(&hub);
    let edge = at_top(&hub);
    assert_eq!((&edge["name"], &edge["relays"]), (&json!("edge-1"), &json!(["node-1", "middle"])));
    assert_eq!((&edge["relay_state"], edge["pools"]["vm/a"]["asked_at"].is_string()), (&json!("connected"), true));
    let relays = hub.json("/v1/gateways")["relays"].clone();
    assert_eq!((&relays[0]["name"], &relays[0]["state"]), (&json!("middle"), &json!("connected")));
    assert_eq!(node.json("/v1/gateways")["gateways"][0]["upstream"]["state"], "told");
    // A hub that forgot everything is told everything again.
    hub.tidegate.kill9();
    hub.tidegate.restart_unready();
    hub.wait_synced();
    arrived(&hub);
    assert!(node.post("/v1/ack", r#"{"gateway":"edge-1","error":"no weights"}"#).status == 204);
    wait_until(SOON, "the refusal", || at_top(&hub)["error"] == "no weights");
}

#[test]
fn hubs_in_a_circle_are_refused_with_the_reason() {
    crate::kube::enter();
    let own = Setup::new("");
    let address = own.address();
    let plane = own
        .sections(&format!("[[discovery.source]]\nkind = \"hub\"\nname = \"self\"\nurl = \"http://{address}\""))
        .start_unsynced();
    wait_until(SOON, "the reason", || why(&plane).contains("circle"));
    assert_eq!(plane.get("/v1/pools").status, 503);
    // Two that ask each other.
    let (first, second) = (Setup::new(""), Setup::new(""));
    let (to_first, to_second) = (first.address(), second.address());
    let hub =
        |name: &str, url| format!("[[discovery.source]]\nkind = \"hub\"\nname = \"{name}\"\nurl = \"http://{url}\"");
    let first = first.sections(&hub("first", to_second)).start_unsynced();
    let second = second.sections(&hub("second", to_first)).start_unsynced();
    wait_until(SOON, "both reasons", || why(&first).contains("circle") && why(&second).contains("circle"));
}

#[test]
fn hubs_are_found_by_the_endpoint_slices_of_their_service() {
    let cluster = Cluster::shared(0);
    let namespace = cluster.namespace("hubs");
    let port = crate::bed::free_port();
    let hub_at = |address: &str| {
        let setup = Setup::at(format!("{address}:{port}").parse().unwrap(), "anonymous = \"read\"");
        setup.cluster("east", cluster, &format!("namespaces = [\"{namespace}\"]")).start()
    };
    let (mut one, _other) = (hub_at("10.244.200.1"), hub_at("10.244.200.2"));
    let hubs = [json!([{"addresses": ["10.244.200.1"]}]), json!([{"addresses": ["10.244.200.2"]}])];
    cluster.client().create(&slice(&namespace, "hubs-1", "hub", &hubs[0], &ports()));
    let source = format!(
        "[[discovery.source]]\nkind = \"hub\"\nname = \"found\"\nservice = \"{namespace}/hub\"\nport = {port}\n\
         lookup = \"endpointslices\"\nkubeconfig = {:?}",
        cluster.kubeconfig()
    );
    let relayed = Setup::new("").sections(&source).start();
    let id = format!("east/{namespace}/hub/http");
    assert_eq!(relayed.pool(&id), Some(lines(&["10.244.200.1"])));
    cluster.client().patch(&slice_path(&namespace, "hubs-1"), &json!({"endpoints": hubs[1]}));
    relayed.wait_pool(&id, "changed", |pool| pool == Some(&lines(&["10.244.200.2"])));
    one.tidegate.kill9();
    cluster.client().create(&slice(&namespace, "a", "a", &endpoints(&["10.244.63.1"]), &ports()));
    relayed.wait_pool(&format!("east/{namespace}/a/http"), "there", |pool| pool.is_some());
}
