//! What a request asks for: filters, waits and versions, from its query and headers.

use std::time::Duration;

use crate::endpoints::pool::{Pool, PoolId};
use crate::endpoints::{Changes, Snapshot};

/// The longest wait that can be asked for.
pub(super) const MAX_WAIT: Duration = Duration::from_secs(600);
/// Pools that one request can name.
pub(super) const MAX_IDS: usize = 1_000;

/// Which pools are meant; everything given must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Filter {
    /// These pools; empty for all.
    pub(super) ids: Vec<PoolId>,
    /// Endpoints of this cluster.
    pub(super) cluster: Option<String>,
    /// Services of this namespace.
    pub(super) namespace: Option<String>,
    /// Ids that begin so.
    pub(super) prefix: Option<String>,
    /// Labels, each with its value, or only present.
    pub(super) labels: Vec<(String, Option<String>)>,
}

/// A version as `BOOT:REVISION`: of this process's life, or of another's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Index {
    pub(super) boot: String,
    pub(super) revision: u64,
}

/// A request's query, read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Query {
    pub(super) filter: Filter,
    /// What the client has.
    pub(super) index: Option<Index>,
    /// How long it waits for something else.
    pub(super) wait: Option<Duration>,
    /// It is a relay's, and this is the tag of what it was told of the sources.
    pub(super) relay: Option<String>,
}

// === impl Query ===

impl Query {
    /// Reads a query's pairs. The error is for the client.
    pub(super) fn read(pairs: &[(String, String)]) -> Result<Self, String> {
        let mut query = Self::default();
        for (key, value) in pairs {
            match key.as_str() {
                "index" | "since" => {
                    query.index = Some(
                        Index::parse(value).ok_or("index: write BOOT:REVISION, as the header Tidegate-Index has it")?,
                    )
                }
                "relay" => query.relay = Some(value.clone()),
                "wait" => query.wait = Some(parse_wait(value)?),
                "id" => query.filter.ids.push(parse_id(value)?),
                "cluster" => query.filter.cluster = Some(value.clone()),
                "namespace" => query.filter.namespace = Some(value.clone()),
                "prefix" => query.filter.prefix = Some(value.clone()),
                "label" => query.filter.labels.push(match value.split_once('=') {
                    Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                    None => (value.clone(), None),
                }),
                other => {
                    return Err(format!(
                        "{other}: unknown; known are index, since, wait, id, cluster, namespace, prefix and label"
                    ));
                }
            }
        }
        if query.filter.ids.len() > MAX_IDS {
            return Err(format!("id: name at most {MAX_IDS} pools in one request"));
        }
        Ok(query)
    }
}

/// The id of a pool. The error is for the client.
pub(super) fn parse_id(text: &str) -> Result<PoolId, String> {
    PoolId::parse(text).map_err(|error| format!("id {text:?} {error}"))
}

/// `30s`, `500ms`, `2m`, or a bare number of seconds; at most [`MAX_WAIT`].
fn parse_wait(text: &str) -> Result<Duration, String> {
    let bad = || format!("wait: {text:?} is no time: write it as 30s, 500ms or 2m");
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits).ok_or_else(bad)?;
    let number: u64 = number.parse().map_err(|_| bad())?;
    let wait = match unit {
        "ms" => Duration::from_millis(number),
        "s" | "" => Duration::from_secs(number),
        "m" => Duration::from_secs(number.saturating_mul(60)),
        _ => return Err(bad()),
    };
    Ok(wait.min(MAX_WAIT))
}

// === impl Index ===

impl Index {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (boot, revision) = text.rsplit_once(':')?;
        Some(Self { boot: boot.to_owned(), revision: revision.parse().ok()? })
    }
}

impl std::fmt::Display for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.boot, self.revision)
    }
}

// === impl Filter ===

impl Filter {
    /// Whether a pool is meant.
    pub(super) fn admits(&self, pool: &Pool, snapshot: &Snapshot) -> bool {
        let of_cluster = |named: &String| {
            pool.shards
                .iter()
                .filter_map(|at| snapshot.shards().get(*at)?.prefix.as_deref())
                .any(|prefix| prefix.split('/').next() == Some(named))
        };
        let labelled = |(name, value): &(String, Option<String>)| match (pool.labels.get(name), value) {
            (Some(found), Some(wanted)) => found == wanted,
            (found, None) => found.is_some(),
            (None, Some(_)) => false,
        };
        (self.ids.is_empty() || self.ids.contains(&pool.id))
            && self.prefix.as_ref().is_none_or(|prefix| pool.id.as_str().starts_with(prefix))
            && self.namespace.as_deref().is_none_or(|namespace| pool.namespace.as_deref() == Some(namespace))
            && self.cluster.as_ref().is_none_or(of_cluster)
            && self.labels.iter().all(labelled)
    }

    /// What changed after a revision, without what is certainly not meant; `None` where that is not remembered.
    pub(super) fn changes(&self, snapshot: &Snapshot, revision: u64) -> Option<Changes> {
        match self.ids.as_slice() {
            [] => snapshot.changes_since(revision),
            ids => snapshot.changes_among(ids, revision),
        }
    }

    /// Whether a pool that is gone, of which only the id is known, may have been meant.
    pub(super) fn may_have_admitted(&self, id: &PoolId) -> bool {
        (self.ids.is_empty() || self.ids.contains(id))
            && self.prefix.as_ref().is_none_or(|prefix| id.as_str().starts_with(prefix))
    }
}

/// Whether an `If-None-Match` names a tag.
pub(super) fn matches_etag(if_none_match: &str, etag: &str) -> bool {
    if_none_match.split(',').map(str::trim).any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Query, String> {
        Query::read(&pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect::<Vec<_>>())
    }

    #[test]
    fn waits_are_read_with_their_unit_and_cut_at_the_longest() {
        for (text, millis) in [("30s", 30_000), ("500ms", 500), ("2m", 120_000), ("7", 7_000), ("1000000m", 600_000)] {
            assert_eq!(read(&[("wait", text)]).unwrap().wait, Some(Duration::from_millis(millis)), "{text}");
        }
        for bad in ["", "s", "-1s", "1h", "1.5s", "99999999999999999999s"] {
            assert!(read(&[("wait", bad)]).unwrap_err().contains("30s"), "{bad}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused_and_not_passed_over() {
        assert!(read(&[("namspace", "a")]).unwrap_err().contains("unknown"));
        assert!(read(&[("index", "7")]).unwrap_err().contains("BOOT:REVISION"));
        assert!(read(&[("id", "a b")]).unwrap_err().contains("a b"));
        let query =
            read(&[("id", "a"), ("id", "b"), ("label", "team=x"), ("label", "tier"), ("since", "b00t:7")]).unwrap();
        assert_eq!(query.filter.ids.len(), 2);
        assert_eq!(query.filter.labels, [("team".into(), Some("x".into())), ("tier".into(), None)]);
        assert_eq!(query.index, Some(Index { boot: "b00t".into(), revision: 7 }));
    }

    #[test]
    fn a_tag_is_found_in_a_list_of_them() {
        assert!(matches_etag("\"a\", W/\"b\"", "\"b\""));
        assert!(matches_etag("*", "\"b\""));
        assert!(!matches_etag("\"a\"", "\"b\""));
    }
}
