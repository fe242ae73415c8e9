//! `make bench-discovery`: what the traffic plane takes from a change at the API server to the bodies in waiting clients'
//! hands, and what it costs.
//!
//! The feed is a simulator in this process that speaks the API's list and watch over HTTP, with slices as a controller
//! writes them; `--feed api` puts the same slices into a real API server and etcd instead. Clients are this process's too,
//! each on a connection of its own. Every change carries a number that comes back in the body of its pool, so that a
//! client knows which changes an answer holds: a late, lost or half answer cannot pass for a quick one. At the end of each
//! part every client must have the last change of each of its pools, and every pool must be, endpoint by endpoint, what
//! the feed says; anything else ends the bench with an error. A missed target does not.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::cast_precision_loss,
    unreachable_pub,
    reason = "a bench: a panic is the report"
)]

#[path = "../../tests/bed/mod.rs"]
mod bed;
#[path = "../../tests/kube/mod.rs"]
mod kube;

mod clients;
mod feed;
#[path = "../log/histogram.rs"]
mod histogram;
mod parts;
mod report;
mod services;
mod simulator;
mod subject;
#[path = "../log/system.rs"]
#[allow(dead_code, reason = "the log bench's file; this bench pins nothing")]
mod system;
mod xds;
#[path = "../../tests/traffic/xds_client.rs"]
#[allow(dead_code, reason = "the tests' client of xDS; this bench asks for increments alone")]
mod xds_client;

use std::time::Instant;

use clap::{Parser, ValueEnum};

use feed::Kind;

/// What a run of the bench is told.
#[derive(Parser)]
#[command(about = "From a change at the API server to waiting clients")]
struct Options {
    /// What to measure.
    #[arg(long, value_enum, default_value = "all")]
    part: Part,
    /// Where changes come from, for `change` and `storm`.
    #[arg(long, value_enum, default_value = "simulator")]
    feed: Kind,
    /// A tenth of everything: to see that it works.
    #[arg(long)]
    quick: bool,
    /// What cargo passes to a bench.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// One change after the other, each into quiet.
    Change,
    /// 500 pods change each second.
    Storm,
    /// What 150 000 endpoints take.
    Memory,
    /// Processor time of one change against 1 000, 10 000 and 100 000 endpoints.
    Cost,
    /// Processor time of an update by xDS, beside go-control-plane.
    Xds,
    All,
}

fn main() {
    // `cargo test --all-targets` starts benches without arguments.
    if std::env::args().len() < 2 {
        println!("the bench is started by: cargo bench --bench discovery");
        return;
    }
    let options = Options::parse();
    let start = Instant::now();
    system::allow_many_files();
    let told: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    println!("# From a change at the API server to waiting clients\n");
    println!("again:   {}", ["cargo bench --bench discovery --", &told.join(" ")].join(" ").trim_end());
    println!("machine: {}", system::machine());
    let clients = if cfg!(debug_assertions) { "dev" } else { "release" };
    match std::env::var(bed::tidegate::PROGRAM) {
        Ok(program) => println!("profile: {program}, clients in {clients}"),
        Err(_) if cfg!(debug_assertions) => println!("profile: dev: figures are no more than a hint"),
        Err(_) => println!("profile: release"),
    }
    let wants = |part| options.part == part || options.part == Part::All;
    let scale = if options.quick { 10 } else { 1 };
    if wants(Part::Change) {
        parts::change(options.feed, scale);
    }
    if wants(Part::Storm) {
        parts::storm(options.feed, scale);
    }
    if wants(Part::Memory) {
        parts::memory(scale);
    }
    if wants(Part::Cost) {
        parts::cost(scale);
    }
    if wants(Part::Xds) {
        xds::run(scale);
    }
    let missed = report::missed();
    println!("\nevery client had every last state; targets missed: {missed}; {:.0} s", start.elapsed().as_secs_f64());
}
