//! Pools as each kind of gateway reads them. A body depends on the pool's content alone, and is made once for all who want
//! it.

pub(super) mod envoy;
pub(super) mod eureka;
pub(super) mod haproxy;
pub(super) mod json;
pub(super) mod nginx;
pub(super) mod prometheus;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use hyper::body::Bytes;

use crate::endpoints::pool::{Pool, PoolId, Rendering};

/// Formats in which a single pool is asked for: the places of its renderings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Json = 0,
    Nginx = 1,
    Haproxy = 2,
    /// A `ClusterLoadAssignment` of Envoy as JSON. Its tag is the one of [`Format::Json`].
    EnvoyJson = 3,
    /// The same as an `Any` of protocol buffers, with the same tag: the version that a gateway acknowledges is that of
    /// the pull API, in whatever encoding it came.
    Assignment = 4,
    /// A `Cluster` of Envoy, likewise an `Any`; it depends on the pool's id alone.
    Cluster = 5,
    /// The pool's instances of Eureka, separated by commas.
    EurekaJson = 6,
    /// The pool's instances of Eureka, one after the other.
    EurekaXml = 7,
}

/// Two pools whose names in a gateway's file would be one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the pools {one} and {other} would both be named {name}: rename one of them")]
pub(super) struct NameCollision {
    one: PoolId,
    other: PoolId,
    name: String,
}

// === impl Format ===

impl Format {
    /// The pool in this format.
    pub(super) fn render(self, pool: &Pool) -> Rendering {
        pool.renderings.get(self as usize, || {
            let text = match self {
                Self::Json => json::pool(pool),
                Self::Nginx => nginx::pool(pool),
                Self::Haproxy => haproxy::pool(pool),
                Self::EnvoyJson => return Self::same_tag(pool, envoy::json(pool)),
                Self::Assignment => return Self::same_tag(pool, envoy::assignment(pool)),
                Self::Cluster => {
                    let body = envoy::cluster(&pool.id);
                    return Rendering { etag: etag(&body), body };
                }
                Self::EurekaJson => eureka::json(pool),
                Self::EurekaXml => eureka::xml(pool),
            };
            rendering(text)
        })
    }

    fn same_tag(pool: &Pool, body: Bytes) -> Rendering {
        Rendering { body, etag: Self::Json.render(pool).etag }
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Json | Self::EnvoyJson | Self::EurekaJson => "application/json",
            Self::Nginx | Self::Haproxy => "text/plain; charset=utf-8",
            Self::Assignment | Self::Cluster => "application/x-protobuf",
            Self::EurekaXml => "application/xml",
        }
    }

    /// Several pools one after the other, as one file has them.
    ///
    /// # Errors
    /// Two of them would have the same name there.
    pub(super) fn render_all(self, pools: &[Arc<Pool>]) -> Result<Rendering, NameCollision> {
        let mut names: BTreeMap<String, &PoolId> = BTreeMap::new();
        for pool in pools {
            let name = name(&pool.id);
            if let Some(one) = names.insert(name.clone(), &pool.id) {
                return Err(NameCollision { one: one.clone(), other: pool.id.clone(), name });
            }
        }
        let mut text = String::new();
        for pool in pools {
            text.push_str(&String::from_utf8_lossy(&self.render(pool).body));
        }
        Ok(rendering(text))
    }
}

/// A body with its tag: the first 128 bits of the SHA-256 of its bytes.
pub(super) fn rendering(text: String) -> Rendering {
    let etag = etag(text.as_bytes());
    Rendering { body: Bytes::from(text), etag }
}

/// A strong entity tag, quotes included.
pub(super) fn etag(bytes: &[u8]) -> Arc<str> {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    let mut etag = String::with_capacity(34);
    etag.push('"');
    for byte in digest.as_ref().iter().take(16) {
        // Writing to a string does not fail.
        let _ = write!(etag, "{byte:02x}");
    }
    etag.push('"');
    etag.into()
}

