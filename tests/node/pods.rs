//! Records that say which pod sent them, sent from pods' own addresses, with the pods as the API server tells of them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::bed::{Consumed, Kafka, Reply, RespClient, Tidegate, consume, unique, wait_for, wait_until};
use crate::kube::Cluster;
use crate::kube::objects::deployment;
use crate::support::index::Index;
use crate::support::{Setup, consume_exactly};

/// Generous: other suites may have the processors.
const SOON: Duration = Duration::from_secs(60);

/// A Tidegate on the cluster's node, with a route for each of these keys to the topic of its name, enriched like this.
fn start(cluster: &Cluster, routes: &[(&str, &str)]) -> Tidegate {
    let setup = Setup::shared().log("max_connections = 1000");
    let setup = routes.iter().fold(setup, |setup, (key, form)| {
        setup.topic(key, 1, &format!("enrich = {{ as = \"{form}\", pod = true }}\nhold_ms = 20000"))
    });
    let pods = format!("[log.pods]\nkubeconfig = {:?}\nnode = \"node-1\"\nwait_ms = 5000\n", cluster.kubeconfig());
    Tidegate::start(&(setup.text() + &pods))
}

fn pod(namespace: &str, name: &str, labels: &Value, annotations: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "namespace": namespace, "labels": labels, "annotations": annotations },
        "spec": { "terminationGracePeriodSeconds": 0, "containers": [{ "name": "it", "image": "it:1" }] },
    })
}

fn path(namespace: &str, name: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/pods/{name}")
}

/// The names and addresses of the pods that run for a second: a start is known to the second, within which an address is
/// nobody's.
fn running(cluster: &Cluster, namespace: &str) -> BTreeMap<String, IpAddr> {
    let list = cluster.client().get(&format!("/api/v1/namespaces/{namespace}/pods"));
    let items = list["items"].as_array().cloned().unwrap_or_default();
    let named = items.iter().filter(|pod| pod["status"]["phase"] == "Running").filter_map(|pod| {
        let address = pod["status"]["podIP"].as_str()?.parse().ok()?;
        let started: SystemTime = pod["status"]["startTime"].as_str()?.parse::<jiff::Timestamp>().ok()?.into();
        SystemTime::now().duration_since(started).ok().filter(|age| *age >= Duration::from_secs(1))?;
        Some((pod["metadata"]["name"].as_str()?.to_owned(), address))
    });
    named.collect()
}

fn push(client: &mut RespClient, key: &str, value: &str) {
    assert_eq!(client.command(["LPUSH", key, value]), Reply::Integer(1), "{value}");
}

fn consumed(topic: &str, count: usize) -> Vec<Consumed> {
    consume_exactly(&Kafka::shared().bootstrap(), topic, count)
}

#[test]
fn pods_with_clashing_labels_make_no_two_types_of_one_field_and_no_record_is_lost() {
    let cluster = Cluster::shared(0);
    let namespace = cluster.namespace("labels");
    // `app: demo`, and an owner that people know.
    cluster.client().create(&deployment(&namespace, "demo", 1, &json!({})));
    let labels = json!({
        "app.kubernetes.io/name": "shop", "app.kubernetes.io/version": "7", "app": "x", "app/kubernetes": "true",
    });
    cluster.client().create_pod(&pod(&namespace, "shop", &labels, &json!({})));
    let pods = wait_for(SOON, "two pods", || Some(running(cluster, &namespace)).filter(|pods| pods.len() == 2));
    let (fields, gelf) = (unique("fields"), unique("gelf"));
    let tidegate = start(cluster, &[(&fields, "fields"), (&gelf, "gelf")]);
    for (name, address) in &pods {
        let mut client = RespClient::connect_from(*address, tidegate.redis_addr());
        for number in 0..50 {
            let record = format!("{{\"from\":\"{name}\",\"message\":\"line\",\"n\":{number}}}");
            push(&mut client, &fields, &record);
            push(&mut client, &gelf, &record);
        }
    }
    for (topic, start) in [(&fields, "tidegate_pod"), (&gelf, "_tidegate_pod")] {
        let mut index = Index::default();
        let mut found = BTreeSet::new();
        for record in consumed(topic, 100) {
            let document: Value = serde_json::from_slice(&record.value).unwrap();
            index.take(&document).unwrap_or_else(|conflict| panic!("{topic}: {conflict}"));
            let from = document["from"].as_str().or(document["_from"].as_str()).unwrap();
            assert_eq!(document[format!("{start}_name")], *from, "{document}");
            assert_eq!(document[format!("{start}_namespace")], *namespace);
            let (label, value) = if from == "shop" { ("app_kubernetes_io_name", "shop") } else { ("app", "demo") };
            assert_eq!(document[format!("{start}_label_{label}")], value, "{document}");
            if from != "shop" {
                assert_eq!(document[format!("{start}_owner")], "Deployment/demo");
            }
            let number = document["n"].as_u64().or(document["_n"].as_u64()).unwrap();
            assert!(found.insert((from.to_owned(), number)), "twice: {document}");
        }
        assert_eq!(found.len(), 100, "{topic}");
    }
    // The same labels under their own names, as it was before: the index takes one pod's records and loses the other's.
    let mut naive = Index::default();
    let of = |name: &str| {
        let pod = cluster.client().get(&path(&namespace, name));
        let labels = pod["metadata"]["labels"].as_object().unwrap().clone();
        Value::Object(labels.into_iter().map(|(name, value)| (format!("pod_label.{name}"), value)).collect())
    };
    let lost = pods.keys().filter(|name| naive.take(&of(name)).is_err()).count();
    assert!(lost > 0, "the labels do not clash");
}

