//! h2load, and what it says.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use crate::backend::{LARGE, MESSAGE, SMALL};
use crate::bed::WorkDir;

/// Connections of every load.
pub(crate) const CONNECTIONS: usize = 64;

/// A kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    SmallGet,
    LargeGet,
    LargePost,
    Tls,
    Http2,
    Grpc,
}

/// How fast requests are sent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// As fast as they are answered.
    Full,
    /// At so many a second. Each connection keeps its own time; all begin at once, so that h2load sends a request of each
    /// connection in the same moment, and nothing until the next.
    InStep(f64),
    /// The same rate, of connections that begin one after the other: requests come one by one, as from clients that know nothing of
    /// each other.
    Apart(f64),
}

/// What a run of h2load found.
pub(crate) struct Outcome {
    pub(crate) requests: u64,
    pub(crate) elapsed: Duration,
    /// In µs, sorted.
    pub(crate) latencies: Vec<u32>,
    /// Requests that were under way when one began, itself included; the median of all.
    pub(crate) under_way: usize,
}

// === impl Kind ===

impl Kind {
    pub(crate) const ALL: [Self; 6] =
        [Self::SmallGet, Self::LargeGet, Self::LargePost, Self::Tls, Self::Http2, Self::Grpc];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::SmallGet => "small GET",
            Self::LargeGet => "GET of 16 KiB",
            Self::LargePost => "POST of 16 KiB",
            Self::Tls => "small GET over TLS",
            Self::Http2 => "small GET, HTTP/2, 8 streams a connection",
            Self::Grpc => "gRPC unary, 8 streams a connection",
        }
    }

    /// Most of Tidegate's processor time a request, as a part of nginx's.
    pub(crate) fn most(self) -> f64 {
        if self == Self::SmallGet { 1.0 } else { 1.1 }
    }

    fn answer(self) -> usize {
        match self {
            Self::LargeGet => LARGE,
            Self::Grpc => MESSAGE,
            Self::SmallGet | Self::LargePost | Self::Tls | Self::Http2 => SMALL,
        }
    }

    fn streams(self) -> usize {
        if matches!(self, Self::Http2 | Self::Grpc) { 8 } else { 1 }
    }
}

/// Sends so many requests of a kind at this pace. Ends the bench if any is not answered whole and with success.
pub(crate) fn run(kind: Kind, address: SocketAddr, requests: usize, pace: Pace) -> Outcome {
    let files = WorkDir::new("load");
    let log = files.path().join("requests");
    // Each connection sends as many as the others.
    let requests = requests.div_ceil(CONNECTIONS) * CONNECTIONS;
    let mut command = Command::new("h2load");
    command.args(["-t1", &format!("-c{CONNECTIONS}"), &format!("-n{requests}"), &format!("-m{}", kind.streams())]);
    command.arg(format!("--log-file={}", log.display()));
    if let Pace::InStep(rate) | Pace::Apart(rate) = pace {
        command.arg(format!("--rps={}", (rate / CONNECTIONS as f64).max(1.0)));
    }
    if matches!(pace, Pace::Apart(_)) {
        command.args(["--rate=1", "--rate-period=1ms"]);
    }
    let (scheme, path) = match kind {
        Kind::SmallGet => ("http", "/small"),
        Kind::LargeGet => ("http", "/large"),
        Kind::LargePost => ("http", "/small"),
        Kind::Tls => ("https", "/small"),
        Kind::Http2 => ("http", "/small"),
        Kind::Grpc => ("http", "/bench.Echo/Unary"),
    };
    match kind {
        Kind::SmallGet | Kind::LargeGet | Kind::Tls => {
            command.arg("--h1");
        }
        Kind::LargePost => {
            let body = files.write("body", vec![b'y'; LARGE]);
            command.args(["--h1", "-d"]).arg(body);
        }
        Kind::Http2 => {}
        Kind::Grpc => {
            let mut message = vec![b'y'; MESSAGE];
            message[..5].copy_from_slice(&[0, 0, 0, 0, (MESSAGE - 5) as u8]);
            let body = files.write("body", message);
            command.args(["-H", "content-type: application/grpc", "-H", "te: trailers", "-d"]).arg(body);
        }
    }
    let output = command.arg(format!("{scheme}://{address}{path}")).output().expect("h2load starts");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let good = format!("{requests} done, {requests} succeeded, 0 failed, 0 errored, 0 timeout");
    assert!(said.contains(&good) && said.contains(&format!("status codes: {requests} 2xx")), "{kind:?}: {said}");
    assert!(body_bytes(&said) >= (requests * kind.answer()) as u64, "{kind:?}: bodies are missing: {said}");
    let log = fs::read_to_string(&log).expect("h2load's log");
    let lines: Vec<(u64, u32)> = log
        .lines()
        .map(|line| {
            let mut fields = line.split('\t');
            let started = fields.next().and_then(|field| field.parse().ok()).expect("a time");
            (started, fields.nth(1).and_then(|field| field.parse().ok()).expect("a duration"))
        })
        .collect();
    assert_eq!(lines.len(), requests, "lines of h2load's log");
    let first = lines.iter().map(|(started, _)| *started).min().unwrap_or_default();
    let last = lines.iter().map(|(started, took)| started + u64::from(*took)).max().unwrap_or_default();
    let under_way = under_way(&lines);
    let mut latencies: Vec<u32> = lines.into_iter().map(|(_, took)| took).collect();
    latencies.sort_unstable();
    Outcome { requests: requests as u64, elapsed: Duration::from_micros(last - first), latencies, under_way }
}

/// The median of how many are under way whenever one begins, of requests by when they began and how long they took.
fn under_way(lines: &[(u64, u32)]) -> usize {
    let mut begun: Vec<u64> = lines.iter().map(|(started, _)| *started).collect();
    let mut ended: Vec<u64> = lines.iter().map(|(started, took)| started + u64::from(*took)).collect();
    begun.sort_unstable();
    ended.sort_unstable();
    let before = |at: u64| ended.partition_point(|end| *end <= at);
    let mut counts: Vec<usize> = (1..).zip(&begun).map(|(number, at)| number - before(*at).min(number)).collect();
    let middle = counts.len() / 2;
    *counts.select_nth_unstable(middle).1
}

/// The bytes of bodies, from the line of traffic.
fn body_bytes(said: &str) -> u64 {
    let line = said.lines().find(|line| line.starts_with("traffic:")).unwrap_or_default();
    let last = line.rsplit('(').next().unwrap_or_default();
    last.split(')').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}
