//! A plane, the API server's own watch beside it, and every state that the plane published: each must be what the oracle
//! says after some of the events, in their order, and the last one what it says after all.
//!
//! Publications are recorded by a follower of the deltas. Where two come while it fetches one, it sees the second: the
//! states that it sees are checked, and how many revisions there were beside them is printed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;

use serde_json::{Value, json};

use crate::bed::{http, wait_until};
use crate::kube::objects::slice;
use crate::kube::{Cluster, Watching};
use crate::oracle::{Oracle, Pools};
use crate::support::{Plane, SOON, Setup};

/// The service that is made last, so that both records know where to end.
const LAST: &str = "the-last";

/// A namespace of a cluster, followed by a plane of its own and by the oracle.
pub(crate) struct Recorded<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) namespace: String,
    oracle: Oracle,
    events: Watching,
    states: JoinHandle<Vec<(u64, Pools)>>,
    plane: Plane,
}

impl<'a> Recorded<'a> {
    pub(crate) fn start(cluster: &'a Cluster, name: &str) -> Self {
        Self::start_with(cluster, name, "", "", Oracle::new("east"))
    }

    /// With further keys of `[discovery]` and of the source, and an oracle that knows what they mean.
    pub(crate) fn start_with(cluster: &'a Cluster, name: &str, keys: &str, source: &str, oracle: Oracle) -> Self {
        let namespace = cluster.namespace(name);
        let source = format!("namespaces = [\"{namespace}\"]\n{source}");
        let plane = Setup::new(keys).cluster("east", cluster, &source).start();
        let events = cluster.client().watch(&collection(&namespace));
        let states = std::thread::spawn({
            let (address, last) = (plane.address, last_pool(&namespace));
            move || record(address, &last)
        });
        Self { cluster, namespace, oracle, events, states, plane }
    }

    /// Waits until what is published is what the events so far make: a pause in the history.
    pub(crate) fn settle(&self) {
        wait_until(SOON, "in step", || {
            let mut oracle = self.oracle.clone();
            self.events.events().iter().for_each(|event| oracle.apply(event));
            let all = self.plane.json("/v1/delta");
            let pools = all["changed"].as_array().unwrap().iter();
            let id = |pool: &Value| pool["id"].as_str().unwrap().to_owned();
            pools.map(|pool| (id(pool), Arc::new(pool.clone()))).collect::<Pools>() == oracle.pools()
        });
    }

    /// Ends both records and compares them.
    pub(crate) fn finish(self) {
        let ports = json!([{"name": "http", "port": 1}]);
        let endpoints = json!([{"addresses": ["10.244.255.1"]}]);
        self.cluster.client().create(&slice(&self.namespace, LAST, LAST, &endpoints, &ports));
        wait_until(SOON, "the last event", || self.events.any(|event| event["object"]["metadata"]["name"] == LAST));
        let states = self.states.join().expect("the recorder");
        check(self.oracle, &self.events.events(), &states);
    }

    /// The path of all its slices.
    pub(crate) fn collection(&self) -> String {
        collection(&self.namespace)
    }
}

fn collection(namespace: &str) -> String {
    format!("/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices")
}

fn last_pool(namespace: &str) -> String {
    format!("east/{namespace}/{LAST}/http")
}

/// Follows all deltas until this pool is there. Gives the revision and all pools of each.
fn record(address: SocketAddr, last: &str) -> Vec<(u64, Pools)> {
    let mut pools = Pools::new();
    let mut states = Vec::new();
    let mut since = String::new();
    while !pools.contains_key(last) {
        let answer = http::get(address, &format!("/v1/delta?wait=30s{since}")).expect("a delta");
        assert_eq!(answer.status, 200, "{}", answer.text());
        let delta: Value = serde_json::from_slice(&answer.body).unwrap();
        for pool in delta["changed"].as_array().unwrap() {
            pools.insert(pool["id"].as_str().unwrap().to_owned(), Arc::new(pool.clone()));
        }
        for id in delta["removed"].as_array().unwrap() {
            pools.remove(id.as_str().unwrap());
        }
        let index = delta["index"].as_str().unwrap();
        since = format!("&since={index}");
        let revision = index.rsplit(':').next().unwrap().parse().unwrap();
        states.push((revision, pools.clone()));
    }
    states
}

/// Every state is the oracle's after a prefix of the events, no shorter than that of the state before; the last state is
/// the oracle's after all events.
pub(crate) fn check(mut oracle: Oracle, events: &[Value], states: &[(u64, Pools)]) {
    let mut rest = events.iter();
    let mut must = oracle.pools();
    let mut reached = 0;
    for (revision, found) in states {
        let (before, from) = (must.clone(), reached);
        while must != *found {
            let Some(event) = rest.next() else {
                panic!(
                    "revision {revision}: after no event from {from} on is it this that must be published.\n\
                     Beside what must be after event {from}: {}\nBeside what must be at the end: {}",
                    difference(&before, found),
                    difference(&must, found)
                );
            };
            oracle.apply(event);
            reached += 1;
            must = oracle.pools();
        }
    }
    rest.for_each(|event| oracle.apply(event));
    let found = &states.last().expect("a state").1;
    assert!(oracle.pools() == *found, "at the end: {}", difference(&oracle.pools(), found));
    let revisions = states.last().unwrap().0 - states.first().unwrap().0;
    println!("{} events, {} states checked of {revisions} revisions", events.len(), states.len());
    assert!(states.len() as u64 * 4 >= revisions, "the recorder saw only {} of {revisions}", states.len());
}

fn difference(must: &Pools, found: &Pools) -> String {
    let ids: BTreeMap<&String, ()> = must.keys().chain(found.keys()).map(|id| (id, ())).collect();
    let differing = ids.into_keys().filter(|id| must.get(*id) != found.get(*id));
    let line = |id: &String| {
        let show =
            |pool: Option<&Arc<Value>>| pool.map_or_else(|| "absent".to_owned(), |pool| pool["endpoints"].to_string());
        format!("\n{id}\n  must be {}\n  is      {}", show(must.get(id)), show(found.get(id)))
    };
    differing.map(line).collect()
}
