//! `[gateway]` without its routes and pools: threads, limits, listeners.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use toml::{Table, Value};

use super::discovery_remote::node_name;
use super::log::texts;
use super::section::Section;
use super::{GatewayPlaneConfig, gateway_kubernetes, gateway_pool, gateway_route, gateway_tls};
use crate::base::units::ByteSize;
use crate::endpoints::pool::PoolId;
use crate::gateway::config::{AccessLogConfig, GatewayConfig, Limits, ListenerConfig, Policy, Via};
use crate::gateway::framing::HeadLimits;
use crate::gateway::trust::{Network, Networks};
use crate::upstream::{Balancer, PoolConfig};

const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
const KIB: u64 = 1 << 10;

pub(super) fn read(mut section: Section<'_>) -> GatewayPlaneConfig {
    let name = read_name(&mut section);
    let threads = read_threads(&mut section);
    let pin_threads = section.flag("pin_threads", true);
    let shutdown_timeout = Duration::from_secs(section.number("shutdown_timeout_seconds", 1..=3_600, 25));
    let first_pools_timeout = Duration::from_secs(section.number("first_pools_timeout_seconds", 0..=3_600, 30));
    let limits = read_limits(&mut section);
    let trusted_proxies = read_networks(&mut section);
    let via = section.text("via").unwrap_or("tidegate");
    section.show("via", via);
    let via_member = Via::new(via);
    if via_member.is_none() && !via.is_empty() {
        section.problem("via", format!("{via:?} is no name: use letters, digits, dots and dashes, or \"\" for none"));
    }
    let start_traces = section.flag("start_traces", false);
    let access_log = read_access_log(&mut section);
    let has_cluster = section.has("kubernetes");
    let listeners = section.tables("listener").into_iter().map(|table| read_listener(table, has_cluster));
    let listeners = listeners.collect::<Vec<_>>();
    if listeners.is_empty() {
        section
            .problem("listener", "missing: nobody could connect; add [[gateway.listener]] with listen = \"IP:PORT\"");
    }
    let mut pools = gateway_pool::read_all(&mut section);
    let kubernetes = gateway_kubernetes::read(&mut section);
    let (routes, balancers) = gateway_route::read_all(&mut section, kubernetes.is_some());
    let policy = Policy { routes, limits, trusted_proxies, via: via_member, start_traces };
    for pool in policy.pools() {
        pools.entry(pool.clone()).or_insert_with(gateway_pool::default);
    }
    choose_balancers(&section, &mut pools, balancers);
    section.finish();
    let gateway = GatewayConfig { threads, pin_threads, shutdown_timeout, listeners, access_log, policy };
    GatewayPlaneConfig { gateway, name, pools, default_pool: gateway_pool::default(), kubernetes, first_pools_timeout }
}

/// A pool has one balancer, whichever of its routes says so.
fn choose_balancers(
    section: &Section<'_>,
    pools: &mut BTreeMap<PoolId, PoolConfig>,
    balancers: Vec<(PoolId, Balancer)>,
) {
    let mut chosen: BTreeMap<PoolId, Balancer> = BTreeMap::new();
    for (pool, balancer) in balancers {
        let before = *chosen.entry(pool.clone()).or_insert(balancer);
        if before != balancer {
            let (one, other) = (before.name(), balancer.name());
            section.problem(
                "route",
                format!("{pool} is to be balanced by {one} and by {other}: say the same in every route, or in none"),
            );
        }
        if let Some(config) = pools.get_mut(&pool) {
            config.balancer = balancer;
        }
    }
}

/// Its own word, or where it runs and as what: `NODE/HOST`, one of them where they are the same.
fn read_name(section: &mut Section<'_>) -> Arc<str> {
    let node = node_name();
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let default = if *node == *host { host } else { format!("{node}/{host}") };
    let name = section.text("name").unwrap_or(&default);
    section.show("name", name);
    if name.is_empty() || name.len() > 255 || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
        section.problem("name", format!("{name:?} is no name: use 1 to 255 visible ASCII characters"));
    }
    name.into()
}

fn read_threads(section: &mut Section<'_>) -> usize {
    let wanted = section.number_unshown("threads", 0..=1_024).unwrap_or(2);
    let threads = match usize::try_from(wanted).unwrap_or(2) {
        0 => std::thread::available_parallelism().map_or(2, std::num::NonZero::get),
        threads => threads,
    };
    section.show("threads", i64::try_from(threads).unwrap_or(i64::MAX));
    threads
}

fn read_limits(section: &mut Section<'_>) -> Limits {
    let narrow = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    Limits {
        connections: narrow(section.number("max_connections", 1..=10_000_000, 20_000)),
        head_timeout: Duration::from_secs(section.number("head_timeout_seconds", 1..=3_600, 10)),
        idle_timeout: Duration::from_secs(section.number("idle_timeout_seconds", 1..=86_400, 60)),
        head: HeadLimits {
            size: section.size("max_head_size", ByteSize(KIB)..=ByteSize(1024 * KIB), ByteSize(32 * KIB)),
            target: section.size("max_target_size", ByteSize(64)..=ByteSize(60 * KIB), ByteSize(8 * KIB)),
            fields: narrow(section.number("max_fields", 8..=100, 100)),
        },
        http2_streams: u32::try_from(section.number("http2_max_streams", 1..=10_000, 128)).unwrap_or(128),
    }
}

fn read_networks(section: &mut Section<'_>) -> Networks {
    let items = section.texts("trusted_proxies").unwrap_or_default();
    let mut networks = Vec::new();
    for item in &items {
        match item.text.parse::<Network>() {
            Ok(network) => networks.push(network),
            Err(error) => section.item_problem(item, format!("{:?} {error}", item.text)),
        }
    }
    section.show("trusted_proxies", texts(&items));
    Networks(networks)
}

fn read_access_log(section: &mut Section<'_>) -> Option<AccessLogConfig> {
    let mut table = section.inline("access_log")?;
    let key = table.text("key").unwrap_or("gateway-access").to_owned();
    if key.is_empty() {
        table.problem("key", "is empty: give the key that a [[log.route]] takes, as \"gateway-access\"");
    }
    let queue = table.number("queue", 1..=10_000_000, 16_384);
    let failures_only = table.flag("only_failures", false);
    table.finish();
    let mut shown = Table::new();
    shown.insert("key".to_owned(), Value::from(key.as_str()));
    shown.insert("queue".to_owned(), Value::from(i64::try_from(queue).unwrap_or(i64::MAX)));
    shown.insert("only_failures".to_owned(), Value::from(failures_only));
    section.show("access_log", shown);
    Some(AccessLogConfig { key, queue: usize::try_from(queue).unwrap_or(usize::MAX), failures_only })
}

/// `has_cluster`: certificates come from elsewhere, too.
fn read_listener(mut section: Section<'_>, has_cluster: bool) -> ListenerConfig {
    let listen = match section.text("listen") {
        None => {
            section.problem("listen", "missing: give an address, as \"127.0.0.1:8080\"");
            DEFAULT_LISTEN
        }
        Some(text) => text.parse().unwrap_or_else(|_| {
            section.problem("listen", format!("{text:?} is no address: write IP:PORT, as \"127.0.0.1:8080\""));
            DEFAULT_LISTEN
        }),
    };
    section.show("listen", listen.to_string());
    let proxy_protocol = section.flag("proxy_protocol", false);
    let http2 = section.flag("http2", true);
    let tls = gateway_tls::read(&mut section, http2, has_cluster);
    section.finish();
    ListenerConfig { listen, tls, proxy_protocol, http2 }
}
