//! The client: one thread, many connections, each with one pipeline of commands under way.
//!
//! redis-benchmark reports no 99.9th percentile and cannot send at a given rate, so this takes its place, and it is the
//! same for every server. It must never be what is measured: all connections send from one shared buffer, replies are
//! counted and not parsed, and a clock is read once a pipeline.
//!
//! A record's latency is the time from its pipeline's sending to its own reply, as redis-benchmark has it. At a given
//! rate it counts from the moment at which the pipeline was due, so that a server which stalls cannot hide it.

use crate::histogram::Histogram;
use crate::wire::{Access, Wire};
use mio::{Events, Interest, Poll, Token};
use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::ops::Range;
use std::time::{Duration, Instant};

/// The size of a record, which is JSON as a service would log it.
pub(crate) const RECORD_BYTES: usize = 512;
/// How many different commands there are: a multiple of each pipeline depth.
const COMMANDS: usize = 256;
/// No run takes this long.
const DEADLINE: Duration = Duration::from_secs(60);
/// What is asked of one read.
const READ_BYTES: usize = 16 * 1024;

/// What is sent.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) connections: usize,
    pub(crate) pipeline: usize,
    /// Records in all; rounded to whole pipelines.
    pub(crate) records: usize,
    /// Records a second; `None`: each connection sends again as soon as it has all replies.
    pub(crate) rate: Option<f64>,
}

/// What came of it.
pub(crate) struct Outcome {
    pub(crate) records: u64,
    pub(crate) elapsed: Duration,
    pub(crate) latencies: Histogram,
}

struct Connection {
    stream: Wire,
    /// Since when its pipeline is under way.
    since: Instant,
    /// Which commands are still to be sent.
    unsent: Range<usize>,
    /// Replies that are still to come.
    awaited: usize,
}

impl Connection {
    fn has_to_send(&self) -> bool {
        !self.unsent.is_empty() || self.stream.wants_write()
    }
}

/// Connections that are ready for a load.
pub(crate) struct Client {
    load: Load,
    poll: Poll,
    connections: Vec<Connection>,
    idle: VecDeque<usize>,
    commands: Vec<u8>,
    buffer: Vec<u8>,
    pipelines_left: usize,
    pipelines_sent: usize,
    answered: u64,
    latencies: Histogram,
}