/// A pool's name where slashes and colons cannot stand.
pub(super) fn name(id: &PoolId) -> String {
    let plain = |it: char| it.is_ascii_alphanumeric() || matches!(it, '_' | '.' | '-');
    id.as_str().chars().map(|it| if plain(it) { it } else { '_' }).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::endpoints::matched::Matched;
    use crate::endpoints::pool::{Endpoint, EndpointState, Renderings};

    /// A pool with a ready endpoint of each family and a draining one.
    pub(in crate::discovery) fn sample(id: &str) -> Pool {
        let ready = Endpoint {
            zone: Some("a".into()),
            node: Some("n1".into()),
            cluster: Some("east".into()),
            target: Some("shop/checkout-x".into()),
            ..Endpoint::new("10.1.2.3".parse().unwrap(), 8080)
        };
        let draining = Endpoint { state: EndpointState::Draining, ..Endpoint::new("10.1.2.4".parse().unwrap(), 8080) };
        let six = Endpoint { weight: 50, ..Endpoint::new("fd00::1".parse().unwrap(), 8080) };
        Pool {
            id: PoolId::parse(id).unwrap(),
            endpoints: [ready, draining, six].into(),
            matched: Arc::default(),
            traffic_generation: None,
            namespace: Some("shop".into()),
            labels: Arc::default(),
            shards: [0].into(),
            hold: None,
            revision: 1,
            renderings: Renderings::default(),
        }
    }

    /// The same with a part that is for some requests alone.
    pub(in crate::discovery) fn with_match(id: &str) -> Pool {
        let requests = serde_json::from_str(r#"{"cookies":[{"name":"beta","values":["1"]}]}"#).unwrap();
        let endpoints = [Endpoint::new("10.9.9.9".parse().unwrap(), 8080)].into();
        let part = Matched { pool: PoolId::parse("east/shop/new/http").unwrap(), requests, endpoints };
        Pool { matched: [Arc::new(part)].into(), ..sample(id) }
    }

    #[test]
    fn whoever_cannot_tell_requests_apart_never_hears_of_what_is_for_some_alone() {
        let (plain, matched) = (sample("app/shop/a/http"), with_match("app/shop/a/http"));
        for format in [
            Format::Nginx,
            Format::Haproxy,
            Format::EnvoyJson,
            Format::Assignment,
            Format::Cluster,
            Format::EurekaJson,
            Format::EurekaXml,
        ] {
            assert_eq!(format.render(&plain).body, format.render(&matched).body, "{format:?}");
        }
        let targets = |pool| prometheus::targets(&[Arc::new(pool)]);
        assert_eq!(targets(sample("app/shop/a/http")), targets(with_match("app/shop/a/http")));
        assert_ne!(Format::Json.render(&plain).etag, Format::Json.render(&matched).etag, "the built-in gateway does");
    }

    #[test]
    fn a_body_is_made_once_and_its_tag_depends_on_content_alone() {
        let (one, other) =
            (sample("east/shop/checkout/http"), Pool { revision: 9, ..sample("east/shop/checkout/http") });
        let (first, again) = (Format::Json.render(&one), Format::Json.render(&one));
        assert_eq!(first.body.as_ptr(), again.body.as_ptr(), "the same bytes, not equal ones");
        assert_eq!(first.etag, Format::Json.render(&other).etag);
        assert_ne!(first.etag, Format::Nginx.render(&one).etag);
        assert_eq!(first.etag.len(), 34);
    }

    #[test]
    fn two_ids_that_would_have_one_name_are_refused_with_both() {
        let pools = ["a/b", "a:b"].map(|id| Arc::new(sample(id)));
        let error = Format::Nginx.render_all(&pools).unwrap_err().to_string();
        assert!(error.contains("a/b") && error.contains("a:b") && error.contains("a_b"), "{error}");
    }
}