#[test]
fn an_address_that_goes_from_pod_to_pod_is_only_ever_the_one_that_has_it() {
    const ROUNDS: usize = 6;
    let cluster = Cluster::shared(0);
    let namespace = cluster.namespace("reused");
    let key = unique("reused");
    let tidegate = start(cluster, &[(&key, "headers")]);
    let address: IpAddr = "10.244.200.7".parse().unwrap();
    let mut olds: Vec<(String, RespClient)> = Vec::new();
    let mut pushed = 0;
    for round in 0..ROUNDS {
        let name = format!("app-{round}");
        // The old one ends slowly every other time, so that both are there at once.
        let drain = if round % 2 == 0 { "5s" } else { "0s" };
        let annotations = json!({ "bed/ip": address.to_string(), "bed/drain": drain });
        let mut object = pod(&namespace, &name, &json!({ "app": name }), &annotations);
        object["spec"]["terminationGracePeriodSeconds"] = 30.into();
        cluster.client().create_pod(&object);
        let is_there = |pods: &BTreeMap<String, IpAddr>| pods.get(&name) == Some(&address);
        wait_for(SOON, "the pod to run", || Some(running(cluster, &namespace)).filter(is_there));
        for number in 0..3 {
            let mut client = RespClient::connect_from(address, tidegate.redis_addr());
            push(&mut client, &key, &format!("{name}/{number}"));
            pushed += 1;
            if number == 0 {
                olds.push((name.clone(), client));
            }
        }
        // Connections that earlier pods opened stay theirs.
        for (owner, client) in &mut olds {
            push(client, &key, &format!("{owner}/late {round}"));
            pushed += 1;
        }
        cluster.client().delete(&path(&namespace, &name));
        wait_until(SOON, "the pod to end", || {
            let pod = cluster.client().try_get(&path(&namespace, &name)).unwrap();
            pod.is_none_or(|pod| pod["metadata"]["deletionTimestamp"].is_string())
        });
    }
    let mut known = 0;
    for record in consumed(&key, pushed) {
        let value = String::from_utf8(record.value).unwrap();
        let owner = value.split('/').next().unwrap();
        let header = |wanted: &str| record.headers.iter().find(|(name, _)| name == wanted);
        match header("tidegate-pod-name") {
            Some((_, name)) => {
                assert_eq!(String::from_utf8_lossy(name), owner, "{value}");
                known += 1;
            }
            None => assert!(header("tidegate-pod-unknown").is_some(), "{value}: neither a pod nor a mark"),
        }
    }
    assert!(known >= pushed / 2, "only {known} of {pushed} were attributed at all");
}

#[test]
fn pods_on_the_hosts_network_and_shippers_get_no_pod_and_their_own_fields_stay() {
    let cluster = Cluster::shared(0);
    let namespace = cluster.namespace("shippers");
    let says_so = json!({ "tidegate.dev/forwards": "true", "app": "shipper" });
    cluster.client().create_pod(&pod(&namespace, "shipper", &says_so, &json!({})));
    cluster.client().create_pod(&pod(&namespace, "plain", &json!({ "app": "plain" }), &json!({})));
    let mut on_host = pod(&namespace, "on-host", &json!({}), &json!({ "bed/ip": "10.244.201.1" }));
    on_host["spec"]["hostNetwork"] = true.into();
    cluster.client().create_pod(&on_host);
    let pods = wait_for(SOON, "three pods", || Some(running(cluster, &namespace)).filter(|pods| pods.len() == 3));
    let key = unique("shipped");
    let tidegate = start(cluster, &[(&key, "fields")]);
    let own = "{\"tidegate_pod_name\":\"what the shipper says\",\"tidegate_pod_label_app\":7}";
    for name in ["shipper", "plain", "on-host"] {
        push(&mut RespClient::connect_from(pods[name], tidegate.redis_addr()), &key, own);
    }
    push(&mut RespClient::connect_from("127.0.0.1".parse().unwrap(), tidegate.redis_addr()), &key, "{\"by\":\"node\"}");
    wait_until(SOON, "the records", || consume(&Kafka::shared().bootstrap(), &key).len() == 4);
    let texts: Vec<String> =
        consumed(&key, 4).into_iter().map(|record| String::from_utf8(record.value).unwrap()).collect();
    assert_eq!(texts[0], own, "a shipper's record stays as it is");
    assert!(texts[1].starts_with(own.trim_end_matches('}')), "{}", texts[1]);
    let plain: Value = serde_json::from_str(&texts[1]).unwrap();
    assert_eq!(
        (&plain["tidegate_pod_name"], &plain["tidegate_pod_label_app"]),
        (&"what the shipper says".into(), &7.into())
    );
    assert_eq!(plain["tidegate_pod_namespace"], *namespace);
    assert_eq!(texts[1].matches("tidegate_pod_name\"").count(), 1, "no field stands there twice");
    assert!(!texts[2].contains("tidegate_pod_namespace"), "{}", texts[2]);
    assert_eq!(texts[3], "{\"by\":\"node\"}");
}
