//! What a pool is run by. Every type has the defaults that a pool without a word about it gets.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use crate::endpoints::join::Member;
use crate::endpoints::pool::PoolId;

/// All pools that requests may go to.
#[derive(Clone, Debug, Default)]
pub struct UpstreamsConfig {
    /// By id. A pool that is not here costs nothing, however many the snapshot has.
    pub pools: BTreeMap<PoolId, PoolConfig>,
    /// How many threads send requests; at least 1.
    pub threads: usize,
    /// The zone of this instance.
    pub zone: Option<Arc<str>>,
}

/// One pool.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolConfig {
    /// The pools that it is joined from, with priorities that follow health as well as presence. Empty: it is the pool
    /// of its id, as the snapshot has it.
    pub members: Vec<Member>,
    /// Who gets a request.
    pub balancer: Balancer,
    /// Requests stay in this instance's zone as far as the endpoints there can carry its part of the traffic.
    pub zone_aware: bool,
    /// For how long an endpoint that is new gets less than its weight: a tenth at first, all of it at the end. `None`: it
    /// gets all at once. Endpoints that were there when this process first knew the pool are not new; a consistent hash
    /// knows no such thing, because keys would move all the time.
    pub slow_start: Option<Duration>,
    /// Below this part of endpoints in good health, health is not looked at: too much out at once is a fault of the
    /// checks, or all the others would be overrun. 0: never, so that requests fail where nobody is in good health.
    pub panic_threshold_percent: u32,
    /// How much at once.
    pub limits: Limits,
    /// How many retries.
    pub retry_budget: RetryBudget,
    /// Questions to each endpoint about its health.
    pub health_check: Option<HealthCheck>,
    /// Conclusions from the answers to requests.
    pub outlier: Option<OutlierConfig>,
    /// How endpoints are spoken to.
    pub connection: ConnectionConfig,
}

/// Who gets a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Balancer {
    /// One after the other, by weight.
    #[default]
    RoundRobin,
    /// Of two by weight, the one with fewer requests in flight for its weight.
    LeastRequest,
    /// Of two by weight, the one that should answer first: recent latency, peaks kept, times requests in flight.
    PeakEwma,
    /// The same key goes to the same endpoint; a request without a key goes by weight.
    ConsistentHash,
}

/// How much at once; a request above is refused at once, because a queue would only make it late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections, idle ones included.
    pub max_connections: Option<u32>,
    /// Requests that wait for a connection.
    pub max_pending: u32,
    /// Requests in flight.
    pub max_requests: Option<u32>,
    /// Retries in flight.
    pub max_retries: Option<u32>,
    /// Requests in flight, as many as are answered in time.
    pub adaptive: Option<Adaptive>,
}

/// A limit of requests in flight that finds itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Adaptive {
    /// Never below; at least 1.
    pub min: u32,
    /// Never above, and what it begins with; at most a million.
    pub max: u32,
    /// An answer that takes longer says that there are too many.
    pub latency: Duration,
}

/// Retries in flight beside the requests in flight, so that a pool that fails is not hit by several times its load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryBudget {
    /// Part of the requests in flight.
    pub percent: u32,
    /// So many may always be.
    pub min_concurrent: u32,
}

/// Active checks of each endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// What is asked.
    pub kind: CheckKind,
    /// Between two checks; each wait is a random part of it more or less, at most a tenth.
    pub interval: Duration,
    /// For one check, the connection included.
    pub timeout: Duration,
    /// So many good ones in a row bring it back.
    pub rise: u32,
    /// So many bad ones in a row take it out.
    pub fall: u32,
    /// Another port than the endpoint's.
    pub port: Option<u16>,
}

/// What a check asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckKind {
    /// `GET` of a path; good is a status in the range, both ends included.
    Http {
        /// The path, with its query.
        path: String,
        /// The `Host` header; the endpoint's address and port where `None`.
        host: Option<String>,
        /// The good answers.
        expected: (u16, u16),
    },
    /// A connection, with TLS where the pool has it.
    Tcp,
    /// `grpc.health.v1.Health/Check` of a service; good is `SERVING`.
    Grpc {
        /// The service; empty for the server as a whole.
        service: String,
    },
}

/// Passive ejection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OutlierConfig {
    /// So many answers of 500 and above in a row, failures included; 0 never ejects for it.
    pub consecutive_5xx: u32,
    /// So many failures in a row: no connection, no answer, or one of 502, 503, 504; 0 never ejects for it.
    pub consecutive_gateway_failures: u32,
    /// Success rates far below those of the others.
    pub success_rate: Option<SuccessRate>,
    /// How often success rates are compared, and how often an ejection is forgiven.
    pub interval: Duration,
    /// The first ejection lasts this long, the next one twice as long, then three times.
    pub base_ejection_time: Duration,
    /// No ejection lasts longer.
    pub max_ejection_time: Duration,
    /// No more than this part of the pool is out at once, but one always may be where there are two.
    pub max_ejected_percent: u32,
}

/// When success rates are far apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SuccessRate {
    /// So many endpoints must have had enough requests.
    pub minimum_endpoints: u32,
    /// So many requests of an endpoint in an interval are enough.
    pub minimum_requests: u32,
    /// How many standard deviations below the mean is too far.
    pub deviations: f64,
}

