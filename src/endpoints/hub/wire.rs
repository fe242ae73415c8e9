//! What a hub and its relays say to each other beyond the pull API that every gateway uses.
//!
//! A relay asks `GET /v1/delta` and `GET /v1/pools` with `relay=TRUTH`, the tag of the last [`RelayPart`] that it has
//! (empty for none), and its name in the header `Tidegate-Relay`. The answer's body then has a [`RelayPart`] under
//! `relay`, a request that waits is answered as well when that differs, and the header [`HUBS`] names the lives of the
//! hubs on the way, nearest first. A relay that finds its own among them has found a circle.
//!
//! `POST /v1/relay` takes a [`Report`] of what the relay's gateways ask for and serve, and answers with a [`Verdict`].
//! Ages, not times, stand in it: clocks differ.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::endpoints::hosts::Claim;
use crate::endpoints::interner::Interner;
use crate::endpoints::matched::Matched;
use crate::endpoints::pool::{Endpoint, EndpointState, Hold, PoolContent, PoolId, Protocol, Relayed, sort};
use crate::endpoints::shard::Status;
use crate::endpoints::update::{Origin, Origins, Watched};
use crate::kubernetes::policy::RequestMatch;

/// The header with the lives of the hubs on the way, divided by commas.
pub const HUBS: &str = "tidegate-hubs";
/// The header with a relay's name.
pub const RELAY: &str = "tidegate-relay";

/// What an answer says beside the pools.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RelayPart {
    /// Tag of what follows, without times and reasons, so that hubs that know the same say the same.
    pub truth: String,
    /// The hub's sources.
    pub sources: Vec<SourcePart>,
    /// Its pools with endpoints that a source no longer names.
    #[serde(default)]
    pub holds: BTreeMap<PoolId, HoldPart>,
    /// What belongs to the pools of `changed`, in the same order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pools: Vec<PoolPart>,
    /// Tags of the pools of a list, in the same order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Arc<str>>,
    /// All hosts, as the hub granted them; `None` where the relay has them already, or the hub does not know all yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hosts: Option<Arc<[Claim]>>,
}

/// A source of the hub. Times are milliseconds of the Unix epoch.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SourcePart {
    /// What the hub calls it.
    pub name: Arc<str>,
    /// First part of the ids that only it can have.
    pub prefix: Option<Arc<str>>,
    /// Whether the hub has its pools.
    pub loaded: bool,
    /// When they were last known to be true.
    pub synced_at: Option<u64>,
    /// What is outdated, since when and why.
    pub lost: Vec<(Watched, u64, String)>,
}

/// A hold, with its times in milliseconds of the Unix epoch.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HoldPart {
    /// What happened.
    pub why: Arc<str>,
    /// When.
    pub since: u64,
    /// When it ends at the latest.
    pub until: u64,
    /// How many endpoints are there because of it.
    pub endpoints: usize,
}

/// What a relay needs of a pool beside its body.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PoolPart {
    /// Tag of the body and of what follows.
    pub tag: Arc<str>,
    /// Namespace of the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Arc<str>>,
    /// Labels of the service.
    #[serde(default, skip_serializing_if = "no_labels")]
    pub labels: Arc<BTreeMap<String, String>>,
    /// Places among the hub's sources.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<usize>,
}

/// What a relay's gateways ask for and serve: what is new of each, the latest alone.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// The relay's name.
    pub relay: String,
    /// Its gateways.
    pub gateways: Vec<GatewayPart>,
}

/// What is new of a gateway. Ages are milliseconds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct GatewayPart {
    /// Its name.
    pub name: String,
    /// Who it is to the instance that it asks.
    pub client: String,
    /// The relays between that instance and the one that reports, the gateway's own first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub relays: Vec<String>,
    /// How long it has been known.
    pub since: u64,
    /// How long ago it was heard of.
    pub seen: u64,
    /// What it serves of each pool: a generation or an `ETag`, and how long ago it said so.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub applied: BTreeMap<String, (serde_json::Value, u64)>,
    /// The pools that it asked for, and how long ago.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub asked: BTreeMap<String, u64>,
    /// Why it refuses what it was given, and how long ago it said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<(String, u64)>,
    /// Whether it tells requests apart.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub matches: bool,
    /// How many parts that are for some requests alone it serves of a pool in `applied`; none where it is not named.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parts: BTreeMap<String, usize>,
}

