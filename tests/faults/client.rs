//! A client: one thread, one connection after the other, commands of all kinds that push records.

use crate::bed::{Reply, RespClient, poll, resp};
use crate::history::{Fate, Sent};
use crate::random::Random;
use crate::record::{self, Name};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long one reply may take: a frozen Tidegate answers when it is thawed.
const PATIENCE: Duration = Duration::from_secs(40);

/// How long it pauses when its connection was closed, as any client backs off.
const AFTER_CLOSE: Duration = Duration::from_millis(100);

/// What a client does.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Its number.
    pub(crate) client: u32,
    /// Where its random choices start.
    pub(crate) random: Random,
    /// The places of the keys that it pushes to.
    pub(crate) keys: Vec<u32>,
    /// Commands that it sends before it reads their replies.
    pub(crate) depth: usize,
    /// The most bytes of a record.
    pub(crate) size: u64,
    /// How long it pauses after each round.
    pub(crate) pause: Duration,
}

/// What clients share.
#[derive(Default)]
pub(crate) struct Shared {
    /// The run's number, in every record.
    pub(crate) run: u64,
    /// The keys by their places.
    pub(crate) keys: Vec<String>,
    /// Clients end after the round that they are in.
    pub(crate) stop: AtomicBool,
    /// Records acknowledged so far.
    pub(crate) acknowledged: AtomicU64,
    /// Records refused so far.
    pub(crate) refused: AtomicU64,
    /// Connections that ended early.
    pub(crate) closed: AtomicU64,
}

/// One command: the kind and how many records.
#[derive(Clone, Copy)]
enum Kind {
    One,
    Many,
    Transaction,
}

/// Pushes until told to stop; `progress` counts this client's acknowledged records.
pub(crate) fn run(server: SocketAddr, plan: Plan, shared: &Shared, progress: &AtomicU64) -> Vec<Sent> {
    let mut client = Client { plan, shared, progress, number: 0, sent: Vec::new() };
    for life in 0.. {
        let stop = || shared.stop.load(Ordering::Relaxed);
        // While Tidegate restarts nobody listens.
        let connected = poll(PATIENCE, || match RespClient::try_connect(server) {
            Ok(connection) => Some(Some(connection)),
            Err(_) => stop().then_some(None),
        });
        let Some(mut connection) = connected.expect("a connection, or the word to stop") else { break };
        connection.set_deadline(PATIENCE);
        loop {
            if stop() {
                return client.sent;
            }
            if let Err(error) = client.round(&mut connection, life) {
                assert!(is_close(&error), "client {}: {error}", client.plan.client);
                shared.closed.fetch_add(1, Ordering::Relaxed);
                poll(AFTER_CLOSE, || stop().then_some(()));
                break;
            }
            poll(client.plan.pause, || stop().then_some(()));
        }
    }
    client.sent
}

struct Client<'a> {
    plan: Plan,
    shared: &'a Shared,
    progress: &'a AtomicU64,
    number: u64,
    sent: Vec<Sent>,
}

