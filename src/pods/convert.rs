//! From Kubernetes' object to what records say.

use std::net::IpAddr;
use std::sync::Arc;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use k8s_openapi::api::core::v1::Pod as Object;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::record::pods::Pod;

/// A pod says by this, as label or annotation `"true"`, that it forwards what others log.
const FORWARDS: &str = "tidegate.dev/forwards";
/// A Deployment's ReplicaSet is called like it, and this label's value.
const TEMPLATE_HASH: &str = "pod-template-hash";

/// What one object tells.
#[derive(Clone, Debug, Default)]
pub(super) struct Converted {
    pub(super) addresses: Vec<IpAddr>,
    /// Nothing where no connection can be attributed to it.
    pub(super) pod: Option<Arc<Pod>>,
    pub(super) hosts: Vec<IpAddr>,
}

pub(super) struct Converter {
    forwarders: GlobSet,
}

// === impl Converter ===

impl Converter {
    /// Patterns that are none were refused with the configuration.
    pub(super) fn new(forwarders: &[String]) -> Self {
        let mut globs = GlobSetBuilder::new();
        forwarders.iter().filter_map(|glob| GlobBuilder::new(glob).literal_separator(true).build().ok()).for_each(
            |glob| {
                globs.add(glob);
            },
        );
        Self { forwarders: globs.build().unwrap_or_default() }
    }

    pub(super) fn convert(&self, object: &Object) -> Converted {
        let (Some(spec), Some(status)) = (&object.spec, &object.status) else { return Converted::default() };
        let parse = |text: &String| text.parse::<IpAddr>().ok();
        let mut hosts: Vec<IpAddr> = status.host_ip.iter().filter_map(parse).collect();
        hosts.extend(status.host_ips.iter().flatten().filter_map(|host| parse(&host.ip)));
        // A finished pod keeps its address in the object while another has it already.
        let has_ended = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
        if spec.host_network == Some(true) || has_ended {
            return Converted { hosts, ..Converted::default() };
        }
        let mut addresses: Vec<IpAddr> = status.pod_ip.iter().filter_map(parse).collect();
        addresses.extend(status.pod_ips.iter().flatten().filter_map(|pod| parse(&pod.ip)));
        addresses.sort();
        addresses.dedup();
        // Before it has started nothing can come from it, whatever address it has.
        let pod = status.start_time.as_ref().map(|started| Arc::new(self.pod(object, millis(started))));
        Converted { addresses, pod, hosts }
    }

    fn pod(&self, object: &Object, started_ms: u64) -> Pod {
        let metadata = &object.metadata;
        let namespace = metadata.namespace.clone().unwrap_or_default();
        let name = metadata.name.clone().unwrap_or_default();
        let labels = metadata.labels.clone().unwrap_or_default();
        let owner = owner(object, labels.get(TEMPLATE_HASH).map(String::as_str));
        let says_so = labels.get(FORWARDS).or(metadata.annotations.as_ref().and_then(|all| all.get(FORWARDS)));
        let owner_name = owner.as_deref().and_then(|owner| owner.split_once('/')).map_or("", |(_, name)| name);
        let is_listed =
            [name.as_str(), owner_name].iter().any(|name| self.forwarders.is_match(format!("{namespace}/{name}")));
        // The time in the object is when the pod will be killed: it was told to end so much earlier.
        let grace =
            metadata.deletion_grace_period_seconds.and_then(|grace| u64::try_from(grace).ok()).unwrap_or_default();
        let ended_ms = metadata.deletion_timestamp.as_ref().map(|time| millis(time).saturating_sub(grace * 1000));
        Pod {
            uid: metadata.uid.clone().unwrap_or_default(),
            forwards: is_listed || says_so.is_some_and(|value| value == "true"),
            namespace,
            name,
            owner,
            labels,
            started_ms,
            ended_ms,
        }
    }
}

