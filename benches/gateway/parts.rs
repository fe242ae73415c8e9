//! The parts of the bench, over the same running subjects.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::backend::Backend;
use crate::bed::poll;
use crate::load::{Kind, Pace};
use crate::peers::Field;
use crate::report::{heading, row, target, title};
use crate::services::Services;
use crate::simulator::Simulator;
use crate::subject::{Figures, Subject, alternate};
use crate::system::{self, Pinning};
use crate::{Options, Part, idle};

/// The 99th percentile beside that of the best peer.
const MOST_P99: f64 = 1.1;
/// How long a run at half load takes: the 99th percentile is of some 500 requests.
const LATENCY_SECONDS: f64 = 5.0;
const IDLE_CONNECTIONS: usize = 10_000;
const SWAP_EVERY: Duration = Duration::from_millis(100);

/// Requests of a run: most of a second at the usual speeds.
fn requests(kind: Kind, options: &Options) -> usize {
    let requests = match kind {
        Kind::SmallGet | Kind::Tls => 40_000,
        Kind::LargeGet | Kind::LargePost => 25_000,
        Kind::Http2 | Kind::Grpc => 30_000,
    };
    if options.quick { requests / 10 } else { requests }
}

pub(crate) fn run(options: &Options, pinning: Pinning) {
    let backend = Backend::start();
    let services = Services::new(backend.http, backend.grpc);
    let simulator = Simulator::start(&services);
    let field = Field::start(options, pinning, &backend, &simulator);
    let subjects = field.subjects();
    let mut greatest = Vec::new();
    if options.wants(Part::Cost) || options.wants(Part::Latency) {
        greatest = cost(options, subjects);
        if let Some(telling) = field.telling() {
            same_fields(options, telling, subjects);
        }
    }
    if options.wants(Part::Latency) {
        latency(options, subjects, &greatest);
    }
    if options.wants(Part::Swap) {
        swap(options, subjects, &services, &simulator);
    }
    if options.wants(Part::Idle) {
        memory(options, subjects);
    }
}

/// nginx's processor time; where it is left out there is no ratio.
fn reference(subjects: &[Subject], figures: &[Figures]) -> f64 {
    subjects.iter().position(|subject| subject.name == "nginx").map_or(f64::NAN, |at| figures[at].cpu)
}

/// Each kind as fast as it goes; what each subject can do at most of each kind.
fn cost(options: &Options, subjects: &[Subject]) -> Vec<(Kind, Vec<f64>)> {
    let mut greatest = Vec::new();
    for kind in Kind::ALL {
        title(format!("{}, as fast as it goes", kind.name()));
        // Fresh processes pay once for memory and connections.
        for subject in subjects {
            subject.measure(kind, requests(kind, options) / 5, Pace::Full);
        }
        let figures = alternate(subjects, options.rounds(), |_, subject| {
            subject.measure(kind, requests(kind, options), Pace::Full)
        });
        let nginx = reference(subjects, &figures);
        heading();
        for (subject, figures) in subjects.iter().zip(&figures) {
            let remark = match subject.name {
                "tidegate" if !nginx.is_nan() => target(figures.cpu / nginx, kind.most()),
                _ => String::new(),
            };
            row(subject.name, figures, nginx, &remark);
        }
        greatest.push((kind, figures.iter().map(|figures| figures.rate).collect()));
    }
    greatest
}

/// Beside an nginx that sends the back end the fields that Tidegate sends, which it does not by itself.
fn same_fields(options: &Options, telling: Subject, subjects: &[Subject]) {
    let kind = Kind::SmallGet;
    let both: Vec<Subject> =
        [telling].into_iter().chain(subjects.iter().filter(|subject| subject.name == "tidegate").copied()).collect();
    title("small GET, as fast as it goes, where nginx tells the back end who asks as Tidegate does (no target)");
    for subject in &both {
        subject.measure(kind, requests(kind, options) / 5, Pace::Full);
    }
    let figures =
        alternate(&both, options.rounds(), |_, subject| subject.measure(kind, requests(kind, options), Pace::Full));
    heading();
    for (subject, measured) in both.iter().zip(&figures) {
        row(subject.name, measured, figures[0].cpu, "");
    }
}

