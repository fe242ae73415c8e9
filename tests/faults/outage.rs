//! An outage of Kafka with real volume: applications go on, what they pushed is drained afterwards while they still push.
//!
//! `TIDEGATE_OUTAGE_BYTES` says how much comes meanwhile (64 MiB without it; `make outage` asks for 10 GiB). Kafka is a real
//! broker. Some clients push as fast as they are answered until that much is spooled; one pushes slowly all the time and
//! its waits are what an application would see. A consumer that shares no code with Tidegate reads everything as a stream.

use crate::bed::process::Process;
use crate::bed::{Kafka, KafkaOptions, Reply, RespClient, Tidegate, WorkDir, poll, resp, unique, wait_until};
use crate::support::Setup;
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const CLIENTS: usize = 4;
/// Commands that a fast client has under way.
const DEPTH: usize = 64;
/// Bytes of a record.
const SIZE: usize = 1024;
const PARTITIONS: usize = 4;
const MEMORY: u64 = 64 << 20;
/// What Tidegate may take beside: see `Scenario::beside`.
const BESIDE: u64 = 160 << 20;
/// How long the drain of this much may take, at a fifth of what a slow disk gives.
const SLOWEST: u64 = 5 << 20;

#[derive(Default)]
struct Shared {
    acknowledged: AtomicU64,
    refused: AtomicU64,
    /// Fast clients push while this is not set.
    enough: AtomicBool,
    stop: AtomicBool,
}

/// What the slow client waited, and in which phase.
struct Wait {
    phase: usize,
    time: Duration,
}

const PHASES: [&str; 3] = ["Kafka there", "Kafka away", "draining"];

#[test]
fn an_outage_with_volume_is_drained_under_load_in_bounded_memory() {
    let bytes = std::env::var("TIDEGATE_OUTAGE_BYTES").map_or(64 << 20, |bytes| bytes.parse().expect("a number"));
    let directory = WorkDir::new("outage");
    let kafka = KafkaOptions::new().start();
    let topic = unique("outage");
    kafka.create_topic(&topic, i32::try_from(PARTITIONS).expect("a few"), 1, &[]);
    let setup = Setup::new(&kafka.bootstrap())
        .log(&format!("memory_limit = \"{}MiB\"", MEMORY >> 20))
        .route(&format!("key = \"{topic}\"\ntopic = \"{topic}\"\npartition_by = \"connection\""));
    let spool = format!("[log.spool]\ndirectory = \"spool\"\nmax_size = \"{}MiB\"\n", ((bytes * 3 / 2) >> 20) + 256);
    let tidegate = Tidegate::start(&format!("{}{spool}", setup.text()));
    let server = tidegate.redis_addr();
    let shared = Shared::default();
    let phase = AtomicU64::new(0);
    let mut report = Report { memory: [0; 3], ..Report::default() };
    let start = Instant::now();
    let (sent, waits) = std::thread::scope(|scope| {
        let fast: Vec<_> = (0..CLIENTS)
            .map(|client| {
                scope.spawn({
                    let (shared, topic) = (&shared, &topic);
                    move || push(server, topic, client, shared)
                })
            })
            .collect();
        let slow = scope.spawn(|| push_slowly(server, &topic, &shared, &phase));
        let mut look = |place: usize| report.look(&tidegate, place);
        wait_until(Duration::from_secs(60), "load", || {
            look(0);
            shared.acknowledged.load(Ordering::Relaxed) > 20_000
        });
        kafka.kill9(1);
        phase.store(1, Ordering::Relaxed);
        let begun = Instant::now();
        let patience = Duration::from_secs(60 + bytes / SLOWEST);
        wait_until(patience, "the volume to be spooled", || {
            look(1);
            spooled(&tidegate) >= bytes
        });
        report.away = begun.elapsed();
        report.spooled = spooled(&tidegate);
        shared.enough.store(true, Ordering::Relaxed);
        kafka.restart(1);
        phase.store(2, Ordering::Relaxed);
        let begun = Instant::now();
        let look = |report: &mut Report| report.look(&tidegate, 2);
        wait_until(patience, "the spool to be drained", || {
            look(&mut report);
            report.estimate(&tidegate, begun);
            tidegate.metric("tidegate_spool_records_left") == 0.0 && begun.elapsed() > Duration::from_secs(2)
        });
        report.drained = begun.elapsed();
        shared.stop.store(true, Ordering::Relaxed);
        let mut sent: Vec<u64> = fast.into_iter().map(|client| client.join().expect("a client")).collect();
        let (slow, waits) = slow.join().expect("a client");
        sent.push(slow);
        (sent, waits)
    });
    report.took = start.elapsed();
    report.print(&shared, &waits);
    assert_eq!(shared.refused.load(Ordering::Relaxed), 0);
    let mut found = Found::default();
    poll(Duration::from_secs(60), || {
        found = read_all(&kafka, &topic, &directory);
        (found.different == sent.iter().sum::<u64>()).then_some(())
    });
    println!(
        "consumed {} records, {} of them once more, {} out of order",
        found.different, found.again, found.misplaced
    );
    let counted = tidegate.metric("tidegate_log_records_duplicated_total");
    assert_eq!((found.different, found.misplaced, found.foreign), (sent.iter().sum(), 0, 0));
    #[expect(clippy::cast_precision_loss, reason = "a count of records")]
    let again = found.again as f64;
    assert!(again <= counted, "{again} stand there again, {counted} are counted");
    let most = report.memory.iter().max().copied().unwrap_or_default();
    assert!(most <= MEMORY + BESIDE, "{} MiB were resident", most >> 20);
    let slowest = quantile(&waits, 1, 0.99);
    assert!(slowest < Duration::from_secs(1), "the 99th percentile of waits while Kafka was away: {slowest:?}");
}

