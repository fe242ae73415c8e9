//! What becomes of a route's requests: a pool, several by share, a redirect, or an answer made here.

use std::time::Duration;

use hyper::StatusCode;
use hyper::body::Bytes;
use hyper::header::HeaderValue;
use regex::Regex;
use toml::{Table, Value};

use super::gateway_pool::read_id;
use super::gateway_route::{read_field, read_field_match};
use super::section::Section;
use crate::base::units::ByteSize;
use crate::endpoints::pool::PoolId;
use crate::gateway::config::{
    Action, Fallback, Field, Forward, Mirror, PathPattern, Redirect, Respond, Retries, Rewrite, Target, Timeouts,
};
use crate::upstream::Balancer;

const ACTIONS: [&str; 4] = ["pool", "split", "redirect", "respond"];

pub(super) fn read(section: &mut Section<'_>, path: &PathPattern, balancers: &mut Vec<(PoolId, Balancer)>) -> Action {
    if ACTIONS.into_iter().filter(|key| section.has(key)).count() != 1 {
        section.problem("pool", "give one of pool, split, redirect and respond: what becomes of the route's requests");
    }
    if let Some(mut table) = section.inline("redirect") {
        let mut shown = Table::new();
        let redirect = read_redirect(&mut table, path, &mut shown);
        table.finish();
        section.show("redirect", shown);
        known_forward_keys(section);
        return Action::Redirect(redirect);
    }
    if let Some(mut table) = section.inline("respond") {
        let mut shown = Table::new();
        let respond = read_respond(&mut table, &mut shown);
        table.finish();
        section.show("respond", shown);
        known_forward_keys(section);
        return Action::Respond(respond);
    }
    Action::Forward(Box::new(read_forward(section, path, balancers)))
}

/// Keys that only mean something where requests go to a pool.
fn known_forward_keys(section: &mut Section<'_>) {
    let remedy = "has no effect where requests go to no pool: remove it";
    for key in [
        "balancer",
        "split_by",
        "hash_by",
        "rewrite",
        "set_host",
        "timeout_ms",
        "try_timeout_ms",
        "idle_timeout_seconds",
        "retries",
        "retry_on",
        "max_body_size",
        "upgrades",
        "mirror",
        "fallback",
    ] {
        section.refuse(key, remedy);
    }
}

fn read_forward(section: &mut Section<'_>, path: &PathPattern, balancers: &mut Vec<(PoolId, Balancer)>) -> Forward {
    let targets = read_targets(section);
    if let Some(balancer) = read_balancer(section) {
        balancers.extend(targets.iter().filter_map(|target| Some((target.pool.clone()?, balancer))));
    }
    let millis = |section: &mut Section<'_>, key, default| match section.number(key, 0..=86_400_000, default) {
        0 => None,
        number => Some(Duration::from_millis(number)),
    };
    let rewrite = section.inline("rewrite").and_then(|mut table| {
        let mut shown = Table::new();
        let rewrite = read_rewrite(&mut table, path, &mut shown);
        table.finish();
        section.show("rewrite", shown);
        rewrite
    });
    Forward {
        targets,
        split_by: read_field(section, "split_by"),
        hash_by: read_field(section, "hash_by").unwrap_or(Field::Client),
        rewrite,
        host: read_set_host(section),
        timeouts: Timeouts {
            request: millis(section, "timeout_ms", 0),
            per_try: millis(section, "try_timeout_ms", 60_000),
            idle: Duration::from_secs(section.number("idle_timeout_seconds", 1..=86_400, 60)),
        },
        retries: read_retries(section),
        max_body: read_max_body(section),
        upgrades: read_upgrades(section),
        mirror: read_mirror(section),
        fallback: read_fallback(section),
    }
}

