//! The rules of endpoint semantics that slices decide, each with its test.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::assemble::{Assembler, Contribution};
use super::object::{EndpointsObject, SliceObject};
use super::policy::PolicyObject;
use super::watch::Object;
use super::{Place, Settings};
use crate::endpoints::interner::Interner;
use crate::endpoints::pool::PoolContent;
use crate::endpoints::update::{JoinUpdate, Update};

fn assembler() -> Assembler {
    assembler_with(false, Place::default())
}

fn assembler_with(strict_serving: bool, place: Place) -> Assembler {
    Assembler::new(Settings { cluster: "east".into(), strict_serving, zone: place.zone, node: place.node })
}

/// A slice of service `web` in namespace `shop` with the port `http`, 8080.
fn slice(name: &str, endpoints: Value) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "shop", "resourceVersion": "1",
                     "labels": {"kubernetes.io/service-name": "web", "team": "x"},
                     "managedFields": [{"manager": "m", "fieldsV1": {"f:endpoints": {}}}]},
        "addressType": "IPv4", "endpoints": endpoints,
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    })
}

fn with(mut slice: Value, path: &str, value: Value) -> Value {
    *slice.pointer_mut(path).unwrap_or_else(|| panic!("{path}")) = value;
    slice
}

fn pod(address: &str, conditions: Value) -> Value {
    json!({"addresses": [address], "conditions": conditions, "nodeName": "n1", "zone": "a",
           "targetRef": {"kind": "Pod", "namespace": "shop", "name": format!("pod-{address}")}})
}

fn ready(address: &str) -> Value {
    pod(address, json!({"ready": true, "serving": true, "terminating": false}))
}

fn terminating(address: &str, serving: bool) -> Value {
    pod(address, json!({"ready": false, "serving": serving, "terminating": true}))
}

fn not_ready(address: &str) -> Value {
    pod(address, json!({"ready": false, "serving": false, "terminating": false}))
}

fn object(slice: Value) -> Contribution {
    serde_json::from_value::<SliceObject>(slice).unwrap().keep(&mut Interner::default())
}

/// What a list of these slices gives.
fn listed(assembler: &mut Assembler, slices: &[Value]) -> Update {
    assembler.begin_list();
    slices.iter().for_each(|slice| assembler.list(object(slice.clone())));
    assembler.end_list()
}

fn service_label(service: &str) -> Value {
    json!({"kubernetes.io/service-name": service, "team": "x"})
}

/// What a service's pools are after these slices came one by one: `id address:port state` each.
fn pools(slices: &[Value]) -> Vec<String> {
    pools_of(assembler(), slices)
}

fn pools_of(mut assembler: Assembler, slices: &[Value]) -> Vec<String> {
    let mut updates = Vec::new();
    for slice in slices {
        updates = assembler.apply(object(slice.clone()));
    }
    lines(&updates)
}

fn lines(updates: &[Update]) -> Vec<String> {
    let of_pool = |pool: &PoolContent| -> Vec<String> {
        let line = |it: &crate::endpoints::pool::Endpoint| {
            format!("{} {}:{} {}", pool.id, it.address, it.port, it.state.name())
        };
        let empty = pool.endpoints.is_empty().then(|| format!("{} empty", pool.id));
        pool.endpoints.iter().map(line).chain(empty).collect()
    };
    let of_update = |update: &Update| match update {
        Update::Reset(pools) => pools.iter().flat_map(of_pool).collect(),
        Update::Add(pool) => of_pool(pool),
        Update::Remove(id) => vec![format!("{id} removed")],
    };
    updates.iter().flat_map(of_update).collect()
}

