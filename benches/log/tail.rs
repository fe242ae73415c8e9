//! What those who follow records live cost those who push: pairs of runs, without and with them, at half of the greatest load.

use crate::Options;
use crate::client::Load;
use crate::follow::Followers;
use crate::mock::Mock;
use crate::report::{heading, row, target, title};
use crate::subject::{Figures, ROUTES, Subject, offsets, tidegate};
use crate::system::{self, Pinning};

/// Connections that follow the key that is pushed to, beside one that reads nothing.
const FOLLOWERS: usize = 1_000;
/// Pairs, unless told otherwise.
const PAIRS: usize = 5;
/// Most of the processor time a record, and of the 99th percentile, as a part of those without followers.
const CPU: f64 = 1.03;
const P99: f64 = 1.10;

pub(crate) fn tail(options: &Options, pinning: Pinning) {
    let mock = Mock::start(&ROUTES.map(|route| (route.topic, route.partitions)));
    let kafka = offsets(mock.bootstrap());
    let server = tidegate(mock.bootstrap(), "none", 1, pinning);
    let subject = Subject::tidegate("alone", &server, &kafka, 0);
    let most = Load { connections: 50, pipeline: 16, records: 240_000, rate: None };
    subject.measure(most);
    let rate = subject.measure(most).rate / 2.0;
    let seconds = if options.quick { 1.0 } else { 4.0 };
    let half = Load { records: (rate * seconds) as usize, rate: Some(rate), ..most };
    title(format!(
        "mock cluster, half of the greatest load, 50 connections, pipeline 16; {FOLLOWERS} followers and a stalled one"
    ));
    heading("");
    let (mut costs, mut tails) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds.unwrap_or(if options.quick { 1 } else { PAIRS }) {
        let alone = subject.measure(half);
        let followers = Followers::join(server.redis_addr(), ROUTES[0].topic, FOLLOWERS).unwrap();
        let followed = subject.measure(half);
        let read = followers.bytes();
        assert!(read > 0, "nobody was shown a record");
        drop(followers);
        show(&alone, &followed, read);
        costs.push(followed.cpu / alone.cpu);
        tails.push(followed.p99 / alone.p99);
    }
    let (cost, tail) = (median(&mut costs), median(&mut tails));
    println!("\nCPU a record, followed ÷ alone, median   {cost:.3}  {}", target(cost, CPU));
    println!("p99, followed ÷ alone, median            {tail:.3}  {}", target(tail, P99));
    println!("resident memory, peak of this part       {:.1} MB", system::memory(server.pid()).1);
}

fn show(alone: &Figures, followed: &Figures, read: u64) {
    row("alone", alone, alone.cpu, "(ratio: to alone)");
    row("followed", followed, alone.cpu, &format!("followers read {:.1} MB", read as f64 / 1e6));
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
