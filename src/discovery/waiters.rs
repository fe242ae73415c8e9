//! Who waits for which pools. A publication wakes only those who wait for a pool that changed, so that a thousand waiting
//! gateways cost nothing while another's pool changes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::endpoints::pool::PoolId;

/// What somebody waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Interest {
    /// These pools, known or not.
    Pools(Vec<PoolId>),
    /// Whatever changes.
    Everything,
    /// That, and how true it is.
    EverythingAndTruth,
}

/// All who wait.
#[derive(Clone, Debug, Default)]
pub(super) struct Waiters {
    table: Arc<Mutex<Table>>,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    of_pool: HashMap<PoolId, Vec<(u64, Arc<Notify>)>>,
    of_everything: HashMap<u64, Arc<Notify>>,
    of_truth: HashMap<u64, Arc<Notify>>,
}

/// One who waits, until it is dropped. A publication after its making is never missed: the wake-up is kept.
#[derive(Debug)]
pub(super) struct Waiter {
    number: u64,
    interest: Interest,
    notify: Arc<Notify>,
    waiters: Waiters,
}

// === impl Waiters ===

impl Waiters {
    /// Begins to wait. Look at the snapshot after this, not before.
    pub(super) fn wait_for(&self, interest: Interest) -> Waiter {
        let notify = Arc::new(Notify::new());
        let mut table = self.lock();
        table.next += 1;
        let number = table.next;
        match &interest {
            Interest::Everything => {
                table.of_everything.insert(number, notify.clone());
            }
            Interest::EverythingAndTruth => {
                table.of_truth.insert(number, notify.clone());
            }
            Interest::Pools(pools) => {
                for pool in pools {
                    table.of_pool.entry(pool.clone()).or_default().push((number, notify.clone()));
                }
            }
        }
        Waiter { number, interest, notify, waiters: self.clone() }
    }

    /// Wakes those who wait for one of these pools, and those who wait for whether they are true where that changed.
    pub(super) fn wake(&self, changed: &[PoolId], truth: bool) {
        if changed.is_empty() && !truth {
            return;
        }
        let table = self.lock();
        table.of_truth.values().for_each(|notify| notify.notify_one());
        if changed.is_empty() {
            return;
        }
        table.of_everything.values().for_each(|notify| notify.notify_one());
        let waiting = changed.iter().filter_map(|pool| table.of_pool.get(pool)).flatten();
        waiting.for_each(|(_, notify)| notify.notify_one());
    }

    /// How many wait.
    #[cfg(test)]
    fn len(&self) -> usize {
        let table = self.lock();
        table.of_everything.len() + table.of_truth.len() + table.of_pool.values().map(Vec::len).sum::<usize>()
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // Each change leaves the table whole, so that a panic elsewhere does no harm.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Waiter ===

impl Waiter {
    /// Waits until something of interest changed since the last call, or since the beginning.
    pub(super) async fn changed(&self) {
        self.notify.notified().await;
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut table = self.waiters.lock();
        table.of_everything.remove(&self.number);
        table.of_truth.remove(&self.number);
        if let Interest::Pools(pools) = &self.interest {
            for pool in pools {
                if let Some(waiting) = table.of_pool.get_mut(pool) {
                    waiting.retain(|(number, _)| *number != self.number);
                    if waiting.is_empty() {
                        table.of_pool.remove(pool);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn ids(names: &[&str]) -> Vec<PoolId> {
        names.iter().map(|name| PoolId::parse(name).unwrap()).collect()
    }

    fn is_woken(waiter: &Waiter) -> bool {
        waiter.changed().now_or_never().is_some()
    }

    #[test]
    fn a_change_wakes_who_waits_for_it_and_nobody_else() {
        let waiters = Waiters::default();
        let [a, both, all, truth] = [
            Interest::Pools(ids(&["a"])),
            Interest::Pools(ids(&["a", "b"])),
            Interest::Everything,
            Interest::EverythingAndTruth,
        ]
        .map(|interest| waiters.wait_for(interest));
        waiters.wake(&ids(&["b", "c"]), false);
        assert_eq!([&a, &both, &all, &truth].map(is_woken), [false, true, true, true]);
        assert_eq!([&a, &both, &all, &truth].map(is_woken), [false; 4], "each change wakes once");
        waiters.wake(&[], false);
        assert_eq!([&a, &both, &all, &truth].map(is_woken), [false; 4]);
        waiters.wake(&[], true);
        assert_eq!([&a, &both, &all, &truth].map(is_woken), [false, false, false, true]);
    }

    #[test]
    fn who_stops_waiting_leaves_nothing_behind() {
        let waiters = Waiters::default();
        let waiter = waiters.wait_for(Interest::Pools(ids(&["a", "b"])));
        let all = [Interest::Everything, Interest::EverythingAndTruth].map(|interest| waiters.wait_for(interest));
        assert_eq!(waiters.len(), 4);
        drop((waiter, all));
        assert_eq!(waiters.len(), 0);
        assert!(waiters.lock().of_pool.is_empty());
    }
}
