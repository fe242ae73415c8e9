//! A proxy before an API server that answers in its place on command. It speaks plain HTTP to whoever is tested, and asks
//! the API server as a client with all rights.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ::kube::Client;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt as _;
use serde_json::json;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use super::client::connect;
use super::cluster::Cluster;
use super::interrupt::{Interrupts, Moment};
use crate::bed::free_port;

/// How a watch from a version that is too old is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gone {
    /// As the answer's status.
    Status,
    /// As the first event of a watch that began well.
    Event,
}

/// What of a write does not arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// The API server never hears of it.
    Request,
    /// It is made, and its answer is lost.
    Answer,
}

/// What happens to each write of a client once, before it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is refused with this status.
    Status(u16),
    /// It does not arrive, and is never answered.
    Silence,
    /// It is made, and its answer is lost.
    LostAnswer,
}

/// Writes that meet a fault.
struct Spoiled {
    /// Writes to paths with this are let through.
    except: &'static str,
    fault: Fault,
    /// The only write that meets it, by its number; absent: each does.
    only: Option<usize>,
    /// How many came.
    writes: usize,
    /// Which have met it and were not made since: by what is done to which object.
    met: BTreeSet<String>,
    /// How many have.
    count: usize,
}

/// A write that is to be lost, once.
#[derive(Clone, Copy)]
struct Trap {
    /// Writes to paths with this are let through.
    except: &'static str,
    lost: Lost,
    sprung: bool,
    /// What is lost of it is.
    over: bool,
}

#[derive(Clone, Copy, Default)]
struct Rules {
    refuse: Option<u16>,
    gone: Option<Gone>,
    delay: Duration,
    /// Answers with a lower number end.
    cut: u64,
    /// Answers with a lower number stay open, and nothing comes of them.
    silent: u64,
}

struct Shared {
    client: Client,
    rules: watch::Sender<Rules>,
    answers: AtomicU64,
    listed: Mutex<Option<Instant>>,
    continued: AtomicU64,
    trap: Mutex<Option<Trap>>,
    spoiled: Mutex<Option<Spoiled>>,
    interrupts: Interrupts,
}

/// The proxy; its connections end when this value goes.
pub struct ApiProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
}

/// What ends a streamed list.
const LIST_END: &[u8] = b"k8s.io/initial-events-end";
/// Bytes of a request's body.
pub(super) const MOST: usize = 8 << 20;

