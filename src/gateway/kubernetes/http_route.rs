//! An HTTPRoute of the Gateway API as routes.
//!
//! Taken: `hostnames`, `matches` (path, headers, query, method), the filters `RequestHeaderModifier`, `ResponseHeaderModifier`,
//! `RequestRedirect`, `URLRewrite` and `RequestMirror`, `backendRefs` to Services of its own namespace with weights, and `timeouts`.
//! Every other field, and every other value, refuses the whole of it with the reason: half a rule would send requests where
//! nobody meant them to go.

use hyper::header::{HeaderName, HeaderValue};
use hyper::{Method, StatusCode};
use regex::Regex;
use serde::Deserialize;
use serde_json::Value;

use super::filter::{self, Filter};
use super::ingress::whole_segments;
use super::object::{HttpRoute, Kind, Object};
use super::wish::{PortName, Refusal, Scene, Wish, forward, host, nowhere, route};
use crate::gateway::config::{
    Action, Field, FieldMatch, HostPattern, Matches, PathPattern, Redirect, RouteConfig, Target, ValuePattern, whole,
};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Spec {
    #[serde(default, rename = "parentRefs")]
    _parents: Value,
    #[serde(default)]
    hostnames: Vec<String>,
    #[serde(default)]
    rules: Vec<Rule>,
}

/// What an HTTPRoute is attached to.
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
    filters: Vec<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Times {
    request: Option<String>,
    backend_request: Option<String>,
}

/// Those of its parents that are these Gateways (`NAMESPACE/NAME`), as they are written in it.
pub(super) fn parents(object: &Object<HttpRoute>, gateways: &[String]) -> Vec<(Value, ParentRef)> {
    let (namespace, _) = object.key();
    let refs = object.spec.get("parentRefs").and_then(Value::as_array).into_iter().flatten();
    let known = refs.filter_map(|text| Some((text.clone(), ParentRef::deserialize(text).ok()?)));
    let ours = |parent: &ParentRef| {
        parent.group.as_deref().is_none_or(|group| group == HttpRoute::GROUP)
            && parent.kind.as_deref().is_none_or(|kind| kind == "Gateway")
            && gateways.contains(&format!("{}/{}", parent.namespace.as_deref().unwrap_or(&namespace), parent.name))
    };
    known.filter(|(_, parent)| ours(parent)).collect()
}

/// What it wishes for.
///
/// # Errors
/// Some of it cannot be done here.
pub(super) fn wish(
    object: &Object<HttpRoute>,
    parents: &[(Value, ParentRef)],
    scene: &Scene<'_>,
) -> Result<Wish, Refusal> {
    let spec = Spec::deserialize(&object.spec).map_err(|error| Refusal::unsupported(format!("spec: {error}")))?;
    if parents.iter().any(|(_, parent)| parent.section_name.is_some() || parent.port.is_some()) {
        return Err(Refusal::unsupported(
            "spec.parentRefs: sectionName and port are not supported: every listener has every route",
        ));
    }
    let hosts: Vec<HostPattern> = spec.hostnames.iter().map(|text| host(text)).collect();
    let mut wish = Wish { hosts: if hosts.is_empty() { vec![HostPattern::Any] } else { hosts }, ..Wish::default() };
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
    wish.unresolved.sort();
    wish.unresolved.dedup();
    Ok(wish)
}

fn of_match(
    label: &str,
    rule: &Rule,
    it: &Match,
    scene: &Scene<'_>,
    unresolved: &mut Vec<String>,
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
    let matches = Matches { host: HostPattern::Any, path, methods: method.transpose()?.into_iter().collect(), fields };
    let mut route = route(label.to_owned(), matches, nowhere());
    let mut targets = Vec::new();
    for backend in &rule.backend_refs {
        let target =
            Target { pool: backend.pool(scene, unresolved)?, share: backend.weight.unwrap_or(1), matches: None };
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
    pub(super) fn pool(
        &self,
        scene: &Scene<'_>,
        unresolved: &mut Vec<String>,
    ) -> Result<crate::endpoints::pool::PoolId, Refusal> {
        let name = &self.name;
        if self.group.as_deref().is_some_and(|group| !group.is_empty())
            || self.kind.as_deref().is_some_and(|kind| kind != "Service")
        {
            return Err(Refusal::unsupported(format!("backend {name}: only Services are supported")));
        }
        if self.namespace.as_deref().is_some_and(|namespace| namespace != scene.namespace) {
            let message = format!("backend {name}: is in another namespace, and ReferenceGrants are not supported");
            return Err(Refusal { reason: "RefNotPermitted", message });
        }
        if !self.filters.is_empty() {
            return Err(Refusal::unsupported(format!("backend {name}: filters of a backend are not supported")));
        }
        let port = self.port.ok_or_else(|| Refusal::unsupported(format!("backend {name}: give its port")))?;
        scene.pool(name, PortName::Number(port), unresolved)
    }
}
