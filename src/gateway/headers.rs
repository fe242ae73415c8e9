//! Fields of a message on its way through: what is one connection's is taken away (RFC 9110, section 7.6.1), what tells
//! where it came from is added.

use hyper::HeaderMap;
use hyper::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, Entry, FORWARDED, HOST, HeaderName, HeaderValue, TE, TRANSFER_ENCODING,
    UPGRADE, VIA,
};

use super::config::HeaderEdits;
use super::downstream::Downstream;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const CLIENT_NAME: HeaderName = HeaderName::from_static("x-forwarded-client-name");
const REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
/// Names of those that clients could make up.
const FORWARDED_PREFIX: &str = "x-forwarded-";

/// The protocol that a request asks to be upgraded to.
pub(super) fn requested_upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let protocol = headers.get(UPGRADE)?;
    tokens(headers, &CONNECTION).any(|token| token.eq_ignore_ascii_case("upgrade")).then(|| protocol.clone())
}

/// Asks for an upgrade, or answers one.
pub(super) fn ask_upgrade(headers: &mut HeaderMap, protocol: &HeaderValue) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, protocol.clone());
}

/// Whether a field is one connection's own.
fn is_of_connection(name: &HeaderName) -> bool {
    matches!(name.as_str(), "connection" | "keep-alive" | "proxy-connection" | "te" | "transfer-encoding" | "upgrade")
}

/// Takes away the fields of one connection, and those that `Connection` names.
pub(super) fn strip(headers: &mut HeaderMap) {
    // Most messages have none: one look at each name costs less than asking for six.
    if !headers.keys().any(is_of_connection) {
        return;
    }
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = tokens(headers, &CONNECTION)
            .filter_map(|token| HeaderName::try_from(token).ok())
            // What is the message's own is no client's to take away.
            .filter(|name| *name != HOST && *name != CONTENT_LENGTH && *name != TE)
            .collect();
        named.iter().for_each(|name| drop(headers.remove(name)));
        headers.remove(CONNECTION);
    }
    headers.remove(KEEP_ALIVE);
    headers.remove(TRANSFER_ENCODING);
    headers.remove(UPGRADE);
    headers.remove(PROXY_CONNECTION);
    if let Some(te) = headers.get(TE) {
        // All else of TE is one connection's; that trailers are taken, everybody on the way is.
        let trailers = te.to_str().is_ok_and(|te| te.split(',').any(|coding| coding.trim() == "trailers"));
        headers.remove(TE);
        if trailers {
            headers.insert(TE, HeaderValue::from_static("trailers"));
        }
    }
}

/// As [`strip`], for a request; `Expect` is answered here.
pub(super) fn strip_request(headers: &mut HeaderMap) {
    strip(headers);
    headers.remove(EXPECT);
    join_cookies(headers);
}

/// HTTP/2 may cut cookies into several fields, which HTTP/1.1 may not have (RFC 9113, section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut pieces = headers.get_all(COOKIE).into_iter();
    let (Some(first), Some(second)) = (pieces.next(), pieces.next()) else { return };
    let pieces: Vec<&[u8]> = [first, second].into_iter().chain(pieces).map(HeaderValue::as_bytes).collect();
    // Of values and "; " nothing else than a value can come.
    if let Ok(joined) = HeaderValue::from_bytes(&pieces.join(&b"; "[..])) {
        headers.insert(COOKIE, joined);
    }
}

/// Tells a pool who asks. What a client says of itself is taken away unless it comes through a trusted proxy.
pub(super) fn tell_origin(headers: &mut HeaderMap, downstream: &Downstream, host: &HeaderValue) {
    if downstream.trusted {
        append_listed(headers, FORWARDED_FOR, &downstream.peer_text);
        headers.entry(FORWARDED_PROTO).or_insert_with(|| HeaderValue::from_static(downstream.scheme()));
        headers.entry(FORWARDED_HOST).or_insert_with(|| host.clone());
        if headers.contains_key(FORWARDED) {
            append_listed(headers, FORWARDED, &downstream.forwarded_text);
        }
    } else {
        let made_up =
            |name: &&HeaderName| name.as_str().starts_with(FORWARDED_PREFIX) || *name == FORWARDED || *name == REAL_IP;
        if headers.keys().any(|name| made_up(&name)) {
            let names: Vec<HeaderName> = headers.keys().filter(made_up).cloned().collect();
            names.iter().for_each(|name| drop(headers.remove(name)));
        }
        headers.insert(FORWARDED_FOR, downstream.peer_text.clone());
        headers.insert(FORWARDED_PROTO, HeaderValue::from_static(downstream.scheme()));
        headers.insert(FORWARDED_HOST, host.clone());
    }
    if let Some(name) = &downstream.client_name {
        headers.insert(CLIENT_NAME, name.clone());
    }
}

