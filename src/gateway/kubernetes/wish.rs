//! What an object wishes for, as routes without a host, and what both kinds of object share on the way there.

use std::collections::BTreeMap;
use std::time::Duration;

use hyper::StatusCode;
use hyper::body::Bytes;
use hyper::header::HeaderValue;

use super::object::{Key, Port};
use crate::endpoints::pool::PoolId;
use crate::gateway::config::{
    Action, Field, Forward, HeaderEdits, HostPattern, Matches, Respond, Retries, RouteConfig, Target, Timeouts,
};

/// Until an endpoint's answer begins, and between two pieces of a body, where the object says nothing.
const TIME: Duration = Duration::from_secs(60);
/// Further tries where they do nothing twice.
const RETRIES: u32 = 2;

/// Services by their names, for the ids of their pools.
pub(super) type Services = BTreeMap<Key, Vec<Port>>;

/// An object's wish.
#[derive(Debug, Default)]
pub(super) struct Wish {
    /// At least one.
    pub(super) hosts: Vec<HostPattern>,
    /// As if they were for any host.
    pub(super) routes: Vec<RouteConfig>,
    /// What leads nowhere as yet, for people.
    pub(super) unresolved: Vec<String>,
}

/// Why none of an object's routes is taken: a word for programs, and a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) reason: &'static str,
    pub(super) message: String,
}

/// Who a backend is looked up for.
#[derive(Clone, Copy)]
pub(super) struct Scene<'a> {
    pub(super) cluster: &'a str,
    pub(super) namespace: &'a str,
    pub(super) services: &'a Services,
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
    /// The pool of a Service's port. One that is not there yet is called by its number, which nobody has.
    pub(super) fn pool(
        &self,
        service: &str,
        port: PortName<'_>,
        unresolved: &mut Vec<String>,
    ) -> Result<PoolId, Refusal> {
        let (cluster, namespace) = (self.cluster, self.namespace);
        let ports = self.services.get(&(namespace.to_owned(), service.to_owned()));
        let fits = |it: &&Port| match port {
            PortName::Number(number) => it.number == number,
            PortName::Name(name) => it.name == name,
        };
        let named = match (ports.and_then(|ports| ports.iter().find(fits)), port) {
            (Some(port), _) => {
                port.last.clone().map_err(|why| format!("Service {service}: port {} {why}", port.number))
            }
            (None, PortName::Number(number)) => Err(format!("Service {service} with port {number} is not there")),
            (None, PortName::Name(name)) => Err(format!("Service {service} with port {name:?} is not there")),
        };
        let last = named.unwrap_or_else(|why| {
            unresolved.push(why);
            match port {
                PortName::Number(number) => number.to_string(),
                PortName::Name(name) => name.to_owned(),
            }
        });
        PoolId::parse(&format!("{cluster}/{namespace}/{service}/{last}"))
            .map_err(|error| Refusal::unsupported(format!("Service {service}: {error}")))
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
