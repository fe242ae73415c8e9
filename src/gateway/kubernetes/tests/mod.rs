//! From objects to routes, verdicts and status.

mod parents;

use serde_json::{Value, json};

use super::grant;
use super::object::{Gateway, GatewayClass, HttpRoute, Ingress, IngressClass, Object, Port};
use super::settle::{Known, Rules, Settled, Verdict, settle};
use super::status::{CONTROLLER, patches};
use crate::gateway::config::{Action, RouteConfig, Target, ValuePattern};

/// Listens on 8080, and on 8443 by TLS.
fn rules() -> Rules {
    Rules {
        cluster: "east".into(),
        gateways: vec![("infra".to_owned(), "edge".to_owned())],
        ingress_class: Some("tidegate".to_owned()),
        listeners: vec![(8080, false), (8443, true)],
        addresses: vec!["192.0.2.1".to_owned()],
    }
}

/// A Gateway `infra/edge` of our class, with these listeners; and our IngressClass.
fn set_gateway(known: &mut Known, listeners: Value) {
    let class = Object::<GatewayClass>::for_tests("", "tidegate", 0, json!({"controllerName": CONTROLLER}));
    known.classes.insert(class.key(), class);
    let class = Object::<IngressClass>::for_tests("", "tidegate", 0, json!({"controller": CONTROLLER}));
    known.ingress_classes.insert(class.key(), class);
    let spec = json!({"gatewayClassName": "tidegate", "listeners": listeners});
    let gateway = Object::<Gateway>::for_tests("infra", "edge", 0, spec);
    known.gateways.insert(gateway.key(), gateway);
}

/// A listener for everybody's routes.
fn open(name: &str, port: u16) -> Value {
    json!({"name": name, "port": port, "protocol": "HTTP", "allowedRoutes": {"namespaces": {"from": "All"}}})
}

/// A cluster with the Service `web` (80 `http`) in two namespaces, and a Gateway for both.
fn known() -> Known {
    let mut known = Known::default();
    set_gateway(&mut known, json!([open("http", 8080)]));
    for namespace in ["shop", "blog"] {
        let port = Port { number: 80, name: "http".to_owned(), last: Ok("http".to_owned()) };
        known.services.insert((namespace.to_owned(), "web".to_owned()), vec![port]);
    }
    known
}

fn backend(weight: u32) -> Value {
    json!({"group": "", "kind": "Service", "name": "web", "port": 80, "weight": weight})
}

fn add(known: &mut Known, namespace: &str, name: &str, since: i64, hosts: &[&str], rules: Value) {
    let parent =
        json!([{"group": "gateway.networking.k8s.io", "kind": "Gateway", "namespace": "infra", "name": "edge"}]);
    let spec = json!({"parentRefs": parent, "hostnames": hosts, "rules": rules});
    let object = Object::<HttpRoute>::for_tests(namespace, name, since, spec);
    known.routes.insert(object.key(), object);
}

/// Settled with one HTTPRoute of one rule.
fn of_rule(rule: Value) -> Settled {
    let mut known = known();
    add(&mut known, "shop", "it", 1, &["a.example"], json!([rule]));
    settle(&known, &rules())
}

fn only(settled: &Settled) -> &RouteConfig {
    let [route] = settled.routes.as_slice() else { panic!("{settled:?}") };
    route
}

fn refusal(verdict: &Verdict) -> String {
    let refused = verdict.refused.as_ref().unwrap_or_else(|| panic!("not refused: {verdict:?}"));
    format!("{}: {}", refused.reason, refused.message)
}

fn shown(settled: &Settled) -> Vec<String> {
    settled.routes.iter().map(|it| format!("{} {} {}", it.matches.host, it.matches.path, it.name)).collect()
}

