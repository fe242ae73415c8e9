//! Clients that keep their connections and count everything that comes back.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::pods::Pod;

/// Between two requests of one client.
const PAUSE: Duration = Duration::from_millis(80);
/// For an answer.
const PATIENCE: Duration = Duration::from_secs(15);
/// Every third request has a body of so many bytes.
const BODY: usize = 2_000;

/// What came back.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// Answers of 200 with a pod's body.
    pub(crate) ok: u64,
    /// Requests with a body among them.
    pub(crate) posts: u64,
    /// Everything else.
    pub(crate) failures: Vec<Failure>,
    /// Idle connections that the gateway closed just when a request was sent; it was sent once more on a new one.
    pub(crate) resent: u64,
    /// By pod: the first and the last answer, and how many.
    pub(crate) pods: BTreeMap<String, (Instant, Instant, u64)>,
}

/// A request that was not answered well.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) id: u64,
    pub(crate) post: bool,
    pub(crate) began: Instant,
    pub(crate) ended: Instant,
    pub(crate) what: String,
}

/// Running clients.
pub(crate) struct Load {
    tally: Arc<Mutex<Tally>>,
    stop: watch::Sender<bool>,
    clients: Vec<JoinHandle<()>>,
    runtime: Handle,
}

/// What was on pods that were killed, and when.
#[derive(Debug, Default)]
pub(crate) struct Killed {
    in_flight: BTreeSet<u64>,
    moments: Vec<(Instant, Instant)>,
}

enum Answer {
    Good {
        pod: String,
        close: bool,
    },
    Bad(String),
    /// Closed without a byte.
    Nothing,
}

impl Load {
    /// Starts so many clients, each with one connection.
    pub(crate) fn start(runtime: &Handle, gateway: SocketAddr, host: &str, clients: usize) -> Self {
        let tally = Arc::new(Mutex::new(Tally::default()));
        let (stop, stopped) = watch::channel(false);
        let client = |_| runtime.spawn(client(gateway, host.to_owned(), tally.clone(), stopped.clone()));
        let clients = (0..clients).map(client).collect();
        Self { tally, stop, clients, runtime: runtime.clone() }
    }

    /// How many good answers there were so far.
    pub(crate) fn ok(&self) -> u64 {
        self.tally.lock().unwrap().ok
    }

    /// When a pod answered first and last.
    pub(crate) fn times(&self, pod: SocketAddr) -> Option<(Instant, Instant)> {
        self.tally.lock().unwrap().pods.get(&pod.to_string()).map(|(first, last, _)| (*first, *last))
    }

    /// Ends the clients after their last answers.
    pub(crate) fn stop(self) -> Tally {
        self.stop.send_replace(true);
        for client in self.clients {
            self.runtime.block_on(client).unwrap();
        }
        let tally = self.tally.lock().unwrap().clone();
        println!(
            "{} answers, {} of requests with a body, {} resent, {} failures",
            tally.ok,
            tally.posts,
            tally.resent,
            tally.failures.len()
        );
        tally
    }
}

impl Killed {
    /// Kills a pod.
    pub(crate) fn kill(&mut self, pod: Pod) {
        let (lost, at) = pod.kill();
        self.in_flight.extend(lost);
        self.moments.push((at, Instant::now()));
    }

    /// Panics unless each failure is of a request that may have been carried out, and that a killed pod had or was on its way
    /// to it at that moment.
    pub(crate) fn assert_explains(&self, tally: &Tally) {
        println!("{} were in flight on killed pods", self.in_flight.len());
        for failure in &tally.failures {
            let on_its_way = self.moments.iter().any(|(from, to)| failure.began <= *to && failure.ended >= *from);
            assert!(failure.post && (self.in_flight.contains(&failure.id) || on_its_way), "{failure:?}");
            assert!(failure.what.starts_with("502"), "{failure:?}");
        }
        let most = self.in_flight.len() + self.moments.len();
        assert!(tally.failures.len() <= most, "{} failed, and at most {most} were there", tally.failures.len());
    }
}

async fn client(gateway: SocketAddr, host: String, tally: Arc<Mutex<Tally>>, mut stopped: watch::Receiver<bool>) {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let mut kept: Option<TcpStream> = None;
    while !*stopped.borrow_and_update() {
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let post = id.is_multiple_of(3);
        let began = Instant::now();
        let mut answer = Answer::Nothing;
        for _ in 0..2 {
            let reused = kept.is_some();
            let asked = tokio::time::timeout(PATIENCE, ask(&mut kept, gateway, &host, id, post)).await;
            answer = match asked {
                Ok(Ok(answer)) => answer,
                Ok(Err(error)) if reused && is_close(&error) => Answer::Nothing,
                Ok(Err(error)) => Answer::Bad(error.to_string()),
                Err(_) => Answer::Bad("no answer".to_owned()),
            };
            if !matches!(answer, Answer::Good { close: false, .. }) {
                kept = None;
            }
            if !(matches!(answer, Answer::Nothing) && reused) {
                break;
            }
            tally.lock().unwrap().resent += 1;
        }
        let ended = Instant::now();
        {
            let mut tally = tally.lock().unwrap();
            match answer {
                Answer::Good { pod, .. } => {
                    tally.ok += 1;
                    tally.posts += u64::from(post);
                    let times = tally.pods.entry(pod).or_insert((ended, ended, 0));
                    (times.1, times.2) = (ended, times.2 + 1);
                }
                Answer::Bad(what) => tally.failures.push(Failure { id, post, began, ended, what }),
                Answer::Nothing => {
                    tally.failures.push(Failure { id, post, began, ended, what: "closed without a byte".to_owned() });
                }
            }
        }
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            _ = stopped.changed() => {}
        }
    }
}

fn is_close(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionReset, NotConnected};
    matches!(error.kind(), BrokenPipe | ConnectionReset | NotConnected)
}

async fn ask(
    kept: &mut Option<TcpStream>,
    gateway: SocketAddr,
    host: &str,
    id: u64,
    post: bool,
) -> std::io::Result<Answer> {
    let mut stream = match kept.take() {
        Some(stream) => stream,
        None => TcpStream::connect(gateway).await?,
    };
    let (method, body) = if post { ("POST", "x".repeat(BODY)) } else { ("GET", String::new()) };
    let length = body.len();
    let request =
        format!("{method} / HTTP/1.1\r\nHost: {host}\r\nX-Id: {id}\r\nContent-Length: {length}\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    let head = loop {
        if let Some(at) = answer.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(&mut answer).await? == 0 {
            return Ok(if answer.is_empty() { Answer::Nothing } else { Answer::Bad("cut in the head".to_owned()) });
        }
    };
    let text = String::from_utf8_lossy(&answer[..head]).to_ascii_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
    let Some(length) = length else { return Ok(Answer::Bad(format!("no length: {text}"))) };
    while answer.len() < head + length {
        if stream.read_buf(&mut answer).await? == 0 {
            return Ok(Answer::Bad("cut in the body".to_owned()));
        }
    }
    let status = text.split_ascii_whitespace().nth(1).unwrap_or_default().to_owned();
    let close = text.contains("connection: close");
    let said = String::from_utf8_lossy(&answer[head..head + length]).into_owned();
    let sent = if post { BODY } else { 0 };
    if !close {
        *kept = Some(stream);
    }
    match said.split_once(' ') {
        Some((pod, got)) if status == "200" && got == sent.to_string() => {
            Ok(Answer::Good { pod: pod.to_owned(), close })
        }
        _ => Ok(Answer::Bad(format!("{status} {}", said.chars().take(60).collect::<String>()))),
    }
}
