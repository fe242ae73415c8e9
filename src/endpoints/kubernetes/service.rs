//! One service: its slices in compact form, and the pools that follow from them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use super::Settings;
use super::object::{HintsObject, PortObject, SliceEndpointObject, SliceObject};
use crate::endpoints::interner::Interner;
use crate::endpoints::pool::{
    DEFAULT_WEIGHT, Endpoint, EndpointKey, EndpointState, PoolContent, PoolId, Protocol, sort,
};

/// Port names that a service without endpoints is remembered by; more than any real service has.
const MAX_REMEMBERED: usize = 128;

/// IPv4 and IPv6 endpoints are in different pools.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Family {
    V4,
    V6,
}

/// A slice without what nobody reads. Its lists are boxed: collected from what was read, a `Vec` would keep that one's memory.
#[derive(Debug, PartialEq)]
pub(super) struct Slice {
    family: Family,
    /// Its resource version: of two slices the one written later.
    version: u64,
    labels: Arc<BTreeMap<String, String>>,
    ports: Box<[SlicePort]>,
    endpoints: Box<[SliceEndpoint]>,
}

#[derive(Debug, PartialEq)]
struct SlicePort {
    name: Option<Arc<str>>,
    number: u16,
    protocol: Protocol,
    app_protocol: Option<Arc<str>>,
}

#[derive(Debug, PartialEq)]
struct SliceEndpoint {
    address: IpAddr,
    ready: bool,
    serving: bool,
    terminating: bool,
    node: Option<Arc<str>>,
    zone: Option<Arc<str>>,
    target: Option<Arc<str>>,
    hints: Option<Box<Hints>>,
}

#[derive(Debug, Default, PartialEq)]
struct Hints {
    zones: Box<[Arc<str>]>,
    nodes: Box<[Arc<str>]>,
}

/// What one slice says of an address: how good it is, how new, the endpoint and the port.
type Claim<'a> = (u8, u64, &'a SliceEndpoint, &'a SlicePort);

/// A service by its slices.
#[derive(Debug, Default)]
pub(super) struct Service {
    /// By object: an EndpointSlice is one slice, an Endpoints object several.
    slices: BTreeMap<Arc<str>, Arc<[Slice]>>,
    /// Ports that it has had since it is there: a service scaled to zero has a slice without ports, and its pools are
    /// then known and empty, not unknown.
    ports: BTreeSet<(Family, Arc<str>)>,
    /// Its pools, made from these slices; `None` where they have changed since.
    made: Option<Box<[PoolContent]>>,
}

// === impl Slice ===

impl Slice {
    /// The slice without what nobody reads; `None`, with a warning, for one whose addresses are names.
    pub(super) fn from_object(object: SliceObject, strings: &mut Interner) -> Option<Self> {
        let family = match object.address_type.as_str() {
            "IPv4" => Family::V4,
            "IPv6" => Family::V6,
            other => {
                let (namespace, name) = (&object.metadata.namespace, &object.metadata.name);
                tracing::warn!(
                    namespace,
                    name,
                    kind = other,
                    "an EndpointSlice of this kind is not used: give addresses"
                );
                return None;
            }
        };
        // Collected anew: a map that was emptied keeps its memory.
        let labels = object.metadata.labels.into_iter().filter(|(name, _)| !is_of_the_slice(name)).collect();
        let endpoints = object.endpoints.into_iter();
        Some(Self {
            family,
            version: object.metadata.resource_version.parse().unwrap_or_default(),
            labels: Arc::new(labels),
            ports: object.ports.into_iter().filter_map(|port| SlicePort::from_object(port, strings)).collect(),
            endpoints: endpoints.filter_map(|it| SliceEndpoint::from_object(it, family, strings)).collect(),
        })
    }
}

/// Labels that say something of the slice and not of its service.
fn is_of_the_slice(label: &str) -> bool {
    label.starts_with("endpointslice.kubernetes.io/") || label == super::object::SERVICE_LABEL
}

impl SlicePort {
    fn from_object(port: PortObject, strings: &mut Interner) -> Option<Self> {
        Some(Self {
            name: port.name.filter(|name| !name.is_empty()).map(|name| strings.get(&name)),
            number: port.port.filter(|number| *number > 0)?,
            protocol: Protocol::named(port.protocol.as_deref()),
            app_protocol: port.app_protocol.map(|name| strings.get(&name)),
        })
    }

