//! `make bench`: what the log plane costs beside redis-server, in one run on one machine.
//!
//! Every figure that matters is a ratio: processor time of the process under test (user and system, all threads) a
//! record, over redis-server's for the same records from the same client in the same run. Runs alternate, medians are
//! taken, and after each run of Tidegate the end offsets of its topic and its own counter must have grown by exactly the
//! number of records that were sent; anything else ends the bench with an error. A missed target does not.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    unreachable_pub,
    reason = "a bench: a panic is the report"
)]

#[path = "../../tests/bed/mod.rs"]
mod bed;

mod access;
mod client;
mod follow;
mod histogram;
mod mock;
mod parts;
mod report;
mod spool;
mod subject;
mod system;
mod tail;
mod wire;

use clap::{Parser, ValueEnum};
use std::process::Command;
use std::time::Instant;
use system::Pinning;

/// What a run of the bench is told.
#[derive(Parser)]
#[command(about = "The log plane beside redis-server")]
struct Options {
    /// A tenth of the records and one round: to see that it works.
    #[arg(long)]
    quick: bool,
    /// Leaves it to the scheduler where processes run.
    #[arg(long)]
    no_pin: bool,
    /// What to measure.
    #[arg(long, value_enum, default_value = "all")]
    part: Part,
    /// Runs of which each figure is the median [default: 3, or 1 with --quick].
    #[arg(long)]
    rounds: Option<usize>,
    /// This pipeline depth alone (1, 16 or 64).
    #[arg(long)]
    pipeline: Option<usize>,
    /// This number of connections alone in the table (1, 10, 50 or 1000), as for a profile.
    #[arg(long)]
    connections: Option<usize>,
    /// What cargo passes to a bench.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// 50 connections into the mock cluster, the targets.
    Core,
    /// Connections × pipeline, and 8 connections on 2 threads.
    Table,
    /// By way of the spool, beside redis-server with an append-only file; failover; replay.
    Spool,
    /// 50 connections into real Kafka.
    Kafka,
    /// With TLS, beside redis-server with TLS.
    Tls,
    /// As a user with a password and rules, beside redis-server with the same one.
    Auth,
    /// A thousand who follow live, beside those who push.
    Tail,
    All,
}

impl Options {
    fn wants(&self, pipeline: usize) -> bool {
        self.pipeline.is_none_or(|wanted| wanted == pipeline)
    }

    fn wants_connections(&self, connections: usize) -> bool {
        self.connections.is_none_or(|wanted| wanted == connections)
    }

    fn rounds(&self) -> usize {
        self.rounds.unwrap_or(if self.quick { 1 } else { 3 }).max(1)
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1).peekable();
    match arguments.next().as_deref() {
        Some(mock::ARGUMENT) => mock::serve(arguments),
        // `cargo test --all-targets` starts benches without arguments.
        None => println!("the bench is started by: cargo bench --bench log"),
        Some(_) => run(&Options::parse()),
    }
}

fn run(options: &Options) {
    let start = Instant::now();
    system::allow_many_files();
    let machine = system::machine();
    let pinning = Pinning::choose(!options.no_pin);
    let told: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    println!("# The log plane beside redis-server\n");
    println!("again:   {}", ["cargo bench --bench log --", &told.join(" ")].join(" ").trim_end());
    println!("machine: {machine}");
    println!("pinning: {pinning}");
    println!("against: {}; librdkafka {}", redis_version(), rdkafka::util::get_rdkafka_version().1);
    println!(
        "method:  LPUSH of {}-byte JSON; medians of {} alternating runs; CPU = user + system of all threads a record; \
         ratio = CPU ÷ redis-server's; batch = records a batch to Kafka",
        client::RECORD_BYTES,
        options.rounds()
    );
    let wants = |part| options.part == part || options.part == Part::All;
    if wants(Part::Core) {
        parts::core(options, pinning);
    }
    if wants(Part::Table) {
        parts::table(options, pinning);
    }
    if wants(Part::Spool) {
        spool::spool(options, pinning);
    }
    if wants(Part::Tail) {
        tail::tail(options, pinning);
    }
    if wants(Part::Kafka) {
        parts::kafka(options, pinning);
    }
    if wants(Part::Tls) {
        access::tls(options, pinning);
    }
    if wants(Part::Auth) {
        access::auth(options, pinning);
    }
    println!("\nevery record arrived; targets missed: {}; {:.0} s", report::missed(), start.elapsed().as_secs_f64());
}

fn redis_version() -> String {
    let output = Command::new("redis-server").arg("--version").output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.split(" sha").next().unwrap_or_default().trim().to_owned()
}
