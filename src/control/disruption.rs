//! An App's PodDisruptionBudget: who empties nodes takes no more of its pods at once than the App allows.
//!
//! It counts the pods of all revisions: in the middle of a deploy, those that serve are kept although others are not ready yet.
//! Pods that are not ready themselves may always be taken away, so that a deploy that fails holds up no node.

use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use super::apply::{ApplyError, Writer, gone};
use super::bundle::Bundle;
use super::children::{APP_LABEL, MANAGER, owner};
use super::resource::app::App;

/// What about a budget is not as it is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It is made, or made anew, as the App says.
    Apply,
    /// It goes: it would keep nothing.
    Remove,
}

/// The next step, if any.
pub(super) fn next(bundle: &Bundle) -> Option<Step> {
    let max = bundle.app.spec.disruption.max_unavailable;
    if bundle.deployments.is_empty() || bundle.desired() <= max {
        return bundle.budget.as_ref().map(|_| Step::Remove);
    }
    let is_there = bundle.budget.as_ref().is_some_and(|it| is_kept(it, &bundle.app));
    (!is_there).then_some(Step::Apply)
}

fn budget(app: &App) -> Value {
    let (name, labels) = (app.name_any(), json!({APP_LABEL: app.name_any()}));
    json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
        "metadata": {"name": name, "namespace": app.namespace(), "labels": labels, "ownerReferences": owner(app)},
        "spec": {
            "maxUnavailable": app.spec.disruption.max_unavailable, "selector": {"matchLabels": labels},
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    })
}

/// Whether a budget is as it is to be, whatever the API server and others added to it.
fn is_kept(there: &PodDisruptionBudget, app: &App) -> bool {
    let Ok(wanted) = serde_json::from_value::<PodDisruptionBudget>(budget(app)) else { return false };
    let (Some(is), Some(ought)) = (&there.spec, &wanted.spec) else { return false };
    let uid = |it: &PodDisruptionBudget| it.owner_references().first().map(|owner| owner.uid.clone());
    // An API server before 1.27 has no such policy.
    let policy = is.unhealthy_pod_eviction_policy.is_none()
        || is.unhealthy_pod_eviction_policy == ought.unhealthy_pod_eviction_policy;
    is.max_unavailable == ought.max_unavailable
        && is.min_available.is_none()
        && is.selector == ought.selector
        && policy
        && uid(there) == uid(&wanted)
}

// === impl Writer ===

impl Writer {
    /// Makes a step about the budget.
    pub(super) async fn guard(&self, app: &App, step: Step) -> Result<(), ApplyError> {
        if !self.leadership.holds() {
            return Err(ApplyError::Deposed);
        }
        let (api, name): (Api<PodDisruptionBudget>, _) = (self.api(app), app.name_any());
        match step {
            Step::Apply => {
                let params = PatchParams::apply(MANAGER).force();
                self.server.answered(api.patch(&name, &params, &Patch::Apply(budget(app)))).await.map(drop)
            }
            Step::Remove => gone(self.server.answered(api.delete(&name, &DeleteParams::default())).await),
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

    use super::super::bundle::tests::bundle;
    use super::super::children::deployment;
    use super::*;

    fn running(replicas: u32) -> Bundle {
        let mut it = bundle();
        it.app.spec.replicas = replicas;
        it.deployments = vec![deployment(&it.app, &it.releases[0], "0a", replicas).unwrap()];
        it
    }

    #[test]
    fn an_app_has_a_budget_of_all_its_pods_while_that_keeps_something() {
        let mut it = running(3);
        assert_eq!(next(&it), Some(Step::Apply));
        let made: PodDisruptionBudget = serde_json::from_value(budget(&it.app)).unwrap();
        let selector = made.spec.as_ref().unwrap().selector.clone().unwrap().match_labels.unwrap();
        assert_eq!(selector.into_iter().collect::<Vec<_>>(), [(APP_LABEL.to_owned(), "web".to_owned())]);
        it.budget = Some(made);
        assert_eq!(next(&it), None);
        it.app.spec.disruption.max_unavailable = 2;
        assert_eq!(next(&it), Some(Step::Apply), "as many as the App says by now");
        it.app.spec.disruption.max_unavailable = 3;
        assert_eq!(next(&it), Some(Step::Remove), "it would keep nothing");
        it.budget = None;
        assert_eq!(next(&it), None);
        assert_eq!(next(&bundle()), None, "nothing runs yet");
    }

    #[test]
    fn a_budget_that_somebody_changed_is_made_anew() {
        let it = running(3);
        let made: PodDisruptionBudget = serde_json::from_value(budget(&it.app)).unwrap();
        for change in [
            |it: &mut PodDisruptionBudget| it.spec.as_mut().unwrap().max_unavailable = Some(IntOrString::Int(3)),
            |it: &mut PodDisruptionBudget| it.spec.as_mut().unwrap().selector = None,
            |it: &mut PodDisruptionBudget| it.metadata.owner_references = None,
        ] {
            let mut changed = made.clone();
            change(&mut changed);
            assert_eq!(next(&Bundle { budget: Some(changed), ..it.clone() }), Some(Step::Apply));
        }
    }
}
