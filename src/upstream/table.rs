//! All pools that requests may go to, as of one moment.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use imbl::Vector;

use super::pool::Pool;
use crate::endpoints::pool::PoolId;

/// A pool's place in every table of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PoolKey(pub(super) u32);

/// All pools. Immutable; a new one shares with the one before what did not change.
#[derive(Clone, Debug, Default)]
pub struct Table {
    pub(super) pools: Vector<Arc<Pool>>,
    pub(super) names: Arc<HashMap<PoolId, PoolKey>>,
    /// The snapshot's revision that it follows from.
    pub(super) revision: u64,
}

/// A way to the table of now. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Reader(pub(super) Arc<ArcSwap<Table>>);

// === impl Table ===

impl Table {
    /// A pool by its id; `None` for one that the configuration does not name.
    pub fn pool(&self, id: &str) -> Option<&Arc<Pool>> {
        self.get(*self.names.get(id)?)
    }

    /// A pool by its key.
    #[inline]
    pub fn get(&self, key: PoolKey) -> Option<&Arc<Pool>> {
        self.pools.get(key.0 as usize)
    }

    /// The snapshot's revision that it follows from.
    pub fn revision(&self) -> u64 {
        self.revision
    }
}

// === impl Reader ===

impl Reader {
    /// The table of now. Take it once a request.
    #[inline]
    pub fn table(&self) -> Guard<Arc<Table>> {
        self.0.load()
    }

    /// A pool's key, which stays the same as long as the process lives; `None` for one that was never configured.
    pub fn key(&self, id: &PoolId) -> Option<PoolKey> {
        self.0.load().names.get(id).copied()
    }
}
