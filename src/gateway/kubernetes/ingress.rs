//! An Ingress as routes.
//!
//! Taken: `ingressClassName` (see `class.rs`), `rules` with `host` and `http.paths` (`Exact`, `Prefix`, `ImplementationSpecific`, which is
//! `Prefix`) to Services, a `defaultBackend` by Service, and `tls`: its Secrets are shown to who asks for hosts of the rules, where the
//! gateway speaks TLS. Refused: backends that are no Service, and every field that is not known here. Annotations are other
//! controllers'. What falls to a Service that is not there is answered with 500.

use serde::Deserialize;

use super::object::{Ingress, Kind, Object};
use super::secret::{INVALID, Secrets, find};
use super::wish::{Claim, PortName, Refusal, Scene, Wish, forward, host, intersection, note, route};
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
    tls: Vec<Tls>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Tls {
    /// None: those of all rules.
    #[serde(default)]
    hosts: Vec<String>,
    /// Absent: the listener's own certificate.
    secret_name: Option<String>,
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

/// What it wishes for, by host: each host's rules are its own.
///
/// # Errors
/// Some of it cannot be done here.
pub(super) fn wishes(object: &Object<Ingress>, scene: &Scene<'_>, secrets: &Secrets) -> Result<Vec<Wish>, Refusal> {
    let spec = Spec::deserialize(&object.spec).map_err(|error| Refusal::unsupported(format!("spec: {error}")))?;
    let (namespace, name) = object.key();
    let of_host = |host: HostPattern| {
        let mut wish = Wish { claims: vec![Claim { host: host.clone(), ports: None }], ..Wish::default() };
        if let Some(secret) = spec.tls.iter().find(|tls| tls.is_for(&host)).and_then(|tls| tls.secret_name.as_ref()) {
            match find(secrets, &namespace, secret) {
                Ok(certificate) => wish.certificate = Some(certificate.clone()),
                Err(message) => {
                    wish.unresolved.push(Refusal { reason: INVALID, message: format!("spec.tls: {message}") })
                }
            }
        }
        wish
    };
    let mut wishes = Vec::new();
    for (number, rule) in spec.rules.iter().enumerate() {
        let mut wish = of_host(host(&rule.host));
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
        let mut wish = of_host(HostPattern::Any);
        let label = format!("{}/{namespace}/{name}/default", Ingress::NAME.to_lowercase());
        let action = backend.action(scene, &mut wish.unresolved)?;
        wish.routes.push(route(label, Matches::default(), action));
        wishes.push(wish);
    }
    Ok(wishes)
}

fn of_path(label: &str, path: &Path, scene: &Scene<'_>, unresolved: &mut Vec<Refusal>) -> Result<RouteConfig, Refusal> {
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

// === impl Tls ===

impl Tls {
    /// Whether a rule's host is meant. Whoever asks for no host, or for one that no rule has, gets the listener's certificate.
    fn is_for(&self, rule: &HostPattern) -> bool {
        let covers = |text: &String| intersection(&host(text), rule).as_ref() == Some(rule);
        *rule != HostPattern::Any && (self.hosts.is_empty() || self.hosts.iter().any(covers))
    }
}

// === impl Backend ===

impl Backend {
    fn action(&self, scene: &Scene<'_>, unresolved: &mut Vec<Refusal>) -> Result<Action, Refusal> {
        let Service { name, port } = &self.service;
        let port = match (&port.name, port.number) {
            (Some(name), None) => PortName::Name(name),
            (None, Some(number)) => PortName::Number(number),
            _ => return Err(Refusal::unsupported(format!("Service {name}: give its port's name or its number"))),
        };
        let pool = scene.pool(None, name, port).map_err(|why| note(unresolved, why)).ok();
        Ok(Action::Forward(Box::new(forward(vec![Target::new(pool, 1)]))))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::gateway::certificates::tests::{identity, pair};
    use crate::gateway::kubernetes::grant::{Grants, Referrer};
    use crate::gateway::kubernetes::object::Port as Known;
    use crate::gateway::kubernetes::wish::Services;
    use crate::gateway::tls::Certificate;

    fn told(spec: Value) -> Result<Vec<String>, String> {
        let known = Known { number: 80, name: "http".to_owned(), last: Ok("http".to_owned()) };
        let services: Services = [(("shop".to_owned(), "web".to_owned()), vec![known])].into();
        let who = Referrer { group: Ingress::GROUP, kind: Ingress::NAME, namespace: "shop" };
        let scene = Scene { cluster: "east", who, services: &services, grants: &Grants::new() };
        let certificate = Certificate::new(identity(&pair(&["a.example"]))).unwrap();
        let secrets: Secrets = [(("shop".to_owned(), "good".to_owned()), Ok(certificate))].into();
        let wishes = wishes(&Object::for_tests("shop", "it", 0, spec), &scene, &secrets).map_err(|it| it.message)?;
        let of_wish = |wish: &Wish| {
            let host = wish.claims[0].host.to_string();
            let host = if wish.certificate.is_some() { format!("{host} (TLS)") } else { host };
            let route = |route: &RouteConfig| match &route.action {
                Action::Forward(forward) => {
                    let pool = forward.targets[0].pool.as_ref().map_or("nowhere", |pool| pool.as_str());
                    format!("{host} {} {pool}", route.matches.path)
                }
                other => panic!("{other:?}"),
            };
            let unresolved = wish.unresolved.iter().map(|it| it.message.clone());
            wish.routes.iter().map(route).chain(unresolved).collect::<Vec<_>>()
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
                "*.shop.example /* nowhere",
                "Service web with port 81 is not there"
            ]
        );
        let spec = json!({"defaultBackend": backend(json!({"number": 80})), "rules": [{"host": "a.example"}]});
        assert_eq!(told(spec).unwrap(), ["a.example /* east/shop/web/http", "* /* east/shop/web/http"]);
    }

    #[test]
    fn a_secret_is_for_the_hosts_of_its_rules_alone_and_one_that_is_not_there_is_told() {
        let rules: Vec<Value> = ["a.example", "b.example", "x.c.example", ""]
            .map(|host| json!({"host": host, "http": {"paths": [{"pathType": "Exact", "path": "/", "backend": backend(json!({"number": 80}))}]}}))
            .into();
        let tls = json!([
            {"hosts": ["a.example", "*.c.example", "d.example"], "secretName": "good"},
            {"hosts": ["b.example"], "secretName": "gone"},
        ]);
        assert_eq!(
            told(json!({"rules": rules.clone(), "tls": tls})).unwrap(),
            [
                "a.example (TLS) / east/shop/web/http",
                "b.example / east/shop/web/http",
                "spec.tls: Secret shop/gone is not there, is not of the type kubernetes.io/tls, or may not be read",
                "x.c.example (TLS) / east/shop/web/http",
                "* / east/shop/web/http",
            ]
        );
        let all = told(json!({"rules": rules, "tls": [{"secretName": "good"}]})).unwrap();
        assert_eq!(all.iter().filter(|it| it.contains("(TLS)")).count(), 3, "{all:?}");
    }

    #[test]
    fn what_is_not_done_here_refuses_all_of_it() {
        for (spec, wanted) in [
            (json!({"tls": [{"options": ["a"]}]}), "unknown field `options`"),
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
