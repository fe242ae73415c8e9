//! Who serves what: what gateways asked for, and what they say that they applied; of relays' gateways as well.
//!
//! Names come from clients, so both the number of gateways and of pools a gateway are bounded. One that was not heard of
//! for a day is forgotten. Every word of a gateway has a number, the highest for the latest, so that a relay can tell its
//! hub what is new (see [`super::relays`]).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::relays::Relay;
use crate::endpoints::pool::PoolId;

const MAX_GATEWAYS: usize = 10_000;
pub(super) const MAX_POOLS: usize = 10_000;
pub(super) const MAX_TEXT: usize = 1_024;
const FORGOTTEN: Duration = Duration::from_secs(24 * 3_600);

/// What a gateway sends.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Acknowledgement {
    /// Its name.
    pub(super) gateway: String,
    /// By pool: the `traffic_generation` or the `ETag` that it serves now.
    #[serde(default)]
    pub(super) applied: BTreeMap<String, Applied>,
    /// Why it refuses what it was given.
    #[serde(default)]
    pub(super) error: Option<String>,
}

/// What a gateway serves of a pool.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(untagged)]
pub(super) enum Applied {
    /// Of a pool that a TrafficPolicy makes.
    Generation(i64),
    /// Of any.
    Etag(String),
}

/// All gateways that were heard of, and the relays that some of them ask.
#[derive(Debug, Default)]
pub(super) struct Gateways {
    table: Mutex<Table>,
    /// The number of the last acknowledgement: what is to be told soon.
    acknowledged: watch::Sender<u64>,
}

#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) gateways: BTreeMap<String, Gateway>,
    pub(super) relays: BTreeMap<String, Relay>,
    /// The number of the last word.
    pub(super) last: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Gateway {
    pub(super) client: String,
    /// The relays that it is heard of through, its own first; none for one that asks here.
    pub(super) relays: Vec<String>,
    pub(super) since: SystemTime,
    pub(super) seen: SystemTime,
    pub(super) applied: BTreeMap<String, Word<Applied>>,
    pub(super) asked: BTreeMap<String, Word<()>>,
    pub(super) error: Option<Word<String>>,
    /// Whether it tells requests apart: only the built-in gateway does.
    pub(super) matches: bool,
    /// How many parts that are for some requests alone it serves of a pool as it applied it; none where it is not named.
    pub(super) parts: BTreeMap<String, usize>,
    /// The number of its last word.
    pub(super) last: u64,
    /// What the hub said of it, and when.
    pub(super) upstream: Option<Upstream>,
}

/// Something that a gateway said, when, and its number.
#[derive(Clone, Debug)]
pub(super) struct Word<T> {
    pub(super) what: T,
    pub(super) at: SystemTime,
    pub(super) number: u64,
}

/// What became of a gateway's words at a hub.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Upstream {
    pub(super) hub: String,
    pub(super) state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
    pub(super) at: String,
}

/// Why an acknowledgement is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum AckError {
    /// Empty, too long, or with characters that are no name's.
    #[error("gateway: give a name of 1 to 1024 visible ASCII characters")]
    Name,
    /// More than is kept.
    #[error("more pools or gateways than are kept")]
    TooMany,
}

/// Whether this can be a gateway's name, or a relay's.
pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= MAX_TEXT && name.bytes().all(|byte| byte.is_ascii_graphic())
}

// === impl Gateways ===

impl Gateways {
    /// Takes an acknowledgement in.
    pub(super) fn acknowledge(&self, ack: Acknowledgement, client: &str, now: SystemTime) -> Result<(), AckError> {
        if ack.applied.len() > MAX_POOLS {
            return Err(AckError::TooMany);
        }
        let number = self.with(&ack.gateway, client, now, |gateway, number| {
            for (pool, what) in ack.applied {
                gateway.parts.remove(&pool);
                gateway.applied.insert(pool, Word { what, at: now, number });
            }
            while gateway.applied.len() > MAX_POOLS {
                gateway.applied.pop_first();
            }
            let text = |text: String| text.chars().take(MAX_TEXT).collect();
            gateway.matches = false;
            gateway.error = ack.error.map(|what| Word { what: text(what), at: now, number });
        })?;
        self.acknowledged.send_replace(number);
        Ok(())
    }

    /// Notes that a gateway asked for a pool.
    pub(super) fn asked(&self, name: &str, client: &str, pool: &str, now: SystemTime) -> Result<(), AckError> {
        let asked = self.with(name, client, now, |gateway, number| {
            if gateway.asked.len() < MAX_POOLS || gateway.asked.contains_key(pool) {
                gateway.asked.insert(pool.to_owned(), Word { what: (), at: now, number });
            }
        });
        asked.map(drop)
    }

