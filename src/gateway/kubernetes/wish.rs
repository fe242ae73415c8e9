//! What an object wishes for, as routes without a host, and what both kinds of object share on the way there.

use std::collections::BTreeMap;
use std::time::Duration;

use hyper::StatusCode;
use hyper::body::Bytes;
use hyper::header::HeaderValue;

use super::grant::{Grants, Referrer, permits};
use super::object::{Key, Port};
use crate::endpoints::pool::PoolId;
use crate::gateway::config::{
    Action, Field, Forward, HeaderEdits, HostPattern, Matches, Respond, Retries, RouteConfig, Target, Timeouts,
};
use crate::gateway::tls::Certificate;

/// Until an endpoint's answer begins, and between two pieces of a body, where the object says nothing.
const TIME: Duration = Duration::from_secs(60);
/// Further tries where they do nothing twice.
const RETRIES: u32 = 2;

/// Services by their names, for the ids of their pools.
pub(super) type Services = BTreeMap<Key, Vec<Port>>;

/// An object's wish.
#[derive(Debug, Default)]
pub(super) struct Wish {
    /// What it wants to have; none where nothing lets it have any.
    pub(super) claims: Vec<Claim>,
    /// As if they were for any host.
    pub(super) routes: Vec<RouteConfig>,
    /// What leads nowhere, each once.
    pub(super) unresolved: Vec<Refusal>,
    /// What who asks for its hosts by TLS is shown.
    pub(super) certificate: Option<Certificate>,
}

/// A host that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) host: HostPattern,
    /// At these ports' listeners, which may be none; `None`: at all.
    pub(super) ports: Option<Vec<u16>>,
}

/// Why something is not taken: a word for programs, and a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) reason: &'static str,
    pub(super) message: String,
}

/// Who a backend is looked up for.
#[derive(Clone, Copy)]
pub(super) struct Scene<'a> {
    pub(super) cluster: &'a str,
    pub(super) who: Referrer<'a>,
    pub(super) services: &'a Services,
    pub(super) grants: &'a Grants,
}

/// What names a port of a Service.
#[derive(Clone, Copy, Debug)]
pub(super) enum PortName<'a> {
    Number(i32),
    Name(&'a str),
}

// === impl Refusal ===

impl Refusal {
    /// It says what is not understood, or cannot be done here.
    pub(super) fn unsupported(message: impl Into<String>) -> Self {
        Self { reason: "UnsupportedValue", message: message.into() }
    }
}

// === impl Scene ===

impl Scene<'_> {
    /// The pool of a Service's port. `namespace` is another than one's own.
    ///
    /// # Errors
    /// It may not be named, or is not there.
    pub(super) fn pool(&self, namespace: Option<&str>, service: &str, port: PortName<'_>) -> Result<PoolId, Refusal> {
        let namespace = namespace.unwrap_or(self.who.namespace);
        if !permits(self.grants, self.who, "Service", (namespace, service)) {
            let message = format!("Service {namespace}/{service}: no ReferenceGrant there lets it be named");
            return Err(Refusal { reason: "RefNotPermitted", message });
        }
        let missing = |message| Refusal { reason: "BackendNotFound", message };
        let ports = self.services.get(&(namespace.to_owned(), service.to_owned()));
        let fits = |it: &&Port| match port {
            PortName::Number(number) => it.number == number,
            PortName::Name(name) => it.name == name,
        };
        let last = match (ports.and_then(|ports| ports.iter().find(fits)), port) {
            (Some(port), _) => {
                port.last.clone().map_err(|why| format!("Service {service}: port {} {why}", port.number))
            }
            (None, PortName::Number(number)) => Err(format!("Service {service} with port {number} is not there")),
            (None, PortName::Name(name)) => Err(format!("Service {service} with port {name:?} is not there")),
        };
        PoolId::parse(&format!("{}/{namespace}/{service}/{}", self.cluster, last.map_err(missing)?))
            .map_err(|error| missing(format!("Service {service}: {error}")))
    }
}

/// Notes what leads nowhere.
pub(super) fn note(unresolved: &mut Vec<Refusal>, why: Refusal) {
    if !unresolved.contains(&why) {
        unresolved.push(why);
    }
}

/// To these pools, with the defaults of a route that says no more.
pub(super) fn forward(targets: Vec<Target>) -> Forward {
    Forward {
        targets,
        split_by: None,
        hash_by: Field::Client,
        rewrite: None,
        host: None,
        timeouts: Timeouts { request: None, per_try: Some(TIME), idle: TIME },
        retries: Retries { attempts: RETRIES, on_status: Vec::new() },
        max_body: None,
        upgrades: vec!["websocket".to_owned()],
        mirror: None,
        fallback: None,
    }
}

/// For requests that are to go somewhere and nowhere is said.
pub(super) fn nowhere() -> Action {
    Action::Respond(Respond {
        status: StatusCode::INTERNAL_SERVER_ERROR,
        content_type: HeaderValue::from_static("text/plain"),
        body: Bytes::from_static(b"the route has no backend\n"),
    })
}

/// A route without more than this.
pub(super) fn route(name: String, matches: Matches, action: Action) -> RouteConfig {
    RouteConfig {
        name: name.into(),
        matches,
        action,
        request_headers: HeaderEdits::default(),
        response_headers: HeaderEdits::default(),
        cors: None,
        rate_limit: None,
    }
}

/// A host as objects write it: a name, or `*.` and a name.
pub(super) fn host(text: &str) -> HostPattern {
    let text = text.to_ascii_lowercase();
    match text.strip_prefix("*.") {
        Some(rest) => HostPattern::Suffix(format!(".{rest}")),
        None if text.is_empty() => HostPattern::Any,
        None => HostPattern::Exact(text),
    }
}

/// The hosts that both patterns take; nothing where there are none.
pub(super) fn intersection(one: &HostPattern, other: &HostPattern) -> Option<HostPattern> {
    let (narrow, fits) = match (one, other) {
        (HostPattern::Any, it) | (it, HostPattern::Any) => (it, true),
        (HostPattern::Exact(name), HostPattern::Exact(same)) => (one, name == same),
        (HostPattern::Exact(name), HostPattern::Suffix(suffix)) => (one, is_below(name, suffix)),
        (HostPattern::Suffix(suffix), HostPattern::Exact(name)) => (other, is_below(name, suffix)),
        (HostPattern::Suffix(long), HostPattern::Suffix(short)) if long.len() >= short.len() => {
            (one, long.ends_with(short.as_str()))
        }
        (HostPattern::Suffix(short), HostPattern::Suffix(long)) => (other, long.ends_with(short.as_str())),
    };
    fits.then(|| narrow.clone())
}

fn is_below(name: &str, suffix: &str) -> bool {
    name.len() > suffix.len() && name.ends_with(suffix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_patterns_have_in_common_what_both_take() {
        for (one, other, both) in [
            ("", "a.example", Some("a.example")),
            ("", "", Some("*")),
            ("*.example", "", Some("*.example")),
            ("a.example", "a.example", Some("a.example")),
            ("a.example", "b.example", None),
            ("*.example", "a.b.example", Some("a.b.example")),
            ("*.a.example", "a.example", None),
            ("*.example", "*.a.example", Some("*.a.example")),
            ("*.a.example", "*.b.example", None),
            ("*.example", "*.other", None),
        ] {
            let common = |one, other| intersection(&host(one), &host(other)).map(|it| it.to_string());
            assert_eq!(common(one, other).as_deref(), both, "{one} {other}");
            assert_eq!(common(other, one).as_deref(), both, "{other} {one}");
        }
    }
}
