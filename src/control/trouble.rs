//! What is wrong with pods, told apart.

use k8s_openapi::api::core::v1::{ContainerState, ContainerStateTerminated, ContainerStatus, Pod, PodStatus};
use kube::ResourceExt;

use super::plan::{Ailing, LogOf};
use super::resource::failure::FailureCause;
use super::resource::moment::Moment;
use super::template::SIDECAR;

/// How much of what a container said at its end is kept.
const KEPT: usize = 300;

/// What is known of one container, or of the pod as a whole.
struct Found {
    cause: FailureCause,
    /// Whether it has failed, however long that is so.
    certain: bool,
    why: String,
    log: Option<LogOf>,
    said: Option<String>,
}

/// Why a pod is not ready; `None` where it is, or goes.
pub(super) fn ailing(pod: &Pod) -> Option<Ailing> {
    let status = pod.status.clone().unwrap_or_default();
    let condition = |kind: &str| status.conditions.iter().flatten().find(|it| it.type_ == kind);
    let ready = condition("Ready");
    if pod.metadata.deletion_timestamp.is_some() || ready.is_some_and(|it| it.status == "True") {
        return None;
    }
    let Found { cause, certain, why, log, said } = of_pod(pod, &status);
    let created = pod.creation_timestamp().map(|at| Moment::from(at.0));
    // A pod that was ready is not ready since then, one that never was since it is there.
    let since = ready.and_then(|it| it.last_transition_time.as_ref()).map(|at| Moment::from(at.0)).or(created);
    Some(Ailing {
        name: pod.name_any(),
        uid: pod.uid().unwrap_or_default(),
        created,
        since,
        cause,
        certain,
        why,
        log,
        said,
    })
}

fn of_pod(pod: &Pod, status: &PodStatus) -> Found {
    let holds =
        |kind: &str, word: &str| status.conditions.iter().flatten().find(|it| it.type_ == kind && it.status == word);
    if let Some(refused) = holds("PodScheduled", "False") {
        let why = format!("no node takes it ({})", refused.message.as_deref().unwrap_or("no reason given"));
        return Found::of_pod(FailureCause::Unschedulable, false, why);
    }
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or("it was on");
    if let Some(reason) = status.reason.as_deref().filter(|it| ["NodeLost", "Evicted", "Shutdown"].contains(it)) {
        let message = status.message.as_deref().map(|it| format!(": {it}")).unwrap_or_default();
        return Found::of_pod(FailureCause::NodeGone, true, format!("node {node} gave it up, {reason}{message}"));
    }
    let init = status.init_container_statuses.iter().flatten().filter(|it| !it.ready);
    let (sidecars, init): (Vec<_>, Vec<_>) = init.partition(|it| is_sidecar(pod, &it.name));
    let init = init.into_iter().find_map(of_init_container);
    let sidecar = || sidecars.iter().find_map(|it| of_sidecar_state(it));
    let main = || status.container_statuses.iter().flatten().find_map(|it| of_container(pod, it));
    if let Some(found) = init.or_else(sidecar).or_else(main) {
        return found;
    }
    // The node's containers are ready, and the pod is not: so it is marked when a node no longer reports.
    let gates = holds("Ready", "False").is_some_and(|it| it.reason.as_deref() == Some("ReadinessGatesNotReady"));
    if holds("ContainersReady", "True").is_some() && holds("Ready", "False").is_some() && !gates {
        return Found::of_pod(FailureCause::NodeGone, true, format!("node {node} does not answer"));
    }
    let unready = status.container_statuses.iter().flatten().find(|it| !it.ready && it.started == Some(true));
    match unready {
        Some(it) => Found {
            log: Some(LogOf { container: it.name.clone(), previous: false, restarts: it.restart_count }),
            ..Found::of_pod(FailureCause::NotReady, false, format!("container {} runs and is not ready", it.name))
        },
        // What waits for the containers comes after them.
        None => sidecars
            .into_iter()
            .find_map(of_running_sidecar)
            .unwrap_or_else(|| Found::of_pod(FailureCause::Starting, false, "it has not started".to_owned())),
    }
}