impl ApiProxy {
    /// Listens in the network namespace of the calling thread.
    pub fn start(cluster: &Cluster) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let shared = runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind(address).await.expect("a free port");
            let shared = Arc::new(Shared {
                client: connect(&cluster.kubeconfig()).await,
                rules: watch::Sender::default(),
                answers: AtomicU64::new(1),
                listed: Mutex::default(),
                continued: AtomicU64::default(),
                trap: Mutex::default(),
                spoiled: Mutex::default(),
                interrupts: Interrupts::default(),
            });
            let router = axum::Router::new().fallback(answer).with_state(shared.clone());
            tokio::spawn(async move { axum::serve(listener, router).await });
            shared
        });
        Self { address, shared, runtime: Some(runtime) }
    }

    /// A kubeconfig whose server is this proxy.
    pub fn kubeconfig(&self) -> String {
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "it",
            "clusters": [{"name": "it", "cluster": {"server": format!("http://{}", self.address)}}],
            "users": [{"name": "it", "user": {}}],
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        });
        config.to_string()
    }

    /// Every request is answered with this status from now on, and open answers end.
    pub fn refuse(&self, code: u16) {
        self.change(|rules| rules.refuse = Some(code));
        self.cut();
    }

    /// Every watch from a version is too old from now on, and open answers end.
    pub fn gone(&self, how: Gone) {
        self.change(|rules| (rules.refuse, rules.gone) = (None, Some(how)));
        self.cut();
    }

    /// Answers begin only after so long.
    pub fn delay(&self, delay: Duration) {
        self.change(|rules| rules.delay = delay);
    }

    /// Open answers break off.
    pub fn cut(&self) {
        let next = self.shared.answers.load(Ordering::SeqCst);
        self.change(|rules| rules.cut = next);
    }

    /// Open answers stay open, and nothing more comes of them; new ones are whole.
    pub fn silence(&self) {
        let next = self.shared.answers.load(Ordering::SeqCst);
        self.change(|rules| rules.silent = next);
    }

    /// The next write is lost, unless its path has `except`; from then on every further one does not arrive either, until this
    /// is called again or the proxy is healed.
    pub fn lose_write(&self, except: &'static str, lost: Lost) {
        *self.shared.trap() = Some(Trap { except, lost, sprung: false, over: false });
    }

    /// Whether a write was lost since [`ApiProxy::lose_write`].
    pub fn has_lost(&self) -> bool {
        self.shared.trap().is_some_and(|trap| trap.over)
    }

    /// From now on each write meets a fault before it is made, unless its path has `except`: one that does not arrive does when
    /// it is tried again.
    pub fn spoil_writes(&self, except: &'static str, fault: Fault) {
        self.spoil(except, None, fault);
    }

    /// From now on exactly one write, that of this number, meets a fault.
    pub fn spoil_one(&self, except: &'static str, number: usize, fault: Fault) {
        self.spoil(except, Some(number), fault);
    }

    fn spoil(&self, except: &'static str, only: Option<usize>, fault: Fault) {
        *self.shared.spoiled() = Some(Spoiled { except, fault, only, writes: 0, met: BTreeSet::new(), count: 0 });
    }

    /// How many writes came since they were to meet a fault, whether they met it or not.
    pub fn writes(&self) -> usize {
        self.shared.spoiled().as_ref().map_or(0, |spoiled| spoiled.writes)
    }

    /// How many writes met the fault since [`ApiProxy::spoil_writes`].
    pub fn spoiled(&self) -> usize {
        self.shared.spoiled().as_ref().map_or(0, |spoiled| spoiled.count)
    }

    /// The write of this number among those from now on about `about`, and what is named after it, is held, before the API server
    /// has it or after; `act` is done, and it goes on.
    pub fn at_write(&self, about: &str, number: usize, moment: Moment, act: impl FnOnce() + Send + 'static) {
        self.shared.interrupts.add(about, number, moment, act);
    }

    /// New answers are the API server's again.
    pub fn heal(&self) {
        *self.shared.trap() = None;
        *self.shared.spoiled() = None;
        self.change(|rules| (rules.refuse, rules.gone, rules.delay) = (None, None, Duration::ZERO));
    }

    /// When the last streamed list was passed on to its end.
    pub fn listed(&self) -> Option<Instant> {
        *self.shared.listed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many watches of EndpointSlices from a version were passed on: each goes on where another watch or a list ended.
    pub fn continued(&self) -> u64 {
        self.shared.continued.load(Ordering::SeqCst)
    }

    fn change(&self, change: impl FnOnce(&mut Rules)) {
        self.shared.rules.send_modify(change);
    }
}

impl Drop for ApiProxy {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Shared {
    fn trap(&self) -> MutexGuard<'_, Option<Trap>> {
        self.trap.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spoiled(&self) -> MutexGuard<'_, Option<Spoiled>> {
        self.spoiled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The fault that this request meets.
    fn spoils(&self, request: &Request) -> Option<Fault> {
        let mut spoiled = self.spoiled();
        let it = spoiled.as_mut()?;
        if request.method() == Method::GET || request.uri().path().contains(it.except) {
            return None;
        }
        it.writes += 1;
        if let Some(only) = it.only {
            let meets = it.writes == only + 1;
            it.count += usize::from(meets);
            return meets.then_some(it.fault);
        }
        let write = format!("{} {}", request.method(), request.uri().path());
        // What was not made is made when it is tried again; what was made and not answered is not tried again.
        if it.met.remove(&write) {
            return None;
        }
        if it.fault != Fault::LostAnswer {
            it.met.insert(write);
        }
        it.count += 1;
        Some(it.fault)
    }

