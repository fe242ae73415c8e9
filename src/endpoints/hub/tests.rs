//! A relay's picture of its hub, answer by answer.

use std::sync::Arc;

use super::mirror::{Lacking, Mirror};
use super::wire::{Delta, List};
use crate::endpoints::interner::Interner;
use crate::endpoints::pool::PoolContent;
use crate::endpoints::update::{SourceEvent, Update};

fn body(id: &str, last: u8) -> String {
    format!(
        r#"{{"id":"{id}","traffic_generation":7,"endpoints":[{{"address":"10.0.0.{last}","port":80,"protocol":"UDP","weight":5,"state":"draining","zone":"a","node":"n","cluster":"east","target":"shop/x","app_protocol":"h2c"}}]}}"#
    )
}

fn delta(index: &str, changed: &[(&str, u8)], removed: &str, loaded: bool) -> Delta {
    let bodies: Vec<String> = changed.iter().map(|(id, last)| body(id, *last)).collect();
    let part = |(id, last): &(&str, u8)| {
        format!(r#"{{"tag":"{id}-{last}","namespace":"shop","labels":{{"team":"x"}},"sources":[0]}}"#)
    };
    let parts: Vec<String> = changed.iter().map(part).collect();
    let text = format!(
        r#"{{"index":"{index}","changed":[{}],"removed":[{removed}],"relay":{{"truth":"t","sources":[{{"name":"east","prefix":"east","loaded":{loaded},"synced_at":1000,"lost":[["endpoints",2000,"refused"]]}}],"pools":[{}]}}}}"#,
        bodies.join(","),
        parts.join(",")
    );
    Delta::read(text.as_bytes(), &mut Interner::default()).unwrap()
}

fn list(index: &str, pools: &[(&str, u8)]) -> List {
    let entries: Vec<String> = pools.iter().map(|(id, _)| format!(r#"{{"id":"{id}"}}"#)).collect();
    let tags: Vec<String> = pools.iter().map(|(id, last)| format!("\"{id}-{last}\"")).collect();
    let text = format!(
        r#"{{"index":"{index}","pools":[{}],"relay":{{"truth":"t","sources":[],"tags":[{}]}}}}"#,
        entries.join(","),
        tags.join(",")
    );
    List::read(text.as_bytes()).unwrap()
}

/// The pools of the list that these events tell, or what is live of them.
fn pools(events: &[SourceEvent]) -> Vec<String> {
    let update = |update: &Update| match update {
        Update::Reset(pools) => format!("all {}", pools.iter().map(name).collect::<Vec<_>>().join(" ")),
        Update::Add(pool) => format!("add {}", name(pool)),
        Update::Remove(id) => format!("remove {id}"),
    };
    let of_event = |event: &SourceEvent| match event {
        SourceEvent::Pools(updates) => updates.iter().map(update).collect(),
        _ => Vec::new(),
    };
    events.iter().flat_map(of_event).collect()
}

fn name(pool: &PoolContent) -> String {
    format!("{}={}", pool.id, pool.endpoints.first().map_or_else(String::new, |it| it.address.to_string()))
}

#[test]
fn everything_that_a_hub_says_of_a_pool_arrives() {
    let answer = delta("b:1", &[("east/shop/a/http", 1)], "", true);
    let (tag, pool) = &answer.changed[0];
    let endpoint = &pool.endpoints[0];
    assert_eq!((tag.as_deref(), pool.namespace.as_deref()), (Some("east/shop/a/http-1"), Some("shop")));
    assert_eq!(pool.labels["team"], "x");
    let relayed = pool.relayed.as_deref().unwrap();
    assert_eq!((relayed.traffic_generation, relayed.origins.as_slice()), (Some(7), &[Arc::from("east")][..]));
    assert_eq!(
        format!("{:?} {:?} {} {:?}", endpoint.protocol, endpoint.state, endpoint.weight, endpoint.app_protocol),
        "Udp Draining 5 Some(\"h2c\")"
    );
    let origins = answer.relay.unwrap().origins();
    let lost = &origins.sources[0].status.lost;
    assert_eq!((origins.sources[0].status.loaded, lost.values().next().unwrap().1.as_str()), (true, "refused"));
}

#[test]
fn what_is_for_some_requests_alone_arrives_beside_the_pool_or_the_answer_is_not_taken() {
    let good = r#"{"index":"b:1","changed":[{"id":"app/shop/a/http","traffic_generation":7,"endpoints":[],"matched":[{"pool":"east/shop/b/http","match":{"headers":[{"name":"x-canary","values":["yes"]}]},"endpoints":[{"address":"10.0.0.2","port":80,"weight":100,"state":"ready"}]}]}],"removed":[]}"#;
    let read = |text: &str| Delta::read(text.as_bytes(), &mut Interner::default());
    let (_, pool) = read(good).unwrap().changed.remove(0);
    let part = pool.relayed.unwrap().matched[0].clone();
    let told = (part.pool.as_str(), part.requests.to_string(), part.endpoints[0].address.to_string());
    assert_eq!(told, ("east/shop/b/http", "header x-canary=yes".to_owned(), "10.0.0.2".to_owned()));
    assert!(pool.endpoints.is_empty());
    for (from, to) in [("\"port\":80", "\"port\":0"), ("east/shop/b", "east/ /b"), ("\"match\"", "\"mach\"")] {
        assert!(read(&good.replace(from, to)).is_err(), "{to}");
    }
}

#[test]
fn garbage_is_refused_whole() {
    let good = r#"{"index":"b:1","changed":[BODY],"removed":[]}"#;
    let body = body("a", 1);
    let read = |text: &str| Delta::read(text.as_bytes(), &mut Interner::default()).map(|_| ());
    assert_eq!(read(&good.replace("BODY", &body)), Ok(()));
    for bad in [
        String::new(),
        "<html>".to_owned(),
        good.replace("BODY", &body).chars().take(60).collect(),
        good.replace("BODY", &body.replace("draining", "gone")),
        good.replace("BODY", &body.replace("\"port\":80", "\"port\":0")),
        good.replace("BODY", &body.replace("\"a\",\"traffic", "\"a b\",\"traffic")),
        good.replace("[BODY]", "null"),
        good.replace("[]}", "[7]}").replace("BODY", &body),
        good.replace("BODY", &body).replace("[]}", r#"[],"relay":{"truth":"","sources":[]}}"#),
    ] {
        assert!(read(&bad).is_err(), "{bad}");
    }
}

#[test]
fn a_list_fetches_what_differs_and_keeps_the_rest() {
    let mut mirror = Mirror::default();
    let names = ["a", "b", "c", "d"];
    let first: Vec<(&str, u8)> = names.iter().map(|name| (*name, 1)).collect();
    assert_eq!(mirror.lacking(&list("b:1", &first)), Lacking::All);
    assert_eq!(pools(&mirror.replace(delta("b:1", &first, "", true))).len(), 1);
    let other = [("a", 1), ("b", 2), ("c", 1), ("e", 1)];
    let Lacking::These(lacking) = mirror.lacking(&list("x:9", &other)) else { panic!("all are asked for") };
    assert_eq!(lacking.iter().map(|id| id.as_str()).collect::<Vec<_>>(), ["b", "e"]);
    let fetched = delta("x:9", &[("b", 2), ("e", 1)], "", true).changed;
    assert_eq!(pools(&mirror.reset(list("x:9", &other), fetched)), ["all a=10.0.0.1 b=10.0.0.2 c=10.0.0.1 e=10.0.0.1"]);
    assert_eq!(mirror.index(), Some("x:9"));
    assert_eq!(mirror.lacking(&list("x:9", &other)), Lacking::These(Vec::new()));
}

#[test]
fn what_follows_is_live_and_what_does_not_is_listed_anew() {
    let mut mirror = Mirror::default();
    mirror.replace(delta("b:1", &[("a", 1), ("b", 1)], "", true));
    let told = mirror.apply(delta("b:2", &[("b", 2)], "\"a\"", true), false).unwrap();
    assert_eq!(pools(&told), ["remove a", "add b=10.0.0.2"]);
    assert!(mirror.apply(delta("x:1", &[("b", 3)], "", true), true).is_none(), "another life of the hub");
    assert!(mirror.apply(delta("b:3", &[], "", false), false).is_none(), "a source that the hub no longer knows");
    assert_eq!(mirror.index(), Some("b:2"), "nothing was taken");
    assert!(mirror.apply(delta("x:1", &[], "", true), false).is_none(), "who was not asked cannot know");
    assert!(mirror.apply(delta("x:1", &[], "", true), true).is_some(), "a hub of the same content");
    assert_eq!(mirror.index(), Some("x:1"));
}

#[test]
fn two_relays_of_the_same_pools_have_the_same_tag() {
    let (mut one, mut other) = (Mirror::default(), Mirror::default());
    one.replace(delta("b:1", &[("a", 1), ("b", 1)], "", true));
    other.replace(delta("x:7", &[("a", 1)], "", true));
    other.apply(delta("x:8", &[("b", 1)], "", true), false).unwrap();
    assert_eq!(one.content_tag(), other.content_tag());
    other.apply(delta("x:9", &[("b", 2)], "", true), false).unwrap();
    assert_ne!(one.content_tag(), other.content_tag());
}