/// Whether it is an init container that stays.
fn is_sidecar(pod: &Pod, name: &str) -> bool {
    let mut init = pod.spec.iter().flat_map(|spec| spec.init_containers.iter().flatten());
    init.any(|it| it.name == name && it.restart_policy.as_deref() == Some("Always"))
}

/// A sidecar that does not run; of ours: because the hook before its pod is online has failed.
fn of_sidecar_state(status: &ContainerStatus) -> Option<Found> {
    let failed = of_state("sidecar", status)?;
    let ours = status.name == SIDECAR && failed.cause == FailureCause::CrashLoop;
    let cause = if ours { FailureCause::Hook } else { failed.cause };
    Some(Found { cause, ..failed })
}

/// A sidecar that runs and is not ready; of ours: because the hook before its pod is online has not ended.
fn of_running_sidecar(status: &ContainerStatus) -> Option<Found> {
    let name = &status.name;
    let running = status.state.as_ref()?.running.as_ref()?;
    let since = running.started_at.as_ref().map(|at| format!(", since {}", Moment::from(at.0))).unwrap_or_default();
    let (cause, why) = match name == SIDECAR {
        true => (FailureCause::Hook, format!("its hook beforeOnline has not ended (container {name}){since}")),
        false => (FailureCause::NotReady, format!("sidecar {name} runs and is not ready{since}")),
    };
    let log = Some(LogOf { container: name.clone(), previous: false, restarts: status.restart_count });
    Some(Found { log, ..Found::of_pod(cause, false, why) })
}

/// An init container that fails, or has not ended: then the others wait for it.
fn of_init_container(status: &ContainerStatus) -> Option<Found> {
    let name = &status.name;
    let failed = of_state("init container", status);
    if let Some(failed) = failed {
        let cause = match failed.cause {
            FailureCause::CrashLoop => FailureCause::Hook,
            other => other,
        };
        return Some(Found { cause, ..failed });
    }
    let running = status.state.as_ref()?.running.as_ref()?;
    let since = running.started_at.as_ref().map(|at| format!(", since {}", Moment::from(at.0))).unwrap_or_default();
    Some(Found {
        log: Some(LogOf { container: name.clone(), previous: false, restarts: status.restart_count }),
        ..Found::of_pod(FailureCause::Hook, false, format!("init container {name} does not end{since}"))
    })
}

fn of_container(pod: &Pod, status: &ContainerStatus) -> Option<Found> {
    let name = &status.name;
    if let Some(found) = of_state("container", status) {
        return Some(found);
    }
    let waiting = status.state.as_ref()?.waiting.as_ref()?;
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let hook = containers.filter(|it| it.name == *name).find_map(|it| it.lifecycle.as_ref()?.post_start.as_ref());
    // A container is shown as running only when its postStart hook has ended, and its log cannot be read before.
    let creating = matches!(waiting.reason.as_deref(), Some("ContainerCreating"));
    (creating && hook.is_some()).then(|| {
        let why = format!("container {name} is not shown as running: its postStart hook has not ended, or its image or a volume is not there yet");
        Found::of_pod(FailureCause::Hook, false, why)
    })
}

