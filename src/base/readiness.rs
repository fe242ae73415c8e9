//! Readiness: a plane is ready once everything that it awaits has come.
//!
//! Whoever must come first takes a [`Gate`] with a name; dropping it lets the plane be ready. A gate taken later makes the
//! plane unready again, so that only what must send traffic away may do so.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What is awaited, by plane, each with how many gates wait for it.
type Awaited = BTreeMap<&'static str, BTreeMap<&'static str, usize>>;

/// A handle on the readiness of the process; clones are the same readiness.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    awaited: Arc<Mutex<Awaited>>,
}

/// Keeps a plane from being ready until it is dropped.
#[derive(Debug)]
pub struct Gate {
    plane: &'static str,
    what: &'static str,
    readiness: Readiness,
}

// === impl Readiness ===

impl Readiness {
    /// A readiness that awaits nothing and knows no plane.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes `plane` ("log") await `what` ("kafka seen"). The first gate of a plane makes the plane known.
    pub fn gate(&self, plane: &'static str, what: &'static str) -> Gate {
        *self.lock().entry(plane).or_default().entry(what).or_default() += 1;
        Gate { plane, what, readiness: self.clone() }
    }

    /// What a plane awaits, in order of name; `None` for a plane that does not run here.
    pub fn awaited_by(&self, plane: &str) -> Option<Vec<&'static str>> {
        self.lock().get(plane).map(|awaited| awaited.keys().copied().collect())
    }

    /// What each plane awaits; a ready plane has an empty list.
    pub fn awaited(&self) -> BTreeMap<&'static str, Vec<&'static str>> {
        self.lock().iter().map(|(plane, awaited)| (*plane, awaited.keys().copied().collect())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Awaited> {
        // Each change is one step, so that a panic elsewhere leaves nothing half done.
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Gate ===

impl Drop for Gate {
    fn drop(&mut self) {
        let mut awaited = self.readiness.lock();
        let Some(plane) = awaited.get_mut(self.plane) else { return };
        if let Some(count) = plane.get_mut(self.what) {
            *count -= 1;
            if *count == 0 {
                plane.remove(self.what);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plane_is_ready_when_its_last_gate_is_dropped() {
        let readiness = Readiness::new();
        assert_eq!(readiness.awaited_by("log"), None, "a plane that nobody named does not run here");
        let kafka = readiness.gate("log", "kafka seen");
        let again = readiness.gate("log", "kafka seen");
        let socket = readiness.gate("log", "listening");
        assert_eq!(readiness.awaited_by("log"), Some(vec!["kafka seen", "listening"]));
        drop((kafka, socket));
        assert_eq!(readiness.awaited_by("log"), Some(vec!["kafka seen"]));
        drop(again);
        assert_eq!(readiness.awaited_by("log"), Some(vec![]));
    }

    #[test]
    fn one_plane_does_not_wait_for_another() {
        let readiness = Readiness::new();
        let _gate = readiness.gate("log", "kafka seen");
        drop(readiness.gate("gateway", "first snapshot"));
        assert_eq!(readiness.awaited(), BTreeMap::from([("gateway", vec![]), ("log", vec!["kafka seen"])]));
    }
}
