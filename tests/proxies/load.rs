//! Load that counts everything: connections that stay open, each with one request after the other, GET and POST in turn.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::backend::Backend;

/// Running load.
pub(crate) struct Load {
    runtime: Runtime,
    connections: Vec<JoinHandle<()>>,
    shared: Arc<Shared>,
}

struct Shared {
    gateway: SocketAddr,
    host: String,
    pause: Duration,
    stop: AtomicBool,
    seen: Mutex<Seen>,
}

/// What has come of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// Answers by status.
    pub(crate) statuses: BTreeMap<u16, usize>,
    /// What did not go well.
    pub(crate) failures: Vec<Failure>,
    /// Requests that were sent once more: the gateway ended a connection without a byte on it just as they came. RFC 9112
    /// (9.3.1) wants that of a client which knows that the first one was not carried out; the back ends tell.
    pub(crate) resent: Vec<String>,
    /// By back end: answers, when the first request that it answered was sent, and the last.
    pub(crate) backends: BTreeMap<String, (usize, Instant, Instant)>,
}

/// A request that was not answered as it should.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) id: String,
    pub(crate) method: &'static str,
    pub(crate) why: String,
}

/// Why an exchange came to nothing.
struct Lost {
    why: String,
    /// The connection had served before, and ended without a byte of this answer.
    unanswered: bool,
}

const BODY: &str = "a body that must arrive whole";
const PATIENCE: Duration = Duration::from_secs(20);

impl Load {
    /// Begins with this many connections, each of which pauses between two requests.
    pub(crate) fn start(gateway: SocketAddr, host: &str, connections: usize, pause: Duration) -> Self {
        let seen = Mutex::default();
        let shared = Arc::new(Shared { gateway, host: host.to_owned(), pause, stop: AtomicBool::new(false), seen });
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let connections = (0..connections).map(|number| runtime.spawn(connection(shared.clone(), number))).collect();
        Self { runtime, connections, shared }
    }

    /// What has come of it so far.
    pub(crate) fn seen(&self) -> Seen {
        self.shared.seen.lock().unwrap().clone()
    }

    /// Ends it, every request answered, and gives what has come of it.
    pub(crate) fn stop(mut self) -> Seen {
        self.shared.stop.store(true, Ordering::Relaxed);
        for connection in std::mem::take(&mut self.connections) {
            self.runtime.block_on(connection).expect("a connection of the load ends well");
        }
        self.seen()
    }
}

impl Seen {
    /// Panics unless every request was answered with 200 by a back end, and at once.
    pub(crate) fn assert_all_answered(&self, at_least: usize) {
        assert!(self.resent.is_empty(), "connections were ended under requests: {:?}", self.resent);
        self.assert_answered(at_least);
    }

    /// Panics unless every request was answered with 200 by a back end, and each that was sent twice came to one of these
    /// once.
    pub(crate) fn assert_all_answered_once(&self, at_least: usize, backends: &[&Backend]) {
        let begun: Vec<String> = backends.iter().flat_map(|it| it.begun()).collect();
        for id in &self.resent {
            assert_eq!(begun.iter().filter(|it| *it == id).count(), 1, "{id} was sent twice, and came so often");
        }
        self.assert_answered(at_least);
    }

    fn assert_answered(&self, at_least: usize) {
        if let Some(Failure { id, method, why }) = self.failures.first() {
            panic!("{} failed, the first of them {method} {id}: {why}", self.failures.len());
        }
        let (ok, all) = (self.statuses.get(&200).copied().unwrap_or_default(), self.statuses.values().sum::<usize>());
        assert_eq!(ok, all, "{:?}", self.statuses);
        assert!(ok >= at_least, "only {ok} requests were answered");
    }
}