#[test]
fn rule_1_a_service_is_the_union_of_its_labelled_slices_and_a_new_label_is_a_remove_and_an_add() {
    let one = slice("s1", json!([ready("10.0.0.1")]));
    let two = slice("s2", json!([ready("10.0.0.2")]));
    assert_eq!(
        pools(&[one.clone(), two.clone()]),
        ["east/shop/web/http 10.0.0.1:8080 ready", "east/shop/web/http 10.0.0.2:8080 ready"]
    );
    let mut assembler = assembler();
    assembler.apply(object(one.clone()));
    assembler.apply(object(two.clone()));
    let relabelled = with(two, "/metadata/labels", json!({"kubernetes.io/service-name": "api"}));
    assert_eq!(
        lines(&assembler.apply(object(relabelled))),
        ["east/shop/web/http 10.0.0.1:8080 ready", "east/shop/api/http 10.0.0.2:8080 ready"]
    );
    let unlabelled = with(one, "/metadata/labels", json!({}));
    assert_eq!(lines(&assembler.apply(object(unlabelled))), ["east/shop/web/http removed"]);
    assert_eq!(lines(&assembler.delete("shop", "s2")), ["east/shop/api/http removed"]);
    assert_eq!(assembler.delete("shop", "s2"), []);
}

#[test]
fn rule_2_absent_conditions_mean_ready_serving_and_not_terminating() {
    for conditions in [json!({}), json!(null), json!({"ready": null, "serving": null, "terminating": null})] {
        let slice = slice("s", json!([pod("10.0.0.1", conditions)]));
        assert_eq!(pools(&[slice]), ["east/shop/web/http 10.0.0.1:8080 ready"]);
    }
}

#[test]
fn rule_3_ready_endpoints_serve_or_else_those_that_serve_while_they_terminate_and_the_rest_of_them_drains() {
    let endpoints = json!([
        ready("10.0.0.1"),
        terminating("10.0.0.2", true),
        terminating("10.0.0.3", false),
        not_ready("10.0.0.4")
    ]);
    assert_eq!(
        pools(&[slice("s", endpoints)]),
        [
            "east/shop/web/http 10.0.0.1:8080 ready",
            "east/shop/web/http 10.0.0.2:8080 draining",
            "east/shop/web/http 10.0.0.3:8080 draining",
        ]
    );
    let endpoints = json!([terminating("10.0.0.2", true), terminating("10.0.0.3", false), not_ready("10.0.0.4")]);
    assert_eq!(
        pools(&[slice("s", endpoints)]),
        ["east/shop/web/http 10.0.0.2:8080 ready", "east/shop/web/http 10.0.0.3:8080 draining"]
    );
    // The whole service counts, not one slice.
    let (old, new) = (slice("s1", json!([terminating("10.0.0.2", true)])), slice("s2", json!([ready("10.0.0.1")])));
    assert_eq!(
        pools(&[old, new]),
        ["east/shop/web/http 10.0.0.1:8080 ready", "east/shop/web/http 10.0.0.2:8080 draining"]
    );
}

#[test]
fn rule_4_strict_serving_does_not_take_a_forced_ready_for_one() {
    let forced = pod("10.0.0.1", json!({"ready": true, "serving": true, "terminating": true}));
    let sick = pod("10.0.0.2", json!({"ready": true, "serving": false, "terminating": false}));
    let well = ready("10.0.0.3");
    let slice = slice("s", json!([forced, sick, well]));
    let id = "east/shop/web/http";
    let all = ["10.0.0.1", "10.0.0.2", "10.0.0.3"].map(|it| format!("{id} {it}:8080 ready"));
    assert_eq!(pools(std::slice::from_ref(&slice)), all);
    assert_eq!(
        pools_of(assembler_with(true, Place::default()), &[slice]),
        [format!("{id} 10.0.0.1:8080 draining"), format!("{id} 10.0.0.3:8080 ready")]
    );
}

