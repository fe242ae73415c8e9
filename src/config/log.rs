//! `[log]` without Kafka and the routes: listeners, limits, users.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use globset::Glob;
use toml::Value;

use super::section::{Item, Section};
use super::{LogConfig, cluster, kafka, pods, route, spool, tls};
use crate::base::units::ByteSize;
use crate::intake::config::{IntakeConfig, Limits, ListenAddress, Login, UserConfig, unguarded};
use crate::net::tls::Clients;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Room in a frame for the command's name, the key and the lengths around them.
const FRAME_OVERHEAD: u64 = KIB;
/// What a record costs in memory beside its own bytes, with room to spare.
const RECORD_OVERHEAD: u64 = 4 * KIB;

pub(super) fn read(mut section: Section<'_>) -> LogConfig {
    let tls = tls::read(&mut section);
    let listen = read_listen(&mut section, tls.is_some());
    let threads = read_threads(&mut section);
    let limits = read_limits(&mut section);
    let idle_timeout = Duration::from_secs(section.number("idle_timeout_seconds", 0..=31_536_000, 0));
    let shutdown_timeout = Duration::from_secs(section.number("shutdown_timeout_seconds", 1..=3_600, 25));
    let anonymous = section.flag("anonymous", false);
    let llen = read_llen(&mut section);
    let cluster = cluster::read(&mut section, &listen);
    let config = tls.as_ref().and_then(Option::as_ref);
    let open = if anonymous { None } else { unguarded(&listen, config) };
    let users = read_users(&mut section, open, config.is_some_and(|tls| tls.clients() != Clients::Unasked));
    let tls = tls.flatten();

    let (kafka, linger) = match section.table("kafka") {
        Some(table) => kafka::read(table),
        None => {
            section.problem("kafka", "missing: add [log.kafka] with brokers = [\"HOST:PORT\"]");
            kafka::absent()
        }
    };
    let spool = section.table("spool").map(spool::read);
    let bounds = route::Bounds {
        record_size: limits.record_size,
        linger,
        created_topics: kafka.max_created_topics,
        has_spool: spool.is_some(),
    };
    let routes = route::read_all(&mut section, bounds);
    let pods = section.table("pods").map(pods::read);
    if let (None, Some(index)) = (&pods, routes.iter().position(|route| route.enrich.is_some_and(|enrich| enrich.pod)))
    {
        let fault = format!("missing, but log.route[{index}].enrich asks for pod");
        section.problem("pods", format!("{fault}: add [log.pods], with the name of this node"));
    }
    section.finish();
    let limits = Limits { idle_timeout, ..limits };
    LogConfig {
        intake: IntakeConfig { listen, threads, limits, tls, anonymous, users, cluster, shutdown_timeout },
        kafka,
        spool,
        routes,
        pods,
        llen,
    }
}

/// The consumer group whose unread records LLEN counts; nothing where it answers 0.
fn read_llen(section: &mut Section<'_>) -> Option<String> {
    let is_lag = section.choice("llen", ("zero", false), [("lag", true)], &[]);
    let group = section.text("llen_group");
    match group {
        Some(_) if !is_lag => {
            section.problem("llen_group", "has no effect, because log.llen is \"zero\": set that, or remove this");
        }
        None | Some("") if is_lag => {
            section.problem("llen_group", "missing or empty: name the consumer group whose unread records LLEN counts");
        }
        _ => {}
    }
    let group = group.filter(|_| is_lag)?;
    section.show("llen_group", group);
    Some(group.to_owned())
}

/// `secure`: TCP addresses speak TLS where nothing else is said.
fn read_listen(section: &mut Section<'_>, secure: bool) -> Vec<ListenAddress> {
    let default = SocketAddr::from(([127, 0, 0, 1], 6379));
    let Some(items) = section.texts("listen") else {
        section.show("listen", vec![default.to_string()]);
        return vec![if secure { ListenAddress::Tls(default) } else { ListenAddress::Tcp(default) }];
    };
    if items.is_empty() {
        section.problem("listen", "is empty: name at least one address, as [\"127.0.0.1:6379\"]");
    }
    let mut addresses = Vec::new();
    for item in &items {
        match parse_listen(item.text, secure) {
            Ok(address) if addresses.contains(&address) && !is_any_port(&address) => {
                section.item_problem(item, format!("{} stands here twice: remove one", item.text));
            }
            Ok(address) => addresses.push(address),
            Err(problem) => section.item_problem(item, problem),
        }
    }
    section.show("listen", texts(&items));
    addresses
}

