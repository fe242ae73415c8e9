//! `[discovery]` without its sources: the listener, who may read, guards, joined and fixed pools.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use toml::{Table, Value};

use super::discovery_export::read_export;
use super::section::Section;
use super::{TrafficConfig, discovery_source, discovery_tokens, tls};
use crate::discovery::config::{ClientLimits, DiscoveryConfig};
use crate::endpoints::config::{EndpointsConfig, FixedEndpoint, FixedPool, HoldConfig};
use crate::endpoints::file::claims;
use crate::endpoints::hosts::Claim;
use crate::endpoints::join::{Join, Member};
use crate::endpoints::kubernetes::Place;
use crate::endpoints::pool::{DEFAULT_WEIGHT, PoolId};
use crate::net::tls::Clients;

const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8500);

pub(super) fn read(mut section: Section<'_>) -> TrafficConfig {
    let api = read_api(&mut section);
    let snapshot_file = read_shown::<String>(&mut section, "snapshot_file").map(PathBuf::from);
    let place = Place { zone: read_shown(&mut section, "zone"), node: read_shown(&mut section, "node") };
    let hold = read_hold(&mut section);
    let sources = discovery_source::read_all(&mut section);
    let Pools { fixed, joins, hosts } = read_pools(&mut section);
    if sources.is_empty() && fixed.is_empty() {
        section.problem("source", "missing: no pool could come from anywhere; add a [[discovery.source]], or a [[discovery.pool]] with endpoints");
    }
    section.finish();
    TrafficConfig { endpoints: EndpointsConfig { sources, fixed, joins, hosts, place, hold, snapshot_file }, api }
}

/// A text that is shown as it stands.
pub(super) fn read_shown<T: for<'a> From<&'a str>>(section: &mut Section<'_>, key: &'static str) -> Option<T> {
    let text = section.text(key)?;
    if text.is_empty() {
        section.problem(key, "is empty: write something, or remove the key");
        return None;
    }
    section.show(key, text);
    Some(T::from(text))
}

fn read_api(section: &mut Section<'_>) -> DiscoveryConfig {
    let listen = match section.text("listen") {
        None => DEFAULT_LISTEN,
        Some(text) => text.parse().unwrap_or_else(|_| {
            section.problem("listen", format!("{text:?} is no address: write IP:PORT, as \"127.0.0.1:8500\""));
            DEFAULT_LISTEN
        }),
    };
    section.show("listen", listen.to_string());
    let tls = tls::read(section);
    // What is asked for and wrong is a problem already: it must not seem to be missing as well.
    let certified = tls.as_ref().is_some_and(|tls| tls.as_ref().is_none_or(|it| it.clients() == Clients::Required));
    let tokens = discovery_tokens::read(section);
    let said = section.has("anonymous");
    // Whoever hands out tokens wants to be asked for them.
    let anonymous_reads = match tokens.is_empty() {
        true => section.choice("anonymous", ("read", true), [("none", false)], &[]),
        false => section.choice("anonymous", ("none", false), [("read", true)], &[]),
    };
    if !listen.ip().to_canonical().is_loopback()
        && tokens.is_empty()
        && !said
        && !section.has("tokens_file")
        && !certified
    {
        section.problem(
            "listen",
            format!("{listen} is not on loopback and nobody is asked for a token: set discovery.tokens_file, or tls with a client_ca, or anonymous = \"read\" to let everybody read, or listen on 127.0.0.1"),
        );
    }
    let envoy_listeners = read_listeners(section);
    let envoy_access_log = read_shown(section, "envoy_access_log");
    if envoy_access_log.is_some() && !section.has("envoy_listeners") {
        section.problem("envoy_access_log", "is of the listeners in envoy_listeners, and there are none: add them");
    }
    let export = read_export(section);
    let bounded = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    let max_connections = bounded(section.number("max_connections", 1..=1_000_000, 20_000));
    let waits = bounded(section.number("max_waits_per_client", 1..=1_000_000, 4_096));
    let rate = section.number("max_requests_per_second_per_client", 1..=1_000_000, 2_000);
    let limits = ClientLimits { waits, requests_per_second: u32::try_from(rate).unwrap_or(u32::MAX) };
    let (tls, anonymous_said) = (tls.flatten(), said);
    DiscoveryConfig {
        listen,
        tls,
        tokens,
        anonymous_reads,
        anonymous_said,
        limits,
        max_connections,
        envoy_listeners,
        envoy_access_log,
        export,
    }
}

fn read_listeners(section: &mut Section<'_>) -> Vec<SocketAddr> {
    let mut listeners: Vec<SocketAddr> = Vec::new();
    for item in section.texts("envoy_listeners").unwrap_or_default() {
        match item.text.parse::<SocketAddr>() {
            Ok(address) if address.port() > 0 && !listeners.contains(&address) => listeners.push(address),
            _ => section.item_problem(
                &item,
                format!("{:?} is no address of its own: write IP:PORT, as \"0.0.0.0:8080\", each once", item.text),
            ),
        }
    }
    section.show("envoy_listeners", listeners.iter().map(SocketAddr::to_string).collect::<Vec<_>>());
    listeners
}

