//! Hosts: which names, and paths below them, lead to which pool, so that a gateway has the virtual host of a new service
//! as well as its endpoints.
//!
//! Sources claim hosts for pools: Services, TrafficPolicies, files and the configuration. A host belongs to the namespace
//! that took it first, with all its paths. Whoever has it keeps it for as long as it claims it, across restarts where a
//! snapshot file is configured; otherwise the oldest claim has it, which every replica finds alike. What the
//! configuration or a file says needs no namespace and comes before all. A claim that is not granted is a conflict, which
//! is published too.

mod settle;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub(super) use self::settle::{Owners, settle};
use super::pool::{PoolId, Renderings};

/// Hosts and paths that one pool can have.
pub const MAX_OF_POOL: usize = 64;
/// The longest path prefix, in bytes.
const MAX_PATH: usize = 512;

/// A host with the paths below a prefix.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct HostPath {
    /// In lower case: `shop.example`, or `*.example` for all names below.
    pub host: Arc<str>,
    /// `/` for all, or `/api` for `/api` itself and what is below it; no slash at its end.
    pub path_prefix: Arc<str>,
}

/// A wish that requests for a host and path go to a pool.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Claim {
    /// Which requests.
    #[serde(flatten)]
    pub at: HostPath,
    /// Where to.
    pub pool: PoolId,
    /// Whose wish it is; `None` for whoever operates this instance.
    pub namespace: Option<Arc<str>>,
    /// Seconds of the Unix epoch at which the object was created that says so; 0 where that means nothing.
    #[serde(default)]
    pub since: u64,
}

/// A claim that is not granted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Conflict {
    /// The claim.
    pub claim: Claim,
    /// Who has the host: a namespace, or the pool of the same namespace that has the path.
    pub taken_by: Arc<str>,
}

/// All hosts as of a snapshot.
#[derive(Debug, Default)]
pub struct HostTable {
    /// The revision of the snapshot at which its content last changed.
    pub revision: u64,
    /// Whether any shard was asked for its hosts yet.
    pub settled: bool,
    /// The shards that have not told theirs yet; what they have is not in here.
    pub unheard: Vec<Arc<str>>,
    /// By host, then path: each stands there once.
    pub granted: Vec<Claim>,
    /// What is not granted.
    pub conflicts: Vec<Conflict>,
    /// Names the content: the same on every replica that knows the same.
    pub tag: String,
    /// The table in the formats of gateways, for those who may see all of it.
    pub renderings: Renderings,
}

/// Kinds of object that claim hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Claimants {
    /// TrafficPolicies.
    Policies,
    /// Whatever else the source has: Services, a file's pools, a hub's hosts.
    Source,
}

/// What one shard claims.
#[derive(Debug, Default)]
pub(super) struct ShardHosts {
    claims: BTreeMap<Claimants, Vec<Claim>>,
    awaited: BTreeSet<Claimants>,
}

/// Reads hosts as people write them: `shop.example, shop.example/api *.example`, separated by commas or spaces. What is no
/// host is told in the second list, for people, and keeps the others from nothing.
pub fn parse(text: &str) -> (BTreeSet<HostPath>, Vec<String>) {
    let words = text.split(|it: char| it == ',' || it.is_whitespace()).filter(|word| !word.is_empty());
    let (mut good, mut bad) = (BTreeSet::new(), Vec::new());
    for word in words {
        match HostPath::parse(word) {
            Ok(_) if good.len() >= MAX_OF_POOL => {
                bad.push(format!("{word:?} is one too many: a pool has at most {MAX_OF_POOL} hosts and paths"));
                break;
            }
            Ok(parsed) => {
                good.insert(parsed);
            }
            Err(why) => bad.push(why),
        }
    }
    (good, bad)
}

// === impl HostPath ===