fn spooled(tidegate: &Tidegate) -> u64 {
    let left = tidegate.metric("tidegate_spool_bytes");
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bytes of a disk")]
    let left = left as u64;
    left
}

/// `CLIENT NUMBER xxx…`
fn record(client: usize, number: u64) -> Vec<u8> {
    let mut value = format!("{client} {number} ").into_bytes();
    value.resize(SIZE, b'x');
    value
}

/// Pushes until there is enough, then at a tenth of the pace until told to stop; gives how many records.
fn push(server: SocketAddr, topic: &str, client: usize, shared: &Shared) -> u64 {
    let mut connection = RespClient::connect(server);
    connection.set_deadline(Duration::from_secs(60));
    let mut number = 0;
    while !shared.stop.load(Ordering::Relaxed) {
        let mut bytes = Vec::with_capacity(DEPTH * (SIZE + 100));
        for _ in 0..DEPTH {
            bytes.extend(resp::encode([b"LPUSH", topic.as_bytes(), &record(client, number)]));
            number += 1;
        }
        connection.send_raw(&bytes);
        for _ in 0..DEPTH {
            count(&connection.read(), shared);
        }
        if shared.enough.load(Ordering::Relaxed) {
            poll(Duration::from_millis(20), || shared.stop.load(Ordering::Relaxed).then_some(()));
        }
    }
    number
}

/// One record every few milliseconds; gives how many, and what each waited.
fn push_slowly(server: SocketAddr, topic: &str, shared: &Shared, phase: &AtomicU64) -> (u64, Vec<Wait>) {
    let mut connection = RespClient::connect(server);
    connection.set_deadline(Duration::from_secs(60));
    let mut waits = Vec::new();
    let mut number = 0;
    while !shared.stop.load(Ordering::Relaxed) {
        let phase = usize::try_from(phase.load(Ordering::Relaxed)).expect("a phase");
        let begun = Instant::now();
        count(&connection.command([b"LPUSH", topic.as_bytes(), &record(CLIENTS, number)]), shared);
        waits.push(Wait { phase, time: begun.elapsed() });
        number += 1;
        poll(Duration::from_millis(5), || None::<()>);
    }
    (number, waits)
}

fn count(reply: &Reply, shared: &Shared) {
    let counter = if *reply == Reply::Integer(1) { &shared.acknowledged } else { &shared.refused };
    counter.fetch_add(1, Ordering::Relaxed);
}

fn quantile(waits: &[Wait], phase: usize, share: f64) -> Duration {
    let mut times: Vec<Duration> = waits.iter().filter(|wait| wait.phase == phase).map(|wait| wait.time).collect();
    times.sort_unstable();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a place")]
    let place = (times.len() as f64 * share) as usize;
    times.get(place.min(times.len().saturating_sub(1))).copied().unwrap_or_default()
}

#[derive(Default)]
struct Report {
    memory: [u64; 3],
    spooled: u64,
    away: Duration,
    drained: Duration,
    took: Duration,
    /// When it was asked, and the time left that was told.
    estimates: Vec<(Duration, f64)>,
}