fn read_hold(section: &mut Section<'_>) -> HoldConfig {
    let (mut percent, mut seconds) = (50, 600);
    if let Some(mut table) = section.inline("hold") {
        percent = table.number("max_drop_percent", 0..=100, percent);
        seconds = table.number("max_age_seconds", 1..=86_400, seconds);
        table.finish();
    }
    let number = |number: u64| Value::Integer(i64::try_from(number).unwrap_or(i64::MAX));
    let shown = [("max_drop_percent", number(percent)), ("max_age_seconds", number(seconds))];
    section.show("hold", shown.map(|(key, value)| (key.to_owned(), value)).into_iter().collect::<Table>());
    HoldConfig { max_drop_percent: u32::try_from(percent).unwrap_or(100), max_age: Duration::from_secs(seconds) }
}

/// What `[[discovery.pool]]` says.
#[derive(Default)]
struct Pools {
    fixed: Vec<FixedPool>,
    joins: Vec<Join>,
    hosts: Vec<Claim>,
}

fn read_pools(section: &mut Section<'_>) -> Pools {
    let Pools { mut fixed, mut joins, mut hosts } = Pools::default();
    let mut ids = BTreeSet::new();
    for mut pool in section.tables("pool") {
        let Some(id) = read_id(&mut pool, "id") else {
            continue;
        };
        pool.show("id", id.as_str());
        if !ids.insert(id.clone()) {
            pool.problem("id", format!("{id} stands here twice: give each pool an id of its own"));
        }
        hosts.extend(read_hosts(&mut pool, &id));
        match (pool.has("members"), pool.has("endpoints")) {
            (true, false) => joins.push(read_join(&mut pool, id)),
            (false, true) => fixed.push(FixedPool { id, endpoints: read_endpoints(&mut pool) }),
            _ => {
                pool.problem("members", "give either members, pools that this one is joined from, or endpoints");
                continue;
            }
        }
        pool.finish();
    }
    for join in &joins {
        if let Some(member) = join.members.iter().find(|member| joins.iter().any(|it| it.id == member.pool)) {
            section.problem(
                "pool",
                format!("{} has the member {}, which is joined itself: name that one's members", join.id, member.pool),
            );
        }
    }
    Pools { fixed, joins, hosts }
}

fn read_hosts(pool: &mut Section<'_>, id: &PoolId) -> Vec<Claim> {
    let texts = pool.texts("hosts").unwrap_or_default();
    let texts: Vec<String> = texts.into_iter().map(|item| item.text.to_owned()).collect();
    if !texts.is_empty() {
        pool.show("hosts", texts.clone());
    }
    claims(id, &texts).map_err(|why| pool.problem("hosts", why)).unwrap_or_default()
}

fn read_id(section: &mut Section<'_>, key: &'static str) -> Option<PoolId> {
    let Some(text) = section.text(key) else {
        if !section.has(key) {
            section.problem(key, "missing: name the pool, as \"checkout\" or \"east/shop/checkout/http\"");
        }
        return None;
    };
    PoolId::parse(text).map_err(|error| section.problem(key, format!("{text:?} {error}"))).ok()
}

fn read_join(pool: &mut Section<'_>, id: PoolId) -> Join {
    let mut members = Vec::new();
    let mut shown = Vec::new();
    for mut table in pool.inline_tables("members") {
        let share = u32::try_from(table.number("share", 0..=1_000_000, 100)).unwrap_or_default();
        let priority = u32::try_from(table.number("priority", 0..=1_000, 0)).unwrap_or_default();
        if let Some(member) = read_id(&mut table, "pool") {
            let mut entry = Table::new();
            entry.insert("pool".to_owned(), member.as_str().into());
            entry.insert("share".to_owned(), i64::from(share).into());
            entry.insert("priority".to_owned(), i64::from(priority).into());
            shown.push(Value::Table(entry));
            members.push(Member { pool: member, share, priority });
        }
        table.finish();
    }
    if shown.is_empty() && !pool.is_list("members") {
        pool.problem(
            "members",
            "write it as a list of tables, as [{ pool = \"east/shop/checkout/http\", share = 100 }]",
        );
    } else if members.is_empty() {
        pool.problem("members", "is empty: name at least one pool");
    }
    pool.show("members", shown);
    let prefer_zone = pool.flag("prefer_zone", false);
    Join { id, members, matched: Vec::new(), prefer_zone, traffic_generation: None, namespace: None }
}

fn read_endpoints(pool: &mut Section<'_>) -> Vec<FixedEndpoint> {
    let mut endpoints: Vec<FixedEndpoint> = Vec::new();
    let mut shown = Vec::new();
    for mut table in pool.inline_tables("endpoints") {
        let port = u16::try_from(table.required_number("port", 1..=65_535)).unwrap_or_default();
        let weight = u32::try_from(table.number("weight", 1..=1_000_000, u64::from(DEFAULT_WEIGHT))).unwrap_or(1);
        let zone: Option<Arc<str>> = read_shown(&mut table, "zone");
        let text = table.text("address").unwrap_or_default();
        match text.parse() {
            Ok(address) if endpoints.iter().any(|it| (it.address, it.port) == (address, port)) => {
                table.problem("address", format!("{text}:{port} stands here twice: remove one"));
            }
            Ok(address) => {
                let mut entry = Table::new();
                entry.insert("address".to_owned(), text.into());
                entry.insert("port".to_owned(), i64::from(port).into());
                entry.insert("weight".to_owned(), i64::from(weight).into());
                entry.extend(zone.as_ref().map(|zone| ("zone".to_owned(), Value::from(&**zone))));
                shown.push(Value::Table(entry));
                endpoints.push(FixedEndpoint { address, port, weight, zone });
            }
            Err(_) => table.problem("address", format!("{text:?} is no address: write an IPv4 or IPv6 address")),
        }
        table.finish();
    }
    pool.show("endpoints", shown);
    endpoints
}
