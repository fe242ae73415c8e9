//! The spool: what a reply from disk costs beside redis-server with an append-only file, what failing over costs, and how
//! fast the backlog goes.

use crate::Options;
use crate::bed::{Tidegate, free_port, poll};
use crate::client::{Client, Load};
use crate::parts::{PEAK_MEMORY, RATIOS, comparison, load, mock, warm_up};
use crate::report::{target, title};
use crate::subject::{
    Figures, Subject, alternate, config_with_spool, offsets, redis, redis_with, tidegate_with_spool, topic_end,
};
use crate::system::{self, Pinning};
use crate::wire::Access;
use std::fs;
use std::time::{Duration, Instant};

/// Most of Tidegate's processor time a record by way of the spool, as a part of redis-server's without persistence, at
/// pipeline 64.
const RATIO: f64 = 1.2;
/// How much faster than it was written a backlog is to go.
const REPLAY: f64 = 5.0;
/// What an outage of an application's logs is written at, in records a second: see `replay`.
const STEADY: f64 = 50_000.0;
/// The topic whose route acknowledges from disk, and the one that fails over.
const SPOOL: &str = "bench-s1";
const KAFKA: &str = "bench-1";

/// All of it.
pub(crate) fn spool(options: &Options, pinning: Pinning) {
    from_disk(options, pinning);
    failover(options, pinning);
    replay(options, pinning);
}

/// A reply once the record is on disk; the cost is of the way to Kafka as well.
fn from_disk(options: &Options, pinning: Pinning) {
    let mock = mock();
    let kafka = offsets(mock.bootstrap());
    let mut memory = redis(pinning);
    let append = |policy| redis_with(pinning, &["--appendonly", "yes", "--appendfsync", policy]);
    let (mut everysec, mut always) = (append("everysec"), append("always"));
    let with_spool = tidegate_with_spool(mock.bootstrap(), pinning);
    let subjects = [
        Subject::redis(&mut memory),
        Subject::redis_as("redis-server, everysec", &mut everysec),
        Subject::redis_as("redis-server, always", &mut always),
        Subject::tidegate("tidegate, spool, 1 partition", &with_spool, &kafka, 3),
        Subject::tidegate("tidegate, spool, 4 partitions", &with_spool, &kafka, 4),
        Subject::tidegate("tidegate, kafka beside a spool", &with_spool, &kafka, 0),
    ];
    warm_up(&subjects);
    for (pipeline, _) in RATIOS.into_iter().filter(|(pipeline, _)| options.wants(*pipeline)) {
        title(format!("acknowledge = \"spool\", mock cluster, 50 connections, pipeline {pipeline}"));
        let load = load(50, pipeline, options);
        let figures = alternate(&subjects, Load { records: load.records / 2, ..load }, options.rounds());
        comparison(&subjects, &figures, |index, ratio| match (index, pipeline) {
            (3 | 4, 64) => target(ratio, RATIO),
            _ => String::new(),
        });
        let ahead = figures[2].rate / figures[3].rate;
        println!("     speed of `always` ÷ that of the spool {ahead:.2}  {}", target(ahead, 1.0));
    }
    let (_, peak) = system::memory(with_spool.pid());
    println!("\nresident memory, peak of this part  {peak:.1} MB  {}", target(peak, PEAK_MEMORY));
}

/// The same load with Kafka there and with Kafka away: processor time a record, and what a client waits.
fn failover(options: &Options, pinning: Pinning) {
    title("failover: acknowledge = \"kafka\", Kafka there, then away, 50 connections, pipeline 16");
    let mock = mock();
    let kafka = offsets(mock.bootstrap());
    let tidegate = tidegate_with_spool(mock.bootstrap(), pinning);
    let subject = Subject::tidegate("tidegate, Kafka there", &tidegate, &kafka, 0);
    let load = Load { records: load(50, 16, options).records / 2, ..load(50, 16, options) };
    warm_up(std::slice::from_ref(&subject));
    let there = subject.measure(load);
    drop(mock);
    let begun = system::cpu_time(tidegate.pid());
    // The first records wait for Kafka; all others go to the disk at once.
    let first = push(&tidegate, KAFKA, Load { records: 50 * 16, ..load });
    let after = system::cpu_time(tidegate.pid());
    let away = push(&tidegate, KAFKA, load);
    let cpu = |from: Duration, to: Duration, records: u64| (to - from).as_secs_f64() * 1e6 / records as f64;
    let whole = cpu(after, system::cpu_time(tidegate.pid()), away.records);
    println!(
        "Kafka there                   {:>10.0} records/s {:>7.3} µs a record, p99 {:.1} ms",
        there.rate, there.cpu, there.p99
    );
    println!(
        "the moment of failing over    {:>10} records   {:>7.3} µs a record, longest {:.0} ms",
        first.records,
        cpu(begun, after, first.records),
        first.latencies.quantile(1.0).as_secs_f64() * 1e3
    );
    println!(
        "Kafka away, replies from disk {:>10.0} records/s {whole:>7.3} µs a record, p99 {:.1} ms",
        away.records as f64 / away.elapsed.as_secs_f64(),
        away.latencies.quantile(0.99).as_secs_f64() * 1e3
    );
    println!("     away ÷ there {:.2}", whole / there.cpu);
}

