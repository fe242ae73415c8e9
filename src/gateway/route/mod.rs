//! Which route takes a request.
//!
//! Routes of the exact host are asked first, then those of `*.` patterns, the longest first, then those without a host. Among
//! routes of the same host, the first in the order of the file that takes the request wins.

mod asked;
mod matched;
mod rewrite;
mod split;

use std::collections::HashMap;
use std::sync::Arc;

pub(super) use asked::{Asked, plain_host};
pub(super) use matched::fits;
pub(super) use rewrite::rewrite;
pub(super) use split::choose;

use serde_json::{Value, json};

use super::config::{Action, FieldMatch, HostPattern, Matches, PathPattern, RouteConfig, ValuePattern};
use super::limit::RouteLimit;
use super::metrics::RouteMetrics;

/// All routes.
#[derive(Debug)]
pub(super) struct RouteTable {
    exact: HashMap<Box<str>, Vec<Arc<Route>>>,
    /// Longest first.
    suffixes: Vec<(Box<str>, Vec<Arc<Route>>)>,
    any: Vec<Arc<Route>>,
}

/// One route at work.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) config: RouteConfig,
    pub(super) limit: Option<RouteLimit>,
    pub(super) metrics: RouteMetrics,
}

// === impl RouteTable ===

impl RouteTable {
    /// Routes in the order of the file. Those that `before` has alike keep their rate limits' state.
    pub(super) fn new(configs: Vec<RouteConfig>, before: Option<&Self>) -> Self {
        let mut table = Self { exact: HashMap::new(), suffixes: Vec::new(), any: Vec::new() };
        let mut limits: HashMap<Arc<str>, Arc<Route>> = HashMap::new();
        if let Some(before) = before {
            limits.extend(before.routes().map(|route| (route.config.name.clone(), route.clone())));
        }
        for config in configs {
            let route = Arc::new(Route::new(config, &limits));
            match &route.config.matches.host {
                HostPattern::Any => table.any.push(route),
                HostPattern::Exact(host) => table.exact.entry(host.as_str().into()).or_default().push(route),
                HostPattern::Suffix(suffix) => match table.suffixes.iter_mut().find(|(it, _)| **it == **suffix) {
                    Some((_, routes)) => routes.push(route),
                    None => table.suffixes.push((suffix.as_str().into(), vec![route])),
                },
            }
        }
        table.suffixes.sort_by_key(|(suffix, _)| std::cmp::Reverse(suffix.len()));
        table
    }

    /// The route that takes a request.
    pub(super) fn find(&self, asked: &Asked<'_>) -> Option<&Arc<Route>> {
        let host = asked.host.as_ref();
        let exact = self.exact.get(host).map(Vec::as_slice).unwrap_or_default();
        let first = exact.iter().find(|route| takes(&route.config.matches, asked));
        if first.is_some() || (self.suffixes.is_empty() && self.any.is_empty()) {
            return first;
        }
        let suffixes =
            self.suffixes.iter().filter(|(suffix, _)| host.len() > suffix.len() && host.ends_with(&**suffix));
        let wild = suffixes.flat_map(|(_, routes)| routes).chain(&self.any);
        wild.into_iter().find(|route| takes(&route.config.matches, asked))
    }

    /// The routes by host, for people.
    pub(super) fn report(&self) -> Value {
        let route = |route: &Arc<Route>| {
            let config = &route.config;
            let pools: Vec<&str> = match &config.action {
                Action::Forward(forward) => forward.pools().map(|pool| pool.as_str()).collect(),
                Action::Redirect(_) | Action::Respond(_) => Vec::new(),
            };
            json!({ "name": config.name, "host": config.matches.host.to_string(), "path": config.matches.path.to_string(),
                "pools": pools })
        };
        self.routes().map(route).collect()
    }

    fn routes(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.exact.values().chain(self.suffixes.iter().map(|(_, routes)| routes)).flatten().chain(&self.any)
    }
}

// === impl Route ===

impl Route {
    fn new(config: RouteConfig, before: &HashMap<Arc<str>, Arc<Self>>) -> Self {
        let limit = config.rate_limit.clone().map(|limit| {
            let known = before.get(&config.name).and_then(|route| route.limit.as_ref());
            RouteLimit::following(limit, known)
        });
        let metrics = RouteMetrics::new(&config);
        Self { config, limit, metrics }
    }
}

