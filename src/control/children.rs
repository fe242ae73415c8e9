//! The objects that the controller makes of an App, with names that follow from what they are for: made twice, they are the
//! same.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use kube::{Resource, ResourceExt};
use serde_json::{Value, json};

use super::plan::Traffic;
use super::resource::app::App;
use super::resource::release::Release;
use crate::kubernetes::policy::{RequestMatch, TrafficPolicy};

/// The label that names an object's App.
pub const APP_LABEL: &str = "tidegate.dev/app";
/// The label that names a pod's revision.
pub const REVISION_LABEL: &str = "tidegate.dev/revision";
/// Who the API server notes as having written.
pub(super) const MANAGER: &str = "tidegate-control";

/// The name of a revision's Deployment and Service.
pub(super) fn name_of(app: &str, revision: &str) -> String {
    format!("{app}-{revision}")
}

/// The pool of a revision's Service, or the foreign pool itself.
pub(super) fn pool_of(cluster: &str, namespace: &str, app: &str, side: &str, port: &str) -> String {
    if side.contains('/') { side.to_owned() } else { format!("{cluster}/{namespace}/{}/{port}", name_of(app, side)) }
}

/// The joined pool of an App's TrafficPolicy.
pub(super) fn joined_pool(namespace: &str, app: &str, port: &str) -> String {
    format!("app/{namespace}/{app}/{port}")
}

/// What a TrafficPolicy says, by revision or foreign pool.
pub(super) fn traffic_of(policy: &TrafficPolicy, cluster: &str) -> Traffic {
    let (namespace, app) = (policy.namespace().unwrap_or_default(), policy.name_any());
    let port = policy.spec.port.to_string();
    let (start, end) = (format!("{cluster}/{namespace}/{app}-"), format!("/{port}"));
    let side = |pool: &str| {
        let revision = pool.strip_prefix(&start).and_then(|rest| rest.strip_suffix(&end));
        revision.filter(|it| !it.contains('/')).unwrap_or(pool).to_owned()
    };
    let (mut shares, mut matched) = (BTreeMap::new(), BTreeMap::new());
    for member in &policy.spec.members {
        if member.share > 0 {
            *shares.entry(side(&member.pool)).or_insert(0) += member.share;
        }
        matched.extend(member.matches.clone().map(|requests| (side(&member.pool), requests)));
    }
    Traffic { generation: policy.metadata.generation.unwrap_or_default(), shares, matched }
}

/// The TrafficPolicy that says this, as it is applied. Its members are the controller's alone: what anybody else writes among them is
/// gone with its next look at the App, which finds that the traffic is not as it is to be.
pub(super) fn policy(
    app: &App,
    release: &Release,
    cluster: &str,
    shares: &BTreeMap<String, u32>,
    matched: &BTreeMap<String, RequestMatch>,
) -> Value {
    let (namespace, name, port) = (app.namespace().unwrap_or_default(), app.name_any(), &release.spec.port);
    let member = |side: &String| {
        let (pool, share) = (pool_of(cluster, &namespace, &name, side, port), shares.get(side).unwrap_or(&0));
        match matched.get(side) {
            Some(requests) => json!({"pool": pool, "share": share, "match": requests}),
            None => json!({"pool": pool, "share": share}),
        }
    };
    let sides: BTreeSet<&String> = shares.keys().chain(matched.keys()).collect();
    let hosts = app.spec.exposure.iter().map(|it| &it.hosts).find(|hosts| !hosts.is_empty());
    let spec = [
        Some(("port", json!(port))),
        Some(("members", sides.into_iter().map(member).collect())),
        // Without hosts of the App, others may give its policy some.
        hosts.map(|hosts| ("hosts", json!(hosts))),
    ];
    let spec: BTreeMap<&str, Value> = spec.into_iter().flatten().collect();
    json!({
        "apiVersion": "tidegate.dev/v1alpha1", "kind": "TrafficPolicy",
        "metadata": {"name": name, "namespace": namespace, "labels": {APP_LABEL: name}, "ownerReferences": owner(app)},
        "spec": spec,
    })
}

/// A revision's Deployment.
///
/// # Errors
/// The release's template is not of a form that pods can be made from.
pub(super) fn deployment(app: &App, release: &Release, revision: &str, replicas: u32) -> Result<Deployment, String> {
    let (namespace, name) = (app.namespace().unwrap_or_default(), app.name_any());
    let labels = json!({APP_LABEL: name, REVISION_LABEL: revision});
    let mut template = release.spec.template.clone();
    let object = template.as_object_mut().ok_or("spec.template is no object")?;
    let metadata = object.entry("metadata").or_insert_with(|| json!({}));
    let metadata = metadata.as_object_mut().ok_or("spec.template.metadata is no object")?;
    let own = metadata.entry("labels").or_insert_with(|| json!({}));
    let own = own.as_object_mut().ok_or("spec.template.metadata.labels is no object")?;
    own.extend(labels.as_object().cloned().unwrap_or_default());
    serde_json::from_value(json!({
        "metadata": {
            "name": name_of(&name, revision), "namespace": namespace, "labels": labels, "ownerReferences": owner(app),
        },
        "spec": {
            "replicas": replicas, "minReadySeconds": release.spec.min_ready_seconds,
            // Its template never changes, so that it never rolls; and no earlier one is to be kept.
            "revisionHistoryLimit": 0,
            "selector": {"matchLabels": labels}, "template": template,
        },
    }))
    .map_err(|error| format!("spec.template makes no pods: {error}"))
}