#[test]
fn rule_5_of_several_claims_on_one_address_the_best_and_then_the_newest_counts_in_whatever_order_they_came() {
    // Neither the order in which they come nor that of their names.
    for (worse, better) in [("s1", "s2"), ("s2", "s1")] {
        let old = slice(worse, json!([terminating("10.0.0.1", true), ready("10.0.0.2")]));
        let new = slice(better, json!([ready("10.0.0.1")]));
        for order in [[old.clone(), new.clone()], [new, old]] {
            let both = ["10.0.0.1", "10.0.0.2"].map(|it| format!("east/shop/web/http {it}:8080 ready"));
            assert_eq!(pools(&order), both);
        }
    }
    let named = |slice: Value, version: &str, name: &str| {
        let slice = with(slice, "/metadata/resourceVersion", json!(version));
        with(slice, "/endpoints/0/targetRef/name", json!(name))
    };
    let older = named(slice("s1", json!([ready("10.0.0.1")])), "9", "older");
    let newer = named(slice("s2", json!([ready("10.0.0.1")])), "10", "newer");
    for order in [[older.clone(), newer.clone()], [newer, older]] {
        let mut assembler = assembler();
        assembler.apply(object(order[0].clone()));
        let updates = assembler.apply(object(order[1].clone()));
        let [Update::Add(pool)] = updates.as_slice() else { panic!("{updates:?}") };
        assert_eq!(pool.endpoints.len(), 1);
        assert_eq!(pool.endpoints[0].target.as_deref(), Some("shop/newer"));
    }
}

#[test]
fn rule_6_the_first_address_counts_names_are_refused_and_families_are_separate_pools() {
    let two = json!([{"addresses": ["10.0.0.1", "10.0.0.2"]}]);
    assert_eq!(pools(&[slice("s", two)]), ["east/shop/web/http 10.0.0.1:8080 ready"]);
    let names = with(slice("s", json!([{"addresses": ["host.example"]}])), "/addressType", json!("FQDN"));
    assert_eq!(pools(&[names]), [""; 0]);
    let six = with(slice("s6", json!([ready("fd00::1")])), "/addressType", json!("IPv6"));
    assert_eq!(
        pools(&[slice("s4", json!([ready("10.0.0.1")])), six]),
        ["east/shop/web/http 10.0.0.1:8080 ready", "east/shop/web/http/ipv6 fd00::1:8080 ready"]
    );
}

#[test]
fn rule_7_ports_match_by_name_and_one_name_may_be_another_number_in_another_slice() {
    let one = slice("s1", json!([ready("10.0.0.1")]));
    let two = with(
        slice("s2", json!([ready("10.0.0.2")])),
        "/ports",
        json!([{"name": "http", "port": 9090, "appProtocol": "h2c"}]),
    );
    assert_eq!(
        pools(&[one.clone(), two.clone()]),
        ["east/shop/web/http 10.0.0.1:8080 ready", "east/shop/web/http 10.0.0.2:9090 ready"]
    );
    let mut assembler = assembler();
    let [Update::Add(pool)] = &assembler.apply(object(two))[..] else { panic!("one pool") };
    assert_eq!(pool.endpoints[0].app_protocol.as_deref(), Some("h2c"));
    // Unnamed: the number is the name. Without a number there is nowhere to send to. Without a protocol it is TCP.
    let unnamed =
        with(one, "/ports", json!([{"port": 8080}, {"name": "", "port": 53, "protocol": "UDP"}, {"name": "all"}]));
    assert_eq!(pools(&[unnamed]), ["east/shop/web/53 10.0.0.1:53 ready", "east/shop/web/8080 10.0.0.1:8080 ready"]);
}

#[test]
fn rule_8_hints_apply_only_if_every_ready_endpoint_has_them_and_one_is_for_us_and_the_node_goes_before_the_zone() {
    let hinted = |address: &str, zone: &str, node: &str| {
        let mut endpoint = ready(address);
        endpoint["hints"] = json!({"forZones": [{"name": zone}], "forNodes": [{"name": node}]});
        endpoint
    };
    let here = |zone: Option<&str>, node: Option<&str>| {
        let place = Place { zone: zone.map(Into::into), node: node.map(Into::into) };
        move |endpoints: Value| -> Vec<String> {
            let lines = pools_of(assembler_with(false, place.clone()), &[slice("s", endpoints)]);
            lines.iter().map(|line| line.replace("east/shop/web/http 10.0.0.", "").replace(":8080 ready", "")).collect()
        }
    };
    let all = json!([hinted("10.0.0.1", "a", "n1"), hinted("10.0.0.2", "a", "n2"), hinted("10.0.0.3", "b", "n3")]);
    assert_eq!(here(Some("a"), None)(all.clone()), ["1", "2"]);
    assert_eq!(here(Some("a"), Some("n2"))(all.clone()), ["2"]);
    assert_eq!(here(Some("a"), Some("n9"))(all.clone()), ["1", "2"], "no endpoint for this node: the zone's");
    assert_eq!(here(Some("c"), None)(all.clone()), ["1", "2", "3"], "none for this zone: all");
    assert_eq!(here(None, None)(all), ["1", "2", "3"]);
    let partly = json!([hinted("10.0.0.1", "a", "n1"), ready("10.0.0.2")]);
    assert_eq!(here(Some("a"), None)(partly), ["1", "2"], "one without hints: they do not apply");
}