fn takes(matches: &Matches, asked: &Asked<'_>) -> bool {
    takes_path(&matches.path, asked.path)
        && (matches.ports.is_empty() || matches.ports.contains(&asked.port))
        && (matches.methods.is_empty() || matches.methods.contains(asked.method))
        && matches.fields.iter().all(|field| takes_field(field, asked))
}

fn takes_path(pattern: &PathPattern, path: &str) -> bool {
    match pattern {
        PathPattern::Exact(exact) => path == exact,
        PathPattern::Prefix(prefix) => match path.strip_prefix(prefix.as_str()) {
            Some(rest) => rest.is_empty() || prefix.ends_with('/') || rest.starts_with('/'),
            None => false,
        },
        PathPattern::Regex(regex) => regex.is_match(path),
    }
}

/// Whether a field is what it must be.
pub(super) fn takes_field(wanted: &FieldMatch, asked: &Asked<'_>) -> bool {
    asked.with(&wanted.field, |value| match (&wanted.value, value) {
        (ValuePattern::Absent, value) => value.is_none(),
        (ValuePattern::Present, value) => value.is_some(),
        (ValuePattern::Exact(exact), Some(value)) => value == exact.as_bytes(),
        (ValuePattern::Regex(regex), Some(value)) => std::str::from_utf8(value).is_ok_and(|text| regex.is_match(text)),
        (ValuePattern::Exact(_) | ValuePattern::Regex(_), None) => false,
    })
}

/// Whether programs could resolve a path to different places: `.` and `..` segments, percent-encoded ones and those after a
/// backslash among them.
pub(super) fn is_ambiguous(path: &str) -> bool {
    if memchr::memchr3(b'.', b'%', b'\\', path.as_bytes()).is_none() {
        return false;
    }
    let mut plain = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let (byte, next) = match (first, after) {
            (b'%', [b'0', b'0', ..]) => return true,
            (b'%', [b'2', b'e' | b'E', next @ ..]) => (b'.', next),
            (b'%', [b'2', b'f' | b'F', next @ ..] | [b'5', b'c' | b'C', next @ ..]) => (b'/', next),
            (b'\\', _) => (b'/', after),
            (byte, _) => (*byte, after),
        };
        plain.push(byte);
        rest = next;
    }
    // A segment's parameters (`..;x`) are no part of its name to some.
    plain.split(|byte| *byte == b'/').any(|segment| {
        let name = segment.split(|byte| *byte == b';').next().unwrap_or_default();
        matches!(name, b"." | b"..")
    })
}

#[cfg(test)]
mod tests {
    use hyper::{HeaderMap, Method};
    use regex::Regex;

    use super::*;
    use crate::gateway::config::{Field, HeaderEdits, Respond};

    fn route(name: &str, matches: Matches) -> RouteConfig {
        let respond = Respond {
            status: hyper::StatusCode::OK,
            content_type: hyper::header::HeaderValue::from_static("text/plain"),
            body: hyper::body::Bytes::new(),
        };
        RouteConfig {
            name: name.into(),
            matches,
            action: Action::Respond(respond),
            request_headers: HeaderEdits::default(),
            response_headers: HeaderEdits::default(),
            cors: None,
            rate_limit: None,
        }
    }

    fn found(table: &RouteTable, host: &str, path: &str, fields: &[(&str, &str)]) -> String {
        found_at(table, 8080, host, path, fields)
    }

    fn found_at(table: &RouteTable, port: u16, host: &str, path: &str, fields: &[(&str, &str)]) -> String {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(hyper::header::HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
        }
        let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
        let asked = Asked {
            host: host.into(),
            method: &Method::GET,
            path,
            query,
            headers: &headers,
            client: "10.0.0.1".parse().unwrap(),
            port,
        };
        table.find(&asked).map_or("-".to_owned(), |route| route.config.name.to_string())
    }

    fn path(path: PathPattern) -> Matches {
        Matches { path, ..Matches::default() }
    }

    #[test]
    fn the_exact_host_is_asked_before_patterns_and_the_longest_pattern_first() {
        let host = |host| Matches { host, ..Matches::default() };
        let table = RouteTable::new(
            vec![
                route("any", Matches::default()),
                route("wide", host(HostPattern::Suffix(".example".into()))),
                route("narrow", host(HostPattern::Suffix(".shop.example".into()))),
                route("exact", host(HostPattern::Exact("a.shop.example".into()))),
            ],
            None,
        );
        for (host, name) in [
            ("a.shop.example", "exact"),
            ("b.shop.example", "narrow"),
            ("shop.example", "wide"),
            ("example", "any"),
            (".example", "any"),
            ("", "any"),
        ] {
            assert_eq!(found(&table, host, "/", &[]), name, "{host}");
        }
    }

