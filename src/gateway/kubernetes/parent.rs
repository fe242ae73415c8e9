//! Gateways of the Gateway API: which listeners of each are served here, what they show to clients of TLS, and which routes they let
//! in. Pure.
//!
//! A Gateway is served where the configuration names it and its class is ours. Its listeners open no ports: one is served where
//! the gateway's own configuration listens on its port, with or without TLS as its protocol says. A field of the Gateway that is not
//! known here refuses all of it. Whether a route is attached to a
//! listener is a matter of names and namespaces alone; whether the listener is served decides whether requests come by it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::attach::ParentRef;
use super::grant::{self, Referrer};
use super::listener::{Allowed, Spec};
use super::object::{Gateway, GatewayClass, HttpRoute, Key, Kind, Object};
use super::secret::{self, INVALID};
use super::settle::{Known, Rules};
use super::status::CONTROLLER;
use super::wish::{Refusal, intersection};
use crate::gateway::config::HostPattern;
use crate::gateway::tls::{Certificate, HostCertificate};

/// Gateways that are served here.
pub(super) type Parents = BTreeMap<Key, Parent>;

/// One Gateway.
#[derive(Clone, Debug)]
pub(super) struct Parent {
    /// Why none of it is served.
    pub(super) refused: Option<Refusal>,
    pub(super) listeners: Vec<Listener>,
}

/// One listener of a Gateway.
#[derive(Clone, Debug)]
pub(super) struct Listener {
    pub(super) name: String,
    pub(super) port: u16,
    pub(super) host: HostPattern,
    allowed: Allowed,
    /// Whether HTTPRoutes are among the kinds that it takes.
    pub(super) takes_routes: bool,
    /// Why it is not served.
    pub(super) refused: Option<Refusal>,
    /// Which other one wants the same.
    pub(super) conflict: Option<Refusal>,
    /// What it names that is not there, or may not be named.
    pub(super) unresolved: Option<Refusal>,
    certificates: Vec<Certificate>,
    /// Whether clients speak TLS.
    secure: bool,
    /// Routes that are attached to it.
    pub(super) attached: usize,
}

/// Who wants to be attached.
#[derive(Clone, Copy)]
pub(super) struct Asking<'a> {
    pub(super) namespace: &'a str,
    pub(super) labels: Option<&'a BTreeMap<String, String>>,
    /// None: all.
    pub(super) hosts: &'a [HostPattern],
}

/// What a listener lets a route have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Attached {
    /// The listener's place in its Gateway.
    pub(super) place: usize,
    pub(super) hosts: Vec<HostPattern>,
    /// Where requests come by it; `None`: it is not served.
    pub(super) port: Option<u16>,
}

/// Why a class of ours is not accepted.
pub(super) fn class_refusal(class: &Object<GatewayClass>) -> Option<Refusal> {
    let message = "spec.parametersRef: there are no parameters: remove it";
    class.spec.get("parametersRef").map(|_| Refusal { reason: "InvalidParameters", message: message.to_owned() })
}

/// Whether a class is this controller's.
pub(super) fn is_ours(class: &Object<GatewayClass>) -> bool {
    class.spec.get("controllerName").and_then(Value::as_str) == Some(CONTROLLER)
}

/// Why a Gateway of the configuration is not served; nothing where it is.
pub(super) fn absence(known: &Known, key: &Key) -> Option<String> {
    let Some(gateway) = known.gateways.get(key) else { return Some("there is no such Gateway".to_owned()) };
    let name = gateway.spec.get("gatewayClassName").and_then(Value::as_str).unwrap_or_default();
    match known.classes.get(&(String::new(), name.to_owned())) {
        None => Some(format!("its GatewayClass {name} is not there")),
        Some(class) if !is_ours(class) => {
            Some(format!("its GatewayClass {name} is another controller's: ours is called {CONTROLLER}"))
        }
        Some(class) => class_refusal(class).map(|refusal| format!("its GatewayClass {name}: {}", refusal.message)),
    }
}

/// The Gateways that are served here, without any routes as yet.
pub(super) fn parents(known: &Known, rules: &Rules) -> Parents {
    let ours = known.gateways.iter().filter(|(key, _)| rules.gateways.contains(key) && absence(known, key).is_none());
    ours.map(|(key, object)| (key.clone(), parent(object, known, rules))).collect()
}

