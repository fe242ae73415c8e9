//! Clients that wait: each on a connection of its own, for some pools or for all, by deltas.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

use crate::bed::poll;
use crate::histogram::Histogram;
use crate::services::Services;

/// All clients, and what they measured.
pub(crate) struct Clients {
    runtime: Runtime,
    followers: Vec<Arc<Follower>>,
    shared: Arc<Shared>,
}

struct Shared {
    address: SocketAddr,
    services: Arc<Services>,
    /// By kind: those who wait for some pools, and those who follow all.
    times: [Mutex<Histogram>; 2],
    deliveries: AtomicUsize,
    answers: AtomicUsize,
    failed: Mutex<Option<String>>,
}

/// One client: its services, and of each the number of the last change that it has.
struct Follower {
    seen: Vec<(usize, AtomicUsize)>,
    all: bool,
}

/// How long a change may take to reach everybody before the bench is over.
const LATEST: Duration = Duration::from_secs(60);
/// Before the number of a service's last change, in its body.
const MARK: &str = "/mark-";

impl Clients {
    pub(crate) fn new(address: SocketAddr, services: Arc<Services>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let shared = Arc::new(Shared {
            address,
            services,
            times: [Mutex::new(Histogram::new()), Mutex::new(Histogram::new())],
            deliveries: AtomicUsize::new(0),
            answers: AtomicUsize::new(0),
            failed: Mutex::new(None),
        });
        Self { runtime, followers: Vec::new(), shared }
    }

    /// One more client, for these services; for all if none are named.
    pub(crate) fn add(&mut self, of: &[usize]) {
        let all: Vec<usize> = if of.is_empty() { (0..self.shared.services.len()).collect() } else { of.to_vec() };
        let seen = all.into_iter().map(|service| (service, AtomicUsize::new(0))).collect();
        let follower = Arc::new(Follower { seen, all: of.is_empty() });
        self.followers.push(follower.clone());
        let shared = self.shared.clone();
        self.runtime.spawn(async move {
            if let Err(why) = follower.follow(&shared).await {
                shared.failed.lock().unwrap().get_or_insert(why);
            }
        });
    }

    pub(crate) fn len(&self) -> usize {
        self.followers.len()
    }

    /// Waits until every client of these services (of all, if none are named) has the last change of each.
    pub(crate) fn wait_seen(&self, of: Option<usize>) {
        let followers = || self.followers.iter().filter(|it| of.is_none_or(|service| it.place(service).is_some()));
        let followers: Vec<_> = followers().collect();
        let done = poll(LATEST, || {
            if let Some(why) = self.shared.failed.lock().unwrap().as_ref() {
                panic!("a client failed: {why}");
            }
            followers.iter().all(|follower| follower.has_all(of, &self.shared.services)).then_some(())
        });
        assert!(done.is_some(), "not every client has the last change after {LATEST:?}");
    }

    /// Times of those who wait for some pools and of those who follow all, deliveries, and answers, since the last call.
    pub(crate) fn take(&self) -> ([Histogram; 2], usize, usize) {
        let times =
            self.shared.times.each_ref().map(|it| std::mem::replace(&mut *it.lock().unwrap(), Histogram::new()));
        (times, self.shared.deliveries.swap(0, Ordering::SeqCst), self.shared.answers.swap(0, Ordering::SeqCst))
    }
}

impl Follower {
    fn place(&self, service: usize) -> Option<&AtomicUsize> {
        let at = self.seen.binary_search_by_key(&service, |(number, _)| *number).ok()?;
        Some(&self.seen[at].1)
    }

    fn has_all(&self, of: Option<usize>, services: &Services) -> bool {
        let has = |service: usize, seen: &AtomicUsize| seen.load(Ordering::SeqCst) == services.get(service).last();
        match of {
            Some(service) => self.place(service).is_none_or(|seen| has(service, seen)),
            None => self.seen.iter().all(|(service, seen)| has(*service, seen)),
        }
    }

    async fn follow(&self, shared: &Shared) -> Result<(), String> {
        let mut stream = TcpStream::connect(shared.address).await.map_err(|error| error.to_string())?;
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let ids = |(service, _): &(usize, AtomicUsize)| format!("&id={}", shared.services.get(*service).pool());
        let ids: String = if self.all { String::new() } else { self.seen.iter().map(ids).collect() };
        let mut since = String::new();
        let mut buffer = Vec::new();
        loop {
            let first = since.is_empty();
            let request = format!("GET /v1/delta?wait=60s{since}{ids} HTTP/1.1\r\nHost: localhost\r\n\r\n");
            stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
            let body = read_answer(&mut stream, &mut buffer).await?;
            let at = Instant::now();
            let index = body.strip_prefix("{\"index\":\"").and_then(|rest| rest.split('"').next());
            since = format!("&since={}", index.ok_or("no index")?);
            shared.answers.fetch_add(1, Ordering::SeqCst);
            self.take_in(body, at, first, shared)?;
        }
    }

    /// Notes the changes that an answer holds.
    fn take_in(&self, body: &str, at: Instant, first: bool, shared: &Shared) -> Result<(), String> {
        let mut times = shared.times[usize::from(self.all)].lock().unwrap();
        for (found, _) in body.match_indices(MARK) {
            let mut numbers = body[found + MARK.len()..].split(['-', '"']).map(|it| it.parse::<usize>());
            let (Some(Ok(service)), Some(Ok(number))) = (numbers.next(), numbers.next()) else {
                return Err("a mark without numbers".to_owned());
            };
            let seen = self.place(service).ok_or_else(|| format!("service {service} was not asked for"))?;
            let before = seen.swap(number, Ordering::SeqCst);
            if number < before {
                return Err(format!("service {service} went back from change {before} to {number}"));
            }
            let service = shared.services.get(service);
            for change in (before + 1..=number).filter(|_| !first) {
                times.record(at.saturating_duration_since(service.changed_at(change)), 1);
                shared.deliveries.fetch_add(1, Ordering::SeqCst);
            }
        }
        Ok(())
    }
}

/// Reads one answer that must be a 200 with its length.
async fn read_answer<'a>(stream: &mut TcpStream, buffer: &'a mut Vec<u8>) -> Result<&'a str, String> {
    buffer.clear();
    let (start, length): (usize, usize) = loop {
        if let Some(end) = buffer.windows(4).position(|it| it == b"\r\n\r\n") {
            let head = std::str::from_utf8(&buffer[..end]).map_err(|error| error.to_string())?;
            if !head.starts_with("HTTP/1.1 200 ") {
                return Err(head.to_owned());
            }
            let length =
                head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
            break (end + 4, length.ok_or("no length")?);
        }
        if stream.read_buf(buffer).await.map_err(|error| error.to_string())? == 0 {
            return Err("the server closed the connection".to_owned());
        }
    };
    buffer.reserve((start + length).saturating_sub(buffer.len()));
    while buffer.len() < start + length {
        if stream.read_buf(buffer).await.map_err(|error| error.to_string())? == 0 {
            return Err("the server closed the connection within an answer".to_owned());
        }
    }
    std::str::from_utf8(&buffer[start..]).map_err(|error| error.to_string())
}
