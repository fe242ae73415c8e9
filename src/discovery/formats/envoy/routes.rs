//! The messages of Envoy's API that hosts are made into, with the fields that are used. Numbers are those of
//! `envoy/config/route/v3`, `envoy/config/listener/v3` and `envoy/extensions/filters/network/http_connection_manager/v3`.

use prost::Message;

use super::messages::{Address, Any, ConfigSource, UInt32Value};

/// `envoy.config.route.v3.RouteConfiguration`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct RouteConfiguration {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(message, repeated, tag = "2")]
    pub(crate) virtual_hosts: Vec<VirtualHost>,
    #[prost(bool, tag = "14")]
    pub(crate) ignore_port_in_host_matching: bool,
}

/// `envoy.config.route.v3.VirtualHost`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct VirtualHost {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, repeated, tag = "2")]
    pub(crate) domains: Vec<String>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) routes: Vec<Route>,
    #[prost(message, optional, tag = "16")]
    pub(crate) retry_policy: Option<RetryPolicy>,
}

/// `envoy.config.route.v3.Route`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Route {
    #[prost(message, optional, tag = "1")]
    pub(crate) of_path: Option<RouteMatch>,
    #[prost(message, optional, tag = "2")]
    pub(crate) action: Option<RouteAction>,
}

/// `envoy.config.route.v3.RouteMatch`; one of its fields.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct RouteMatch {
    #[prost(string, optional, tag = "1")]
    pub(crate) prefix: Option<String>,
    #[prost(string, optional, tag = "14")]
    pub(crate) path_separated_prefix: Option<String>,
}

/// `envoy.config.route.v3.RouteAction`.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct RouteAction {
    #[prost(string, tag = "1")]
    pub(crate) cluster: String,
    /// Zero for none.
    #[prost(message, optional, tag = "8")]
    pub(crate) timeout: Option<Duration>,
}

/// `google.protobuf.Duration`.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct Duration {
    #[prost(int64, tag = "1")]
    pub(crate) seconds: i64,
}

/// `envoy.config.route.v3.RetryPolicy`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct RetryPolicy {
    #[prost(string, tag = "1")]
    pub(crate) retry_on: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) num_retries: Option<UInt32Value>,
    #[prost(message, repeated, tag = "5")]
    pub(crate) retry_host_predicate: Vec<RetryHostPredicate>,
    #[prost(int64, tag = "6")]
    pub(crate) host_selection_retry_max_attempts: i64,
}

/// `envoy.config.route.v3.RetryPolicy.RetryHostPredicate`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct RetryHostPredicate {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(message, optional, tag = "3")]
    pub(crate) typed_config: Option<Any>,
}

/// `envoy.config.listener.v3.Listener`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Listener {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) address: Option<Address>,
    #[prost(message, repeated, tag = "3")]
    pub(crate) filter_chains: Vec<FilterChain>,
}

/// `envoy.config.listener.v3.FilterChain`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct FilterChain {
    #[prost(message, repeated, tag = "3")]
    pub(crate) filters: Vec<Filter>,
}

/// `envoy.config.listener.v3.Filter`, which has the numbers of the HTTP connection manager's `HttpFilter` and of
/// `envoy.config.accesslog.v3.AccessLog` as well.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Filter {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(message, optional, tag = "4")]
    pub(crate) typed_config: Option<Any>,
}

/// `envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct HttpConnectionManager {
    #[prost(string, tag = "2")]
    pub(crate) stat_prefix: String,
    #[prost(message, optional, tag = "3")]
    pub(crate) rds: Option<Rds>,
    #[prost(message, repeated, tag = "5")]
    pub(crate) http_filters: Vec<Filter>,
    #[prost(message, repeated, tag = "13")]
    pub(crate) access_log: Vec<Filter>,
    #[prost(message, optional, tag = "14")]
    pub(crate) use_remote_address: Option<BoolValue>,
    #[prost(message, repeated, tag = "23")]
    pub(crate) upgrade_configs: Vec<UpgradeConfig>,
}

/// Where routes come from.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Rds {
    #[prost(message, optional, tag = "1")]
    pub(crate) config_source: Option<ConfigSource>,
    #[prost(string, tag = "2")]
    pub(crate) route_config_name: String,
}

/// `envoy.extensions.access_loggers.file.v3.FileAccessLog`, in Envoy's own format.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct FileAccessLog {
    #[prost(string, tag = "1")]
    pub(crate) path: String,
}

/// A protocol that a connection may change to.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct UpgradeConfig {
    #[prost(string, tag = "1")]
    pub(crate) upgrade_type: String,
}

/// `google.protobuf.BoolValue`.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct BoolValue {
    #[prost(bool, tag = "1")]
    pub(crate) value: bool,
}
