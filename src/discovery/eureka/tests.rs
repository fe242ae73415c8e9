//! A client that applies deltas as Netflix's does: what it has, and the hash code that it computes of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::*;
use crate::discovery::config::Scope;
use crate::endpoints::config::HoldConfig;
use crate::endpoints::pool::{Endpoint, EndpointState, PoolContent, PoolId};
use crate::endpoints::{Registry, Shard, SourceEvent, Update, Watched};

/// Instances by application and id, each with its status.
#[derive(Debug, Default, PartialEq, Eq)]
struct Registered(BTreeMap<(String, String), String>);

impl Registered {
    /// Applies an answer, and gives the hash code that it promises.
    fn apply(&mut self, text: &str) -> String {
        let answer: Value = serde_json::from_str(text).unwrap();
        for app in answer["applications"]["application"].as_array().unwrap() {
            for instance in app["instance"].as_array().unwrap() {
                let of = |name: &str| instance[name].as_str().unwrap().to_owned();
                let key = (app["name"].as_str().unwrap().to_owned(), of("instanceId"));
                match of("actionType").as_str() {
                    "DELETED" => drop(self.0.remove(&key)),
                    _ => drop(self.0.insert(key, of("status"))),
                }
            }
        }
        answer["applications"]["apps__hashcode"].as_str().unwrap().to_owned()
    }

    fn hash_code(&self) -> String {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        self.0.values().for_each(|status| *counts.entry(status).or_default() += 1);
        counts.iter().map(|(status, count)| format!("{status}_{count}_")).collect()
    }
}

struct Bed(Registry);

impl Bed {
    fn tell(&mut self, update: Update) -> Arc<Snapshot> {
        let now = SystemTime::now();
        self.0.apply(0, SourceEvent::Pools(vec![update]), now);
        self.0.apply(0, SourceEvent::Contact(Watched::Endpoints), now);
        self.0.publish();
        self.0.published().clone()
    }
}

fn pool(service: &str, ready: &[u8], draining: &[u8]) -> PoolContent {
    let endpoint = |last: &u8, state| Endpoint { state, ..Endpoint::new([10, 0, 0, *last].into(), 80) };
    let ready = ready.iter().map(|last| endpoint(last, EndpointState::Ready));
    PoolContent {
        id: PoolId::parse(&format!("east/shop/{service}/http")).unwrap(),
        endpoints: ready.chain(draining.iter().map(|last| endpoint(last, EndpointState::Draining))).collect(),
        namespace: Some("shop".into()),
        labels: Arc::default(),
        relayed: None,
    }
}

fn client() -> Client {
    Client::new("c", [127, 0, 0, 1].into(), Scope::default(), None)
}

fn told(base: &Snapshot, snapshot: &Snapshot, encoding: Encoding) -> Option<String> {
    changes(Some(base), snapshot, &Filter::default(), &client(), encoding).unwrap()
}

#[test]
fn whatever_a_client_had_since_the_delta_begins_it_has_what_there_is_and_the_hash_code_says_so() {
    let hold = HoldConfig { max_drop_percent: 100, max_age: Duration::from_secs(600) };
    let mut bed = Bed(Registry::new(vec![Shard::new("east".into(), Some("east".into()))], Vec::new(), hold, None));
    let gone = PoolId::parse("east/shop/gone/http").unwrap();
    let steps = vec![
        bed.tell(Update::Reset(vec![pool("web", &[1, 2], &[]), pool("gone", &[9], &[]), pool("same", &[7], &[])])),
        bed.tell(Update::Add(pool("web", &[1, 2, 3], &[]))),
        bed.tell(Update::Add(pool("web", &[3], &[1, 2]))),
        bed.tell(Update::Remove(gone)),
        bed.tell(Update::Add(pool("new", &[5], &[]))),
        bed.tell(Update::Add(pool("web", &[], &[]))),
        bed.tell(Update::Add(pool("web", &[4], &[3]))),
    ];
    let last = steps.last().unwrap();
    let all = |snapshot: &Snapshot| {
        let mut registered = Registered::default();
        let apps = visible(snapshot, &Filter::default(), &client()).unwrap();
        assert_eq!(registered.apply(&whole(&apps, Encoding::Json)), registered.hash_code());
        registered
    };
    assert_eq!(all(last).hash_code(), "OUT_OF_SERVICE_1_UP_3_");
    // Each delta reaches back to the first snapshot; the client fetched everything at any time since.
    for fetched in &steps {
        let mut registered = all(fetched);
        let text = told(&steps[0], last, Encoding::Json).unwrap();
        assert!(!text.contains("SAME"), "what did not change is not told: {text}");
        assert_eq!((registered.apply(&text), &registered), (all(last).hash_code(), &all(last)));
        assert_eq!(registered.hash_code(), all(last).hash_code());
    }
    let xml = told(&steps[0], last, Encoding::Xml).unwrap();
    assert_eq!(
        (xml.matches("<actionType>DELETED<").count(), xml.matches("<actionType>ADDED<").count()),
        (3, 3),
        "{xml}"
    );
}

#[test]
fn nobody_is_told_a_delta_of_which_the_beginning_is_not_known() {
    let snapshot = Snapshot::default();
    assert_eq!(changes(None, &snapshot, &Filter::default(), &client(), Encoding::Json), Ok(None));
    assert_eq!(
        told(&snapshot, &snapshot, Encoding::Json).unwrap(),
        r#"{"applications":{"versions__delta":"1","apps__hashcode":"","application":[]}}"#
    );
}
