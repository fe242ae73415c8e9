//! `[[gateway.pool]]`: how a pool's endpoints are chosen, checked and spoken to. A pool that a route names and that has no
//! section of its own has every default.

use std::collections::BTreeMap;
use std::time::Duration;

use toml::{Table, Value};

use super::gateway_tls;
use super::section::Section;
use crate::endpoints::pool::PoolId;
use crate::upstream::config::{
    Adaptive, CheckKind, ConnectionConfig, HealthCheck, Limits, OutlierConfig, ProxyProtocol, RetryBudget, SuccessRate,
    UpstreamProtocol,
};
use crate::upstream::{Balancer, PoolConfig};

/// A pool that has no section of its own.
pub(super) fn default() -> PoolConfig {
    PoolConfig { balancer: Balancer::LeastRequest, ..PoolConfig::default() }
}

/// All of them, by id.
pub(super) fn read_all(section: &mut Section<'_>) -> BTreeMap<PoolId, PoolConfig> {
    let mut pools = BTreeMap::new();
    for mut table in section.tables("pool") {
        let id = read_id(&mut table, "id");
        let config = read(&mut table);
        if let Some(id) = id {
            table.show("id", id.as_str());
            if pools.insert(id.clone(), config).is_some() {
                table.problem("id", format!("{id} stands here twice: write one [[gateway.pool]] for each pool"));
            }
        }
        table.finish();
    }
    pools
}

/// The id of a pool.
pub(super) fn read_id(section: &mut Section<'_>, key: &'static str) -> Option<PoolId> {
    let Some(text) = section.text(key) else {
        if !section.has(key) {
            section.problem(key, "missing: name the pool, as \"checkout\" or \"east/shop/checkout/http\"");
        }
        return None;
    };
    PoolId::parse(text).map_err(|error| section.problem(key, format!("{text:?} {error}"))).ok()
}

fn read(section: &mut Section<'_>) -> PoolConfig {
    let default = default();
    let narrow = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    let slow_start = section.number("slow_start_seconds", 0..=3_600, 0);
    PoolConfig {
        members: Vec::new(),
        balancer: default.balancer,
        zone_aware: section.flag("zone_aware", default.zone_aware),
        slow_start: (slow_start > 0).then(|| Duration::from_secs(slow_start)),
        panic_threshold_percent: narrow(section.number(
            "panic_threshold_percent",
            0..=100,
            default.panic_threshold_percent.into(),
        )),
        limits: Limits {
            max_connections: read_limit(section, "max_connections"),
            max_pending: narrow(section.number(
                "max_pending_requests",
                0..=1_000_000,
                default.limits.max_pending.into(),
            )),
            max_requests: read_limit(section, "max_requests"),
            max_retries: read_limit(section, "max_retries"),
            adaptive: read_adaptive(section),
        },
        retry_budget: RetryBudget {
            percent: narrow(section.number("retry_budget_percent", 0..=100, default.retry_budget.percent.into())),
            min_concurrent: narrow(section.number(
                "retry_budget_min",
                0..=1_000_000,
                default.retry_budget.min_concurrent.into(),
            )),
        },
        health_check: read_health_check(section),
        outlier: read_outlier(section),
        connection: read_connection(section, default.connection),
    }
}

/// `{ min, max, latency_ms }`; absent: no such limit.
fn read_adaptive(section: &mut Section<'_>) -> Option<Adaptive> {
    let mut table = section.inline("adaptive_requests")?;
    let narrow = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    let min = table.number("min", 1..=1_000_000, 10);
    let max = table.number("max", 1..=1_000_000, 1_000);
    let latency = table.number("latency_ms", 1..=600_000, 1_000);
    if min > max {
        table.problem("min", "is above max: between them the limit moves");
    }
    table.finish();
    let number = |number: u64| Value::from(i64::try_from(number).unwrap_or(i64::MAX));
    let shown = [("min", min), ("max", max), ("latency_ms", latency)];
    section
        .show("adaptive_requests", shown.map(|(key, it)| (key.to_owned(), number(it))).into_iter().collect::<Table>());
    Some(Adaptive { min: narrow(min), max: narrow(max), latency: Duration::from_millis(latency) })
}

/// Absent: no limit.
fn read_limit(section: &mut Section<'_>, key: &'static str) -> Option<u32> {
    let limit = section.number_unshown(key, 1..=4_000_000_000)?;
    section.show(key, i64::try_from(limit).unwrap_or(i64::MAX));
    u32::try_from(limit).ok()
}

