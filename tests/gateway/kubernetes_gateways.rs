//! Gateways of a real API server: which routes their listeners let in, what they show to clients of TLS, what backends may be named,
//! and what is said of all this.

use std::net::SocketAddr;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::{Value, json};

use crate::bed::certificates::{Authority, Certified};
use crate::bed::{free_port, wait_until};
use crate::curl::{Answer, curl};
use crate::kube::objects::{namespace_path, service_path};
use crate::stage::{API, GRANTS_API, Stage, assert_statuses_taken, open, to, wait_answer};
use crate::support::{Gateway, SOON};
use crate::tls::shown_at;

/// A Secret with a certificate; its API's path is `/api/v1/namespaces/NAMESPACE/secrets/NAME`.
fn secret(namespace: &str, name: &str, certified: &Certified) -> Value {
    let part = |path| BASE64_STANDARD.encode(std::fs::read(path).unwrap());
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": name, "namespace": namespace},
        "data": {"tls.crt": part(&certified.certificate), "tls.key": part(&certified.key)},
    })
}

/// Lets objects of this kind in one namespace name those of another.
fn grant(namespace: &str, kind: &str, from: &str, to: &str) -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1beta1", "kind": "ReferenceGrant",
        "metadata": {"name": "it", "namespace": namespace},
        "spec": {
            "from": [{"group": "gateway.networking.k8s.io", "kind": kind, "namespace": from}],
            "to": [{"group": "", "kind": to}],
        },
    })
}

fn grant_path(namespace: &str) -> String {
    format!("{GRANTS_API}/namespaces/{namespace}/referencegrants/it")
}

