//! A registry whose pools tests tell, and what follows it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use http_body_util::BodyExt;
use hyper::body::Bytes;
use hyper::header::HOST;
use hyper::{Request, Response};
use tokio::runtime::{Builder, Runtime};

use crate::endpoints::config::HoldConfig;
use crate::endpoints::matched::Matched;
use crate::endpoints::pool::{Endpoint, EndpointState, PoolContent, PoolId, Relayed};
use crate::endpoints::{Published, Registry, Shard, Snapshot, SourceEvent, Update};
use crate::kubernetes::policy::{FieldValues, RequestMatch};
use crate::upstream::entry::{Entry, Scene};
use crate::upstream::life::Life;
use crate::upstream::pool::Pool;
use crate::upstream::table::PoolKey;
use crate::upstream::targets::Targets;
use crate::upstream::*;

/// For whatever a test waits for.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
pub(super) const POOL: &str = "shop";

/// The registry's part.
pub(super) struct Source {
    registry: Registry,
    pub(super) snapshot: Arc<ArcSwap<Snapshot>>,
}

/// One pool, followed by hand at times that the test says.
pub(super) struct World {
    pub(super) source: Source,
    pub(super) entry: Entry,
    pub(super) base: Instant,
    pub(super) zone: Option<&'static str>,
    targets: Targets,
    runtime: Runtime,
}

/// Pools that are followed as in production, with one thread's connections.
pub(super) struct Bed {
    pub(super) source: Source,
    pub(super) upstreams: Upstreams,
    pub(super) connections: Connections,
}

pub(super) fn id(text: &str) -> PoolId {
    PoolId::parse(text).unwrap()
}

pub(super) fn endpoint(last: u8) -> Endpoint {
    Endpoint::new([10, 0, 0, last].into(), 80)
}

pub(super) fn endpoints(count: u8) -> Vec<Endpoint> {
    (1..=count).map(endpoint).collect()
}

pub(super) fn numbered(numbers: &[u8]) -> Vec<Endpoint> {
    numbers.iter().copied().map(endpoint).collect()
}

/// Those whose header of this name says yes.
pub(super) fn requests(header: &str) -> RequestMatch {
    let header = FieldValues { name: header.to_owned(), values: vec!["yes".to_owned()] };
    RequestMatch { headers: vec![header], ..RequestMatch::default() }
}

pub(super) fn draining(endpoint: Endpoint) -> Endpoint {
    Endpoint { state: EndpointState::Draining, ..endpoint }
}

pub(super) fn at(address: SocketAddr) -> Endpoint {
    Endpoint::new(address.ip(), address.port())
}

/// Waits until something holds.
pub(super) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

pub(super) fn get(path: &str) -> Request<RequestBody> {
    Request::get(path).header(HOST, "shop.example").body(RequestBody::empty()).unwrap()
}

pub(super) async fn text(response: Response<ResponseBody>) -> String {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(Bytes::into(bytes)).unwrap()
}

// === impl Source ===

impl Source {
    fn new() -> Self {
        let hold = HoldConfig { max_drop_percent: 100, max_age: Duration::ZERO };
        let registry = Registry::new(vec![Shard::new("test".into(), None)], Vec::new(), hold, None);
        let snapshot = Arc::new(ArcSwap::new(registry.published().clone()));
        Self { registry, snapshot }
    }

    /// The pool has these endpoints from now on.
    pub(super) fn tell(&mut self, pool: &str, endpoints: Vec<Endpoint>) -> Option<Published> {
        self.tell_matched(pool, endpoints, &[])
    }

