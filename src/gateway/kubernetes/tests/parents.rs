//! From Gateways, their listeners and what they show to routes, certificates and statuses.

use serde_json::{Value, json};

use super::{add, backend, known, only, open, refusal, rules, set_gateway, shown};
use crate::gateway::certificates::tests::{identity, pair};
use crate::gateway::config::HostPattern;
use crate::gateway::kubernetes::grant;
use crate::gateway::kubernetes::object::{Ingress, IngressClass, Object};
use crate::gateway::kubernetes::settle::{Known, Settled, settle};
use crate::gateway::kubernetes::status::{CONTROLLER, patches};
use crate::gateway::tls::Certificate;

fn certificate(names: &[&str]) -> Certificate {
    Certificate::new(identity(&pair(names))).unwrap()
}

fn set_secret(known: &mut Known, namespace: &str, name: &str, names: &[&str]) {
    known.secrets.insert((namespace.to_owned(), name.to_owned()), Ok(certificate(names)));
}

fn secure(name: &str, port: u16, secret: Value, host: Value) -> Value {
    let mut listener = open(name, port);
    listener["protocol"] = json!("HTTPS");
    listener["tls"] = json!({"certificateRefs": [secret]});
    listener["hostname"] = host;
    listener
}

fn rule() -> Value {
    json!([{"backendRefs": [backend(1)]}])
}

/// Adds an HTTPRoute that names its parents so.
fn add_to(known: &mut Known, name: &str, hosts: &[&str], parents: Value) {
    add(known, "shop", name, 1, hosts, rule());
    let key = ("shop".to_owned(), name.to_owned());
    known.routes.get_mut(&key).unwrap().spec["parentRefs"] = parents;
}

fn parent(further: &Value) -> Value {
    let mut parent = json!({"name": "edge", "namespace": "infra"});
    parent.as_object_mut().unwrap().extend(further.as_object().unwrap().clone());
    parent
}

/// The conditions of an object's status that is to be written, `TYPE STATUS REASON`, and its message.
fn conditions(value: &Value) -> Vec<String> {
    let text = |it: &Value, key: &str| it[key].as_str().unwrap().to_owned();
    let condition = |it: &Value| format!("{} {} {}", text(it, "type"), text(it, "status"), text(it, "reason"));
    value["conditions"].as_array().unwrap().iter().map(condition).collect()
}

/// The status of the Gateway as it is to be written.
fn status(known: &Known) -> Value {
    let all = patches(known, &rules(), &settle(known, &rules()), jiff::Timestamp::from_second(100).unwrap());
    let found = all.into_iter().find(|patch| patch.name == "Gateway infra/edge");
    found.map_or(Value::Null, |patch| patch.body["status"].clone())
}

fn told(settled: &Settled, name: &str) -> String {
    refusal(settled.verdicts.iter().find(|it| it.key.1 == name).unwrap())
}

#[test]
fn a_route_is_attached_to_the_listeners_that_its_parents_name_and_hostnames_meet() {
    let mut known = known();
    let mut wide = open("wide", 8080);
    wide["hostname"] = json!("*.shop.example");
    set_secret(&mut known, "infra", "tls", &["*.shop.example"]);
    set_gateway(&mut known, json!([wide, secure("tls", 8443, json!({"name": "tls"}), json!("a.shop.example"))]));
    add_to(&mut known, "both", &["*.shop.example", "other.example"], json!([parent(&json!({}))]));
    add_to(&mut known, "none", &[], json!([parent(&json!({"sectionName": "tls"})), parent(&json!({"port": 8443}))]));
    add_to(&mut known, "missing", &[], json!([parent(&json!({"sectionName": "gone"}))]));
    add_to(&mut known, "port", &[], json!([parent(&json!({"port": 81}))]));
    add_to(&mut known, "hosts", &["shop.example", "x.other.example"], json!([parent(&json!({}))]));
    let settled = settle(&known, &rules());
    let routes: Vec<String> =
        settled.routes.iter().map(|it| format!("{} {} {:?}", it.matches.host, it.name, it.matches.ports)).collect();
    assert_eq!(
        routes,
        [
            "*.shop.example httproute/shop/both/0 [8080]",
            "a.shop.example httproute/shop/both/0 [8443]",
            "a.shop.example httproute/shop/none/0 [8443]",
        ]
    );
    for (name, reason) in
        [("missing", "NoMatchingParent"), ("port", "NoMatchingParent"), ("hosts", "NoMatchingListenerHostname")]
    {
        assert!(told(&settled, name).starts_with(&format!("{reason}: ")), "{name}: {}", told(&settled, name));
    }
    let listeners = status(&known)["listeners"].clone();
    let attached: Vec<_> = listeners.as_array().unwrap().iter().map(|it| it["attachedRoutes"].clone()).collect();
    assert_eq!(attached, [json!(1), json!(2)], "a route that names a listener twice counts once");
}