/// What a container's state says beyond that it takes its time.
fn of_state(kind: &str, status: &ContainerStatus) -> Option<Found> {
    let name = &status.name;
    let state = status.state.as_ref();
    let ended = |state: Option<&ContainerState>| state.and_then(|it| it.terminated.clone());
    let now = ended(state).filter(|it| it.exit_code != 0);
    let last = now.clone().or_else(|| ended(status.last_state.as_ref()));
    let said = last.as_ref().and_then(|it| it.message.as_deref()).map(one_line).filter(|it| !it.is_empty());
    let killed = last.as_ref().is_some_and(|it| it.reason.as_deref() == Some("OOMKilled"));
    let crash = if killed { FailureCause::OutOfMemory } else { FailureCause::CrashLoop };
    let found = |cause, why: String, previous: bool| {
        let log = Some(LogOf { container: name.clone(), previous, restarts: status.restart_count });
        Some(Found { cause, certain: true, why, log, said: said.clone() })
    };
    if let Some(waiting) = state.and_then(|it| it.waiting.as_ref()) {
        let message = waiting.message.as_deref().map(|it| format!(": {}", one_line(it))).unwrap_or_default();
        return match waiting.reason.as_deref().unwrap_or_default() {
            "ImagePullBackOff" | "ErrImagePull" | "InvalidImageName" | "ErrImageNeverPull" => {
                let why = format!("the image of {kind} {name} cannot be pulled{message}");
                Some(Found::of_pod(FailureCause::ImagePull, true, why))
            }
            "PostStartHookError" => {
                found(FailureCause::Hook, format!("the postStart hook of {kind} {name} fails{message}"), true)
            }
            "CrashLoopBackOff" => {
                let exit = last.as_ref().map(|it| format!(", it {}", end_of(it))).unwrap_or_default();
                let why = format!("{kind} {name} crashes again and again, {} restarts{exit}", status.restart_count);
                found(crash, why, true)
            }
            "ContainerCreating" | "PodInitializing" | "" => None,
            reason => {
                let why = format!("{kind} {name} does not start, {reason}{message}");
                Some(Found::of_pod(FailureCause::Config, true, why))
            }
        };
    }
    now.and_then(|it| found(crash, format!("{kind} {name} {}", end_of(&it)), false))
}

fn end_of(ended: &ContainerStateTerminated) -> String {
    match ended.reason.as_deref() {
        Some("OOMKilled") => "was killed for its memory".to_owned(),
        _ => format!("ended with exit code {}", ended.exit_code),
    }
}

/// The end of a text, in one line.
pub(super) fn one_line(text: &str) -> String {
    let line: Vec<&str> = text.lines().map(str::trim).filter(|it| !it.is_empty()).collect();
    let line: String = line.join(" | ").chars().filter(|it| !it.is_control()).collect();
    let beyond = line.chars().count().saturating_sub(KEPT);
    line.chars().skip(beyond).collect()
}

// === impl Found ===