/// What people know a pod's maker by: the Deployment, not its ReplicaSet of the day.
fn owner(object: &Object, template_hash: Option<&str>) -> Option<String> {
    let owners = object.metadata.owner_references.as_deref().unwrap_or_default();
    let owner = owners.iter().find(|owner| owner.controller == Some(true))?;
    let deployment = template_hash
        .filter(|_| owner.kind == "ReplicaSet")
        .and_then(|hash| owner.name.strip_suffix(hash)?.strip_suffix('-'));
    Some(match deployment {
        Some(name) => format!("Deployment/{name}"),
        None => format!("{}/{}", owner.kind, owner.name),
    })
}

fn millis(time: &Time) -> u64 {
    u64::try_from(time.0.as_millisecond()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn converted(object: Value, forwarders: &[&str]) -> Converted {
        let forwarders: Vec<String> = forwarders.iter().map(|glob| (*glob).to_owned()).collect();
        Converter::new(&forwarders).convert(&serde_json::from_value(object).unwrap())
    }

    fn object() -> Value {
        json!({
            "metadata": {
                "name": "shop-7c5-x2x", "namespace": "prod", "uid": "u1",
                "labels": { "app": "shop", "pod-template-hash": "7c5" },
                "ownerReferences": [
                    { "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "shop-7c5", "uid": "r", "controller": true }
                ],
            },
            "spec": { "containers": [] },
            "status": {
                "phase": "Running", "hostIP": "10.0.0.1", "podIP": "10.244.0.7",
                "podIPs": [{ "ip": "10.244.0.7" }, { "ip": "fd00::7" }], "startTime": "2026-01-31T12:00:00Z",
            },
        })
    }

    #[test]
    fn a_pod_is_known_by_all_its_addresses_and_its_deployment() {
        let Converted { addresses, pod, hosts } = converted(object(), &[]);
        let pod = pod.unwrap();
        let expected: Vec<IpAddr> = ["10.244.0.7", "fd00::7"].map(|text| text.parse().unwrap()).to_vec();
        assert_eq!((addresses, hosts), (expected, vec!["10.0.0.1".parse().unwrap()]));
        assert_eq!((pod.owner.as_deref(), pod.started_ms), (Some("Deployment/shop"), 1_769_860_800_000));
        assert_eq!((pod.ended_ms, pod.forwards), (None, false));
    }

    #[test]
    fn a_pod_that_is_told_to_end_had_the_time_before_its_grace() {
        let mut ending = object();
        ending["metadata"]["deletionTimestamp"] = json!("2026-01-31T12:01:00Z");
        ending["metadata"]["deletionGracePeriodSeconds"] = json!(30);
        assert_eq!(converted(ending, &[]).pod.unwrap().ended_ms, Some(1_769_860_830_000));
    }

    #[test]
    fn pods_that_nothing_can_be_attributed_to_have_no_address() {
        let with = |path: &str, value: Value| {
            let mut object = object();
            *object.pointer_mut(path).unwrap() = value;
            object
        };
        let mut host = object();
        host["spec"]["hostNetwork"] = json!(true);
        let mut unstarted = object();
        unstarted["status"]["startTime"] = Value::Null;
        for object in
            [host, with("/status/phase", json!("Succeeded")), with("/status/phase", json!("Failed")), unstarted]
        {
            let converted = converted(object, &[]);
            assert!(converted.pod.is_none() && !converted.hosts.is_empty(), "{converted:?}");
        }
    }

    #[test]
    fn who_forwards_says_so_or_is_listed() {
        let forwards = |object, forwarders: &[&str]| converted(object, forwarders).pod.unwrap().forwards;
        assert!(forwards(object(), &["prod/shop"]) && forwards(object(), &["*/shop-7c5-*"]));
        assert!(!forwards(object(), &["shop", "*", "other/shop"]));
        for place in ["labels", "annotations"] {
            let mut says_so = object();
            says_so["metadata"][place]["tidegate.dev/forwards"] = json!("true");
            assert!(forwards(says_so, &[]), "{place}");
        }
    }
}
