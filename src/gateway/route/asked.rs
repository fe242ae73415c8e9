//! A request as routes see it.

use std::borrow::Cow;
use std::net::IpAddr;

use hyper::header::COOKIE;
use hyper::{HeaderMap, Method};

use crate::gateway::config::Field;

/// What a request asks for. Borrowed: looking at it costs nothing.
#[derive(Debug)]
pub(in crate::gateway) struct Asked<'a> {
    /// Lower case, without a port; empty where there is none.
    pub(in crate::gateway) host: Cow<'a, str>,
    pub(in crate::gateway) method: &'a Method,
    pub(in crate::gateway) path: &'a str,
    pub(in crate::gateway) query: Option<&'a str>,
    pub(in crate::gateway) headers: &'a HeaderMap,
    /// Who asks, proxies that are trusted left out.
    pub(in crate::gateway) client: IpAddr,
    /// That of the listener that it came to.
    pub(in crate::gateway) port: u16,
}

// === impl Asked ===

impl Asked<'_> {
    /// Looks at the text of a field; nothing where it has none.
    pub(in crate::gateway) fn with<R>(&self, field: &Field, look: impl FnOnce(Option<&[u8]>) -> R) -> R {
        match field {
            Field::Header(name) => look(self.headers.get(name).map(hyper::header::HeaderValue::as_bytes)),
            Field::Cookie(name) => look(self.cookies(name.as_bytes()).next()),
            Field::Query(name) => look(self.parameter(name).map(str::as_bytes)),
            Field::Client => match self.client {
                IpAddr::V4(address) => look(Some(&address.octets())),
                IpAddr::V6(address) => look(Some(&address.octets())),
            },
            Field::Path => look(Some(self.path.as_bytes())),
        }
    }

    /// The values of all cookies of a name.
    pub(in crate::gateway) fn cookies<'s>(&'s self, name: &'s [u8]) -> impl Iterator<Item = &'s [u8]> {
        let pairs =
            self.headers.get_all(COOKIE).into_iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
        pairs.map(<[u8]>::trim_ascii).filter_map(move |pair| pair.strip_prefix(name)?.strip_prefix(b"="))
    }

    fn parameter(&self, name: &str) -> Option<&str> {
        let mut pairs = self.query?.split('&');
        pairs.find_map(|pair| match pair.split_once('=') {
            Some((key, value)) => (key == name).then_some(value),
            None => (pair == name).then_some(""),
        })
    }
}

/// A host as routes are compared with it: in lower case, without its port and without the dot that ends a full name.
/// Nothing where it is no host's name or address.
pub(in crate::gateway) fn plain_host(authority: &str) -> Option<Cow<'_, str>> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            address.parse::<std::net::Ipv6Addr>().ok()?;
            (address, port)
        }
        None => authority
            .split_once(':')
            .map_or((authority, ""), |(host, _)| (host, authority.get(host.len()..).unwrap_or(""))),
    };
    let port_fits = match port.strip_prefix(':') {
        None => port.is_empty(),
        Some(digits) => digits.len() <= 5 && digits.bytes().all(|byte| byte.is_ascii_digit()),
    };
    let named = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte);
    if !port_fits || !host.bytes().all(named) {
        return None;
    }
    let host = host.strip_suffix('.').unwrap_or(host);
    Some(match host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => Cow::Owned(host.to_ascii_lowercase()),
        false => Cow::Borrowed(host),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_compared_without_port_case_and_last_dot() {
        for (authority, host) in [
            ("Shop.Example:8080", "shop.example"),
            ("shop.example.", "shop.example"),
            ("10.0.0.1", "10.0.0.1"),
            ("[::1]:80", "::1"),
            ("", ""),
        ] {
            assert_eq!(plain_host(authority).as_deref(), Some(host), "{authority}");
        }
        for bad in ["a b", "a/b", "a@b", "a:b", "a:1:2", "[::1", "[x]:80", "a,b", "a:999999"] {
            assert_eq!(plain_host(bad), None, "{bad}");
        }
    }
}
