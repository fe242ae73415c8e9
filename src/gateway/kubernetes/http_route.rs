//! An HTTPRoute of the Gateway API as routes.
//!
//! Taken: `hostnames`, `matches` (path, headers, query, method), the filters `RequestHeaderModifier`, `ResponseHeaderModifier`,
//! `RequestRedirect`, `URLRewrite` and `RequestMirror`, `backendRefs` to Services with weights and edits of headers, those of other
//! namespaces by their ReferenceGrants, and `timeouts`. Every other field, and every other value, refuses the whole of it with the
//! reason: half a rule would send requests where nobody meant them to go. A backend that is not there, or may not be named,
//! keeps its part: what falls to it is answered with 500, and nobody else gets more than was meant for them.

use hyper::header::{HeaderName, HeaderValue};
use hyper::{Method, StatusCode};
use regex::Regex;
use serde::Deserialize;
use serde_json::Value;

use super::filter::{self, Filter};
use super::ingress::whole_segments;
use super::object::{HttpRoute, Kind, Object};
use super::wish::{Claim, PortName, Refusal, Scene, Wish, forward, note, nowhere, route};
use crate::endpoints::pool::PoolId;
use crate::gateway::config::{
    Action, Field, FieldMatch, Matches, PathPattern, Redirect, RouteConfig, Target, ValuePattern, whole,
};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Spec {
    #[serde(default, rename = "parentRefs")]
    _parents: Value,
    #[serde(default, rename = "hostnames")]
    _hostnames: Vec<String>,
    #[serde(default)]
    rules: Vec<Rule>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rule {
    #[serde(default, rename = "name")]
    _name: Option<String>,
    #[serde(default)]
    matches: Vec<Match>,
    #[serde(default)]
    filters: Vec<Filter>,
    #[serde(default)]
    backend_refs: Vec<BackendRef>,
    #[serde(default)]
    timeouts: Times,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Match {
    path: Option<PathMatch>,
    #[serde(default)]
    headers: Vec<NamedMatch>,
    #[serde(default)]
    query_params: Vec<NamedMatch>,
    method: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PathMatch {
    #[serde(rename = "type")]
    kind: Option<String>,
    value: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NamedMatch {
    #[serde(rename = "type")]
    kind: Option<String>,
    name: String,
    value: String,
}

/// A Service's port and its part.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BackendRef {
    group: Option<String>,
    kind: Option<String>,
    name: String,
    namespace: Option<String>,
    port: Option<i32>,
    weight: Option<u32>,
    #[serde(default)]
    filters: Vec<Filter>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Times {
    request: Option<String>,
    backend_request: Option<String>,
}

/// What it wishes for, with the hosts that its parents let it have.
///
/// # Errors
/// Some of it cannot be done here.
pub(super) fn wish(object: &Object<HttpRoute>, claims: Vec<Claim>, scene: &Scene<'_>) -> Result<Wish, Refusal> {
    let spec = Spec::deserialize(&object.spec).map_err(|error| Refusal::unsupported(format!("spec: {error}")))?;
    let mut wish = Wish { claims, ..Wish::default() };
    let (namespace, name) = object.key();
    for (number, rule) in spec.rules.iter().enumerate() {
        let label = format!("{}/{namespace}/{name}/{number}", HttpRoute::NAME.to_lowercase());
        let all = [Match::default()];
        let matches = if rule.matches.is_empty() { &all[..] } else { &rule.matches };
        for it in matches {
            let refused =
                |refusal: Refusal| Refusal { message: format!("rule {number}: {}", refusal.message), ..refusal };
            let route = of_match(&label, rule, it, scene, &mut wish.unresolved).map_err(refused)?;
            wish.routes.push(route);
        }
    }
    Ok(wish)
}

fn of_match(
    label: &str,
    rule: &Rule,
    it: &Match,
    scene: &Scene<'_>,
    unresolved: &mut Vec<Refusal>,
) -> Result<RouteConfig, Refusal> {
    let path = path_pattern(it.path.as_ref())?;
    let method = it.method.as_deref().map(|method| {
        Method::from_bytes(method.as_bytes()).map_err(|_| Refusal::unsupported(format!("method {method:?} is none")))
    });
    let mut fields = Vec::new();
    for header in &it.headers {
        let name = field_name(&header.name)?;
        fields.push(FieldMatch { field: Field::Header(name), value: header.pattern()? });
    }
    for parameter in &it.query_params {
        fields.push(FieldMatch { field: Field::Query(parameter.name.clone()), value: parameter.pattern()? });
    }
    let methods = method.transpose()?.into_iter().collect();
    let matches = Matches { path, methods, fields, ..Matches::default() };
    let mut route = route(label.to_owned(), matches, nowhere());
    let mut targets = Vec::new();
    for backend in &rule.backend_refs {
        let mut target = Target::new(backend.pool(scene, unresolved)?, backend.weight.unwrap_or(1));
        filter::apply_to_target(&backend.filters, &mut target)?;
        targets.push(target);
    }
    targets.retain(|target| target.share > 0);
    if !targets.is_empty() {
        let mut forward = forward(targets);
        let [request, per_try] = [&rule.timeouts.request, &rule.timeouts.backend_request]
            .map(|text| text.as_deref().map(filter::duration).transpose());
        // Zero is no limit.
        if let Some(time) = request? {
            forward.timeouts.request = Some(time).filter(|time| !time.is_zero());
        }
        if let Some(time) = per_try? {
            forward.timeouts.per_try = Some(time).filter(|time| !time.is_zero());
        }
        route.action = Action::Forward(Box::new(forward));
    } else {
        // Read all the same: what is wrong is told before there is a backend.
        for text in [&rule.timeouts.request, &rule.timeouts.backend_request].into_iter().flatten() {
            filter::duration(text)?;
        }
    }
    filter::apply(&rule.filters, &mut route, scene, unresolved)?;
    Ok(route)
}

fn path_pattern(path: Option<&PathMatch>) -> Result<PathPattern, Refusal> {
    let Some(path) = path else { return Ok(PathPattern::default()) };
    let value = path.value.as_deref().unwrap_or("/");
    match path.kind.as_deref().unwrap_or("PathPrefix") {
        "PathPrefix" => Ok(PathPattern::Prefix(whole_segments(value))),
        "Exact" => Ok(PathPattern::Exact(value.to_owned())),
        "RegularExpression" => expression(value).map(PathPattern::Regex),
        other => Err(Refusal::unsupported(format!("matches.path.type {other:?} is not supported"))),
    }
}

fn expression(text: &str) -> Result<Regex, Refusal> {
    whole(text).map_err(|_| Refusal::unsupported(format!("{text:?} is no regular expression")))
}

pub(super) fn field_name(name: &str) -> Result<HeaderName, Refusal> {
    HeaderName::try_from(name).map_err(|_| Refusal::unsupported(format!("{name:?} is no name of a field")))
}

pub(super) fn field_value(value: &str) -> Result<HeaderValue, Refusal> {
    HeaderValue::try_from(value).map_err(|_| Refusal::unsupported(format!("{value:?} is no value of a field")))
}

pub(super) fn status(code: u16) -> Result<StatusCode, Refusal> {
    StatusCode::from_u16(code)
        .ok()
        .filter(|_| Redirect::STATUSES.contains(&code))
        .ok_or_else(|| Refusal::unsupported(format!("statusCode {code} is no redirect")))
}

// === impl NamedMatch ===

impl NamedMatch {
    fn pattern(&self) -> Result<ValuePattern, Refusal> {
        match self.kind.as_deref().unwrap_or("Exact") {
            "Exact" => Ok(ValuePattern::Exact(self.value.clone())),
            "RegularExpression" => expression(&self.value).map(ValuePattern::Regex),
            other => Err(Refusal::unsupported(format!("{}: a match of type {other:?} is not supported", self.name))),
        }
    }
}

// === impl BackendRef ===

impl BackendRef {
    /// Its pool; none where it is not there, or may not be named, which is noted.
    ///
    /// # Errors
    /// What is written cannot be done here.
    pub(super) fn pool(&self, scene: &Scene<'_>, unresolved: &mut Vec<Refusal>) -> Result<Option<PoolId>, Refusal> {
        let name = &self.name;
        if self.group.as_deref().is_some_and(|group| !group.is_empty())
            || self.kind.as_deref().is_some_and(|kind| kind != "Service")
        {
            let message = format!("backend {name}: only Services are supported");
            note(unresolved, Refusal { reason: "InvalidKind", message });
            return Ok(None);
        }
        let port = self.port.ok_or_else(|| Refusal::unsupported(format!("backend {name}: give its port")))?;
        let found = scene.pool(self.namespace.as_deref(), name, PortName::Number(port));
        Ok(found.map_err(|why| note(unresolved, why)).ok())
    }

    /// Whether more is asked of it than to get requests.
    pub(super) fn has_filters(&self) -> bool {
        !self.filters.is_empty()
    }
}
