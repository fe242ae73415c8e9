//! What the suites of the log plane share: configurations, load, and what must hold of what was consumed.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test target compiles this as a module of its own and uses its part of it"
)]

pub mod index;
pub mod load;
pub mod tls;

use crate::bed::{Consumed, Kafka, RespClient, Tidegate, consume_at_least, free_port};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

/// For what should be there at once, on a machine that is busy with other tests.
pub const SOON: Duration = Duration::from_secs(20);

/// A configuration in the making; every value that a test does not set is Tidegate's default.
#[derive(Clone, Debug)]
pub struct Setup {
    listen: String,
    admin: SocketAddr,
    brokers: String,
    log: String,
    kafka: String,
    routes: String,
}

impl Setup {
    /// Listeners on free ports, these brokers (`host:port,…`), and no route yet.
    pub fn new(bootstrap: &str) -> Self {
        let address = || SocketAddr::from(([127, 0, 0, 1], free_port()));
        let brokers: Vec<String> = bootstrap.split(',').map(|broker| format!("{broker:?}")).collect();
        Self {
            listen: format!("\"{}\"", address()),
            admin: address(),
            brokers: brokers.join(", "),
            log: String::new(),
            kafka: String::new(),
            routes: String::new(),
        }
    }

    /// Over the broker that tests share.
    pub fn shared() -> Self {
        Self::new(&Kafka::shared().bootstrap())
    }

    /// Listens on these in place of a free port: the items of the list.
    pub fn listen(mut self, listen: &str) -> Self {
        listen.clone_into(&mut self.listen);
        self
    }

    /// A line of `[log]`.
    pub fn log(mut self, line: &str) -> Self {
        let _ = writeln!(self.log, "{line}");
        self
    }

    /// A line of `[log.kafka]`.
    pub fn kafka(mut self, line: &str) -> Self {
        let _ = writeln!(self.kafka, "{line}");
        self
    }

    /// A `[log.spool]` in the process's own directory, with these further lines.
    pub fn spool(mut self, lines: &str) -> Self {
        let _ = writeln!(self.routes, "[log.spool]\ndirectory = \"spool\"\n{lines}");
        self
    }

    /// A `[[log.route]]` with these lines.
    pub fn route(mut self, lines: &str) -> Self {
        let _ = writeln!(self.routes, "[[log.route]]\n{lines}");
        self
    }

    /// A `[[log.user]]`; the password goes into a file in `directory`.
    pub fn user(mut self, directory: &Path, name: &str, password: &str, lines: &str) -> Self {
        let file = directory.join(format!("{name}.password"));
        std::fs::write(&file, password).expect("a file for the password");
        let _ = writeln!(self.routes, "[[log.user]]\nname = {name:?}\npassword_file = {file:?}\n{lines}");
        self
    }

    /// A route from this key to the topic of the same name, which is created with so many partitions.
    pub fn topic(self, name: &str, partitions: usize, lines: &str) -> Self {
        self.route(&format!(
            "key = {name:?}\ntopic = {name:?}\ncreate_topic = {{ partitions = {partitions}, replication = 1 }}\n{lines}"
        ))
    }

    /// The configuration's text.
    pub fn text(&self) -> String {
        let Self { listen, admin, brokers, log, kafka, routes } = self;
        format!(
            "[admin]\nlisten = \"{admin}\"\n[log]\nlisten = [{listen}]\n{log}\
             [log.kafka]\nbrokers = [{brokers}]\n{kafka}{routes}"
        )
    }

    /// Starts it and waits until it is ready.
    pub fn start(&self) -> Tidegate {
        Tidegate::start(&self.text())
    }

    /// Starts it and waits until it listens.
    pub fn start_unready(&self) -> Tidegate {
        Tidegate::start_unready(&self.text())
    }
}

/// A connection to it.
pub fn connect(tidegate: &Tidegate) -> RespClient {
    RespClient::connect(tidegate.redis_addr())
}

/// The values of these records as they stand in Kafka: partition by partition, each in order.
pub fn values(records: &[Consumed]) -> Vec<Vec<u8>> {
    records.iter().map(|record| record.value.clone()).collect()
}

/// Consumes exactly so many records: the topic holds no more than these.
pub fn consume_exactly(bootstrap: &str, topic: &str, count: usize) -> Vec<Consumed> {
    let records = consume_at_least(bootstrap, topic, count, SOON);
    assert_eq!(records.len(), count, "{topic} holds more than was pushed");
    records
}

/// As [`consume_exactly`], from the shared broker.
pub fn consumed(topic: &str, count: usize) -> Vec<Consumed> {
    consume_exactly(&Kafka::shared().bootstrap(), topic, count)
}
