//! CONFIG GET and SET. Redis's names for what Tidegate has too; settings change in the configuration file only.

use crate::intake::client::{Client, DATABASES, ServerFacts};
use crate::resp::reply::Reply;

use super::parse::syntax_error;
use super::{glob, shown};

/// The settings with their values of now.
fn settings(server: &ServerFacts<'_>) -> Vec<(&'static str, String)> {
    let limits = server.limits;
    vec![
        // What redis-benchmark asks to know how safe the other side is; the truth for a server without a data set.
        ("save", String::new()),
        ("appendonly", "no".into()),
        ("databases", DATABASES.to_string()),
        ("maxclients", limits.connections.to_string()),
        ("maxmemory", limits.memory.to_string()),
        ("maxmemory-policy", "noeviction".into()),
        ("port", server.tcp_port.to_string()),
        ("proto-max-bulk-len", limits.record_size.to_string()),
        ("slave-read-only", "yes".into()),
        ("replica-read-only", "yes".into()),
        ("cluster-enabled", if server.is_cluster() { "yes" } else { "no" }.into()),
        ("timeout", limits.idle_timeout.as_secs().to_string()),
    ]
}

/// CONFIG GET pattern [pattern …].
pub(super) fn get(args: &[&[u8]], _: &mut Client, server: &ServerFacts<'_>) -> Reply {
    let patterns: Vec<Vec<u8>> = args.iter().skip(2).map(|pattern| pattern.to_ascii_lowercase()).collect();
    let asked = |name: &str| patterns.iter().any(|pattern| glob::matches(pattern, name.as_bytes()));
    let found = settings(server).into_iter().filter(|(name, _)| asked(name));
    Reply::Map(found.map(|(name, value)| (Reply::text(name), Reply::bulk(value))).collect())
}

/// CONFIG SET name value [name value …].
pub(super) fn set(args: &[&[u8]], _: &mut Client, server: &ServerFacts<'_>) -> Reply {
    let pairs = args.get(2..).unwrap_or_default();
    if pairs.len() % 2 != 0 {
        return syntax_error();
    }
    let known = settings(server);
    let unknown = |name: &&[u8]| !known.iter().any(|(known, _)| name.eq_ignore_ascii_case(known.as_bytes()));
    let name = pairs.iter().step_by(2).copied().find(unknown);
    match (name, pairs) {
        (Some(name), _) => {
            let name = shown(name, 128);
            Reply::error(format!("ERR Unknown option or number of arguments for CONFIG SET - '{name}'"))
        }
        (None, [name, ..]) => {
            let name = shown(name, 128);
            Reply::error(format!(
                "ERR CONFIG SET failed (possibly related to argument '{name}') - settings are in Tidegate's \
                 configuration file; change them there and reload"
            ))
        }
        (None, []) => syntax_error(),
    }
}