fn parent(object: &Object<Gateway>, known: &Known, rules: &Rules) -> Parent {
    let texts = object.spec.get("listeners").and_then(Value::as_array).into_iter().flatten();
    let mut listeners: Vec<Listener> = texts.map(|text| listener(text, object, known, rules)).collect();
    set_conflicts(&mut listeners);
    Parent { refused: refusal(object, &listeners, rules), listeners }
}

fn refusal(object: &Object<Gateway>, listeners: &[Listener], rules: &Rules) -> Option<Refusal> {
    // What is not understood could be what keeps others out, as certificates that clients are to show.
    if let Some(field) =
        object.spec.as_object().into_iter().flatten().map(|(name, _)| name).find(|name| !is_known(name))
    {
        return Some(Refusal::unsupported(format!("spec.{field} is not supported: remove it")));
    }
    if object.spec.pointer("/infrastructure/parametersRef").is_some() {
        let message = "spec.infrastructure.parametersRef: there are no parameters: remove it".to_owned();
        return Some(Refusal { reason: "InvalidParameters", message });
    }
    let asked = object.spec.get("addresses").and_then(Value::as_array).into_iter().flatten();
    let value = |address: &Value| address.get("value").and_then(Value::as_str).unwrap_or_default().to_owned();
    if let Some(address) = asked.map(value).find(|address| !rules.addresses.contains(address)) {
        let message = format!("spec.addresses: {address:?} is none of this gateway's");
        return Some(Refusal { reason: "UnsupportedAddress", message });
    }
    listeners.iter().all(|it| it.refused.is_some() || it.conflict.is_some()).then(|| {
        let why = listeners.iter().filter_map(|it| it.refused.as_ref().or(it.conflict.as_ref()));
        let why: BTreeSet<&str> = why.map(|refusal| refusal.message.as_str()).collect();
        let message = why.into_iter().collect::<Vec<_>>().join(", ");
        Refusal { reason: "ListenersNotValid", message }
    })
}

/// Whether a field of a Gateway is read, or asks nothing of whoever serves it: labels and annotations of what is made for a Gateway,
/// and who may add listeners, which nobody can here.
fn is_known(field: &str) -> bool {
    matches!(field, "gatewayClassName" | "listeners" | "addresses" | "infrastructure" | "allowedListeners")
}

fn listener(text: &Value, gateway: &Object<Gateway>, known: &Known, rules: &Rules) -> Listener {
    let (namespace, _) = gateway.key();
    let spec = Spec::read(text, &namespace);
    let mut listener = Listener {
        name: spec.name,
        port: spec.port,
        host: spec.host,
        allowed: spec.allowed,
        takes_routes: spec.takes_routes,
        refused: spec.refused.or_else(|| unserved(spec.port, spec.secure, rules)),
        conflict: None,
        unresolved: spec.unresolved,
        certificates: Vec::new(),
        secure: spec.secure,
        attached: 0,
    };
    let who = Referrer { group: Gateway::GROUP, kind: Gateway::NAME, namespace: &namespace };
    for reference in spec.certificates {
        let there = reference.namespace.as_deref().unwrap_or(&namespace);
        let found = if !grant::permits(&known.grants, who, "Secret", (there, &reference.name)) {
            let message =
                format!("Secret {there}/{}: no ReferenceGrant lets a Gateway of {namespace} name it", reference.name);
            Err(Refusal { reason: "RefNotPermitted", message })
        } else if !reference.is_secret() {
            let message = format!("certificateRefs: {}: only Secrets are supported", reference.name);
            Err(Refusal { reason: INVALID, message })
        } else {
            secret::find(&known.secrets, there, &reference.name).map_err(|message| Refusal { reason: INVALID, message })
        };
        match found {
            Ok(certificate) => listener.certificates.push(certificate.clone()),
            Err(refusal) => {
                listener.unresolved.get_or_insert(refusal);
            }
        }
    }
    listener
}

/// Why no listener of the gateway itself serves this port and protocol.
fn unserved(port: u16, secure: bool, rules: &Rules) -> Option<Refusal> {
    let name = |secure: bool| if secure { "HTTPS" } else { "HTTP" };
    if rules.listeners.contains(&(port, secure)) {
        return None;
    }
    let all: Vec<String> = rules.listeners.iter().map(|(port, secure)| format!("{port} ({})", name(*secure))).collect();
    let (own, wanted) = (all.join(", "), name(secure));
    let message = format!("the gateway does not listen on port {port} with {wanted}: its configuration has {own}");
    Some(Refusal { reason: "PortUnavailable", message })
}

