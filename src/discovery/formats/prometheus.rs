//! Prometheus' `http_sd`: one group for each endpoint, draining ones included, because what still runs is still measured.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use serde::Serialize;

use crate::endpoints::pool::{Endpoint, Pool};

#[derive(Serialize)]
struct Group<'a> {
    targets: [String; 1],
    labels: BTreeMap<&'static str, &'a str>,
}

/// All pools, as a JSON list.
pub(in crate::discovery) fn targets(pools: &[Arc<Pool>]) -> String {
    let groups = pools.iter().flat_map(|pool| pool.endpoints.iter().map(|endpoint| group(pool, endpoint)));
    // Strings only: nothing in it can fail to be written.
    serde_json::to_string(&groups.collect::<Vec<_>>()).unwrap_or_default()
}

fn group<'a>(pool: &'a Pool, endpoint: &'a Endpoint) -> Group<'a> {
    let mut labels =
        BTreeMap::from([("__meta_tidegate_pool", pool.id.as_str()), ("__meta_tidegate_state", endpoint.state.name())]);
    let (service, port) = service(pool).unzip();
    let pod = endpoint
        .target
        .as_deref()
        .and_then(|target| target.strip_prefix(pool.namespace.as_deref()?)?.strip_prefix('/'));
    let optional = [
        ("__meta_tidegate_cluster", &endpoint.cluster),
        ("__meta_tidegate_namespace", &pool.namespace),
        ("__meta_tidegate_node", &endpoint.node),
        ("__meta_tidegate_target", &endpoint.target),
        ("__meta_tidegate_zone", &endpoint.zone),
    ];
    let named = [("__meta_tidegate_service", service), ("__meta_tidegate_port", port), ("__meta_tidegate_pod", pod)];
    labels.extend(named.into_iter().filter_map(|(name, value)| Some((name, value?))));
    labels.extend(optional.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?))));
    Group { targets: [SocketAddr::new(endpoint.address, endpoint.port).to_string()], labels }
}

/// The service and the port that a pool of a cluster is named after.
fn service(pool: &Pool) -> Option<(&str, &str)> {
    let mut parts = pool.id.as_str().split('/').skip(1);
    let of_namespace = parts.next()? == pool.namespace.as_deref()?;
    let (service, port) = (parts.next()?, parts.next()?);
    (of_namespace && parts.next().is_none()).then_some((service, port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::formats::tests::sample;

    #[test]
    fn targets_have_addresses_and_labels() {
        let text = targets(&[Arc::new(sample("east/shop/checkout/http"))]);
        let groups: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(groups[0]["targets"][0], "10.1.2.3:8080");
        assert_eq!(groups[0]["labels"]["__meta_tidegate_target"], "shop/checkout-x");
        assert_eq!(groups[0]["labels"]["__meta_tidegate_pod"], "checkout-x");
        assert_eq!(groups[0]["labels"]["__meta_tidegate_service"], "checkout");
        assert_eq!(groups[0]["labels"]["__meta_tidegate_port"], "http");
        assert_eq!(groups[1]["labels"]["__meta_tidegate_state"], "draining");
        assert_eq!(groups[2]["targets"][0], "[fd00::1]:8080");
        assert_eq!(targets(&[]), "[]");
    }
}
