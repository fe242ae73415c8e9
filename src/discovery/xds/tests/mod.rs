//! The protocols without a network: requests and snapshots of a real registry in, responses out.

mod delta;
mod hosts;
mod random;
mod sotw;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use prost::Message;
use prost::bytes::Bytes;

use super::machine::{Fault, Machine, Note, Types};
use super::messages::{DeltaDiscoveryRequest, DiscoveryRequest, RpcStatus};
use super::view::{Kind, Listeners, View};
use crate::discovery::config::Scope;
use crate::discovery::formats::envoy::messages::{Any, Cluster, ClusterLoadAssignment};
use crate::endpoints::config::HoldConfig;
use crate::endpoints::pool::{Endpoint, PoolContent, PoolId};
use crate::endpoints::{Registry, Shard, Snapshot, SourceEvent, Update, Watched};

/// A registry with the clusters east and west, and one stream over it.
struct Bed<M: Machine> {
    registry: Registry,
    scope: Scope,
    stream: M,
}

impl<M: Machine> Bed<M> {
    fn unsynced(types: Types) -> Self {
        let shards = ["east", "west"].map(|name| Shard::new(name.into(), Some(name.into())));
        let hold = HoldConfig { max_drop_percent: 50, max_age: Duration::from_secs(600) };
        let registry = Registry::new(shards.into(), Vec::new(), hold, None);
        Self { registry, scope: Scope::default(), stream: M::new(types) }
    }

    /// Both clusters have told their pools: `east/shop/{a,b}/http`, and none of west.
    fn new(types: Types) -> Self {
        let mut bed = Self::unsynced(types);
        bed.tell(0, Update::Reset(vec![pool("a", &[1]), pool("b", &[2])]));
        bed.tell(1, Update::Reset(Vec::new()));
        bed
    }

    fn tell(&mut self, shard: usize, update: Update) {
        let now = SystemTime::now();
        self.registry.apply(shard, SourceEvent::Pools(vec![update]), now);
        self.registry.apply(shard, SourceEvent::Contact(Watched::Endpoints), now);
        self.registry.publish();
        let snapshot = self.snapshot();
        self.stream.subscriptions_mut().changed(&View {
            snapshot: &snapshot,
            scope: &self.scope,
            listeners: &Listeners::default(),
        });
    }

    fn set(&mut self, name: &str, addresses: &[u8]) {
        self.tell(0, Update::Add(pool(name, addresses)));
    }

    fn remove(&mut self, name: &str) {
        self.tell(0, Update::Remove(PoolId::parse(&id(name)).unwrap()));
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        self.registry.published().clone()
    }

    fn send(&mut self, request: M::Request) -> Result<Vec<Note>, Fault> {
        let snapshot = self.snapshot();
        self.stream
            .receive(request, &View { snapshot: &snapshot, scope: &self.scope, listeners: &Listeners::default() })
    }

    /// The next response.
    fn next(&mut self) -> Option<M::Response> {
        let snapshot = self.snapshot();
        let (_, response) =
            self.stream.respond(&View { snapshot: &snapshot, scope: &self.scope, listeners: &Listeners::default() })?;
        Some(response)
    }

    /// The same stream's client on a new stream.
    fn reconnect(&mut self, types: Types) {
        self.stream = M::new(types);
    }
}

fn id(name: &str) -> String {
    format!("east/shop/{name}/http")
}

fn ids(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| if *name == "*" { (*name).to_owned() } else { id(name) }).collect()
}

fn pool(name: &str, addresses: &[u8]) -> PoolContent {
    let endpoint = |last: &u8| Endpoint::new([10, 0, 0, *last].into(), 80);
    PoolContent {
        id: PoolId::parse(&id(name)).unwrap(),
        endpoints: addresses.iter().map(endpoint).collect(),
        namespace: Some("shop".into()),
        labels: Arc::default(),
        relayed: None,
    }
}

const EDS: Types = Types::Only(Kind::Assignments);
const CDS: Types = Types::Only(Kind::Clusters);

/// A pool's short name with its addresses, of an encoded assignment; of a cluster, its name.
fn decoded(resource: &Bytes) -> (String, Vec<u8>) {
    let any = Any::decode(resource.clone()).unwrap();
    let short =
        |name: &str| name.strip_prefix("east/shop/").and_then(|it| it.strip_suffix("/http")).unwrap().to_owned();
    if any.type_url == Kind::Clusters.type_url() {
        return (short(&Cluster::decode(any.value).unwrap().name), Vec::new());
    }
    assert_eq!(any.type_url, Kind::Assignments.type_url());
    let assignment = ClusterLoadAssignment::decode(any.value).unwrap();
    let endpoints = assignment.endpoints.iter().flat_map(|zone| &zone.lb_endpoints);
    let address = |it: &crate::discovery::formats::envoy::messages::LbEndpoint| {
        let socket = it.endpoint.clone().unwrap().address.unwrap().socket_address.unwrap();
        socket.address.rsplit('.').next().unwrap().parse().unwrap()
    };
    (short(&assignment.cluster_name), endpoints.map(address).collect())
}

fn refusal(why: Option<&str>) -> Option<RpcStatus> {
    why.map(|why| RpcStatus { code: 3, message: why.to_owned() })
}

fn content(pairs: &[(&str, &[u8])]) -> BTreeMap<String, Vec<u8>> {
    pairs.iter().map(|(name, addresses)| ((*name).to_owned(), addresses.to_vec())).collect()
}
