//! Endpoints and the pools that they make up.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::matched::{self, Parts};

/// A pool's id: `cluster/namespace/service/port` of Kubernetes, or the text that the configuration gives. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PoolId(Arc<str>);

/// Why a text is no pool's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PoolIdError {
    /// Empty, or longer than [`PoolId::MAX_LENGTH`] bytes.
    #[error("has a length that no pool's id has: use 1 to 512 bytes")]
    Length,
    /// It could not stand in a path, a header or a file of a gateway.
    #[error("is no pool's id: use letters, digits, and . _ - : / with a letter or digit at both ends")]
    Characters,
}

/// Transport of an endpoint's port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// Whether an endpoint takes requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum EndpointState {
    /// It takes new requests.
    Ready,
    /// No new requests; those in flight finish.
    Draining,
}

/// One place to send requests to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Where.
    pub address: IpAddr,
    /// Which port.
    pub port: u16,
    /// Over what.
    pub protocol: Protocol,
    /// Its part beside the pool's other endpoints; at least 1.
    pub weight: u32,
    /// Whether it takes requests.
    pub state: EndpointState,
    /// The zone that it is in.
    pub zone: Option<Arc<str>>,
    /// The node that it runs on.
    pub node: Option<Arc<str>>,
    /// The cluster that it is in.
    pub cluster: Option<Arc<str>>,
    /// What it is, `namespace/pod` for a pod.
    pub target: Option<Arc<str>>,
    /// The application's protocol, as Kubernetes's `appProtocol`.
    pub app_protocol: Option<Arc<str>>,
}

/// What makes an endpoint the same one across updates.
pub type EndpointKey = (IpAddr, u16, Protocol);

/// The weight of an endpoint that nobody gave another.
pub const DEFAULT_WEIGHT: u32 = 100;

/// A pool as a source describes it: the whole of it, whatever it was before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolContent {
    /// Which pool.
    pub id: PoolId,
    /// Sorted as [`sort`] does, one for each [`EndpointKey`].
    pub endpoints: Arc<[Endpoint]>,
    /// Namespace of the service, for filters and scopes.
    pub namespace: Option<Arc<str>>,
    /// Labels of the service, for filters.
    pub labels: Arc<BTreeMap<String, String>>,
    /// What only a hub says; `None` from every other source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relayed: Option<Arc<Relayed>>,
}

/// What a hub says of a pool beside its content.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relayed {
    /// The generation of the TrafficPolicy that made it.
    pub traffic_generation: Option<i64>,
    /// Its parts that are for some requests alone.
    #[serde(default, skip_serializing_if = "matched::is_none")]
    pub matched: Parts,
    /// The names of the hub's sources that it comes from.
    pub origins: Vec<Arc<str>>,
}

/// Why and since when a pool has endpoints that its source no longer names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// What happened.
    pub why: Arc<str>,
    /// When it happened.
    pub since: SystemTime,
    /// When it ends at the latest.
    pub until: SystemTime,
    /// How many endpoints of the pool are there only because of it.
    pub endpoints: usize,
}

/// A published pool.
#[derive(Debug)]
pub struct Pool {
    /// Which pool.
    pub id: PoolId,
    /// Sorted as [`sort`] does.
    pub endpoints: Arc<[Endpoint]>,
    /// Its parts that are for some requests alone; their endpoints are none of `endpoints` for that.
    pub matched: Parts,
    /// The generation of the TrafficPolicy that made it.
    pub traffic_generation: Option<i64>,
    /// Namespace of the service.
    pub namespace: Option<Arc<str>>,
    /// Labels of the service.
    pub labels: Arc<BTreeMap<String, String>>,
    /// The shards that its endpoints come from, by place; none for a joined pool without a known member.
    pub shards: Box<[usize]>,
    /// Present while endpoints are held.
    pub hold: Option<Hold>,
    /// The snapshot's revision at which its content last changed.
    pub revision: u64,
    /// The content in the formats that were asked for.
    pub renderings: Renderings,
}

/// A pool's content in several formats, each made at most once and shared by all who want it. Which place is which
/// format is the caller's affair.
#[derive(Clone, Debug, Default)]
pub struct Renderings([OnceLock<Arc<Rendering>>; Renderings::PLACES]);

/// The content in one format.
#[derive(Clone, Debug)]
pub struct Rendering {
    /// The body.
    pub body: hyper::body::Bytes,
    /// A strong entity tag, quotes included: the same body has the same tag in every process.
    pub etag: Arc<str>,
}

/// Sorts endpoints by address as it is written, then port, then protocol: the order of every output.
pub fn sort(endpoints: &mut [Endpoint]) {
    endpoints.sort_by_cached_key(|endpoint| (endpoint.address.to_string(), endpoint.port, endpoint.protocol));
}

