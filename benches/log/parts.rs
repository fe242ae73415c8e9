//! The parts of the bench, each with servers of its own.

use crate::Options;
use crate::bed::{Kafka, Tidegate};
use crate::client::Load;
use crate::mock::Mock;
use crate::report::{heading, row, target, title};
use crate::subject::{Figures, ROUTES, Subject, alternate, offsets, redis, tidegate};
use crate::system::{self, Pinning};
use std::time::Instant;

/// Most of Tidegate's processor time a record, as a part of redis-server's.
pub(crate) const RATIOS: [(usize, f64); 3] = [(64, 0.6), (16, 0.75), (1, 1.0)];
/// The 99th percentile at half of the greatest load, in ms.
const HALF_LOAD_P99: f64 = 15.0;
/// The median of one connection that waits for each reply, in ms.
const LONE_P50: f64 = 0.5;
/// Resident memory in MB: idle, and under load: the default budget of 256 MiB and 64 MB.
const IDLE_MEMORY: f64 = 25.0;
pub(crate) const PEAK_MEMORY: f64 = 332.4;
/// Connections of the table.
const CONNECTIONS: [usize; 4] = [1, 10, 50, 1000];
/// The dearest of 1 … 1000 connections over the cheapest, at one pipeline depth.
const SPREAD: f64 = 1.2;

/// Records of a run: enough for most of a second at the usual speeds, and not more than redis-server's list may hold.
pub(crate) fn load(connections: usize, pipeline: usize, options: &Options) -> Load {
    let records = match (connections, pipeline) {
        (1, 1) => 8_000,
        (1, _) => 4_000 * pipeline,
        (_, 1) => 80_000,
        (_, 2..64) => 240_000,
        (_, _) => 400_000,
    };
    let least = 4 * connections * pipeline;
    let records = if options.quick { (records / 10).max(least) } else { records };
    Load { connections, pipeline, records, rate: None }
}

pub(crate) fn mock() -> Mock {
    Mock::start(&ROUTES.map(|route| (route.topic, route.partitions)))
}

