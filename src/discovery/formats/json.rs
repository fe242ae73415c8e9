//! JSON: the shape of the pull API.

use serde::Serialize;

use crate::endpoints::matched::Matched;
use crate::endpoints::pool::{Endpoint, Pool, Protocol};
use crate::kubernetes::policy::RequestMatch;

#[derive(Serialize)]
struct PoolBody<'a> {
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    traffic_generation: Option<i64>,
    endpoints: Vec<EndpointBody<'a>>,
    /// What is for some requests alone: nothing to whoever cannot tell them apart.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    matched: Vec<MatchedBody<'a>>,
}

#[derive(Serialize)]
struct MatchedBody<'a> {
    pool: &'a str,
    #[serde(rename = "match")]
    requests: &'a RequestMatch,
    endpoints: Vec<EndpointBody<'a>>,
}

#[derive(Serialize)]
struct EndpointBody<'a> {
    address: std::net::IpAddr,
    port: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    protocol: Option<&'static str>,
    weight: u32,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    zone: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    app_protocol: Option<&'a str>,
}

/// One pool.
pub(super) fn pool(pool: &Pool) -> String {
    let body = PoolBody {
        id: pool.id.as_str(),
        traffic_generation: pool.traffic_generation,
        endpoints: pool.endpoints.iter().map(EndpointBody::of).collect(),
        matched: pool.matched.iter().map(|part| MatchedBody::of(part)).collect(),
    };
    // Numbers and strings only: nothing in it can fail to be written.
    serde_json::to_string(&body).unwrap_or_default()
}

// === impl MatchedBody ===

impl<'a> MatchedBody<'a> {
    fn of(part: &'a Matched) -> Self {
        Self {
            pool: part.pool.as_str(),
            requests: &part.requests,
            endpoints: part.endpoints.iter().map(EndpointBody::of).collect(),
        }
    }
}

// === impl EndpointBody ===

impl<'a> EndpointBody<'a> {
    fn of(endpoint: &'a Endpoint) -> Self {
        Self {
            address: endpoint.address,
            port: endpoint.port,
            // TCP goes without saying.
            protocol: (endpoint.protocol != Protocol::Tcp).then(|| endpoint.protocol.name()),
            weight: endpoint.weight,
            state: endpoint.state.name(),
            zone: endpoint.zone.as_deref(),
            node: endpoint.node.as_deref(),
            cluster: endpoint.cluster.as_deref(),
            target: endpoint.target.as_deref(),
            app_protocol: endpoint.app_protocol.as_deref(),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::discovery::formats::tests::{sample, with_match};
    use crate::endpoints::pool::Pool;

    #[test]
    fn a_pool_has_the_shape_that_is_promised() {
        assert_eq!(
            super::pool(&sample("east/shop/checkout/http")),
            concat!(
                r#"{"id":"east/shop/checkout/http","endpoints":["#,
                r#"{"address":"10.1.2.3","port":8080,"weight":100,"state":"ready","zone":"a","node":"n1","cluster":"east","target":"shop/checkout-x"},"#,
                r#"{"address":"10.1.2.4","port":8080,"weight":100,"state":"draining"},"#,
                r#"{"address":"fd00::1","port":8080,"weight":50,"state":"ready"}]}"#
            )
        );
        let switched = Pool { traffic_generation: Some(7), ..sample("app/shop/checkout/http") };
        assert!(
            super::pool(&switched)
                .starts_with(r#"{"id":"app/shop/checkout/http","traffic_generation":7,"endpoints":["#)
        );
        assert!(super::pool(&with_match("app/shop/checkout/http")).ends_with(
            r#"],"matched":[{"pool":"east/shop/new/http","match":{"cookies":[{"name":"beta","values":["1"]}]},"endpoints":[{"address":"10.9.9.9","port":8080,"weight":100,"state":"ready"}]}]}"#
        ));
    }
}
