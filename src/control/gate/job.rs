//! A Job of the gate: made once for each step (and each retry) of a release, by a name that follows from these; its end decides.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};
use kube::{Resource, ResourceExt};
use serde_json::{Value, json};

use super::super::apply::{ApplyError, Server};
use super::super::children::{APP_LABEL, REVISION_LABEL, name_of};
use super::super::logs;
use super::super::resource::moment::Moment;
use super::super::resource::release::Release;
use super::super::resource::revision::revision_of;
use super::super::trouble::ailing;
use super::{Not, Question};

/// The longest name that pods can be labelled with.
const LONGEST: usize = 63;
/// How long a Job that has ended is kept for who wants to look into it.
const KEPT_SECONDS: u32 = 3_600;

/// What a look at a Job says.
pub(super) enum Seen {
    /// It is not there.
    Absent,
    /// It has passed, or not.
    Answered(Result<(), Not>),
}

/// The name of the Job of a step.
pub(in crate::control) fn name(release: &Release, step: u32) -> String {
    let (name, retries) = (release.name_any(), release.spec.control.retries);
    let whole = format!("{name}-gate-{step}-{retries}");
    if whole.len() <= LONGEST {
        return whole;
    }
    let hash = revision_of(&Value::String(whole));
    let stem: String = name.chars().take(LONGEST - hash.len() - 1).collect();
    format!("{}-{hash}", stem.trim_end_matches(['-', '.']))
}

/// The Job, as it is made.
///
/// # Errors
/// The gate's template makes no Job.
pub(in crate::control) fn job(release: &Release, revision: &str, step: u32) -> Result<Job, String> {
    let gate = release.spec.gate.job.as_ref().ok_or("the release has no Job in its gate")?;
    let (namespace, app) = (release.namespace().unwrap_or_default(), &release.spec.app);
    let mut template = gate.template.clone();
    // Its pods are none of the App's: no Service may send them traffic.
    if let Some(labels) = template.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
        labels.retain(|key, _| key != APP_LABEL && key != REVISION_LABEL);
    }
    let spec = template.get_mut("spec").and_then(Value::as_object_mut).ok_or("gate.job.template has no spec")?;
    spec.entry("restartPolicy").or_insert_with(|| json!("Never"));
    let told = [
        ("TIDEGATE_NAMESPACE", namespace.clone()),
        ("TIDEGATE_APP", app.clone()),
        ("TIDEGATE_RELEASE", release.name_any()),
        ("TIDEGATE_REVISION", revision.to_owned()),
        ("TIDEGATE_IMAGE", release.spec.image.clone()),
        // The Service of the new pods alone.
        ("TIDEGATE_SERVICE", name_of(app, revision)),
    ];
    let told = told.map(|(name, value)| json!({"name": name, "value": value}));
    for container in spec.get_mut("containers").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(container) = container.as_object_mut() {
            let env = container.entry("env").or_insert_with(|| json!([]));
            env.as_array_mut().ok_or("gate.job.template has an env that is no list")?.extend(told.iter().cloned());
        }
    }
    // In another cluster than its own, a release owns nothing: such a Job goes when its time is over.
    let uid = release.metadata.uid.as_ref();
    let owner: Vec<Value> = uid
        .into_iter()
        .map(|uid| {
            json!({
                "apiVersion": Release::api_version(&()), "kind": Release::kind(&()), "name": release.name_any(),
                "uid": uid, "controller": true, "blockOwnerDeletion": true,
            })
        })
        .collect();
    serde_json::from_value(json!({
        "metadata": {
            "name": name(release, step), "namespace": namespace, "labels": {APP_LABEL: app}, "ownerReferences": owner,
        },
        "spec": {
            "backoffLimit": gate.retries, "activeDeadlineSeconds": gate.timeout_seconds,
            "ttlSecondsAfterFinished": KEPT_SECONDS, "template": template,
        },
    }))
    .map_err(|error| format!("gate.job.template makes no Job: {error}"))
}

