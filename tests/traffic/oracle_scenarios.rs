//! Histories of slices on a real API server, at every revision of which the published pools are the oracle's.

use serde_json::{Value, json};

use crate::bed::wait_until;
use crate::kube::Cluster;
use crate::kube::objects::{deployment, deployment_path, namespace_path, service, service_path, slice, slice_path};
use crate::oracle::Oracle;
use crate::oracle_record::Recorded;
use crate::support::SOON;

fn ports() -> Value {
    json!([{"name": "http", "port": 8080, "protocol": "TCP"}])
}

fn endpoints(addresses: &[&str]) -> Value {
    json!(addresses.iter().map(|address| json!({"addresses": [address]})).collect::<Vec<_>>())
}

/// Every combination of the three conditions: absent, true, false.
fn combinations() -> Vec<Value> {
    let values = [None, Some(true), Some(false)];
    let mut all = Vec::new();
    for ready in values {
        for serving in values {
            for terminating in values {
                let named = [("ready", ready), ("serving", serving), ("terminating", terminating)];
                let present = named.into_iter().filter_map(|(name, value)| Some((name.to_owned(), json!(value?))));
                all.push(Value::Object(present.collect()));
            }
        }
    }
    all
}

/// Three endpoints of one service go through all combinations, in step and out of step, so that each meets others that
/// serve and others that do not.
fn conditions(name: &str, source: &str, oracle: Oracle) {
    let recorded = Recorded::start_with(Cluster::shared(0), name, "", source, oracle);
    let (client, namespace) = (recorded.cluster.client(), recorded.namespace.as_str());
    let all = combinations();
    for step in 0..2 * all.len() {
        let of = |stride: usize| &all[step * stride % all.len()];
        let endpoint =
            |last: u8, conditions| json!({"addresses": [format!("10.244.50.{last}")], "conditions": conditions});
        let two = json!([endpoint(1, of(1)), endpoint(2, of(2))]);
        let one = json!([endpoint(3, of(5))]);
        if step == 0 {
            client.create(&slice(namespace, "two", "web", &two, &ports()));
            client.create(&slice(namespace, "one", "web", &one, &ports()));
        } else {
            client.replace(&slice_path(namespace, "two"), &slice(namespace, "two", "web", &two, &ports()));
            client.replace(&slice_path(namespace, "one"), &slice(namespace, "one", "web", &one, &ports()));
        }
    }
    recorded.finish();
}

#[test]
fn conditions_change_through_every_combination() {
    conditions("combining", "", Oracle::new("east"));
}

#[test]
fn conditions_change_through_every_combination_where_serving_decides() {
    conditions("strictly", "strict_serving = true", Oracle::new("east").strict());
}

#[test]
fn slices_are_split_merged_relabelled_and_deleted() {
    let recorded = Recorded::start(Cluster::shared(0), "splitting");
    let (client, namespace) = (recorded.cluster.client(), recorded.namespace.as_str());
    let put = |name: &str, service: &str, addresses: &[&str]| {
        let object = slice(namespace, name, service, &endpoints(addresses), &ports());
        if client.try_create(&object).is_err() {
            client.replace(&slice_path(namespace, name), &object);
        }
    };
    let all = ["10.244.51.1", "10.244.51.2", "10.244.51.3", "10.244.51.4"];
    for _ in 0..3 {
        put("whole", "web", &all);
        // Split as the controller does it: what moves is in both for a moment.
        put("half", "web", &all[2..]);
        put("whole", "web", &all[..2]);
        // To another service and back; both have it in no revision.
        put("half", "api", &all[2..]);
        put("half", "web", &all[2..]);
        put("half", "api", &all[1..3]);
        // Merged, the other way round: for a moment it is in neither.
        put("half", "web", &[]);
        put("whole", "web", &all);
        // Without its label it is part of none, and comes back to another.
        let label = |value: Value| json!({"metadata": {"labels": {"kubernetes.io/service-name": value}}});
        client.patch(&slice_path(namespace, "whole"), &label(json!(null)));
        client.patch(&slice_path(namespace, "whole"), &label(json!("api")));
        client.delete(&slice_path(namespace, "whole"));
        client.delete(&slice_path(namespace, "half"));
    }
    recorded.finish();
}

#[test]
fn two_families_and_ports_that_differ_from_slice_to_slice() {
    let recorded = Recorded::start(Cluster::shared(0), "varying");
    let (client, namespace) = (recorded.cluster.client(), recorded.namespace.as_str());
    let four = endpoints(&["10.244.52.1", "10.244.52.2"]);
    let variants = [
        ports(),
        json!([{"name": "http", "port": 9090}, {"name": "metrics", "port": 9100, "appProtocol": "http"}]),
        json!([{"port": 8080, "protocol": "UDP"}, {"name": "http", "port": 8080, "appProtocol": "kubernetes.io/h2c"}]),
        json!([{"name": "any"}, {"name": "", "port": 53, "protocol": "UDP"}]),
        json!([{"name": "http", "port": 8080, "protocol": "SCTP"}]),
        json!([]),
    ];
    let mut six = slice(namespace, "six", "web", &endpoints(&["fd00:10:244::1", "fd00:10:244::2"]), &ports());
    six["addressType"] = json!("IPv6");
    let mut named = slice(namespace, "named", "web", &endpoints(&["host.example"]), &ports());
    named["addressType"] = json!("FQDN");
    client.create(&slice(namespace, "a", "web", &four, &ports()));
    client.create(&named);
    for (round, variant) in variants.iter().enumerate() {
        client.replace(&slice_path(namespace, "a"), &slice(namespace, "a", "web", &four, variant));
        let other = &variants[(round + 1) % variants.len()];
        let b = slice(namespace, "b", "web", &endpoints(&["10.244.52.2", "10.244.52.3"]), other);
        client.delete(&slice_path(namespace, "b"));
        client.create(&b);
        six["ports"] = variant.clone();
        client.delete(&slice_path(namespace, "six"));
        client.create(&six);
    }
    client.delete(&slice_path(namespace, "a"));
    client.delete(&slice_path(namespace, "b"));
    // The service is still there, in the other family, and knows all the ports that it had.
    client.delete(&slice_path(namespace, "six"));
    client.create(&slice(namespace, "a", "web", &four, &ports()));
    recorded.finish();
}

