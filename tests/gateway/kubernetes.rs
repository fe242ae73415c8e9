//! HTTPRoutes and Ingresses of a real API server as routes: what they say holds, who has a host, what is told of it, and no
//! connection is dropped by a change.

use std::net::TcpStream;

use serde_json::json;

use crate::backend::{Backend, Load};
use crate::bed::{WorkDir, free_port, unique, wait_until};
use crate::stage::{Stage, assert_statuses_taken, to, wait_answer};
use crate::support::{SOON, Setup};

#[test]
fn an_http_route_is_a_route_with_its_matches_filters_and_backends_and_its_status_says_so() {
    let stage = Stage::new(31);
    let gateway = stage.gateway(&[]);
    let namespace = &stage.namespace;
    let mut api = to("api");
    api["matches"] =
        json!([{"path": {"type": "PathPrefix", "value": "/api"}, "headers": [{"name": "x-kind", "value": "beta"}]}]);
    api["filters"] = json!([
        {"type": "URLRewrite", "urlRewrite": {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/v2"}}},
        {"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "x-set", "value": "ours"}]}},
        {"type": "ResponseHeaderModifier", "responseHeaderModifier": {"add": [{"name": "x-added", "value": "yes"}]}},
    ]);
    api["timeouts"] = json!({"request": "10s"});
    let moved = json!({
        "matches": [{"path": {"type": "Exact", "value": "/old"}}],
        "filters": [{"type": "RequestRedirect", "requestRedirect": {"scheme": "https", "statusCode": 301}}],
    });
    stage.create_route(namespace, "shop", &["shop.example"], &json!([to("web"), api, moved]));
    wait_answer(&gateway, "shop.example", "/", 200, "web");
    let answer = gateway.curl_host("shop.example", "/api/x?q=1", &["-H", "X-Kind: beta"]);
    assert_eq!((answer.instance(), answer.field("x-added")), ("api", Some("yes")));
    assert_eq!((answer.echo().text("target"), answer.echo().header("x-set")), ("/v2/x?q=1", vec!["ours".to_owned()]));
    assert_eq!(gateway.curl_host("shop.example", "/api/x", &[]).instance(), "web", "another header");
    let moved = gateway.curl_host("shop.example", "/old", &[]);
    assert_eq!((moved.status, moved.field("location")), (301, Some("https://shop.example/old")));
    gateway.curl_host("other.example", "/", &[]).assert_refused(404, "no_route");
    let accepted = stage.wait_condition(namespace, "shop", "Accepted", "True");
    assert_eq!(accepted["observedGeneration"], 1);
    stage.wait_condition(namespace, "shop", "ResolvedRefs", "True");
    // Another instance that goes by the same finds nothing to write.
    let version =
        || stage.cluster.client().get(&Stage::route_path(namespace, "shop"))["metadata"]["resourceVersion"].clone();
    let before = version();
    let second = stage.gateway(&[]);
    wait_answer(&second, "shop.example", "/", 200, "web");
    assert_eq!(version(), before);
    drop(second);
    // Shares, and one that is not there.
    let split =
        json!([{"backendRefs": [{"name": "web", "port": 80, "weight": 1}, {"name": "api", "port": 80, "weight": 3}]}]);
    stage.create_route(namespace, "split", &["split.example"], &split);
    wait_answer(&gateway, "split.example", "/", 200, "api");
    let answers: Vec<String> =
        (0..100).map(|_| gateway.curl_host("split.example", "/", &[]).instance().to_owned()).collect();
    let of_web = answers.iter().filter(|it| *it == "web").count();
    // 25 of 100; five standard deviations are 22.
    assert!((3..=47).contains(&of_web), "{of_web}");
    stage.create_route(namespace, "nowhere", &["nowhere.example"], &json!([to("nobody")]));
    assert_eq!(stage.wait_condition(namespace, "nowhere", "ResolvedRefs", "False")["reason"], "BackendNotFound");
    gateway.curl_host("nowhere.example", "/", &[]).assert_refused(500, "no_backend");
    stage.service(namespace, "nobody", &stage.backends[1]);
    wait_answer(&gateway, "nowhere.example", "/", 200, "api");
    stage.wait_condition(namespace, "nowhere", "ResolvedRefs", "True");
    // Gone with its object.
    stage.cluster.client().delete(&Stage::route_path(namespace, "shop"));
    wait_answer(&gateway, "shop.example", "/", 404, "");
}

#[test]
fn what_is_not_supported_and_a_host_of_another_namespace_are_refused_and_told() {
    let stage = Stage::new(32);
    let other = stage.cluster.namespace("others");
    stage.service(&other, "web", &stage.backends[1]);
    let gateway = stage.gateway(&[&other]);
    let namespace = &stage.namespace;
    stage.create_route(namespace, "first", &["taken.example"], &json!([to("web")]));
    wait_answer(&gateway, "taken.example", "/", 200, "web");
    // The API server counts in seconds: the other is to be younger, whatever the namespaces' names.
    let created = |namespace: &str, name: &str| {
        stage.cluster.client().get(&Stage::route_path(namespace, name))["metadata"]["creationTimestamp"].clone()
    };
    let first = created(namespace, "first");
    wait_until(SOON, "a later second", || {
        jiff::Timestamp::now().as_second() > first.as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_second()
    });
    stage.create_route(&other, "thief", &["taken.example", "free.example"], &json!([to("web")]));
    wait_answer(&gateway, "free.example", "/", 200, "api");
    assert_eq!(gateway.curl_host("taken.example", "/", &[]).instance(), "web");
    let told = stage.wait_condition(&other, "thief", "PartiallyInvalid", "True");
    assert!(
        told["message"].as_str().unwrap().contains(&format!("taken.example belongs to namespace {namespace}")),
        "{told}"
    );
    stage.create_route(&other, "operators", &["file.example"], &json!([to("web")]));
    assert_eq!(stage.wait_condition(&other, "operators", "Accepted", "False")["reason"], "HostTaken");
    assert_eq!(gateway.curl_host("file.example", "/", &[]).instance(), "web", "the file's route");
    // One rule that is not understood takes the good one with it.
    let extension = json!({"filters": [{"type": "ExtensionRef", "extensionRef": {"group": "x.example", "kind": "Y", "name": "z"}}], "backendRefs": [{"name": "web", "port": 80}]});
    stage.create_route(namespace, "half", &["half.example"], &json!([to("web"), extension]));
    let refused = stage.wait_condition(namespace, "half", "Accepted", "False");
    assert!(
        refused["reason"] == "UnsupportedValue" && refused["message"].as_str().unwrap().contains("extensionRef"),
        "{refused}"
    );
    gateway.curl_host("half.example", "/", &[]).assert_refused(404, "no_route");
    // An Ingress has no place in its status for this: the report, the metrics and the log have it.
    let ingress = |name: &str, host: &str, class: &str| {
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": name, "namespace": other},
            "spec": {"ingressClassName": class, "rules": [{"host": host, "http": {"paths": [
                {"path": "/x", "pathType": "Prefix", "backend": {"service": {"name": "web", "port": {"name": "http"}}}}]}}]},
        })
    };
    stage.cluster.client().create(&ingress("good", "in.example", "tidegate"));
    stage.cluster.client().create(&ingress("taken", "taken.example", "tidegate"));
    stage.cluster.client().create(&ingress("foreign", "foreign.example", "nginx"));
    wait_answer(&gateway, "in.example", "/x/y", 200, "api");
    assert_eq!(gateway.curl_host("in.example", "/y", &[]).status, 404);
    assert_eq!(gateway.curl_host("foreign.example", "/x", &[]).status, 404);
    let of = |name: &str| {
        let objects = gateway.debug()["gateway"]["kubernetes"]["objects"].as_array().unwrap().clone();
        objects.into_iter().find(|it| it["name"] == name)
    };
    wait_until(SOON, "the report of the Ingress", || of("taken").is_some_and(|it| it["accepted"] == false));
    assert!(of("foreign").is_none());
    assert_eq!(
        gateway.tidegate.metric_with("tidegate_gateway_kubernetes_objects", "kind=\"Ingress\",result=\"host_taken\""),
        1.0
    );
    assert!(gateway.tidegate.log().contains("HostTaken"));
    assert_statuses_taken(&gateway);
    // Who gives a host up makes room for the next.
    stage.cluster.client().delete(&Stage::route_path(namespace, "first"));
    wait_answer(&gateway, "taken.example", "/", 200, "api");
}

#[test]
fn an_ingress_is_of_who_controls_its_class_be_it_named_by_field_by_annotation_or_not_at_all() {
    let mut stage = Stage::new(40);
    stage.ingress_class = "*";
    let gateway = stage.gateway(&[]);
    let client = stage.cluster.client();
    let (ours, theirs) = (unique("ours"), unique("theirs"));
    let class = |name: &str, controller: &str| {
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": name},
            "spec": {"controller": controller},
        })
    };
    let class_path = |name: &str| format!("/apis/networking.k8s.io/v1/ingressclasses/{name}");
    let ingress = |name: &str, field: Option<&str>, annotation: Option<&str>| {
        let annotations = annotation.map_or_else(|| json!({}), |class| json!({"kubernetes.io/ingress.class": class}));
        client.create(&json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "Ingress",
            "metadata": {"name": name, "namespace": stage.namespace, "annotations": annotations},
            "spec": {"ingressClassName": field, "rules": [{"host": format!("{name}.example"), "http": {"paths": [
                {"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "web", "port": {"number": 80}}}}]}}]},
        }));
    };
    client.create(&class(&theirs, "other.example/ingress"));
    ingress("field", Some(&ours), None);
    ingress("old", None, Some(&ours));
    ingress("none", None, None);
    ingress("foreign", Some(&theirs), None);
    ingress("shipped", Some("tidegate"), None);
    wait_answer(&gateway, "shipped.example", "/", 200, "web");
    let statuses = || {
        ["field", "old", "none", "foreign"].map(|name| gateway.curl_host(&format!("{name}.example"), "/", &[]).status)
    };
    assert_eq!(statuses(), [404; 4], "no class of ours");
    client.create(&class(&ours, "tidegate.dev/gateway"));
    wait_answer(&gateway, "field.example", "/", 200, "web");
    assert_eq!(statuses(), [200, 200, 404, 404]);
    let default = json!({"metadata": {"annotations": {"ingressclass.kubernetes.io/is-default-class": "true"}}});
    client.patch(&class_path(&ours), &default);
    wait_answer(&gateway, "none.example", "/", 200, "web");
    // Of two that are marked, the newer one counts: another's, whose name comes first should both be of one second.
    let newer = unique("another");
    let mut marked = class(&newer, "other.example/ingress");
    marked["metadata"]["annotations"] = default["metadata"]["annotations"].clone();
    client.create(&marked);
    wait_answer(&gateway, "none.example", "/", 404, "");
    client.delete(&class_path(&newer));
    wait_answer(&gateway, "none.example", "/", 200, "web");
    assert_eq!(statuses(), [200, 200, 200, 404]);
    client.delete(&class_path(&ours));
    wait_answer(&gateway, "field.example", "/", 404, "");
    assert_eq!(statuses(), [404; 4]);
    assert_eq!(gateway.curl_host("shipped.example", "/", &[]).status, 200);
}

#[test]
fn routes_of_a_cluster_change_under_load_and_drop_no_connection() {
    let stage = Stage::new(33);
    let gateway = stage.gateway(&[]);
    let namespace = &stage.namespace;
    stage.create_route(namespace, "all", &[], &json!([to("web")]));
    wait_answer(&gateway, "any.example", "/", 200, "web");
    let url = gateway.url("");
    let mut load =
        Load::start(&["mix", "-url", &url, "-connections", "40", "-seconds", "60", "-kinds", "get,post,stream,ws"]);
    wait_until(SOON, "load", || stage.backends[0].requests() > 100);
    for turn in 0..6 {
        let (name, backend) = if turn % 2 == 0 { ("api", &stage.backends[1]) } else { ("web", &stage.backends[0]) };
        let before = backend.requests();
        stage.cluster.client().patch(&Stage::route_path(namespace, "all"), &json!({"spec": {"rules": [to(name)]}}));
        wait_until(SOON, "requests at the other", || backend.requests() > before + 20);
    }
    load.stop();
    let outcome = load.result(SOON);
    for (kind, result) in outcome.as_object().unwrap() {
        assert_eq!(result["failed"], 0, "{kind}: {outcome}");
    }
}

#[test]
fn the_rights_of_the_deployment_suffice_and_without_the_one_for_the_status_all_else_goes_on() {
    let stage = Stage::new(34);
    let (namespace, files) = (&stage.namespace, WorkDir::new("rights"));
    let may = stage.kubeconfig_of(&unique("may"), true, &files);
    let may_not = stage.kubeconfig_of(&unique("may-not"), false, &files);
    // Who may not tell is there first, so that what is told is told by the other.
    let silent = stage.gateway_as(&[], &may_not).start();
    stage.create_route(namespace, "shop", &["shop.example"], &json!([to("web")]));
    wait_answer(&silent, "shop.example", "/", 200, "web");
    wait_until(SOON, "the refusal in the log", || silent.tidegate.log().contains("is not written into their status"));
    assert!(stage.cluster.client().get(&Stage::route_path(namespace, "shop"))["status"]["parents"].is_null());
    let secure = free_port();
    let with_tls = format!("[[gateway.listener]]\nlisten = \"127.0.0.1:{secure}\"\ntls = {{}}");
    let telling = stage.gateway_as(&[], &may).section(&with_tls).start();
    stage.wait_condition(namespace, "shop", "Accepted", "True");
    stage.wait_said(&stage.gateway_path(), "/conditions", "Programmed", "True");
    let report = telling.debug()["gateway"]["kubernetes"].clone();
    assert_eq!((&report["awaited"], &report["lost"]), (&json!([]), &json!([])), "it may follow all of it");
    let ingress = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "in", "namespace": namespace},
        "spec": {"ingressClassName": "tidegate", "rules": [{"host": "in.example", "http": {"paths": [
            {"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "web", "port": {"number": 80}}}}]}}]},
    });
    stage.cluster.client().create(&ingress);
    let path = format!("/apis/networking.k8s.io/v1/namespaces/{namespace}/ingresses/in");
    wait_until(SOON, "where the Ingress is reached", || {
        stage.cluster.client().get(&path)["status"]["loadBalancer"]["ingress"] == json!([{"ip": "127.0.0.1"}])
    });
    // To another controller's class, of which nobody says where it is reached.
    stage.cluster.client().patch(&path, &json!({"spec": {"ingressClassName": "nginx"}}));
    wait_until(SOON, "our address taken back", || {
        stage.cluster.client().get(&path)["status"]["loadBalancer"].get("ingress").is_none()
    });
    wait_answer(&telling, "shop.example", "/", 200, "web");
    // It goes on to follow.
    stage.cluster.client().patch(&Stage::route_path(namespace, "shop"), &json!({"spec": {"rules": [to("api")]}}));
    wait_answer(&silent, "shop.example", "/", 200, "api");
}

#[test]
fn a_cluster_that_is_away_holds_clients_up_for_a_bounded_time_alone_and_the_files_routes_hold() {
    let files = WorkDir::new("away");
    let away = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "it",
        "clusters": [{"name": "it", "cluster": {"server": format!("http://127.0.0.1:{}", free_port())}}],
        "users": [{"name": "it", "user": {}}],
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
    });
    let kubeconfig = files.write("kubeconfig", away.to_string());
    let backends = Backend::several(1);
    let gateway = Setup::over(&backends)
        .keys("first_pools_timeout_seconds = 1")
        .route("pool = \"web\"")
        .section(&format!(
            "[gateway.kubernetes]\ncluster = \"east\"\nkubeconfig = {kubeconfig:?}\ningress_class = \"tidegate\""
        ))
        .start_unready();
    wait_until(SOON, "somebody listens", || TcpStream::connect(gateway.address).is_ok());
    assert_eq!(gateway.curl("/", &[]).status, 200);
    assert_eq!(gateway.tidegate.get("/readyz/gateway").status, 503);
    let report = gateway.debug()["gateway"]["kubernetes"].clone();
    assert_eq!(report["awaited"], json!(["IngressClasses", "Ingresses", "Services"]));
    wait_until(SOON, "why, in the report", || {
        gateway.debug()["gateway"]["kubernetes"]["lost"].as_array().is_some_and(|lost| lost.len() == 3)
    });
}
