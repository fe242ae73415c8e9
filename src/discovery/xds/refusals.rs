//! What gateways refuse now. A gateway may have a stream for each of its clusters, and what it takes on one says nothing of
//! what it refuses on another: its error is the latest refusal that still stands.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::subscription::Name;

/// Refusals that are remembered of one stream; of more, the rest is counted and logged all the same.
const MAX_REFUSALS: usize = 1_000;
/// Of a reason, in characters.
const MAX_TEXT: usize = 1_024;

/// All refusals that stand.
#[derive(Clone, Debug, Default)]
pub(in crate::discovery) struct Refusals {
    /// By gateway, stream and resource: the refusal's number and its reason.
    table: Arc<Mutex<BTreeMap<String, Standing>>>,
    numbers: Arc<AtomicU64>,
}

type Standing = BTreeMap<(u64, Name), (u64, Arc<str>)>;

/// The refusals of one stream; with it they go, as its client is sent everything anew.
#[derive(Debug)]
pub(super) struct Refused {
    gateway: String,
    stream: u64,
    all: Refusals,
}

// === impl Refusals ===

impl Refusals {
    /// Those of a new stream of this gateway.
    pub(super) fn of_stream(&self, gateway: &str) -> Refused {
        Refused { gateway: gateway.to_owned(), stream: self.number(), all: self.clone() }
    }

    /// The latest that stands.
    pub(super) fn latest(&self, gateway: &str) -> Option<String> {
        let table = self.lock();
        let (_, why) = table.get(gateway)?.values().max_by_key(|(number, _)| *number)?;
        Some(why.to_string())
    }

    fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Standing>> {
        // Each change is one step, so that a panic elsewhere does no harm.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Refused ===

impl Refused {
    pub(super) fn gateway(&self) -> &str {
        &self.gateway
    }

    /// It refuses these, for this reason.
    pub(super) fn refuses<'a>(&self, names: impl Iterator<Item = &'a Name>, why: &str) {
        let why: Arc<str> = why.chars().take(MAX_TEXT).collect::<String>().into();
        let number = self.all.number();
        let mut table = self.all.lock();
        let standing = table.entry(self.gateway.clone()).or_default();
        let mut own = standing.range((self.stream, Name::from(""))..(self.stream + 1, Name::from(""))).count();
        for name in names {
            let key = (self.stream, name.clone());
            if own < MAX_REFUSALS || standing.contains_key(&key) {
                own += usize::from(standing.insert(key, (number, why.clone())).is_none());
            }
        }
    }

    /// It no longer refuses these.
    pub(super) fn settles<'a>(&self, names: impl Iterator<Item = &'a Name>) {
        let mut table = self.all.lock();
        let Some(standing) = table.get_mut(&self.gateway) else { return };
        for name in names {
            standing.remove(&(self.stream, name.clone()));
        }
        if standing.is_empty() {
            table.remove(&self.gateway);
        }
    }
}

impl Drop for Refused {
    fn drop(&mut self) {
        let mut table = self.all.lock();
        let Some(standing) = table.get_mut(&self.gateway) else { return };
        standing.retain(|(stream, _), _| *stream != self.stream);
        if standing.is_empty() {
            table.remove(&self.gateway);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_s_error_is_the_latest_refusal_that_stands_on_any_of_its_streams() {
        let all = Refusals::default();
        let (one, other) = (all.of_stream("edge"), all.of_stream("edge"));
        let [a, b]: [Name; 2] = ["a", "b"].map(Into::into);
        one.refuses([&a, &b].into_iter(), "bad weight");
        other.refuses([&a].into_iter(), "bad port");
        assert_eq!(all.latest("edge").as_deref(), Some("bad port"));
        other.settles([&a].into_iter());
        assert_eq!(all.latest("edge").as_deref(), Some("bad weight"));
        one.settles([&a].into_iter());
        assert_eq!(all.latest("edge").as_deref(), Some("bad weight"), "of b");
        assert_eq!(all.latest("another"), None);
        drop((one, other));
        assert!(all.lock().is_empty());
    }

    #[test]
    fn one_stream_has_a_bounded_number_of_refusals() {
        let all = Refusals::default();
        let stream = all.of_stream("edge");
        let names: Vec<Name> = (0..2 * MAX_REFUSALS).map(|it| it.to_string().into()).collect();
        stream.refuses(names.iter(), "no");
        stream.refuses(names.iter(), "still no");
        assert_eq!(all.lock()["edge"].len(), MAX_REFUSALS);
    }
}