/// How endpoints are spoken to.
#[derive(Clone, Debug, PartialEq)]
pub struct ConnectionConfig {
    /// Which version of HTTP.
    pub protocol: UpstreamProtocol,
    /// TLS; `None` speaks none.
    pub tls: Option<Arc<UpstreamTls>>,
    /// For a connection, TLS included.
    pub connect_timeout: Duration,
    /// An idle connection is closed after this; keep it below the endpoints' own.
    pub idle_timeout: Duration,
    /// Idle connections that are kept for one endpoint by one thread.
    pub max_idle_per_endpoint: usize,
    /// Requests at once on one connection of HTTP/2; above, another is opened.
    pub max_streams: u32,
    /// The client's address at the beginning of each connection, which then carries one request only.
    pub proxy_protocol: Option<ProxyProtocol>,
}

/// Which version of HTTP an endpoint is spoken to in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UpstreamProtocol {
    /// HTTP/2 where the endpoint's `appProtocol` says so (`kubernetes.io/h2c`, `h2c`, `http2`, `grpc`), else HTTP/1.1.
    #[default]
    Auto,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, without TLS by prior knowledge.
    Http2,
}

/// The version of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// Text.
    V1,
    /// Binary.
    V2,
}

/// TLS to endpoints. Two are equal where their identities are: connections are shared by it.
pub struct UpstreamTls {
    identity: Arc<str>,
    server_name: Option<ServerName<'static>>,
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
}

/// Why a configuration cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A name that no certificate can have.
    #[error("{0}: is no name of a server: use a host's name or an address")]
    ServerName(String),
}

// === impl PoolConfig ===

impl Default for PoolConfig {
    fn default() -> Self {
        Self {
            members: Vec::new(),
            balancer: Balancer::default(),
            zone_aware: false,
            slow_start: None,
            panic_threshold_percent: 50,
            limits: Limits::default(),
            retry_budget: RetryBudget::default(),
            health_check: None,
            outlier: Some(OutlierConfig::default()),
            connection: ConnectionConfig::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_connections: None, max_pending: 1_024, max_requests: None, max_retries: None, adaptive: None }
    }
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self { percent: 20, min_concurrent: 3 }
    }
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self {
            kind: CheckKind::Tcp,
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            rise: 2,
            fall: 3,
            port: None,
        }
    }
}

impl Default for OutlierConfig {
    fn default() -> Self {
        Self {
            consecutive_5xx: 5,
            consecutive_gateway_failures: 5,
            success_rate: None,
            interval: Duration::from_secs(10),
            base_ejection_time: Duration::from_secs(30),
            max_ejection_time: Duration::from_secs(300),
            max_ejected_percent: 30,
        }
    }
}

impl Default for SuccessRate {
    fn default() -> Self {
        Self { minimum_endpoints: 5, minimum_requests: 100, deviations: 1.9 }
    }
}

impl Default for ConnectionConfig {
    fn default() -> Self {
        Self {
            protocol: UpstreamProtocol::Auto,
            tls: None,
            connect_timeout: Duration::from_secs(3),
            idle_timeout: Duration::from_secs(50),
            max_idle_per_endpoint: 256,
            max_streams: 100,
            proxy_protocol: None,
        }
    }
}

// === impl Balancer ===

impl Balancer {
    /// Every balancer, by its name in the configuration.
    pub const NAMES: [(&'static str, Self); 4] = [
        ("round_robin", Self::RoundRobin),
        ("least_request", Self::LeastRequest),
        ("peak_ewma", Self::PeakEwma),
        ("consistent_hash", Self::ConsistentHash),
    ];

    /// Its name in the configuration.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, it)| *it == self).map_or("", |(name, _)| name)
    }
}

// === impl UpstreamProtocol ===

impl UpstreamProtocol {
    /// Whether an endpoint with this `appProtocol` is spoken to in HTTP/2.
    pub fn is_http2(self, app_protocol: Option<&str>) -> bool {
        match self {
            Self::Auto => matches!(app_protocol, Some("kubernetes.io/h2c" | "h2c" | "http2" | "grpc")),
            Self::Http1 => false,
            Self::Http2 => true,
        }
    }
}

// === impl UpstreamTls ===

impl UpstreamTls {
    /// TLS with what `config` trusts and shows. `identity` must differ whenever any of it does: connections are not
    /// shared between identities. `server_name` is asked for (SNI) and must stand in the certificate; `None`: the
    /// endpoint's address.
    ///
    /// # Errors
    /// No certificate could have this name.
    pub fn new(config: &ClientConfig, server_name: Option<&str>, identity: &str) -> Result<Self, ConfigError> {
        let server_name = server_name
            .map(|name| ServerName::try_from(name.to_owned()).map_err(|_| ConfigError::ServerName(name.to_owned())))
            .transpose()?;
        let speaking = |protocol: &[u8]| {
            let mut config = config.clone();
            config.alpn_protocols = vec![protocol.to_vec()];
            Arc::new(config)
        };
        let identity = match &server_name {
            Some(name) => format!("{identity} as {}", name.to_str()),
            None => identity.to_owned(),
        };
        Ok(Self { identity: identity.into(), server_name, http1: speaking(b"http/1.1"), http2: speaking(b"h2") })
    }

    /// What tells it from others.
    pub fn identity(&self) -> &Arc<str> {
        &self.identity
    }

    pub(super) fn server_name(&self, address: std::net::IpAddr) -> ServerName<'static> {
        self.server_name.clone().unwrap_or_else(|| ServerName::from(address))
    }

    pub(super) fn config(&self, http2: bool) -> Arc<ClientConfig> {
        Arc::clone(if http2 { &self.http2 } else { &self.http1 })
    }
}

impl PartialEq for UpstreamTls {
    fn eq(&self, other: &Self) -> bool {
        self.identity == other.identity
    }
}

impl fmt::Debug for UpstreamTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A client's key stays out of logs.
        f.debug_tuple("UpstreamTls").field(&self.identity).finish()
    }
}