fn ingress(namespace: &str, host: &str, secret: &str) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "in", "namespace": namespace},
        "spec": {
            "ingressClassName": "tidegate",
            "tls": [{"hosts": [host], "secretName": secret}],
            "rules": [{"host": host, "http": {"paths": [
                {"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "web", "port": {"name": "http"}}}}]}}],
        },
    })
}

/// Of a hundred requests for a host, how many were answered with this status.
fn of_hundred(gateway: &Gateway, host: &str, status: u16) -> usize {
    (0..100).filter(|_| gateway.curl_host(host, "/", &[]).status == status).count()
}

#[test]
fn a_backend_that_is_missing_or_of_a_kind_that_is_none_answers_500_for_its_share() {
    let stage = Stage::new(35);
    let gateway = stage.gateway(&[]);
    let namespace = &stage.namespace;
    let half = |other: Value| json!([{"backendRefs": [{"name": "web", "port": 80, "weight": 1}, other]}]);
    stage.create_route(namespace, "gone", &["gone.example"], &half(json!({"name": "gone", "port": 80, "weight": 1})));
    let kind = json!({"group": "x.example", "kind": "Bucket", "name": "b", "weight": 1});
    stage.create_route(namespace, "kind", &["kind.example"], &half(kind));
    for (name, reason) in [("gone", "BackendNotFound"), ("kind", "InvalidKind")] {
        assert_eq!(stage.wait_condition(namespace, name, "ResolvedRefs", "False")["reason"], reason);
        stage.wait_condition(namespace, name, "Accepted", "True");
        let host = format!("{name}.example");
        wait_answer(&gateway, &host, "/", 200, "web");
        let failed = of_hundred(&gateway, &host, 500);
        // 50 of 100; five standard deviations are 25.
        assert!((25..=75).contains(&failed), "{host}: {failed}");
    }
    assert!(gateway.failures("no_backend") > 0.0);
    // Once it is there, its share is its own.
    stage.service(namespace, "gone", &stage.backends[1]);
    stage.wait_condition(namespace, "gone", "ResolvedRefs", "True");
    wait_answer(&gateway, "gone.example", "/", 200, "api");
    assert_eq!(of_hundred(&gateway, "gone.example", 200), 100);
    // And when it goes, nobody else gets it.
    stage.cluster.client().delete(&service_path(namespace, "gone"));
    stage.wait_condition(namespace, "gone", "ResolvedRefs", "False");
    wait_until(SOON, "a 500", || gateway.curl_host("gone.example", "/", &[]).status == 500);
    let failed = of_hundred(&gateway, "gone.example", 500);
    assert!((25..=75).contains(&failed), "{failed}");
}

#[test]
fn a_backend_of_another_namespace_is_asked_for_as_long_as_a_grant_there_says_so() {
    let stage = Stage::new(36);
    let other = stage.cluster.namespace("granted");
    stage.service(&other, "api", &stage.backends[1]);
    let gateway = stage.gateway(&[&other]);
    let namespace = &stage.namespace;
    let edit =
        |kind: &str, key: &str, name: &str| json!({"type": kind, key: {"set": [{"name": name, "value": "ours"}]}});
    let filters = json!([
        edit("RequestHeaderModifier", "requestHeaderModifier", "x-to-api"),
        edit("ResponseHeaderModifier", "responseHeaderModifier", "x-from-api"),
    ]);
    let foreign = json!({"name": "api", "port": 80, "namespace": other, "weight": 1, "filters": filters});
    let rules = json!([
        {"backendRefs": [foreign]},
        {"matches": [{"path": {"type": "Exact", "value": "/own"}}], "backendRefs": [{"name": "web", "port": 80}]},
    ]);
    stage.create_route(namespace, "shop", &["shop.example"], &rules);
    wait_answer(&gateway, "shop.example", "/own", 200, "web");
    gateway.curl_host("shop.example", "/", &[]).assert_refused(500, "no_backend");
    assert_eq!(stage.wait_condition(namespace, "shop", "ResolvedRefs", "False")["reason"], "RefNotPermitted");
    // A grant for others is none.
    let client = stage.cluster.client();
    client.create(&grant(&other, "HTTPRoute", "elsewhere", "Service"));
    stage.create_route(namespace, "later", &["later.example"], &json!([to("web")]));
    wait_answer(&gateway, "later.example", "/", 200, "web");
    gateway.curl_host("shop.example", "/", &[]).assert_refused(500, "no_backend");
    client.delete(&grant_path(&other));
    client.create(&grant(&other, "HTTPRoute", namespace, "Service"));
    wait_answer(&gateway, "shop.example", "/", 200, "api");
    stage.wait_condition(namespace, "shop", "ResolvedRefs", "True");
    let answer = gateway.curl_host("shop.example", "/", &[]);
    assert_eq!((answer.echo().header("x-to-api"), answer.field("x-from-api")), (vec!["ours".to_owned()], Some("ours")));
    let own = gateway.curl_host("shop.example", "/own", &[]);
    assert_eq!((own.echo().header("x-to-api"), own.field("x-from-api")), (Vec::new(), None), "another backend");
    client.delete(&grant_path(&other));
    wait_answer(&gateway, "shop.example", "/", 500, "");
    assert_eq!(stage.wait_condition(namespace, "shop", "ResolvedRefs", "False")["reason"], "RefNotPermitted");
}

#[test]
fn a_gateway_lets_in_the_routes_that_it_says_and_says_what_is_served_of_it() {
    let stage = Stage::new(37);
    let other = stage.cluster.namespace("others");
    stage.service(&other, "web", &stage.backends[1]);
    let (namespace, port, client) = (&stage.namespace, stage.address.port(), stage.cluster.client());
    let http = |name: &str, host: &str, from: Value| json!({"name": name, "port": port, "protocol": "HTTP", "hostname": host, "allowedRoutes": {"namespaces": from}});
    let labelled = json!({"from": "Selector", "selector": {"matchLabels": {"may": "attach"}}});
    let listeners = json!([
        http("same", "*.same.example", json!({"from": "Same"})),
        http("some", "*.some.example", labelled),
        open("closed", free_port()),
    ]);
    client.patch(&stage.gateway_path(), &json!({"spec": {"listeners": listeners}}));
    let gateway = stage.gateway(&[&other]);
    stage.create_route(namespace, "own", &["a.same.example"], &json!([to("web")]));
    wait_answer(&gateway, "a.same.example", "/", 200, "web");
    // Of the other namespace: by no listener that takes its hosts, until it has the label.
    let some = json!({"sectionName": "some"});
    stage.create_route_at(&other, "some", &[], &json!([to("web")]), &some);
    let refused = stage.wait_condition(&other, "some", "Accepted", "False");
    assert_eq!(refused["reason"], "NotAllowedByListeners", "{refused}");
    let same = json!({"sectionName": "same"});
    stage.create_route_at(&other, "same", &["b.same.example"], &json!([to("web")]), &same);
    assert_eq!(stage.wait_condition(&other, "same", "Accepted", "False")["reason"], "NotAllowedByListeners");
    gateway.curl_host("b.same.example", "/", &[]).assert_refused(404, "no_route");
    gateway.curl_host("x.some.example", "/", &[]).assert_refused(404, "no_route");
    client.patch(&namespace_path(&other), &json!({"metadata": {"labels": {"may": "attach"}}}));
    wait_answer(&gateway, "x.some.example", "/", 200, "api");
    stage.wait_condition(&other, "some", "Accepted", "True");
    // Names that the Gateway has not, and hosts.
    stage.create_route_at(namespace, "gone", &["c.same.example"], &json!([to("web")]), &json!({"sectionName": "gone"}));
    assert_eq!(stage.wait_condition(namespace, "gone", "Accepted", "False")["reason"], "NoMatchingParent");
    stage.create_route_at(namespace, "host", &["a.other.example"], &json!([to("web")]), &same);
    assert_eq!(stage.wait_condition(namespace, "host", "Accepted", "False")["reason"], "NoMatchingListenerHostname");
    // What is served, and what is not and why.
    stage.wait_said(&format!("{API}/gatewayclasses/tidegate"), "/conditions", "Accepted", "True");
    let accepted = stage.wait_said(&stage.gateway_path(), "/conditions", "Accepted", "True");
    assert_eq!((&accepted["reason"], &accepted["observedGeneration"]), (&json!("ListenersNotValid"), &json!(2)));
    stage.wait_said(&stage.gateway_path(), "/conditions", "Programmed", "True");
    stage.wait_listener(0, "Programmed", "True");
    let closed = stage.wait_listener(2, "Accepted", "False");
    assert!(
        closed["reason"] == "PortUnavailable" && closed["message"].as_str().unwrap().contains(&port.to_string()),
        "{closed}"
    );
    // A listener has a route whether it is served or not.
    wait_until(SOON, "the routes of each listener", || {
        let status = client.get(&stage.gateway_path())["status"].clone();
        let attached = |place: usize| status["listeners"][place]["attachedRoutes"].clone();
        [attached(0), attached(1), attached(2)] == [json!(1), json!(1), json!(1)]
            && status["addresses"] == json!([{"type": "IPAddress", "value": "127.0.0.1"}])
    });
    // Without the label, it is shut out again.
    client.patch(&namespace_path(&other), &json!({"metadata": {"labels": {"may": null}}}));
    wait_answer(&gateway, "x.some.example", "/", 404, "");
    // What it asks of clients' certificates is not done here: nothing of it is served, rather than to whoever comes.
    let validation = json!({"caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": "ca"}]});
    let tls = json!({"frontend": {"default": {"validation": validation}}});
    client.patch(&stage.gateway_path(), &json!({"spec": {"tls": tls}}));
    let refused = stage.wait_said(&stage.gateway_path(), "/conditions", "Accepted", "False");
    assert_eq!(refused["reason"], "UnsupportedValue", "{refused}");
    wait_answer(&gateway, "a.same.example", "/", 404, "");
    client.patch(&stage.gateway_path(), &json!({"spec": {"tls": null}}));
    wait_answer(&gateway, "a.same.example", "/", 200, "web");
    assert_statuses_taken(&gateway);
    // A Gateway of another's class is nobody's business here, and what it let in is gone.
    client.create(&json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": {"name": namespace},
        "spec": {"controllerName": "other.example/gateway"},
    }));
    client.patch(&stage.gateway_path(), &json!({"spec": {"gatewayClassName": namespace}}));
    wait_answer(&gateway, "a.same.example", "/", 404, "");
    let said = || gateway.debug()["gateway"]["kubernetes"]["objects"].as_array().unwrap().clone();
    let of = said().into_iter().find(|it| it["kind"] == "Gateway").unwrap();
    assert!(of["reason"].as_str().unwrap().contains("another controller's"), "{of}");
}

