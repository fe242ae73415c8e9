//! `make bench-gateway`: what a proxied request costs beside nginx, HAProxy and Envoy, in one run on one machine.
//!
//! Every figure that matters is a ratio: processor time of the process under test (user and system, all threads) a request,
//! over nginx's for the same requests by the same client to the same back end in the same run. Runs alternate, medians are
//! taken, and a request that is not answered whole and with success ends the bench with an error. A missed target does not.

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
#[path = "../discovery/simulator.rs"]
#[allow(dead_code, reason = "this bench forgets nothing")]
mod simulator;
#[path = "../log/system.rs"]
mod system;

mod backend;
mod idle;
mod load;
mod parts;
mod peers;
mod report;
mod services;
mod subject;

use clap::{Parser, ValueEnum};
use std::time::Instant;
use system::Pinning;

/// What a run of the bench is told.
#[derive(Parser)]
#[command(about = "The gateway beside nginx, HAProxy and Envoy")]
struct Options {
    /// A tenth of the requests and one round: to see that it works.
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
    /// These subjects alone, as for a profile (nginx, haproxy, envoy, tidegate).
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// What cargo passes to a bench.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Each kind of request, as fast as it goes.
    Cost,
    /// Latency at half of what each can do.
    Latency,
    /// Small requests while pools change ten times a second.
    Swap,
    /// Memory of idle connections.
    Idle,
    All,
}

impl Options {
    fn rounds(&self) -> usize {
        self.rounds.unwrap_or(if self.quick { 1 } else { 3 }).max(1)
    }

    fn wants(&self, part: Part) -> bool {
        self.part == part || self.part == Part::All
    }

    fn includes(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1).peekable();
    match arguments.next().as_deref() {
        Some(backend::ARGUMENT) => backend::serve(arguments),
        // `cargo test --all-targets` starts benches without arguments.
        None => println!("the bench is started by: cargo bench --bench gateway"),
        Some(_) => run(&Options::parse()),
    }
}

fn run(options: &Options) {
    let start = Instant::now();
    system::allow_many_files();
    let machine = system::machine();
    let pinning = Pinning::choose(!options.no_pin);
    let told: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    println!("# The gateway beside nginx, HAProxy and Envoy\n");
    println!("again:   {}", ["cargo bench --bench gateway --", &told.join(" ")].join(" ").trim_end());
    println!("machine: {machine}");
    match pinning {
        Pinning::Split { server, others } => {
            println!(
                "pinning: the gateway under test, all its threads, has core {server} alone; client and back end share core {others}"
            );
        }
        Pinning::Free => println!("pinning: none: the scheduler places everything"),
    }
    println!("against: {}", peers::versions());
    println!(
        "method:  h2load, {} connections, one thread for requests in each gateway; medians of {} alternating runs; CPU = user + system \
         of all threads a request; ratio = CPU ÷ nginx's; every answer whole and 200",
        load::CONNECTIONS,
        options.rounds()
    );
    parts::run(options, pinning);
    println!(
        "\nevery request was answered; targets missed: {}; {:.0} s",
        report::missed(),
        start.elapsed().as_secs_f64()
    );
}