impl Report {
    fn look(&mut self, tidegate: &Tidegate, phase: usize) {
        // Looking has its cost too.
        poll(Duration::from_millis(200), || None::<()>);
        self.memory[phase] = self.memory[phase].max(tidegate.rss_bytes());
    }

    fn estimate(&mut self, tidegate: &Tidegate, begun: Instant) {
        self.estimates.push((begun.elapsed(), tidegate.metric("tidegate_spool_time_left_seconds")));
    }

    fn print(&self, shared: &Shared, waits: &[Wait]) {
        let mib = |bytes: u64| bytes >> 20;
        let rate = |bytes: u64, time: Duration| bytes as f64 / time.as_secs_f64().max(0.001) / f64::from(1 << 20);
        println!("took {:.0} s in all", self.took.as_secs_f64());
        println!(
            "acknowledged {}, refused {}",
            shared.acknowledged.load(Ordering::Relaxed),
            shared.refused.load(Ordering::Relaxed)
        );
        println!(
            "spooled {} MiB in {:.1} s, {:.0} MiB/s",
            mib(self.spooled),
            self.away.as_secs_f64(),
            rate(self.spooled, self.away)
        );
        println!(
            "drained in {:.1} s, {:.0} MiB/s, under load",
            self.drained.as_secs_f64(),
            rate(self.spooled, self.drained)
        );
        for (phase, name) in PHASES.iter().enumerate() {
            let at = |share| quantile(waits, phase, share).as_secs_f64() * 1e3;
            println!(
                "{name:<12} waits of a client: p50 {:.1} ms, p99 {:.1} ms, longest {:.1} ms; resident memory: at most {} MiB",
                at(0.5),
                at(0.99),
                at(1.0),
                mib(self.memory[phase])
            );
        }
        let whole = self.drained.as_secs_f64();
        let half: Vec<f64> = self
            .estimates
            .iter()
            .filter(|(at, _)| (0.5..0.95).contains(&(at.as_secs_f64() / whole)))
            .map(|(at, told)| told / (whole - at.as_secs_f64()))
            .collect();
        let within = half.iter().filter(|ratio| (0.8..=1.2).contains(*ratio)).count();
        println!("time left, told ÷ true, over the second half: {within} of {} within 20 %", half.len());
    }
}

#[derive(Default)]
struct Found {
    different: u64,
    again: u64,
    misplaced: u64,
    foreign: u64,
}

/// Reads the topic as a stream: there is more than memory should hold.
fn read_all(kafka: &Kafka, topic: &str, directory: &WorkDir) -> Found {
    let pipe = directory.path().join("pipe");
    if !pipe.exists() {
        assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
    }
    let mut command = Command::new("sh");
    command.args([
        "-c",
        r#"exec kcat -C -q -e -o beginning -t "$1" -b "$2" -X fetch.wait.max.ms=20 -f '%p %s\n' >"$3""#,
        "sh",
    ]);
    command.args([topic, &kafka.bootstrap()]).arg(&pipe);
    let mut kcat = Process::start(&command, directory.path(), "kcat");
    let mut found = Found::default();
    let mut seen: HashMap<u64, Vec<u64>> = HashMap::new();
    let mut last: HashMap<(u64, u64), u64> = HashMap::new();
    for line in BufReader::with_capacity(1 << 20, File::open(&pipe).expect("the pipe")).split(b'\n') {
        let line = line.expect("the pipe");
        let head = line.get(..40.min(line.len())).unwrap_or_default();
        let mut words = std::str::from_utf8(head).unwrap_or_default().split(' ').map(str::parse::<u64>);
        let (Some(Ok(partition)), Some(Ok(client)), Some(Ok(number))) = (words.next(), words.next(), words.next())
        else {
            found.foreign += 1;
            continue;
        };
        let whole = line.len() == SIZE + partition.to_string().len() + 1;
        found.foreign += u64::from(!whole);
        let bits = seen.entry(client).or_default();
        let (word, bit) = (usize::try_from(number / 64).expect("a number of ours"), 1 << (number % 64));
        if bits.len() <= word {
            bits.resize(word + 1, 0);
        }
        if bits[word] & bit != 0 {
            found.again += 1;
            continue;
        }
        bits[word] |= bit;
        found.different += 1;
        if last.insert((partition, client), number).is_some_and(|before| before > number) {
            found.misplaced += 1;
        }
    }
    let status = kcat.wait(Duration::from_secs(60));
    assert!(status.success(), "kcat: {}", kcat.stderr());
    found
}