fn read_connection(section: &mut Section<'_>, default: ConnectionConfig) -> ConnectionConfig {
    let protocols = [("http1", UpstreamProtocol::Http1), ("http2", UpstreamProtocol::Http2)];
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let wide = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    ConnectionConfig {
        protocol: section.choice("protocol", ("auto", UpstreamProtocol::Auto), protocols, &[]),
        tls: gateway_tls::read_upstream(section),
        connect_timeout: Duration::from_millis(section.number(
            "connect_timeout_ms",
            1..=600_000,
            millis(default.connect_timeout),
        )),
        idle_timeout: Duration::from_secs(section.number(
            "idle_timeout_seconds",
            1..=86_400,
            default.idle_timeout.as_secs(),
        )),
        max_idle_per_endpoint: usize::try_from(section.number(
            "max_idle_per_endpoint",
            0..=1_000_000,
            wide(default.max_idle_per_endpoint),
        ))
        .unwrap_or(usize::MAX),
        max_streams: u32::try_from(section.number("max_streams", 1..=100_000, default.max_streams.into()))
            .unwrap_or(u32::MAX),
        proxy_protocol: section.choice(
            "proxy_protocol",
            ("none", None),
            [("v1", Some(ProxyProtocol::V1)), ("v2", Some(ProxyProtocol::V2))],
            &[],
        ),
    }
}

fn read_health_check(section: &mut Section<'_>) -> Option<HealthCheck> {
    let mut table = section.inline("health_check")?;
    let default = HealthCheck::default();
    let mut shown = Table::new();
    let kind = table.text("kind").unwrap_or("http");
    shown.insert("kind".to_owned(), Value::from(kind));
    let kind = match kind {
        "http" => read_http_check(&mut table, &mut shown),
        "tcp" => CheckKind::Tcp,
        "grpc" => {
            let service = table.text("service").unwrap_or_default();
            shown.insert("service".to_owned(), Value::from(service));
            CheckKind::Grpc { service: service.to_owned() }
        }
        other => {
            table.problem("kind", format!("{other:?} is unknown: use \"http\", \"tcp\", \"grpc\""));
            CheckKind::Tcp
        }
    };
    let mut number = |key: &'static str, range, default: u64| {
        let number = table.number(key, range, default);
        shown.insert(key.to_owned(), Value::from(i64::try_from(number).unwrap_or(i64::MAX)));
        number
    };
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let interval = Duration::from_millis(number("interval_ms", 10..=3_600_000, millis(default.interval)));
    let timeout = Duration::from_millis(number("timeout_ms", 1..=600_000, millis(default.timeout)));
    let rise = u32::try_from(number("rise", 1..=1_000, default.rise.into())).unwrap_or(1);
    let fall = u32::try_from(number("fall", 1..=1_000, default.fall.into())).unwrap_or(1);
    let port = table.number_unshown("port", 1..=65_535).and_then(|port| u16::try_from(port).ok());
    shown.extend(port.map(|port| ("port".to_owned(), Value::from(i64::from(port)))));
    table.finish();
    section.show("health_check", shown);
    Some(HealthCheck { kind, interval, timeout, rise, fall, port })
}

fn read_http_check(table: &mut Section<'_>, shown: &mut Table) -> CheckKind {
    let path = table.text("path").unwrap_or("/");
    if !path.starts_with('/') {
        table.problem("path", format!("{path:?} is no path: begin it with /"));
    }
    shown.insert("path".to_owned(), Value::from(path));
    let host = table.text("host");
    shown.extend(host.map(|host| ("host".to_owned(), Value::from(host))));
    let mut status = |key: &'static str, default: u64| {
        let status = table.number(key, 100..=599, default);
        shown.insert(key.to_owned(), Value::from(i64::try_from(status).unwrap_or_default()));
        u16::try_from(status).unwrap_or_default()
    };
    let expected = (status("status_from", 200), status("status_to", 299));
    CheckKind::Http { path: path.to_owned(), host: host.map(str::to_owned), expected }
}

/// On unless it is switched off.
fn read_outlier(section: &mut Section<'_>) -> Option<OutlierConfig> {
    let mut config = OutlierConfig::default();
    if section.has("outlier") && !section.is_table("outlier") {
        let on = section.flag("outlier", true);
        return on.then_some(config);
    }
    let Some(mut table) = section.inline("outlier") else { return Some(config) };
    let mut shown = Table::new();
    let mut number = |key: &'static str, range, default: u64| {
        let number = table.number(key, range, default);
        shown.insert(key.to_owned(), Value::from(i64::try_from(number).unwrap_or(i64::MAX)));
        number
    };
    let narrow = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    config.consecutive_5xx = narrow(number("consecutive_5xx", 0..=1_000_000, config.consecutive_5xx.into()));
    config.consecutive_gateway_failures =
        narrow(number("consecutive_gateway_failures", 0..=1_000_000, config.consecutive_gateway_failures.into()));
    config.interval = Duration::from_millis(number("interval_ms", 10..=3_600_000, millis(config.interval)));
    config.base_ejection_time =
        Duration::from_millis(number("base_ejection_time_ms", 10..=86_400_000, millis(config.base_ejection_time)));
    config.max_ejection_time =
        Duration::from_millis(number("max_ejection_time_ms", 10..=86_400_000, millis(config.max_ejection_time)));
    config.max_ejected_percent = narrow(number("max_ejected_percent", 0..=100, config.max_ejected_percent.into()));
    let by_rate = table.flag("success_rate", false);
    shown.insert("success_rate".to_owned(), Value::from(by_rate));
    config.success_rate = by_rate.then(SuccessRate::default);
    table.finish();
    section.show("outlier", shown);
    Some(config)
}
