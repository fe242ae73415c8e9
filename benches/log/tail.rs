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
const PAIRS: usize = 15;
/// The pieces of a run, and how long one is. A machine stands still for some milliseconds now and then, so that the 99th percentile
/// of a run of seconds says how often it did: with nobody following, those of two such runs are up to a hundred times apart.
/// That of the median piece says what most of the time is like, for both alike.
const PIECES: usize = 8;
const PIECE_SECONDS: f64 = 0.5;
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
    let half = Load { records: (rate * PIECE_SECONDS) as usize, rate: Some(rate), ..most };
    let pieces = if options.quick { 2 } else { PIECES };
    title(format!(
        "mock cluster, half of the greatest load, 50 connections, pipeline 16; {FOLLOWERS} followers and a stalled one, which take \
         what is left of the server's core; medians of {pieces} pieces of {PIECE_SECONDS} s"
    ));
    heading("");
    let (mut costs, mut tails, mut selves) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..options.rounds.unwrap_or(if options.quick { 1 } else { PAIRS }) {
        let alone: Vec<Figures> = (0..pieces).map(|_| subject.measure(half)).collect();
        let followers = Followers::join(server.redis_addr(), ROUTES[0].topic, FOLLOWERS, pinning).unwrap();
        let followed: Vec<Figures> = (0..pieces).map(|_| subject.measure(half)).collect();
        let read = followers.bytes();
        assert!(read > 0, "nobody was shown a record");
        drop(followers);
        let (first, second) = alone.split_at(pieces / 2);
        selves.push(Figures::median(second).p99 / Figures::median(first).p99);
        let (alone, followed) = (Figures::median(&alone), Figures::median(&followed));
        show(&alone, &followed, read);
        costs.push(followed.cpu / alone.cpu);
        tails.push(followed.p99 / alone.p99);
    }
    let (cost, tail) = (median(&mut costs), median(&mut tails));
    println!("\nCPU a record, followed ÷ alone, median   {cost:.3}  {}", target(cost, CPU));
    println!("p99, followed ÷ alone, median            {tail:.3}  {}", target(tail, P99));
    println!(
        "p99, second half of alone ÷ first        {:.3}  (what the measurement itself is off by)",
        median(&mut selves)
    );
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
