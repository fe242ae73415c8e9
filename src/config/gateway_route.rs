//! `[[gateway.route]]`: which requests it takes, and what is done to them whatever becomes of them.

use std::collections::BTreeSet;
use std::time::Duration;

use hyper::Method;
use hyper::header::{HeaderName, HeaderValue};
use regex::Regex;
use toml::{Table, Value};

use super::gateway_action;
use super::log::texts;
use super::section::Section;
use crate::endpoints::pool::PoolId;
use crate::gateway::config::{
    CorsConfig, Field, FieldMatch, HeaderEdits, HostPattern, Matches, PathPattern, RateLimit, RouteConfig,
    ValuePattern, is_framing, whole,
};
use crate::upstream::Balancer;

/// All routes in order, and how their pools are to be balanced. There may be none where others come from elsewhere.
pub(super) fn read_all(section: &mut Section<'_>, others: bool) -> (Vec<RouteConfig>, Vec<(PoolId, Balancer)>) {
    let (mut routes, mut balancers): (Vec<RouteConfig>, _) = (Vec::new(), Vec::new());
    let mut names = BTreeSet::new();
    for mut table in section.tables("route") {
        let route = read(&mut table, &mut balancers);
        if !names.insert(route.name.clone()) {
            let fault = format!("{:?} stands here twice: give each route a name of its own", route.name);
            table.problem("name", fault);
        }
        table.finish();
        routes.push(route);
    }
    if routes.is_empty() && !others {
        section.problem("route", "missing: every request would be answered 404; add [[gateway.route]] with a pool");
    }
    (routes, balancers)
}

fn read(section: &mut Section<'_>, balancers: &mut Vec<(PoolId, Balancer)>) -> RouteConfig {
    let host = read_host(section);
    let path = read_path(section);
    let default = if host == HostPattern::Any { path.to_string() } else { format!("{host}{path}") };
    let name = section.text("name").map_or(default, str::to_owned);
    if name.is_empty() {
        section.problem("name", "is empty: give a name, which metrics and logs have, or remove the key");
    }
    section.show("name", name.as_str());
    let methods = read_methods(section);
    let fields = read_field_matches(section);
    RouteConfig {
        name: name.into(),
        action: gateway_action::read(section, &path, balancers),
        matches: Matches { host, path, methods, fields, ports: Vec::new() },
        request_headers: read_edits(section, "request_headers"),
        response_headers: read_edits(section, "response_headers"),
        cors: read_cors(section),
        rate_limit: read_rate_limit(section),
    }
}

fn read_host(section: &mut Section<'_>) -> HostPattern {
    let Some(text) = section.text("host") else { return HostPattern::Any };
    section.show("host", text);
    let host = text.to_ascii_lowercase();
    let (pattern, name) = match host.strip_prefix("*.") {
        Some(rest) => (HostPattern::Suffix(format!(".{rest}")), rest),
        None => (HostPattern::Exact(host.clone()), host.as_str()),
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b':');
    if name.is_empty() || !name.bytes().all(plain) || name.starts_with('.') || name.ends_with('.') {
        let remedy = "write a name, as \"shop.example\" or \"*.shop.example\", without a port; or remove the key";
        section.problem("host", format!("{text:?} is no host: {remedy}"));
    }
    pattern
}

fn read_path(section: &mut Section<'_>) -> PathPattern {
    let given = ["path", "path_prefix", "path_regex"].into_iter().filter(|key| section.has(key)).count();
    if given > 1 {
        section.problem("path", "give one of path, path_prefix and path_regex");
    }
    let mut found = None;
    if let Some(path) = read_plain_path(section, "path") {
        found = Some(PathPattern::Exact(path));
    }
    if let Some(path) = read_plain_path(section, "path_prefix") {
        found = Some(PathPattern::Prefix(path));
    }
    if let Some(text) = section.text("path_regex") {
        section.show("path_regex", text);
        found = read_regex(section, "path_regex", text).map(PathPattern::Regex);
    }
    if given == 0 {
        section.show("path_prefix", "/");
    }
    found.unwrap_or_default()
}

fn read_plain_path(section: &mut Section<'_>, key: &'static str) -> Option<String> {
    let text = section.text(key)?;
    section.show(key, text);
    if !text.starts_with('/') || text.bytes().any(|byte| !byte.is_ascii_graphic() || byte == b'?' || byte == b'#') {
        section.problem(key, format!("{text:?} is no path: begin it with /, percent-encoded, without a query"));
    }
    Some(text.to_owned())
}

