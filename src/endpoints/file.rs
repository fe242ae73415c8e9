//! Pools of a file: VMs, and whatever else no API tells of.
//!
//! ```toml
//! [[pool]]
//! id = "vm/checkout"
//! endpoints = [{ address = "10.9.0.1", port = 8080, weight = 100, zone = "a" }]
//! hosts = ["shop.example", "shop.example/api"]
//! ```
//!
//! The file is looked at every [`LOOK`]; by its content, because a mounted ConfigMap is replaced by a link and a network
//! file system tells of no change. It is taken when it reads the same twice, so that one which is being written is not
//! taken half. What does not parse, or is empty, changes nothing: the pools stay, and the source is stale until the file
//! is good again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use super::config::FixedEndpoint;
use super::hosts::{Claim, Claimants, HostPath, MAX_OF_POOL};
use super::pool::{DEFAULT_WEIGHT, Endpoint, PoolContent, PoolId, sort};
use super::runtime::Sender;
use super::update::{SourceEvent, Update, Watched};

/// How often the file is looked at.
const LOOK: Duration = Duration::from_millis(250);
/// How often an unchanged file is told to be what it was.
const CONFIRM: Duration = Duration::from_secs(10);
/// A larger file is none of pools.
const MAX_SIZE: u64 = 64 << 20;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    pool: Vec<PoolEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PoolEntry {
    id: String,
    endpoints: Vec<EndpointEntry>,
    #[serde(default)]
    hosts: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EndpointEntry {
    address: IpAddr,
    port: u16,
    #[serde(default = "default_weight")]
    weight: u32,
    zone: Option<String>,
}

fn default_weight() -> u32 {
    DEFAULT_WEIGHT
}

/// What a file says.
struct Parsed {
    pools: BTreeMap<PoolId, PoolContent>,
    hosts: Vec<Claim>,
}

/// Follows a file until the registry is gone.
pub(super) async fn run(path: PathBuf, events: Sender) {
    let mut taken: Option<String> = None;
    let mut seen: Option<String> = None;
    let mut pools: BTreeMap<PoolId, PoolContent> = BTreeMap::new();
    let mut well = false;
    let mut quiet = Duration::ZERO;
    loop {
        let told = match read(&path).await {
            Err(why) => {
                (seen, well) = (None, false);
                vec![SourceEvent::Lost(Watched::Endpoints, why)]
            }
            Ok(text) if well && taken.as_ref() == Some(&text) => {
                quiet += LOOK;
                if quiet >= CONFIRM { vec![SourceEvent::Contact(Watched::Endpoints)] } else { Vec::new() }
            }
            // The first time there is nothing to lose by taking it at once.
            Ok(text) if taken.is_some() && seen.as_ref() != Some(&text) => {
                seen = Some(text);
                Vec::new()
            }
            Ok(text) => match parse(&text) {
                Ok(parsed) => {
                    let updates = updates(taken.is_some().then_some(&pools), &parsed.pools);
                    (pools, taken, well) = (parsed.pools, Some(text), true);
                    let hosts = SourceEvent::Hosts(Claimants::Source, parsed.hosts);
                    vec![hosts, SourceEvent::Pools(updates), SourceEvent::Contact(Watched::Endpoints)]
                }
                Err(why) => {
                    well = false;
                    vec![SourceEvent::Lost(Watched::Endpoints, format!("{}: {why}", path.display()))]
                }
            },
        };
        if !told.is_empty() {
            quiet = Duration::ZERO;
            if !events.send(told).await {
                return;
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn read(path: &Path) -> Result<String, String> {
    let failed = |error: std::io::Error| format!("{}: cannot be read: {error}", path.display());
    let size = tokio::fs::metadata(path).await.map_err(failed)?.len();
    if size > MAX_SIZE {
        return Err(format!("{}: has {size} bytes, and {MAX_SIZE} is the most", path.display()));
    }
    tokio::fs::read_to_string(path).await.map_err(failed)
}

/// The differences are live: what an operator writes down is meant. Only the first reading is a list.
fn updates(before: Option<&BTreeMap<PoolId, PoolContent>>, now: &BTreeMap<PoolId, PoolContent>) -> Vec<Update> {
    let Some(before) = before else { return vec![Update::Reset(now.values().cloned().collect())] };
    let gone = before.keys().filter(|id| !now.contains_key(*id)).cloned().map(Update::Remove);
    let new = now.iter().filter(|(id, pool)| before.get(*id) != Some(pool)).map(|(_, pool)| Update::Add(pool.clone()));
    gone.chain(new).collect()
}

fn parse(text: &str) -> Result<Parsed, String> {
    if text.trim().is_empty() {
        return Err("is empty: to empty a pool, give it endpoints = []".to_owned());
    }
    let document: Document = toml::from_str(text).map_err(|error| error.to_string().trim().replace('\n', " "))?;
    let (mut pools, mut hosts) = (BTreeMap::new(), Vec::new());
    for entry in document.pool {
        let id = PoolId::parse(&entry.id).map_err(|error| format!("pool id {:?} {error}", entry.id))?;
        hosts.extend(claims(&id, &entry.hosts).map_err(|why| format!("pool {id}: hosts: {why}"))?);
        let endpoints = entry.endpoints.into_iter().map(|it| FixedEndpoint {
            address: it.address,
            port: it.port,
            weight: it.weight,
            zone: it.zone.map(Into::into),
        });
        let content = content(id.clone(), &endpoints.collect::<Vec<_>>())?;
        if pools.insert(id.clone(), content).is_some() {
            return Err(format!("pool {id} stands there twice"));
        }
    }
    Ok(Parsed { pools, hosts })
}

/// The hosts that whoever operates this instance wrote down for a pool.
///
/// # Errors
/// For people: which of them is no host, or that there are too many.
pub fn claims(pool: &PoolId, hosts: &[String]) -> Result<Vec<Claim>, String> {
    if hosts.len() > MAX_OF_POOL {
        return Err(format!("{} of them, and {MAX_OF_POOL} is the most", hosts.len()));
    }
    let claim = |text: &String| Ok(Claim { at: HostPath::parse(text)?, pool: pool.clone(), namespace: None, since: 0 });
    hosts.iter().map(claim).collect()
}

/// A pool of endpoints that a person wrote down.
///
/// # Errors
/// An endpoint has no port, no weight, or stands there twice.
pub(super) fn content(id: PoolId, fixed: &[FixedEndpoint]) -> Result<PoolContent, String> {
    let mut keys = BTreeSet::new();
    let mut endpoints = Vec::new();
    for it in fixed {
        let endpoint = Endpoint { weight: it.weight, zone: it.zone.clone(), ..Endpoint::new(it.address, it.port) };
        let at = format!("pool {id}: endpoint {}:{}", it.address, it.port);
        if it.port == 0 || it.weight == 0 || it.weight > 1_000_000 {
            return Err(format!("{at}: give a port from 1 to 65535 and a weight from 1 to 1000000"));
        }
        if !keys.insert(endpoint.key()) {
            return Err(format!("{at}: stands there twice"));
        }
        endpoints.push(endpoint);
    }
    sort(&mut endpoints);
    Ok(PoolContent { id, endpoints: endpoints.into(), namespace: None, labels: Arc::default(), relayed: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "[[pool]]\nid = \"vm/a\"\nendpoints = [{ address = \"10.9.0.2\", port = 80 }, { address = \"10.9.0.1\", port = 80, weight = 5, zone = \"b\" }]\n";

    #[test]
    fn a_file_is_its_pools() {
        let pools = parse(GOOD).unwrap().pools;
        let pool = pools.values().next().unwrap();
        let found: Vec<_> = pool.endpoints.iter().map(|it| (it.address.to_string(), it.weight)).collect();
        assert_eq!(found, [("10.9.0.1".to_owned(), 5), ("10.9.0.2".to_owned(), 100)]);
        assert_eq!(pool.endpoints[0].zone.as_deref(), Some("b"));
    }

    #[test]
    fn a_file_that_is_not_good_says_why_and_is_not_taken() {
        for (bad, why) in [
            ("", "is empty"),
            ("[[pool]]\nid = \"a\"\nendpoints = [{ address = \"10.0.0.1\" ", "TOML"),
            ("[[pool]]\nid = \"a b\"\nendpoints = []", "\"a b\""),
            ("[[pool]]\nid = \"a\"\nendpoints = []\n[[pool]]\nid = \"a\"\nendpoints = []", "twice"),
            ("[[pool]]\nid = \"a\"\nendpoints = [{ address = \"host\", port = 1 }]", "IP address"),
            ("[[pool]]\nid = \"a\"\nendpoints = [{ address = \"10.0.0.1\", port = 0 }]", "port from 1"),
            ("[[pool]]\nid = \"a\"\nport = 1\nendpoints = []", "unknown field"),
            ("[[pool]]\nid = \"a\"\nendpoints = []\nhosts = [\"a b\"]", "is no host"),
        ] {
            let Err(error) = parse(bad) else { panic!("{bad:?}") };
            assert!(error.contains(why), "{bad:?}: {error}");
        }
    }

    #[test]
    fn an_edit_is_told_as_its_difference() {
        let before = parse(GOOD).unwrap().pools;
        let edited = parse("[[pool]]\nid = \"vm/b\"\nendpoints = []\n").unwrap().pools;
        assert!(matches!(updates(None, &before).as_slice(), [Update::Reset(pools)] if pools.len() == 1));
        let told = updates(Some(&before), &edited);
        assert!(
            matches!(told.as_slice(), [Update::Remove(gone), Update::Add(new)] if gone.as_str() == "vm/a" && new.id.as_str() == "vm/b")
        );
        assert_eq!(updates(Some(&before), &before), []);
    }
}
