//! The hooks' containers beside an application's.
//!
//! ```text
//! init containers of the template → tidegate-before-start → tidegate-hooks ─────────────────────────────── told last
//!                                   ends before they start   beside them     their preStop waits for it ↗
//!                                                            └ readiness probe: beforeOnline has ended well
//! ```
//!
//! `tidegate-hooks` is a sidecar: an init container that stays (Kubernetes 1.29 or newer). The pod is ready only when it is,
//! and it is told to end after all others. When the pod is to go, the kubelet runs the preStop of all containers at once:
//! that of the sidecar does what beforeOffline says, and that of each other container asks the sidecar, which answers when
//! it is done. No container is told to end before its preStop has ended.

use serde_json::{Map, Value, json};

use crate::control::children::container_port;
use crate::control::resource::hooks::{Hooks, Offline};

/// The init container of `beforeStart`.
const BEFORE_START: &str = "tidegate-before-start";
/// The sidecar.
pub const SIDECAR: &str = "tidegate-hooks";

/// What Kubernetes gives a pod to end where its template says nothing, in seconds.
const GRACE: u64 = 30;
/// What is added to the time of beforeOffline, for the kubelet's own.
const ALLOWANCE: u64 = 5;

/// Puts what hooks need beside the containers of a template; `port` is the name of the App's.
pub(super) fn beside(template: &mut Value, hooks: &Hooks, port: &str) -> Result<(), String> {
    let app_port = container_port(template, port)
        .ok_or_else(|| format!("the template has no container port named {port:?}, whose opening is waited for"))?;
    let spec = template.pointer_mut("/spec").and_then(Value::as_object_mut).ok_or("the template has no spec")?;
    if ports(spec).any(|taken| taken == u64::from(hooks.port)) {
        return Err(format!("port {} is a container's own: give hooks another port", hooks.port));
    }
    let containers = init_containers(hooks, app_port);
    let init = list(spec, "initContainers")?;
    if let Some(taken) = init.iter().filter_map(name).find(|it| [BEFORE_START, SIDECAR].contains(it)) {
        return Err(format!("the template has an init container {taken} of its own"));
    }
    init.extend(containers);
    if let Some(offline) = &hooks.before_offline {
        waits(spec, hooks.port)?;
        extend_grace(spec, offline)?;
    }
    Ok(())
}

fn init_containers(hooks: &Hooks, app_port: u16) -> Vec<Value> {
    let mut all = Vec::new();
    if let Some(hook) = &hooks.before_start {
        all.push(container(hooks, BEFORE_START, vec!["hook".to_owned(), "run".to_owned(), text(hook)], []));
    }
    if hooks.before_online.is_none() && hooks.before_offline.is_none() {
        return all;
    }
    let mut args = vec!["hook".to_owned(), "serve".to_owned(), "--port".to_owned(), hooks.port.to_string()];
    if let Some(hook) = &hooks.before_online {
        args.extend(["--app-port".to_owned(), app_port.to_string(), "--before-online".to_owned(), text(hook)]);
    }
    if let Some(offline) = &hooks.before_offline {
        args.extend(["--before-offline".to_owned(), text(offline)]);
    }
    let probe = json!({"path": "/online", "port": hooks.port});
    let probe = json!({"httpGet": probe, "periodSeconds": 1, "timeoutSeconds": 2, "failureThreshold": 1});
    let stays = [Some(("restartPolicy", json!("Always"))), Some(("readinessProbe", probe))];
    let stop = hooks.before_offline.as_ref().map(|_| {
        let command = ["tidegate", "hook", "offline", "--port", &hooks.port.to_string()].map(str::to_owned);
        ("lifecycle", json!({"preStop": {"exec": {"command": command}}}))
    });
    all.push(container(hooks, SIDECAR, args, stays.into_iter().chain([stop]).flatten()));
    all
}