impl HostPath {
    /// Reads `HOST` or `HOST/PATH`.
    ///
    /// # Errors
    /// For people: why this cannot stand in every gateway's configuration.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (host, path) = text.split_once('/').unwrap_or((text, ""));
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let path = format!("/{}", path.trim_end_matches('/'));
        let labels = host.strip_prefix("*.").unwrap_or(&host);
        let label = |label: &str| {
            let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
            (1..=63).contains(&label.len())
                && label.bytes().all(inner)
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        if host.len() > 253 || !labels.split('.').all(label) {
            return Err(format!(
                "{text:?} is no host: write shop.example, *.example or shop.example/path, without port or scheme"
            ));
        }
        // Nothing that would mean something to a gateway's configuration, and no step upwards.
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"/._~-@:+".contains(&byte);
        if path.len() > MAX_PATH
            || !path.bytes().all(inner)
            || path.contains("//")
            || path.split('/').any(|it| it == ".." || it == ".")
        {
            return Err(format!(
                "{text:?} has a path that no gateway would match: use letters, digits and / . _ ~ - @ : +"
            ));
        }
        Ok(Self { host: host.into(), path_prefix: path.into() })
    }

    /// All paths of a host.
    pub fn is_whole_host(&self) -> bool {
        &*self.path_prefix == "/"
    }
}

impl std::fmt::Display for HostPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let path = if self.is_whole_host() { "" } else { &self.path_prefix };
        write!(f, "{}{path}", self.host)
    }
}

// === impl HostTable ===

impl HostTable {
    /// Whether everybody has told what they claim: until then, no host is no answer.
    pub fn is_known(&self) -> bool {
        self.settled && self.unheard.is_empty()
    }

    /// Whether nobody claims anything.
    pub(super) fn is_empty(&self) -> bool {
        self.granted.is_empty() && self.conflicts.is_empty()
    }
}

// === impl ShardHosts ===

impl ShardHosts {
    /// Of a shard that is to tell of these.
    pub(super) fn awaiting(awaited: impl IntoIterator<Item = Claimants>) -> Self {
        Self { awaited: awaited.into_iter().collect(), ..Self::default() }
    }

    /// Takes in all that these claim.
    pub(super) fn set(&mut self, of: Claimants, claims: Vec<Claim>) {
        self.awaited.remove(&of);
        self.claims.insert(of, claims);
    }

    /// Takes in what a former life kept.
    pub(super) fn restore(&mut self, claims: Vec<Claim>) {
        self.awaited.clear();
        self.claims.insert(Claimants::Source, claims);
    }

    pub(super) fn is_heard(&self) -> bool {
        self.awaited.is_empty()
    }

    pub(super) fn claims(&self) -> impl Iterator<Item = &Claim> {
        self.claims.values().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_as_people_write_them_and_what_is_none_is_told() {
        let (good, bad) = parse("Shop.Example, shop.example/api/ *.example\n  http://x a..b x/../y shop.example");
        let good: Vec<String> = good.iter().map(HostPath::to_string).collect();
        assert_eq!(good, ["*.example", "shop.example", "shop.example/api"]);
        assert_eq!(bad.len(), 3, "{bad:?}");
    }

    #[test]
    fn nothing_gets_through_that_a_gateways_configuration_would_read_as_something_else() {
        for bad in [
            "a;b", "a/{x}", "a/b;c", "a/\"", "a/$x", "a/b\\c", "*", "a.*", "-a", "a/b//c", "a:80", "", "a/#",
            "a/%2e%2e",
        ] {
            assert!(HostPath::parse(bad).is_err(), "{bad}");
        }
        assert!(HostPath::parse(&format!("a/{}", "x".repeat(600))).is_err());
    }

    #[test]
    fn one_pool_does_not_fill_the_table() {
        let many: Vec<String> = (0..100).map(|number| format!("h{number}.example")).collect();
        let (good, bad) = parse(&many.join(","));
        assert_eq!((good.len(), bad.len()), (MAX_OF_POOL, 1));
    }
}
