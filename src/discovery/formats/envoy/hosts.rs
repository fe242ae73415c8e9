//! Hosts as Envoy reads them: one route configuration with a virtual host for each, and listeners that use it.
//!
//! A route's cluster is its pool's id, as clusters are named here; one that is not there answers 503. A request is sent to
//! another endpoint where it has not reached the first one, and not otherwise: what was sent may have been carried out.
//! There is no limit on the whole of a request, as streams last long; an idle one is ended by Envoy's own limit.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use hyper::body::Bytes;
use prost::Message;

use super::messages::{Address, AggregatedConfigSource, Any, ConfigSource, SocketAddress, UInt32Value};
use super::routes::{
    BoolValue, Duration, FileAccessLog, Filter, FilterChain, HttpConnectionManager, Listener, Rds, RetryHostPredicate,
    RetryPolicy, Route, RouteAction, RouteConfiguration, RouteMatch, UpgradeConfig, VirtualHost,
};
use super::{V3, any};
use crate::endpoints::hosts::Claim;

/// The type of a listener.
pub(in crate::discovery) const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
/// The type of a route configuration.
pub(in crate::discovery) const ROUTES: &str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";
/// The name of the route configuration with all hosts.
pub(in crate::discovery) const ALL_HOSTS: &str = "tidegate";

const MANAGER: &str =
    "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const ROUTER: &str = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
const FILE_LOG: &str = "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog";
const PREVIOUS_HOSTS: &str = "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate";

/// The route configuration of these hosts, as an `Any`.
pub(in crate::discovery) fn routes<'a>(granted: impl Iterator<Item = &'a Claim>) -> Bytes {
    let mut hosts: BTreeMap<&str, Vec<&Claim>> = BTreeMap::new();
    for claim in granted {
        hosts.entry(&claim.at.host).or_default().push(claim);
    }
    let virtual_host = |(host, mut claims): (&str, Vec<&Claim>)| {
        // Envoy takes the first that fits.
        claims.sort_by_key(|claim| std::cmp::Reverse(claim.at.path_prefix.len()));
        VirtualHost {
            name: host.to_owned(),
            domains: vec![host.to_owned()],
            routes: claims.into_iter().map(route).collect(),
            retry_policy: Some(retry_policy()),
        }
    };
    let message = RouteConfiguration {
        name: ALL_HOSTS.to_owned(),
        virtual_hosts: hosts.into_iter().map(virtual_host).collect(),
        ignore_port_in_host_matching: true,
    };
    any(ROUTES, &message)
}

fn route(claim: &Claim) -> Route {
    let path = claim.at.path_prefix.to_string();
    let of_path = match claim.at.is_whole_host() {
        true => RouteMatch { prefix: Some(path), path_separated_prefix: None },
        false => RouteMatch { prefix: None, path_separated_prefix: Some(path) },
    };
    let action = RouteAction { cluster: claim.pool.to_string(), timeout: Some(Duration::default()) };
    Route { of_path: Some(of_path), action: Some(action) }
}

fn retry_policy() -> RetryPolicy {
    RetryPolicy {
        retry_on: "connect-failure,refused-stream,reset-before-request".to_owned(),
        num_retries: Some(UInt32Value { value: 2 }),
        retry_host_predicate: vec![RetryHostPredicate {
            name: "envoy.retry_host_predicates.previous_hosts".to_owned(),
            typed_config: Some(empty(PREVIOUS_HOSTS)),
        }],
        host_selection_retry_max_attempts: 5,
    }
}

/// A listener's name: its address.
pub(in crate::discovery) fn listener_name(address: SocketAddr) -> String {
    format!("tidegate/{address}")
}

/// A listener for HTTP at an address, of all hosts, as an `Any`. Its routes come over the aggregated stream. Where there is
/// a path, Envoy writes a line there for each request.
pub(in crate::discovery) fn listener(address: SocketAddr, access_log: Option<&str>) -> Bytes {
    let config_source = ConfigSource { ads: Some(AggregatedConfigSource {}), resource_api_version: V3 };
    let manager = HttpConnectionManager {
        stat_prefix: ALL_HOSTS.to_owned(),
        rds: Some(Rds { config_source: Some(config_source), route_config_name: ALL_HOSTS.to_owned() }),
        http_filters: vec![Filter { name: "envoy.filters.http.router".to_owned(), typed_config: Some(empty(ROUTER)) }],
        access_log: access_log.map(file_log).into_iter().collect(),
        // It is the edge: what a client says of itself in X-Forwarded-For is not believed.
        use_remote_address: Some(BoolValue { value: true }),
        upgrade_configs: vec![UpgradeConfig { upgrade_type: "websocket".to_owned() }],
    };
    let socket_address =
        SocketAddress { protocol: 0, address: address.ip().to_string(), port_value: u32::from(address.port()) };
    let filter = Filter {
        name: "envoy.filters.network.http_connection_manager".to_owned(),
        typed_config: Some(Any { type_url: MANAGER.to_owned(), value: manager.encode_to_vec().into() }),
    };
    let message = Listener {
        name: listener_name(address),
        address: Some(Address { socket_address: Some(socket_address) }),
        filter_chains: vec![FilterChain { filters: vec![filter] }],
    };
    any(LISTENER, &message)
}

fn file_log(path: &str) -> Filter {
    let log = FileAccessLog { path: path.to_owned() };
    Filter {
        name: "envoy.access_loggers.file".to_owned(),
        typed_config: Some(Any { type_url: FILE_LOG.to_owned(), value: log.encode_to_vec().into() }),
    }
}

fn empty(kind: &str) -> Any {
    Any { type_url: kind.to_owned(), value: Bytes::new() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoints::hosts::HostPath;
    use crate::endpoints::pool::PoolId;

    #[test]
    fn a_host_is_a_virtual_host_whose_longest_path_comes_first() {
        let claim = |at: &str, pool: &str| Claim {
            at: HostPath::parse(at).unwrap(),
            pool: PoolId::parse(pool).unwrap(),
            namespace: None,
            since: 0,
        };
        let claims = [claim("a.example", "p"), claim("a.example/api", "q"), claim("*.b.example", "r")];
        let any = Any::decode(routes(claims.iter())).unwrap();
        let message = RouteConfiguration::decode(any.value).unwrap();
        let found: Vec<_> =
            message.virtual_hosts.iter().map(|host| (host.domains.join(","), host.routes.len())).collect();
        assert_eq!(found, [("*.b.example".to_owned(), 1), ("a.example".to_owned(), 2)]);
        let routes = &message.virtual_hosts[1].routes;
        assert_eq!(routes[0].of_path.as_ref().unwrap().path_separated_prefix.as_deref(), Some("/api"));
        assert_eq!(routes[1].of_path.as_ref().unwrap().prefix.as_deref(), Some("/"));
        assert_eq!(routes[0].action.as_ref().unwrap().cluster, "q");
    }
}
