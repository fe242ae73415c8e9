//! Clients that misbehave, by malice or by mistake: they are cut off or stopped, and nobody else notices.

mod bytes;
mod crowd;

use crate::bed::{Kafka, Reply, RespClient, Tidegate, unique};
use crate::support::{Setup, connect, consumed};
use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// What the log plane may take beside its limit on records.
const BESIDE: u64 = 64 << 20;

/// A Tidegate over the shared broker, and the key of its topic.
fn start(lines: &str) -> (Tidegate, String) {
    let key = unique("victim");
    let tidegate = Setup::shared().log("memory_limit = \"64MiB\"").log(lines).topic(&key, 2, "").start();
    (tidegate, key)
}

/// Panics unless an ordinary client is served as if nothing had happened.
fn assert_well(tidegate: &Tidegate, key: &str) {
    let mut client = connect(tidegate);
    assert_eq!(client.command(["LPUSH", key, "well"]), Reply::Integer(1));
    assert_eq!(client.command(["PING"]).bytes(), b"PONG");
    assert_eq!(tidegate.get("/livez").status, 200);
    let rss = tidegate.rss_bytes();
    assert!(rss < (64 << 20) + BESIDE, "{} MiB resident", rss >> 20);
}

/// Panics unless the topic holds exactly so many records, each from [`assert_well`].
fn assert_only_well(key: &str, count: usize) {
    let records = consumed(key, count);
    assert!(records.iter().all(|record| record.value == b"well"));
}

/// Connects, waiting where the backlog of a single machine's storm is full.
fn raw(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, Duration::from_secs(20)).expect("it accepts");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket");
    stream.set_write_timeout(Some(Duration::from_millis(500))).expect("a socket");
    stream
}

/// Sends as much of this as is taken until the other side stops reading or closes; gives how much that was.
fn send_all(mut stream: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let mut sent = 0;
    while sent < bytes.len() {
        match stream.write(&bytes[sent..]) {
            Ok(count) => sent += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(sent),
            Err(error) => return Err(error),
        }
    }
    Ok(sent)
}

/// The error that the client is told before it is cut off.
fn error_and_close(client: &mut RespClient) -> String {
    let error = client.read().error().to_owned();
    client.expect_close();
    error
}

/// Raises the soft limit of this process on open files to its hard limit, and gives it.
fn descriptors() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("the hard limit");
    maximum.map_or(usize::MAX, |maximum| usize::try_from(maximum).expect("64 bits"))
}

/// The shared broker's address, to have it started before time is measured.
fn warm_up() {
    Kafka::shared();
}
