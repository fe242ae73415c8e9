//! The access log: one JSON object a request, handed to the log plane by a bounded queue. The gateway never waits for it: what
//! finds no room is dropped and counted.

use std::net::{IpAddr, SocketAddr};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hyper::header::{REFERER, USER_AGENT};
use hyper::http::request::Parts;
use hyper::{Uri, Version};
use serde::Serialize;

use super::trace;

/// What the log plane takes records from.
pub type Records = Receiver<Vec<u8>>;

/// Where the gateway puts them.
#[derive(Clone, Debug)]
pub(super) struct AccessLog {
    queue: SyncSender<Vec<u8>>,
}

/// What is kept of a request until it has ended.
#[derive(Debug)]
pub(super) struct Asked {
    at: SystemTime,
    client: IpAddr,
    method: String,
    host: String,
    uri: Uri,
    version: Version,
    user_agent: Option<String>,
    referer: Option<String>,
    trace: Option<String>,
}

/// How a request went.
#[derive(Debug)]
pub(super) struct Outcome<'a> {
    pub(super) peer: SocketAddr,
    pub(super) scheme: &'static str,
    pub(super) status: u16,
    pub(super) reason: Option<&'static str>,
    pub(super) route: &'a str,
    pub(super) pool: &'a str,
    pub(super) upstream: Option<SocketAddr>,
    pub(super) tries: u32,
    pub(super) received: u64,
    pub(super) sent: u64,
    pub(super) took: Duration,
}

#[derive(Serialize)]
struct Line<'a> {
    /// RFC 3339, in UTC.
    time: String,
    client: IpAddr,
    peer: SocketAddr,
    method: &'a str,
    scheme: &'static str,
    host: &'a str,
    path: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    query: Option<&'a str>,
    protocol: &'static str,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    route: &'a str,
    pool: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<SocketAddr>,
    tries: u32,
    received_bytes: u64,
    sent_bytes: u64,
    duration_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    referer: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<&'a str>,
}

/// A queue of so many records.
pub(super) fn queue(size: usize) -> (AccessLog, Records) {
    let (queue, records) = sync_channel(size);
    (AccessLog { queue }, records)
}

// === impl AccessLog ===

impl AccessLog {
    /// Says whether it found room.
    pub(super) fn put(&self, asked: &Asked, outcome: &Outcome<'_>) -> bool {
        self.queue.try_send(asked.line(outcome)).is_ok()
    }
}

// === impl Asked ===

impl Asked {
    pub(super) fn new(head: &Parts, host: &str, client: IpAddr) -> Self {
        let text = |name| head.headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        Self {
            at: SystemTime::now(),
            client,
            method: head.method.as_str().to_owned(),
            host: host.to_owned(),
            uri: head.uri.clone(),
            version: head.version,
            user_agent: text(USER_AGENT),
            referer: text(REFERER),
            trace: None,
        }
    }

    /// What could not be read as a request.
    pub(super) fn unread(client: IpAddr) -> Self {
        Self {
            at: SystemTime::now(),
            client,
            method: String::new(),
            host: String::new(),
            uri: Uri::default(),
            version: Version::HTTP_11,
            user_agent: None,
            referer: None,
            trace: None,
        }
    }

    /// The trace that it belongs to, once that is known.
    pub(super) fn traced(&mut self, head: &Parts) {
        self.trace = trace::id(&head.headers).map(str::to_owned);
    }

    fn line(&self, outcome: &Outcome<'_>) -> Vec<u8> {
        let since = self.at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let micros = i64::try_from(since.as_micros()).unwrap_or_default();
        let line = Line {
            time: jiff::Timestamp::from_microsecond(micros).unwrap_or_default().to_string(),
            client: self.client,
            peer: outcome.peer,
            method: &self.method,
            scheme: outcome.scheme,
            host: &self.host,
            path: self.uri.path(),
            query: self.uri.query(),
            protocol: protocol(self.version),
            status: outcome.status,
            reason: outcome.reason,
            route: outcome.route,
            pool: outcome.pool,
            upstream: outcome.upstream,
            tries: outcome.tries,
            received_bytes: outcome.received,
            sent_bytes: outcome.sent,
            duration_ms: (outcome.took.as_secs_f64() * 1e6).round() / 1e3,
            user_agent: self.user_agent.as_deref(),
            referer: self.referer.as_deref(),
            trace_id: self.trace.as_deref(),
        };
        // Texts and numbers: nothing in it can fail.
        serde_json::to_vec(&line).unwrap_or_default()
    }
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_10 => "HTTP/1.0",
        _ => "HTTP/1.1",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_drops_and_says_so() {
        let (log, records) = queue(1);
        let (head, ()) = hyper::Request::get("/a?b=c").header("user-agent", "x\"y").body(()).unwrap().into_parts();
        let asked = Asked::new(&head, "shop", "10.0.0.1".parse().unwrap());
        let outcome = Outcome {
            peer: "10.0.0.2:7".parse().unwrap(),
            scheme: "http",
            status: 502,
            reason: Some("reset"),
            route: "r",
            pool: "p",
            upstream: None,
            tries: 2,
            received: 3,
            sent: 4,
            took: Duration::from_micros(1_500),
        };
        assert!(log.put(&asked, &outcome));
        assert!(!log.put(&asked, &outcome));
        let line: serde_json::Value = serde_json::from_slice(&records.recv().unwrap()).unwrap();
        for (key, value) in [
            ("client", serde_json::json!("10.0.0.1")),
            ("path", "/a".into()),
            ("query", "b=c".into()),
            ("status", 502.into()),
            ("reason", "reset".into()),
            ("duration_ms", 1.5.into()),
            ("user_agent", "x\"y".into()),
        ] {
            assert_eq!(line[key], value, "{key}");
        }
        assert!(line.get("upstream").is_none());
    }
}
