//! Filters of an HTTPRoute's rule: what is done to requests and answers beside sending them to a backend.

use std::time::Duration;

use hyper::header::{HeaderName, HeaderValue};
use serde::Deserialize;

use super::http_route::{BackendRef, field_name, field_value, status};
use super::wish::{Refusal, Scene};
use crate::gateway::config::{
    Action, Forward, HeaderEdits, Mirror, PathPattern, Redirect, Rewrite, RouteConfig, Target, is_framing,
};

/// One filter; what belongs to its type is there.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Filter {
    #[serde(rename = "type")]
    kind: String,
    request_header_modifier: Option<Modifier>,
    response_header_modifier: Option<Modifier>,
    request_redirect: Option<RequestRedirect>,
    url_rewrite: Option<UrlRewrite>,
    request_mirror: Option<RequestMirror>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Modifier {
    #[serde(default)]
    set: Vec<Header>,
    #[serde(default)]
    add: Vec<Header>,
    #[serde(default)]
    remove: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    name: String,
    value: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RequestRedirect {
    scheme: Option<String>,
    hostname: Option<String>,
    path: Option<PathModifier>,
    port: Option<u16>,
    status_code: Option<u16>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct UrlRewrite {
    hostname: Option<String>,
    path: Option<PathModifier>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PathModifier {
    #[serde(rename = "type")]
    kind: String,
    replace_full_path: Option<String>,
    replace_prefix_match: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RequestMirror {
    backend_ref: BackendRef,
    percent: Option<u32>,
}

/// Puts a rule's filters into its route.
pub(super) fn apply(
    filters: &[Filter],
    route: &mut RouteConfig,
    scene: &Scene<'_>,
    unresolved: &mut Vec<Refusal>,
) -> Result<(), Refusal> {
    for filter in filters {
        let kind = &filter.kind;
        let missing = || Refusal::unsupported(format!("filter {kind}: says nothing"));
        match kind.as_str() {
            "RequestHeaderModifier" => {
                filter.request_header_modifier.as_ref().ok_or_else(missing)?.put_into(&mut route.request_headers)?;
            }
            "ResponseHeaderModifier" => {
                filter.response_header_modifier.as_ref().ok_or_else(missing)?.put_into(&mut route.response_headers)?;
            }
            "RequestRedirect" => {
                let redirect = filter.request_redirect.as_ref().ok_or_else(missing)?;
                if matches!(route.action, Action::Forward(_)) {
                    return Err(Refusal::unsupported("filter RequestRedirect: beside backendRefs"));
                }
                route.action = Action::Redirect(redirect.of(&route.matches.path)?);
            }
            "URLRewrite" => {
                let rewrite = filter.url_rewrite.as_ref().ok_or_else(missing)?;
                let path = rewrite.path.as_ref().map(|path| path.of(&route.matches.path)).transpose()?;
                let host = rewrite.hostname.as_deref().map(field_value).transpose()?;
                if let Some(forward) = forwards(kind, &mut route.action)? {
                    (forward.rewrite, forward.host) = (path, host);
                }
            }
            "RequestMirror" => {
                let mirror = filter.request_mirror.as_ref().ok_or_else(missing)?;
                if mirror.backend_ref.has_filters() {
                    return Err(Refusal::unsupported("filter RequestMirror: filters of its backend are not supported"));
                }
                let pool = mirror.backend_ref.pool(scene, unresolved)?;
                let per_mille = mirror.percent.unwrap_or(100).min(100) * 10;
                if let Some(forward) = forwards(kind, &mut route.action)? {
                    if forward.mirror.is_some() {
                        return Err(Refusal::unsupported("filter RequestMirror: there is one a rule"));
                    }
                    forward.mirror = pool.filter(|_| per_mille > 0).map(|pool| Mirror { pool, per_mille });
                }
            }
            other => return Err(Refusal::unsupported(format!("filter {other:?} is not supported"))),
        }
    }
    Ok(())
}

/// Puts a backend's filters into its target: what changes fields, and nothing else.
pub(super) fn apply_to_target(filters: &[Filter], target: &mut Target) -> Result<(), Refusal> {
    for filter in filters {
        let kind = &filter.kind;
        match (kind.as_str(), &filter.request_header_modifier, &filter.response_header_modifier) {
            ("RequestHeaderModifier", Some(edits), _) => edits.put_into(&mut target.request_headers)?,
            ("ResponseHeaderModifier", _, Some(edits)) => edits.put_into(&mut target.response_headers)?,
            _ => return Err(Refusal::unsupported(format!("filter {kind}: is not supported at a backend"))),
        }
    }
    Ok(())
}

/// What requests are forwarded by; nothing where there is no backend as yet.
fn forwards<'a>(kind: &str, action: &'a mut Action) -> Result<Option<&'a mut Forward>, Refusal> {
    match action {
        Action::Forward(forward) => Ok(Some(forward)),
        Action::Respond(_) => Ok(None),
        Action::Redirect(_) => Err(Refusal::unsupported(format!("filter {kind}: beside RequestRedirect"))),
    }
}

/// A time as the Gateway API writes it: up to four numbers of at most five digits, each with its unit, as `1m30s`.
pub(super) fn duration(text: &str) -> Result<Duration, Refusal> {
    let wrong = || Refusal::unsupported(format!("timeouts: {text:?} is no time"));
    let (mut rest, mut total, mut parts) = (text, Duration::ZERO, 0);
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at_checked(digits).ok_or_else(wrong)?;
        let units = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, next) = after.split_at_checked(units).ok_or_else(wrong)?;
        let number: u64 = number.parse().ok().filter(|_| digits <= 5).ok_or_else(wrong)?;
        total += match unit {
            "h" => Duration::from_secs(number * 3_600),
            "m" => Duration::from_secs(number * 60),
            "s" => Duration::from_secs(number),
            "ms" => Duration::from_millis(number),
            _ => return Err(wrong()),
        };
        (rest, parts) = (next, parts + 1);
    }
    if (1..=4).contains(&parts) { Ok(total) } else { Err(wrong()) }
}

