//! `make bench-control`: what the control component costs while nothing happens, and what it adds to a deploy.
//!
//! Everything is real but the kubelet and the gateways: API server, etcd, controllers, scheduler, a data plane that publishes the
//! switches; gateways that serve every App acknowledge them. The control component is a user of its own, whose requests the API server
//! counts apart (a FlowSchema), so that calls a deploy are the API server's word. A deploy that does not end well ends the bench with an
//! error. A missed target does not.

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
#[path = "../log/histogram.rs"]
#[allow(dead_code, reason = "of the report")]
mod histogram;
#[path = "../../tests/kube/mod.rs"]
mod kube;
#[path = "../discovery/report.rs"]
#[allow(dead_code, reason = "the discovery bench's file; nothing here is a histogram")]
mod report;
#[path = "../../tests/control/support.rs"]
#[allow(dead_code, reason = "the tests' file; this bench uses its part of it")]
mod support;
#[path = "../log/system.rs"]
#[allow(dead_code, reason = "the log bench's file; this bench pins nothing")]
mod system;

mod fleet;
mod gateways;

use std::time::{Duration, Instant};

use clap::Parser;

use fleet::Fleet;
use report::{line, target, title};

/// How long it is looked at while nothing is to be done.
const STILL: Duration = Duration::from_secs(60);

/// What a run of the bench is told.
#[derive(Parser)]
#[command(about = "The control component: thousands of Apps that are settled, hundreds of deploys at once")]
struct Options {
    /// Apps, each with one pod.
    #[arg(long, default_value_t = 3_000)]
    apps: usize,
    /// Deploys at once.
    #[arg(long, default_value_t = 200)]
    deploys: usize,
    /// Gateways that serve all Apps, and that each switch waits for.
    #[arg(long, default_value_t = 4)]
    gateways: usize,
    /// What cargo passes to a bench.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    // `cargo test --all-targets` starts benches without arguments.
    if std::env::args().len() < 2 {
        println!("the bench is started by: cargo bench --bench control");
        return;
    }
    let options = Options::parse();
    let start = Instant::now();
    println!("# The control component\n");
    println!(
        "again:   cargo bench --bench control -- --apps {} --deploys {} --gateways {}",
        options.apps, options.deploys, options.gateways
    );
    println!("machine: {}", system::machine());
    if cfg!(debug_assertions) {
        println!("profile: dev: figures are no more than a hint");
    }
    let few = (options.apps / 10).max(options.deploys.min(options.apps)).max(1);
    let one_by_one = (options.deploys / 10).max(1);
    let mut fleet = Fleet::start(options.gateways);
    fleet.grow(few);
    let small = fleet.deploy_each(one_by_one);
    fleet.grow(options.apps);
    still(&fleet);
    let large = fleet.deploy_each(one_by_one);
    title(format!("one deploy after the other, with {few} Apps and with {}", options.apps));
    for (apps, cost) in [(few, &small), (options.apps, &large)] {
        line(
            &format!("{apps} Apps: processor time of a deploy"),
            format!("{:.2} ms", report::millis(cost.spent.cpu) / one_by_one as f64),
        );
        line(&format!("{apps} Apps: requests to the API server a deploy"), per(cost.spent.calls, one_by_one));
        line(&format!("{apps} Apps: a release, from begun to ended, median"), format!("{:.1} s", cost.releases));
    }
    let ratio = large.spent.cpu.as_secs_f64() / small.spent.cpu.as_secs_f64();
    line("grows by", format!("{ratio:.2}  {}", target(ratio, 1.5)));
    at_once(&mut fleet, options.deploys);
    println!("\nevery deploy ended well; targets missed: {}; {:.0} s", report::missed(), start.elapsed().as_secs_f64());
}

/// A minute of nothing.
fn still(fleet: &Fleet) {
    title(format!("{} Apps, all settled, {} s", fleet.len(), STILL.as_secs()));
    let before = fleet.spent();
    let begun = Instant::now();
    bed::poll(2 * STILL, || (begun.elapsed() >= STILL).then_some(())).expect("the time passes");
    let spent = fleet.spent() - before;
    let share = spent.cpu.as_secs_f64() / STILL.as_secs_f64() * 100.0;
    line("writes", format!("{}  {}", spent.writes, target(spent.writes, 0.0)));
    line("requests to the API server, its Lease and watches included", spent.calls);
    line("of a core", format!("{share:.2} %  {}", target(share, 1.0)));
    line("resident memory", format!("{:.1} MB", fleet.memory()));
}

fn per(all: f64, deploys: usize) -> String {
    format!("{:.1}", all / deploys as f64)
}

/// All at the same moment.
fn at_once(fleet: &mut Fleet, deploys: usize) {
    title(format!("{deploys} blue-green deploys at once, among {} Apps", fleet.len()));
    let cost = fleet.deploy_together(deploys);
    line("until the last has ended", format!("{:.1} s", cost.took.as_secs_f64()));
    line("requests to the API server a deploy", per(cost.spent.calls, deploys));
    line("writes of them", per(cost.spent.writes, deploys));
    line("processor time a deploy", format!("{:.2} ms", report::millis(cost.spent.cpu) / deploys as f64));
    line("pods, from made to ready, median", format!("{:.1} s", cost.pods));
    line("releases, from begun to ended, median", format!("{:.1} s", cost.releases));
    line("what the control component adds, median", format!("{:.1} s", cost.releases - cost.pods));
    line("resident memory", format!("{:.1} MB", fleet.memory()));
}