    /// The last part of its pool's id.
    fn pool_name(&self) -> Arc<str> {
        self.name.clone().unwrap_or_else(|| self.number.to_string().into())
    }
}

impl SliceEndpoint {
    fn from_object(object: SliceEndpointObject, family: Family, strings: &mut Interner) -> Option<Self> {
        let address: IpAddr = object.addresses.first()?.parse().ok()?;
        if address.is_ipv4() != (family == Family::V4) {
            return None;
        }
        let conditions = object.conditions.unwrap_or_default();
        let target = object.target_ref.filter(|target| !target.name.is_empty());
        Some(Self {
            address,
            ready: conditions.ready.unwrap_or(true),
            serving: conditions.serving.unwrap_or(true),
            terminating: conditions.terminating.unwrap_or(false),
            node: object.node_name.map(|name| strings.get(&name)),
            zone: object.zone.map(|name| strings.get(&name)),
            target: target.map(|target| format!("{}/{}", target.namespace, target.name).into()),
            hints: object.hints.map(|hints| Box::new(Hints::from_object(&hints, strings))),
        })
    }

    /// Ready as the settings want it: a service that publishes what is not ready forces `ready`.
    fn is_ready(&self, strict_serving: bool) -> bool {
        if strict_serving { self.serving && !self.terminating } else { self.ready }
    }

    /// The better of two claims on one address: ready, then serving though terminating, then the rest.
    fn rank(&self, strict_serving: bool) -> u8 {
        match self.is_ready(strict_serving) {
            true => 2,
            false => u8::from(self.serving && self.terminating),
        }
    }
}

impl Hints {
    fn from_object(object: &HintsObject, strings: &mut Interner) -> Self {
        let mut names = |list: &[super::object::NamedObject]| list.iter().map(|it| strings.get(&it.name)).collect();
        Self { zones: names(&object.for_zones), nodes: names(&object.for_nodes) }
    }
}

// === impl Service ===

impl Service {
    /// The slices of an object.
    pub(super) fn slices(&self, object: &str) -> Option<&Arc<[Slice]>> {
        self.slices.get(object)
    }

    /// An object has these slices now.
    pub(super) fn put(&mut self, object: Arc<str>, slices: Arc<[Slice]>) {
        self.slices.insert(object, slices);
        self.made = None;
    }

    /// An object is gone.
    pub(super) fn take(&mut self, object: &str) {
        self.slices.remove(object);
        self.made = None;
    }

    /// Whether no object is left.
    pub(super) fn is_empty(&self) -> bool {
        self.slices.is_empty()
    }

    /// All pools of the service, those without endpoints included.
    pub(super) fn pools(&mut self, namespace: &Arc<str>, name: &str, settings: &Settings) -> Vec<PoolContent> {
        let made = self.made.take().unwrap_or_else(|| self.make(namespace, name, settings));
        self.made.insert(made).to_vec()
    }

    fn make(&mut self, namespace: &Arc<str>, name: &str, settings: &Settings) -> Box<[PoolContent]> {
        let labels = self.newest_labels();
        let mut found: BTreeMap<(Family, Arc<str>), Vec<Endpoint>> = BTreeMap::new();
        for family in [Family::V4, Family::V6] {
            self.collect(family, settings, &mut found);
        }
        for key in found.keys() {
            if self.ports.len() < MAX_REMEMBERED {
                self.ports.insert(key.clone());
            }
        }
        for key in &self.ports {
            found.entry(key.clone()).or_default();
        }
        let pool = |((family, port), mut endpoints): ((Family, Arc<str>), Vec<Endpoint>)| {
            sort(&mut endpoints);
            PoolContent {
                id: pool_id(&settings.cluster, namespace, name, family, &port),
                endpoints: endpoints.into(),
                namespace: Some(namespace.clone()),
                labels: labels.clone(),
                relayed: None,
            }
        };
        found.into_iter().map(pool).collect()
    }

    /// The ids of its pools.
    pub(super) fn pool_ids(&self, namespace: &str, name: &str, settings: &Settings) -> Vec<PoolId> {
        let id = |(family, port): &(Family, Arc<str>)| pool_id(&settings.cluster, namespace, name, *family, port);
        self.ports.iter().map(id).collect()
    }