/// Fresh processes pay once for memory and for finding their leaders.
pub(crate) fn warm_up(subjects: &[Subject<'_>]) {
    let load = Load { connections: 50, pipeline: 16, records: 20_000, rate: None };
    for subject in subjects {
        subject.measure(load);
    }
}

/// 50 connections into the mock cluster, beside redis-server; then at half load; memory.
pub(crate) fn core(options: &Options, pinning: Pinning) {
    let mock = mock();
    let kafka = offsets(mock.bootstrap());
    let mut redis = redis(pinning);
    let started = Instant::now();
    let plain = tidegate(mock.bootstrap(), "none", 1, pinning);
    let start_up = started.elapsed();
    let (idle, _) = system::memory(plain.pid());
    let lz4 = tidegate(mock.bootstrap(), "lz4", 1, pinning);
    let subjects = [
        Subject::redis(&mut redis),
        Subject::tidegate("tidegate, 1 partition", &plain, &kafka, 0),
        Subject::tidegate("tidegate, 4 partitions", &plain, &kafka, 1),
        Subject::tidegate("tidegate, 1 partition, lz4", &lz4, &kafka, 0),
        Subject::tidegate("tidegate, 1 partition, enqueue", &plain, &kafka, 2),
    ];
    warm_up(&subjects);
    let mut greatest = Vec::new();
    for (pipeline, most) in RATIOS.into_iter().filter(|(pipeline, _)| options.wants(*pipeline)) {
        title(format!("mock cluster, 50 connections, pipeline {pipeline}"));
        let figures = alternate(&subjects, load(50, pipeline, options), options.rounds());
        greatest.push((pipeline, figures[1].rate));
        comparison(&subjects, &figures, |index, ratio| match index {
            1 | 2 => target(ratio, most),
            _ => String::new(),
        });
    }
    title("mock cluster, 50 connections, half of the greatest load of each pipeline depth, sent at a fixed rate");
    heading("pipeline");
    let seconds = if options.quick { 1.0 } else { 3.0 };
    for (pipeline, rate) in greatest {
        let rate = rate / 2.0;
        let half = Load { connections: 50, pipeline, records: (rate * seconds) as usize, rate: Some(rate) };
        let reference = subjects[0].measure(Load { records: half.records.min(400_000), ..half });
        let figures = alternate(&subjects[1..2], half, options.rounds());
        let remark = format!("p99: {}", target(figures[0].p99, HALF_LOAD_P99));
        row(&pipeline.to_string(), &figures[0], reference.cpu, &remark);
    }
    title("process");
    let (_, peak) = system::memory(plain.pid());
    println!("start-up, to a 200 of /readyz/log   {:.0} ms", start_up.as_secs_f64() * 1e3);
    println!("resident memory, idle               {idle:.1} MB  {}", target(idle, IDLE_MEMORY));
    println!("resident memory, peak of this part  {peak:.1} MB  {}", target(peak, PEAK_MEMORY));
}

/// Real Kafka. Broker, its disk and client share a core, so that throughput says little; the cost is ours.
pub(crate) fn kafka(options: &Options, pinning: Pinning) {
    let broker = Kafka::start();
    for route in &ROUTES {
        broker.create_topic(route.topic, route.partitions, 1, &[]);
    }
    let bootstrap = broker.bootstrap();
    let kafka = offsets(&bootstrap);
    let mut redis = redis(pinning);
    let plain = tidegate(&bootstrap, "none", 1, pinning);
    let lz4 = tidegate(&bootstrap, "lz4", 1, pinning);
    let subjects = [
        Subject::redis(&mut redis),
        Subject::tidegate("tidegate, 1 partition", &plain, &kafka, 0),
        Subject::tidegate("tidegate, 4 partitions", &plain, &kafka, 1),
        Subject::tidegate("tidegate, 1 partition, lz4", &lz4, &kafka, 0),
    ];
    warm_up(&subjects);
    for (pipeline, _) in RATIOS.into_iter().filter(|(pipeline, _)| options.wants(*pipeline)) {
        title(format!("real Kafka (one broker), 50 connections, pipeline {pipeline}"));
        let load = load(50, pipeline, options);
        let figures = alternate(&subjects, Load { records: load.records / 2, ..load }, options.rounds());
        comparison(&subjects, &figures, |_, _| String::new());
    }
    title("real Kafka, one connection that waits for each reply");
    heading("");
    let lone = alternate(&subjects[..2], Load { records: 2_000, ..load(1, 1, options) }, 1);
    row(&subjects[1].name, &lone[1], lone[0].cpu, "");
}

/// Connections × pipeline: what the adaptive linger makes of each.
pub(crate) fn table(options: &Options, pinning: Pinning) {
    let mock = mock();
    let kafka = offsets(mock.bootstrap());
    let mut redis = redis(pinning);
    let one = tidegate(mock.bootstrap(), "none", 1, pinning);
    let subjects = [Subject::redis(&mut redis), Subject::tidegate("tidegate", &one, &kafka, 0)];
    warm_up(&subjects);
    title("adaptive linger: tidegate into the mock cluster, 1 partition; ratio to redis-server at the same load");
    heading("connections × pipeline");
    for (pipeline, _) in RATIOS.into_iter().rev().filter(|(pipeline, _)| options.wants(*pipeline)) {
        let mut costs = [Vec::new(), Vec::new()];
        for connections in CONNECTIONS.into_iter().filter(|connections| options.wants_connections(*connections)) {
            let figures = alternate(&subjects, load(connections, pipeline, options), options.rounds());
            let remark = match (connections, pipeline) {
                (1, 1) => format!("p50: {}", target(figures[1].p50, LONE_P50)),
                _ => String::new(),
            };
            row(&format!("{connections:>4} × {pipeline:<2}"), &figures[1], figures[0].cpu, &remark);
            costs.iter_mut().zip(&figures).for_each(|(costs, figures)| costs.push(figures.cpu));
        }
        if costs[1].len() < CONNECTIONS.len() {
            continue;
        }
        println!(
            "     dearest ÷ cheapest a record {:.2}  {} (from 10 connections on {:.2}, from 50 on {:.2}; redis-server {:.2})",
            spread(&costs[1]),
            target(spread(&costs[1]), SPREAD),
            spread(&costs[1][1..]),
            spread(&costs[1][2..]),
            spread(&costs[0]),
        );
    }
    let (_, peak) = system::memory(one.pid());
    println!("\nresident memory, peak of this part  {peak:.1} MB  {}", target(peak, PEAK_MEMORY));
    if options.connections.is_none() {
        let two = tidegate(mock.bootstrap(), "none", 2, pinning);
        few_connections(options, &one, &two, &kafka);
    }
}

/// The greatest over the least.
fn spread(costs: &[f64]) -> f64 {
    costs.iter().copied().fold(0.0, f64::max) / costs.iter().copied().fold(f64::MAX, f64::min)
}

/// Long-lived connections that are few: whether they spread over the threads.
fn few_connections(options: &Options, one: &Tidegate, two: &Tidegate, kafka: &rdkafka::consumer::BaseConsumer) {
    title("8 connections, 1 and 2 threads (the second has both cores, shared with client and mock cluster)");
    heading("threads × pipeline");
    for (pipeline, _) in RATIOS.into_iter().rev().filter(|(pipeline, _)| options.wants(*pipeline)) {
        let subjects = [Subject::tidegate("1", one, kafka, 0), Subject::tidegate("2", two, kafka, 0)];
        let before = system::cpu_by_thread(two.pid());
        let figures = alternate(&subjects, load(8, pipeline, options), options.rounds());
        for (subject, figures_of) in subjects.iter().zip(&figures) {
            row(&format!("{:>4} × {pipeline:<2}", subject.name), figures_of, figures[0].cpu, "(ratio: to 1 thread)");
        }
        let shares: Vec<String> = system::cpu_by_thread(two.pid())
            .into_iter()
            .map(|(name, time)| (time - before.get(&name).copied().unwrap_or_default(), name))
            .filter(|(time, _)| time.as_millis() > 0)
            .map(|(time, name)| format!("{name} {} ms", time.as_millis()))
            .collect();
        println!("     CPU by thread: {}", shares.join(", "));
    }
}

/// One pipeline depth: all subjects beside the first.
pub(crate) fn comparison(subjects: &[Subject<'_>], figures: &[Figures], remark: impl Fn(usize, f64) -> String) {
    heading("");
    for (index, (subject, figures_of)) in subjects.iter().zip(figures).enumerate() {
        let reference = figures[0].cpu;
        row(&subject.name, figures_of, reference, &remark(index, figures_of.cpu / reference));
    }
}
