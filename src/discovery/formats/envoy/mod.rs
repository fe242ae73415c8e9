//! Envoy: a pool is a `ClusterLoadAssignment` of its id, as JSON and as protocol buffers, and an EDS `Cluster` of its id.
//!
//! Endpoints of one zone are a locality, whose weight is the sum of its ready endpoints' weights, so that both of Envoy's
//! ways of weighing, with and without localities, give each endpoint its part. There is one priority: a joined pool has
//! only the members that serve now. A draining endpoint is `DRAINING`, which takes no new requests and leaves those in
//! flight. Envoy has no SCTP, so such endpoints are left out.

pub(in crate::discovery) mod hosts;
pub(in crate::discovery) mod messages;
mod routes;

use std::collections::BTreeMap;

use hyper::body::Bytes;
use prost::Message;

use self::messages::{
    Address, AggregatedConfigSource, Any, CircuitBreakers, Cluster, ClusterLoadAssignment, ConfigSource,
    EdsClusterConfig, HealthStatus, LbEndpoint, Locality, LocalityLbEndpoints, SocketAddress, Thresholds, UInt32Value,
};
use crate::endpoints::pool::{Endpoint, Pool, PoolId, Protocol};

/// The type of an assignment.
pub(in crate::discovery) const ASSIGNMENT: &str = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";
/// The type of a cluster.
pub(in crate::discovery) const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";

/// `Cluster.DiscoveryType.EDS`.
const EDS: i32 = 3;
/// Envoy's own limit of 3 lets requests fail that have reached nobody, when an endpoint goes without a word under load.
const MAX_RETRIES: u32 = 1_024;
/// `ApiVersion.V3`.
const V3: i32 = 2;

/// A pool's assignment in JSON, its type included.
pub(in crate::discovery) fn json(pool: &Pool) -> Bytes {
    json_of(&pool.id, &pool.endpoints)
}

/// The assignment in JSON of a pool that is not there: nobody takes requests.
pub(in crate::discovery) fn absent_json(id: &str) -> Bytes {
    json_of(id, &[])
}

fn json_of(id: impl ToString, endpoints: &[Endpoint]) -> Bytes {
    #[derive(serde::Serialize)]
    struct Typed {
        #[serde(rename = "@type")]
        kind: &'static str,
        #[serde(flatten)]
        message: ClusterLoadAssignment,
    }
    let typed = Typed { kind: ASSIGNMENT, message: message(id.to_string(), endpoints) };
    // Numbers and strings only: nothing in it can fail to be written.
    serde_json::to_string(&typed).unwrap_or_default().into()
}

/// A pool's assignment as an `Any`.
pub(super) fn assignment(pool: &Pool) -> Bytes {
    any(ASSIGNMENT, &message(pool.id.to_string(), &pool.endpoints))
}

/// The assignment of a pool that is not there, as an `Any`: nobody takes requests.
pub(in crate::discovery) fn absent_assignment(id: &str) -> Bytes {
    any(ASSIGNMENT, &message(id.to_owned(), &[]))
}

/// A pool's cluster as an `Any`. Its endpoints come over the aggregated stream.
pub(super) fn cluster(id: &PoolId) -> Bytes {
    let eds_config = ConfigSource { ads: Some(AggregatedConfigSource {}), resource_api_version: V3 };
    let cluster = Cluster {
        name: id.to_string(),
        discovery_type: EDS,
        eds_cluster_config: Some(EdsClusterConfig { eds_config: Some(eds_config) }),
        circuit_breakers: Some(CircuitBreakers {
            thresholds: vec![Thresholds { max_retries: Some(UInt32Value { value: MAX_RETRIES }) }],
        }),
    };
    any(CLUSTER, &cluster)
}

fn any(kind: &str, message: &impl Message) -> Bytes {
    Any { type_url: kind.to_owned(), value: message.encode_to_vec().into() }.encode_to_vec().into()
}