    #[test]
    fn a_route_of_some_listeners_takes_what_comes_to_them_alone() {
        let of = |host, ports: &[u16]| Matches { host, ports: ports.to_vec(), ..Matches::default() };
        let exact = HostPattern::Exact("a.example".into());
        let table =
            RouteTable::new(vec![route("secure", of(exact, &[8443])), route("any", of(HostPattern::Any, &[]))], None);
        for (port, name) in [(8443, "secure"), (8080, "any")] {
            assert_eq!(found_at(&table, port, "a.example", "/", &[]), name, "{port}");
        }
    }

    #[test]
    fn where_the_exact_host_does_not_take_it_a_pattern_may() {
        let exact = Matches {
            host: HostPattern::Exact("a.example".into()),
            path: PathPattern::Prefix("/a".into()),
            ..Matches::default()
        };
        let table = RouteTable::new(vec![route("exact", exact), route("any", Matches::default())], None);
        assert_eq!(found(&table, "a.example", "/a/b", &[]), "exact");
        assert_eq!(found(&table, "a.example", "/b", &[]), "any");
    }

    #[test]
    fn a_prefix_ends_between_segments() {
        let table = RouteTable::new(
            vec![
                route("exact", path(PathPattern::Exact("/a/x".into()))),
                route("prefix", path(PathPattern::Prefix("/a".into()))),
                route("open", path(PathPattern::Prefix("/img/".into()))),
                route("regex", path(PathPattern::Regex(Regex::new(r"^(?:/v\d+/.*)$").unwrap()))),
            ],
            None,
        );
        for (path, name) in [
            ("/a/x", "exact"),
            ("/a", "prefix"),
            ("/a/", "prefix"),
            ("/a/b?q", "prefix"),
            ("/ab", "-"),
            ("/img/b", "open"),
            ("/img", "-"),
            ("/v12/b", "regex"),
            ("/vx/b", "-"),
        ] {
            assert_eq!(found(&table, "", path, &[]), name, "{path}");
        }
    }

    #[test]
    fn headers_cookies_and_queries_are_looked_into() {
        let field = |field, value| Matches { fields: vec![FieldMatch { field, value }], ..Matches::default() };
        let table = RouteTable::new(
            vec![
                route(
                    "header",
                    field(
                        Field::Header(hyper::header::HeaderName::from_static("x-canary")),
                        ValuePattern::Exact("yes".into()),
                    ),
                ),
                route(
                    "cookie",
                    field(Field::Cookie("who".into()), ValuePattern::Regex(Regex::new("^(?:b.*)$").unwrap())),
                ),
                route("query", field(Field::Query("q".into()), ValuePattern::Present)),
                route("absent", field(Field::Query("z".into()), ValuePattern::Absent)),
            ],
            None,
        );
        assert_eq!(found(&table, "", "/", &[("x-canary", "yes")]), "header");
        assert_eq!(found(&table, "", "/?z", &[("x-canary", "no")]), "-");
        assert_eq!(found(&table, "", "/", &[("cookie", "a=1; who=bob")]), "cookie");
        assert_eq!(found(&table, "", "/?z=", &[("cookie", "who=alice")]), "-");
        assert_eq!(found(&table, "", "/?a=1&q=2", &[]), "query");
        assert_eq!(found(&table, "", "/?a=1", &[]), "absent");
    }

    #[test]
    fn paths_that_programs_resolve_differently_are_told() {
        for bad in [
            "/a/../b",
            "/..",
            "/./a",
            "/a/.",
            "/%2e%2e/a",
            "/a/%2E./b",
            "/a%2f..%2fb",
            "/a\\..\\b",
            "/a/..;x/b",
            "/a%00",
            "/%5c../a",
        ] {
            assert!(is_ambiguous(bad), "{bad}");
        }
        for good in ["/", "/a.b/c..d", "/...", "/a/.well-known/x", "/a%20b", "/%C3%A4", "/a//b", "/a;b/c", "/a%"] {
            assert!(!is_ambiguous(good), "{good}");
        }
    }
}
