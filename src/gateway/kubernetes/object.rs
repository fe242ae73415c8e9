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

/// (namespace, name): what an object is told apart by from the others of its kind. The namespace is empty where it has none.
pub(super) type Key = (String, String);

/// A kind of object.
pub(super) trait Kind: Clone + Debug + Send + 'static {
    const GROUP: &'static str;
    const VERSION: &'static str = "v1";
    const NAME: &'static str;
    const PLURAL: &'static str;
}

/// Routes of the Gateway API.
#[derive(Clone, Debug)]
pub(super) struct HttpRoute;

/// What those are attached to: listeners.
#[derive(Clone, Debug)]
pub(super) struct Gateway;

/// Whose a Gateway is.
#[derive(Clone, Debug)]
pub(super) struct GatewayClass;

/// Which objects of other namespaces may name those of its own.
#[derive(Clone, Debug)]
pub(super) struct ReferenceGrant;

/// Routes of Kubernetes itself, the older way.
#[derive(Clone, Debug)]
pub(super) struct Ingress;

/// Whose an Ingress is.
#[derive(Clone, Debug)]
pub(super) struct IngressClass;

/// A namespace, for its labels.
#[derive(Clone, Debug)]
pub(super) struct Namespace;

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

// === impl Kind ===

impl Kind for HttpRoute {
    const GROUP: &'static str = "gateway.networking.k8s.io";
    const NAME: &'static str = "HTTPRoute";
    const PLURAL: &'static str = "httproutes";
}

impl Kind for Gateway {
    const GROUP: &'static str = HttpRoute::GROUP;
    const NAME: &'static str = "Gateway";
    const PLURAL: &'static str = "gateways";
}

impl Kind for GatewayClass {
    const GROUP: &'static str = HttpRoute::GROUP;
    const NAME: &'static str = "GatewayClass";
    const PLURAL: &'static str = "gatewayclasses";
}

impl Kind for ReferenceGrant {
    const GROUP: &'static str = HttpRoute::GROUP;
    const VERSION: &'static str = "v1beta1";
    const NAME: &'static str = "ReferenceGrant";
    const PLURAL: &'static str = "referencegrants";
}

impl Kind for Namespace {
    const GROUP: &'static str = "";
    const NAME: &'static str = "Namespace";
    const PLURAL: &'static str = "namespaces";
}

impl Kind for Ingress {
    const GROUP: &'static str = "networking.k8s.io";
    const NAME: &'static str = "Ingress";
    const PLURAL: &'static str = "ingresses";
}

impl Kind for IngressClass {
    const GROUP: &'static str = Ingress::GROUP;
    const NAME: &'static str = "IngressClass";
    const PLURAL: &'static str = "ingressclasses";
}

// === impl Object ===

impl<K: Kind> Object<K> {
    pub(super) fn key(&self) -> Key {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        (text(&self.metadata.namespace), text(&self.metadata.name))
    }

    /// The version of its wishes, which its conditions speak of.
    pub(super) fn generation(&self) -> i64 {
        self.metadata.generation.unwrap_or_default()
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
    /// Objects that are in no namespace are followed everywhere, where both kinds of path are the same.
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        K::NAME.into()
    }

    fn group((): &()) -> Cow<'_, str> {
        K::GROUP.into()
    }

    fn version((): &()) -> Cow<'_, str> {
        K::VERSION.into()
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
