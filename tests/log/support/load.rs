//! Load from several connections that remember what became of each record, and what must hold of it afterwards.

use crate::bed::{Consumed, Reply, RespClient, poll, resp};
use std::collections::{HashMap, HashSet};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long one reply, or a new connection, may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// What kind of load.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// How many connections at the same time, each with a thread.
    pub connections: usize,
    /// Commands that each sends before it reads their replies.
    pub depth: usize,
    /// Bytes of a record.
    pub size: usize,
    /// The keys that connections push to, in turn.
    pub keys: Vec<String>,
    /// Whether the server may close a connection; the client then connects anew.
    pub may_close: bool,
}

/// What became of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Its command was answered with success.
    Acknowledged,
    /// With this error.
    Refused(String),
    /// The connection closed before.
    Unknown,
}

/// A record that was sent.
#[derive(Clone, Debug)]
pub struct Sent {
    /// The record.
    pub value: Vec<u8>,
    /// Its command's reply.
    pub fate: Fate,
}

/// A running load.
pub struct Load {
    stop: Arc<AtomicBool>,
    counts: Arc<Counts>,
    threads: Vec<JoinHandle<Vec<Sent>>>,
}

#[derive(Default)]
struct Counts {
    acknowledged: AtomicU64,
    refused: AtomicU64,
    closed: AtomicU64,
    longest: AtomicU64,
    slow: AtomicU64,
}

/// All that was sent, and how it went.
pub struct Outcome {
    /// Every record, connection by connection in the order of sending.
    pub sent: Vec<Sent>,
    /// Records acknowledged.
    pub acknowledged: u64,
    /// Records refused by an error reply.
    pub refused: u64,
    /// Connections that the server closed.
    pub closed: u64,
    /// The longest that a client waited for its next reply: what its read timeout would have to allow.
    pub longest: Duration,
    /// Replies that a client waited for longer than a second.
    pub slow: u64,
}

impl Load {
    /// Starts the threads.
    pub fn start(server: SocketAddr, options: &LoadOptions) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let counts = Arc::new(Counts::default());
        let threads = (0..options.connections)
            .map(|number| {
                let key = options.keys[number % options.keys.len()].clone();
                let (stop, counts, options) = (stop.clone(), counts.clone(), options.clone());
                std::thread::spawn(move || one(server, number, &key, &options, &stop, &counts))
            })
            .collect();
        Self { stop, counts, threads }
    }

    /// Records acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.counts.acknowledged.load(Ordering::Relaxed)
    }

    /// Records refused so far.
    pub fn refused(&self) -> u64 {
        self.counts.refused.load(Ordering::Relaxed)
    }

    /// Connections that the server closed so far.
    pub fn closed(&self) -> u64 {
        self.counts.closed.load(Ordering::Relaxed)
    }

    /// Lets every connection finish what it sent.
    pub fn finish(self) -> Outcome {
        self.stop.store(true, Ordering::Relaxed);
        let sent = self.threads.into_iter().flat_map(|thread| match thread.join() {
            Ok(sent) => sent,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        let sent = sent.collect();
        let counts = &self.counts;
        Outcome {
            sent,
            acknowledged: counts.acknowledged.load(Ordering::Relaxed),
            refused: counts.refused.load(Ordering::Relaxed),
            closed: counts.closed.load(Ordering::Relaxed),
            longest: Duration::from_micros(counts.longest.load(Ordering::Relaxed)),
            slow: counts.slow.load(Ordering::Relaxed),
        }
    }
}

/// One connection after the other, until told to stop.
fn one(
    server: SocketAddr,
    number: usize,
    key: &str,
    options: &LoadOptions,
    stop: &AtomicBool,
    counts: &Counts,
) -> Vec<Sent> {
    let mut all = Vec::new();
    for life in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        // A server that is stopping or was just left may refuse: the load goes on until it is told to stop.
        let connected = poll(PATIENCE, || match RespClient::try_connect(server) {
            Ok(client) => Some(Some(client)),
            Err(error) if !options.may_close => panic!("connection {number}: {error}"),
            Err(_) => stop.load(Ordering::Relaxed).then_some(None),
        });
        let Some(mut client) = connected.expect("a connection, or the word to stop") else { break };
        client.set_deadline(PATIENCE);
        let mut next = 0;
        while !stop.load(Ordering::Relaxed) {
            if let Err(error) =
                exchange(&mut client, &format!("{number}.{life}"), key, &mut next, options, counts, &mut all)
            {
                assert!(options.may_close, "connection {number}: {error}");
                assert!(is_close(&error), "connection {number}: {error}");
                counts.closed.fetch_add(1, Ordering::Relaxed);
                break;
            }
        }
    }
    all
}