    /// Takes over what the service of before a new list is remembered by, and its pools where nothing has changed.
    pub(super) fn resume(&mut self, before: Self) {
        let same = |(object, slices): (&Arc<str>, &Arc<[Slice]>)| {
            before.slices.get(object).is_some_and(|before| Arc::ptr_eq(slices, before))
        };
        if self.slices.len() == before.slices.len() && self.slices.iter().all(same) {
            self.made = before.made;
        }
        self.ports.extend(before.ports);
    }

    fn newest_labels(&self) -> Arc<BTreeMap<String, String>> {
        let slices = self.slices.values().flat_map(|slices| slices.iter());
        slices.max_by_key(|slice| slice.version).map(|slice| slice.labels.clone()).unwrap_or_default()
    }

    /// Adds the endpoints of one family to their pools.
    fn collect(&self, family: Family, settings: &Settings, found: &mut BTreeMap<(Family, Arc<str>), Vec<Endpoint>>) {
        let strict = settings.strict_serving;
        let slices =
            || self.slices.values().flat_map(|slices| slices.iter()).filter(move |slice| slice.family == family);
        // Of several claims on one address, port and protocol the best, then the newest: whatever order they came in.
        let mut best: HashMap<(Arc<str>, EndpointKey), Claim<'_>> = HashMap::new();
        for slice in slices() {
            for port in &slice.ports {
                let pool = port.pool_name();
                found.entry((family, pool.clone())).or_default();
                for endpoint in &slice.endpoints {
                    let key = (pool.clone(), (endpoint.address, port.number, port.protocol));
                    let claim = (endpoint.rank(strict), slice.version, endpoint, port);
                    let place = best.entry(key).or_insert(claim);
                    if (claim.0, claim.1) > (place.0, place.1) {
                        *place = claim;
                    }
                }
            }
        }
        let ready = || best.values().filter(|claim| claim.2.is_ready(strict)).map(|claim| claim.2);
        let nobody_ready = ready().next().is_none();
        let hinted = Hinted::decide(ready, settings);
        for ((pool, key), (_, _, endpoint, port)) in &best {
            let state = match endpoint.is_ready(strict) {
                true if hinted.admits(endpoint, settings) => EndpointState::Ready,
                true => continue,
                false if !endpoint.terminating => continue,
                false if nobody_ready && endpoint.serving => EndpointState::Ready,
                false => EndpointState::Draining,
            };
            found.entry((family, pool.clone())).or_default().push(Endpoint {
                address: key.0,
                port: key.1,
                protocol: key.2,
                weight: DEFAULT_WEIGHT,
                state,
                zone: endpoint.zone.clone(),
                node: endpoint.node.clone(),
                cluster: Some(settings.cluster.clone()),
                target: endpoint.target.clone(),
                app_protocol: port.app_protocol.clone(),
            });
        }
    }
}

/// Which hints apply here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hinted {
    No,
    ByZone,
    ByNode,
}

impl Hinted {
    /// Hints apply only if every ready endpoint has them and one of them is for us; the node's go before the zone's.
    fn decide<'a, I: Iterator<Item = &'a SliceEndpoint>>(ready: impl Fn() -> I, settings: &Settings) -> Self {
        [Self::ByNode, Self::ByZone]
            .into_iter()
            .find(|by| {
                ready().all(|it| it.hints.as_deref().is_some_and(|hints| !by.names(hints).is_empty()))
                    && ready().any(|it| by.admits(it, settings))
            })
            .unwrap_or(Self::No)
    }

    fn names(self, hints: &Hints) -> &[Arc<str>] {
        match self {
            Self::No => &[],
            Self::ByZone => &hints.zones,
            Self::ByNode => &hints.nodes,
        }
    }

    fn admits(self, endpoint: &SliceEndpoint, settings: &Settings) -> bool {
        let here = match self {
            Self::No => return true,
            Self::ByZone => settings.zone.as_deref(),
            Self::ByNode => settings.node.as_deref(),
        };
        let Some(hints) = endpoint.hints.as_deref() else { return false };
        here.is_some_and(|here| self.names(hints).iter().any(|name| &**name == here))
    }
}

/// IPv6 has a part of its own at the end, always: an id must not change when a service gets another family.
fn pool_id(cluster: &str, namespace: &str, name: &str, family: Family, port: &str) -> PoolId {
    match family {
        Family::V4 => PoolId::from_parts(&[cluster, namespace, name, port]),
        Family::V6 => PoolId::from_parts(&[cluster, namespace, name, port, "ipv6"]),
    }
}
