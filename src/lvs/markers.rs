//! Virtual servers of labelled Services.
//!
//! | label of the Service | meaning |
//! |---|---|
//! | `tidegate.dev/virtual-address` | the address: the Service's pools are virtual servers |
//! | `tidegate.dev/virtual-port` | the port; without it the endpoints' own |
//! | `tidegate.dev/virtual-port.NAME` | the port of the pool of the Service's port NAME |
//!
//! Labels and not annotations, because the EndpointSlices of a Service carry its labels.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::watch;

use super::VirtualServer;
use crate::net::fetch::Fetcher;
use crate::pull::Upstream;

/// The label that makes virtual servers of a Service's pools.
pub(super) const ADDRESS: &str = "tidegate.dev/virtual-address";
const PORT: &str = "tidegate.dev/virtual-port";
/// How often labels are looked at.
const LOOK: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Deserialize)]
struct List {
    pools: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    id: String,
    #[serde(default)]
    port: Option<u16>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

/// Looks for them at whichever server is followed; never ends where there is something to look for or not.
pub(super) async fn follow(
    defaults: Option<VirtualServer>,
    mut upstream: watch::Receiver<Option<Upstream>>,
    found: watch::Sender<Option<Arc<[VirtualServer]>>>,
) {
    let Some(defaults) = defaults else { return std::future::pending().await };
    let mut said = None;
    loop {
        let Ok(server) = upstream.wait_for(Option::is_some).await.map(|it| it.clone()) else { return };
        let Some(server) = server else { continue };
        let trouble = match look(&server.fetcher, &defaults).await {
            Ok((servers, problem)) => {
                let servers: Arc<[VirtualServer]> = servers.into();
                found.send_if_modified(|known| known.replace(servers.clone()) != Some(servers));
                problem
            }
            // What was found before stays.
            Err(why) => Some(why),
        };
        if trouble != said {
            if let Some(why) = &trouble {
                tracing::warn!(why, "labels of Services cannot all be used");
            }
            said = trouble;
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn look(fetcher: &Fetcher, defaults: &VirtualServer) -> Result<(Vec<VirtualServer>, Option<String>), String> {
    let answer = fetcher.get("/v1/pools?label=tidegate.dev/virtual-address", &[], PATIENCE).await;
    let answer = answer.map_err(|error| error.to_string())?;
    if answer.status != hyper::StatusCode::OK {
        return Err(format!("{} answers {}", fetcher.base(), answer.status.as_u16()));
    }
    let list: List = serde_json::from_slice(&answer.body).map_err(|error| error.to_string())?;
    Ok(read(list, defaults))
}

/// The virtual servers of a list, and the first label that is none.
fn read(list: List, defaults: &VirtualServer) -> (Vec<VirtualServer>, Option<String>) {
    let (mut servers, mut problem) = (Vec::new(), None);
    for entry in list.pools {
        let own = entry.id.rsplit('/').next().map(|name| format!("{PORT}.{name}"));
        let label = |name: &str| entry.labels.get(name);
        let Some(address) = label(ADDRESS) else { continue };
        let port = own.and_then(|own| label(&own)).or_else(|| label(PORT)).map(|port| port.parse().ok());
        let port = port.unwrap_or(entry.port).filter(|port: &u16| *port > 0);
        match (address.parse(), port) {
            (Ok(address), Some(port)) => {
                servers.push(VirtualServer { address, port, pool: entry.id, ..defaults.clone() });
            }
            _ => {
                problem = problem.or_else(|| {
                    Some(format!(
                        "{}: {ADDRESS} must be an address, and {PORT} a port; it has {:?}",
                        entry.id, entry.labels
                    ))
                })
            }
        }
    }
    (servers, problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_say_address_and_port_of_each_pool() {
        let text = r#"{"pools":[
            {"id":"e/n/web/http","port":8080,"labels":{"tidegate.dev/virtual-address":"10.9.9.9","tidegate.dev/virtual-port.https":"443"}},
            {"id":"e/n/web/https","port":8443,"labels":{"tidegate.dev/virtual-address":"10.9.9.9","tidegate.dev/virtual-port.https":"443"}},
            {"id":"e/n/api/http","labels":{"tidegate.dev/virtual-address":"10.9.9.8","tidegate.dev/virtual-port":"80"}},
            {"id":"e/n/bad/http","port":1,"labels":{"tidegate.dev/virtual-address":"vip"}},
            {"id":"e/n/none/http","labels":{"tidegate.dev/virtual-address":"10.9.9.7"}}]}"#;
        let (servers, problem) = read(serde_json::from_str(text).unwrap(), &VirtualServer::default());
        let found: Vec<_> = servers.iter().map(|it| format!("{} {}:{}", it.pool, it.address, it.port)).collect();
        assert_eq!(found, ["e/n/web/http 10.9.9.9:8080", "e/n/web/https 10.9.9.9:443", "e/n/api/http 10.9.9.8:80"]);
        assert!(problem.unwrap().contains("e/n/bad/http"));
    }
}
