//! A listener of a Gateway as it is written.
//!
//! Taken: the protocols `HTTP` and `HTTPS`, `hostname`, `tls` with `Terminate` and certificates, and `allowedRoutes`. Every other field
//! refuses the listener, and it alone: what is not understood could be what keeps others out.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::{Selector, SelectorExt as _};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::object::{Gateway, HttpRoute, Kind as _};
use super::wish::{Refusal, host};
use crate::gateway::config::HostPattern;

/// What a listener wishes.
#[derive(Debug)]
pub(super) struct Spec {
    pub(super) name: String,
    pub(super) port: u16,
    pub(super) host: HostPattern,
    pub(super) secure: bool,
    pub(super) allowed: Allowed,
    /// Whether HTTPRoutes are among the kinds that it takes.
    pub(super) takes_routes: bool,
    pub(super) certificates: Vec<CertificateRef>,
    /// Why it cannot be served.
    pub(super) refused: Option<Refusal>,
    /// What it names that there is not.
    pub(super) unresolved: Option<Refusal>,
}

/// Whose routes a listener lets in.
#[derive(Clone, Debug)]
pub(super) enum Allowed {
    /// Those of the Gateway's own namespace, which is this one.
    Same(String),
    All,
    /// Those of namespaces with such labels.
    Selector(Selector),
    Nobody,
}