    /// What of this request is lost.
    fn loses(&self, request: &Request) -> Option<Lost> {
        let mut trap = self.trap();
        let it = trap.as_mut()?;
        if request.method() == Method::GET || request.uri().path().contains(it.except) {
            return None;
        }
        let lost = if std::mem::replace(&mut it.sprung, true) { Lost::Request } else { it.lost };
        it.over |= lost == Lost::Request;
        Some(lost)
    }
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (request, mut due) = shared.interrupts.at(request).await;
    due.at(Moment::Before).await;
    let answer = answer_or_fail(shared, request).await;
    due.at(Moment::After).await;
    answer
}

async fn answer_or_fail(shared: Arc<Shared>, request: Request) -> Response {
    match shared.spoils(&request) {
        Some(Fault::Status(code)) => return status(code),
        Some(Fault::Silence) => return std::future::pending().await,
        Some(Fault::LostAnswer) => {
            drop(answer_whole(shared.clone(), request).await);
            return std::future::pending().await;
        }
        None => {}
    }
    let lost = shared.loses(&request);
    if lost == Some(Lost::Request) {
        return std::future::pending().await;
    }
    let answer = answer_whole(shared.clone(), request).await;
    if lost == Some(Lost::Answer) {
        // Only now: who asked may be killed as soon as it is known, and the request with it.
        if let Some(trap) = shared.trap().as_mut() {
            trap.over = true;
        }
        return std::future::pending().await;
    }
    answer
}

async fn answer_whole(shared: Arc<Shared>, request: Request) -> Response {
    let number = shared.answers.fetch_add(1, Ordering::SeqCst);
    let rules = *shared.rules.borrow();
    tokio::time::sleep(rules.delay).await;
    let query = request.uri().query().unwrap_or_default();
    let from_version = query.contains("watch=true") && query.contains("&resourceVersion=");
    match (rules.refuse, rules.gone.filter(|_| from_version)) {
        (Some(code), _) => status(code),
        (None, Some(Gone::Status)) => status(410),
        (None, Some(Gone::Event)) => {
            let event = json!({"type": "ERROR", "object": status_object(410)});
            ([(header::CONTENT_TYPE, "application/json")], format!("{event}\n")).into_response()
        }
        (None, None) => {
            let continues = from_version && request.uri().path().ends_with("/endpointslices");
            let answer = pass(shared.clone(), number, request).await;
            shared.continued.fetch_add(u64::from(continues), Ordering::SeqCst);
            answer
        }
    }
}

fn status(code: u16) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/json")];
    let code_of = StatusCode::from_u16(code).expect("a status code");
    (code_of, headers, status_object(code).to_string()).into_response()
}

fn status_object(code: u16) -> serde_json::Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code,
           "reason": "OnCommand", "message": format!("the proxy says {code}")})
}

async fn pass(shared: Arc<Shared>, number: u64, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().expect("a path").as_str().to_owned();
    let mut onward = hyper::Request::builder().method(parts.method).uri(path);
    for name in [header::ACCEPT, header::CONTENT_TYPE] {
        if let Some(value) = parts.headers.get(&name) {
            onward = onward.header(name, value);
        }
    }
    let body = to_bytes(body, MOST).await.expect("a body");
    let answered = shared.client.send(onward.body(body.to_vec().into()).expect("a request")).await;
    let Ok(answered) = answered else { return status(502) };
    let (mut parts, body) = answered.into_parts();
    // Where it is chunked it is so again.
    parts.headers.remove(header::TRANSFER_ENCODING);
    let rules = shared.rules.subscribe();
    let passing = Passing { shared, number, rules, body: Body::new(body).into_data_stream(), tail: Vec::new() };
    Response::from_parts(parts, Body::from_stream(futures_util::stream::unfold(passing, Passing::next)))
}

/// An answer on its way.
struct Passing {
    shared: Arc<Shared>,
    number: u64,
    rules: watch::Receiver<Rules>,
    body: axum::body::BodyDataStream,
    /// The end of what came last: what is looked for may come in two pieces.
    tail: Vec<u8>,
}

impl Passing {
    async fn next(mut self) -> Option<(Result<Bytes, std::io::Error>, Self)> {
        let cut = || std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        let chunk = tokio::select! {
            biased;
            () = is_cut(&mut self.rules, self.number) => return Some((Err(cut()), self)),
            chunk = self.body.next() => chunk,
        };
        if self.rules.borrow().silent > self.number {
            is_cut(&mut self.rules, self.number).await;
            return Some((Err(cut()), self));
        }
        let chunk = chunk?.map_err(std::io::Error::other);
        if let Ok(bytes) = &chunk {
            self.tail.extend_from_slice(bytes);
            if self.tail.windows(LIST_END.len()).any(|it| it == LIST_END) {
                *self.shared.listed.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
            }
            self.tail.drain(..self.tail.len().saturating_sub(LIST_END.len() - 1));
        }
        Some((chunk, self))
    }
}

async fn is_cut(rules: &mut watch::Receiver<Rules>, number: u64) {
    // The sender lives as long as the proxy.
    let _ = rules.wait_for(|rules| rules.cut > number).await;
}