#[test]
fn a_listener_lets_in_routes_of_the_namespaces_that_it_says_and_of_no_other() {
    let mut known = known();
    let with = |namespaces: Value| json!([{"name": "http", "port": 8080, "protocol": "HTTP", "allowedRoutes": {"namespaces": namespaces}}]);
    add(&mut known, "shop", "it", 1, &["a.example"], rule());
    add(&mut known, "blog", "it", 1, &["b.example"], rule());
    let labels = [("team".to_owned(), "a".to_owned())].into();
    known.namespaces.insert((String::new(), "shop".to_owned()), labels);
    for (namespaces, wanted) in [
        (json!({"from": "All"}), &["b.example /* httproute/blog/it/0", "a.example /* httproute/shop/it/0"][..]),
        (json!({"from": "Same"}), &[]),
        (json!({}), &[]),
        (
            json!({"from": "Selector", "selector": {"matchLabels": {"team": "a"}}}),
            &["a.example /* httproute/shop/it/0"],
        ),
    ] {
        set_gateway(&mut known, with(namespaces.clone()));
        let settled = settle(&known, &rules());
        assert_eq!(shown(&settled), wanted, "{namespaces}");
        if wanted.is_empty() {
            assert!(told(&settled, "it").starts_with("NotAllowedByListeners: "), "{}", told(&settled, "it"));
        }
    }
    // Nothing of a listener that takes other kinds.
    let mut listeners = with(json!({"from": "All"}));
    listeners[0]["allowedRoutes"]["kinds"] = json!([{"kind": "GRPCRoute"}]);
    set_gateway(&mut known, listeners);
    assert!(settle(&known, &rules()).routes.is_empty());
    assert!(conditions(&status(&known)["listeners"][0]).contains(&"ResolvedRefs False InvalidRouteKinds".to_owned()));
}

