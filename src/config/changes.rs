//! What of a changed configuration only a restart brings about.

use std::collections::{BTreeMap, BTreeSet};

use toml::{Table, Value};

use super::Loaded;

/// What a reload brings about, by the beginnings of the keys. `anonymous` and a user's or a route's keys among them.
const RELOADED: [&str; 21] = [
    "discovery.anonymous",
    "discovery.tls",
    "discovery.tokens_file",
    "gateway.head_timeout_seconds",
    "gateway.http2_max_streams",
    "gateway.idle_timeout_seconds",
    "gateway.max_connections",
    "gateway.max_fields",
    "gateway.max_head_size",
    "gateway.max_target_size",
    "gateway.pool",
    "gateway.route",
    "gateway.start_traces",
    "gateway.trusted_proxies",
    "log.anonymous",
    "log.cluster",
    "log.route",
    "log.sentinel_masters",
    "log.sentinel_port",
    "log.tls",
    "log.user",
];

/// The keys by which `now` differs from `started` and which a reload leaves as they are: listeners, threads, limits,
/// Kafka and whatever else is set up once.
///
/// Both configurations spell out every default, so that a key which merely came to stand in the file is no difference.
pub fn needing_restart(started: &Loaded, now: &Loaded) -> Vec<String> {
    let (before, after) = (flat(started), flat(now));
    let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let differing = keys.into_iter().filter(|key| before.get(*key) != after.get(*key)).map(String::as_str);
    let differing = differing.chain(now.files.changed_since(&started.files));
    let fixed = differing.filter(|key| !key.is_empty() && !is_reloaded(key) && !is_listeners_tls(key));
    // Whether a listener speaks TLS is settled when it is bound.
    let has = |keys: &BTreeMap<String, Value>, tls: &str| {
        keys.keys().any(|key| key.strip_prefix(tls).is_some_and(|rest| rest.starts_with('.')))
    };
    let tls = ["log.tls", "discovery.tls"].into_iter().filter(|tls| has(&before, tls) != has(&after, tls));
    let fixed: BTreeSet<String> = fixed.chain(tls).map(str::to_owned).collect();
    fixed.into_iter().collect()
}

/// A file of a gateway's listener, whose content is read again; the list of listeners itself is one value.
fn is_listeners_tls(key: &str) -> bool {
    key.strip_prefix("gateway.listener[").is_some_and(|rest| rest.contains("].tls."))
}

fn is_reloaded(key: &str) -> bool {
    RELOADED
        .iter()
        .any(|start| key.strip_prefix(start).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '['])))
}

/// Every value by its dotted key. A list is one value.
fn flat(loaded: &Loaded) -> BTreeMap<String, Value> {
    // What was printed from a good configuration can be read.
    let mut found = BTreeMap::new();
    let mut open: Vec<(String, Table)> = vec![(String::new(), loaded.effective.parse().unwrap_or_default())];
    while let Some((path, table)) = open.pop() {
        for (key, value) in table {
            let path = if path.is_empty() { key } else { format!("{path}.{key}") };
            match value {
                Value::Table(table) => open.push((path, table)),
                value => drop(found.insert(path, value)),
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    const FILE: &str = "[log]\nlisten = [\"127.0.0.1:0\"]\n[log.kafka]\nbrokers = [\"a:1\"]\n\
                        properties = { \"client.id\" = \"x\" }\n[[log.route]]\nkey = \"a\"\n";

    fn restart(from: &str, to: &str) -> Vec<String> {
        needing_restart(&parse("t.toml", FILE).unwrap(), &parse("t.toml", &FILE.replace(from, to)).unwrap())
    }

    #[test]
    fn users_and_routes_and_the_cluster_need_none() {
        assert!(restart("key = \"a\"", "key = \"b\"\nhold_ms = 7\n[[log.user]]\nname = \"u\"").is_empty());
        let service = "[log]\ncluster = { service = \"a/b\" }\nsentinel_masters = [\"c\"]";
        assert!(restart("[log]", service).is_empty());
    }

    #[test]
    fn a_default_that_is_spelled_out_needs_none() {
        assert!(restart("[log]", "[log]\nthreads = 2").is_empty());
    }

    #[test]
    fn what_is_set_up_once_is_named() {
        assert_eq!(restart("[log]", "[log]\nthreads = 3"), ["log.threads"]);
        assert_eq!(restart("a:1", "b:1"), ["log.kafka.brokers"]);
        assert_eq!(restart("\"x\"", "\"y\""), ["log.kafka.properties.client.id"]);
        assert_eq!(restart("[log]", "[admin]\n[log]"), ["admin.listen"]);
    }

    #[test]
    fn a_secret_that_is_read_once_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("secret");
        let text = FILE.replace(
            "properties =",
            &format!("properties_files = {{ \"ssl.key.password\" = {file:?} }}\nproperties ="),
        );
        std::fs::write(&file, "one").unwrap();
        let before = parse("t.toml", &text).unwrap();
        std::fs::write(&file, "two").unwrap();
        let after = parse("t.toml", &text).unwrap();
        assert_eq!(needing_restart(&before, &after), ["log.kafka.properties_files.\"ssl.key.password\""]);
        assert!(needing_restart(&after, &after).is_empty());
    }
}
