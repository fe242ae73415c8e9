//! Which listeners of our Gateways an HTTPRoute is attached to.

use serde::Deserialize;
use serde_json::Value;

use super::object::{Gateway, HttpRoute, Key, Kind, Object};
use super::parent::{Asking, Attached, Parents};
use super::settle::Known;
use super::wish::{Claim, Refusal, host};
use crate::gateway::config::HostPattern;

/// What an HTTPRoute names as its parent.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ParentRef {
    group: Option<String>,
    kind: Option<String>,
    namespace: Option<String>,
    name: String,
    section_name: Option<String>,
    port: Option<u16>,
}

/// A parent that is a Gateway of ours, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Attachment {
    /// As it stands in the route.
    pub(super) reference: Value,
    /// The Gateway.
    pub(super) parent: Key,
    pub(super) listeners: Result<Vec<Attached>, Refusal>,
}

/// What came of each of its parents that is a Gateway of ours.
pub(super) fn attachments(object: &Object<HttpRoute>, parents: &Parents, known: &Known) -> Vec<Attachment> {
    let (namespace, _) = object.key();
    let texts = |key: &str| object.spec.get(key).and_then(Value::as_array).into_iter().flatten();
    let hosts: Vec<HostPattern> = texts("hostnames").filter_map(Value::as_str).map(host).collect();
    let labels = known.namespaces.get(&(String::new(), namespace.clone()));
    let asking = Asking { namespace: &namespace, labels, hosts: &hosts };
    let attachment = |text: &Value| {
        let reference = ParentRef::deserialize(text).ok().filter(ParentRef::is_gateway)?;
        let key = (reference.namespace.clone().unwrap_or_else(|| namespace.clone()), reference.name.clone());
        let listeners = parents.get(&key)?.attach(&reference, asking);
        Some(Attachment { reference: text.clone(), parent: key, listeners })
    };
    texts("parentRefs").filter_map(attachment).collect()
}

/// Every host that these let a route have, each once, with the ports where requests for it come.
pub(super) fn claims(attachments: &[Attachment]) -> Vec<Claim> {
    let mut claims: Vec<Claim> = Vec::new();
    for attached in attachments.iter().filter_map(|it| it.listeners.as_ref().ok()).flatten() {
        for host in &attached.hosts {
            let place = claims.iter().position(|claim| claim.host == *host).unwrap_or_else(|| {
                claims.push(Claim { host: host.clone(), ports: Some(Vec::new()) });
                claims.len() - 1
            });
            let ports = claims.get_mut(place).and_then(|claim| claim.ports.as_mut());
            if let (Some(ports), Some(port)) = (ports, attached.port)
                && !ports.contains(&port)
            {
                ports.push(port);
            }
        }
    }
    claims
}

// === impl ParentRef ===

impl ParentRef {
    fn is_gateway(&self) -> bool {
        self.group.as_deref().is_none_or(|group| group == Gateway::GROUP)
            && self.kind.as_deref().is_none_or(|kind| kind == Gateway::NAME)
    }

    /// Whether a listener of the Gateway is meant.
    pub(super) fn names(&self, listener: &str, port: u16) -> bool {
        self.section_name.as_deref().is_none_or(|name| name == listener) && self.port.is_none_or(|own| own == port)
    }
}
