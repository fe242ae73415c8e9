//! As much of an API server as a follower of EndpointSlices sees: a streamed list, then a watch, over HTTP.
//!
//! It writes what the real one writes, line by line, ends each watch at its time, knows every version since it began, and
//! forgets them when it is told to.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::bed::free_port;
use crate::services::{Service, Services};

/// Objects of a list that are sent in one piece.
const PIECE: usize = 50;

pub(crate) struct Simulator {
    address: SocketAddr,
    shared: Arc<Shared>,
    _runtime: Runtime,
}

struct Shared {
    store: Mutex<Store>,
    /// How many events there are; and how often everything was forgotten.
    news: watch::Sender<(usize, usize)>,
}

#[derive(Default)]
struct Store {
    version: u64,
    /// No watch begins before it.
    oldest: u64,
    objects: Vec<String>,
    events: Vec<(u64, Bytes)>,
    lists: usize,
}

impl Simulator {
    pub(crate) fn start(services: &Services) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let objects = services.all().map(|service| service.object("1")).collect();
        let store = Store { version: 1, objects, ..Store::default() };
        let shared = Arc::new(Shared { store: Mutex::new(store), news: watch::Sender::new((0, 0)) });
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind(address).await.unwrap();
            let router = axum::Router::new().fallback(answer).with_state(shared.clone());
            tokio::spawn(async move { axum::serve(listener, router).await });
        });
        Self { address, shared, _runtime: runtime }
    }

    pub(crate) fn kubeconfig(&self) -> String {
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "it",
            "clusters": [{"name": "it", "cluster": {"server": format!("http://{}", self.address)}}],
            "users": [{"name": "it", "user": {}}],
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        });
        config.to_string()
    }

    /// Writes a service as it is now.
    pub(crate) fn write(&self, number: usize, service: &Service) {
        let mut store = self.shared.lock();
        store.version += 1;
        let (version, object) = (store.version, service.object(&store.version.to_string()));
        store.events.push((version, line("MODIFIED", &object)));
        store.objects[number] = object;
        let events = store.events.len();
        drop(store);
        self.shared.news.send_modify(|news| news.0 = events);
    }

    /// Forgets every version: whoever watches has to list again.
    pub(crate) fn forget(&self) {
        let mut store = self.shared.lock();
        store.version += 1;
        store.oldest = store.version;
        drop(store);
        self.shared.news.send_modify(|news| news.1 += 1);
    }

    /// How many lists were sent to their end.
    pub(crate) fn lists(&self) -> usize {
        self.shared.lock().lists
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap()
    }
}

fn line(kind: &str, object: &str) -> Bytes {
    format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n").into()
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let query = request.uri().query().unwrap_or_default().to_owned();
    let value = |key: &str| query.split('&').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
    if request.uri().path() != "/apis/discovery.k8s.io/v1/endpointslices" || value("watch") != Some("true") {
        return refuse(404);
    }
    let seconds = value("timeoutSeconds").and_then(|it| it.parse().ok()).unwrap_or(60);
    let store = shared.lock();
    let from = value("resourceVersion").and_then(|it| it.parse::<u64>().ok());
    if from.is_some_and(|from| from < store.oldest) {
        return refuse(410);
    }
    let next = from.map_or(store.events.len(), |from| store.events.partition_point(|(version, _)| *version <= from));
    let (version, list) = (store.version, from.is_none().then_some(0));
    drop(store);
    let news = shared.news.subscribe();
    let began = news.borrow().1;
    let end = Instant::now() + Duration::from_secs(seconds);
    let lines = Lines { shared, list, version, next, news, began, end };
    Body::from_stream(futures_util::stream::unfold(lines, Lines::next)).into_response()
}

fn refuse(code: u16) -> Response {
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code,
                        "reason": "Simulated", "message": format!("the simulator says {code}")});
    (StatusCode::from_u16(code).unwrap(), status.to_string()).into_response()
}

/// An answer on its way.
struct Lines {
    shared: Arc<Shared>,
    /// The next object of the list.
    list: Option<usize>,
    version: u64,
    /// The next event.
    next: usize,
    news: watch::Receiver<(usize, usize)>,
    /// How often everything was forgotten when it began.
    began: usize,
    end: Instant,
}

impl Lines {
    async fn next(mut self) -> Option<(Result<Bytes, std::io::Error>, Self)> {
        if let Some(at) = self.list {
            let mut store = self.shared.lock();
            let piece = store.objects.iter().skip(at).take(PIECE);
            let mut text: Vec<u8> = piece.flat_map(|object| line("ADDED", object)).collect();
            self.list = Some(at + PIECE).filter(|next| *next < store.objects.len());
            if self.list.is_none() {
                store.lists += 1;
                let bookmark = json!({"kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1", "metadata": {
                    "resourceVersion": self.version.to_string(), "annotations": {"k8s.io/initial-events-end": "true"},
                }});
                text.extend(line("BOOKMARK", &bookmark.to_string()));
            }
            drop(store);
            return Some((Ok(text.into()), self));
        }
        let (next, began) = (self.next, self.began);
        let heard = self.news.wait_for(|(events, forgotten)| *events > next || *forgotten > began);
        let heard = tokio::time::timeout_at(self.end, heard).await.map(|news| news.map(|news| *news));
        let (events, forgotten) = heard.ok()?.ok()?;
        if forgotten > began {
            return None;
        }
        let store = self.shared.lock();
        let text: Vec<u8> = store.events[next..events].iter().flat_map(|(_, line)| line.iter().copied()).collect();
        drop(store);
        self.next = events;
        Some((Ok(text.into()), self))
    }
}