// === impl Modifier ===

impl Modifier {
    fn put_into(&self, edits: &mut HeaderEdits) -> Result<(), Refusal> {
        let field = |header: &Header| -> Result<(HeaderName, HeaderValue), Refusal> {
            let name = field_name(&header.name)?;
            if is_framing(&name) {
                return Err(Refusal::unsupported(format!("{name} belongs to the connection: a route cannot set it")));
            }
            Ok((name, field_value(&header.value)?))
        };
        for header in &self.set {
            edits.set.push(field(header)?);
        }
        for header in &self.add {
            edits.add.push(field(header)?);
        }
        for name in &self.remove {
            edits.remove.push(field_name(name)?);
        }
        Ok(())
    }
}

// === impl RequestRedirect ===

impl RequestRedirect {
    fn of(&self, matched: &PathPattern) -> Result<Redirect, Refusal> {
        let host = match (&self.hostname, self.port, self.scheme.as_deref()) {
            (None, Some(_), _) => {
                return Err(Refusal::unsupported("filter RequestRedirect: port without hostname is not supported"));
            }
            (Some(host), Some(port), scheme) if Some(port) != scheme.and_then(usual_port) => {
                Some(format!("{host}:{port}"))
            }
            (host, ..) => host.clone(),
        };
        if self.scheme.as_deref().is_some_and(|scheme| usual_port(scheme).is_none()) {
            return Err(Refusal::unsupported("filter RequestRedirect: scheme is http or https"));
        }
        let path = self.path.as_ref().map(|path| path.of(matched)).transpose()?;
        Ok(Redirect { status: status(self.status_code.unwrap_or(302))?, scheme: self.scheme.clone(), host, path })
    }
}

fn usual_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

// === impl PathModifier ===

impl PathModifier {
    fn of(&self, matched: &PathPattern) -> Result<Rewrite, Refusal> {
        let rewrite = match (self.kind.as_str(), &self.replace_full_path, &self.replace_prefix_match) {
            ("ReplaceFullPath", Some(path), None) => Rewrite::Path(path.clone()),
            ("ReplacePrefixMatch", None, Some(prefix)) if matches!(matched, PathPattern::Prefix(_)) => {
                Rewrite::Prefix(prefix.clone())
            }
            ("ReplacePrefixMatch", None, Some(_)) => {
                return Err(Refusal::unsupported("replacePrefixMatch: the rule matches no PathPrefix"));
            }
            (kind, ..) => {
                return Err(Refusal::unsupported(format!("a path of type {kind:?} like this is not supported")));
            }
        };
        let (Rewrite::Path(text) | Rewrite::Prefix(text) | Rewrite::Regex(_, text)) = &rewrite;
        if text.bytes().any(|byte| !byte.is_ascii_graphic() || b"?#".contains(&byte)) {
            return Err(Refusal::unsupported(format!("{text:?} is no path")));
        }
        Ok(rewrite)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_the_gateway_api_writes_them() {
        for (text, millis) in [("10s", 10_000), ("500ms", 500), ("1m30s", 90_000), ("0s", 0), ("1h1m1s1ms", 3_661_001)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "10", "s", "1d", "-1s", "1.5s", "123456s", "1s1s1s1s1s", "1 s"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
