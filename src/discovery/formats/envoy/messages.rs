//! The messages of Envoy's API that pools are made into, with the fields that are used. Numbers are those of
//! `envoy/config/endpoint/v3`, `envoy/config/cluster/v3` and `envoy/config/core/v3`; in JSON, names are the fields' own.

use prost::Message;
use serde::Serialize;

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Any {
    #[prost(string, tag = "1")]
    pub(crate) type_url: String,
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) value: prost::bytes::Bytes,
}

/// `envoy.config.endpoint.v3.ClusterLoadAssignment`.
#[derive(Clone, PartialEq, Message, Serialize)]
pub(crate) struct ClusterLoadAssignment {
    #[prost(string, tag = "1")]
    pub(crate) cluster_name: String,
    #[prost(message, repeated, tag = "2")]
    pub(crate) endpoints: Vec<LocalityLbEndpoints>,
}

/// Endpoints of one zone.
#[derive(Clone, PartialEq, Message, Serialize)]
pub(crate) struct LocalityLbEndpoints {
    #[prost(message, optional, tag = "1")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) locality: Option<Locality>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) lb_endpoints: Vec<LbEndpoint>,
    #[prost(message, optional, tag = "3")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) load_balancing_weight: Option<UInt32Value>,
}

/// Where endpoints are.
#[derive(Clone, PartialEq, Eq, Message, Serialize)]
pub(crate) struct Locality {
    #[prost(string, tag = "2")]
    pub(crate) zone: String,
}

/// One endpoint with what load balancing knows of it.
#[derive(Clone, PartialEq, Eq, Message, Serialize)]
pub(crate) struct LbEndpoint {
    #[prost(message, optional, tag = "1")]
    pub(crate) endpoint: Option<Endpoint>,
    /// A [`HealthStatus`].
    #[prost(int32, tag = "2")]
    pub(crate) health_status: i32,
    #[prost(message, optional, tag = "4")]
    pub(crate) load_balancing_weight: Option<UInt32Value>,
}

/// The values of `envoy.config.core.v3.HealthStatus` that pools have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HealthStatus {
    /// It takes new requests.
    Healthy = 1,
    /// No new requests; those in flight finish.
    Draining = 3,
}

/// `envoy.config.endpoint.v3.Endpoint`.
#[derive(Clone, PartialEq, Eq, Message, Serialize)]
pub(crate) struct Endpoint {
    #[prost(message, optional, tag = "1")]
    pub(crate) address: Option<Address>,
}

/// `envoy.config.core.v3.Address`.
#[derive(Clone, PartialEq, Eq, Message, Serialize)]
pub(crate) struct Address {
    #[prost(message, optional, tag = "1")]
    pub(crate) socket_address: Option<SocketAddress>,
}

/// `envoy.config.core.v3.SocketAddress`.
#[derive(Clone, PartialEq, Eq, Message, Serialize)]
pub(crate) struct SocketAddress {
    /// 0 for TCP, 1 for UDP.
    #[prost(int32, tag = "1")]
    pub(crate) protocol: i32,
    #[prost(string, tag = "2")]
    pub(crate) address: String,
    #[prost(uint32, tag = "3")]
    pub(crate) port_value: u32,
}

/// `google.protobuf.UInt32Value`, which is a bare number in JSON.
#[derive(Clone, Copy, PartialEq, Eq, Message, Serialize)]
#[serde(transparent)]
pub(crate) struct UInt32Value {
    #[prost(uint32, tag = "1")]
    pub(crate) value: u32,
}

/// `envoy.config.cluster.v3.Cluster`.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Cluster {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    /// 3: its endpoints come by EDS.
    #[prost(int32, tag = "2")]
    pub(crate) discovery_type: i32,
    #[prost(message, optional, tag = "3")]
    pub(crate) eds_cluster_config: Option<EdsClusterConfig>,
    #[prost(message, optional, tag = "10")]
    pub(crate) circuit_breakers: Option<CircuitBreakers>,
}

/// `envoy.config.cluster.v3.CircuitBreakers`.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct CircuitBreakers {
    #[prost(message, repeated, tag = "1")]
    pub(crate) thresholds: Vec<Thresholds>,
}

/// `envoy.config.cluster.v3.CircuitBreakers.Thresholds`, of the default priority.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct Thresholds {
    /// Requests that are tried again at one time.
    #[prost(message, optional, tag = "5")]
    pub(crate) max_retries: Option<UInt32Value>,
}

/// `envoy.config.cluster.v3.Cluster.EdsClusterConfig`.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct EdsClusterConfig {
    #[prost(message, optional, tag = "1")]
    pub(crate) eds_config: Option<ConfigSource>,
}

/// `envoy.config.core.v3.ConfigSource`.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct ConfigSource {
    /// Present: from the aggregated stream.
    #[prost(message, optional, tag = "3")]
    pub(crate) ads: Option<AggregatedConfigSource>,
    /// 2: version 3 of the API.
    #[prost(int32, tag = "6")]
    pub(crate) resource_api_version: i32,
}

/// `envoy.config.core.v3.AggregatedConfigSource`.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct AggregatedConfigSource {}