/// Everybody at half of what the slowest can do, so that latencies are of the same load; with requests that come in step, and with
/// requests that come one by one.
fn latency(options: &Options, subjects: &[Subject], greatest: &[(Kind, Vec<f64>)]) {
    for (kind, rates) in greatest {
        let rate = rates.iter().copied().fold(f64::INFINITY, f64::min) / 2.0;
        let count = ((rate * if options.quick { 0.5 } else { LATENCY_SECONDS }) as usize).max(1_000);
        for (how, pace) in [("in step", Pace::InStep(rate)), ("one by one", Pace::Apart(rate))] {
            title(format!("{}, {rate:.0} a second, {how}: half of what the slowest can do", kind.name()));
            let figures = alternate(subjects, options.rounds(), |_, subject| subject.measure(*kind, count, pace));
            latency_rows(subjects, &figures);
        }
    }
}

fn latency_rows(subjects: &[Subject], figures: &[Figures]) {
    let nginx = reference(subjects, figures);
    let peers = subjects.iter().zip(figures).filter(|(subject, _)| subject.name != "tidegate");
    let best = peers.map(|(_, figures)| figures.p99).fold(f64::INFINITY, f64::min);
    heading();
    for (subject, figures) in subjects.iter().zip(figures) {
        let remark = match subject.name {
            "tidegate" if best.is_finite() => {
                format!("p99 ÷ best peer's {:.2}, {}", figures.p99 / best, target(figures.p99 / best, MOST_P99))
            }
            _ => String::new(),
        };
        row(subject.name, figures, nginx, &remark);
    }
}

/// Tidegate's pools change all the time; the others stand still, as they cannot follow without a reload or an agent.
fn swap(options: &Options, subjects: &[Subject], services: &Services, simulator: &Simulator) {
    let kind = Kind::SmallGet;
    title("small GET while Tidegate's pools change ten times a second (the others' do not)");
    // Several seconds, so that there are several tens of changes.
    let count = requests(kind, options) * 4;
    let turns = AtomicUsize::new(0);
    let figures = alternate(subjects, options.rounds(), |_, subject| {
        if subject.name != "tidegate" {
            return subject.measure(kind, count, Pace::Full);
        }
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut next = Instant::now();
                while !over.load(Ordering::Relaxed) {
                    let turn = turns.fetch_add(1, Ordering::Relaxed);
                    for number in 0..2 {
                        let mut service = services.get(number);
                        service.swap(turn);
                        simulator.write(number, &service);
                    }
                    next += SWAP_EVERY;
                    let _ = poll(Duration::from_secs(1), || (Instant::now() >= next).then_some(()));
                }
                for number in 0..2 {
                    let mut service = services.get(number);
                    service.restore();
                    simulator.write(number, &service);
                }
            });
            let figures = subject.measure(kind, count, Pace::Full);
            over.store(true, Ordering::Relaxed);
            figures
        })
    });
    let nginx = reference(subjects, &figures);
    heading();
    for (subject, figures) in subjects.iter().zip(&figures) {
        let remark = match subject.name {
            "tidegate" if !nginx.is_nan() => target(figures.cpu / nginx, Kind::SmallGet.most()),
            _ => String::new(),
        };
        row(subject.name, figures, nginx, &remark);
    }
    println!("{} changes of each pool", turns.load(Ordering::Relaxed));
}

fn memory(options: &Options, subjects: &[Subject]) {
    let connections = if options.quick { IDLE_CONNECTIONS / 10 } else { IDLE_CONNECTIONS };
    title(format!("resident memory with {connections} idle keep-alive connections"));
    println!("{:<28} {:>10} {:>10} {:>16}", "", "before MB", "with MB", "KiB a connection");
    for subject in subjects {
        let (before, _) = system::memory(subject.pid);
        let held = idle::hold(subject.plain, connections);
        let (with, _) = system::memory(subject.pid);
        drop(held);
        println!(
            "{:<28} {before:>10.1} {with:>10.1} {:>16.2}",
            subject.name,
            (with - before) * 1e6 / 1024.0 / connections as f64
        );
    }
}
