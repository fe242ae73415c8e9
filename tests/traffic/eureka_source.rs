//! A Eureka ring as a source. The servers are scripted, with the shapes that Eureka's REST API documents.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::bed::{FaultProxy, wait_until};
use crate::support::{Plane, SOON, Setup};

/// What a server of the ring knows.
#[derive(Default)]
struct Known {
    instances: BTreeMap<(String, String), Value>,
    /// What a delta tells; real servers tell it for minutes.
    recent: Vec<Value>,
    broken: bool,
    wrong_hashcode: bool,
    deltas: usize,
    lists: usize,
}

#[derive(Clone)]
struct Server {
    address: SocketAddr,
    known: Arc<Mutex<Known>>,
}

impl Server {
    fn start() -> Self {
        crate::kube::enter();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self { address: listener.local_addr().unwrap(), known: Arc::default() };
        let known = server.known.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let mut request = [0; 4096];
                let length = stream.read(&mut request).unwrap_or_default();
                let request = String::from_utf8_lossy(&request[..length]).into_owned();
                let answer = known.lock().unwrap().answer(request.split(' ').nth(1).unwrap_or_default());
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        server
    }

    fn set(&self, app: &str, last: u8, status: &str) {
        let id = format!("vm{last}:{app}:8080");
        let instance = json!({
            "instanceId": id, "hostName": format!("vm{last}"), "app": app, "ipAddr": format!("10.9.9.{last}"),
            "status": status, "overriddenStatus": "UNKNOWN", "port": {"$": 8080, "@enabled": "true"},
            "securePort": {"$": 443, "@enabled": "false"}, "countryId": 1,
            "dataCenterInfo": {"@class": "com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo", "name": "MyOwn"},
            "metadata": {"zone": "a", "weight": "70"}, "vipAddress": app.to_lowercase(), "actionType": "ADDED",
        });
        let mut known = self.known.lock().unwrap();
        known.recent.push(instance.clone());
        known.instances.insert((app.to_owned(), id), instance);
    }

    fn remove(&self, app: &str, last: u8) {
        let mut known = self.known.lock().unwrap();
        if let Some(mut gone) = known.instances.remove(&(app.to_owned(), format!("vm{last}:{app}:8080"))) {
            gone["actionType"] = json!("DELETED");
            known.recent.push(gone);
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Known) -> T) -> T {
        act(&mut self.known.lock().unwrap())
    }
}

impl Known {
    fn answer(&mut self, path: &str) -> String {
        let instances: Vec<Value> = match path {
            _ if self.broken => {
                return "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned();
            }
            "/eureka/apps" => {
                self.lists += 1;
                self.instances.values().cloned().collect()
            }
            "/eureka/apps/delta" => {
                self.deltas += 1;
                self.recent.clone()
            }
            _ => return "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned(),
        };
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for instance in self.instances.values() {
            *counts.entry(instance["status"].as_str().unwrap()).or_default() += 1;
        }
        let mut hashcode: String = counts.iter().map(|(status, count)| format!("{status}_{count}_")).collect();
        if self.wrong_hashcode && path.ends_with("delta") {
            hashcode = "UP_999_".to_owned();
        }
        let apps: BTreeSet<&str> = instances.iter().filter_map(|it| it["app"].as_str()).collect();
        let of = |app: &str| instances.iter().filter(|it| it["app"] == app).cloned().collect::<Vec<_>>();
        let apps: Vec<Value> = apps.into_iter().map(|app| json!({"name": app, "instance": of(app)})).collect();
        let body = json!({"applications": {
            "versions__delta": "1", "apps__hashcode": hashcode, "application": apps,
        }})
        .to_string();
        format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )
    }
}

fn source(urls: &[SocketAddr]) -> Setup {
    let urls: Vec<String> = urls.iter().map(|url| format!("http://{url}/eureka")).collect();
    let text = format!("[[discovery.source]]\nkind = \"eureka\"\ncluster = \"ring\"\nurl = {urls:?}\npoll_seconds = 1");
    Setup::new("").sections(&text)
}

fn pool(plane: &Plane, id: &str) -> Vec<String> {
    plane.pool(id).unwrap_or_default().into_iter().map(|it| it.replace("10.9.9.", "").replace(":8080", "")).collect()
}