/// How the Job of this step is doing.
pub(super) async fn look(question: &Question<'_>, server: &Server) -> Seen {
    let (namespace, name) = (question.release.namespace().unwrap_or_default(), name(question.release, question.step));
    let jobs: Api<Job> = Api::namespaced(server.client.clone(), &namespace);
    let job = match server.answered(jobs.get_opt(&name)).await {
        Ok(Some(job)) => job,
        Ok(None) => return Seen::Absent,
        Err(error) => return Seen::Answered(Err(Not::Yet(format!("Job {name} cannot be read: {error}")))),
    };
    let status = job.status.clone().unwrap_or_default();
    let holds = |kind: &str| status.conditions.iter().flatten().find(|it| it.type_ == kind && it.status == "True");
    if holds("Complete").is_some() {
        return Seen::Answered(Ok(()));
    }
    let pods = pods(server, &namespace, &name).await.unwrap_or_default();
    if let Some(failed) = holds("Failed") {
        let reason = failed.reason.as_deref().unwrap_or("for no reason given");
        let said = last_words(server, &namespace, &pods).await;
        let said = said.map(|said| format!(", its last words: {said}")).unwrap_or_default();
        return Seen::Answered(Err(Not::AtAll(format!("Job {name} failed, {reason}{said}"))));
    }
    let since = status.start_time.map(|at| format!(", since {}", Moment::from(at.0))).unwrap_or_default();
    let trouble = pods.iter().filter_map(ailing).find(|it| it.certain).map(|it| format!(": {}", it.why));
    Seen::Answered(Err(Not::Yet(format!("Job {name} has not ended{since}{}", trouble.unwrap_or_default()))))
}

/// Its pods, the newest last.
async fn pods(server: &Server, namespace: &str, job: &str) -> Result<Vec<Pod>, ApplyError> {
    let api: Api<Pod> = Api::namespaced(server.client.clone(), namespace);
    let params = ListParams::default().labels(&format!("batch.kubernetes.io/job-name={job}"));
    let mut pods = server.answered(api.list(&params)).await?.items;
    pods.sort_by_key(ResourceExt::creation_timestamp);
    Ok(pods)
}

/// The end of the log of its last pod; what that said by its status, where the log cannot be had.
async fn last_words(server: &Server, namespace: &str, pods: &[Pod]) -> Option<String> {
    let pod = pods.last()?;
    let container = pod.spec.as_ref()?.containers.first()?.name.clone();
    let said = logs::last_words(&server.client, namespace, &pod.name_any(), container, false).await;
    said.or_else(|| ailing(pod).and_then(|it| it.said))
}

#[cfg(test)]
mod tests {
    use super::super::super::children::tests::app_and_release;
    use super::*;

    fn release() -> Release {
        let (_, mut release) = app_and_release();
        let template = json!({
            "metadata": {"labels": {APP_LABEL: "web", "mine": "it"}},
            "spec": {"containers": [{"name": "smoke", "image": "smoke:1", "env": [{"name": "A", "value": "b"}]}]},
        });
        release.spec.gate.job = serde_json::from_value(json!({"template": template, "timeoutSeconds": 90})).unwrap();
        release
    }

    #[test]
    fn a_job_knows_what_it_is_about_ends_in_time_and_is_no_pod_of_the_app() {
        let made = job(&release(), "0a", 2).unwrap();
        assert_eq!(made.metadata.name.as_deref(), Some("web-1-gate-2-0"));
        let spec = made.spec.unwrap();
        assert_eq!((spec.active_deadline_seconds, spec.backoff_limit), (Some(90), Some(0)));
        let labels = spec.template.metadata.unwrap().labels.unwrap();
        assert_eq!(labels.into_keys().collect::<Vec<_>>(), ["mine"]);
        let pod = spec.template.spec.unwrap();
        let env = pod.containers[0].env.clone().unwrap();
        let told = |name: &str| env.iter().find(|it| it.name == name).and_then(|it| it.value.clone());
        assert_eq!((told("A"), told("TIDEGATE_SERVICE")), (Some("b".to_owned()), Some("web-0a".to_owned())));
        assert_eq!(pod.restart_policy.as_deref(), Some("Never"));
    }

    #[test]
    fn a_name_is_the_steps_own_and_short_enough() {
        let mut it = release();
        let first = name(&it, 2);
        it.spec.control.retries = 1;
        assert_ne!(name(&it, 2), first);
        it.metadata.name = Some("a".repeat(60));
        assert!(name(&it, 2).len() <= LONGEST && name(&it, 2) != name(&it, 3));
    }
}