async fn connection(shared: Arc<Shared>, number: usize) {
    let mut open: Option<BufReader<TcpStream>> = None;
    let mut count = 0;
    // Not all in step.
    tokio::time::sleep(shared.pause.mul_f64(number as f64 / 200.0 % 1.0)).await;
    while !shared.stop.load(Ordering::Relaxed) {
        count += 1;
        let (id, method) = (format!("{number}-{count}"), if count % 2 == 0 { "POST" } else { "GET" });
        let sent = Instant::now();
        let both = async {
            match exchange(&shared, &mut open, &id, method).await {
                Err(Lost { unanswered: true, .. }) => {
                    open = None;
                    shared.seen.lock().unwrap().resent.push(id.clone());
                    exchange(&shared, &mut open, &id, method).await
                }
                other => other,
            }
        };
        let result = match tokio::time::timeout(PATIENCE, both).await {
            Ok(result) => result.map_err(|lost| lost.why),
            Err(_) => Err("no answer".to_owned()),
        };
        if result.is_err() {
            open = None;
        }
        note(&shared, id, method, sent, result);
        tokio::time::sleep(shared.pause).await;
    }
}

/// Writes down what came of a request.
fn note(shared: &Shared, id: String, method: &'static str, sent: Instant, result: Result<(u16, String), String>) {
    let mut seen = shared.seen.lock().unwrap();
    match result {
        Ok((200, text)) => {
            *seen.statuses.entry(200).or_default() += 1;
            let (backend, length) = text.split_once(' ').unwrap_or((&text, ""));
            let wanted = if method == "POST" { BODY.len() } else { 0 };
            if length != wanted.to_string() {
                seen.failures.push(Failure { id, method, why: format!("answered {text:?}") });
            }
            let backend = seen.backends.entry(backend.to_owned()).or_insert((0, sent, sent));
            (backend.0, backend.2) = (backend.0 + 1, backend.2.max(sent));
        }
        Ok((status, text)) => {
            *seen.statuses.entry(status).or_default() += 1;
            seen.failures.push(Failure { id, method, why: format!("{status} {text}") });
        }
        Err(why) => seen.failures.push(Failure { id, method, why }),
    }
}

/// One request and its answer, on the connection that is open or a new one.
async fn exchange(
    shared: &Shared,
    open: &mut Option<BufReader<TcpStream>>,
    id: &str,
    method: &str,
) -> Result<(u16, String), Lost> {
    // A gateway may end a connection on which nothing is under way, as nginx does when it is reloaded.
    if open.as_ref().is_some_and(|stream| matches!(stream.get_ref().try_read(&mut [0]), Ok(0))) {
        *open = None;
    }
    let reused = open.is_some();
    let lost = |why: String| Lost { why, unanswered: false };
    if open.is_none() {
        *open = Some(BufReader::new(TcpStream::connect(shared.gateway).await.map_err(|it| lost(it.to_string()))?));
    }
    let stream = open.as_mut().unwrap();
    let body = if method == "POST" { BODY } else { "" };
    let (host, length) = (&shared.host, body.len());
    let request = format!(
        "{method} /x HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {id}\r\nX-Request: {id}\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    let mut line = String::new();
    let begun = async {
        stream.write_all(request.as_bytes()).await?;
        stream.read_line(&mut line).await
    };
    match begun.await {
        Ok(0) => return Err(Lost { why: "the gateway closed the connection".to_owned(), unanswered: reused }),
        Err(error) => return Err(Lost { why: error.to_string(), unanswered: reused && line.is_empty() }),
        Ok(_) => answer(stream, &line).await.map(|(status, close, body)| {
            if close {
                *open = None;
            }
            (status, body)
        }),
    }
    .map_err(lost)
}

/// The rest of an answer that begins with this line: its status, whether the connection ends, its body.
async fn answer(stream: &mut BufReader<TcpStream>, first: &str) -> Result<(u16, bool, String), String> {
    let text = |error: std::io::Error| error.to_string();
    let status = first.get(9..12).and_then(|code| code.parse().ok()).ok_or_else(|| first.to_owned())?;
    let (mut length, mut close) = (0, false);
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.map_err(text)? == 0 {
            return Err("the gateway closed the connection within an answer".to_owned());
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        let Some((name, value)) = line.split_once(": ") else { continue };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().map_err(|_| line.to_owned())?,
            "connection" => close = value == "close",
            "transfer-encoding" => return Err("a chunked answer, which no back end gives".to_owned()),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.map_err(text)?;
    Ok((status, close, String::from_utf8_lossy(&body).into_owned()))
}