/// Of two that cannot be told apart, neither is served. One that is not served anyway is in nobody's way.
fn set_conflicts(listeners: &mut [Listener]) {
    let all = listeners.iter().enumerate().filter(|(_, it)| it.refused.is_none());
    let all: Vec<_> = all.map(|(place, it)| (it.port, it.secure, it.host.clone(), place)).collect();
    for (place, listener) in listeners.iter_mut().enumerate().filter(|(_, it)| it.refused.is_none()) {
        let mut others = all.iter().filter(|it| it.3 != place && it.0 == listener.port);
        let conflict = match others.clone().any(|it| it.1 != listener.secure) {
            true => Some(("ProtocolConflict", "another protocol")),
            false => others.any(|it| it.2 == listener.host).then_some(("HostnameConflict", "the same hostname")),
        };
        let port = listener.port;
        listener.conflict = conflict.map(|(reason, what)| {
            let message = format!("another listener has the same port, {port}, and {what}");
            Refusal { reason, message }
        });
    }
}

// === impl Parent ===

impl Parent {
    /// What this Gateway lets a route have that names it so.
    ///
    /// # Errors
    /// None of its listeners takes the route; the reason is the Gateway API's.
    pub(super) fn attach(&self, reference: &ParentRef, asking: Asking<'_>) -> Result<Vec<Attached>, Refusal> {
        let named: Vec<(usize, &Listener)> =
            self.listeners.iter().enumerate().filter(|(_, it)| reference.names(&it.name, it.port)).collect();
        let refused = |reason, message: &str| Refusal { reason, message: message.to_owned() };
        if named.is_empty() {
            return Err(refused("NoMatchingParent", "the Gateway has no listener with this sectionName and port"));
        }
        let allowing: Vec<_> = named
            .into_iter()
            .filter(|(_, it)| it.takes_routes && it.allowed.allows(asking.namespace, asking.labels))
            .collect();
        if allowing.is_empty() {
            let message = "allowedRoutes of the Gateway's listeners let in no HTTPRoute of this namespace";
            return Err(refused("NotAllowedByListeners", message));
        }
        let attached: Vec<Attached> = allowing
            .into_iter()
            .filter_map(|(place, it)| it.attach(place, asking.hosts, self.refused.is_none()))
            .collect();
        if attached.is_empty() {
            let message = "none of the hostnames is one of the Gateway's listeners'";
            return Err(refused("NoMatchingListenerHostname", message));
        }
        Ok(attached)
    }

    /// What its listeners show to clients of TLS.
    pub(super) fn certificates(&self) -> impl Iterator<Item = HostCertificate> {
        let served = self.listeners.iter().filter(|it| self.refused.is_none() && it.is_served());
        served.flat_map(Listener::certificates)
    }
}

// === impl Listener ===

impl Listener {
    /// Whether requests come by it.
    pub(super) fn is_served(&self) -> bool {
        let has_certificate = !self.secure || !self.certificates.is_empty();
        self.refused.is_none() && self.conflict.is_none() && has_certificate
    }

    /// What keeps it, or a part of it, from being served.
    pub(super) fn faults(&self) -> impl Iterator<Item = &Refusal> {
        self.refused.iter().chain(&self.conflict).chain(&self.unresolved)
    }

    fn attach(&self, place: usize, hosts: &[HostPattern], accepted: bool) -> Option<Attached> {
        let hosts: Vec<HostPattern> = match hosts {
            [] => vec![self.host.clone()],
            hosts => hosts.iter().filter_map(|host| intersection(&self.host, host)).collect(),
        };
        let port = (accepted && self.is_served()).then_some(self.port);
        (!hosts.is_empty()).then_some(Attached { place, hosts, port })
    }

    /// The first one for its host; each for the names that stand in it, as far as they are its host's.
    fn certificates(&self) -> Vec<HostCertificate> {
        let shown = |host: HostPattern, certificate: &Certificate| HostCertificate {
            host,
            port: Some(self.port),
            certificate: certificate.clone(),
        };
        let mut all = Vec::new();
        for certificate in &self.certificates {
            let own =
                certificate.hosts().into_iter().filter(|host| intersection(&self.host, host).as_ref() == Some(host));
            all.extend(own.map(|host| shown(host, certificate)));
        }
        all.extend(self.certificates.first().map(|certificate| shown(self.host.clone(), certificate)));
        all
    }

    /// The kinds of routes that it takes, as its status has them.
    pub(super) fn kinds(&self) -> Value {
        match self.takes_routes {
            true => serde_json::json!([{"group": HttpRoute::GROUP, "kind": HttpRoute::NAME}]),
            false => serde_json::json!([]),
        }
    }
}
