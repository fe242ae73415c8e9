//! Gateways that wait for changes while everything changes: each ends with what the list says.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::bed::{http, wait_until};
use crate::kube::Cluster;
use crate::kube::objects::{slice, slice_path};
use crate::support::{Plane, SOON, Setup};

const SERVICES: usize = 8;

fn ports() -> Value {
    json!([{"name": "http", "port": 8080, "protocol": "TCP"}])
}

fn endpoints(round: usize, service: usize) -> Value {
    let addresses = (0..(round + service) % 4).map(|at| format!("10.244.{}.{}", 20 + service, 1 + (round + at) % 200));
    json!(addresses.map(|it| json!({"addresses": [it]})).collect::<Vec<_>>())
}

/// Changes, deletes and makes slices until told to stop, then a last change of each.
fn churn(cluster: &Cluster, namespace: &str, rounds: usize) {
    for round in 0..rounds {
        for service in 0..SERVICES {
            let name = format!("s{service}");
            if (round + service) % 5 == 4 {
                cluster.client().delete(&slice_path(namespace, &name));
            } else {
                let object = slice(namespace, &name, &name, &endpoints(round, service), &ports());
                if cluster.client().try_create(&object).is_err() {
                    let change = json!({"endpoints": endpoints(round, service)});
                    cluster.client().patch(&slice_path(namespace, &name), &change);
                }
            }
        }
    }
}

/// Follows one pool by its tag, as a gateway does; gives what it has at the end.
fn follow_pool(plane: &Plane, id: &str, over: &AtomicBool) -> Option<Value> {
    let mut etag = String::new();
    let mut has = None;
    loop {
        // Read before asking: an answer to a question asked after the end is final.
        let last = over.load(Ordering::SeqCst);
        let header = if etag.is_empty() { String::new() } else { format!("If-None-Match: {etag}\r\n") };
        let wait = if last { "" } else { "?wait=1s" };
        let answer = http::get_with(plane.address, &format!("/v1/pools/{id}{wait}"), &header).unwrap();
        match answer.status {
            200 => {
                etag = answer.header("etag").unwrap().to_owned();
                has = Some(serde_json::from_slice(&answer.body).unwrap());
            }
            404 => (etag, has) = (String::new(), None),
            304 => {}
            status => panic!("{status} {}", answer.text()),
        }
        if last {
            return has;
        }
    }
}

/// Follows a namespace by deltas; gives what it has at the end, and how often it had to begin anew.
fn follow_delta(plane: &Plane, prefix: &str, over: &AtomicBool) -> (BTreeMap<String, Value>, usize) {
    let mut index = String::new();
    let mut has = BTreeMap::new();
    let mut beginnings = 0;
    loop {
        let last = over.load(Ordering::SeqCst);
        let since = if index.is_empty() { String::new() } else { format!("&since={index}") };
        let wait = if last { "" } else { "&wait=1s" };
        let answer = http::get(plane.address, &format!("/v1/delta?prefix={prefix}{since}{wait}")).unwrap();
        if answer.status == 410 {
            index.clear();
            continue;
        }
        assert_eq!(answer.status, 200, "{}", answer.text());
        if index.is_empty() {
            has.clear();
            beginnings += 1;
        }
        let delta: Value = serde_json::from_slice(&answer.body).unwrap();
        for pool in delta["changed"].as_array().unwrap() {
            has.insert(pool["id"].as_str().unwrap().to_owned(), pool.clone());
        }
        for id in delta["removed"].as_array().unwrap() {
            has.remove(id.as_str().unwrap());
        }
        index = delta["index"].as_str().unwrap().to_owned();
        if last {
            return (has, beginnings);
        }
    }
}