impl Found {
    fn of_pod(cause: FailureCause, certain: bool, why: String) -> Self {
        Self { cause, certain, why, log: None, said: None }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(status: &Value) -> Pod {
        let container = json!({"name": "web", "lifecycle": {"postStart": {"exec": {"command": ["register"]}}}});
        serde_json::from_value(json!({
            "metadata": {"name": "p", "uid": "u"}, "spec": {"nodeName": "n-1", "containers": [container]}, "status": status,
        }))
        .unwrap()
    }

    fn container(state: &Value, last: &Value) -> Value {
        json!({"name": "web", "image": "i", "imageID": "", "ready": false, "restartCount": 5, "state": state, "lastState": last})
    }

    fn main(state: &Value, last: &Value) -> Value {
        json!({"containerStatuses": [container(state, last)]})
    }

    #[test]
    fn kinds_of_trouble_are_told_apart() {
        use FailureCause::*;
        let none = json!({});
        let waiting = |reason: &str| json!({"waiting": {"reason": reason}});
        let ended = |reason: &str, code: i32| json!({"terminated": {"reason": reason, "exitCode": code}});
        let condition = |kind: &str, status: &str| json!({"type": kind, "status": status, "message": "0/3 nodes"});
        let init = |state: &Value| json!({"initContainerStatuses": [container(state, &none)]});
        let crash = waiting("CrashLoopBackOff");
        for (status, cause, certain, said) in [
            (main(&waiting("ImagePullBackOff"), &none), ImagePull, true, "cannot be pulled"),
            (
                main(&crash, &ended("Error", 3)),
                CrashLoop,
                true,
                "crashes again and again, 5 restarts, it ended with exit code 3",
            ),
            (main(&crash, &ended("OOMKilled", 137)), OutOfMemory, true, "killed for its memory"),
            (
                main(&waiting("CreateContainerConfigError"), &none),
                Config,
                true,
                "does not start, CreateContainerConfigE",
            ),
            (main(&ended("Error", 2), &none), CrashLoop, true, "ended with exit code 2"),
            (main(&waiting("PostStartHookError"), &none), Hook, true, "the postStart hook of container web fails"),
            (main(&waiting("ContainerCreating"), &none), Hook, false, "postStart hook has not ended"),
            (
                init(&json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}})),
                Hook,
                false,
                "init container web does not end, since 2026-01-01T00:00:00Z",
            ),
            (init(&ended("Error", 1)), Hook, true, "init container web ended with exit code 1"),
            (json!({"conditions": [condition("PodScheduled", "False")]}), Unschedulable, false, "takes it (0/3 nodes)"),
            (json!({"reason": "NodeLost"}), NodeGone, true, "node n-1 gave it up, NodeLost"),
            (
                json!({"conditions": [condition("Ready", "False"), condition("ContainersReady", "True")]}),
                NodeGone,
                true,
                "node n-1 does not answer",
            ),
            (json!({}), Starting, false, "has not started"),
        ] {
            let found = ailing(&pod(&status)).unwrap();
            assert!(found.why.contains(said), "{found:?}");
            assert_eq!((found.cause, found.certain), (cause, certain), "{found:?}");
        }
    }

    #[test]
    fn a_hook_that_holds_a_pod_is_told_from_the_application_that_does() {
        let running = json!({"running": {"startedAt": "2026-01-01T00:00:00Z"}});
        let pod = |sidecar: &str, state: &Value, app: Value| -> Pod {
            let mut of_sidecar = container(state, &json!({}));
            of_sidecar["name"] = json!(sidecar);
            let init = json!({"name": sidecar, "restartPolicy": "Always"});
            serde_json::from_value(json!({
                "metadata": {"name": "p", "uid": "u"}, "spec": {"initContainers": [init], "containers": [{"name": "web"}]},
                "status": {"initContainerStatuses": [of_sidecar], "containerStatuses": [app]},
            }))
            .unwrap()
        };
        let app = |ready: bool| {
            let mut it = container(&running, &json!({}));
            (it["ready"], it["started"]) = (json!(ready), json!(true));
            it
        };
        let failed = json!({"terminated": {"reason": "Error", "exitCode": 1}});
        let crash = container(&json!({"waiting": {"reason": "CrashLoopBackOff"}}), &json!({}));
        for (sidecar, state, app, cause, said) in [
            (SIDECAR, &running, app(true), FailureCause::Hook, "hook beforeOnline has not ended"),
            (SIDECAR, &running, app(false), FailureCause::NotReady, "container web runs and is not ready"),
            (SIDECAR, &running, crash, FailureCause::CrashLoop, "container web crashes"),
            (SIDECAR, &failed, app(true), FailureCause::Hook, "sidecar tidegate-hooks ended with exit code 1"),
            ("mesh", &running, app(true), FailureCause::NotReady, "sidecar mesh runs and is not ready"),
        ] {
            let found = ailing(&pod(sidecar, state, app)).unwrap();
            assert!(found.why.contains(said), "{found:?}");
            assert_eq!(found.cause, cause, "{found:?}");
        }
    }

    #[test]
    fn a_pod_that_is_ready_or_goes_has_no_trouble_and_one_that_ended_says_its_last_words() {
        let ready = json!({"conditions": [{"type": "Ready", "status": "True"}]});
        assert_eq!(ailing(&pod(&ready)), None);
        let crashed =
            json!({"terminated": {"reason": "Error", "exitCode": 1, "message": "no database\n at db:5432\n"}});
        let mut crashed = pod(&main(&crashed, &json!({})));
        let found = ailing(&crashed).unwrap();
        assert_eq!(found.said.as_deref(), Some("no database | at db:5432"));
        assert_eq!(found.log, Some(LogOf { container: "web".to_owned(), previous: false, restarts: 5 }));
        crashed.metadata.deletion_timestamp = Some(serde_json::from_str("\"2026-01-01T00:00:00Z\"").unwrap());
        assert_eq!(ailing(&crashed), None);
    }
}
