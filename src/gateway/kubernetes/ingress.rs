//! An Ingress as routes.
//!
//! Taken: `ingressClassName` (ours), `rules` with `host` and `http.paths` (`Exact`, `Prefix`, `ImplementationSpecific`, which is
//! `Prefix`) to Services, and a `defaultBackend` by Service. Refused: `tls`, whose certificates stand in the gateway's own
//! configuration, backends that are no Service, and every field that is not known here. Annotations are other controllers'.

use serde::Deserialize;
use serde_json::Value;

use super::object::{Ingress, Kind, Object};
use super::wish::{PortName, Refusal, Scene, Wish, forward, host, route};
use crate::gateway::config::{Action, HostPattern, Matches, PathPattern, RouteConfig, Target};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Spec {
    #[serde(default, rename = "ingressClassName")]
    _class: Option<String>,
    default_backend: Option<Backend>,
    #[serde(default)]
    rules: Vec<Rule>,
    #[serde(default)]
    tls: Vec<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    #[serde(default)]
    host: String,
    http: Option<Http>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Http {
    paths: Vec<Path>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Path {
    #[serde(default)]
    path: String,
    path_type: String,
    backend: Backend,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Backend {
    service: Service,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Service {
    name: String,
    port: Port,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Port {
    name: Option<String>,
    number: Option<i32>,
}

/// Whether an Ingress is of this class.
pub(super) fn is_of(object: &Object<Ingress>, class: &str) -> bool {
    object.spec.get("ingressClassName").and_then(Value::as_str) == Some(class)
}

/// What it wishes for, by host: each host's rules are its own.
///
/// # Errors
/// Some of it cannot be done here.
pub(super) fn wishes(object: &Object<Ingress>, scene: &Scene<'_>) -> Result<Vec<Wish>, Refusal> {
    let spec = Spec::deserialize(&object.spec).map_err(|error| Refusal::unsupported(format!("spec: {error}")))?;
    if !spec.tls.is_empty() {
        return Err(Refusal::unsupported("spec.tls: certificates stand in the gateway's configuration: remove it"));
    }
    let (namespace, name) = object.key();
    let mut wishes = Vec::new();
    for (number, rule) in spec.rules.iter().enumerate() {
        let mut wish = Wish { hosts: vec![host(&rule.host)], ..Wish::default() };
        let label = format!("{}/{namespace}/{name}/{number}", Ingress::NAME.to_lowercase());
        match &rule.http {
            Some(http) => {
                for path in &http.paths {
                    let route = of_path(&label, path, scene, &mut wish.unresolved)?;
                    wish.routes.push(route);
                }
            }
            // A host alone goes where nothing else does.
            None => {
                let Some(backend) = &spec.default_backend else {
                    return Err(Refusal::unsupported(format!(
                        "spec.rules[{number}]: neither http nor a defaultBackend"
                    )));
                };
                let action = backend.action(scene, &mut wish.unresolved)?;
                wish.routes.push(route(label, Matches::default(), action));
            }
        }
        wishes.push(wish);
    }
    if let Some(backend) = &spec.default_backend {
        let mut wish = Wish { hosts: vec![HostPattern::Any], ..Wish::default() };
        let label = format!("{}/{namespace}/{name}/default", Ingress::NAME.to_lowercase());
        let action = backend.action(scene, &mut wish.unresolved)?;
        wish.routes.push(route(label, Matches::default(), action));
        wishes.push(wish);
    }
    Ok(wishes)
}

fn of_path(label: &str, path: &Path, scene: &Scene<'_>, unresolved: &mut Vec<String>) -> Result<RouteConfig, Refusal> {
    let text = if path.path.is_empty() { "/" } else { &path.path };
    if !text.starts_with('/') {
        return Err(Refusal::unsupported(format!("path {text:?}: begin it with /")));
    }
    let pattern = match path.path_type.as_str() {
        "Exact" => PathPattern::Exact(text.to_owned()),
        "Prefix" | "ImplementationSpecific" => PathPattern::Prefix(whole_segments(text)),
        other => return Err(Refusal::unsupported(format!("pathType {other:?} is not known"))),
    };
    let action = path.backend.action(scene, unresolved)?;
    Ok(route(label.to_owned(), Matches { path: pattern, ..Matches::default() }, action))
}

/// A prefix of whole segments: `/a/` is `/a`, which takes `/a` and what is below.
pub(super) fn whole_segments(path: &str) -> String {
    let plain = path.trim_end_matches('/');
    if plain.is_empty() { "/".to_owned() } else { plain.to_owned() }
}

// === impl Backend ===

impl Backend {
    fn action(&self, scene: &Scene<'_>, unresolved: &mut Vec<String>) -> Result<Action, Refusal> {
        let Service { name, port } = &self.service;
        let port = match (&port.name, port.number) {
            (Some(name), None) => PortName::Name(name),
            (None, Some(number)) => PortName::Number(number),
            _ => return Err(Refusal::unsupported(format!("Service {name}: give its port's name or its number"))),
        };
        let pool = scene.pool(name, port, unresolved)?;
        Ok(Action::Forward(Box::new(forward(vec![Target { pool, share: 1, matches: None }]))))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::gateway::kubernetes::object::Port as Known;
    use crate::gateway::kubernetes::wish::Services;

    fn told(spec: Value) -> Result<Vec<String>, String> {
        let known = Known { number: 80, name: "http".to_owned(), last: Ok("http".to_owned()) };
        let services: Services = [(("shop".to_owned(), "web".to_owned()), vec![known])].into();
        let scene = Scene { cluster: "east", namespace: "shop", services: &services };
        let wishes = wishes(&Object::for_tests("shop", "it", 0, spec), &scene).map_err(|it| it.message)?;
        let of_wish = |wish: &Wish| {
            let host = wish.hosts[0].to_string();
            let route = |route: &RouteConfig| match &route.action {
                Action::Forward(forward) => format!("{host} {} {}", route.matches.path, forward.targets[0].pool),
                other => panic!("{other:?}"),
            };
            wish.routes.iter().map(route).chain(wish.unresolved.iter().cloned()).collect::<Vec<_>>()
        };
        Ok(wishes.iter().flat_map(of_wish).collect())
    }

    fn backend(port: Value) -> Value {
        json!({"service": {"name": "web", "port": port}})
    }

    #[test]
    fn paths_lead_to_services_by_number_or_name() {
        let paths = json!([
            {"path": "/a/", "pathType": "Prefix", "backend": backend(json!({"number": 80}))},
            {"path": "/b", "pathType": "Exact", "backend": backend(json!({"name": "http"}))},
            {"pathType": "ImplementationSpecific", "backend": backend(json!({"number": 81}))},
        ]);
        let spec =
            json!({"ingressClassName": "tidegate", "rules": [{"host": "*.Shop.example", "http": {"paths": paths}}]});
        assert_eq!(
            told(spec).unwrap(),
            [
                "*.shop.example /a* east/shop/web/http",
                "*.shop.example /b east/shop/web/http",
                "*.shop.example /* east/shop/web/81",
                "Service web with port 81 is not there"
            ]
        );
        let spec = json!({"defaultBackend": backend(json!({"number": 80})), "rules": [{"host": "a.example"}]});
        assert_eq!(told(spec).unwrap(), ["a.example /* east/shop/web/http", "* /* east/shop/web/http"]);
    }

    #[test]
    fn what_is_not_done_here_refuses_all_of_it() {
        for (spec, wanted) in [
            (json!({"tls": [{"hosts": ["a"]}]}), "spec.tls"),
            (json!({"rules": [{"host": "a"}]}), "spec.rules[0]"),
            (json!({"defaultBackend": {"resource": {"kind": "Bucket", "name": "x"}}}), "unknown field `resource`"),
            (json!({"defaultBackend": backend(json!({}))}), "Service web"),
            (json!({"newField": 1}), "unknown field `newField`"),
        ] {
            let said = told(spec.clone()).unwrap_err();
            assert!(said.contains(wanted), "{spec}: {said}");
        }
    }
}
