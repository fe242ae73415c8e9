//! Whether a request is one of those that a part of a pool is for.

use super::Asked;
use crate::kubernetes::policy::{FieldValues, RequestMatch};

/// Whether a request is of one of the hosts, or has one of the headers or cookies. It is looked at as the client sent it.
pub(in crate::gateway) fn fits(wanted: &RequestMatch, asked: &Asked<'_>) -> bool {
    let is_one = |field: &FieldValues, value: &[u8]| field.values.iter().any(|it| it.as_bytes() == value);
    let has_header = |field: &FieldValues| {
        asked.headers.get_all(field.name.as_str()).iter().any(|value| is_one(field, value.as_bytes()))
    };
    let has_cookie = |field: &FieldValues| asked.cookies(field.name.as_bytes()).any(|value| is_one(field, value));
    let has_host = wanted.hosts.iter().any(|it| *it == asked.host);
    has_host || wanted.headers.iter().any(has_header) || wanted.cookies.iter().any(has_cookie)
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderName;
    use hyper::{HeaderMap, Method};

    use super::*;

    fn takes(wanted: &str, fields: &[(&str, &str)]) -> bool {
        takes_of(wanted, "", fields)
    }

    fn takes_of(wanted: &str, host: &str, fields: &[(&str, &str)]) -> bool {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
        }
        let (host, path, client) = (host.into(), "/", [10, 0, 0, 1].into());
        let (method, port) = (&Method::GET, 80);
        let asked = Asked { host, port, method, path, query: None, headers: &headers, client };
        fits(&serde_json::from_str(wanted).unwrap(), &asked)
    }

    #[test]
    fn one_header_or_cookie_with_one_of_its_values_is_enough_and_nothing_else_is() {
        let wanted =
            r#"{"headers":[{"name":"X-Canary","values":["yes","on"]}],"cookies":[{"name":"beta","values":["1"]}]}"#;
        for fields in [
            &[("x-canary", "on")][..],
            &[("x-canary", "no"), ("x-canary", "yes")],
            &[("cookie", "a=b; beta=1")],
            &[("cookie", "beta=0; beta=1")],
            &[("cookie", "a=b"), ("cookie", "beta=1")],
        ] {
            assert!(takes(wanted, fields), "{fields:?}");
        }
        for fields in [
            &[][..],
            &[("x-canary", "YES")],
            &[("x-canary", "yes, on")],
            &[("x-canary", "")],
            &[("beta", "1")],
            &[("cookie", "beta=10; xbeta=1; beta")],
            &[("cookie", "x-canary=yes")],
        ] {
            assert!(!takes(wanted, fields), "{fields:?}");
        }
        assert!(!takes("{}", &[("x-canary", "yes")]), "a match that names nothing is for nobody");
    }
    #[test]
    fn a_host_is_enough_and_no_header_or_other_host_is_taken_for_it() {
        let wanted = r#"{"hosts":["preview.example","next.example"],"cookies":[{"name":"beta","values":["1"]}]}"#;
        for (host, fields) in [("preview.example", &[][..]), ("next.example", &[]), ("x", &[("cookie", "beta=1")])] {
            assert!(takes_of(wanted, host, fields), "{host} {fields:?}");
        }
        for (host, fields) in [
            ("", &[][..]),
            ("example", &[]),
            ("a.preview.example", &[]),
            ("web.example", &[("x-forwarded-host", "preview.example"), ("host", "preview.example")]),
        ] {
            assert!(!takes_of(wanted, host, fields), "{host} {fields:?}");
        }
    }
}