#[test]
fn blocking_and_delta_clients_reach_the_state_that_the_list_says_and_miss_no_final_one() {
    let cluster = Cluster::shared(0);
    let namespace = cluster.namespace("churned");
    let plane = Setup::new("").cluster("east", cluster, "").start();
    let prefix = format!("east/{namespace}/");
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (plane, over, prefix) = (&plane, &over, prefix.as_str());
        let pools: Vec<_> = (0..SERVICES)
            .map(|service| {
                let id = format!("{prefix}s{service}/http");
                scope.spawn(move || (id.clone(), follow_pool(plane, &id, over)))
            })
            .collect();
        let deltas: Vec<_> = (0..3).map(|_| scope.spawn(move || follow_delta(plane, prefix, over))).collect();
        churn(cluster, &namespace, 30);
        plane.wait_equal("east", cluster, &namespace);
        over.store(true, Ordering::SeqCst);
        let all = plane.json(&format!("/v1/delta?prefix={prefix}"));
        let all: BTreeMap<String, Value> = all["changed"]
            .as_array()
            .unwrap()
            .iter()
            .map(|pool| (pool["id"].as_str().unwrap().to_owned(), pool.clone()))
            .collect();
        for follower in pools {
            let (id, has) = follower.join().unwrap();
            assert_eq!(has.as_ref(), all.get(&id), "{id}");
        }
        for follower in deltas {
            let (has, beginnings) = follower.join().unwrap();
            assert_eq!(has, all);
            assert_eq!(beginnings, 1, "the journal was long enough");
        }
    });
}

#[test]
fn clients_find_their_way_after_a_restart_of_the_server() {
    let cluster = Cluster::shared(0);
    let namespace = cluster.namespace("restarted");
    cluster.client().create(&slice(&namespace, "s", "s", &endpoints(3, 0), &ports()));
    let mut plane = Setup::new("").cluster("east", cluster, "").start();
    let path = format!("/v1/pools/east/{namespace}/s/http");
    let (index, etag) = (plane.header(&path, "tidegate-index"), plane.header(&path, "etag"));
    plane.tidegate.kill9();
    plane.tidegate.restart_unready();
    plane.wait_synced();
    let foreign = format!("{path}?index={index}&wait=30s");
    assert_eq!(plane.get(&foreign).status, 200, "without a tag a foreign index gets all at once");
    assert_eq!(plane.get(&format!("/v1/delta?since={index}")).status, 410);
    // With a tag it waits, whatever the index says, and hears of the change.
    let began = Instant::now();
    let answer =
        http::get_with(plane.address, &format!("{path}?index={index}&wait=2s"), &format!("If-None-Match: {etag}\r\n"));
    assert_eq!(answer.unwrap().status, 304);
    assert!(began.elapsed() > Duration::from_millis(1_500), "{:?}", began.elapsed());
}

#[test]
fn a_change_at_the_api_server_is_in_a_waiting_client_s_hands_soon() {
    let cluster = Cluster::shared(0);
    let namespace = cluster.namespace("quick");
    cluster.client().create(&slice(&namespace, "s", "s", &endpoints(1, 0), &ports()));
    let plane = Setup::new("").cluster("east", cluster, "").start();
    let path = format!("/v1/pools/east/{namespace}/s/http");
    let mut times = Vec::new();
    for round in 0..20 {
        let etag = plane.header(&path, "etag");
        let address = plane.address;
        let waiting = std::thread::spawn({
            let path = format!("{path}?wait=30s");
            move || (http::get_with(address, &path, &format!("If-None-Match: {etag}\r\n")).unwrap(), Instant::now())
        });
        wait_until(SOON, "a waiting request", || plane.tidegate.metric("tidegate_discovery_waiting_requests") == 1.0);
        let change = json!({"endpoints": [{"addresses": [format!("10.244.30.{}", round + 1)]}]});
        let began = Instant::now();
        cluster.client().patch(&slice_path(&namespace, "s"), &change);
        let (answer, at) = waiting.join().unwrap();
        assert_eq!(answer.status, 200);
        times.push(at.duration_since(began));
    }
    times.sort();
    let median = times[times.len() / 2];
    println!("from the change's request to the client: median {median:?}, longest {:?}", times[times.len() - 1]);
    assert!(median < Duration::from_secs(1), "{times:?}");
}