/// A revision's Service, by which its pool is known: EndpointSlices carry no revision.
pub(super) fn service(app: &App, release: &Release, revision: &str) -> Result<Service, String> {
    let (namespace, name, port) = (app.namespace().unwrap_or_default(), app.name_any(), &release.spec.port);
    let number = container_port(&release.spec.template, port)
        .ok_or_else(|| format!("spec.template has no container port named {port:?}"))?;
    let labels = json!({APP_LABEL: name, REVISION_LABEL: revision});
    serde_json::from_value(json!({
        "metadata": {
            "name": name_of(&name, revision), "namespace": namespace, "labels": labels, "ownerReferences": owner(app),
        },
        "spec": {"selector": labels, "ports": [{"name": port, "port": number, "targetPort": port}]},
    }))
    .map_err(|error| error.to_string())
}

/// Whether a Service is there as it is to be, whatever the API server and others added to it.
pub(super) fn is_exposed(there: &Service, wanted: &Service) -> bool {
    let ports = |service: &Service| {
        let ports = service.spec.as_ref().and_then(|spec| spec.ports.clone()).unwrap_or_default();
        ports.into_iter().map(|it| (it.name, it.port, it.target_port)).collect::<Vec<_>>()
    };
    let selector = |service: &Service| service.spec.as_ref().and_then(|spec| spec.selector.clone());
    let owner = |service: &Service| service.owner_references().first().map(|it| it.uid.clone());
    let goes = there.metadata.deletion_timestamp.is_some();
    let labelled = wanted.labels().iter().all(|(key, value)| there.labels().get(key) == Some(value));
    !goes
        && labelled
        && ports(there) == ports(wanted)
        && selector(there) == selector(wanted)
        && owner(there) == owner(wanted)
}

/// The number of the container port that has this name.
pub(super) fn container_port(template: &Value, name: &str) -> Option<u16> {
    let containers = template.pointer("/spec/containers")?.as_array()?;
    let ports = containers.iter().filter_map(|it| it.get("ports")?.as_array()).flatten();
    let found = ports.into_iter().find(|port| port.get("name").and_then(Value::as_str) == Some(name))?;
    found.get("containerPort")?.as_u64().and_then(|number| u16::try_from(number).ok())
}