/// An expression that must match the whole.
pub(super) fn read_regex(section: &Section<'_>, key: &str, text: &str) -> Option<Regex> {
    match whole(text) {
        Ok(regex) => Some(regex),
        Err(error) => {
            // Its last line says what is wrong; those before point into the expression.
            let why = error.to_string();
            let why = why.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            section.problem(key, format!("{text:?} is no regular expression: {why}"));
            None
        }
    }
}

fn read_methods(section: &mut Section<'_>) -> Vec<Method> {
    let items = section.texts("methods").unwrap_or_default();
    let mut methods = Vec::new();
    for item in &items {
        match Method::from_bytes(item.text.as_bytes()) {
            Ok(method) if item.text.bytes().all(|byte| !byte.is_ascii_lowercase()) => methods.push(method),
            _ => section.item_problem(item, format!("{:?} is no method: write it in capitals, as \"GET\"", item.text)),
        }
    }
    section.show("methods", texts(&items));
    methods
}

fn read_field_matches(section: &mut Section<'_>) -> Vec<FieldMatch> {
    let (mut matches, mut shown) = (Vec::new(), Vec::new());
    for mut table in section.inline_tables("match") {
        let mut entry = Table::new();
        matches.extend(read_field_match(&mut table, &mut entry));
        shown.push(Value::Table(entry));
        table.finish();
    }
    section.show("match", shown);
    matches
}

/// `{ header | cookie | query = NAME, value = TEXT | regex = EXPRESSION | absent = true }`; without more: it is there.
pub(super) fn read_field_match(table: &mut Section<'_>, shown: &mut Table) -> Option<FieldMatch> {
    let places = ["header", "cookie", "query"];
    if places.into_iter().filter(|key| table.has(key)).count() != 1 {
        table.problem("header", "give one of header, cookie and query, with the name to look at");
    }
    let mut field = None;
    for place in places {
        if let Some(name) = table.text(place) {
            shown.insert(place.to_owned(), Value::from(name));
            field = parse_field(&format!("{place}:{name}"));
            if field.is_none() {
                table.problem(place, format!("{name:?} is no name of a {place}"));
            }
        }
    }
    let mut pattern = ValuePattern::Present;
    if let Some(text) = table.text("value") {
        shown.insert("value".to_owned(), Value::from(text));
        pattern = ValuePattern::Exact(text.to_owned());
    }
    if let Some(text) = table.text("regex") {
        shown.insert("regex".to_owned(), Value::from(text));
        pattern = ValuePattern::Regex(read_regex(table, "regex", text)?);
    }
    if table.has("absent") && table.flag("absent", false) {
        shown.insert("absent".to_owned(), Value::from(true));
        pattern = ValuePattern::Absent;
    }
    if ["value", "regex", "absent"].into_iter().filter(|key| table.has(key)).count() > 1 {
        table.problem("value", "give one of value, regex and absent, or none where it only has to be there");
    }
    Some(FieldMatch { field: field?, value: pattern })
}

/// `client`, `path`, `header:NAME`, `cookie:NAME`, `query:NAME`.
fn parse_field(text: &str) -> Option<Field> {
    match text.split_once(':') {
        None if text == "client" => Some(Field::Client),
        None if text == "path" => Some(Field::Path),
        Some(("header", name)) => HeaderName::try_from(name).ok().map(Field::Header),
        Some(("cookie", name)) if is_plain(name) => Some(Field::Cookie(name.to_owned())),
        Some(("query", name)) if is_plain(name) => Some(Field::Query(name.to_owned())),
        _ => None,
    }
}

fn is_plain(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic() && !b"=;,&".contains(&byte))
}

/// A key whose text names a field.
pub(super) fn read_field(section: &mut Section<'_>, key: &'static str) -> Option<Field> {
    let text = section.text(key)?;
    section.show(key, text);
    let field = parse_field(text);
    if field.is_none() {
        let known = "use \"client\", \"path\", \"header:NAME\", \"cookie:NAME\" or \"query:NAME\"";
        section.problem(key, format!("{text:?} is unknown: {known}"));
    }
    field
}

