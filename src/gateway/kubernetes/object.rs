//! Objects as they are read: what they wish is kept as it was written, so that one that is not understood ends no watch.

use std::borrow::Cow;
use std::fmt::Debug;
use std::marker::PhantomData;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::Resource;
use serde::Deserialize;
use serde_json::Value;

/// (namespace, name): what an object is told apart by from the others of its kind.
pub(super) type Key = (String, String);

/// A kind of object that has routes.
pub(super) trait Kind: Clone + Debug + Send + 'static {
    const GROUP: &'static str;
    const NAME: &'static str;
    const PLURAL: &'static str;
}

/// The Gateway API's.
#[derive(Clone, Debug)]
pub(super) struct HttpRoute;

/// The older one of Kubernetes itself.
#[derive(Clone, Debug)]
pub(super) struct Ingress;

/// An object.
#[derive(Clone, Debug, Deserialize)]
#[serde(bound = "")]
pub(super) struct Object<K: Kind> {
    pub(super) metadata: ObjectMeta,
    #[serde(default)]
    pub(super) spec: Value,
    #[serde(default)]
    pub(super) status: Value,
    #[serde(skip)]
    kind: PhantomData<K>,
}

/// A port of a Service, and what its pool's id ends with; an error where that is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Port {
    pub(super) number: i32,
    pub(super) name: String,
    pub(super) last: Result<String, String>,
}

/// The ports of a Service.
pub(super) fn ports(service: Service) -> Vec<Port> {
    let ports = service.spec.and_then(|spec| spec.ports).unwrap_or_default();
    ports
        .into_iter()
        .map(|port| Port { last: last(&port), number: port.port, name: port.name.unwrap_or_default() })
        .collect()
}

/// As endpoints are named: by the port's name, or by the pods' number.
fn last(port: &ServicePort) -> Result<String, String> {
    match (&port.name, &port.target_port) {
        (Some(name), _) if !name.is_empty() => Ok(name.clone()),
        (_, Some(IntOrString::Int(number))) => Ok(number.to_string()),
        (_, None) => Ok(port.port.to_string()),
        (_, Some(IntOrString::String(_))) => {
            Err("has no name and a targetPort by name, which may have several numbers: give the port a name".to_owned())
        }
    }
}

// === impl HttpRoute, Ingress ===

impl Kind for HttpRoute {
    const GROUP: &'static str = "gateway.networking.k8s.io";
    const NAME: &'static str = "HTTPRoute";
    const PLURAL: &'static str = "httproutes";
}

impl Kind for Ingress {
    const GROUP: &'static str = "networking.k8s.io";
    const NAME: &'static str = "Ingress";
    const PLURAL: &'static str = "ingresses";
}

// === impl Object ===

impl<K: Kind> Object<K> {
    pub(super) fn key(&self) -> Key {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        (text(&self.metadata.namespace), text(&self.metadata.name))
    }

    /// When it was made, in seconds of the Unix epoch.
    pub(super) fn since(&self) -> i64 {
        self.metadata.creation_timestamp.as_ref().map_or(i64::MAX, |time| time.0.as_second())
    }

    #[cfg(test)]
    pub(super) fn for_tests(namespace: &str, name: &str, since: i64, spec: Value) -> Self {
        let text = serde_json::json!({
            "metadata": {"namespace": namespace, "name": name,
                "creationTimestamp": jiff::Timestamp::from_second(since).unwrap().to_string()},
            "spec": spec,
        });
        serde_json::from_value(text).unwrap()
    }
}

impl<K: Kind> Resource for Object<K> {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        K::NAME.into()
    }

    fn group((): &()) -> Cow<'_, str> {
        K::GROUP.into()
    }

    fn version((): &()) -> Cow<'_, str> {
        "v1".into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        K::PLURAL.into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}
