//! Who listens to what, and the ring between those who push and those who listen.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use metrics::{Counter, Gauge, counter, describe_counter, describe_gauge, gauge};

use super::listener::Kind;
use super::ring::{Entry, Read, Ring, Span, Subject};
use crate::intake::commands::glob;

/// One for the log plane.
pub struct Hub {
    /// Rises whenever what is listened to changes.
    version: AtomicU64,
    registry: Mutex<Registry>,
    ring: Mutex<Ring>,
    metrics: HubMetrics,
}

/// What is listened to, at one version.
#[derive(Debug, Default)]
pub(in crate::intake) struct Interest {
    pub(super) version: u64,
    channels: BTreeMap<Box<[u8]>, usize>,
    patterns: BTreeMap<Box<[u8]>, usize>,
    pub(super) monitored: bool,
}

#[derive(Debug, Default)]
struct Registry {
    /// How many listen, by kind and name.
    names: [BTreeMap<Box<[u8]>, usize>; 3],
    monitors: usize,
    listeners: usize,
    interest: Arc<Interest>,
}

struct HubMetrics {
    listeners: Gauge,
    shown: Counter,
    skipped: Counter,
}

// === impl Hub ===

impl Default for Hub {
    fn default() -> Self {
        describe_gauge!("tidegate_log_tail_listeners", "Those who follow records live now");
        describe_counter!("tidegate_log_tail_records_total", "Records that were shown, once for each who follows");
        describe_counter!(
            "tidegate_log_tail_skipped_total",
            "Records that a follower was not shown, as notices told it"
        );
        let metrics = HubMetrics {
            listeners: gauge!("tidegate_log_tail_listeners"),
            shown: counter!("tidegate_log_tail_records_total"),
            skipped: counter!("tidegate_log_tail_skipped_total"),
        };
        Self { version: AtomicU64::new(0), registry: Mutex::default(), ring: Mutex::default(), metrics }
    }
}

impl Hub {
    /// Compared by each worker once a turn.
    #[inline]
    pub(super) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    pub(super) fn interest(&self) -> Arc<Interest> {
        self.registry().interest.clone()
    }

    /// Adds what a worker gathered in a turn.
    pub(super) fn publish(&self, entries: impl Iterator<Item = Entry>) {
        let mut ring = self.ring();
        entries.for_each(|entry| ring.push(entry));
    }

    pub(super) fn end(&self) -> u64 {
        self.ring().end()
    }

    /// As [`Ring::read`].
    pub(super) fn read(&self, span: Span, wanted: impl Fn(Subject, &Entry) -> bool) -> Read {
        self.ring().read(span, wanted)
    }

    pub(super) fn count(&self, shown: u64, skipped: u64) {
        self.metrics.shown.increment(shown);
        self.metrics.skipped.increment(skipped);
    }

    /// One more listens, or one less.
    pub(super) fn joined(&self, joined: bool) {
        let mut registry = self.registry();
        if joined {
            registry.listeners += 1;
            self.metrics.listeners.increment(1.0);
            return;
        }
        registry.listeners = registry.listeners.saturating_sub(1);
        self.metrics.listeners.decrement(1.0);
        if registry.listeners == 0 {
            self.ring().clear();
        }
    }

    /// One more, or one less, wants the name.
    pub(super) fn want(&self, kind: Kind, name: &[u8], more: bool) {
        let mut registry = self.registry();
        let Some(names) = registry.names.get_mut(kind as usize) else { return };
        let changed = if more {
            let count = names.entry(name.into()).or_default();
            *count += 1;
            *count == 1
        } else {
            let count = names.get_mut(name);
            let last = count.is_some_and(|count| {
                *count = count.saturating_sub(1);
                *count == 0
            });
            last && names.remove(name).is_some()
        };
        self.changed(&mut registry, changed);
    }

    /// One more, or one less, wants commands.
    pub(super) fn monitor(&self, more: bool) {
        let mut registry = self.registry();
        let before = registry.monitors;
        registry.monitors = if more { before + 1 } else { before.saturating_sub(1) };
        let changed = (before == 0) != (registry.monitors == 0);
        self.changed(&mut registry, changed);
    }

    fn changed(&self, registry: &mut Registry, changed: bool) {
        if !changed {
            return;
        }
        let version = self.version.load(Ordering::Relaxed) + 1;
        let [channels, patterns, shards] = registry.names.clone();
        registry.interest = Arc::new(Interest {
            version,
            channels: channels.into_iter().chain(shards).collect(),
            patterns,
            monitored: registry.monitors > 0,
        });
        self.version.store(version, Ordering::Release);
    }

    /// The names of a kind that match and that somebody listens to.
    pub(in crate::intake) fn names(&self, kind: Kind, pattern: &[u8]) -> Vec<Vec<u8>> {
        let registry = self.registry();
        let names = registry.names.get(kind as usize).into_iter().flat_map(BTreeMap::keys);
        names.filter(|name| glob::matches(pattern, name)).map(|name| name.to_vec()).collect()
    }

    /// How many names of a kind are listened to.
    pub(in crate::intake) fn number(&self, kind: Kind) -> usize {
        self.registry().names.get(kind as usize).map_or(0, BTreeMap::len)
    }

    /// How many listen to a name.
    pub(in crate::intake) fn listeners_of(&self, kind: Kind, name: &[u8]) -> usize {
        self.registry().names.get(kind as usize).and_then(|names| names.get(name)).copied().unwrap_or_default()
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub").field("version", &self.version).finish_non_exhaustive()
    }
}

// === impl Interest ===

impl Interest {
    /// Whether anybody listens to the key or channel.
    pub(super) fn has(&self, channel: &[u8]) -> bool {
        self.channels.contains_key(channel) || self.patterns.keys().any(|pattern| glob::matches(pattern, channel))
    }
}
