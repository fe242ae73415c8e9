//! A ring, answer by answer.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::EurekaConfig;
use super::ring::Ring;
use super::wire::Applications;
use crate::endpoints::pool::PoolContent;
use crate::endpoints::update::Update;
use crate::net::fetch::Credentials;

fn ring(secure: bool) -> Ring {
    Ring::new(Arc::new(EurekaConfig {
        cluster: "vms".into(),
        urls: vec!["http://127.0.0.1:8761/eureka".into()],
        poll: Duration::from_secs(10),
        apps: Vec::new(),
        secure,
        credentials: Credentials::default(),
    }))
}

fn instance(last: u8, status: &str, action: &str) -> Value {
    json!({
        "instanceId": format!("vm{last}:shop:8080"), "hostName": format!("vm{last}"), "app": "SHOP",
        "ipAddr": format!("10.0.0.{last}"), "status": status, "overriddenStatus": "UNKNOWN",
        "port": {"$": 8080, "@enabled": "true"}, "securePort": {"$": "8443", "@enabled": "true"},
        "dataCenterInfo": {"@class": "com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo", "name": "MyOwn"},
        "metadata": {"zone": "a", "weight": "5"}, "actionType": action,
    })
}

fn answer(hashcode: &str, instances: Value) -> Applications {
    let document = json!({"applications": {
        "versions__delta": "1", "apps__hashcode": hashcode, "application": [{"name": "SHOP", "instance": instances}],
    }});
    Applications::read(document.to_string().as_bytes()).unwrap()
}

fn lines(pool: &PoolContent) -> Vec<String> {
    pool.endpoints.iter().map(|it| format!("{}:{} {}", it.address, it.port, it.state.name())).collect()
}

fn only(updates: &[Update]) -> Vec<String> {
    match updates {
        [Update::Add(pool)] => lines(pool),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_ring_is_its_applications_and_an_instance_what_it_says_of_itself() {
    let Update::Reset(pools) = ring(false).reset(&answer("", json!([instance(1, "UP", "ADDED")]))) else { panic!() };
    assert_eq!((pools[0].id.as_str(), lines(&pools[0])), ("vms/shop", vec!["10.0.0.1:8080 ready".to_owned()]));
    let endpoint = &pools[0].endpoints[0];
    assert_eq!((endpoint.zone.as_deref(), endpoint.weight), (Some("a"), 5));
    assert_eq!((endpoint.target.as_deref(), endpoint.cluster.as_deref()), (Some("vm1:shop:8080"), Some("vms")));
    let Update::Reset(pools) = ring(true).reset(&answer("", json!([instance(1, "UP", "ADDED")]))) else { panic!() };
    let endpoint = &pools[0].endpoints[0];
    assert_eq!((endpoint.port, endpoint.app_protocol.as_deref()), (8443, Some("https")));
}

#[test]
fn only_what_is_up_is_ready_and_what_leaves_service_drains() {
    let mut ring = ring(false);
    ring.reset(&answer("", json!([instance(1, "UP", "ADDED"), instance(2, "OUT_OF_SERVICE", "ADDED")])));
    let delta = answer("OUT_OF_SERVICE_2_", json!([instance(1, "OUT_OF_SERVICE", "MODIFIED")]));
    assert_eq!(only(&ring.apply(&delta).unwrap()), ["10.0.0.1:8080 draining"], "the other never was in the pool");
    for status in ["DOWN", "STARTING", "UNKNOWN"] {
        let mut ring = self::ring(false);
        ring.reset(&answer("", json!([instance(1, "UP", "ADDED"), instance(2, "UP", "ADDED")])));
        let delta = answer(&format!("{status}_1_UP_1_"), json!([instance(1, status, "MODIFIED")]));
        assert_eq!(only(&ring.apply(&delta).unwrap()), ["10.0.0.2:8080 ready"], "{status}");
    }
}

#[test]
fn a_delta_that_makes_another_ring_than_the_servers_is_not_taken() {
    let mut ring = ring(false);
    ring.reset(&answer("", json!([instance(1, "UP", "ADDED"), instance(2, "UP", "ADDED")])));
    let delta = |hashcode: &str| answer(hashcode, json!([instance(1, "UP", "DELETED")]));
    assert!(ring.apply(&delta("UP_2_")).is_none());
    assert!(ring.apply(&delta("")).is_none());
    assert_eq!(only(&ring.apply(&delta("UP_1_")).unwrap()), ["10.0.0.2:8080 ready"]);
    assert_eq!(ring.apply(&delta("UP_1_")), Some(Vec::new()), "a delta is told for minutes");
    let last = answer("", json!([instance(2, "UP", "DELETED")]));
    assert!(matches!(ring.apply(&last).unwrap().as_slice(), [Update::Remove(id)] if id.as_str() == "vms/shop"));
}

#[test]
fn a_list_of_one_may_stand_without_its_list_and_numbers_as_text() {
    let text = json!({"applications": {"apps__hashcode": "UP_1_", "application": {
        "name": "SHOP", "instance": {"hostName": "vm1", "ipAddr": "10.0.0.1", "status": "UP",
            "port": {"$": "80", "@enabled": true}, "dataCenterInfo": {"metadata": {"availability-zone": "b"}}},
    }}});
    let all = Applications::read(text.to_string().as_bytes()).unwrap();
    let Update::Reset(pools) = ring(false).reset(&all) else { panic!() };
    assert_eq!(
        (lines(&pools[0]), pools[0].endpoints[0].zone.as_deref()),
        (vec!["10.0.0.1:80 ready".into()], Some("b"))
    );
    let empty = Applications::read(br#"{"applications":{"versions__delta":"1","apps__hashcode":""}}"#).unwrap();
    assert!(empty.applications.is_empty());
    for bad in ["", "<applications/>", "{}", r#"{"applications":{"application":[{"instance":[]}]}}"#] {
        assert!(Applications::read(bad.as_bytes()).is_err(), "{bad}");
    }
}

#[test]
fn what_cannot_be_an_endpoint_is_left_out_and_the_rest_is_there() {
    let mut nameless = instance(3, "UP", "ADDED");
    nameless["ipAddr"] = json!("vm3.example");
    let mut closed = instance(4, "UP", "ADDED");
    (closed["port"]["@enabled"], closed["securePort"]["@enabled"]) = (json!("false"), json!("false"));
    let all = answer("", json!([instance(1, "UP", "ADDED"), nameless, closed]));
    let Update::Reset(pools) = ring(false).reset(&all) else { panic!() };
    assert_eq!(lines(&pools[0]), ["10.0.0.1:8080 ready"]);
}