fn read_targets(section: &mut Section<'_>) -> Vec<Target> {
    if section.has("pool") {
        let Some(pool) = read_id(section, "pool") else { return Vec::new() };
        section.show("pool", pool.as_str());
        return vec![Target::new(Some(pool), 1)];
    }
    let (mut targets, mut shown) = (Vec::new(), Vec::new());
    for mut table in section.inline_tables("split") {
        let mut entry = Table::new();
        let pool = read_id(&mut table, "pool");
        entry.extend(pool.as_ref().map(|pool| ("pool".to_owned(), Value::from(pool.as_str()))));
        let share = u32::try_from(table.number("share", 0..=1_000_000, 0)).unwrap_or_default();
        entry.insert("share".to_owned(), Value::from(i64::from(share)));
        let matches = table.inline("match").and_then(|mut inner| {
            let mut shown = Table::new();
            let matches = read_field_match(&mut inner, &mut shown);
            inner.finish();
            entry.insert("match".to_owned(), Value::Table(shown));
            matches
        });
        if share == 0 && !table.has("match") {
            table.problem("share", "is 0 and there is no match, so that nothing goes there: give one of them");
        }
        table.finish();
        shown.push(Value::Table(entry));
        targets.extend(pool.map(|pool| Target { matches, ..Target::new(Some(pool), share) }));
    }
    if section.has("split") {
        if !targets.is_empty() && targets.iter().all(|target| target.share == 0) {
            section.problem("split", "has no share above 0, so that a request that nothing matches goes nowhere");
        }
        if targets.is_empty() {
            section.problem("split", "is empty: write [{ pool = \"…\", share = 90 }, { pool = \"…\", share = 10 }]");
        }
        section.show("split", shown);
    }
    targets
}

fn read_balancer(section: &mut Section<'_>) -> Option<Balancer> {
    let text = section.text("balancer")?;
    section.show("balancer", text);
    let found = Balancer::NAMES.into_iter().find(|(name, _)| *name == text).map(|(_, balancer)| balancer);
    if found.is_none() {
        let names: Vec<_> = Balancer::NAMES.iter().map(|(name, _)| format!("{name:?}")).collect();
        section.problem("balancer", format!("{text:?} is unknown: use {}", names.join(", ")));
    }
    found
}

fn read_set_host(section: &mut Section<'_>) -> Option<HeaderValue> {
    let text = section.text("set_host")?;
    section.show("set_host", text);
    let value = HeaderValue::try_from(text).ok().filter(|_| !text.is_empty() && !text.contains(['/', ' ', '@']));
    if value.is_none() {
        section.problem("set_host", format!("{text:?} is no host: write a name, with its port where it has one"));
    }
    value
}

fn read_retries(section: &mut Section<'_>) -> Retries {
    let attempts = u32::try_from(section.number("retries", 0..=10, 2)).unwrap_or_default();
    let codes = section.texts("retry_on").unwrap_or_default();
    let mut on_status = Vec::new();
    for item in &codes {
        match item.text.parse::<StatusCode>() {
            Ok(status) if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => on_status.push(status),
            _ => section.item_problem(
                item,
                format!("{:?} is no status to try again: use \"429\", or \"500\" to \"599\"", item.text),
            ),
        }
    }
    section.show("retry_on", super::log::texts(&codes));
    Retries { attempts, on_status }
}

fn read_max_body(section: &mut Section<'_>) -> Option<u64> {
    if !section.has("max_body_size") {
        return None;
    }
    let size = section.size("max_body_size", ByteSize(0)..=ByteSize(u64::MAX), ByteSize(0));
    u64::try_from(size).ok()
}

fn read_upgrades(section: &mut Section<'_>) -> Vec<String> {
    match section.texts("upgrades") {
        None => {
            section.show("upgrades", vec![Value::from("websocket")]);
            vec!["websocket".to_owned()]
        }
        Some(items) => {
            section.show("upgrades", super::log::texts(&items));
            items.iter().map(|item| item.text.to_owned()).collect()
        }
    }
}

fn read_mirror(section: &mut Section<'_>) -> Option<Mirror> {
    let mut table = section.inline("mirror")?;
    let pool = read_id(&mut table, "pool");
    let percent = table.number("percent", 1..=100, 100);
    table.finish();
    let mut shown = Table::new();
    shown.extend(pool.as_ref().map(|pool| ("pool".to_owned(), Value::from(pool.as_str()))));
    shown.insert("percent".to_owned(), Value::from(i64::try_from(percent).unwrap_or(100)));
    section.show("mirror", shown);
    Some(Mirror { pool: pool?, per_mille: u32::try_from(percent * 10).unwrap_or(1_000) })
}

fn read_fallback(section: &mut Section<'_>) -> Option<Fallback> {
    let mut table = section.inline("fallback")?;
    let mut shown = Table::new();
    let fallback = if table.has("pool") {
        let pool = read_id(&mut table, "pool");
        shown.extend(pool.as_ref().map(|pool| ("pool".to_owned(), Value::from(pool.as_str()))));
        pool.map(Fallback::Pool)
    } else {
        Some(Fallback::Respond(read_respond(&mut table, &mut shown)))
    };
    table.finish();
    section.show("fallback", shown);
    fallback
}