#[test]
fn a_listener_that_cannot_be_served_says_why_and_the_others_go_on() {
    let mut known = known();
    set_secret(&mut known, "infra", "good", &["x"]);
    set_secret(&mut known, "shop", "foreign", &["x"]);
    let good = json!({"name": "good"});
    let mut passthrough = secure("passthrough", 8443, good.clone(), json!("p.example"));
    passthrough["tls"]["mode"] = json!("Passthrough");
    let listeners = json!([
        open("http", 8080),
        open("closed", 81),
        open("plain", 9443),
        secure("tls", 8443, good.clone(), json!("a.example")),
        secure("gone", 8443, json!({"name": "gone"}), json!("b.example")),
        secure("foreign", 8443, json!({"name": "foreign", "namespace": "shop"}), json!("c.example")),
        secure("kind", 8443, json!({"name": "good", "kind": "ConfigMap"}), json!("d.example")),
        secure("one", 8443, good.clone(), json!("same.example")),
        secure("two", 8443, good, json!("same.example")),
        passthrough,
        {"name": "udp", "port": 53, "protocol": "UDP"},
    ]);
    set_gateway(&mut known, listeners);
    add_to(&mut known, "it", &["b.example", "a.example"], json!([parent(&json!({}))]));
    let status = status(&known);
    assert_eq!(conditions(&status), ["Accepted True ListenersNotValid", "Programmed True Programmed"]);
    assert_eq!(status["addresses"], json!([{"type": "IPAddress", "value": "192.0.2.1"}]));
    let of = |name: &str| {
        let listeners = status["listeners"].as_array().unwrap();
        listeners.iter().find(|it| it["name"] == name).unwrap_or_else(|| panic!("{name}")).clone()
    };
    for (name, wanted) in [
        ("http", "Programmed True Programmed"),
        ("closed", "Accepted False PortUnavailable"),
        ("plain", "Accepted False PortUnavailable"),
        ("tls", "Programmed True Programmed"),
        ("gone", "ResolvedRefs False InvalidCertificateRef"),
        ("foreign", "ResolvedRefs False RefNotPermitted"),
        ("kind", "ResolvedRefs False InvalidCertificateRef"),
        ("one", "Conflicted True HostnameConflict"),
        ("two", "Conflicted True HostnameConflict"),
        ("passthrough", "Accepted False UnsupportedValue"),
        ("udp", "Accepted False UnsupportedProtocol"),
    ] {
        let said = conditions(&of(name));
        assert!(said.contains(&wanted.to_owned()), "{name}: {said:?}");
        let programmed = said.contains(&"Programmed True Programmed".to_owned());
        assert_eq!(programmed, matches!(name, "http" | "tls"), "{name}: {said:?}");
    }
    let message = of("closed")["conditions"][0]["message"].as_str().unwrap().to_owned();
    assert!(message.contains("port 81 with HTTP") && message.contains("8080 (HTTP), 8443 (HTTPS)"), "{message}");
    // The route has both hosts, and requests by TLS only where there is a certificate.
    let settled = settle(&known, &rules());
    let ports: Vec<_> =
        settled.routes.iter().map(|it| (it.matches.host.to_string(), it.matches.ports.clone())).collect();
    assert_eq!(ports, [("b.example".to_owned(), vec![8080]), ("a.example".to_owned(), vec![8080, 8443])]);
    // A grant lets the certificate of another namespace be shown.
    let grant = json!({
        "from": [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "namespace": "infra"}],
        "to": [{"group": "", "kind": "Secret", "name": "foreign"}],
    });
    let grant = Object::for_tests("shop", "it", 0, grant);
    known.grants.insert(grant.key(), grant::read(grant));
    let settled = settle(&known, &rules());
    assert!(settled.certificates.iter().any(|it| it.host.to_string() == "c.example"), "{settled:?}");
}

#[test]
fn a_certificate_that_breaks_hands_no_host_to_another() {
    let mut known = known();
    set_gateway(&mut known, json!([secure("tls", 8443, json!({"name": "tls"}), json!("a.example"))]));
    add(&mut known, "shop", "first", 1, &["a.example"], rule());
    add(&mut known, "blog", "thief", 2, &["a.example"], rule());
    for there in [true, false] {
        match there {
            true => set_secret(&mut known, "infra", "tls", &["a.example"]),
            false => known.secrets.clear(),
        }
        let settled = settle(&known, &rules());
        assert_eq!(
            (told(&settled, "thief"), settled.routes.len()),
            ("HostTaken: a.example belongs to namespace shop".to_owned(), usize::from(there))
        );
    }
}

