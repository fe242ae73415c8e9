//! What is wrong with a service's pool, from what the cluster shows. No I/O.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::core::v1::{Pod, Service, ServicePort};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// What the cluster shows of a service.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) service: Option<Service>,
    pub(super) selector: BTreeMap<String, String>,
    /// Those that the selector means.
    pub(super) pods: Vec<Pod>,
    /// All of the namespace, to tell a wrong selector from no pods.
    pub(super) pods_of_namespace: usize,
    pub(super) slices: Vec<EndpointSlice>,
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// Nothing wrong.
    Good(String),
    /// Worth knowing.
    Note(String),
    /// Leaves the pool without an endpoint.
    Bad(String),
}

// === impl Finding ===

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Good(text) => write!(f, "ok    {text}"),
            Self::Note(text) => write!(f, "note  {text}"),
            Self::Bad(text) => write!(f, "bad   {text}"),
        }
    }
}

/// Explains a pool: the first thing that leaves it empty is the last that is said.
pub(super) fn explain(seen: &Seen, port: &str, six: bool) -> Vec<Finding> {
    let Some(service) = &seen.service else {
        return vec![Finding::Bad("there is no Service of this name in the namespace".to_owned())];
    };
    let mut findings = vec![Finding::Good("the Service is there".to_owned())];
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.clone()).unwrap_or_default();
    let named = ports.iter().find(|it| it.name.as_deref() == Some(port));
    let unnamed = ports.iter().find(|it| it.name.as_deref().unwrap_or_default().is_empty());
    let Some(service_port) = named.or_else(|| unnamed.filter(|_| port.parse::<u16>().is_ok())) else {
        let names: Vec<_> = ports.iter().map(|it| it.name.clone().unwrap_or_else(|| it.port.to_string())).collect();
        findings.push(Finding::Bad(format!("the Service has no port {port}: its ports are {}", names.join(", "))));
        return findings;
    };
    findings.push(Finding::Good(format!("it has the port {port}")));
    if seen.selector.is_empty() {
        findings.push(Finding::Note("it has no selector: its EndpointSlices are written by somebody else".to_owned()));
    } else {
        findings.extend(explain_pods(seen, service_port));
    }
    if findings.iter().any(|finding| matches!(finding, Finding::Bad(_))) {
        return findings;
    }
    findings.push(explain_slices(seen, port, six));
    findings
}

fn explain_pods(seen: &Seen, port: &ServicePort) -> Vec<Finding> {
    let selector: Vec<_> = seen.selector.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let selector = selector.join(",");
    if seen.pods.is_empty() {
        let others = seen.pods_of_namespace;
        let text = format!("its selector {selector} means no pod; the namespace has {others} that it does not mean");
        return vec![Finding::Bad(text)];
    }
    let mut findings = vec![Finding::Good(format!("its selector {selector} means {} pods", seen.pods.len()))];
    if let Some(IntOrString::String(name)) = &port.target_port
        && !seen.pods.iter().any(|pod| has_port(pod, name))
    {
        let text = format!("its targetPort is {name:?}, and no container of these pods has a port of this name");
        findings.push(Finding::Bad(text));
        return findings;
    }
    let publishes_all =
        seen.service.as_ref().and_then(|it| it.spec.as_ref()?.publish_not_ready_addresses) == Some(true);
    let mut reasons: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for pod in &seen.pods {
        let name = pod.metadata.name.as_deref().unwrap_or("?");
        reasons.entry(why_not_ready(pod).unwrap_or_default()).or_default().push(name);
    }
    let ready = reasons.remove("").unwrap_or_default().len();
    for (reason, pods) in &reasons {
        let shown: Vec<_> = pods.iter().take(5).copied().collect();
        let more = if pods.len() > shown.len() { ", …" } else { "" };
        findings.push(Finding::Note(format!("{} not ready: {reason} ({}{more})", pods.len(), shown.join(", "))));
    }
    findings.push(match (ready, publishes_all) {
        (0, false) => Finding::Bad("no pod of it is ready".to_owned()),
        (0, true) => {
            Finding::Note("no pod of it is ready, and publishNotReadyAddresses takes them all the same".to_owned())
        }
        (ready, _) => Finding::Good(format!("{ready} pods of it are ready")),
    });
    findings
}

fn has_port(pod: &Pod, name: &str) -> bool {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    containers.flat_map(|it| it.ports.iter().flatten()).any(|port| port.name.as_deref() == Some(name))
}

