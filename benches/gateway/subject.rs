//! One gateway under test, and one measurement of it.

use std::net::SocketAddr;

use crate::load::{self, Kind, Outcome, Pace};
use crate::system;

/// A running gateway.
#[derive(Clone, Copy)]
pub(crate) struct Subject {
    pub(crate) name: &'static str,
    pub(crate) pid: u32,
    pub(crate) plain: SocketAddr,
    pub(crate) tls: SocketAddr,
    /// HTTP/2 by prior knowledge, and gRPC.
    pub(crate) http2: SocketAddr,
}

/// What one run found, or the median of several. Times in ms, CPU in µs a request.
#[derive(Clone, Copy)]
pub(crate) struct Figures {
    pub(crate) rate: f64,
    pub(crate) cpu: f64,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    /// Requests under way when one began.
    pub(crate) under_way: f64,
}

// === impl Subject ===

impl Subject {
    /// One run.
    pub(crate) fn measure(&self, kind: Kind, requests: usize, pace: Pace) -> Figures {
        let address = match kind {
            Kind::SmallGet | Kind::LargeGet | Kind::LargePost => self.plain,
            Kind::Tls => self.tls,
            Kind::Http2 | Kind::Grpc => self.http2,
        };
        let before = system::cpu_time(self.pid);
        let Outcome { requests, elapsed, latencies, under_way } = load::run(kind, address, requests, pace);
        let cpu = system::cpu_time(self.pid) - before;
        let quantile = |share: f64| {
            let at = ((latencies.len() as f64 * share).ceil() as usize).clamp(1, latencies.len()) - 1;
            f64::from(latencies[at]) / 1e3
        };
        Figures {
            rate: requests as f64 / elapsed.as_secs_f64(),
            cpu: cpu.as_secs_f64() * 1e6 / requests as f64,
            p50: quantile(0.5),
            p99: quantile(0.99),
            p999: quantile(0.999),
            under_way: under_way as f64,
        }
    }
}

/// Measures all subjects in turn, A B A B, and gives the median of each figure for each.
pub(crate) fn alternate(
    subjects: &[Subject],
    rounds: usize,
    measure: impl Fn(usize, &Subject) -> Figures,
) -> Vec<Figures> {
    let mut runs: Vec<Vec<Figures>> = subjects.iter().map(|_| Vec::new()).collect();
    for _ in 0..rounds {
        for (at, (subject, runs)) in subjects.iter().zip(&mut runs).enumerate() {
            runs.push(measure(at, subject));
        }
    }
    runs.iter().map(|runs| Figures::median(runs)).collect()
}

// === impl Figures ===

impl Figures {
    fn median(runs: &[Self]) -> Self {
        let of = |figure: fn(&Self) -> f64| {
            let mut values: Vec<f64> = runs.iter().map(figure).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        Self {
            rate: of(|run| run.rate),
            cpu: of(|run| run.cpu),
            p50: of(|run| run.p50),
            p99: of(|run| run.p99),
            p999: of(|run| run.p999),
            under_way: of(|run| run.under_way),
        }
    }
}