    /// Notes all that a gateway in this process asks for, where that is told anew, and what it serves of it, each pool with its parts.
    pub(super) fn serves(
        &self,
        name: &str,
        client: &str,
        asked: Option<&BTreeSet<PoolId>>,
        applied: Vec<(&PoolId, Applied, usize)>,
        now: SystemTime,
    ) -> Result<(), AckError> {
        let mut news = false;
        let number = self.with(name, client, now, |gateway, number| {
            gateway.matches = true;
            if let Some(asked) = asked {
                let word = |pool: &PoolId| (pool.as_str().to_owned(), Word { what: (), at: now, number });
                gateway.asked = asked.iter().take(MAX_POOLS).map(word).collect();
                gateway.applied.retain(|pool, _| asked.contains(pool.as_str()));
                gateway.parts.retain(|pool, _| asked.contains(pool.as_str()));
            }
            for (pool, what, parts) in applied.into_iter().take(MAX_POOLS) {
                let is_new = gateway.serves(pool.as_str(), parts);
                if is_new || gateway.applied.get(pool.as_str()).is_none_or(|before| before.what != what) {
                    gateway.applied.insert(pool.as_str().to_owned(), Word { what, at: now, number });
                    news = true;
                }
            }
        })?;
        if news {
            self.acknowledged.send_replace(number);
        }
        Ok(())
    }

    /// Follows the number of the last acknowledgement.
    pub(super) fn acknowledgements(&self) -> watch::Receiver<u64> {
        self.acknowledged.subscribe()
    }

    /// Lets somebody hear of an acknowledgement that came through a relay.
    pub(super) fn pass_on(&self, number: u64) {
        self.acknowledged.send_replace(number);
    }

    fn with(
        &self,
        name: &str,
        client: &str,
        now: SystemTime,
        act: impl FnOnce(&mut Gateway, u64),
    ) -> Result<u64, AckError> {
        let mut table = self.lock();
        let (gateway, number) = table.gateway(name, client, now)?;
        gateway.relays.clear();
        gateway.seen = now;
        act(gateway, number);
        Ok(number)
    }

    /// Forgets a gateway that is gone for good. Says whether there was one.
    pub(super) fn forget(&self, name: &str) -> bool {
        self.lock().gateways.remove(name).is_some()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Table> {
        // Each change is one step, so that a panic elsewhere does no harm.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Gateway ===

impl Gateway {
    /// Notes how many parts it serves of a pool. Says whether that is another number than before.
    pub(super) fn serves(&mut self, pool: &str, parts: usize) -> bool {
        let before = match parts {
            0 => self.parts.remove(pool),
            _ => self.parts.insert(pool.to_owned(), parts),
        };
        before.unwrap_or_default() != parts
    }
}

// === impl Table ===

impl Table {
    /// A gateway by its name, new or known, for its next word, and that word's number.
    pub(super) fn gateway(
        &mut self,
        name: &str,
        client: &str,
        now: SystemTime,
    ) -> Result<(&mut Gateway, u64), AckError> {
        if !is_name(name) {
            return Err(AckError::Name);
        }
        if self.gateways.len() >= MAX_GATEWAYS && !self.gateways.contains_key(name) {
            let heard = |gateway: &Gateway| now.duration_since(gateway.seen).is_ok_and(|age| age < FORGOTTEN);
            self.gateways.retain(|_, gateway| heard(gateway));
            if self.gateways.len() >= MAX_GATEWAYS {
                return Err(AckError::TooMany);
            }
        }
        self.last += 1;
        let gateway = self.gateways.entry(name.to_owned()).or_insert_with(|| Gateway {
            client: client.to_owned(),
            relays: Vec::new(),
            since: now,
            seen: now,
            applied: BTreeMap::new(),
            asked: BTreeMap::new(),
            error: None,
            matches: false,
            parts: BTreeMap::new(),
            last: 0,
            upstream: None,
        });
        client.clone_into(&mut gateway.client);
        gateway.last = self.last;
        Ok((gateway, self.last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_clients_are_bounded() {
        let gateways = Gateways::default();
        for bad in ["", "a b", "ü", &"x".repeat(1_025)] {
            assert_eq!(gateways.asked(bad, "c", "p", SystemTime::UNIX_EPOCH), Err(AckError::Name), "{bad:?}");
        }
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        for number in 0..MAX_GATEWAYS {
            gateways.asked(&format!("g{number}"), "c", "p", at(0)).unwrap();
        }
        assert_eq!(gateways.asked("new", "c", "p", at(1)), Err(AckError::TooMany));
        assert_eq!(
            gateways.asked("new", "c", "p", at(24 * 3_600)),
            Ok(()),
            "who was not heard of for a day makes room"
        );
    }
}
