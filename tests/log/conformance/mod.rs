//! The same streams of commands to a real redis-server and to Tidegate: the same bytes come back, but for what stands in
//! `intended.tsv`, with its reason.
//!
//! `TIDEGATE_CONFORMANCE_SEED` and `TIDEGATE_CONFORMANCE_CASES` choose other streams, and more of them; a failure names the
//! seed and the stream's number.

mod frames;
mod generator;
mod intended;
mod lines;

use crate::bed::{RedisServer, Tidegate, unique};
use crate::support::{SOON, Setup};
use frames::Frame;
pub(crate) use frames::cut;
use generator::{Command, Random, Stream};
use intended::Intended;
use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

/// What `make test` runs.
const SEED: u64 = 20_261_121;
const CASES: usize = 6_000;
/// Connections at once.
const THREADS: usize = 4;
/// Of many differences these are shown, none twice.
const SHOWN: usize = 40;

/// One topic for all keys: thousands of them would each ask the broker for their own.
fn start() -> Tidegate {
    let topic = unique("conformance");
    Setup::shared()
        .route(&format!(
            "key = \"*\"\ntopic = \"{topic}\"\nacknowledge = \"enqueue\"\n\
             accept = [\"list\", \"stream\", \"publish\", \"set\", \"hash\", \"sorted-set\"]\n\
             create_topic = {{ partitions = 1, replication = 1 }}"
        ))
        .start()
}

/// A difference that nobody intends.
struct Difference {
    /// What it is.
    kind: String,
    /// Where it was seen.
    place: String,
}

/// All that a server says to a stream, which ends in QUIT or in what ends it by itself.
fn converse(server: SocketAddr, stream: &Stream) -> Vec<u8> {
    let mut socket = TcpStream::connect(server).unwrap();
    socket.set_read_timeout(Some(SOON)).unwrap();
    let sent: Vec<u8> = stream.iter().flat_map(|command| command.bytes.clone()).collect();
    socket.write_all(&sent).unwrap();
    let mut said = Vec::new();
    match socket.read_to_end(&mut said) {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
        Err(error) => panic!("{error}: {stream:#?}: {:?}", String::from_utf8_lossy(&said)),
    }
    said
}

/// The differences of a stream that are not intended, each in words.
fn differences(intended: &Intended, stream: &Stream, redis: &[u8], tidegate: &[u8]) -> Vec<String> {
    let ((mut theirs, left), (ours, our_rest)) = (frames::cut(redis), frames::cut(tidegate));
    // What a server says unasked answers no command.
    theirs.retain(|frame| !frame.bytes.starts_with(b">") || !intended.has("(unasked)", &frame.shown(), ""));
    let lossy = String::from_utf8_lossy;
    if theirs.len() != ours.len() || left != our_rest {
        return vec![format!("not as many replies\n  redis    {:?}\n  tidegate {:?}", lossy(redis), lossy(tidegate))];
    }
    let mut found = Vec::new();
    let mut queued: Vec<&Command> = Vec::new();
    let mut replies = theirs.iter().zip(&ours);
    for command in stream {
        for (theirs, ours) in replies.by_ref().take(command.replies) {
            match command.text.as_str() {
                "EXEC" if theirs.elements.len() == queued.len() && ours.elements.len() == queued.len() => {
                    for ((command, theirs), ours) in queued.iter().zip(&theirs.elements).zip(&ours.elements) {
                        found.extend(difference(intended, &command.text, theirs, ours));
                    }
                }
                "EXEC" if theirs != ours => {
                    // One of the two carried out commands and the other did not: from here on they are in different states.
                    found.extend(difference(intended, "EXEC", theirs, ours));
                    return found;
                }
                text => found.extend(difference(intended, text, theirs, ours)),
            }
            match theirs.bytes.as_slice() {
                b"+QUEUED\r\n" => queued.push(command),
                b"+OK\r\n" if command.text == "MULTI" => queued.clear(),
                _ => {}
            }
        }
    }
    found
}

fn difference(intended: &Intended, command: &str, theirs: &Frame, ours: &Frame) -> Option<String> {
    if theirs == ours {
        return None;
    }
    let (redis, tidegate) = (theirs.shown(), ours.shown());
    let listed = intended.has(command, &redis, &tidegate);
    (!listed).then(|| format!("{command:?}\n  redis    {redis:?}\n  tidegate {tidegate:?}"))
}

fn number(variable: &str, default: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text}")),
        Err(_) => default,
    }
}

#[test]
fn the_same_streams_get_the_same_bytes_from_redis_and_tidegate() {
    let seed = number("TIDEGATE_CONFORMANCE_SEED", SEED);
    let cases = number("TIDEGATE_CONFORMANCE_CASES", CASES as u64) as usize;
    // What was slow differs from run to run.
    let redis = RedisServer::start_with(&["--slowlog-log-slower-than", "-1"]);
    let tidegate = start();
    let intended = Intended::read();
    let most = number("TIDEGATE_CONFORMANCE_SHOWN", SHOWN as u64) as usize;
    let mut random = Random::new(seed);
    let mut streams = lines::streams();
    let written = streams.len();
    streams.extend((0..cases).map(|number| generator::stream(&mut random, number)));
    let numbered: Vec<(usize, &Stream)> = streams.iter().enumerate().collect();
    let run = |mine: &[(usize, &Stream)]| -> Vec<Difference> {
        let compare = |(number, stream): &(usize, &Stream)| {
            let [theirs, ours] = [redis.address(), tidegate.redis_addr()].map(|server| converse(server, stream));
            let found = differences(&intended, stream, &theirs, &ours);
            let whole: Vec<&str> = stream.iter().map(|command| command.text.as_str()).collect();
            let place = format!("seed {seed}, stream {number}: {whole:?}");
            found.into_iter().map(move |kind| Difference { kind, place: place.clone() })
        };
        mine.iter().flat_map(compare).collect()
    };
    let found: Vec<Difference> = std::thread::scope(|scope| {
        let share = numbered.len().div_ceil(THREADS);
        let threads: Vec<_> = numbered.chunks(share).map(|mine| scope.spawn(|| run(mine))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let distinct: BTreeMap<&str, &String> = found.iter().map(|found| (found.kind.as_str(), &found.place)).collect();
    let shown: Vec<String> = distinct.iter().take(most).map(|(kind, place)| format!("{kind}\n  {place}")).collect();
    assert!(found.is_empty(), "{} differences that nobody intends:\n{}", found.len(), shown.join("\n"));
    if (seed, cases) == (SEED, CASES) {
        let unused = intended.unused();
        assert!(unused.is_empty(), "no difference any more, or none in {written}+{cases} streams: {unused:#?}");
    }
}