impl Client<'_> {
    /// Sends a round of commands, with a question in their midst whose answer shows that replies are in order, and reads
    /// the replies: one each.
    fn round(&mut self, connection: &mut RespClient, life: u32) -> io::Result<()> {
        let mut bytes = Vec::new();
        let mut commands = Vec::new();
        let question = format!("{life} {}", self.number);
        for place in 0..self.plan.depth {
            if place == self.plan.depth / 2 {
                bytes.extend(resp::encode(["ECHO", &question]));
            }
            let kind = *self.plan.random.pick(&[Kind::One, Kind::One, Kind::Many, Kind::Transaction]);
            let first = self.sent.len();
            self.command(kind, life, &mut bytes);
            commands.push((kind, first..self.sent.len()));
        }
        connection.try_send_raw(&bytes)?;
        for (place, (kind, records)) in commands.into_iter().enumerate() {
            if place == self.plan.depth / 2 {
                let answer = connection.try_read()?;
                assert_eq!(answer, Reply::Bulk(question.clone().into_bytes()), "a reply out of its order");
            }
            let outcomes = read_outcomes(connection, kind, records.len())?;
            for (sent, outcome) in self.sent[records].iter_mut().zip(outcomes) {
                sent.fate = match outcome {
                    Ok(()) => {
                        self.progress.fetch_add(1, Ordering::Relaxed);
                        Fate::Acknowledged(self.shared.acknowledged.fetch_add(1, Ordering::Relaxed))
                    }
                    Err(text) => {
                        self.shared.refused.fetch_add(1, Ordering::Relaxed);
                        Fate::Refused(text)
                    }
                };
            }
        }
        Ok(())
    }

    fn command(&mut self, kind: Kind, life: u32, bytes: &mut Vec<u8>) {
        let key = *self.plan.random.pick(&self.plan.keys);
        match kind {
            Kind::One => {
                let value = self.record(key, life);
                bytes.extend(resp::encode([b"LPUSH", self.key(key), &value]));
            }
            Kind::Many => {
                let values: Vec<Vec<u8>> = (0..3).map(|_| self.record(key, life)).collect();
                let head: [&[u8]; 2] = [b"RPUSH", self.key(key)];
                bytes.extend(resp::encode(head.into_iter().chain(values.iter().map(Vec::as_slice))));
            }
            Kind::Transaction => {
                bytes.extend(resp::encode(["MULTI"]));
                for _ in 0..2 {
                    let value = self.record(key, life);
                    bytes.extend(resp::encode([b"LPUSH", self.key(key), &value]));
                }
                bytes.extend(resp::encode(["EXEC"]));
            }
        }
    }

    fn key(&self, place: u32) -> &[u8] {
        self.shared.keys[place as usize].as_bytes()
    }

    fn record(&mut self, key: u32, life: u32) -> Vec<u8> {
        let name = Name { client: self.plan.client, life, key, number: self.number };
        self.number += 1;
        // Most records are small, some as large as they may be.
        let most = if self.plan.random.percent(90) { self.plan.size / 8 } else { self.plan.size };
        let size = self.plan.random.count(0..=usize::try_from(most).expect("a size"));
        let value = record::write(self.shared.run, name, size, &mut self.plan.random);
        let (_, checksum) = record::read(self.shared.run, &value).expect("a record just written");
        self.sent.push(Sent { name, checksum, at: Instant::now(), fate: Fate::Unknown });
        value
    }
}

/// The outcome of each record of one command.
fn read_outcomes(connection: &mut RespClient, kind: Kind, records: usize) -> io::Result<Vec<Result<(), String>>> {
    if let Kind::Transaction = kind {
        assert_eq!(connection.try_read()?, Reply::Simple("OK".into()));
        let mut refused = None;
        for _ in 0..records {
            match connection.try_read()? {
                Reply::Simple(text) if text == "QUEUED" => {}
                Reply::Error(text) => refused = Some(text),
                other => panic!("not a reply within MULTI: {other:?}"),
            }
        }
        return Ok(match connection.try_read()? {
            Reply::Array(replies) => {
                assert_eq!(replies.len(), records, "EXEC answers each command");
                replies.into_iter().map(|reply| outcome(reply, 1)).collect()
            }
            Reply::Error(text) => vec![Err(refused.unwrap_or(text)); records],
            other => panic!("not a reply to EXEC: {other:?}"),
        });
    }
    Ok(vec![outcome(connection.try_read()?, records); records])
}

fn outcome(reply: Reply, records: usize) -> Result<(), String> {
    match reply {
        Reply::Integer(number) if usize::try_from(number).is_ok_and(|number| number >= records) => Ok(()),
        Reply::Error(text) => Err(text),
        other => panic!("not a reply to a push of {records}: {other:?}"),
    }
}

fn is_close(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
}