/// Why a pod takes no requests; `None` for one that does.
fn why_not_ready(pod: &Pod) -> Option<String> {
    if pod.metadata.deletion_timestamp.is_some() {
        return Some("terminating".to_owned());
    }
    let Some(status) = &pod.status else { return Some("no status yet".to_owned()) };
    if let Some(phase @ ("Failed" | "Succeeded")) = status.phase.as_deref() {
        return Some(format!("phase {phase}"));
    }
    if pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref()).is_none() {
        return Some("not placed on a node".to_owned());
    }
    let containers = status.container_statuses.iter().flatten();
    let waiting = containers.filter_map(|it| it.state.as_ref()?.waiting.as_ref()?.reason.clone()).next();
    if let Some(reason) = waiting {
        return Some(reason);
    }
    if status.pod_ip.as_deref().unwrap_or_default().is_empty() {
        return Some("no address yet".to_owned());
    }
    let ready = status.conditions.iter().flatten().find(|it| it.type_ == "Ready");
    match ready {
        Some(condition) if condition.status == "True" => None,
        Some(condition) => Some(condition.reason.clone().unwrap_or_else(|| "its readiness probe fails".to_owned())),
        None => Some("no readiness yet".to_owned()),
    }
}

fn explain_slices(seen: &Seen, port: &str, six: bool) -> Finding {
    let family = if six { "IPv6" } else { "IPv4" };
    let of_family = seen.slices.iter().filter(|slice| slice.address_type == family);
    let has = |slice: &&EndpointSlice| {
        let named = |it: &k8s_openapi::api::discovery::v1::EndpointPort| match it.name.as_deref().unwrap_or_default() {
            "" => it.port.is_some_and(|number| number.to_string() == port),
            name => name == port,
        };
        slice.ports.iter().flatten().any(named)
    };
    let endpoints = of_family.filter(has).flat_map(|slice| slice.endpoints.iter().flatten());
    let ready = endpoints.filter(|it| it.conditions.as_ref().and_then(|it| it.ready).unwrap_or(true)).count();
    match ready {
        0 if seen.slices.is_empty() => {
            Finding::Bad("it has no EndpointSlice: is the controller-manager running?".to_owned())
        }
        0 => Finding::Bad(format!("its EndpointSlices have no ready {family} endpoint with the port {port}")),
        ready => {
            Finding::Good(format!("its EndpointSlices have {ready} ready {family} endpoints with the port {port}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn seen(service: Value, pods: Vec<Value>, slices: Vec<Value>) -> Seen {
        let service: Service = serde_json::from_value(service).unwrap();
        let selector = service.spec.as_ref().unwrap().selector.clone().unwrap_or_default();
        Seen {
            service: Some(service),
            selector,
            pods: pods.into_iter().map(|it| serde_json::from_value(it).unwrap()).collect(),
            pods_of_namespace: 3,
            slices: slices.into_iter().map(|it| serde_json::from_value(it).unwrap()).collect(),
        }
    }

    fn service() -> Value {
        json!({"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"},
               "ports": [{"name": "http", "port": 80, "targetPort": "http"}]}})
    }

    fn pod(name: &str, ready: bool, waiting: Option<&str>) -> Value {
        let state = waiting.map_or(json!({"running": {}}), |reason| json!({"waiting": {"reason": reason}}));
        json!({"metadata": {"name": name},
               "spec": {"nodeName": "n", "containers": [{"name": "it", "ports": [{"name": "http", "containerPort": 8080}]}]},
               "status": {"podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }, "reason": "ContainersNotReady"}],
                          "containerStatuses": [{"name": "it", "image": "", "imageID": "", "ready": ready, "restartCount": 0, "state": state}]}})
    }

    fn slice(ready: bool) -> Value {
        json!({"metadata": {"name": "s"}, "addressType": "IPv4", "ports": [{"name": "http", "port": 8080}],
               "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": ready}}]})
    }

    fn last(seen: &Seen) -> String {
        explain(seen, "http", false).pop().unwrap().to_string()
    }

    #[test]
    fn each_reason_for_an_empty_pool_is_named() {
        assert!(last(&Seen::default()).contains("no Service of this name"));
        let other_port = json!({"metadata": {}, "spec": {"ports": [{"name": "grpc", "port": 1}]}});
        assert!(last(&seen(other_port, vec![], vec![])).contains("its ports are grpc"));
        assert!(last(&seen(service(), vec![], vec![])).contains("app=web means no pod; the namespace has 3"));
        let mut wrong = service();
        wrong["spec"]["ports"][0]["targetPort"] = json!("htpp");
        assert!(last(&seen(wrong, vec![pod("a", true, None)], vec![])).contains("targetPort is \"htpp\""));
        let crashing = seen(service(), vec![pod("a", false, Some("CrashLoopBackOff"))], vec![slice(false)]);
        let told: Vec<_> = explain(&crashing, "http", false).iter().map(Finding::to_string).collect();
        assert!(told.iter().any(|it| it.contains("1 not ready: CrashLoopBackOff (a)")), "{told:?}");
        assert_eq!(told.last().unwrap(), "bad   no pod of it is ready");
        assert!(last(&seen(service(), vec![pod("a", true, None)], vec![])).contains("no EndpointSlice"));
    }

    #[test]
    fn a_pool_that_is_well_is_said_to_be() {
        let well = seen(service(), vec![pod("a", true, None)], vec![slice(true)]);
        let findings = explain(&well, "http", false);
        assert!(findings.iter().all(|it| matches!(it, Finding::Good(_))), "{findings:?}");
        assert!(explain(&well, "http", true).pop().unwrap().to_string().contains("no ready IPv6"));
    }
}