/// What became of a report.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Verdict {
    /// Gateways of which nothing was taken, and why.
    pub refused: BTreeMap<String, String>,
}

/// An answer of `/v1/delta`.
#[derive(Debug)]
pub(super) struct Delta {
    pub(super) index: String,
    pub(super) changed: Vec<(Option<Arc<str>>, PoolContent)>,
    pub(super) removed: Vec<PoolId>,
    pub(super) relay: Option<RelayPart>,
}

/// An answer of `/v1/pools`: the pools with their tags.
#[derive(Debug)]
pub(super) struct List {
    pub(super) index: String,
    pub(super) pools: Vec<(PoolId, Option<Arc<str>>)>,
    pub(super) relay: Option<RelayPart>,
}

#[derive(Deserialize)]
struct DeltaBody {
    index: String,
    changed: Vec<PoolBody>,
    removed: Vec<String>,
    #[serde(default)]
    relay: Option<RelayPart>,
}

#[derive(Deserialize)]
struct ListBody {
    index: String,
    pools: Vec<ListEntry>,
    #[serde(default)]
    relay: Option<RelayPart>,
}

#[derive(Deserialize)]
struct ListEntry {
    id: String,
}

#[derive(Deserialize)]
struct PoolBody {
    id: String,
    #[serde(default)]
    traffic_generation: Option<i64>,
    endpoints: Vec<EndpointBody>,
    #[serde(default)]
    matched: Vec<MatchedBody>,
}

#[derive(Deserialize)]
struct MatchedBody {
    pool: String,
    #[serde(rename = "match")]
    requests: RequestMatch,
    endpoints: Vec<EndpointBody>,
}

#[derive(Deserialize)]
struct EndpointBody {
    address: IpAddr,
    port: u16,
    #[serde(default)]
    protocol: Option<String>,
    weight: u32,
    state: String,
    #[serde(default)]
    zone: Option<String>,
    #[serde(default)]
    node: Option<String>,
    #[serde(default)]
    cluster: Option<String>,
    #[serde(default)]
    target: Option<String>,
    #[serde(default)]
    app_protocol: Option<String>,
}

fn no_labels(labels: &Arc<BTreeMap<String, String>>) -> bool {
    labels.is_empty()
}

/// Milliseconds of the Unix epoch.
pub fn millis(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).ok().and_then(|since| u64::try_from(since.as_millis()).ok()).unwrap_or_default()
}

fn time(millis: u64) -> SystemTime {
    UNIX_EPOCH.checked_add(Duration::from_millis(millis)).unwrap_or(UNIX_EPOCH)
}

/// The tag of several pools, of their ids and tags in the order of the ids.
pub fn content_tag<'a>(pools: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    for (id, tag) in pools {
        for part in [id, " ", tag, "\n"] {
            context.update(part.as_bytes());
        }
    }
    hex(context.finish().as_ref())
}