fn container(
    hooks: &Hooks,
    name: &str,
    args: Vec<String>,
    more: impl IntoIterator<Item = (&'static str, Value)>,
) -> Value {
    let of_pod = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
    // What `$(POD_IP)` and the like in args stand for.
    let env = json!([
        of_pod("POD_IP", "status.podIP"),
        of_pod("POD_NAME", "metadata.name"),
        of_pod("POD_NAMESPACE", "metadata.namespace"),
    ]);
    let fields = [
        ("name", json!(name)),
        ("image", json!(hooks.image)),
        ("command", json!(["tidegate"])),
        ("args", json!(args)),
        ("env", env),
        // An autoscaler that goes by processors knows no pod of which a container asks for none.
        ("resources", json!({"requests": {"cpu": "10m", "memory": "32Mi"}})),
        ("securityContext", json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}})),
    ];
    fields.into_iter().chain(more).map(|(key, value)| (key.to_owned(), value)).collect()
}

fn text(hook: &impl serde::Serialize) -> String {
    // Of strings and numbers: it can be written.
    serde_json::to_string(hook).unwrap_or_default()
}

/// Lets every container wait for the sidecar before it is told to end.
fn waits(spec: &mut Map<String, Value>, port: u16) -> Result<(), String> {
    for container in list(spec, "containers")? {
        let name = name(container).unwrap_or("without a name").to_owned();
        let container = container.as_object_mut().ok_or("the template has a container that is no object")?;
        let lifecycle = container.entry("lifecycle").or_insert_with(|| json!({}));
        let lifecycle = lifecycle.as_object_mut().ok_or("the template has a lifecycle that is no object")?;
        if lifecycle.contains_key("preStop") {
            return Err(format!(
                "container {name} has a preStop of its own, in whose place beforeOffline waits: say there what it does"
            ));
        }
        lifecycle.insert("preStop".to_owned(), json!({"httpGet": {"path": "/offline", "port": port}}));
    }
    Ok(())
}

/// What a pod has to end in is what it had, and the time of beforeOffline before that.
fn extend_grace(spec: &mut Map<String, Value>, offline: &Offline) -> Result<(), String> {
    const KEY: &str = "terminationGracePeriodSeconds";
    let own = match spec.get(KEY) {
        None => GRACE,
        Some(given) => given.as_u64().filter(|it| *it > 0).ok_or_else(|| {
            format!(
                "the template's {KEY} is {given}, which leaves no time for beforeOffline: give whole seconds above 0"
            )
        })?,
    };
    let needed = offline.timeout().as_secs().saturating_add(offline.wait().as_secs()).saturating_add(ALLOWANCE);
    spec.insert(KEY.to_owned(), own.saturating_add(needed).into());
    Ok(())
}

fn list<'a>(spec: &'a mut Map<String, Value>, key: &str) -> Result<&'a mut Vec<Value>, String> {
    let found = spec.entry(key).or_insert_with(|| json!([]));
    found.as_array_mut().ok_or_else(|| format!("the template's {key} are no list"))
}

fn name(container: &Value) -> Option<&str> {
    container.get("name")?.as_str()
}

