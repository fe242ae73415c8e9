//! What the gateway is told: listeners, routes, limits. All of it is checked when it is made, so that serving cannot fail on it.

mod action;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use hyper::header::{HeaderName, HeaderValue};
use regex::Regex;

pub use self::action::{Action, Fallback, Forward, Mirror, Redirect, Respond, Retries, Rewrite, Target, Timeouts};
use super::framing::HeadLimits;
use super::tls::ServerTls;
use super::trust::Networks;
use crate::endpoints::pool::PoolId;

/// The `[gateway]` section without its pools, which are the upstream stage's.
#[derive(Clone, Debug)]
pub struct GatewayConfig {
    /// Threads that serve, each with a runtime of its own; at least 1.
    pub threads: usize,
    /// Each thread stays on a processor of its own, where there are as many.
    pub pin_threads: bool,
    /// How long a graceful end may take.
    pub shutdown_timeout: Duration,
    /// Where clients connect; at least one.
    pub listeners: Vec<ListenerConfig>,
    /// Whether requests are told to the access log, and which.
    pub access_log: Option<AccessLogConfig>,
    /// What a reload may change.
    pub policy: Policy,
}

/// What a reload may change.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Routes in the order of the file.
    pub routes: Vec<RouteConfig>,
    /// Bounds of connections and heads.
    pub limits: Limits,
    /// Proxies whose word about clients counts.
    pub trusted_proxies: Networks,
    /// What the gateway calls itself in `Via`; `None`: it does not.
    pub via: Option<Via>,
    /// Whether requests begin a trace where they carry none.
    pub start_traces: bool,
}

/// The members of `Via`, by the version in which a message came.
#[derive(Clone, Debug)]
pub struct Via {
    http10: HeaderValue,
    http11: HeaderValue,
    http2: HeaderValue,
}

/// One address.
#[derive(Clone, Debug)]
pub struct ListenerConfig {
    /// Where; port 0 is any free one.
    pub listen: SocketAddr,
    /// Its certificates, beside those of a cluster; `None`: no TLS.
    pub tls: Option<ServerTls>,
    /// Each connection begins with a header of the PROXY protocol.
    pub proxy_protocol: bool,
    /// HTTP/2 is spoken: by ALPN with TLS, by prior knowledge without.
    pub http2: bool,
}

/// Bounds of connections.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at once, all listeners together.
    pub connections: usize,
    /// For a request's head, from its first byte; for TLS and the PROXY protocol as well.
    pub head_timeout: Duration,
    /// A connection without a request is closed after this.
    pub idle_timeout: Duration,
    /// Of heads.
    pub head: HeadLimits,
    /// Requests at once on one connection of HTTP/2.
    pub http2_streams: u32,
}

/// Which records of requests go to the log plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLogConfig {
    /// The key under which they are routed, as if they were pushed to it.
    pub key: String,
    /// Records that wait at most; what comes above is dropped and counted.
    pub queue: usize,
    /// Only requests that were no success.
    pub failures_only: bool,
}

/// One route.
#[derive(Clone, Debug)]
pub struct RouteConfig {
    /// Its name in metrics and logs.
    pub name: Arc<str>,
    /// Which requests it takes.
    pub matches: Matches,
    /// What becomes of them.
    pub action: Action,
    /// Changes of the request's fields on their way to a pool.
    pub request_headers: HeaderEdits,
    /// Changes of the answer's fields.
    pub response_headers: HeaderEdits,
    /// Which pages of other origins may ask.
    pub cors: Option<CorsConfig>,
    /// How many requests are taken.
    pub rate_limit: Option<RateLimit>,
}

/// What a request must be.
#[derive(Clone, Debug, Default)]
pub struct Matches {
    /// Its host.
    pub host: HostPattern,
    /// Its path, percent-encoding as it was sent.
    pub path: PathPattern,
    /// One of these; empty: any.
    pub methods: Vec<Method>,
    /// All of these.
    pub fields: Vec<FieldMatch>,
    /// It came to a listener on one of these ports; empty: any.
    pub ports: Vec<u16>,
}

/// Lower case, without a port.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum HostPattern {
    /// Any, and none.
    #[default]
    Any,
    /// This one.
    Exact(String),
    /// Those that end with this, which begins with a dot, and have something before it.
    Suffix(String),
}

/// A path, without the query.
#[derive(Clone, Debug)]
pub enum PathPattern {
    /// It, or what is below it: `/a` takes `/a` and `/a/b`, not `/ab`; `/a/` takes what begins with it.
    Prefix(String),
    /// It alone.
    Exact(String),
    /// What the expression matches as a whole.
    Regex(Regex),
}