fn read_respond(table: &mut Section<'_>, shown: &mut Table) -> Respond {
    let status = read_status(table, shown, 200, 200..=599);
    let body = table.text("body").unwrap_or_default();
    shown.insert("body".to_owned(), Value::from(body));
    let content_type = table.text("content_type").unwrap_or("text/plain; charset=utf-8");
    shown.insert("content_type".to_owned(), Value::from(content_type));
    let content_type = HeaderValue::try_from(content_type).unwrap_or_else(|_| {
        table.problem("content_type", "has characters that no field can have");
        HeaderValue::from_static("text/plain")
    });
    Respond { status, content_type, body: Bytes::from(body.to_owned()) }
}

fn read_redirect(table: &mut Section<'_>, path: &PathPattern, shown: &mut Table) -> Redirect {
    let status = read_status(table, shown, 302, 301..=308);
    if !Redirect::STATUSES.contains(&status.as_u16()) {
        table.problem("status", "is no redirect: use 301, 302, 303, 307 or 308");
    }
    let scheme = table.text("scheme");
    if scheme.is_some_and(|scheme| scheme != "http" && scheme != "https") {
        table.problem("scheme", "is unknown: use \"http\" or \"https\"");
    }
    shown.extend(scheme.map(|scheme| ("scheme".to_owned(), Value::from(scheme))));
    let host = table.text("host");
    if host.is_some_and(|host| host.is_empty() || !host.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/')) {
        table.problem("host", "is no host: write a name, with its port where it has one");
    }
    shown.extend(host.map(|host| ("host".to_owned(), Value::from(host))));
    let path = read_rewrite(table, path, shown);
    if scheme.is_none() && host.is_none() && path.is_none() {
        table.problem(
            "host",
            "missing: a redirect to where the request came leads nowhere; give scheme, host, path, prefix or regex",
        );
    }
    Redirect { status, scheme: scheme.map(str::to_owned), host: host.map(str::to_owned), path }
}

fn read_status(
    table: &mut Section<'_>,
    shown: &mut Table,
    default: u16,
    range: std::ops::RangeInclusive<u64>,
) -> StatusCode {
    let status = table.number("status", range, default.into());
    shown.insert("status".to_owned(), Value::from(i64::try_from(status).unwrap_or_default()));
    u16::try_from(status).ok().and_then(|status| StatusCode::from_u16(status).ok()).unwrap_or(StatusCode::OK)
}

/// `path`, `prefix`, or `regex` with `replacement`; none of them leaves the path.
fn read_rewrite(table: &mut Section<'_>, matched: &PathPattern, shown: &mut Table) -> Option<Rewrite> {
    if ["path", "prefix", "regex"].into_iter().filter(|key| table.has(key)).count() > 1 {
        table.problem("path", "give one of path, prefix and regex");
    }
    let mut rewrite = None;
    for key in ["path", "prefix"] {
        let Some(text) = table.text(key) else { continue };
        shown.insert(key.to_owned(), Value::from(text));
        if !text.starts_with('/') || text.bytes().any(|byte| !byte.is_ascii_graphic() || b"?#".contains(&byte)) {
            table.problem(key, format!("{text:?} is no path: begin it with /, percent-encoded, without a query"));
        }
        rewrite = Some(if key == "path" { Rewrite::Path(text.to_owned()) } else { Rewrite::Prefix(text.to_owned()) });
    }
    if table.has("prefix") && matches!(matched, PathPattern::Regex(_)) {
        table.problem(
            "prefix",
            "replaces what path_prefix matched, and the route has a path_regex: use regex and replacement",
        );
    }
    let replacement = table.text("replacement");
    if let Some(text) = table.text("regex") {
        shown.insert("regex".to_owned(), Value::from(text));
        match Regex::new(text) {
            Ok(regex) => rewrite = Some(Rewrite::Regex(regex, replacement.unwrap_or_default().to_owned())),
            Err(error) => table.problem("regex", format!("{text:?} is no regular expression: {}", last_line(&error))),
        }
    } else if replacement.is_some() {
        table.problem("replacement", "has no effect without regex: give one, or remove this");
    }
    shown.extend(replacement.map(|text| ("replacement".to_owned(), Value::from(text))));
    rewrite
}

fn last_line(error: &regex::Error) -> String {
    error.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
}