/// Sends a round of pushes, with a question in their midst whose answer shows that replies are in order, and reads the
/// replies: one each.
fn exchange(
    client: &mut RespClient,
    name: &str,
    key: &str,
    next: &mut u64,
    options: &LoadOptions,
    counts: &Counts,
    all: &mut Vec<Sent>,
) -> io::Result<()> {
    let first = all.len();
    let mut bytes = Vec::new();
    let question = format!("{name} {next}");
    for place in 0..options.depth {
        if place == options.depth / 2 {
            bytes.extend(resp::encode(["ECHO", &question]));
        }
        let mut value = format!("{name} {next} ").into_bytes();
        value.resize(options.size.max(value.len()), b'x');
        *next += 1;
        bytes.extend(resp::encode([b"LPUSH", key.as_bytes(), &value]));
        all.push(Sent { value, fate: Fate::Unknown });
    }
    let mut before = Instant::now();
    client.try_send_raw(&bytes)?;
    for place in 0..options.depth {
        if place == options.depth / 2 {
            assert_eq!(client.try_read()?, Reply::Bulk(question.clone().into_bytes()), "a reply out of its order");
        }
        all[first + place].fate = match client.try_read()? {
            Reply::Integer(1) => {
                counts.acknowledged.fetch_add(1, Ordering::Relaxed);
                Fate::Acknowledged
            }
            Reply::Error(text) => {
                counts.refused.fetch_add(1, Ordering::Relaxed);
                Fate::Refused(text)
            }
            other => panic!("not a reply to LPUSH: {other:?}"),
        };
        let waited = u64::try_from(before.elapsed().as_micros()).unwrap_or(u64::MAX);
        counts.longest.fetch_max(waited, Ordering::Relaxed);
        counts.slow.fetch_add(u64::from(waited > 1_000_000), Ordering::Relaxed);
        before = Instant::now();
    }
    Ok(())
}

fn is_close(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
}

impl Outcome {
    /// Panics unless every acknowledged record was consumed, nothing was consumed that was not sent, nothing twice, and
    /// the records of each connection stand in order within each topic and partition.
    pub fn verify(&self, topics: &[Vec<Consumed>]) {
        self.verify_doubled(topics, 0.0);
    }

    /// As [`Outcome::verify`], but so many may be there twice: as many as Tidegate says that it has sent again.
    pub fn verify_doubled(&self, topics: &[Vec<Consumed>], counted: f64) {
        let mut consumed: HashSet<&[u8]> = HashSet::new();
        let mut doubled = 0;
        for (topic, records) in topics.iter().enumerate() {
            let mut last: HashMap<(i32, &str), u64> = HashMap::new();
            for record in records {
                let text = std::str::from_utf8(&record.value).expect("a record of the load");
                if !consumed.insert(&record.value) {
                    doubled += 1;
                    assert!(f64::from(doubled) <= counted, "twice in Kafka, with no cause counted: {text:.40}");
                    continue;
                }
                let (connection, rest) = text.split_once(' ').expect("a record of the load");
                let number: u64 = rest.split(' ').next().and_then(|n| n.parse().ok()).expect("a record of the load");
                if let Some(before) = last.insert((record.partition, connection), number) {
                    assert!(
                        before < number,
                        "connection {connection}, topic {topic}, partition {}: {number} after {before}",
                        record.partition
                    );
                }
            }
        }
        let sent: HashSet<&[u8]> = self.sent.iter().map(|sent| &*sent.value).collect();
        assert!(consumed.is_subset(&sent), "something was consumed that nobody sent");
        let lost: Vec<&Sent> = self
            .sent
            .iter()
            .filter(|sent| sent.fate == Fate::Acknowledged && !consumed.contains(&*sent.value))
            .collect();
        let example = lost.first().map(|sent| String::from_utf8_lossy(&sent.value[..20.min(sent.value.len())]));
        assert!(lost.is_empty(), "{} acknowledged records are not in Kafka, the first is {example:?}", lost.len());
    }

    /// The different errors that records were refused with.
    pub fn errors(&self) -> HashSet<&str> {
        let errors = self.sent.iter().filter_map(|sent| match &sent.fate {
            Fate::Refused(text) => Some(text.as_str()),
            _ => None,
        });
        errors.collect()
    }

    /// How it went, for a test's output.
    pub fn summary(&self) -> String {
        let Self { acknowledged, refused, closed, longest, .. } = self;
        format!("{acknowledged} acknowledged, {refused} refused, {closed} closed, longest wait {longest:?}")
    }
}