impl Client {
    /// Connects, and hears from the server on each connection, so that accepting is over before anything is measured.
    pub(crate) fn connect(address: SocketAddr, access: &Access, key: &str, load: Load) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut connections = Vec::with_capacity(load.connections);
        for index in 0..load.connections {
            let mut stream = Wire::connect(address, access)?;
            poll.registry().register(&mut stream.socket, Token(index), Interest::READABLE | Interest::WRITABLE)?;
            connections.push(Connection { stream, since: Instant::now(), unsent: 0..0, awaited: 0 });
        }
        Ok(Self {
            poll,
            connections,
            idle: (0..load.connections).collect(),
            commands: commands(key),
            buffer: vec![0; READ_BYTES],
            pipelines_left: load.records.div_ceil(load.pipeline),
            pipelines_sent: 0,
            answered: 0,
            latencies: Histogram::new(),
            load,
        })
    }

    /// Sends the whole load and waits for the last reply. Anything but an integer as a reply is an error.
    pub(crate) fn run(mut self) -> io::Result<Outcome> {
        let mut events = Events::with_capacity(1024);
        let start = Instant::now();
        let total = (self.pipelines_left * self.load.pipeline) as u64;
        while self.answered < total {
            let patience = self.send_due(start)?;
            self.poll.poll(&mut events, Some(patience))?;
            let mut now = Instant::now();
            if now.duration_since(start) > DEADLINE {
                return Err(io::Error::new(io::ErrorKind::TimedOut, format!("{} of {total} replies", self.answered)));
            }
            for event in &events {
                let index = event.token().0;
                if event.is_writable() && self.connections[index].has_to_send() {
                    self.send(index)?;
                }
                if event.is_readable() && self.receive(index, &mut now)? {
                    self.idle.push_back(index);
                    if self.load.rate.is_none() {
                        self.send_next(Instant::now())?;
                    }
                }
            }
        }
        Ok(Outcome { records: total, elapsed: start.elapsed(), latencies: self.latencies })
    }

    /// Sends what is due on connections that are idle, and says how long nothing else will be.
    fn send_due(&mut self, start: Instant) -> io::Result<Duration> {
        let Some(rate) = self.load.rate else {
            while self.pipelines_left > 0 && !self.idle.is_empty() {
                self.send_next(Instant::now())?;
            }
            return Ok(Duration::from_secs(1));
        };
        while self.pipelines_left > 0 && !self.idle.is_empty() {
            let due = start + Duration::from_secs_f64((self.pipelines_sent * self.load.pipeline) as f64 / rate);
            let left = due.saturating_duration_since(Instant::now());
            if !left.is_zero() {
                return Ok(left);
            }
            self.send_next(due)?;
        }
        Ok(Duration::from_secs(1))
    }

    fn send_next(&mut self, since: Instant) -> io::Result<()> {
        if self.pipelines_left == 0 {
            return Ok(());
        }
        let Some(index) = self.idle.pop_front() else { return Ok(()) };
        self.pipelines_left -= 1;
        let length = self.commands.len() / COMMANDS * self.load.pipeline;
        let start = self.pipelines_sent * length % self.commands.len();
        let connection = &mut self.connections[index];
        connection.since = since;
        connection.unsent = start..start + length;
        connection.awaited = self.load.pipeline;
        self.pipelines_sent += 1;
        self.send(index)
    }

    fn send(&mut self, index: usize) -> io::Result<()> {
        let connection = &mut self.connections[index];
        while !connection.unsent.is_empty() {
            match connection.stream.write(&self.commands[connection.unsent.clone()]) {
                Ok(written) => connection.unsent.start += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        connection.stream.flush()
    }

    /// Reads until nothing is there, and says whether the pipeline was answered.
    fn receive(&mut self, index: usize, now: &mut Instant) -> io::Result<bool> {
        let connection = &mut self.connections[index];
        loop {
            let read = match connection.stream.read(&mut self.buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            };
            let received = &self.buffer[..read];
            if received.contains(&b'-') {
                return Err(io::Error::other(
                    String::from_utf8_lossy(received).lines().next().unwrap_or("").to_owned(),
                ));
            }
            let replies = received.iter().filter(|byte| **byte == b'\n').count();
            *now = Instant::now();
            self.latencies.record(now.duration_since(connection.since), replies as u64);
            self.answered += replies as u64;
            connection.awaited = connection.awaited.checked_sub(replies).ok_or(io::ErrorKind::InvalidData)?;
            if connection.awaited == 0 && replies > 0 {
                return Ok(true);
            }
            // The event tells of new bytes once; a read that was not filled has taken all there are.
            if read < self.buffer.len() {
                return Ok(false);
            }
        }
    }
}

/// Commands that differ from one another, all of one length: what is sent is a window that moves over them. More of them
/// than lz4 looks back over, as a sink of equal records would flatter compression.
fn commands(key: &str) -> Vec<u8> {
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    (0..COMMANDS).flat_map(|_| command(key, &mut random)).collect()
}

/// `LPUSH key record`
fn command(key: &str, random: &mut impl FnMut() -> u64) -> Vec<u8> {
    const WORDS: [&str; 8] = ["order", "payment", "customer", "was", "placed", "declined", "pending", "shipped"];
    let mut record = format!(
        r#"{{"time":"2026-01-01T12:{:02}:{:02}.{:03}Z","level":"info","service":"checkout","trace":"{:016x}{:016x}","message":""#,
        random() % 60,
        random() % 60,
        random() % 1000,
        random(),
        random(),
    );
    while record.len() < RECORD_BYTES {
        let number = random();
        let word = WORDS[(number % 8) as usize];
        record.push_str(&format!("{word} {} ", number >> 40));
    }
    record.truncate(RECORD_BYTES - 2);
    record.push_str("\"}");
    format!("*3\r\n$5\r\nLPUSH\r\n${}\r\n{key}\r\n${}\r\n{record}\r\n", key.len(), record.len()).into_bytes()
}
