//! The stable Service of an App whose traffic Tidegate does not route: its selector names the revision that serves, and a
//! switch is acknowledged once its EndpointSlices hold that revision's pods and no others.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::children::{APP_LABEL, REVISION_LABEL, owner, service};
use super::plan::{Traffic, WHOLE};
use super::resource::app::App;
use super::resource::release::Release;
use super::standing::standing;

/// Where a Service counts its switches: it has no generation of its own.
const GENERATION: &str = "tidegate.dev/traffic-generation";
/// Names that are shown.
const SHOWN: usize = 3;

/// What a stable Service says.
pub(super) fn traffic_of(service: &Service) -> Traffic {
    let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    let revision = selector.and_then(|it| it.get(REVISION_LABEL)).cloned();
    let generation = service.annotations().get(GENERATION).and_then(|it| it.parse().ok()).unwrap_or_default();
    let shares = revision.into_iter().map(|it| (it, WHOLE)).collect();
    Traffic { generation, shares, matched: BTreeMap::new() }
}

/// The stable Service that sends all traffic to a revision; its version is that which was read.
///
/// # Errors
/// Traffic is to be shared, which a selector cannot say, or the template has no such port.
pub(super) fn stable(
    app: &App,
    release: &Release,
    before: Option<&Service>,
    shares: &BTreeMap<String, u32>,
) -> Result<Value, String> {
    let mut sides = shares.keys();
    let (Some(revision), None) = (sides.next(), sides.next()) else {
        return Err(
            "the selector of a Service has no shares: only blueGreen switches an App with routing Service".to_owned()
        );
    };
    let generation = before.map(traffic_of).unwrap_or_default().generation.saturating_add(1);
    let labels = json!({APP_LABEL: app.name_any()});
    let annotations = json!({GENERATION: generation.to_string()});
    let selector = json!({APP_LABEL: app.name_any(), REVISION_LABEL: revision});
    if let Some(before) = before {
        return Ok(json!({
            "metadata": {"resourceVersion": before.resource_version(), "labels": labels, "annotations": annotations},
            "spec": {"selector": {"$patch": "replace", APP_LABEL: app.name_any(), REVISION_LABEL: revision}},
        }));
    }
    let ports = service(app, release, revision)?.spec.and_then(|spec| spec.ports);
    Ok(json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {
            "name": app.name_any(), "namespace": app.namespace(), "labels": labels, "annotations": annotations,
            "ownerReferences": owner(app),
        },
        "spec": {"selector": selector, "ports": ports},
    }))
}

/// Why the EndpointSlices of a stable Service are not yet those of a revision; `None` once they are.
pub(super) fn behind(app: &str, revision: &str, slices: &[EndpointSlice], pods: &[Pod]) -> Option<String> {
    let of = |pod: &&Pod| pod.labels().get(REVISION_LABEL).is_some_and(|it| it == revision);
    let wanted: BTreeSet<String> = standing(pods, revision).map(ResourceExt::name_any).collect();
    let endpoints = slices.iter().flat_map(|slice| slice.endpoints.iter().flatten());
    let serving = endpoints.filter(|it| it.conditions.as_ref().and_then(|it| it.ready).unwrap_or(true));
    let has: BTreeSet<String> =
        serving.filter_map(|it| it.target_ref.as_ref().and_then(|it| it.name.clone())).collect();
    let ours = |name: &str| pods.iter().filter(of).any(|pod| pod.name_any() == name);
    let others: Vec<&str> = has.iter().map(String::as_str).filter(|name| !ours(name)).take(SHOWN).collect();
    let missing = wanted.difference(&has).count();
    match (others.is_empty(), missing) {
        (true, 0) => None,
        (true, _) => Some(format!(
            "the EndpointSlices of Service {app} (they lack {missing} of {} pods of {revision})",
            wanted.len()
        )),
        (false, _) => Some(format!("the EndpointSlices of Service {app} (they still have {})", others.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::super::children::tests::app_and_release;
    use super::*;

    fn pod(name: &str, revision: &str) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": name, "labels": {REVISION_LABEL: revision}},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        }))
        .unwrap()
    }

    fn slice(names: &[&str]) -> EndpointSlice {
        let endpoint = |name: &&str| json!({"addresses": ["10.0.0.1"], "conditions": {"ready": true}, "targetRef": {"name": name}});
        let endpoints: Vec<Value> = names.iter().map(endpoint).collect();
        serde_json::from_value(json!({"metadata": {}, "addressType": "IPv4", "endpoints": endpoints, "ports": []}))
            .unwrap()
    }

    #[test]
    fn a_switch_counts_and_reads_back_as_the_revision_that_serves() {
        let (app, release) = app_and_release();
        let to = |revision: &str| BTreeMap::from([(revision.to_owned(), WHOLE)]);
        let made: Service = serde_json::from_value(stable(&app, &release, None, &to("0a")).unwrap()).unwrap();
        let traffic = Traffic { generation: 1, shares: to("0a"), matched: BTreeMap::new() };
        assert_eq!(traffic_of(&made), traffic);
        let next = stable(&app, &release, Some(&made), &to("0b")).unwrap();
        assert_eq!(next["metadata"]["annotations"][GENERATION], "2");
        assert_eq!(next["spec"]["selector"][REVISION_LABEL], "0b");
        let shared = BTreeMap::from([("0a".to_owned(), 500), ("0b".to_owned(), 500)]);
        assert!(stable(&app, &release, None, &shared).unwrap_err().contains("no shares"));
    }

    #[test]
    fn slices_are_behind_until_they_have_all_pods_of_the_revision_and_no_other() {
        let pods = [pod("old-1", "0a"), pod("new-1", "0b"), pod("new-2", "0b")];
        let said = |names: &[&str]| behind("web", "0b", &[slice(names)], &pods);
        assert_eq!(said(&["new-1", "new-2"]), None);
        assert!(said(&["new-1"]).unwrap().contains("lack 1 of 2 pods of 0b"));
        assert!(said(&["new-1", "new-2", "old-1"]).unwrap().contains("still have old-1"));
        assert!(said(&[]).unwrap().contains("lack 2 of 2"));
    }
}