#[test]
fn two_and_a_half_thousand_endpoints_of_one_service_are_replaced_slice_by_slice() {
    let recorded = Recorded::start(Cluster::shared(0), "rolling");
    let (client, namespace) = (recorded.cluster.client(), recorded.namespace.as_str());
    let part = |part: usize, round: usize| {
        let address = |at: usize| json!({"addresses": [format!("10.244.{}.{}", 100 + part, 1 + 100 * round + at)]});
        let endpoints: Vec<Value> = (0..100).map(address).collect();
        slice(namespace, &format!("p{part}"), "web", &json!(endpoints), &ports())
    };
    (0..25).for_each(|at| drop(client.create(&part(at, 0))));
    (0..25).for_each(|at| drop(client.replace(&slice_path(namespace, &format!("p{at}")), &part(at, 1))));
    (0..24).for_each(|at| client.delete(&slice_path(namespace, &format!("p{at}"))));
    recorded.finish();
}

#[test]
fn an_address_goes_from_service_to_service_at_once() {
    let recorded = Recorded::start(Cluster::shared(0), "passing");
    let (client, namespace) = (recorded.cluster.client(), recorded.namespace.as_str());
    for round in 0..40 {
        let (from, to) = (format!("s{}", round % 3), format!("s{}", (round + 1) % 3));
        client.delete(&slice_path(namespace, &from));
        client.create(&slice(namespace, &to, &to, &endpoints(&["10.244.53.1", "10.244.53.2"]), &ports()));
        if round % 2 == 0 {
            recorded.settle();
        }
    }
    recorded.finish();
}

#[test]
fn a_namespace_is_deleted_and_made_again() {
    let recorded = Recorded::start(Cluster::shared(0), "reborn");
    let (client, namespace) = (recorded.cluster.client(), recorded.namespace.as_str());
    for round in 1..=2 {
        for service in ["a", "b", "c"] {
            let addresses = [format!("10.244.54.{round}"), format!("10.244.54.{}", 10 + round)];
            let addresses = addresses.each_ref().map(String::as_str);
            client.create(&slice(namespace, service, service, &endpoints(&addresses), &ports()));
        }
        client.delete(&namespace_path(namespace));
        wait_until(SOON, "the namespace's end", || {
            client.try_get(&namespace_path(namespace)).is_ok_and(|it| it.is_none())
        });
        client.create(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}));
    }
    recorded.finish();
}

#[test]
fn a_deployment_is_scaled_rolled_and_its_service_deleted_and_made_again() {
    let recorded = Recorded::start(Cluster::shared(0), "deployed");
    let (client, namespace) = (recorded.cluster.client(), recorded.namespace.as_str());
    let ready = |wanted: usize| {
        let slices = || client.get(&recorded.collection())["items"].as_array().cloned().unwrap_or_default();
        wait_until(SOON, "the slices' endpoints", || {
            let all = slices().into_iter().flat_map(|slice| slice["endpoints"].as_array().cloned().unwrap_or_default());
            let states: Vec<_> = all.map(|it| it["conditions"]["ready"] == true).collect();
            states.len() == wanted && states.into_iter().all(|ready| ready)
        });
    };
    let scale =
        |replicas: u32| client.patch(&deployment_path(namespace, "web"), &json!({"spec": {"replicas": replicas}}));
    client.create(&deployment(namespace, "web", 0, &json!({"bed/drain": "500ms"})));
    client.create(&service(namespace, "web"));
    for replicas in [4, 0, 3] {
        scale(replicas);
        ready(replicas as usize);
    }
    let template = json!({"spec": {"template": {"metadata": {"annotations": {"round": "2"}}}}});
    client.patch(&deployment_path(namespace, "web"), &template);
    wait_until(SOON, "the rollout", || {
        let status = &client.get(&deployment_path(namespace, "web"))["status"];
        status["observedGeneration"].as_u64() >= Some(5) && status["updatedReplicas"] == 3 && status["replicas"] == 3
    });
    ready(3);
    client.delete(&service_path(namespace, "web"));
    wait_until(SOON, "no slice", || client.get(&recorded.collection())["items"].as_array().is_none_or(Vec::is_empty));
    client.create(&service(namespace, "web"));
    ready(3);
    recorded.finish();
}