/// curl by TLS for a host, as this authority's certificates are trusted.
fn by_tls(address: SocketAddr, host: &str, authority: &Authority) -> Answer {
    let (url, resolve) =
        (format!("https://{host}:{}/", address.port()), format!("{host}:{}:127.0.0.1", address.port()));
    curl(&["--cacert", authority.path().to_str().unwrap(), "--resolve", &resolve, &url])
}

#[test]
fn certificates_of_secrets_are_shown_by_name_and_renewed_while_connections_go_on() {
    let stage = Stage::new(38);
    let (authority, client, namespace) = (Authority::new(), stage.cluster.client(), &stage.namespace);
    let secure = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let issue = |name: &str, host: &str| authority.issue_for(name, &[host]);
    let listener = |name: &str, host: &str| {
        let mut it = open(name, secure.port());
        (it["protocol"], it["hostname"]) = (json!("HTTPS"), json!(host));
        it["tls"] = json!({"certificateRefs": [{"name": name}]});
        it
    };
    let listeners = json!([
        open("http", stage.address.port()),
        listener("good", "*.good.example"),
        listener("late", "late.example")
    ]);
    client.patch(&stage.gateway_path(), &json!({"spec": {"listeners": listeners}}));
    client.create(&secret(namespace, "good", &issue("first", "*.good.example")));
    client.create(&secret(namespace, "in", &issue("ingress", "in.example")));
    client.create(&ingress(namespace, "in.example", "in"));
    let gateway = stage
        .gateway_as(&[], &stage.cluster.kubeconfig())
        .section(&format!("[[gateway.listener]]\nlisten = \"{secure}\"\ntls = {{}}"))
        .start();
    stage.create_route(namespace, "all", &["a.good.example", "late.example"], &json!([to("web")]));
    wait_until(SOON, "the certificate of the Gateway", || shown_at(secure, "a.good.example").contains("first"));
    wait_until(SOON, "an answer by TLS", || by_tls(secure, "a.good.example", &authority).status == 200);
    assert!(shown_at(secure, "in.example").contains("ingress"));
    assert_eq!(by_tls(secure, "in.example", &authority).instance(), "web");
    assert_eq!(shown_at(secure, "other.example"), "", "nobody has that name");
    // A route of one listener is at no other.
    stage.create_route_at(namespace, "one", &["b.good.example"], &json!([to("api")]), &json!({"sectionName": "good"}));
    wait_until(SOON, "an answer by TLS", || by_tls(secure, "b.good.example", &authority).instance() == "api");
    gateway.curl_host("b.good.example", "/", &[]).assert_refused(404, "no_route");
    // The one without a Secret says so, and is served without TLS all the same.
    assert_eq!(stage.wait_listener(2, "ResolvedRefs", "False")["reason"], "InvalidCertificateRef");
    stage.wait_listener(2, "Programmed", "False");
    stage.wait_listener(1, "Programmed", "True");
    wait_answer(&gateway, "late.example", "/", 200, "web");
    assert_eq!(by_tls(secure, "late.example", &authority).status, 0);
    client.create(&secret(namespace, "late", &issue("late", "late.example")));
    stage.wait_listener(2, "Programmed", "True");
    wait_until(SOON, "an answer by TLS", || by_tls(secure, "late.example", &authority).status == 200);
    // Another certificate, while a request is under way by the one before.
    let (url, resolve) = (
        format!("https://a.good.example:{}/delay/2000", secure.port()),
        format!("a.good.example:{}:127.0.0.1", secure.port()),
    );
    let ca = authority.path().to_str().unwrap().to_owned();
    let slow = std::thread::spawn(move || curl(&["--cacert", &ca, "--resolve", &resolve, &url]));
    wait_until(SOON, "the request is under way", || stage.backends[0].statistics()["in_flight"] == 1);
    let secret_path = |name: &str| format!("/api/v1/namespaces/{namespace}/secrets/{name}");
    let renew = |name: &str, data: &Value| drop(client.patch(&secret_path(name), &json!({"data": data})));
    renew("good", &secret(namespace, "good", &issue("second", "*.good.example"))["data"]);
    wait_until(SOON, "the new certificate", || shown_at(secure, "a.good.example").contains("second"));
    assert_eq!(slow.join().unwrap().status, 200);
    // One that breaks takes nothing else with it, and the Ingress says so.
    let ingress = || client.get(&format!("/apis/networking.k8s.io/v1/namespaces/{namespace}/ingresses/in"));
    let reached = || ingress()["status"]["loadBalancer"]["ingress"].clone();
    wait_until(SOON, "where the Ingress is reached", || reached() == json!([{"ip": "127.0.0.1"}]));
    renew("in", &json!({"tls.crt": BASE64_STANDARD.encode("none")}));
    wait_until(SOON, "what is wrong with its certificate", || {
        reached()[0]["ports"][0]["error"] == "tidegate.dev/InvalidCertificateRef"
    });
    assert_eq!(shown_at(secure, "in.example"), "");
    wait_answer(&gateway, "in.example", "/", 200, "web");
    assert!(shown_at(secure, "a.good.example").contains("second"));
    renew("in", &secret(namespace, "in", &issue("mended", "in.example"))["data"]);
    wait_until(SOON, "the mended certificate", || shown_at(secure, "in.example").contains("mended"));
    assert_statuses_taken(&gateway);
}

#[test]
fn a_listener_whose_certificates_a_cluster_is_to_bring_serves_nobody_by_tls_before_there_are_any() {
    let stage = Stage::new(39);
    let secure = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let gateway = stage
        .gateway_as(&[], &stage.cluster.kubeconfig())
        .section(&format!("[[gateway.listener]]\nlisten = \"{secure}\"\ntls = {{}}"))
        .start();
    // Nobody has brought one: nobody is served by TLS, and the rest is.
    assert_eq!(shown_at(secure, "a.example"), "");
    wait_answer(&gateway, "file.example", "/", 200, "web");
}