    /// The same with endpoints that are for some requests alone.
    pub(super) fn tell_matched(
        &mut self,
        pool: &str,
        mut endpoints: Vec<Endpoint>,
        matched: &[(RequestMatch, Vec<Endpoint>)],
    ) -> Option<Published> {
        crate::endpoints::pool::sort(&mut endpoints);
        let endpoints = endpoints.into();
        let part = |(requests, endpoints): &(RequestMatch, Vec<Endpoint>)| {
            Arc::new(Matched { pool: id("part"), requests: requests.clone(), endpoints: endpoints.as_slice().into() })
        };
        let relayed = Relayed { matched: matched.iter().map(part).collect(), ..Relayed::default() };
        let (labels, relayed) = (Arc::new(BTreeMap::new()), Some(Arc::new(relayed)));
        let content = PoolContent { id: id(pool), endpoints, namespace: None, labels, relayed };
        self.registry.apply(0, SourceEvent::Pools(vec![Update::Add(content)]), SystemTime::now());
        let published = self.registry.publish();
        if let Some(published) = &published {
            self.snapshot.store(published.snapshot.clone());
        }
        published
    }
}

// === impl World ===

impl World {
    pub(super) fn new(config: &PoolConfig) -> Self {
        let base = Instant::now();
        let life = Life::new(id(POOL), PoolKey(0), 1, base, Arc::default());
        let mut entry = Entry::new(Arc::new(life), base);
        entry.configure(Some(config));
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        Self { source: Source::new(), entry, base, zone: None, targets: Targets::new(1), runtime }
    }

    /// The same with endpoints that are not new.
    pub(super) fn with(config: &PoolConfig, endpoints: Vec<Endpoint>) -> (Self, Arc<Pool>) {
        let mut world = Self::new(config);
        world.source.tell(POOL, endpoints);
        let pool = world.at(0);
        (world, pool)
    }

    pub(super) fn now(&self, milliseconds: u64) -> Instant {
        self.base + Duration::from_millis(milliseconds)
    }

    /// The pool as it is made so many milliseconds after the beginning.
    pub(super) fn at(&mut self, milliseconds: u64) -> Arc<Pool> {
        let now = self.now(milliseconds);
        let snapshot = self.source.snapshot.load_full();
        let scene = Scene { snapshot: &snapshot, zone: self.zone, runtime: self.runtime.handle(), now };
        let pool = self.entry.rebuild(&scene, &mut self.targets);
        self.targets.forget_unused();
        pool
    }
}

// === impl Bed ===

impl Bed {
    /// A pool of this configuration.
    pub(super) fn new(config: PoolConfig) -> Self {
        let source = Source::new();
        let config = UpstreamsConfig { pools: [(id(POOL), config)].into(), threads: 1, zone: None };
        let upstreams = Upstreams::start(config, Arc::clone(&source.snapshot));
        Self { source, upstreams, connections: Connections::new(0) }
    }

    /// The same with these endpoints.
    pub(super) async fn with(config: PoolConfig, addresses: &[SocketAddr]) -> Self {
        let mut bed = Self::new(config);
        bed.tell(addresses.iter().copied().map(at).collect()).await;
        bed
    }

    /// The pool has these endpoints from now on; waits until the table follows.
    pub(super) async fn tell(&mut self, endpoints: Vec<Endpoint>) {
        if let Some(published) = self.source.tell(POOL, endpoints) {
            self.upstreams.listener()(&published);
        }
        let (reader, revision) = (self.upstreams.reader(), self.source.snapshot.load().revision());
        until("the table follows the snapshot", || reader.table().revision() == revision).await;
    }

    pub(super) fn pool(&self) -> Arc<Pool> {
        Arc::clone(self.upstreams.reader().table().pool(POOL).unwrap())
    }

    pub(super) fn pick(&self) -> Result<Picked, NoEndpoint> {
        let random = Random::default().next_u64();
        self.pool().pick(&Pick { now: Instant::now(), random, thread: 0, hash: None, tried: &[] })
    }

    /// Sends a request to whoever is picked.
    pub(super) async fn send(&self, request: Request<RequestBody>) -> Result<Response<ResponseBody>, SendError> {
        let picked = self.pick().unwrap();
        let options = SendOptions::default();
        let sent = self.connections.send(&picked, request, &options);
        tokio::time::timeout(PATIENCE, sent).await.expect("no answer in time")
    }

    /// Asks for a path; gives the answer's text.
    pub(super) async fn get(&self, path: &str) -> String {
        text(self.send(get(path)).await.unwrap()).await
    }
}