/// `{ remove = [NAME], set = { NAME = VALUE }, add = { NAME = VALUE } }`.
fn read_edits(section: &mut Section<'_>, key: &'static str) -> HeaderEdits {
    let Some(mut table) = section.inline(key) else { return HeaderEdits::default() };
    let (mut edits, mut shown) = (HeaderEdits::default(), Table::new());
    let items = table.texts("remove").unwrap_or_default();
    for item in &items {
        match HeaderName::try_from(item.text) {
            Ok(name) => edits.remove.push(name),
            Err(_) => table.item_problem(item, format!("{:?} is no name of a field", item.text)),
        }
    }
    if !items.is_empty() {
        shown.insert("remove".to_owned(), texts(&items));
    }
    for (key, into) in [("set", &mut edits.set), ("add", &mut edits.add)] {
        let Some(mut pairs) = table.inline(key) else { continue };
        let mut entries = Table::new();
        for (name, value) in pairs.entries() {
            match (HeaderName::try_from(name), HeaderValue::try_from(&value)) {
                (Ok(parsed), Ok(text)) if !is_framing(&parsed) => into.push((parsed, text)),
                (Ok(parsed), Ok(_)) => {
                    pairs.problem(name, format!("{parsed} belongs to the connection: it cannot be set by a route"));
                }
                (Err(_), _) => pairs.problem(name, format!("{name:?} is no name of a field")),
                (_, Err(_)) => pairs.problem(name, "has characters that no field can have"),
            }
            entries.insert(name.to_owned(), Value::from(value));
        }
        shown.insert(key.to_owned(), Value::Table(entries));
    }
    table.finish();
    section.show(key, shown);
    edits
}

fn read_cors(section: &mut Section<'_>) -> Option<CorsConfig> {
    let mut table = section.inline("cors")?;
    let mut shown = Table::new();
    let origins = table.texts("allow_origins").unwrap_or_default();
    if origins.is_empty() {
        table.problem(
            "allow_origins",
            "missing or empty: name origins, as [\"https://shop.example\", \"https://*.example\"]",
        );
    }
    for item in &origins {
        if item.text != "*"
            && !item.text.split_once("://").is_some_and(|(_, host)| !host.is_empty() && !host.contains('/'))
        {
            table.item_problem(item, format!("{:?} is no origin: write SCHEME://HOST, or *", item.text));
        }
    }
    shown.insert("allow_origins".to_owned(), texts(&origins));
    let mut list = |key: &'static str, default: Option<&str>| {
        let items = table.texts(key);
        let joined = items.as_ref().map(|items| items.iter().map(|item| item.text).collect::<Vec<_>>().join(", "));
        let joined = joined.or(default.map(str::to_owned))?;
        let words: Vec<Value> = joined.split(", ").map(Value::from).collect();
        shown.insert(key.to_owned(), Value::Array(words));
        HeaderValue::try_from(joined).map_err(|_| table.problem(key, "has characters that no field can have")).ok()
    };
    let allow_methods = list("allow_methods", Some("GET, HEAD, POST, PUT, PATCH, DELETE"));
    let allow_headers = list("allow_headers", None);
    let expose_headers = list("expose_headers", None);
    let allow_credentials = table.flag("allow_credentials", false);
    let max_age = table.number("max_age_seconds", 0..=86_400, 600);
    shown.insert("allow_credentials".to_owned(), Value::from(allow_credentials));
    shown.insert("max_age_seconds".to_owned(), Value::from(i64::try_from(max_age).unwrap_or_default()));
    if allow_credentials && origins.iter().any(|item| item.text == "*") {
        table.problem("allow_credentials", "any page could ask with its visitor's cookies: name the origins");
    }
    table.finish();
    section.show("cors", shown);
    Some(CorsConfig {
        allow_origins: origins.iter().map(|item| item.text.to_owned()).collect(),
        allow_methods: allow_methods.unwrap_or_else(|| HeaderValue::from_static("GET")),
        allow_headers,
        expose_headers,
        allow_credentials,
        max_age: Duration::from_secs(max_age),
    })
}

fn read_rate_limit(section: &mut Section<'_>) -> Option<RateLimit> {
    let mut table = section.inline("rate_limit")?;
    let mut number = |key| u64::from(table.required_number(key, 1..=10_000_000).max(1).unsigned_abs());
    let (requests_per_second, burst) = (number("requests_per_second"), number("burst"));
    let text = table.text("per").unwrap_or("route");
    let per = if text == "route" { None } else { parse_field(text) };
    if per.is_none() && text != "route" {
        let known = "use \"route\", \"client\", \"path\", \"header:NAME\", \"cookie:NAME\" or \"query:NAME\"";
        table.problem("per", format!("{text:?} is unknown: {known}"));
    }
    table.finish();
    let mut shown = Table::new();
    let shown_number = |number| Value::from(i64::try_from(number).unwrap_or(i64::MAX));
    shown.insert("requests_per_second".to_owned(), shown_number(requests_per_second));
    shown.insert("burst".to_owned(), shown_number(burst));
    shown.insert("per".to_owned(), Value::from(text));
    section.show("rate_limit", shown);
    Some(RateLimit { requests_per_second, burst, per })
}
