//! The gateway in this process: it says what it serves in the same book as those that pull, so that a switch waits for it as for
//! any other, here and at the hubs that this instance relays to.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;

use super::formats::Format;
use super::gateways::{Applied, Gateways};
use crate::endpoints::Snapshot;
use crate::endpoints::pool::{Pool, PoolId};

/// Who it is to those who ask whose client it is.
const CLIENT: &str = "this process";

/// The book of what gateways serve of a snapshot.
#[derive(Clone, Debug)]
pub struct Book {
    gateways: Arc<Gateways>,
    snapshot: Arc<ArcSwap<Snapshot>>,
}

/// Speaks for the gateway in this process.
#[derive(Clone, Debug)]
pub struct OwnGateway {
    book: Book,
    name: Arc<str>,
}

// === impl Book ===

impl Book {
    pub(super) fn new(gateways: Arc<Gateways>, snapshot: Arc<ArcSwap<Snapshot>>) -> Self {
        Self { gateways, snapshot }
    }

    /// What speaks for the gateway of this name.
    pub fn of(&self, name: Arc<str>) -> OwnGateway {
        OwnGateway { book: self.clone(), name }
    }
}

// === impl OwnGateway ===

impl OwnGateway {
    /// Says that it wants these pools, and serves them as they are in the snapshot of this revision. Where it has said so of the same
    /// pools before, at the revision `since`, only what has changed after that is looked at.
    pub fn serves(&self, pools: &BTreeSet<PoolId>, since: Option<u64>, revision: u64) {
        let snapshot = self.book.snapshot.load();
        let changes = since.and_then(|since| snapshot.changes_since(since)).map(|changes| changes.changed);
        // Without it the pools are wanted as before.
        let wanted = changes.is_none().then_some(pools);
        let looked_at: Vec<&Arc<Pool>> = match &changes {
            Some(changed) => changed.iter().filter(|pool| pools.contains(&pool.id)).collect(),
            None => pools.iter().filter_map(|id| snapshot.pool(id.as_str())).collect(),
        };
        // One that has changed since is not served as it is now.
        let served = looked_at.into_iter().filter(|pool| pool.revision <= revision);
        let served = served.map(|pool| (&pool.id, applied(pool), pool.matched.len())).collect();
        let taken = self.book.gateways.serves(&self.name, CLIENT, wanted, served, SystemTime::now());
        if let Err(error) = taken {
            tracing::warn!(gateway = &*self.name, %error, "the gateway's acknowledgement is not taken");
        }
    }

    /// Says that it has ended: nobody is to wait for it.
    pub fn ended(&self) {
        self.book.gateways.forget(&self.name);
    }
}

fn applied(pool: &Pool) -> Applied {
    match pool.traffic_generation {
        Some(generation) => Applied::Generation(generation),
        None => Applied::Etag(Format::Json.render(pool).etag.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::discovery::tests::pool;
    use crate::endpoints::config::HoldConfig;
    use crate::endpoints::{Registry, Shard, SourceEvent, Update};

    const POOL: &str = "east/shop/web/http";

    /// Snapshots in which the pool has so many endpoints, one after the other.
    fn snapshots<const N: usize>(endpoints: [&[u8]; N]) -> [Arc<Snapshot>; N] {
        let hold = HoldConfig { max_drop_percent: 50, max_age: std::time::Duration::from_secs(600) };
        let mut registry = Registry::new(vec![Shard::new("east".into(), None)], Vec::new(), hold, None);
        endpoints.map(|endpoints| {
            let update = Update::Reset(vec![pool(POOL, endpoints)]);
            registry.apply(0, SourceEvent::Pools(vec![update]), SystemTime::now());
            registry.publish().unwrap().snapshot
        })
    }

    #[test]
    fn what_changed_since_the_table_was_made_is_not_acknowledged() {
        let [first, second] = snapshots([&[1], &[1, 2]]);
        let snapshot = Arc::new(ArcSwap::new(first.clone()));
        let gateways = Arc::new(Gateways::default());
        let own = Book::new(gateways.clone(), snapshot.clone()).of("node/edge".into());
        let pools = [PoolId::parse(POOL).unwrap(), PoolId::parse("nowhere").unwrap()].into();
        let state = || gateways.report(&snapshot.load(), SystemTime::now(), |_| true)[0]["pools"].clone();
        own.serves(&pools, None, first.revision());
        assert_eq!(state()[POOL]["current"], true);
        assert!(state()["nowhere"]["asked_at"].is_string(), "it is waited for before the pool is there");
        snapshot.store(second.clone());
        for since in [None, Some(first.revision())] {
            own.serves(&pools, since, first.revision());
            assert_eq!(state()[POOL]["current"], false, "its table is an older one");
        }
        own.serves(&pools, Some(first.revision()), second.revision());
        assert_eq!(state()[POOL]["current"], true);
        assert!(state()["nowhere"]["asked_at"].is_string(), "what it wants is as before");
        own.serves(&BTreeSet::new(), None, second.revision());
        assert_eq!(state(), json!({}), "it no longer wants it");
        own.ended();
        assert_eq!(gateways.report(&second, SystemTime::now(), |_| true), Value::Array(Vec::new()));
    }
}