/// What a listener shows to clients of TLS.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CertificateRef {
    group: Option<String>,
    kind: Option<String>,
    pub(super) name: String,
    pub(super) namespace: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Text {
    #[serde(rename = "name")]
    _name: String,
    hostname: Option<String>,
    #[serde(rename = "port")]
    _port: u16,
    protocol: String,
    tls: Option<Tls>,
    #[serde(default)]
    allowed_routes: AllowedRoutes,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Tls {
    mode: Option<String>,
    #[serde(default)]
    certificate_refs: Vec<CertificateRef>,
    #[serde(default)]
    options: Map<String, Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct AllowedRoutes {
    #[serde(default)]
    namespaces: Namespaces,
    #[serde(default)]
    kinds: Vec<RouteKind>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Namespaces {
    from: Option<String>,
    selector: Option<LabelSelector>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RouteKind {
    group: Option<String>,
    kind: String,
}

// === impl Spec ===

impl Spec {
    /// Reads a listener of a Gateway in this namespace. One that is not understood still has its name and its port.
    pub(super) fn read(text: &Value, namespace: &str) -> Self {
        let name = text.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
        let port =
            text.get("port").and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok()).unwrap_or_default();
        let mut spec = Self {
            name,
            port,
            host: HostPattern::Any,
            secure: text.get("protocol").and_then(Value::as_str) == Some("HTTPS"),
            allowed: Allowed::Nobody,
            takes_routes: false,
            certificates: Vec::new(),
            refused: None,
            unresolved: None,
        };
        match Text::deserialize(text) {
            Ok(text) => spec.take(text, namespace),
            Err(error) => spec.refused = Some(Refusal::unsupported(error.to_string())),
        }
        spec
    }

    fn take(&mut self, text: Text, namespace: &str) {
        self.host = text.hostname.as_deref().map_or(HostPattern::Any, host);
        if !matches!(text.protocol.as_str(), "HTTP" | "HTTPS") {
            let message = format!("protocol {:?}: only HTTP and HTTPS are served", text.protocol);
            self.refused = Some(Refusal { reason: "UnsupportedProtocol", message });
            return;
        }
        match (text.tls, self.secure) {
            (Some(tls), true) => self.take_tls(tls),
            (None, true) => {
                self.refused = Some(Refusal::unsupported("protocol HTTPS without tls: name certificateRefs"))
            }
            (Some(_), false) => self.refused = Some(Refusal::unsupported("tls beside protocol HTTP: say HTTPS")),
            (None, false) => {}
        }
        let AllowedRoutes { namespaces, kinds } = text.allowed_routes;
        let is_http_route = |it: &RouteKind| {
            it.kind == HttpRoute::NAME && it.group.as_deref().is_none_or(|group| group == Gateway::GROUP)
        };
        self.takes_routes = kinds.is_empty() || kinds.iter().any(is_http_route);
        if let Some(other) = kinds.iter().find(|kind| !is_http_route(kind)) {
            let message = format!("allowedRoutes.kinds: {}: only HTTPRoutes are supported", other.kind);
            self.unresolved = Some(Refusal { reason: "InvalidRouteKinds", message });
        }
        self.allowed = match (namespaces.from.as_deref().unwrap_or("Same"), namespaces.selector) {
            ("Same", _) => Allowed::Same(namespace.to_owned()),
            ("All", _) => Allowed::All,
            ("Selector", Some(selector)) => match Selector::try_from(selector) {
                Ok(selector) => Allowed::Selector(selector),
                Err(error) => {
                    let message = format!("allowedRoutes.namespaces.selector: {error}");
                    self.refused = Some(Refusal::unsupported(message));
                    Allowed::Nobody
                }
            },
            (from, _) => {
                let message = format!("allowedRoutes.namespaces.from {from:?} like this is not supported");
                self.refused = Some(Refusal::unsupported(message));
                Allowed::Nobody
            }
        };
    }

    fn take_tls(&mut self, tls: Tls) {
        let mode = tls.mode.as_deref().unwrap_or("Terminate");
        if mode != "Terminate" {
            self.refused = Some(Refusal::unsupported(format!("tls.mode {mode:?}: only Terminate is supported")));
        } else if let Some((option, _)) = tls.options.iter().next() {
            self.refused = Some(Refusal::unsupported(format!("tls.options: {option:?} is not known")));
        } else if tls.certificate_refs.is_empty() {
            self.refused = Some(Refusal::unsupported("tls.certificateRefs: missing: name a Secret"));
        }
        self.certificates = tls.certificate_refs;
    }
}

// === impl Allowed ===

impl Allowed {
    /// Whether routes of a namespace are let in; labels that are not known are none that are asked for.
    pub(super) fn allows(&self, namespace: &str, labels: Option<&BTreeMap<String, String>>) -> bool {
        match self {
            Self::Same(own) => own == namespace,
            Self::All => true,
            Self::Selector(selector) => labels.is_some_and(|labels| selector.matches(labels)),
            Self::Nobody => false,
        }
    }
}

// === impl CertificateRef ===

impl CertificateRef {
    /// Whether it names a Secret.
    pub(super) fn is_secret(&self) -> bool {
        self.group.as_deref().is_none_or(str::is_empty) && self.kind.as_deref().is_none_or(|kind| kind == "Secret")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(further: &Value) -> Spec {
        let mut text =
            json!({"name": "it", "port": 443, "protocol": "HTTPS", "tls": {"certificateRefs": [{"name": "web"}]}});
        text.as_object_mut().unwrap().extend(further.as_object().unwrap().clone());
        Spec::read(&text, "infra")
    }

    #[test]
    fn whose_routes_are_let_in_is_said_by_name_or_by_label() {
        let labels: BTreeMap<String, String> = [("team".to_owned(), "a".to_owned())].into();
        let allows = |namespaces: Value, namespace: &str, labels: Option<&BTreeMap<String, String>>| {
            read(&json!({"allowedRoutes": {"namespaces": namespaces}})).allowed.allows(namespace, labels)
        };
        assert!(allows(json!({}), "infra", None) && !allows(json!({"from": "Same"}), "shop", Some(&labels)));
        assert!(allows(json!({"from": "All"}), "shop", None));
        let selector = |selector: Value| json!({"from": "Selector", "selector": selector});
        let equal = selector(json!({"matchLabels": {"team": "a"}}));
        assert!(allows(equal.clone(), "shop", Some(&labels)));
        assert!(!allows(equal.clone(), "shop", Some(&BTreeMap::new())) && !allows(equal, "infra", None));
        let within = selector(json!({"matchExpressions": [{"key": "team", "operator": "In", "values": ["a", "b"]}]}));
        assert!(allows(within, "shop", Some(&labels)));
        for none in [json!({"from": "None"}), json!({"from": "Selector"})] {
            assert!(!allows(none.clone(), "infra", Some(&labels)), "{none}");
        }
    }

    #[test]
    fn what_is_not_understood_refuses_the_listener_and_says_why() {
        let good = read(&json!({"hostname": "*.shop.example"}));
        assert!(good.refused.is_none() && good.takes_routes && good.secure, "{good:?}");
        assert_eq!((good.host.to_string(), good.certificates.len()), ("*.shop.example".to_owned(), 1));
        for (further, reason, wanted) in [
            (json!({"protocol": "TLS"}), "UnsupportedProtocol", "\"TLS\""),
            (json!({"protocol": "HTTP"}), "UnsupportedValue", "beside protocol HTTP"),
            (json!({"tls": null}), "UnsupportedValue", "without tls"),
            (json!({"tls": {"mode": "Passthrough"}}), "UnsupportedValue", "\"Passthrough\""),
            (json!({"tls": {"certificateRefs": [], "mode": "Terminate"}}), "UnsupportedValue", "name a Secret"),
            (json!({"tls": {"frontendValidation": {}}}), "UnsupportedValue", "frontendValidation"),
            (json!({"tls": {"options": {"x.example/y": "z"}}}), "UnsupportedValue", "x.example/y"),
            (json!({"allowedRoutes": {"namespaces": {"from": "Some"}}}), "UnsupportedValue", "\"Some\""),
        ] {
            let refused = read(&further).refused.unwrap_or_else(|| panic!("{further}"));
            assert!(refused.reason == reason && refused.message.contains(wanted), "{further}: {refused:?}");
        }
    }

    #[test]
    fn kinds_other_than_http_routes_are_named_and_the_others_go_on() {
        let kinds = |kinds: Value| read(&json!({"allowedRoutes": {"kinds": kinds}}));
        let both = kinds(json!([{"kind": "HTTPRoute"}, {"kind": "TLSRoute"}]));
        assert!(both.takes_routes && both.unresolved.is_some_and(|it| it.reason == "InvalidRouteKinds"));
        assert!(!kinds(json!([{"kind": "GRPCRoute", "group": Gateway::GROUP}])).takes_routes);
    }
}
