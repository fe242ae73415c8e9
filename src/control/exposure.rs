//! How the stable Service of an App is reached that Tidegate does not route: its type, its ports, and what others read from it.
//! Its selector is not told here: that is the deploys' ([`super::stable`]).

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Map, Value, json};

use super::apply::{ApplyError, Writer};
use super::bundle::Bundle;
use super::children::{APP_LABEL, MANAGER, container_port};
use super::resource::exposure::{ExposedPort, Exposure, ExposureType};

/// What a Service was told: by this it is known what is to be taken back.
const SAID: &str = "tidegate.dev/exposure";
/// The label and the annotation by which data planes give a Service hosts, and the annotation with its port.
const HOSTS: &str = "tidegate.dev/hosts";
const HOSTS_PORT: &str = "tidegate.dev/hosts-port";

/// What is to be changed about the stable Service, as it was seen; `None` where it is as it is to be.
pub(super) fn next(bundle: &Bundle) -> Option<Value> {
    let stable = bundle.stable.as_ref().filter(|_| bundle.switches_service())?;
    // One that no deploy has taken over yet is somebody else's.
    stable.labels().get(APP_LABEL)?;
    let said = stable.annotations().get(SAID);
    let Some(asked) = &bundle.app.spec.exposure else {
        // What was told is taken back, and others' words stay.
        return said.and_then(|_| change(bundle, stable, &Exposure::default(), None));
    };
    let wanted = json!(asked).to_string();
    let as_asked = said == Some(&wanted) && is_so(stable, asked, &ports(bundle, asked)?);
    if as_asked { None } else { change(bundle, stable, asked, Some(wanted)) }
}

/// Its ports as they are to be; `None` where the newest release does not have the App's.
fn ports(bundle: &Bundle, asked: &Exposure) -> Option<Vec<ExposedPort>> {
    if !asked.ports.is_empty() {
        return Some(asked.ports.clone());
    }
    let name = bundle.app.spec.port.clone();
    let port = container_port(&bundle.newest()?.spec.template, &name)?;
    Some(vec![ExposedPort { name, port }])
}

fn is_so(stable: &Service, asked: &Exposure, ports: &[ExposedPort]) -> bool {
    let spec = stable.spec.clone().unwrap_or_default();
    let there = spec.ports.unwrap_or_default();
    let same = there.len() == ports.len()
        && ports.iter().all(|wanted| {
            there.iter().any(|it| it.name.as_ref() == Some(&wanted.name) && it.port == i32::from(wanted.port))
        });
    same && spec.type_.as_deref().unwrap_or("ClusterIP") == kind(asked)
}

fn kind(asked: &Exposure) -> &'static str {
    match asked.kind {
        ExposureType::Gateway | ExposureType::ClusterIp => "ClusterIP",
        ExposureType::LoadBalancer => "LoadBalancer",
    }
}

/// A merge patch: what was told before and is not asked for now is taken away.
fn change(bundle: &Bundle, stable: &Service, asked: &Exposure, said: Option<String>) -> Option<Value> {
    let before = stable.annotations().get(SAID).and_then(|text| serde_json::from_str::<Exposure>(text).ok());
    let port = &bundle.app.spec.port;
    let mut annotations: Map<String, Value> =
        before.iter().flat_map(|it| annotations_of(it, port)).map(|(key, _)| (key, Value::Null)).collect();
    annotations.extend(annotations_of(asked, port).into_iter().map(|(key, value)| (key, value.into())));
    annotations.insert(SAID.to_owned(), json!(said));
    let had = before.is_some_and(|it| !it.hosts.is_empty());
    let labels = match (asked.hosts.is_empty(), had) {
        (false, _) => json!({HOSTS: "true"}),
        (true, true) => json!({HOSTS: null}),
        (true, false) => json!({}),
    };
    let port = |it: &ExposedPort| json!({"name": it.name, "port": it.port, "targetPort": it.name, "protocol": "TCP"});
    let ports: Vec<Value> = ports(bundle, asked)?.iter().map(port).collect();
    Some(json!({
        "metadata": {"resourceVersion": stable.resource_version(), "labels": labels, "annotations": annotations},
        "spec": {"type": kind(asked), "ports": ports},
    }))
}

fn annotations_of(asked: &Exposure, port: &str) -> BTreeMap<String, String> {
    let mut all = asked.annotations.clone();
    if !asked.hosts.is_empty() {
        all.insert(HOSTS.to_owned(), asked.hosts.join(", "));
        all.insert(HOSTS_PORT.to_owned(), port.to_owned());
    }
    all
}

