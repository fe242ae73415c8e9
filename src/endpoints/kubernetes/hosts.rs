//! Services that declare hosts.
//!
//! ```yaml
//! metadata:
//!   labels: { tidegate.dev/hosts: shop.example }
//!   annotations: { tidegate.dev/hosts: "shop.example, shop.example/api, *.shop.example", tidegate.dev/hosts-port: http }
//! ```
//!
//! The label marks the Service: only marked ones are followed, which the API server sees to, so that a cluster of thousands
//! of others costs nothing. A single host can be the label's value; several, and paths, stand in the annotation, which then
//! counts alone. Without the annotation for the port the first one is meant.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use tokio::sync::mpsc;

use super::object::{Key, Metadata};
use super::watch::{Follower, Heard, Object};
use super::{KubernetesConfig, QUEUE, connect, lost};
use crate::endpoints::hosts::{self, Claim, Claimants, HostPath};
use crate::endpoints::interner::Interner;
use crate::endpoints::pool::PoolId;
use crate::endpoints::runtime::Sender;
use crate::endpoints::update::{SourceEvent, Watched};

/// The label that marks a Service, and the annotation with its hosts.
pub(super) const HOSTS: &str = "tidegate.dev/hosts";

/// A Service as it is read.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ServiceObject {
    metadata: Metadata,
    spec: ServiceSpec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct ServiceSpec {
    ports: Vec<ServicePort>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ServicePort {
    name: String,
    port: u16,
    target_port: Option<TargetPort>,
}

/// The pods' port by number or by name.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum TargetPort {
    Number(u16),
    Name(#[allow(dead_code, reason = "that it is one is all that counts")] String),
}

/// What is kept of a Service.
#[derive(Debug)]
pub(super) struct Declared {
    key: Key,
    hosts: Vec<HostPath>,
    /// The last part of the pool's id, or why there is none.
    port: Result<String, String>,
    created: u64,
}

/// Follows the Services of one namespace, or all, that declare hosts.
pub(super) async fn follow(config: &Arc<KubernetesConfig>, path: String, events: Sender) {
    let (heard, mut hearing) = mpsc::channel(QUEUE);
    let follower = tokio::spawn({
        let config = config.clone();
        async move { Follower::<ServiceObject>::new(path, heard).labelled(HOSTS).run(|| connect(&config)).await }
    });
    let mut declared: BTreeMap<Key, Vec<Claim>> = BTreeMap::new();
    // The same of a list that has not ended.
    let mut listed: BTreeMap<Key, Vec<Claim>> = BTreeMap::new();
    let mut told = false;
    while let Some(heard) = hearing.recv().await {
        let changed = match heard {
            Heard::ListBegins => {
                listed.clear();
                continue;
            }
            Heard::ListHas(service) => {
                let claims = service.claims(&config.cluster);
                listed.insert(service.key, claims);
                continue;
            }
            Heard::ListLacks(key) => {
                listed.remove(&key);
                continue;
            }
            Heard::ListEnds => {
                declared = std::mem::take(&mut listed);
                true
            }
            Heard::Changed(service) => {
                let claims = service.claims(&config.cluster);
                declared.insert(service.key, claims.clone()).as_ref() != Some(&claims)
            }
            Heard::Deleted(key) => declared.remove(&key).is_some(),
            Heard::Contact => false,
            // Who may not see Services has none that declare hosts; unless there were some a moment ago.
            Heard::Absent(why) if declared.is_empty() => {
                if !told {
                    tracing::warn!(
                        cluster = &*config.cluster,
                        why,
                        "no Services are followed: hosts that they declare are not known"
                    );
                }
                true
            }
            Heard::Absent(why) | Heard::Lost(why) => {
                if !events.send(lost(Watched::Hosts, why)).await {
                    break;
                }
                continue;
            }
        };
        let mut said = Vec::new();
        if changed {
            told = true;
            said.push(SourceEvent::Hosts(Claimants::Source, declared.values().flatten().cloned().collect()));
        }
        said.push(SourceEvent::Contact(Watched::Hosts));
        if !events.send(said).await {
            break;
        }
    }
    follower.abort();
}

// === impl ServiceObject ===

impl Object for ServiceObject {
    type Kept = Declared;

    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn keep(self, _: &mut Interner) -> Declared {
        let Metadata { namespace, name, .. } = &self.metadata;
        let of_label = self.metadata.labels.get(HOSTS).map(String::as_str).filter(|value| *value != "true");
        let text = self.metadata.annotations.hosts.as_deref().or(of_label).unwrap_or_default();
        let (hosts, bad) = hosts::parse(text);
        for why in bad {
            tracing::warn!(namespace, name, "a Service declares what is no host: {why}");
        }
        Declared {
            hosts: hosts.into_iter().collect(),
            port: self.port(),
            created: self.metadata.created(),
            key: self.metadata.key(),
        }
    }
}

impl ServiceObject {
    /// The last part of the id of the pool that its hosts lead to.
    fn port(&self) -> Result<String, String> {
        let wanted = self.metadata.annotations.hosts_port.as_deref();
        let fits = |port: &&ServicePort| wanted.is_none_or(|it| port.name == it || port.port.to_string() == it);
        let port = self.spec.ports.iter().find(fits);
        let port = port.ok_or_else(|| match wanted {
            Some(wanted) => format!("it has no port {wanted:?}, which {HOSTS}-port names"),
            None => "it has no port".to_owned(),
        })?;
        match &port.target_port {
            _ if !port.name.is_empty() => Ok(port.name.clone()),
            Some(TargetPort::Number(number)) => Ok(number.to_string()),
            None => Ok(port.port.to_string()),
            Some(TargetPort::Name(_)) => {
                Err("give its port a name: a targetPort by name may have several numbers".to_owned())
            }
        }
    }
}

// === impl Declared ===

impl Declared {
    fn claims(&self, cluster: &str) -> Vec<Claim> {
        let (namespace, name) = &self.key;
        let pool = self.port.clone().and_then(|port| {
            PoolId::parse(&format!("{cluster}/{namespace}/{name}/{port}")).map_err(|error| error.to_string())
        });
        match pool {
            Ok(pool) => {
                let namespace: Arc<str> = namespace.as_str().into();
                let claim = |at: &HostPath| Claim {
                    at: at.clone(),
                    pool: pool.clone(),
                    namespace: Some(namespace.clone()),
                    since: self.created,
                };
                self.hosts.iter().map(claim).collect()
            }
            Err(why) => {
                tracing::warn!(namespace, name, "a Service's hosts lead nowhere: {why}");
                Vec::new()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(metadata: &str, ports: &str) -> Vec<String> {
        let text = format!(
            r#"{{"metadata":{{"name":"web","namespace":"shop","creationTimestamp":"1970-01-01T00:00:07Z",{metadata}}},"spec":{{"ports":{ports}}}}}"#
        );
        let object: ServiceObject = serde_json::from_str(&text).unwrap();
        let claims = object.keep(&mut Interner::default()).claims("east");
        assert!(claims.iter().all(|claim| claim.since == 7 && claim.namespace.as_deref() == Some("shop")));
        claims.iter().map(|claim| format!("{} {}", claim.at, claim.pool)).collect()
    }

    #[test]
    fn a_label_is_a_host_and_an_annotation_is_several() {
        let port = r#"[{"name":"http","port":80,"targetPort":"web"},{"name":"admin","port":81}]"#;
        assert_eq!(claims(r#""labels":{"tidegate.dev/hosts":"a.example"}"#, port), ["a.example east/shop/web/http"]);
        let both = r#""labels":{"tidegate.dev/hosts":"true"},"annotations":{"tidegate.dev/hosts":"b.example, b.example/x","tidegate.dev/hosts-port":"81"}"#;
        assert_eq!(claims(both, port), ["b.example east/shop/web/admin", "b.example/x east/shop/web/admin"]);
        assert_eq!(claims(r#""labels":{"tidegate.dev/hosts":"true"}"#, port), [""; 0]);
    }

    #[test]
    fn an_unnamed_port_is_known_by_the_pods_number_if_there_is_one() {
        let host = r#""labels":{"tidegate.dev/hosts":"a.example"}"#;
        assert_eq!(claims(host, r#"[{"port":80,"targetPort":8080}]"#), ["a.example east/shop/web/8080"]);
        assert_eq!(claims(host, r#"[{"port":80}]"#), ["a.example east/shop/web/80"]);
        assert_eq!(claims(host, r#"[{"port":80,"targetPort":"web"}]"#), [""; 0]);
        assert_eq!(claims(host, "[]"), [""; 0]);
    }
}