/// A backlog that was written at a steady rate, and one written as fast as clients could, each drained by the next start.
fn replay(options: &Options, pinning: Pinning) {
    title("replay: a backlog written while Kafka was away goes to the mock cluster, 512-byte records");
    let seconds = if options.quick { 2.0 } else { 20.0 };
    let steady = Load { connections: 50, pipeline: 16, records: (STEADY * seconds) as usize, rate: Some(STEADY) };
    let fast = Load { records: steady.records, rate: None, pipeline: 64, ..steady };
    let direct = direct(options, pinning);
    for (name, load) in [("at a steady rate", steady), ("as fast as they came", fast)] {
        let mock = mock();
        let kafka = offsets(mock.bootstrap());
        let mut tidegate = Tidegate::start_unready(&config_with_spool(&format!("127.0.0.1:{}", free_port())));
        let written = push(&tidegate, SPOOL, load);
        tidegate.sigterm();
        assert!(tidegate.wait_exit(Duration::from_secs(30)).success(), "{}", tidegate.log());
        // On the same directory, with a Kafka.
        let file = tidegate.directory().join("tidegate.toml");
        fs::write(&file, config_of(&fs::read_to_string(&file).unwrap(), mock.bootstrap())).unwrap();
        let start = Instant::now();
        tidegate.relaunch();
        pinning.place(tidegate.pid(), false);
        // Starting, reading the segments' headers and finding the leader are part of it.
        let drained = poll(Duration::from_secs(120), || (topic_end(&kafka, SPOOL, 1) == written.records).then_some(()));
        let took = start.elapsed();
        assert!(drained.is_some(), "of {} records {} arrived", written.records, topic_end(&kafka, SPOOL, 1));
        let cpu = system::cpu_time(tidegate.pid()).as_secs_f64() * 1e6 / written.records as f64;
        let (rate, replayed) =
            (written.records as f64 / written.elapsed.as_secs_f64(), written.records as f64 / took.as_secs_f64());
        println!(
            "written {name:<21} {rate:>9.0} records/s; drained at {replayed:>9.0} records/s, {cpu:.2} µs a record, the start included"
        );
        println!(
            "     written ÷ drained × {REPLAY} {:.2}  {}",
            rate / replayed * REPLAY,
            target(rate / replayed * REPLAY, 1.0)
        );
    }
    println!("Kafka's own limit here: {:.0} records/s with acknowledge = \"kafka\"", direct.rate);
}

fn direct(options: &Options, pinning: Pinning) -> Figures {
    let mock = mock();
    let kafka = offsets(mock.bootstrap());
    let tidegate = tidegate_with_spool(mock.bootstrap(), pinning);
    let subject = [Subject::tidegate("direct", &tidegate, &kafka, 0)];
    warm_up(&subject);
    subject[0].measure(load(50, 64, options))
}

fn push(tidegate: &Tidegate, key: &str, load: Load) -> crate::client::Outcome {
    let client =
        Client::connect(tidegate.redis_addr(), &Access::default(), key, load).unwrap_or_else(|e| panic!("{e}"));
    client.run().unwrap_or_else(|e| panic!("{key}: {e}\n{}", tidegate.log()))
}

/// The configuration with other brokers.
fn config_of(config: &str, bootstrap: &str) -> String {
    let lines = config.lines().map(|line| {
        if line.starts_with("brokers = ") { format!("brokers = [\"{bootstrap}\"]\n") } else { format!("{line}\n") }
    });
    lines.collect()
}