// === impl PoolId ===

impl PoolId {
    /// The longest id, in bytes.
    pub const MAX_LENGTH: usize = 512;

    /// Takes an id that a person or a client wrote.
    ///
    /// # Errors
    /// It is too long or has characters that cannot stand in every output.
    pub fn parse(text: &str) -> Result<Self, PoolIdError> {
        if text.is_empty() || text.len() > Self::MAX_LENGTH {
            return Err(PoolIdError::Length);
        }
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"._-:/".contains(&byte);
        let ends = text.starts_with(|it: char| it.is_ascii_alphanumeric())
            && text.ends_with(|it: char| it.is_ascii_alphanumeric());
        if ends && text.bytes().all(inner) { Ok(Self(text.into())) } else { Err(PoolIdError::Characters) }
    }

    /// An id made from parts that Kubernetes has checked already.
    pub(super) fn from_parts(parts: &[&str]) -> Self {
        Self(parts.join("/").into())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PoolId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for PoolId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl std::borrow::Borrow<str> for PoolId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

// === impl Protocol ===

impl Protocol {
    /// Its name as Kubernetes writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        }
    }

    /// The protocol of this name; absent or unknown means TCP, as in Kubernetes.
    pub fn named(name: Option<&str>) -> Self {
        match name {
            Some("UDP") => Self::Udp,
            Some("SCTP") => Self::Sctp,
            _ => Self::Tcp,
        }
    }
}

// === impl EndpointState ===

impl EndpointState {
    /// Its name in outputs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Draining => "draining",
        }
    }
}

// === impl Endpoint ===

impl Endpoint {
    /// A ready TCP endpoint of the default weight that nothing else is known of.
    pub fn new(address: IpAddr, port: u16) -> Self {
        Self {
            address,
            port,
            protocol: Protocol::Tcp,
            weight: DEFAULT_WEIGHT,
            state: EndpointState::Ready,
            zone: None,
            node: None,
            cluster: None,
            target: None,
            app_protocol: None,
        }
    }

    /// What makes it the same endpoint across updates.
    pub fn key(&self) -> EndpointKey {
        (self.address, self.port, self.protocol)
    }

    /// Whether it takes new requests.
    pub fn is_ready(&self) -> bool {
        self.state == EndpointState::Ready
    }
}

// === impl Pool ===

impl Pool {
    /// Endpoints that take new requests.
    pub fn ready(&self) -> usize {
        self.endpoints.iter().filter(|endpoint| endpoint.is_ready()).count()
    }

    /// Whether the bodies of both are the same.
    pub(super) fn same_content(&self, other: &Self) -> bool {
        self.traffic_generation == other.traffic_generation
            && (Arc::ptr_eq(&self.endpoints, &other.endpoints) || self.endpoints == other.endpoints)
            && self.matched == other.matched
    }

    /// Whether both fit the same filters and scopes.
    pub(super) fn same_place(&self, other: &Self) -> bool {
        self.namespace == other.namespace && self.labels == other.labels && self.shards == other.shards
    }
}

// === impl Renderings ===

impl Renderings {
    /// How many formats a pool can have.
    pub const PLACES: usize = 8;

    /// The rendering at a place, made by `render` if nobody has asked for it yet.
    pub fn get(&self, place: usize, render: impl FnOnce() -> Rendering) -> Rendering {
        match self.0.get(place) {
            Some(slot) => Rendering::clone(slot.get_or_init(|| Arc::new(render()))),
            None => render(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_only_characters_that_can_stand_in_every_output() {
        for good in ["checkout", "east/shop/checkout/http", "vm/a.b_c-d", "app/shop/checkout/8080", "a:b"] {
            assert_eq!(PoolId::parse(good).unwrap().as_str(), good);
        }
        for bad in ["/a", "a/", "a b", "a\n", "ä", "a;b", "-a", "a?b", "a\"b"] {
            assert_eq!(PoolId::parse(bad), Err(PoolIdError::Characters), "{bad:?}");
        }
        assert_eq!(PoolId::parse(""), Err(PoolIdError::Length));
        assert_eq!(PoolId::parse(&"a".repeat(513)), Err(PoolIdError::Length));
    }

    #[test]
    fn endpoints_are_in_the_order_in_which_their_addresses_are_written() {
        let endpoint = |address: &str, port| Endpoint::new(address.parse().unwrap(), port);
        let mut endpoints = vec![endpoint("10.0.0.9", 1), endpoint("10.0.0.10", 2), endpoint("10.0.0.10", 1)];
        sort(&mut endpoints);
        let order: Vec<_> = endpoints.iter().map(|it| format!("{}:{}", it.address, it.port)).collect();
        assert_eq!(order, ["10.0.0.10:1", "10.0.0.10:2", "10.0.0.9:1"]);
    }
}