fn parse_listen(text: &str, secure: bool) -> Result<ListenAddress, String> {
    let (plain, text) = text.strip_prefix("plain:").map_or((false, text), |address| (true, address));
    if plain && !secure {
        return Err("every TCP listener is plain without log.tls: write IP:PORT".to_owned());
    }
    if let Some(path) = text.strip_prefix("unix:") {
        // The kernel's limit on a socket's path, its closing zero included, is 108.
        return match path.len() {
            0 => Err("names no socket: write unix:/PATH".to_owned()),
            1..=107 => Ok(ListenAddress::Unix(PathBuf::from(path))),
            _ => Err("the socket's path is longer than the system's 107 bytes: choose a shorter one".to_owned()),
        };
    }
    let kind = if secure && !plain { ListenAddress::Tls } else { ListenAddress::Tcp };
    let address = text.parse().map(kind);
    address.map_err(|_| format!("{text:?} is no address: write IP:PORT, as \"127.0.0.1:6379\", or unix:/PATH"))
}

fn is_any_port(address: &ListenAddress) -> bool {
    matches!(address, ListenAddress::Tcp(address) | ListenAddress::Tls(address) if address.port() == 0)
}

fn read_threads(section: &mut Section<'_>) -> usize {
    let wanted =
        section.number_unshown("threads", 0..=1_024).and_then(|threads| usize::try_from(threads).ok()).unwrap_or(2);
    let threads = match wanted {
        0 => std::thread::available_parallelism().map_or(2, std::num::NonZero::get),
        threads => threads,
    };
    section.show("threads", i64::try_from(threads).unwrap_or(i64::MAX));
    threads
}

/// All limits but the idle timeout, which is shown with the other times.
fn read_limits(section: &mut Section<'_>) -> Limits {
    let memory = section.size("memory_limit", ByteSize(64 * KIB)..=ByteSize(1024 * GIB), ByteSize(256 * MIB));
    let record_size = section.size("max_record_size", ByteSize(1)..=ByteSize(512 * MIB), ByteSize(MIB));
    let (memory_bytes, record_bytes) = (wide(memory), wide(record_size));
    let default_frame = ByteSize((64 * MIB).min(memory_bytes).max(record_bytes.saturating_add(FRAME_OVERHEAD)));
    let frame_size = section.size("max_frame_size", ByteSize(KIB)..=ByteSize(GIB), default_frame);
    let needed = record_bytes.saturating_add(RECORD_OVERHEAD);
    if memory_bytes < needed {
        section.problem(
            "memory_limit",
            format!(
                "{} cannot hold one record of max_record_size ({}): give at least {}, or lower log.max_record_size",
                ByteSize(memory_bytes),
                ByteSize(record_bytes),
                ByteSize(needed)
            ),
        );
    } else if memory < frame_size {
        section.problem(
            "max_frame_size",
            format!(
                "{} is above log.memory_limit ({}), so that such a command could never be read: lower it",
                ByteSize(wide(frame_size)),
                ByteSize(memory_bytes)
            ),
        );
    }
    let least = record_bytes.saturating_add(FRAME_OVERHEAD);
    if wide(frame_size) < least {
        section.problem(
            "max_frame_size",
            format!(
                "{} cannot hold a command with one record of max_record_size ({}): give at least {}",
                ByteSize(wide(frame_size)),
                ByteSize(record_bytes),
                ByteSize(least)
            ),
        );
    }
    Limits {
        memory,
        record_size,
        frame_size,
        arguments: narrow(section.number("max_arguments", 16..=16_777_216, 1_000_000)),
        output_buffer: section.size("max_output_buffer", ByteSize(64 * KIB)..=ByteSize(GIB), ByteSize(8 * MIB)),
        connections: narrow(section.number("max_connections", 1..=1_000_000, 20_000)),
        idle_timeout: Duration::ZERO,
    }
}

