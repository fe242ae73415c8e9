//! INFO, ROLE, TIME, LOLWUT.

use std::fmt::Write;

use crate::intake::client::{Client, REDIS_VERSION, ServerFacts};
use crate::intake::live::Kind;
use crate::resp::reply::Reply;

/// A section of INFO: its title and what writes its lines.
type Section = (&'static str, fn(&mut Lines, &ServerFacts<'_>));

/// All sections in Redis's order, our own at the end.
const SECTIONS: [Section; 9] = [
    ("Server", server_section),
    ("Clients", clients_section),
    ("Memory", memory_section),
    ("Persistence", persistence_section),
    ("Stats", stats_section),
    ("Replication", replication_section),
    ("Cluster", |lines, server| lines.put("cluster_enabled", u8::from(server.is_cluster()))),
    ("Keyspace", |_, _| {}),
    ("Tidegate", tidegate_section),
];

/// INFO [section …]. A name that is none adds nothing, as in Redis.
pub(super) fn info(args: &[&[u8]], _: &mut Client, server: &ServerFacts<'_>) -> Reply {
    let names = args.get(1..).unwrap_or_default();
    let asked = |wanted: &str| names.iter().any(|name| name.eq_ignore_ascii_case(wanted.as_bytes()));
    let all = names.is_empty() || asked("default") || asked("all") || asked("everything");
    let mut lines = Lines(String::new());
    for (title, write) in SECTIONS {
        if all || asked(title) {
            if !lines.0.is_empty() {
                lines.0.push_str("\r\n");
            }
            lines.0.push_str("# ");
            lines.0.push_str(title);
            lines.0.push_str("\r\n");
            write(&mut lines, server);
        }
    }
    Reply::Verbatim(lines.0)
}

fn server_section(lines: &mut Lines, server: &ServerFacts<'_>) {
    lines.put("redis_version", REDIS_VERSION);
    lines.put("redis_mode", server.mode());
    lines.put("os", std::env::consts::OS);
    lines.put("arch_bits", usize::BITS);
    lines.put("process_id", server.process_id);
    lines.put("run_id", server.run_id);
    lines.put("tcp_port", server.tcp_port);
    lines.put("server_time_usec", server.now_us);
    lines.put("uptime_in_seconds", server.uptime_seconds());
    lines.put("uptime_in_days", server.uptime_seconds() / 86_400);
}

fn clients_section(lines: &mut Lines, server: &ServerFacts<'_>) {
    lines.put("connected_clients", server.connected_clients);
    lines.put("cluster_connections", 0);
    lines.put("maxclients", server.limits.connections);
    lines.put("blocked_clients", 0);
}

fn memory_section(lines: &mut Lines, server: &ServerFacts<'_>) {
    lines.put("used_memory", server.used_memory);
    lines.put("used_memory_human", human(server.used_memory));
    lines.put("maxmemory", server.limits.memory);
    lines.put("maxmemory_human", human(server.limits.memory));
    lines.put("maxmemory_policy", "noeviction");
}

fn persistence_section(lines: &mut Lines, _: &ServerFacts<'_>) {
    lines.put("loading", 0);
    lines.put("async_loading", 0);
    lines.put("rdb_changes_since_last_save", 0);
    lines.put("rdb_bgsave_in_progress", 0);
    lines.put("rdb_last_bgsave_status", "ok");
    lines.put("aof_enabled", 0);
    lines.put("aof_rewrite_in_progress", 0);
    lines.put("aof_last_write_status", "ok");
}

fn stats_section(lines: &mut Lines, server: &ServerFacts<'_>) {
    lines.put("total_connections_received", server.totals.connections);
    lines.put("total_commands_processed", server.totals.commands);
    lines.put("total_net_input_bytes", server.totals.bytes_in);
    lines.put("total_net_output_bytes", server.totals.bytes_out);
    lines.put("rejected_connections", server.totals.connections_rejected);
    lines.put("expired_keys", 0);
    lines.put("evicted_keys", 0);
    lines.put("keyspace_hits", 0);
    lines.put("keyspace_misses", 0);
    lines.put("pubsub_channels", server.hub.number(Kind::Channel));
    lines.put("pubsub_patterns", server.hub.number(Kind::Pattern));
}

fn replication_section(lines: &mut Lines, server: &ServerFacts<'_>) {
    lines.put("role", "master");
    lines.put("connected_slaves", 0);
    lines.put("master_failover_state", "no-failover");
    lines.put("master_replid", server.run_id);
    lines.put("master_repl_offset", 0);
    lines.put("repl_backlog_active", 0);
}

fn tidegate_section(lines: &mut Lines, server: &ServerFacts<'_>) {
    lines.put("tidegate_version", env!("CARGO_PKG_VERSION"));
    lines.put("records_received", server.totals.records_received);
    lines.put("records_acknowledged", server.totals.records_acknowledged);
    lines.put("records_refused", server.totals.records_refused);
    lines.put("records_in_flight", server.totals.records_in_flight);
    lines.put("in_flight_bytes", server.used_memory);
    lines.put("in_flight_bytes_limit", server.limits.memory);
}

/// ROLE: a master without replicas; by the sentinels' port, a sentinel of its masters.
pub(super) fn role(_: &[&[u8]], client: &mut Client, server: &ServerFacts<'_>) -> Reply {
    if server.cluster.is_sentinel(&client.local_address) {
        let masters = server.cluster.config.sentinel_masters.iter().map(|name| Reply::bulk(name.as_bytes()));
        return Reply::Array(vec![Reply::text("sentinel"), Reply::Array(masters.collect())]);
    }
    Reply::Array(vec![Reply::text("master"), Reply::Integer(0), Reply::Array(Vec::new())])
}

/// TIME: Unix seconds, and microseconds within.
pub(super) fn time(_: &[&[u8]], _: &mut Client, server: &ServerFacts<'_>) -> Reply {
    let (seconds, micros) = (server.now_us / 1_000_000, server.now_us % 1_000_000);
    Reply::Array(vec![Reply::bulk(seconds.to_string()), Reply::bulk(micros.to_string())])
}

/// LOLWUT.
pub(super) fn lolwut(_: &[&[u8]], _: &mut Client, _: &ServerFacts<'_>) -> Reply {
    Reply::Verbatim(format!("Tidegate ver. {}, as Redis ver. {REDIS_VERSION}\n", env!("CARGO_PKG_VERSION")))
}

/// Bytes as Redis writes them for people.
fn human(bytes: usize) -> String {
    const UNITS: [(usize, &str); 3] = [(1 << 30, "G"), (1 << 20, "M"), (1 << 10, "K")];
    for (size, unit) in UNITS {
        if bytes >= size {
            return format!("{:.2}{unit}", bytes as f64 / size as f64);
        }
    }
    format!("{bytes}B")
}

struct Lines(String);

// === impl Lines ===

impl Lines {
    fn put(&mut self, name: &str, value: impl std::fmt::Display) {
        // Writing to a String does not fail.
        let _ = write!(self.0, "{name}:{value}\r\n");
    }
}
