//! What is wrong with pods, told apart, in people's words.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod};

/// Kinds of trouble that are shown; the rest is counted.
const SHOWN: usize = 3;

/// What keeps these pods from being ready, the most frequent first; `None` where nothing is known.
pub(super) fn trouble<'a>(pods: impl IntoIterator<Item = &'a Pod>) -> Option<String> {
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for why in pods.into_iter().filter_map(of_pod) {
        *kinds.entry(why).or_default() += 1;
    }
    let mut kinds: Vec<(usize, String)> = kinds.into_iter().map(|(why, count)| (count, why)).collect();
    kinds.sort_by(|(a, x), (b, y)| b.cmp(a).then_with(|| x.cmp(y)));
    let shown: Vec<String> = kinds.iter().take(SHOWN).map(|(count, why)| format!("{count} pods: {why}")).collect();
    (!shown.is_empty()).then(|| shown.join("; "))
}

fn of_pod(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    if pod.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let refused = conditions.iter().find(|it| it.type_ == "PodScheduled" && it.status == "False");
    if let Some(refused) = refused {
        return Some(format!("no node takes it ({})", refused.message.as_deref().unwrap_or("no reason given")));
    }
    let init = status.init_container_statuses.as_deref().unwrap_or_default();
    let main = status.container_statuses.as_deref().unwrap_or_default();
    let of_init = init.iter().filter(|it| !it.ready).find_map(|it| of_container("init container", it));
    if let Some(why) = of_init.or_else(|| main.iter().find_map(|it| of_container("container", it))) {
        return Some(why);
    }
    if status.reason.as_deref() == Some("NodeLost") {
        return Some("its node is gone".to_owned());
    }
    let unready = main.iter().find(|it| !it.ready && it.started == Some(true))?;
    Some(format!("container {} runs and is not ready", unready.name))
}

fn of_container(kind: &str, status: &ContainerStatus) -> Option<String> {
    let name = &status.name;
    let state = status.state.as_ref();
    let ended = |state: Option<&ContainerState>| state.and_then(|it| it.terminated.clone());
    let last = ended(status.last_state.as_ref()).or_else(|| ended(state));
    let exit = last.map(|it| match it.reason.as_deref() {
        Some("OOMKilled") => "was killed for its memory".to_owned(),
        _ => format!("ended with exit code {}", it.exit_code),
    });
    if let Some(waiting) = state.and_then(|it| it.waiting.as_ref()) {
        let message = waiting.message.as_deref().map(|it| format!(": {it}")).unwrap_or_default();
        return match waiting.reason.as_deref().unwrap_or_default() {
            "ImagePullBackOff" | "ErrImagePull" | "InvalidImageName" => {
                Some(format!("the image of {kind} {name} cannot be pulled{message}"))
            }
            "CrashLoopBackOff" => {
                let exit = exit.map(|it| format!(", it {it}")).unwrap_or_default();
                Some(format!("{kind} {name} crashes again and again, {} restarts{exit}", status.restart_count))
            }
            "ContainerCreating" | "PodInitializing" | "" => None,
            reason => Some(format!("{kind} {name} does not start, {reason}{message}")),
        };
    }
    let terminated = state.and_then(|it| it.terminated.as_ref())?;
    (terminated.exit_code != 0).then(|| format!("{kind} {name} {}", exit.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(status: Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p"}, "status": status})).unwrap()
    }

    fn container(state: Value, last: Value) -> Value {
        json!({"containerStatuses": [{
            "name": "web", "image": "i", "imageID": "", "ready": false, "restartCount": 5, "state": state, "lastState": last,
        }]})
    }

    #[test]
    fn kinds_of_trouble_are_told_apart() {
        let none = json!({});
        let waiting = |reason: &str| json!({"waiting": {"reason": reason}});
        let ended = |reason: &str, code: i32| json!({"terminated": {"reason": reason, "exitCode": code}});
        for (status, said) in [
            (container(waiting("ImagePullBackOff"), none.clone()), "cannot be pulled"),
            (
                container(waiting("CrashLoopBackOff"), ended("Error", 3)),
                "crashes again and again, 5 restarts, it ended with exit code 3",
            ),
            (container(waiting("CrashLoopBackOff"), ended("OOMKilled", 137)), "killed for its memory"),
            (
                container(waiting("CreateContainerConfigError"), none.clone()),
                "does not start, CreateContainerConfigError",
            ),
            (container(ended("Error", 2), none.clone()), "ended with exit code 2"),
            (
                json!({"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/3 nodes"}]}),
                "no node takes it (0/3 nodes)",
            ),
        ] {
            let found = trouble(&[pod(status)]).unwrap();
            assert!(found.contains(said), "{found}");
        }
    }

    #[test]
    fn what_only_takes_its_time_is_no_trouble_and_the_most_frequent_comes_first() {
        let starting = pod(container(json!({"waiting": {"reason": "ContainerCreating"}}), json!({})));
        assert_eq!(trouble(std::slice::from_ref(&starting)), None);
        let pulled = || pod(container(json!({"waiting": {"reason": "ErrImagePull"}}), json!({})));
        let crashed = pod(container(json!({"waiting": {"reason": "CrashLoopBackOff"}}), json!({})));
        let found = trouble(&[crashed, pulled(), starting, pulled()]).unwrap();
        assert!(found.starts_with("2 pods: the image"), "{found}");
    }
}