/// As Redis's protected mode: on an `open` listener, users have passwords, or the file says by name that nobody needs one.
/// Where clients show certificates, a user without a password is who shows one with the name.
fn read_users(section: &mut Section<'_>, open: Option<SocketAddr>, certificates: bool) -> Vec<UserConfig> {
    const REMEDY: &str = "or set log.anonymous = true if whoever reaches the port may write";
    let mut users: Vec<UserConfig> = Vec::new();
    for mut table in section.tables("user") {
        let user = read_user(&mut table, certificates);
        if users.iter().any(|other| other.name == user.name && !user.name.is_empty()) {
            table.problem(
                "name",
                format!("{:?} stands here twice: give each [[log.user]] a name of its own", user.name),
            );
        }
        if let (Some(address), Login::Free) = (open, &user.login) {
            let fault = format!(
                "missing, while {address} is not on loopback: give every [[log.user]] a password_file, {REMEDY}"
            );
            table.problem("password_file", fault);
        }
        table.finish();
        users.push(user);
    }
    if let (Some(address), true) = (open, users.is_empty()) {
        let fault = format!("{address} is not on loopback and nobody is asked for a password");
        section.problem("listen", format!("{fault}: add a [[log.user]] with a password_file, {REMEDY}"));
    }
    users
}

fn read_user(section: &mut Section<'_>, certificates: bool) -> UserConfig {
    let name = section.text("name").unwrap_or_default().to_owned();
    if name.is_empty() || name.chars().any(char::is_whitespace) {
        section.problem("name", "missing, empty or with a blank: give the name that AUTH sends");
    }
    section.show("name", name.as_str());
    let password = section.text("password_file").map(|path| {
        section.show("password_file", path);
        section.secret("password_file", path).unwrap_or_else(|problem| {
            section.problem("password_file", problem);
            String::new()
        })
    });
    section.refuse(
        "password",
        "no secret stands in this file: write it into a file of its own and name that as password_file",
    );
    let keys = section.texts("keys").unwrap_or_default();
    for item in &keys {
        if let Err(error) = Glob::new(item.text) {
            section.item_problem(item, format!("{:?} is no glob: {}", item.text, error.kind()));
        }
    }
    section.show("keys", texts(&keys));
    let commands = section.texts("commands").unwrap_or_default();
    for item in &commands {
        if let Err(problem) = check_rule(item.text) {
            section.item_problem(item, problem);
        }
    }
    section.show("commands", texts(&commands));
    let owned = |items: &[Item<'_>]| items.iter().map(|item| item.text.to_owned()).collect();
    let login = match password {
        Some(password) => Login::Password(password),
        None if certificates => Login::Certificate,
        None => Login::Free,
    };
    UserConfig { name, login, keys: owned(&keys), commands: owned(&commands) }
}

/// Redis's categories of commands (`ACL CAT`).
const CATEGORIES: [&str; 22] = [
    "all",
    "admin",
    "bitmap",
    "blocking",
    "connection",
    "dangerous",
    "fast",
    "geo",
    "hash",
    "hyperloglog",
    "keyspace",
    "list",
    "pubsub",
    "read",
    "scripting",
    "set",
    "slow",
    "sortedset",
    "stream",
    "string",
    "transaction",
    "write",
];

fn check_rule(rule: &str) -> Result<(), String> {
    let name = rule.strip_prefix(['+', '-']).unwrap_or_default();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'|' | b'-' | b'_');
    match name.strip_prefix('@') {
        Some(category) if CATEGORIES.contains(&category) => Ok(()),
        Some(category) => {
            Err(format!("@{category} is no category of commands: Redis's ACL CAT lists them, as +@write"))
        }
        None if !name.is_empty() && name.bytes().all(plain) => Ok(()),
        None => Err(format!("{rule:?} is no rule: write +COMMAND, -COMMAND, +@CATEGORY or -@CATEGORY")),
    }
}

pub(super) fn texts(items: &[Item<'_>]) -> Value {
    items.iter().map(|item| Value::from(item.text)).collect::<Vec<_>>().into()
}

fn wide(size: usize) -> u64 {
    u64::try_from(size).unwrap_or(u64::MAX)
}

fn narrow(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