// === impl Writer ===

impl Writer {
    /// Changes the stable Service, if it is still the version that was seen.
    pub(super) async fn reach(&self, bundle: &Bundle, change: &Value) -> Result<(), ApplyError> {
        if !self.leadership.holds() {
            return Err(ApplyError::Deposed);
        }
        let api: Api<Service> = self.api(&bundle.app);
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let patch = Patch::Merge(change);
        self.server.answered(api.patch(&bundle.app.name_any(), &params, &patch)).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::super::bundle::tests::bundle;
    use super::super::resource::app::Routing;
    use super::super::stable;
    use super::*;

    /// An App whose stable Service leads to its first revision.
    fn switched(exposure: Value) -> Bundle {
        let mut it = bundle();
        it.app.spec.routing = Routing::Service;
        it.app.spec.exposure = serde_json::from_value(exposure).unwrap();
        let shares = BTreeMap::from([("0a".to_owned(), 1_000)]);
        let made = stable::stable(&it.app, &it.releases[0], None, &shares).unwrap();
        it.stable = Some(serde_json::from_value(made).unwrap());
        it
    }

    /// As the API server merges it.
    fn merge(into: &mut Value, patch: &Value) {
        let Some(fields) = patch.as_object() else { return *into = patch.clone() };
        for (key, value) in fields {
            match value {
                Value::Null => drop(into.as_object_mut().unwrap().remove(key)),
                value => merge(into.as_object_mut().unwrap().entry(key).or_insert(json!({})), value),
            }
        }
    }

    /// Changes what is to be changed, and gives the Service then; it is as it is to be afterwards.
    fn settle(it: &mut Bundle) -> Value {
        let mut service = serde_json::to_value(&it.stable).unwrap();
        merge(&mut service, &next(it).unwrap());
        it.stable = Some(serde_json::from_value(service.clone()).unwrap());
        assert_eq!(next(it), None, "settled");
        service
    }

    #[test]
    fn a_stable_service_is_reached_as_the_app_says_and_what_was_said_is_taken_back() {
        let mut it = switched(json!({
            "type": "LoadBalancer", "ports": [{"name": "http", "port": 80}], "hosts": ["a.example", "a.example/x"],
            "annotations": {"cloud.example/class": "public"},
        }));
        it.stable.as_mut().unwrap().annotations_mut().insert("somebody".to_owned(), "else".to_owned());
        let selector = it.stable.as_ref().unwrap().spec.as_ref().unwrap().selector.clone();
        let made = settle(&mut it);
        let spec = &made["spec"];
        assert_eq!((&spec["type"], &spec["ports"][0]["port"]), (&json!("LoadBalancer"), &json!(80)));
        assert_eq!(spec["ports"][0]["targetPort"], "http");
        let annotations = &made["metadata"]["annotations"];
        assert_eq!(annotations[HOSTS], "a.example, a.example/x");
        assert_eq!((&annotations[HOSTS_PORT], &annotations["cloud.example/class"]), (&json!("http"), &json!("public")));
        assert_eq!(made["metadata"]["labels"][HOSTS], "true");

        it.app.spec.exposure = None;
        let made = settle(&mut it);
        assert_eq!((&made["spec"]["type"], &made["spec"]["ports"][0]["port"]), (&json!("ClusterIP"), &json!(8080)));
        let annotations = made["metadata"]["annotations"].as_object().unwrap();
        assert!(annotations.contains_key("somebody"), "{annotations:?}");
        for gone in [HOSTS, HOSTS_PORT, SAID, "cloud.example/class"] {
            assert!(!annotations.contains_key(gone), "{annotations:?}");
        }
        assert_eq!(made["metadata"]["labels"].get(HOSTS), None);
        assert_eq!(it.stable.unwrap().spec.unwrap().selector, selector, "a switch is the deploys' alone");
    }

    #[test]
    fn what_somebody_changed_is_changed_back_and_without_a_word_nothing_is() {
        let mut it = switched(json!({"type": "ClusterIP"}));
        settle(&mut it);
        it.stable.as_mut().unwrap().spec.as_mut().unwrap().type_ = Some("NodePort".to_owned());
        assert!(next(&it).is_some());
        it.app.spec.routing = Routing::Tidegate;
        assert_eq!(next(&it), None, "it is not ours");
        let mut it = switched(json!(null));
        it.stable.as_mut().unwrap().spec.as_mut().unwrap().type_ = Some("NodePort".to_owned());
        assert_eq!(next(&it), None);
    }
}