fn wait_pool(plane: &Plane, id: &str, wanted: &[&str]) {
    wait_until(SOON, &format!("{id} = {wanted:?}"), || pool(plane, id) == wanted);
}

fn state(plane: &Plane) -> String {
    plane.header("/v1/pools/ring/shop", "tidegate-state")
}

#[test]
fn a_ring_is_followed_by_its_deltas_and_each_status_is_what_it_means() {
    let server = Server::start();
    for (last, status) in [(1, "UP"), (2, "UP"), (3, "STARTING"), (4, "OUT_OF_SERVICE")] {
        server.set("SHOP", last, status);
    }
    let plane = source(&[server.address]).start();
    assert_eq!(pool(&plane, "ring/shop"), ["1 ready", "2 ready"]);
    let endpoint = plane.json("/v1/pools/ring/shop")["endpoints"][0].clone();
    assert_eq!(
        endpoint,
        json!({"address": "10.9.9.1", "port": 8080, "weight": 70, "state": "ready", "zone": "a", "cluster": "ring",
               "target": "vm1:SHOP:8080"})
    );
    server.set("SHOP", 3, "UP");
    server.set("SHOP", 1, "OUT_OF_SERVICE");
    wait_pool(&plane, "ring/shop", &["1 draining", "2 ready", "3 ready"]);
    server.set("SHOP", 2, "DOWN");
    server.set("CART", 7, "UP");
    wait_pool(&plane, "ring/shop", &["1 draining", "3 ready"]);
    wait_pool(&plane, "ring/cart", &["7 ready"]);
    // What a delta says is honoured, be it the last instance.
    server.remove("SHOP", 3);
    wait_pool(&plane, "ring/shop", &["1 draining"]);
    server.remove("CART", 7);
    wait_until(SOON, "no such pool", || plane.get("/v1/pools/ring/cart").status == 404);
    assert_eq!((server.with(|known| known.lists), state(&plane).as_str()), (1, "fresh"));
}

#[test]
fn a_ring_that_fails_or_forgets_empties_nothing_and_another_server_stands_in() {
    let (one, other) = (Server::start(), Server::start());
    for server in [&one, &other] {
        (1..=4).for_each(|last| server.set("SHOP", last, "UP"));
    }
    let proxy = FaultProxy::start(one.address);
    let plane = source(&[proxy.address(), other.address]).start();
    let all = ["1 ready", "2 ready", "3 ready", "4 ready"];
    assert_eq!(pool(&plane, "ring/shop"), all);
    proxy.down();
    wait_until(SOON, "the other server", || other.with(|known| known.lists > 0));
    other.set("SHOP", 5, "UP");
    wait_pool(&plane, "ring/shop", &["1 ready", "2 ready", "3 ready", "4 ready", "5 ready"]);
    // All of them fail: what is known stays, and is said to be old.
    other.with(|known| known.broken = true);
    wait_until(SOON, "stale", || state(&plane) == "stale");
    assert_eq!(pool(&plane, "ring/shop").len(), 5);
    // One comes back with an empty ring, as a server does that was restarted without its peers.
    other.with(|known| *known = Known::default());
    wait_until(SOON, "held", || state(&plane) == "held");
    assert_eq!(pool(&plane, "ring/shop").len(), 5);
    (1..=5).for_each(|last| other.set("SHOP", last, "UP"));
    wait_until(SOON, "fresh", || state(&plane) == "fresh");
    assert_eq!(pool(&plane, "ring/shop").len(), 5);
}

#[test]
fn a_delta_with_another_hashcode_is_not_taken_and_the_whole_ring_is_read() {
    let server = Server::start();
    (1..=3).for_each(|last| server.set("SHOP", last, "UP"));
    let plane = source(&[server.address]).start();
    // A delta that says that all is gone, and that does not add up.
    server.with(|known| {
        known.wrong_hashcode = true;
        for instance in &mut known.recent {
            instance["actionType"] = json!("DELETED");
        }
    });
    let before = server.with(|known| known.lists);
    wait_until(SOON, "the whole ring", || server.with(|known| known.lists > before + 1));
    assert_eq!((pool(&plane, "ring/shop").len(), state(&plane).as_str()), (3, "fresh"));
    assert!(plane.tidegate.metric("tidegate_discovery_eureka_mismatches_total") >= 2.0);
}