#[test]
fn rule_9_endpoints_of_an_old_cluster_give_the_pools_that_slices_would() {
    let endpoints = json!({
        "metadata": {"name": "web", "namespace": "shop", "resourceVersion": "5", "labels": {"team": "x"}},
        "subsets": [
            {"addresses": [{"ip": "10.0.0.1", "nodeName": "n1", "targetRef": {"kind": "Pod", "namespace": "shop", "name": "p"}},
                           {"ip": "fd00::1"}],
             "notReadyAddresses": [{"ip": "10.0.0.2"}],
             "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}]},
            {"addresses": [{"ip": "10.0.0.3"}], "ports": [{"name": "http", "port": 9090}]},
        ],
    });
    let contribution = |value: Value| {
        let object: EndpointsObject = serde_json::from_value(value).unwrap();
        object.keep(&mut Interner::default())
    };
    let mut assembler = assembler();
    assert_eq!(
        lines(&assembler.apply(contribution(endpoints.clone()))),
        [
            "east/shop/web/http 10.0.0.1:8080 ready",
            "east/shop/web/http 10.0.0.3:9090 ready",
            "east/shop/web/http/ipv6 fd00::1:8080 ready"
        ]
    );
    let emptied = with(endpoints, "/subsets", json!(null));
    assert_eq!(
        lines(&assembler.apply(contribution(emptied))),
        ["east/shop/web/http empty", "east/shop/web/http/ipv6 empty"]
    );
    assert_eq!(
        lines(&assembler.delete("shop", "web")),
        ["east/shop/web/http removed", "east/shop/web/http/ipv6 removed"]
    );
}

#[test]
fn rule_10_a_relist_leaves_no_ghosts_and_remembers_nothing_of_half_a_list() {
    let mut assembler = assembler();
    assembler.apply(object(slice("s1", json!([ready("10.0.0.1")]))));
    assembler.apply(object(slice("s2", json!([ready("10.0.0.2")]))));
    // A list that breaks off: nothing of it counts, now or with the next one.
    assembler.begin_list();
    assembler.list(object(slice("s3", json!([ready("10.0.0.9")]))));
    let next = slice("s2", json!([ready("10.0.0.2"), ready("10.0.0.4")]));
    assert_eq!(lines(&assembler.apply(object(next))).len(), 3, "what is told meanwhile is of what was there");
    assert_eq!(
        lines(&[listed(&mut assembler, &[slice("s2", json!([ready("10.0.0.3")]))])]),
        ["east/shop/web/http 10.0.0.3:8080 ready"]
    );
    assert_eq!(lines(&[listed(&mut assembler, &[])]), [""; 0]);
    assert_eq!(assembler.delete("shop", "s2"), [], "what the list did not name is not there to be deleted");
}

#[test]
fn an_object_that_goes_while_it_is_listed_is_not_in_the_list() {
    let mut assembler = assembler();
    assembler.begin_list();
    ["s1", "s2"].iter().for_each(|name| assembler.list(object(slice(name, json!([ready("10.0.0.1")])))));
    assembler.list(object(slice("s1", json!([ready("10.0.0.5")]))));
    assembler.unlist("shop", "s2");
    assert_eq!(lines(&[assembler.end_list()]), ["east/shop/web/http 10.0.0.5:8080 ready"]);
}

#[test]
fn what_a_list_says_again_takes_no_memory_again() {
    let mut assembler = assembler();
    let (same, other) = (slice("a", json!([ready("10.0.0.1")])), slice("b", json!([ready("10.0.0.2")])));
    let of_other = |address| with(slice("b", json!([ready(address)])), "/metadata/labels", service_label("api"));
    listed(&mut assembler, &[same.clone(), of_other("10.0.0.2")]);
    let Update::Reset(before) = listed(&mut assembler, &[same.clone(), of_other("10.0.0.2")]) else { panic!() };
    let Update::Reset(after) = listed(&mut assembler, &[same.clone(), of_other("10.0.0.3")]) else { panic!() };
    let of = |pools: &[PoolContent], id: &str| pools.iter().find(|it| it.id.as_str() == id).unwrap().endpoints.clone();
    let (web, api) = ("east/shop/web/http", "east/shop/api/http");
    assert!(std::sync::Arc::ptr_eq(&of(&before, web), &of(&after, web)), "the same endpoints, not equal ones");
    assert_eq!(of(&after, api)[0].address.to_string(), "10.0.0.3");
    // A slice more, of the same service: its pool is another one.
    let Update::Reset(more) = listed(&mut assembler, &[same, other]) else { panic!() };
    assert_eq!(of(&more, web).len(), 2);
}

#[test]
fn a_service_scaled_to_zero_has_known_and_empty_pools_until_its_last_slice_goes() {
    let mut assembler = assembler();
    assembler.apply(object(slice("s", json!([ready("10.0.0.1")]))));
    // What the controller leaves of a service without pods: no endpoints, no ports.
    let placeholder =
        with(with(slice("s", json!(null)), "/ports", json!(null)), "/metadata/resourceVersion", json!("2"));
    assert_eq!(lines(&assembler.apply(object(placeholder.clone()))), ["east/shop/web/http empty"]);
    assert_eq!(lines(&[listed(&mut assembler, &[placeholder])]), ["east/shop/web/http empty"]);
    assert_eq!(lines(&assembler.delete("shop", "s")), ["east/shop/web/http removed"]);
}

#[test]
fn labels_of_the_service_are_kept_and_those_of_the_slice_are_not() {
    let mut assembler = assembler();
    let [Update::Add(pool)] = &assembler.apply(object(slice("s", json!([]))))[..] else { panic!("one pool") };
    assert_eq!(pool.labels.iter().collect::<Vec<_>>(), [(&"team".to_owned(), &"x".to_owned())]);
    assert_eq!(pool.namespace.as_deref(), Some("shop"));
}

#[test]
fn a_policy_that_became_bad_leaves_what_it_made_be_it_heard_of_by_a_change_or_in_a_list() {
    let policy = |spec: Value| -> PolicyObject {
        serde_json::from_value(json!({"metadata": {"name": "web", "namespace": "shop", "generation": 1}, "spec": spec}))
            .unwrap()
    };
    let good = |port: &str| policy(json!({"port": port, "members": [{"pool": "east/shop/web/http"}]}));
    let bad = policy(json!({"port": "http", "members": []}));
    let mut made = BTreeMap::new();
    assert!(matches!(&super::changed(&good("http"), &mut made)[..], [JoinUpdate::Add(_)]));
    let before = made.clone();
    assert_eq!(super::changed(&bad, &mut made), []);
    assert_eq!(super::join(&bad, &made).map(|join| join.id), super::join(&good("http"), &made).map(|join| join.id));
    assert_eq!(made, before);
    assert_eq!(super::join(&bad, &BTreeMap::new()), None, "one that was never good makes nothing");
    let moved = super::changed(&good("grpc"), &mut made);
    assert!(
        matches!(&moved[..], [JoinUpdate::Remove(gone), JoinUpdate::Add(_)] if gone.as_str() == "app/shop/web/http")
    );
}

#[test]
fn a_label_without_a_value_names_no_service() {
    let nameless =
        with(slice("s", json!([ready("10.0.0.1")])), "/metadata/labels", json!({"kubernetes.io/service-name": ""}));
    assert_eq!(pools(&[nameless]), [""; 0]);
}