/// The ports that a template's containers say they have.
fn ports(spec: &Map<String, Value>) -> impl Iterator<Item = u64> {
    let containers = ["containers", "initContainers"].into_iter().filter_map(|it| spec.get(it)?.as_array()).flatten();
    let ports = containers.filter_map(|it| it.get("ports")?.as_array()).flatten();
    ports.filter_map(|it| it.get("containerPort")?.as_u64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template() -> Value {
        json!({"spec": {
            "initContainers": [{"name": "migrate", "image": "m:1"}],
            "containers": [{"name": "web", "image": "web:1", "ports": [{"name": "http", "containerPort": 8080}]}, {"name": "log"}],
        }})
    }

    fn with(hooks: Value) -> Result<Value, String> {
        let mut made = template();
        let mut all = json!({"image": "tidegate:1"});
        all.as_object_mut().unwrap().extend(hooks.as_object().unwrap().clone());
        beside(&mut made, &serde_json::from_value(all).unwrap(), "http")?;
        Ok(made)
    }

    fn names(made: &Value) -> Vec<&str> {
        made["spec"]["initContainers"].as_array().unwrap().iter().filter_map(name).collect()
    }

    #[test]
    fn a_hook_before_the_start_is_the_last_init_container_and_runs_to_its_end() {
        let hook = json!({"command": ["register", "$(POD_IP)"], "timeoutSeconds": 9});
        let made = with(json!({"beforeStart": hook})).unwrap();
        assert_eq!(names(&made), ["migrate", BEFORE_START]);
        let it = &made["spec"]["initContainers"][1];
        assert_eq!(it.get("restartPolicy"), None);
        assert_eq!((&it["args"][0], &it["args"][1]), (&json!("hook"), &json!("run")));
        assert_eq!(serde_json::from_str::<Value>(it["args"][2].as_str().unwrap()).unwrap(), hook);
        let mut rest = made.clone();
        rest["spec"]["initContainers"].as_array_mut().unwrap().pop();
        assert_eq!(rest, template(), "the application's own containers are as they were");
    }

    #[test]
    fn a_hook_before_the_pod_is_online_holds_its_readiness_in_a_sidecar() {
        let made = with(json!({"beforeOnline": {"http": {"url": "http://$(POD_IP):8080/warm"}}})).unwrap();
        assert_eq!(names(&made), ["migrate", SIDECAR]);
        let it = &made["spec"]["initContainers"][1];
        assert_eq!(
            (&it["restartPolicy"], &it["readinessProbe"]["httpGet"]["path"]),
            (&json!("Always"), &json!("/online"))
        );
        assert_eq!(it.get("startupProbe"), None, "containers must not wait for what waits for them");
        assert_eq!(it.get("lifecycle"), None);
        assert_eq!(made["spec"]["containers"], template()["spec"]["containers"]);
        assert_eq!(made["spec"].get("terminationGracePeriodSeconds"), None);
    }

    #[test]
    fn before_a_pod_is_offline_its_containers_wait_for_the_sidecar_and_the_grace_period_has_room_for_that() {
        let offline = json!({"beforeOffline": {"http": {"url": "http://127.0.0.1:8080/leave"}, "timeoutSeconds": 7, "refreshSeconds": 20}});
        let made = with(offline.clone()).unwrap();
        let sidecar = &made["spec"]["initContainers"][1];
        let told = &sidecar["lifecycle"]["preStop"]["exec"]["command"];
        assert_eq!(*told, json!(["tidegate", "hook", "offline", "--port", "9911"]));
        for container in made["spec"]["containers"].as_array().unwrap() {
            assert_eq!(container["lifecycle"]["preStop"]["httpGet"], json!({"path": "/offline", "port": 9911}));
        }
        assert_eq!(made["spec"]["terminationGracePeriodSeconds"], 30 + 7 + 2 * 20 + 5);
        let mut own = template();
        own["spec"]["terminationGracePeriodSeconds"] = json!(100);
        let hooks: Hooks =
            serde_json::from_value(json!({"image": "t", "beforeOffline": offline["beforeOffline"]})).unwrap();
        beside(&mut own, &hooks, "http").unwrap();
        assert_eq!(own["spec"]["terminationGracePeriodSeconds"], 100 + 7 + 2 * 20 + 5);
        own = template();
        own["spec"]["terminationGracePeriodSeconds"] = json!(0);
        assert!(beside(&mut own, &hooks, "http").unwrap_err().contains("leaves no time"));
        own = template();
        own["spec"]["containers"][1]["lifecycle"] = json!({"preStop": {"exec": {"command": ["x"]}}});
        assert!(beside(&mut own, &hooks, "http").unwrap_err().contains("container log has a preStop of its own"));
    }

    #[test]
    fn a_port_or_a_name_that_is_taken_and_an_app_without_its_port_are_refused() {
        let hook = json!({"command": ["x"]});
        assert!(with(json!({"port": 8080, "beforeStart": hook})).unwrap_err().contains("port 8080"));
        let hooks: Hooks = serde_json::from_value(json!({"image": "t", "beforeStart": hook})).unwrap();
        assert!(beside(&mut template(), &hooks, "grpc").unwrap_err().contains("\"grpc\""));
        let mut taken = template();
        beside(&mut taken, &hooks, "http").unwrap();
        assert!(beside(&mut taken, &hooks, "http").unwrap_err().contains(BEFORE_START));
    }
}
