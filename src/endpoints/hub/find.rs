//! Where the hubs are: addresses of the configuration, or those behind a Service, by its name or by its EndpointSlices.
//!
//! A relay stays with the hub that it has, and goes to the next one when that fails. Which one is first is chance, so
//! that thousands of relays are spread over the hubs.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use serde_json::Value;

use super::{HubAddress, HubConfig, Lookup, ServiceAddress};
use crate::base::backoff::random;
use crate::endpoints::kubernetes::{self, KubernetesConfig, flat};

/// For a name server's or an API server's answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Chooses a hub.
#[derive(Debug)]
pub(super) struct Finder {
    config: Arc<HubConfig>,
    current: Option<String>,
    known: usize,
}

// === impl Finder ===

impl Finder {
    pub(super) fn new(config: Arc<HubConfig>) -> Self {
        Self { config, current: None, known: 1 }
    }

    /// How many hubs there were when they were looked up last, at least 1.
    pub(super) fn known(&self) -> usize {
        self.known
    }

    /// The hub to ask now: another one than before, where there is another.
    ///
    /// # Errors
    /// No hub can be found; the text is for people.
    pub(super) async fn next(&mut self) -> Result<String, String> {
        let found = match &self.config.address {
            HubAddress::Urls(urls) => urls.clone(),
            HubAddress::Service(service) => lookup(service, self.config.credentials.ca.is_some()).await?,
        };
        self.known = found.len().max(1);
        let next = match &self.current {
            None => usize::try_from(scaled(random(), found.len())).unwrap_or_default(),
            Some(current) => match found.iter().position(|url| url == current) {
                Some(at) => (at + 1) % found.len(),
                None => 0,
            },
        };
        let next = found.get(next).or(found.first()).cloned().ok_or("no hub is known")?;
        self.current = Some(next.clone());
        Ok(next)
    }
}

/// A place below `count`.
fn scaled(random: f64, count: usize) -> u64 {
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "hubs are few"
    )]
    let place = (random * count as f64) as u64;
    place.min(count.saturating_sub(1) as u64)
}

async fn lookup(service: &ServiceAddress, secure: bool) -> Result<Vec<String>, String> {
    let ServiceAddress { namespace, name, port, .. } = service;
    let addresses = match &service.lookup {
        Lookup::Dns => {
            let host = format!("{name}.{namespace}.svc.{}", service.domain);
            let looked = tokio::time::timeout(PATIENCE, tokio::net::lookup_host((host.as_str(), *port))).await;
            let looked = looked.map_err(|_| format!("{host}: no answer of the name server"))?;
            looked.map_err(|error| format!("{host}: {error}"))?.map(|address| address.ip()).collect()
        }
        Lookup::Slices { kubeconfig } => {
            let cluster = KubernetesConfig {
                hosts: false,
                cluster: Arc::default(),
                kubeconfig: kubeconfig.clone(),
                namespaces: Vec::new(),
                endpoints_v1: false,
                strict_serving: false,
                traffic_policies: false,
            };
            let asked = tokio::time::timeout(PATIENCE, slices(&cluster, namespace, name)).await;
            asked.map_err(|_| "the API server does not answer".to_owned())??
        }
    };
    if addresses.is_empty() {
        return Err(format!("the service {namespace}/{name} has no ready endpoint"));
    }
    let scheme = if secure { "https" } else { "http" };
    let url = |address: &IpAddr| match address {
        IpAddr::V4(address) => format!("{scheme}://{address}:{port}"),
        IpAddr::V6(address) => format!("{scheme}://[{address}]:{port}"),
    };
    Ok(addresses.iter().map(url).collect())
}

/// The ready addresses of a service, in their order. One list whenever a hub is looked for: no watch.
async fn slices(cluster: &KubernetesConfig, namespace: &str, name: &str) -> Result<BTreeSet<IpAddr>, String> {
    let client = kubernetes::connect(cluster).await?;
    let path = format!(
        "/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices?labelSelector=kubernetes.io%2Fservice-name%3D{name}"
    );
    let request = Request::get(path).body(Vec::new()).map_err(|error| error.to_string())?;
    let text = client.request_text(request).await.map_err(|error| flat(&error))?;
    let list: Value = serde_json::from_str(&text).map_err(|error| format!("EndpointSlices: {error}"))?;
    Ok(ready_addresses(&list))
}

fn ready_addresses(list: &Value) -> BTreeSet<IpAddr> {
    let items = |value: &Value, key: &str| value.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    let endpoints = items(list, "items").iter().flat_map(|slice| items(slice, "endpoints")).collect::<Vec<_>>();
    let ready = endpoints.iter().filter(|it| it.pointer("/conditions/ready").and_then(Value::as_bool) != Some(false));
    ready.filter_map(|endpoint| endpoint.pointer("/addresses/0")?.as_str()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::fetch::Credentials;

    #[tokio::test]
    async fn each_hub_has_its_turn_and_none_is_asked_twice_in_a_row() {
        let urls = ["http://a:1", "http://b:1", "http://c:1"].map(str::to_owned);
        let config = HubConfig {
            address: HubAddress::Urls(urls.to_vec()),
            name: "relay".into(),
            credentials: Credentials::default(),
        };
        let mut finder = Finder::new(Arc::new(config));
        let mut seen = Vec::new();
        for _ in 0..6 {
            seen.push(finder.next().await.unwrap());
        }
        assert_eq!(seen[..3].iter().collect::<BTreeSet<_>>().len(), 3, "{seen:?}");
        assert_eq!(seen[..3], seen[3..]);
    }

    #[test]
    fn the_ready_addresses_of_a_service_are_hubs() {
        let list = serde_json::json!({"items": [
            {"endpoints": [{"addresses": ["10.0.0.2"], "conditions": {"ready": true}}, {"addresses": ["10.0.0.1"]}]},
            {"endpoints": [{"addresses": ["10.0.0.3"], "conditions": {"ready": false}}]},
            {"endpoints": null},
        ]});
        let found: Vec<_> = ready_addresses(&list).into_iter().map(|it| it.to_string()).collect();
        assert_eq!(found, ["10.0.0.1", "10.0.0.2"]);
    }
}