fn message(cluster_name: String, endpoints: &[Endpoint]) -> ClusterLoadAssignment {
    let mut zones: BTreeMap<Option<&str>, LocalityLbEndpoints> = BTreeMap::new();
    for endpoint in endpoints.iter().filter(|it| it.protocol != Protocol::Sctp) {
        let zone = zones.entry(endpoint.zone.as_deref()).or_default();
        if endpoint.is_ready() {
            let sum = zone.load_balancing_weight.map_or(0, |weight| weight.value);
            zone.load_balancing_weight = Some(UInt32Value { value: sum.saturating_add(endpoint.weight.max(1)) });
        }
        zone.lb_endpoints.push(lb_endpoint(endpoint));
    }
    for (zone, endpoints) in &mut zones {
        endpoints.locality = zone.map(|zone| Locality { zone: zone.to_owned() });
    }
    ClusterLoadAssignment { cluster_name, endpoints: zones.into_values().collect() }
}

fn lb_endpoint(endpoint: &Endpoint) -> LbEndpoint {
    let socket_address = SocketAddress {
        protocol: i32::from(endpoint.protocol == Protocol::Udp),
        address: endpoint.address.to_string(),
        port_value: u32::from(endpoint.port),
    };
    let health = if endpoint.is_ready() { HealthStatus::Healthy } else { HealthStatus::Draining };
    LbEndpoint {
        endpoint: Some(messages::Endpoint { address: Some(Address { socket_address: Some(socket_address) }) }),
        health_status: health as i32,
        // Envoy takes no weight of 0.
        load_balancing_weight: Some(UInt32Value { value: endpoint.weight.max(1) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::formats::Format;
    use crate::discovery::formats::tests::sample;

    #[test]
    fn a_pool_is_an_assignment_with_localities_weights_and_draining_endpoints() {
        let json = Format::EnvoyJson.render(&sample("east/shop/checkout/http")).body;
        assert_eq!(
            String::from_utf8_lossy(&json),
            concat!(
                r#"{"@type":"type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment","#,
                r#""cluster_name":"east/shop/checkout/http","endpoints":["#,
                r#"{"lb_endpoints":["#,
                r#"{"endpoint":{"address":{"socket_address":{"protocol":0,"address":"10.1.2.4","port_value":8080}}},"health_status":3,"load_balancing_weight":100},"#,
                r#"{"endpoint":{"address":{"socket_address":{"protocol":0,"address":"fd00::1","port_value":8080}}},"health_status":1,"load_balancing_weight":50}],"#,
                r#""load_balancing_weight":50},"#,
                r#"{"locality":{"zone":"a"},"lb_endpoints":["#,
                r#"{"endpoint":{"address":{"socket_address":{"protocol":0,"address":"10.1.2.3","port_value":8080}}},"health_status":1,"load_balancing_weight":100}],"#,
                r#""load_balancing_weight":100}]}"#,
            )
        );
    }

    #[test]
    fn both_encodings_say_the_same_under_the_tag_of_the_pull_api() {
        let pool = sample("east/shop/checkout/http");
        let encoded = Format::Assignment.render(&pool);
        let any = Any::decode(encoded.body).unwrap();
        assert_eq!(any.type_url, ASSIGNMENT);
        let decoded = ClusterLoadAssignment::decode(any.value).unwrap();
        assert_eq!(decoded, message(pool.id.to_string(), &pool.endpoints));
        assert_eq!(encoded.etag, Format::Json.render(&pool).etag);
        assert_eq!(Format::EnvoyJson.render(&pool).etag, encoded.etag);
    }

    #[test]
    fn an_endpoint_that_envoy_cannot_speak_to_is_left_out() {
        let mut pool = sample("p");
        let sctp = |it: &Endpoint| Endpoint { protocol: Protocol::Sctp, ..it.clone() };
        pool.endpoints = pool.endpoints.iter().map(sctp).collect();
        assert_eq!(message("p".into(), &pool.endpoints).endpoints, []);
    }
}
