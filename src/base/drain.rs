//! Graceful end: one signal that every task can wait on, and guards that hold the end back until their work is done.
//!
//! Whoever has work to finish takes a [`Guard`]; dropping it lets the process go. [`Drain::finish`] asks everybody to
//! end, waits until no guard is left, and at the deadline says who still held one, so that the caller can force the end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

/// A handle on the one drain of the process; clones are the same drain.
#[derive(Clone, Debug)]
pub struct Drain {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    requested: watch::Sender<bool>,
    /// How many guards are out, by name.
    held: watch::Sender<BTreeMap<&'static str, usize>>,
}

/// Holds the end back until it is dropped.
#[derive(Debug)]
pub struct Guard {
    name: &'static str,
    inner: Arc<Inner>,
}

/// The deadline passed and these guards (name and number) were still held.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("still at work at the deadline: {}", .0.iter().map(|(name, count)| format!("{count} × {name}")).collect::<Vec<_>>().join(", "))]
pub struct DrainTimeout(pub BTreeMap<&'static str, usize>);

// === impl Drain ===

impl Default for Drain {
    fn default() -> Self {
        Self::new()
    }
}

impl Drain {
    /// A drain that nobody has asked for and nobody holds.
    pub fn new() -> Self {
        Self { inner: Arc::new(Inner { requested: watch::Sender::new(false), held: watch::Sender::default() }) }
    }

    /// Takes a guard; `name` says in logs what the end waits for ("log worker").
    pub fn guard(&self, name: &'static str) -> Guard {
        self.inner.held.send_modify(|held| *held.entry(name).or_default() += 1);
        Guard { name, inner: Arc::clone(&self.inner) }
    }

    /// Asks everybody to end. Asking twice is asking once.
    pub fn request(&self) {
        self.inner.requested.send_replace(true);
    }

    /// Waits until the end is asked for; at once if it was.
    pub async fn requested(&self) {
        // The sender lives in `self`, so that the wait cannot fail.
        let _ = self.inner.requested.subscribe().wait_for(|requested| *requested).await;
    }

    /// Asks for the end and waits until every guard is dropped, at most until `deadline` from now.
    pub async fn finish(&self, deadline: Duration) -> Result<(), DrainTimeout> {
        self.request();
        let mut held = self.inner.held.subscribe();
        let empty = held.wait_for(BTreeMap::is_empty);
        match tokio::time::timeout(deadline, empty).await {
            Ok(_) => Ok(()),
            Err(_) => Err(DrainTimeout(self.inner.held.borrow().clone())),
        }
    }
}

// === impl Guard ===

impl Drop for Guard {
    fn drop(&mut self) {
        self.inner.held.send_modify(|held| {
            if let Some(count) = held.get_mut(self.name) {
                *count -= 1;
                if *count == 0 {
                    held.remove(self.name);
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_end_waits_for_the_last_guard() {
        let drain = Drain::new();
        let (one, two) = (drain.guard("session"), drain.guard("session"));
        let ending = tokio::spawn({
            let drain = drain.clone();
            async move { drain.finish(Duration::from_secs(5)).await }
        });
        drain.requested().await;
        drop(one);
        tokio::task::yield_now().await;
        assert!(!ending.is_finished());
        drop(two);
        assert_eq!(ending.await.unwrap(), Ok(()));
    }

    #[tokio::test]
    async fn the_deadline_names_who_still_holds_a_guard() {
        let drain = Drain::new();
        let _one = drain.guard("producer");
        let _two = drain.guard("session");
        let _three = drain.guard("session");
        let timeout = drain.finish(Duration::from_millis(1)).await.unwrap_err();
        assert_eq!(timeout.to_string(), "still at work at the deadline: 1 × producer, 2 × session");
    }

    #[tokio::test]
    async fn a_drain_that_nobody_holds_ends_at_once() {
        assert_eq!(Drain::new().finish(Duration::ZERO).await, Ok(()));
    }
}