/// Adds who passed it on. `via` begins with the version that it was received in.
pub(super) fn tell_via(headers: &mut HeaderMap, via: Option<&HeaderValue>) {
    if let Some(via) = via {
        append_listed(headers, VIA, via);
    }
}

/// Adds a member to a field that is a list.
fn append_listed(headers: &mut HeaderMap, name: HeaderName, member: &HeaderValue) {
    match headers.entry(name) {
        Entry::Vacant(entry) => {
            entry.insert(member.clone());
        }
        Entry::Occupied(mut entry) => {
            let mut all = Vec::new();
            for value in entry.iter() {
                all.extend_from_slice(value.as_bytes());
                all.extend_from_slice(b", ");
            }
            all.extend_from_slice(member.as_bytes());
            // Of values and ", " nothing else than a value can come.
            if let Ok(value) = HeaderValue::from_bytes(&all) {
                entry.insert(value);
            }
        }
    }
}

/// Applies a route's changes.
pub(super) fn edit(headers: &mut HeaderMap, edits: &HeaderEdits) {
    edits.remove.iter().for_each(|name| drop(headers.remove(name)));
    for (name, value) in &edits.set {
        headers.insert(name, value.clone());
    }
    for (name, value) in &edits.add {
        headers.append(name, value.clone());
    }
}

/// The members of a field that is a list of tokens.
fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(name).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
        }
        headers
    }

    fn text(headers: &HeaderMap) -> Vec<String> {
        let mut lines: Vec<_> =
            headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        lines.sort();
        lines
    }

    fn downstream(trusted: bool) -> Downstream {
        Downstream::for_tests("10.1.1.1:7".parse().unwrap(), trusted)
    }

    #[test]
    fn what_is_one_connections_does_not_travel() {
        let mut headers = map(&[
            ("connection", "keep-alive, X-Own, host, close"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "x"),
            ("x-own", "1"),
            ("host", "a"),
            ("te", "gzip, trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("expect", "100-continue"),
            ("x-other", "2"),
        ]);
        strip_request(&mut headers);
        assert_eq!(text(&headers), ["host: a", "te: trailers", "x-other: 2"]);
        let mut headers = map(&[("te", "gzip"), ("keep-alive", "timeout=5")]);
        strip(&mut headers);
        assert!(headers.is_empty());
    }

    #[test]
    fn cookies_that_came_in_pieces_go_on_as_one() {
        let mut headers = map(&[("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3")]);
        strip_request(&mut headers);
        assert_eq!(text(&headers), ["cookie: a=1; b=2; c=3"]);
    }

    #[test]
    fn a_client_cannot_make_up_where_it_comes_from() {
        let mut headers = map(&[
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-port", "1"),
            ("x-forwarded-client-name", "root"),
            ("x-real-ip", "1.1.1.1"),
            ("forwarded", "for=1.1.1.1"),
        ]);
        tell_origin(&mut headers, &downstream(false), &HeaderValue::from_static("shop"));
        let expected = ["x-forwarded-for: 10.1.1.1", "x-forwarded-host: shop", "x-forwarded-proto: http"];
        assert_eq!(text(&headers), expected);
    }

    #[test]
    fn a_trusted_proxys_word_is_kept_and_added_to() {
        let mut headers = map(&[
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-for", "2.2.2.2"),
            ("x-forwarded-proto", "https"),
            ("forwarded", "for=1.1.1.1"),
        ]);
        tell_origin(&mut headers, &downstream(true), &HeaderValue::from_static("shop"));
        let expected = [
            "forwarded: for=1.1.1.1, for=10.1.1.1;proto=http",
            "x-forwarded-for: 1.1.1.1, 2.2.2.2, 10.1.1.1",
            "x-forwarded-host: shop",
            "x-forwarded-proto: https",
        ];
        assert_eq!(text(&headers), expected);
    }

    #[test]
    fn an_upgrade_is_asked_for_by_both_fields() {
        let asked = map(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")]);
        assert_eq!(requested_upgrade(&asked).unwrap(), "websocket");
        assert_eq!(requested_upgrade(&map(&[("upgrade", "websocket")])), None);
        assert_eq!(requested_upgrade(&map(&[("connection", "upgrade")])), None);
    }

    #[test]
    fn edits_are_made_in_their_order() {
        let mut headers = map(&[("a", "1"), ("b", "1"), ("c", "1")]);
        let pair = |name: &'static str, value| (HeaderName::from_static(name), HeaderValue::from_static(value));
        let edits = HeaderEdits {
            remove: vec![HeaderName::from_static("a"), HeaderName::from_static("c")],
            set: vec![pair("b", "2"), pair("c", "2")],
            add: vec![pair("b", "3")],
        };
        edit(&mut headers, &edits);
        assert_eq!(text(&headers), ["b: 2", "b: 3", "c: 2"]);
    }
}
