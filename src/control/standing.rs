//! Pods that stand behind a revision: ready, and not on their way out.
//!
//! A Deployment's own count of available pods is what its controllers saw last. Where it was asked for fewer pods and, a moment later,
//! for more again, it still counts pods that go by the first of the two, and its hub's pool still has them. So the count is
//! taken for true only once the Deployment's controller has acted on the Deployment as it is, and the ReplicaSet's on the
//! ReplicaSet as it is (each says so by `status.observedGeneration`); and of the pods that are there then, only those count that no
//! one has deleted. For that the three are asked for in this order.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::children::REVISION_LABEL;

/// The pods of a revision that are ready and stay.
pub(super) fn standing<'a>(pods: &'a [Pod], revision: &'a str) -> impl Iterator<Item = &'a Pod> {
    pods.iter().filter(move |pod| is_of(*pod, revision) && is_ready(pod))
}

/// A pod as hubs name what an endpoint leads to.
pub(super) fn target_of(pod: &Pod) -> String {
    format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any())
}

/// Whether a Deployment's controllers have acted on it as it is. A ReplicaSet that is not among these is not waited for.
pub(super) fn is_observed(deployment: &Deployment, revision: &str, sets: &[ReplicaSet]) -> bool {
    let has = |observed: Option<i64>, is: Option<i64>| observed.unwrap_or_default() >= is.unwrap_or_default();
    let of_set = |it: &ReplicaSet| it.status.as_ref().and_then(|status| status.observed_generation);
    let own = deployment.status.as_ref().and_then(|status| status.observed_generation);
    has(own, deployment.metadata.generation)
        && sets.iter().filter(|it| is_of(*it, revision)).all(|it| has(of_set(it), it.metadata.generation))
}

fn is_of(object: &impl ResourceExt, revision: &str) -> bool {
    object.labels().get(REVISION_LABEL).is_some_and(|it| it == revision)
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    pod.metadata.deletion_timestamp.is_none() && conditions.iter().any(|it| it.type_ == "Ready" && it.status == "True")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn of<T: serde::de::DeserializeOwned>(metadata: &Value, status: &Value) -> T {
        let mut object = json!({"metadata": metadata, "spec": {"selector": {}, "template": {}}, "status": status});
        object["metadata"]["labels"] = json!({REVISION_LABEL: metadata["name"].as_str().unwrap().split('-').next()});
        serde_json::from_value(object).unwrap()
    }

    fn deployment(generation: i64, observed: i64) -> Deployment {
        of(&json!({"name": "0a", "generation": generation}), &json!({"observedGeneration": observed}))
    }

    fn set(revision: &str, generation: i64, observed: i64) -> ReplicaSet {
        let status = json!({"observedGeneration": observed, "replicas": 2});
        of(&json!({"name": format!("{revision}-1"), "generation": generation}), &status)
    }

    #[test]
    fn a_count_is_true_once_both_controllers_have_acted_on_what_is_asked_for_now() {
        assert!(!is_observed(&of(&json!({"name": "0a", "generation": 1}), &json!({})), "0a", &[]));
        assert!(!is_observed(&deployment(3, 2), "0a", &[set("0a", 3, 3)]));
        assert!(!is_observed(&deployment(3, 3), "0a", &[set("0a", 3, 2)]));
        assert!(!is_observed(&deployment(3, 3), "0a", &[set("0a", 1, 1), set("0a", 3, 2)]));
        assert!(is_observed(&deployment(3, 3), "0a", &[set("0a", 3, 3), set("0b", 3, 2)]));
        assert!(is_observed(&deployment(3, 3), "0a", &[]));
    }

    #[test]
    fn a_pod_stands_that_is_ready_of_this_revision_and_not_deleted() {
        let ready = json!({"conditions": [{"type": "Ready", "status": "True"}]});
        let waits = json!({"conditions": [{"type": "Ready", "status": "False"}]});
        let goes = json!({"name": "0a-goes", "deletionTimestamp": "2026-11-30T12:00:00Z"});
        let pods: Vec<Pod> = vec![
            of(&json!({"name": "0a-stands"}), &ready),
            of(&json!({"name": "0a-waits"}), &waits),
            of(&json!({"name": "0a-new"}), &json!({})),
            of(&goes, &ready),
            of(&json!({"name": "0b-other"}), &ready),
        ];
        let names: Vec<String> = standing(&pods, "0a").map(ResourceExt::name_any).collect();
        assert_eq!(names, ["0a-stands"]);
    }
}