/// One field of a request and what it must be.
#[derive(Clone, Debug)]
pub struct FieldMatch {
    /// Which field.
    pub field: Field,
    /// What it must be.
    pub value: ValuePattern,
}

/// A place in a request that has a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field {
    /// A header; of several the first.
    Header(HeaderName),
    /// A cookie.
    Cookie(String),
    /// A parameter of the query, percent-encoding as it was sent.
    Query(String),
    /// The client's address.
    Client,
    /// The path.
    Path,
}

/// A text, or what it must look like.
#[derive(Clone, Debug)]
pub enum ValuePattern {
    /// There is one.
    Present,
    /// There is none.
    Absent,
    /// It.
    Exact(String),
    /// What the expression matches as a whole.
    Regex(Regex),
}

/// An expression that must match the whole of a text.
///
/// # Errors
/// It is none.
pub fn whole(text: &str) -> Result<Regex, regex::Error> {
    // By itself first: `a)|(b` would become one, and match less than the whole.
    Regex::new(text)?;
    Regex::new(&format!("^(?:{text})$"))
}

/// Whether a field says where a message ends, or is one connection's: no route may set it.
pub fn is_framing(name: &HeaderName) -> bool {
    ["connection", "content-length", "transfer-encoding", "upgrade", "te", "trailer"].contains(&name.as_str())
}

/// Changes of fields, in this order.
#[derive(Clone, Debug, Default)]
pub struct HeaderEdits {
    /// Taken away.
    pub remove: Vec<HeaderName>,
    /// In place of what is there.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Beside what is there.
    pub add: Vec<(HeaderName, HeaderValue)>,
}

/// Which pages of other origins may ask, as browsers enforce it.
#[derive(Clone, Debug)]
pub struct CorsConfig {
    /// `scheme://host[:port]`, the host as `*.name`, or `*` for any.
    pub allow_origins: Vec<String>,
    /// Of `Access-Control-Allow-Methods`.
    pub allow_methods: HeaderValue,
    /// Of `Access-Control-Allow-Headers`; `None`: those that are asked for.
    pub allow_headers: Option<HeaderValue>,
    /// Of `Access-Control-Expose-Headers`.
    pub expose_headers: Option<HeaderValue>,
    /// Cookies and the like are sent along.
    pub allow_credentials: bool,
    /// How long a browser remembers.
    pub max_age: Duration,
}

/// A limit of requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// In the long run; at least 1.
    pub requests_per_second: u64,
    /// At once; at least 1.
    pub burst: u64,
    /// What has a limit of its own; `None`: the route as a whole.
    pub per: Option<Field>,
}

// === impl PathPattern ===

impl Default for PathPattern {
    fn default() -> Self {
        Self::Prefix("/".to_owned())
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prefix(path) => write!(f, "{path}*"),
            Self::Exact(path) => f.write_str(path),
            Self::Regex(regex) => write!(f, "~{regex}"),
        }
    }
}

// === impl HostPattern ===

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Exact(host) => f.write_str(host),
            Self::Suffix(suffix) => write!(f, "*{suffix}"),
        }
    }
}

// === impl Via ===

impl Via {
    /// Of a name, a token; nothing where it is none.
    pub fn new(name: &str) -> Option<Self> {
        let value = |version: &str| HeaderValue::try_from(format!("{version} {name}")).ok();
        if name.is_empty() || name.contains([' ', ',']) {
            return None;
        }
        Some(Self { http10: value("1.0")?, http11: value("1.1")?, http2: value("2.0")? })
    }

    /// The member for a message that came in this version.
    pub(super) fn member(&self, version: hyper::Version) -> &HeaderValue {
        match version {
            hyper::Version::HTTP_2 => &self.http2,
            hyper::Version::HTTP_10 => &self.http10,
            _ => &self.http11,
        }
    }
}

// === impl Policy ===

impl Policy {
    /// Every pool that a route may send to.
    pub fn pools(&self) -> impl Iterator<Item = &PoolId> {
        self.routes.iter().flat_map(|route| {
            let forward = match &route.action {
                Action::Forward(forward) => Some(forward),
                Action::Redirect(_) | Action::Respond(_) => None,
            };
            forward.into_iter().flat_map(|forward| forward.pools())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_matches_the_whole_or_is_refused() {
        let regex = whole("a|bc").unwrap();
        assert!(regex.is_match("a") && regex.is_match("bc") && !regex.is_match("ac") && !regex.is_match("bcd"));
        for none in ["a)|(?:b", "(", "(?x) a # b"] {
            assert!(whole(none).is_err(), "{none}");
        }
    }
}
