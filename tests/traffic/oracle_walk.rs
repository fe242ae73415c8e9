//! A random walk over edits of slices, the oracle beside it. `TIDEGATE_WALK_SEEDS` says how many seeds are walked, from 1.

use serde_json::{Value, json};

use crate::kube::objects::{slice, slice_path};
use crate::kube::{ApiClient, Cluster};
use crate::oracle::Oracle;
use crate::oracle_record::Recorded;

/// Edits of one walk.
const STEPS: usize = 120;
/// Slices that there may be.
const SLICES: u64 = 6;

/// A generator that gives the same numbers for the same seed everywhere (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, most: u64) -> u64 {
        self.next() % most
    }

    fn one_in(&mut self, most: u64) -> bool {
        self.below(most) == 0
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        let at = self.below(from.len() as u64);
        &from[usize::try_from(at).unwrap()]
    }
}

/// An endpoint on one of few addresses, so that slices often claim the same one.
fn endpoint(random: &mut Random, six: bool) -> Value {
    let last = 1 + random.below(9);
    let address = if six { format!("fd00:10:244::{last}") } else { format!("10.244.55.{last}") };
    let mut endpoint = json!({"addresses": [address]});
    let mut conditions = json!({});
    for name in ["ready", "serving", "terminating"] {
        // Most are ready, as in life; otherwise nearly no walk would meet a service of which none is.
        let value = *random.pick(&[None, None, Some(name != "terminating"), Some(name == "terminating")]);
        if let Some(value) = value {
            conditions[name] = json!(value);
        }
    }
    endpoint["conditions"] = conditions;
    if random.one_in(3) {
        let zone = *random.pick(&["a", "b"]);
        endpoint["zone"] = json!(zone);
        endpoint["hints"] = json!({"forZones": [{"name": zone}]});
    }
    if random.one_in(3) {
        endpoint["nodeName"] = json!(format!("node-{}", random.below(3)));
    }
    if random.one_in(2) {
        endpoint["targetRef"] = json!({"kind": "Pod", "namespace": "walk", "name": format!("pod-{}", random.below(5))});
    }
    endpoint
}

fn ports(random: &mut Random) -> Value {
    let http = json!({"name": "http", "port": *random.pick(&[8080, 9090])});
    let metrics = json!({"name": "metrics", "port": 9100, "appProtocol": "http"});
    let unnamed = json!({"name": "", "port": 8080, "protocol": *random.pick(&["TCP", "UDP"])});
    random
        .pick(&[json!([http]), json!([http]), json!([http, metrics]), json!([metrics]), json!([unnamed]), json!([])])
        .clone()
}

fn random_slice(random: &mut Random, namespace: &str, number: u64) -> Value {
    // A slice's family cannot change: it is that of its number.
    let six = number == SLICES - 1;
    let endpoints: Vec<Value> = (0..random.below(5)).map(|_| endpoint(random, six)).collect();
    let service = *random.pick(&["web", "web", "api"]);
    let mut object = slice(namespace, &format!("s{number}"), service, &json!(endpoints), &ports(random));
    if six {
        object["addressType"] = json!("IPv6");
    }
    if random.one_in(12) {
        object["metadata"]["labels"] = json!({});
    }
    object
}

/// One edit: a slice is made, deleted, replaced whole, or changed in one place.
fn step(client: &ApiClient, random: &mut Random, namespace: &str) {
    let number = random.below(SLICES);
    let path = slice_path(namespace, &format!("s{number}"));
    match (client.try_get(&path).expect("an answer"), random.below(10)) {
        (None, _) => drop(client.create(&random_slice(random, namespace, number))),
        (Some(_), 0) => client.delete(&path),
        (Some(_), 1..4) => drop(client.replace(&path, &random_slice(random, namespace, number))),
        (Some(mut object), edit) => {
            let mut endpoints = object["endpoints"].as_array().cloned().unwrap_or_default();
            let at = usize::try_from(random.below(1 + endpoints.len() as u64)).unwrap();
            match edit {
                4..6 => endpoints.insert(at, endpoint(random, number == SLICES - 1)),
                6..9 if at < endpoints.len() => {
                    endpoints[at]["conditions"] = endpoint(random, false)["conditions"].clone()
                }
                _ if at < endpoints.len() => drop(endpoints.remove(at)),
                _ => object["metadata"]["labels"]["kubernetes.io/service-name"] = json!(*random.pick(&["web", "api"])),
            }
            object["endpoints"] = json!(endpoints);
            client.replace(&path, &object);
        }
    }
}

fn walk(seed: u64) {
    println!("seed {seed}");
    let oracle = Oracle::new("east").in_zone("a");
    let recorded = Recorded::start_with(Cluster::shared(0), "walked", "zone = \"a\"", "", oracle);
    let mut random = Random(seed);
    for _ in 0..STEPS {
        step(recorded.cluster.client(), &mut random, &recorded.namespace);
        // Without pauses most states are never published: what follows at once is published together.
        if random.one_in(3) {
            recorded.settle();
        }
    }
    recorded.finish();
}

#[test]
fn whatever_is_done_to_slices_each_revision_is_what_the_oracle_says() {
    let seeds = std::env::var("TIDEGATE_WALK_SEEDS").map_or(4, |seeds| seeds.parse().expect("a number of seeds"));
    (1..=seeds).for_each(walk);
}