#[test]
fn certificates_are_for_the_hosts_of_who_brings_them() {
    let mut known = known();
    set_secret(&mut known, "infra", "tls", &["a.example", "elsewhere.example"]);
    set_secret(&mut known, "shop", "own", &["b.example"]);
    set_secret(&mut known, "blog", "stolen", &["b.example"]);
    set_gateway(
        &mut known,
        json!([open("http", 8080), secure("tls", 8443, json!({"name": "tls"}), json!("*.example"))]),
    );
    for (since, namespace, secret) in [(1, "shop", "own"), (2, "blog", "stolen")] {
        let paths = json!([{"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "web", "port": {"number": 80}}}}]);
        let spec = json!({"ingressClassName": "tidegate", "tls": [{"secretName": secret}],
            "rules": [{"host": "b.example", "http": {"paths": paths}}]});
        let ingress = Object::<Ingress>::for_tests(namespace, "in", since, spec);
        known.ingresses.insert(ingress.key(), ingress);
    }
    let settled = settle(&known, &rules());
    let all: Vec<_> = settled.certificates.iter().map(|it| (it.host.to_string(), it.port)).collect();
    let of = |host: &str, port| (host.to_owned(), port);
    assert_eq!(
        all,
        [
            of("a.example", Some(8443)),
            of("elsewhere.example", Some(8443)),
            of("*.example", Some(8443)),
            of("b.example", None)
        ]
    );
    let own = known.secrets[&("shop".to_owned(), "own".to_owned())].as_ref().unwrap();
    let shown = settled.certificates.iter().find(|it| it.host == HostPattern::Exact("b.example".to_owned())).unwrap();
    assert!(shown.certificate == *own, "of the namespace that has the host");
}

#[test]
fn an_ingress_is_told_where_it_is_reached_and_which_certificate_is_not_shown() {
    let mut known = known();
    let rule = json!({"host": "b.example", "http": {"paths": [
        {"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "web", "port": {"number": 80}}}}]}});
    let spec = json!({"ingressClassName": "tidegate", "tls": [{"secretName": "gone"}], "rules": [rule]});
    let ingress = Object::<Ingress>::for_tests("shop", "in", 1, spec);
    let key = ingress.key();
    known.ingresses.insert(key.clone(), ingress);
    let wanted = |known: &Known| {
        let all = patches(known, &rules(), &settle(known, &rules()), jiff::Timestamp::UNIX_EPOCH);
        all.into_iter().find(|it| it.name == "Ingress shop/in").map(|it| it.body["status"]["loadBalancer"].clone())
    };
    let error = json!([{"port": 8443, "protocol": "TCP", "error": "tidegate.dev/InvalidCertificateRef"}]);
    assert_eq!(wanted(&known), Some(json!({"ingress": [{"ip": "192.0.2.1", "ports": error}]})));
    set_secret(&mut known, "shop", "gone", &["b.example"]);
    let good = json!({"ingress": [{"ip": "192.0.2.1"}]});
    assert_eq!(wanted(&known), Some(good.clone()));
    known.ingresses.get_mut(&key).unwrap().status = json!({"loadBalancer": good});
    assert_eq!(wanted(&known), None, "what stands there is not written again");
    known.operators.insert("b.example".to_owned());
    assert_eq!(wanted(&known), Some(json!({"ingress": []})), "it has no host any more");
    known.operators.clear();
    let set_class = |known: &mut Known, name: &str| {
        known.ingresses.get_mut(&key).unwrap().spec["ingressClassName"] = json!(name);
    };
    set_class(&mut known, "nginx");
    assert_eq!(wanted(&known), None, "it is another's, and who wrote its status is not known");
    let set_manager = |known: &mut Known, manager: &str| {
        known.ingresses.get_mut(&key).unwrap().metadata.managed_fields = serde_json::from_value(json!([
            {"manager": manager, "subresource": "status", "fieldsV1": {"f:status": {"f:loadBalancer": {"f:ingress": {}}}}},
        ]))
        .unwrap();
    };
    set_manager(&mut known, "nginx-ingress-controller");
    assert_eq!(wanted(&known), None, "another wrote it");
    set_manager(&mut known, "tidegate-gateway");
    assert_eq!(wanted(&known), Some(json!({"ingress": []})), "nobody else takes back what we wrote");
    let mut elsewhere = Object::<IngressClass>::for_tests("", "inner", 0, json!({"controller": CONTROLLER}));
    known.ingress_classes.insert(elsewhere.key(), elsewhere.clone());
    set_class(&mut known, "inner");
    assert_eq!(wanted(&known), None, "another gateway of ours says where it is reached");
    elsewhere.spec = json!({"controller": "other.example/ingress"});
    known.ingress_classes.insert(elsewhere.key(), elsewhere);
    assert_eq!(wanted(&known), Some(json!({"ingress": []})));
    set_class(&mut known, "tidegate");
    assert_eq!(wanted(&known), None, "it is ours again, and its address stands there");
}

#[test]
fn a_gateway_is_ours_where_it_is_named_and_its_class_is_ours() {
    let mut known = known();
    add(&mut known, "shop", "it", 1, &["a.example"], rule());
    let verdict = |known: &Known| settle(known, &rules()).verdicts.into_iter().find(|it| it.kind == "Gateway").unwrap();
    assert_eq!(verdict(&known).refused, None);
    let class = (String::new(), "tidegate".to_owned());
    known.classes.get_mut(&class).unwrap().spec["parametersRef"] = json!({"name": "x"});
    assert!(refusal(&verdict(&known)).contains("parametersRef"));
    let all = patches(&known, &rules(), &settle(&known, &rules()), jiff::Timestamp::UNIX_EPOCH);
    let of_class = all.iter().find(|it| it.name == "GatewayClass tidegate").unwrap();
    assert_eq!(conditions(&of_class.body["status"]), ["Accepted False InvalidParameters"]);
    known.classes.get_mut(&class).unwrap().spec = json!({"controllerName": "other.example/gateway"});
    assert!(refusal(&verdict(&known)).contains("another controller's"));
    let settled = settle(&known, &rules());
    let silent = patches(&known, &rules(), &settled, jiff::Timestamp::UNIX_EPOCH).is_empty();
    assert!(settled.routes.is_empty() && silent, "another's objects are left alone: {settled:?}");
    known.gateways.clear();
    assert!(refusal(&verdict(&known)).contains("no such Gateway"));
}

#[test]
fn a_gateway_that_asks_for_what_is_not_done_here_is_not_accepted() {
    for (field, value, reason) in [
        ("tls", json!({"frontend": {"default": {"validation": {}}}}), "UnsupportedValue: spec.tls"),
        ("newField", json!(1), "UnsupportedValue: spec.newField"),
        ("infrastructure", json!({"parametersRef": {"name": "x"}}), "InvalidParameters: spec.infrastructure"),
    ] {
        let mut known = known();
        add(&mut known, "shop", "it", 1, &["a.example"], rule());
        let gateway = ("infra".to_owned(), "edge".to_owned());
        known.gateways.get_mut(&gateway).unwrap().spec[field] = value;
        let settled = settle(&known, &rules());
        let verdict = settled.verdicts.iter().find(|it| it.kind == "Gateway").unwrap();
        assert!(settled.routes.is_empty() && refusal(verdict).starts_with(reason), "{verdict:?}");
    }
    let mut known = known();
    let gateway = ("infra".to_owned(), "edge".to_owned());
    known.gateways.get_mut(&gateway).unwrap().spec["infrastructure"] = json!({"labels": {"a": "b"}});
    assert!(conditions(&status(&known)).contains(&"Accepted True Accepted".to_owned()));
}

#[test]
fn a_gateway_without_an_address_or_with_a_foreign_one_is_not_programmed() {
    let known = known();
    let mut nowhere = rules();
    nowhere.addresses.clear();
    let all = patches(&known, &nowhere, &settle(&known, &nowhere), jiff::Timestamp::UNIX_EPOCH);
    let gateway = all.iter().find(|it| it.name == "Gateway infra/edge").unwrap();
    assert_eq!(conditions(&gateway.body["status"]), ["Accepted True Accepted", "Programmed False AddressNotAssigned"]);
    let mut known = known;
    let key = ("infra".to_owned(), "edge".to_owned());
    known.gateways.get_mut(&key).unwrap().spec["addresses"] = json!([{"type": "IPAddress", "value": "198.51.100.1"}]);
    add(&mut known, "shop", "it", 1, &["a.example"], rule());
    assert_eq!(conditions(&status(&known)), ["Accepted False UnsupportedAddress", "Programmed False Invalid"]);
    assert!(settle(&known, &rules()).routes.is_empty());
    known.gateways.get_mut(&key).unwrap().spec["addresses"] = json!([{"value": "192.0.2.1"}]);
    assert_eq!(conditions(&status(&known)), ["Accepted True Accepted", "Programmed True Programmed"]);
    let settled = settle(&known, &rules());
    assert_eq!(only(&settled).matches.ports, [8080]);
}