#[test]
fn a_rule_is_taken_with_all_that_it_says() {
    let settled = of_rule(json!({
        "matches": [{
            "path": {"type": "PathPrefix", "value": "/api/"}, "method": "POST",
            "headers": [{"type": "Exact", "name": "X-Version", "value": "2"}],
            "queryParams": [{"type": "RegularExpression", "name": "q", "value": "[0-9]+"}],
        }],
        "filters": [
            {"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "x-a", "value": "1"}], "remove": ["x-b"]}},
            {"type": "ResponseHeaderModifier", "responseHeaderModifier": {"add": [{"name": "x-c", "value": "2"}]}},
            {"type": "URLRewrite", "urlRewrite": {"hostname": "in.example", "path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/"}}},
            {"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "web", "port": 80}, "percent": 10}},
        ],
        "backendRefs": [backend(3), backend(0)],
        "timeouts": {"request": "10s", "backendRequest": "0s"},
    }));
    let route = only(&settled);
    assert_eq!(shown(&settled), ["a.example /api* httproute/shop/it/0"]);
    assert_eq!((&route.matches.methods[0], route.matches.fields.len()), (&hyper::Method::POST, 2));
    assert!(
        matches!(&route.matches.fields[1].value, ValuePattern::Regex(regex) if !regex.is_match("1x")),
        "the whole of it"
    );
    assert_eq!(
        (route.request_headers.set.len(), route.request_headers.remove.len(), route.response_headers.add.len()),
        (1, 1, 1)
    );
    let Action::Forward(forward) = &route.action else { panic!("{route:?}") };
    let [target] = forward.targets.as_slice() else { panic!("{forward:?}") };
    assert_eq!((target.pool.as_ref().unwrap().as_str(), target.share), ("east/shop/web/http", 3));
    assert_eq!(route.matches.ports, [8080], "the listener's port alone");
    assert_eq!(forward.mirror.as_ref().map(|mirror| mirror.per_mille), Some(100));
    assert_eq!((forward.timeouts.request.map(|it| it.as_secs()), forward.timeouts.per_try), (Some(10), None));
    assert!(forward.rewrite.is_some() && forward.host.as_ref().is_some_and(|host| host == "in.example"));
    assert_eq!(settled.verdicts[0].refused, None);
}

#[test]
fn a_redirect_and_a_rule_without_a_backend_answer_themselves() {
    let redirect = json!({"type": "RequestRedirect", "requestRedirect": {"scheme": "https", "hostname": "b.example", "port": 8443, "statusCode": 301}});
    let settled = of_rule(json!({"filters": [redirect]}));
    let Action::Redirect(redirect) = &only(&settled).action else { panic!("{settled:?}") };
    assert_eq!((redirect.status.as_u16(), redirect.host.as_deref()), (301, Some("b.example:8443")));
    let settled = of_rule(json!({"backendRefs": [backend(0)]}));
    assert!(matches!(&only(&settled).action, Action::Respond(respond) if respond.status == 500));
}

#[test]
fn what_cannot_be_done_refuses_the_whole_of_an_object_with_the_reason() {
    let path = |kind: &str| json!({"matches": [{"path": {"type": kind, "value": "("}}], "backendRefs": [backend(1)]});
    let filter = |filter: Value| json!({"filters": [filter], "backendRefs": [backend(1)]});
    for (rule, wanted) in [
        (json!({"backendRefs": [backend(1)], "sessionPersistence": {}}), "unknown field `sessionPersistence`"),
        (json!({"backendRefs": [backend(1)], "retry": {"attempts": 1}}), "unknown field `retry`"),
        (path("RegularExpression"), "no regular expression"),
        (path("Glob"), "\"Glob\""),
        (
            filter(json!({"type": "ExtensionRef", "extensionRef": {"group": "x", "kind": "y", "name": "z"}})),
            "extensionRef",
        ),
        (filter(json!({"type": "CORS"})), "\"CORS\""),
        (filter(json!({"type": "RequestRedirect", "requestRedirect": {"port": 81}})), "beside backendRefs"),
        (json!({"filters": [{"type": "RequestRedirect", "requestRedirect": {"port": 81}}]}), "port without hostname"),
        (
            filter(
                json!({"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "te", "value": "x"}]}}),
            ),
            "belongs to the connection",
        ),
        (
            json!({"backendRefs": [{"name": "web", "port": 80, "filters": [{"type": "URLRewrite", "urlRewrite": {}}]}]}),
            "at a backend",
        ),
        (json!({"backendRefs": [{"name": "web"}]}), "give its port"),
        (json!({"backendRefs": [backend(1)], "timeouts": {"request": "1d"}}), "\"1d\""),
    ] {
        // A rule that is good stands before it: half of an object is nothing.
        let mut known = known();
        add(&mut known, "shop", "it", 1, &["a.example"], json!([{"backendRefs": [backend(1)]}, rule]));
        let settled = settle(&known, &rules());
        let said = refusal(&settled.verdicts[0]);
        assert!(settled.routes.is_empty() && said.contains(wanted), "{rule}: {said}");
    }
}

#[test]
fn a_backend_that_is_not_there_or_may_not_be_named_keeps_its_share_and_is_told() {
    let of = |backends: Value| {
        let settled = of_rule(json!({"backendRefs": backends}));
        let Action::Forward(forward) = &only(&settled).action else { panic!("{settled:?}") };
        let target = |target: &Target| (target.pool.as_ref().map(|pool| pool.to_string()), target.share);
        let verdict = &settled.verdicts[0];
        assert_eq!(verdict.refused, None, "the rest of it holds");
        let [unresolved] = verdict.unresolved.as_slice() else { panic!("{verdict:?}") };
        (forward.targets.iter().map(target).collect::<Vec<_>>(), unresolved.reason)
    };
    let good = (Some("east/shop/web/http".to_owned()), 3);
    for (bad, reason) in [
        (json!({"name": "gone", "port": 80, "weight": 2}), "BackendNotFound"),
        (json!({"name": "web", "port": 81, "weight": 2}), "BackendNotFound"),
        (json!({"name": "web", "port": 80, "namespace": "blog", "weight": 2}), "RefNotPermitted"),
        (json!({"name": "web", "kind": "Bucket", "group": "x.example", "weight": 2}), "InvalidKind"),
    ] {
        assert_eq!(of(json!([bad, backend(3)])), (vec![(None, 2), good.clone()], reason), "{bad}");
    }
}

#[test]
fn a_backend_of_another_namespace_is_taken_where_a_grant_there_says_so_and_edits_are_its_own() {
    let mut known = known();
    let edits =
        json!([{"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "x-a", "value": "1"}]}}]);
    let foreign = json!({"name": "web", "port": 80, "namespace": "blog", "filters": edits});
    add(&mut known, "shop", "it", 1, &["a.example"], json!([{"backendRefs": [foreign, backend(1)]}]));
    let grant = json!({
        "from": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": "shop"}],
        "to": [{"group": "", "kind": "Service"}],
    });
    let grant = Object::for_tests("blog", "it", 0, grant);
    known.grants.insert(grant.key(), grant::read(grant));
    let settled = settle(&known, &rules());
    assert_eq!(settled.verdicts[0].unresolved, []);
    let Action::Forward(forward) = &only(&settled).action else { panic!("{settled:?}") };
    let target = |target: &Target| (target.pool.as_ref().unwrap().to_string(), target.request_headers.set.len());
    assert_eq!(
        forward.targets.iter().map(target).collect::<Vec<_>>(),
        [("east/blog/web/http".to_owned(), 1), ("east/shop/web/http".to_owned(), 0)]
    );
}

#[test]
fn a_host_belongs_to_the_namespace_that_took_it_first_and_the_file_comes_before_all() {
    let rule = || json!([{"backendRefs": [backend(1)]}]);
    let mut known = known();
    add(&mut known, "shop", "old", 5, &["a.example", "file.example"], rule());
    add(
        &mut known,
        "shop",
        "late",
        9,
        &["a.example"],
        json!([{"matches": [{"path": {"type": "Exact", "value": "/x"}}], "backendRefs": [backend(1)]}]),
    );
    add(&mut known, "blog", "thief", 7, &["a.example", "b.example"], rule());
    add(&mut known, "blog", "refused", 8, &["a.example"], rule());
    let ingress = json!({"ingressClassName": "tidegate", "rules": [{"host": "b.example", "http": {"paths": [
        {"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "web", "port": {"number": 80}}}}]}}]});
    let ingress = Object::<Ingress>::for_tests("shop", "in", 8, ingress);
    known.ingresses.insert(ingress.key(), ingress);
    known.operators.insert("file.example".to_owned());
    let settled = settle(&known, &rules());
    // The more specific path is asked first, whatever object it stands in.
    assert_eq!(
        shown(&settled),
        [
            "a.example /x httproute/shop/late/0",
            "a.example /* httproute/shop/old/0",
            "b.example /* httproute/blog/thief/0"
        ]
    );
    let verdict = |name: &str| settled.verdicts.iter().find(|it| it.key.1 == name).unwrap();
    assert_eq!(verdict("old").taken, ["file.example belongs to the operator"]);
    assert_eq!((verdict("thief").result(), verdict("thief").refused.is_none()), ("host_taken", true));
    assert_eq!(refusal(verdict("refused")), "HostTaken: a.example belongs to namespace shop");
    assert_eq!(refusal(verdict("in")), "HostTaken: b.example belongs to namespace blog");
    // Of the same second, the first by namespace and name.
    let mut known = self::known();
    add(&mut known, "shop", "a", 5, &["a.example"], rule());
    add(&mut known, "blog", "z", 5, &["a.example"], rule());
    assert_eq!(shown(&settle(&known, &rules())), ["a.example /* httproute/blog/z/0"]);
}

#[test]
fn routes_of_other_gateways_and_classes_are_nobodys_business() {
    let mut known = known();
    let spec =
        json!({"parentRefs": [{"name": "edge"}, {"name": "other", "namespace": "infra"}], "rules": [{"nonsense": 1}]});
    let object = Object::<HttpRoute>::for_tests("shop", "it", 1, spec);
    known.routes.insert(object.key(), object);
    let ingress = Object::<Ingress>::for_tests("shop", "in", 8, json!({"ingressClassName": "nginx"}));
    known.ingresses.insert(ingress.key(), ingress);
    let settled = settle(&known, &rules());
    let told: Vec<_> = settled.verdicts.iter().map(|it| it.kind).collect();
    assert!(settled.routes.is_empty() && told == ["IngressClass", "Gateway"], "{settled:?}");
}

#[test]
fn the_status_is_written_once_and_leaves_other_controllers_alone() {
    let mut known = known();
    add(&mut known, "shop", "it", 1, &["a.example"], json!([{"backendRefs": [{"name": "nowhere", "port": 80}]}]));
    let foreign = json!({"controllerName": "other.example/gateway", "parentRef": {"name": "x"}, "conditions": []});
    let key = ("shop".to_owned(), "it".to_owned());
    known.routes.get_mut(&key).unwrap().status = json!({"parents": [foreign.clone()]});
    let write = |known: &Known, second: i64| {
        let now = jiff::Timestamp::from_second(second).unwrap();
        let all = patches(known, &rules(), &settle(known, &rules()), now);
        all.into_iter().filter(|patch| patch.name == "HTTPRoute shop/it").collect::<Vec<_>>()
    };
    let wanted = write(&known, 100);
    let [patch] = wanted.as_slice() else { panic!("{wanted:?}") };
    let parents = patch.body["status"]["parents"].clone();
    assert_eq!((&parents[0], &parents[1]["controllerName"]), (&foreign, &json!(CONTROLLER)));
    let condition = |parents: &Value, kind: &str| {
        let all = parents[1]["conditions"].as_array().unwrap().clone();
        all.into_iter().find(|it| it["type"] == kind).unwrap_or_else(|| panic!("no {kind}"))
    };
    assert_eq!(condition(&parents, "Accepted")["status"], "True");
    let resolved = condition(&parents, "ResolvedRefs");
    assert_eq!((&resolved["status"], &resolved["reason"]), (&json!("False"), &json!("BackendNotFound")));
    known.routes.get_mut(&key).unwrap().status = json!({"parents": parents});
    assert_eq!(write(&known, 200), [], "what stands there is not written again");
    // A change writes it anew, and what did not change keeps its time.
    let port = Port { number: 80, name: String::new(), last: Ok("8080".to_owned()) };
    known.services.insert(("shop".to_owned(), "nowhere".to_owned()), vec![port]);
    let parents = write(&known, 300)[0].body["status"]["parents"].clone();
    assert_eq!(condition(&parents, "Accepted")["lastTransitionTime"], "1970-01-01T00:01:40Z");
    assert_eq!(condition(&parents, "ResolvedRefs")["lastTransitionTime"], "1970-01-01T00:05:00Z");
    // A route that is no longer ours has no entry of ours.
    known.routes.get_mut(&key).unwrap().status = json!({"parents": parents});
    known.routes.get_mut(&key).unwrap().spec["parentRefs"] = json!([{"name": "x"}]);
    assert_eq!(write(&known, 400)[0].body["status"]["parents"], json!([foreign]));
}

#[test]
fn a_status_has_no_more_than_the_api_server_takes() {
    let mut known = known();
    // 256 backends that are not there, each with a name as long as may be.
    let backends: Vec<Value> =
        (0..256).map(|it| json!({"name": format!("{it:03}{}", "é".repeat(250)), "port": 80})).collect();
    let rules_of_it: Vec<Value> = backends.chunks(16).map(|some| json!({"backendRefs": some})).collect();
    add(&mut known, "shop", "it", 1, &["a.example"], Value::Array(rules_of_it));
    let key = ("shop".to_owned(), "it".to_owned());
    let foreign = |number: usize| json!({"controllerName": "other.example/gateway", "parentRef": {"name": number}});
    let set = |known: &mut Known, others: usize| {
        known.routes.get_mut(&key).unwrap().status = json!({"parents": (0..others).map(foreign).collect::<Vec<_>>()});
    };
    let written = |known: &Known| {
        let all = patches(known, &rules(), &settle(known, &rules()), jiff::Timestamp::UNIX_EPOCH);
        all.into_iter().find(|patch| patch.name == "HTTPRoute shop/it").map(|patch| patch.body["status"].clone())
    };
    set(&mut known, 31);
    let status = written(&known).unwrap();
    assert_eq!(status["parents"].as_array().unwrap().len(), 32);
    let message = status["parents"][31]["conditions"][1]["message"].as_str().unwrap();
    assert_eq!(message.chars().count(), 32_768);
    set(&mut known, 32);
    assert_eq!(written(&known), None, "there is no room for another");
}
