//! What Eureka's clients read. The JVM's own is proved elsewhere; here its arithmetic is done again.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::bed::{http, wait_until};
use crate::kube::Cluster;
use crate::kube::objects::{slice, slice_path};
use crate::support::{SOON, Setup};

/// The hash code as the client computes it of what it has.
fn hash_code(applications: &Value) -> String {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let apps = applications["application"].as_array().unwrap();
    for instance in apps.iter().flat_map(|app| app["instance"].as_array().unwrap()) {
        *counts.entry(instance["status"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    counts.iter().map(|(status, count)| format!("{status}_{count}_")).collect()
}

#[test]
fn clients_of_eureka_read_applications_and_register_nothing() {
    let cluster = Cluster::shared(0);
    let namespace = cluster.namespace("eureka");
    let ports = json!([{"name": "http", "port": 8080}, {"name": "grpc", "port": 9090}]);
    let terminating = json!({"ready": false, "serving": true, "terminating": true});
    let endpoints = json!([
        {"addresses": ["10.244.80.1"], "zone": "a"},
        {"addresses": ["10.244.80.2"]},
        {"addresses": ["10.244.80.3"], "conditions": terminating},
    ]);
    cluster.client().create(&slice(&namespace, "s", "checkout", &endpoints, &ports));
    let plane = Setup::new("").cluster("east", cluster, "").start();
    let base = format!("/eureka/namespaces/{namespace}/apps");
    let get = |path: &str, accept: &str| {
        let header = format!("Accept: {accept}\r\n");
        http::get_with(plane.address, &format!("{base}{path}"), &header).unwrap()
    };
    let whole = || {
        let answer = get("/", "application/json, application/*+json");
        assert_eq!(answer.status, 200, "{}", answer.text());
        serde_json::from_slice::<Value>(&answer.body).unwrap()["applications"].clone()
    };
    let all = whole();
    let names: Vec<_> = all["application"].as_array().unwrap().iter().map(|it| it["name"].clone()).collect();
    assert_eq!(names, ["CHECKOUT", "CHECKOUT-GRPC"]);
    assert_eq!(
        (all["apps__hashcode"].as_str(), all["versions__delta"].as_str()),
        (Some("OUT_OF_SERVICE_2_UP_4_"), Some("1"))
    );
    assert_eq!(all["apps__hashcode"], hash_code(&all));
    let instance = &all["application"][0]["instance"][0];
    assert_eq!((&instance["ipAddr"], &instance["port"]["$"]), (&"10.244.80.1".into(), &8080.into()));
    assert_eq!((&instance["metadata"]["zone"], &instance["vipAddress"]), (&"a".into(), &"checkout".into()));

    let xml = get("", "application/xml").text();
    assert!(xml.starts_with("<applications><versions__delta>1</versions__delta>"), "{xml}");
    assert!(xml.contains("<apps__hashcode>OUT_OF_SERVICE_2_UP_4_</apps__hashcode>"), "{xml}");
    assert_eq!(get("", "*/*").header("content-type"), Some("application/xml"));
    let app: Value = serde_json::from_slice(&get("/checkout", "application/json").body).unwrap();
    assert_eq!(app["application"]["instance"].as_array().unwrap().len(), 3);
    let id = app["application"]["instance"][1]["instanceId"].as_str().unwrap();
    let one: Value = serde_json::from_slice(&get(&format!("/CHECKOUT/{id}"), "application/json").body).unwrap();
    assert_eq!(one["instance"]["ipAddr"], "10.244.80.2");
    assert_eq!((get("/NONE", "application/json").status, get("/CHECKOUT/none", "application/json").status), (404, 404));

    // A client takes that for "fetch everything"; a delta can be told only by who has been asked for a while.
    assert_eq!(get("/delta", "application/json").status, 404);
    for (method, path) in
        [("POST", "/CHECKOUT"), ("PUT", "/CHECKOUT/x"), ("DELETE", "/CHECKOUT/x"), ("PUT", "/A/x/status")]
    {
        let refused = http::request(plane.address, method, &format!("{base}{path}"), "", "{}").unwrap();
        assert_eq!((refused.status, refused.header("allow")), (405, Some("GET")), "{method} {path}");
        assert!(refused.text().contains("read-only"), "{}", refused.text());
    }
    cluster.client().patch(&slice_path(&namespace, "s"), &json!({"endpoints": [{"addresses": ["10.244.80.9"]}]}));
    wait_until(SOON, "the change", || whole()["apps__hashcode"] == "UP_2_");
}

#[test]
fn two_services_of_one_name_are_refused_with_the_remedy_and_joined_by_it() {
    let cluster = Cluster::shared(0);
    let spaces = [cluster.namespace("one"), cluster.namespace("other")];
    let ports = json!([{"name": "http", "port": 8080}]);
    for (namespace, address) in spaces.iter().zip(["10.244.81.1", "10.244.81.2"]) {
        let endpoints = json!([{"addresses": [address]}]);
        cluster.client().create(&slice(namespace, "s", "collides", &endpoints, &ports));
    }
    let namespaces = format!("namespaces = {spaces:?}");
    let plane = Setup::new("").cluster("east", cluster, &namespaces).start();
    let refused = plane.get("/eureka/v2/apps");
    assert_eq!(refused.status, 409);
    for named in [&spaces[0], &spaces[1], "COLLIDES", "the pool collides"] {
        assert!(refused.text().contains(named), "{}", refused.text());
    }
    drop(plane);
    let members: Vec<_> = spaces
        .iter()
        .map(|namespace| format!("{{ pool = \"east/{namespace}/collides/http\", share = 50, priority = 0 }}"))
        .collect();
    let joined = format!("[[discovery.pool]]\nid = \"collides\"\nmembers = [{}]\n", members.join(", "));
    let plane = Setup::new("").cluster("east", cluster, &namespaces).sections(&joined).start();
    let answer = http::get_with(plane.address, "/eureka/apps", "Accept: application/json\r\n").unwrap();
    let all: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(all["applications"]["apps__hashcode"], "UP_2_", "{}", answer.text());
}