/// Who deletes the App deletes all that was made of it in its own cluster. Elsewhere it has no identity, and owns nothing.
pub(super) fn owner(app: &App) -> Value {
    if app.metadata.uid.is_none() {
        return json!([]);
    }
    json!([{
        "apiVersion": App::api_version(&()), "kind": App::kind(&()), "name": app.name_any(),
        "uid": app.metadata.uid, "controller": true, "blockOwnerDeletion": true,
    }])
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::control::resource::exposure::Exposure;

    pub(in crate::control) fn app_and_release() -> (App, Release) {
        let template = json!({"spec": {"containers": [
            {"name": "web", "image": "web:1", "ports": [{"name": "http", "containerPort": 8080}]},
        ]}});
        let strategy = json!({"blueGreen": {}});
        let app = json!({
            "metadata": {"name": "web", "namespace": "shop", "uid": "u"},
            "spec": {"template": template, "port": "http", "strategy": strategy},
        });
        let release = json!({
            "metadata": {"name": "web-1", "namespace": "shop"},
            "spec": {"app": "web", "image": "web:1", "template": template, "port": "http", "strategy": strategy},
        });
        (serde_json::from_value(app).unwrap(), serde_json::from_value(release).unwrap())
    }

    #[test]
    fn what_a_policy_says_reads_back_as_the_shares_it_was_made_from() {
        let (app, release) = app_and_release();
        let shares = BTreeMap::from([("0a1b2c3d4e".to_owned(), 700), ("vm/web".to_owned(), 300)]);
        let mut made: TrafficPolicy = serde_json::from_value(policy(&app, &release, "east", &shares, &none())).unwrap();
        made.metadata.generation = Some(7);
        assert_eq!(
            made.spec.members.iter().map(|it| &*it.pool).collect::<Vec<_>>(),
            ["east/shop/web-0a1b2c3d4e/http", "vm/web"]
        );
        assert_eq!(traffic_of(&made, "east"), Traffic { generation: 7, shares, matched: none() });
    }

    fn none() -> BTreeMap<String, RequestMatch> {
        BTreeMap::new()
    }

    #[test]
    fn requests_that_match_stand_in_a_policy_beside_a_share_or_without_one() {
        let (app, release) = app_and_release();
        let requests = |header: &str| -> RequestMatch {
            serde_json::from_value(json!({"headers": [{"name": header, "values": ["yes"]}]})).unwrap()
        };
        let shares = BTreeMap::from([("0a".to_owned(), 900), ("0b".to_owned(), 100)]);
        let matched = BTreeMap::from([("0b".to_owned(), requests("x-b")), ("0c".to_owned(), requests("x-c"))]);
        let made = policy(&app, &release, "east", &shares, &matched);
        let members = made["spec"]["members"].as_array().unwrap();
        assert_eq!(members.len(), 3, "{members:?}");
        assert_eq!((&members[0]["match"], &members[2]["share"]), (&Value::Null, &json!(0)));
        let made: TrafficPolicy = serde_json::from_value(made).unwrap();
        assert_eq!(traffic_of(&made, "east"), Traffic { generation: 0, shares, matched });
    }

    #[test]
    fn the_hosts_of_an_app_stand_in_its_policy() {
        let (mut app, release) = app_and_release();
        let shares = BTreeMap::from([("0a".to_owned(), 1)]);
        assert_eq!(
            policy(&app, &release, "east", &shares, &none())["spec"].get("hosts"),
            None,
            "others may keep theirs"
        );
        app.spec.exposure = Some(Exposure { hosts: vec!["shop.example/api".to_owned()], ..Exposure::default() });
        assert_eq!(policy(&app, &release, "east", &shares, &none())["spec"]["hosts"], json!(["shop.example/api"]));
    }

    #[test]
    fn a_pool_of_another_app_whose_name_begins_the_same_is_foreign() {
        let (app, release) = app_and_release();
        let shares =
            BTreeMap::from([("east/shop/web-x/y/http".to_owned(), 1), ("west/shop/web-0a/http".to_owned(), 1)]);
        let made: TrafficPolicy = serde_json::from_value(policy(&app, &release, "east", &shares, &none())).unwrap();
        assert_eq!(traffic_of(&made, "east").shares, shares);
    }

    #[test]
    fn a_revision_has_a_deployment_and_a_service_of_its_own_pods() {
        let (app, release) = app_and_release();
        let made = deployment(&app, &release, "0a", 3).unwrap();
        let spec = made.spec.unwrap();
        let labels = spec.template.metadata.unwrap().labels.unwrap();
        assert_eq!(Some(&labels), spec.selector.match_labels.as_ref());
        assert_eq!((made.metadata.name.as_deref(), spec.replicas), (Some("web-0a"), Some(3)));
        let port = service(&app, &release, "0a").unwrap().spec.unwrap().ports.unwrap().remove(0);
        assert_eq!((port.name.as_deref(), port.port), (Some("http"), 8080));
    }

    #[test]
    fn a_service_that_is_there_as_it_is_to_be_is_told_from_one_that_is_not() {
        let (app, release) = app_and_release();
        let wanted = service(&app, &release, "0a").unwrap();
        let mut there = wanted.clone();
        there.spec.as_mut().unwrap().cluster_ip = Some("10.96.0.7".to_owned());
        there.labels_mut().insert("somebody".to_owned(), "else".to_owned());
        assert!(is_exposed(&there, &wanted));
        let mut other = there.clone();
        other.spec.as_mut().unwrap().ports.as_mut().unwrap()[0].port = 9090;
        assert!(!is_exposed(&other, &wanted));
        other = there.clone();
        other.spec.as_mut().unwrap().selector = None;
        assert!(!is_exposed(&other, &wanted));
        other = there.clone();
        other.metadata.owner_references = None;
        assert!(!is_exposed(&other, &wanted));
    }

    #[test]
    fn in_another_cluster_than_its_own_an_app_owns_nothing() {
        let (mut app, release) = app_and_release();
        assert_eq!(deployment(&app, &release, "0a", 1).unwrap().owner_references().len(), 1);
        // As that cluster's bundle has it: an owner that is not there would have it collected.
        app.metadata.uid = None;
        assert_eq!(deployment(&app, &release, "0a", 1).unwrap().owner_references().len(), 0);
        assert_eq!(service(&app, &release, "0a").unwrap().owner_references().len(), 0);
    }

    #[test]
    fn a_template_without_the_port_makes_no_service_and_says_so() {
        let (app, mut release) = app_and_release();
        release.spec.port = "grpc".to_owned();
        assert!(service(&app, &release, "0a").unwrap_err().contains("\"grpc\""));
        release.spec.template = json!([]);
        assert!(deployment(&app, &release, "0a", 1).unwrap_err().contains("no object"));
    }
}