/// The first 128 bits of a digest.
pub fn hex(digest: &[u8]) -> String {
    use std::fmt::Write as _;
    digest.iter().take(16).fold(String::with_capacity(32), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

// === impl RelayPart ===

impl RelayPart {
    /// What it says of the hub's sources and holds.
    pub(super) fn origins(&self) -> Origins {
        let source = |part: &SourcePart| Origin {
            name: part.name.clone(),
            prefix: part.prefix.clone(),
            status: Status {
                loaded: part.loaded,
                synced_at: part.synced_at.map(time),
                lost: part.lost.iter().map(|(what, since, why)| (*what, (time(*since), why.clone()))).collect(),
            },
        };
        let hold = |part: &HoldPart| Hold {
            why: part.why.clone(),
            since: time(part.since),
            until: time(part.until),
            endpoints: part.endpoints,
        };
        Origins {
            sources: self.sources.iter().map(source).collect(),
            holds: self.holds.iter().map(|(id, part)| (id.clone(), hold(part))).collect(),
        }
    }
}

// === impl Delta ===

impl Delta {
    /// Reads a body whole.
    ///
    /// # Errors
    /// It is none, or something in it cannot be: then nothing of it is used.
    pub(super) fn read(body: &[u8], names: &mut Interner) -> Result<Self, String> {
        let body: DeltaBody = serde_json::from_slice(body).map_err(|error| format!("no delta: {error}"))?;
        let parts = body.relay.as_ref().map(|relay| relay.pools.as_slice()).unwrap_or_default();
        if body.relay.is_some() && parts.len() != body.changed.len() {
            return Err(format!("{} pools, and {} descriptions of them", body.changed.len(), parts.len()));
        }
        let sources = body.relay.as_ref().map(|relay| relay.sources.as_slice()).unwrap_or_default();
        let mut changed = Vec::with_capacity(body.changed.len());
        for (at, pool) in body.changed.into_iter().enumerate() {
            let part = parts.get(at);
            changed.push((part.map(|part| part.tag.clone()), pool.content(part, sources, names)?));
        }
        let removed = body.removed.iter().map(|id| parse_id(id)).collect::<Result<_, _>>()?;
        Ok(Self { index: body.index, changed, removed, relay: body.relay })
    }
}

// === impl List ===

impl List {
    /// Reads a body whole.
    ///
    /// # Errors
    /// It is none, or something in it cannot be.
    pub(super) fn read(body: &[u8]) -> Result<Self, String> {
        let body: ListBody = serde_json::from_slice(body).map_err(|error| format!("no list of pools: {error}"))?;
        let tags = body.relay.as_ref().map(|relay| relay.tags.as_slice()).unwrap_or_default();
        let entry = |(at, entry): (usize, &ListEntry)| Ok((parse_id(&entry.id)?, tags.get(at).cloned()));
        let pools = body.pools.iter().enumerate().map(entry).collect::<Result<_, String>>()?;
        Ok(Self { index: body.index, pools, relay: body.relay })
    }
}

fn parse_id(text: &str) -> Result<PoolId, String> {
    PoolId::parse(text).map_err(|error| format!("{text:?} {error}"))
}

// === impl PoolBody ===

impl PoolBody {
    fn content(
        self,
        part: Option<&PoolPart>,
        sources: &[SourcePart],
        names: &mut Interner,
    ) -> Result<PoolContent, String> {
        let id = parse_id(&self.id)?;
        let mut matched = Vec::with_capacity(self.matched.len());
        for part in self.matched {
            let (pool, requests) = (parse_id(&part.pool)?, part.requests);
            matched.push(Arc::new(Matched { pool, requests, endpoints: read(part.endpoints, &id, names)? }));
        }
        let endpoints = read(self.endpoints, &id, names)?;
        let origins = part.map(|part| part.sources.as_slice()).unwrap_or_default();
        let origins = origins.iter().filter_map(|at| Some(sources.get(*at)?.name.clone())).collect();
        Ok(PoolContent {
            id,
            endpoints,
            namespace: part.and_then(|part| part.namespace.as_deref()).map(|name| names.get(name)),
            labels: part.map(|part| part.labels.clone()).unwrap_or_default(),
            relayed: Some(Arc::new(Relayed {
                traffic_generation: self.traffic_generation,
                matched: matched.into(),
                origins,
            })),
        })
    }
}

/// Endpoints of a pool, or of a part of one, in their order.
fn read(bodies: Vec<EndpointBody>, id: &PoolId, names: &mut Interner) -> Result<Arc<[Endpoint]>, String> {
    let mut endpoints = Vec::with_capacity(bodies.len());
    for body in bodies {
        endpoints.push(body.endpoint(names).map_err(|why| format!("{id}: {why}"))?);
    }
    sort(&mut endpoints);
    if endpoints.windows(2).any(|two| matches!(two, [one, other] if one.key() == other.key())) {
        return Err(format!("{id}: has an endpoint twice"));
    }
    Ok(endpoints.into())
}

// === impl EndpointBody ===

impl EndpointBody {
    fn endpoint(self, names: &mut Interner) -> Result<Endpoint, String> {
        let state = match self.state.as_str() {
            "ready" => EndpointState::Ready,
            "draining" => EndpointState::Draining,
            other => return Err(format!("an endpoint is {other:?}, which is neither ready nor draining")),
        };
        if self.port == 0 || self.weight == 0 {
            return Err(format!("{} has the port {} and the weight {}", self.address, self.port, self.weight));
        }
        let mut named = |text: Option<String>| text.map(|text| names.get(&text));
        Ok(Endpoint {
            address: self.address,
            port: self.port,
            protocol: Protocol::named(self.protocol.as_deref()),
            weight: self.weight,
            state,
            zone: named(self.zone),
            node: named(self.node),
            cluster: named(self.cluster),
            target: self.target.map(Into::into),
            app_protocol: named(self.app_protocol),
        })
    }
}
