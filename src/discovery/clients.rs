//! What each client uses: requests a second and waits at once, both bounded. A client is named by its account.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::config::ClientLimits;

/// Clients that are remembered; beyond it those that use nothing are forgotten, and then nobody new is taken.
const MAX_CLIENTS: usize = 20_000;

/// All clients.
#[derive(Clone, Debug)]
pub(super) struct Clients {
    limits: ClientLimits,
    table: Arc<Mutex<HashMap<String, Usage>>>,
}

#[derive(Debug)]
struct Usage {
    /// Requests that it may make at once, as of `at`.
    tokens: f64,
    at: Instant,
    waits: usize,
}

/// One waiting request of a client, until it is dropped.
#[derive(Debug)]
pub(super) struct WaitPermit {
    name: String,
    clients: Clients,
}

/// The client has used up what it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooMuch;

// === impl Clients ===

impl Clients {
    pub(super) fn new(limits: ClientLimits) -> Self {
        Self { limits, table: Arc::default() }
    }

    /// Counts a request.
    pub(super) fn request(&self, name: &str, now: Instant) -> Result<(), TooMuch> {
        let rate = f64::from(self.limits.requests_per_second);
        let mut table = self.lock();
        if table.len() >= MAX_CLIENTS && !table.contains_key(name) {
            table.retain(|_, usage| usage.waits > 0 || now.duration_since(usage.at) < Duration::from_secs(10));
            if table.len() >= MAX_CLIENTS {
                return Err(TooMuch);
            }
        }
        let usage = table.entry(name.to_owned()).or_insert(Usage { tokens: 2.0 * rate, at: now, waits: 0 });
        usage.tokens = (usage.tokens + now.duration_since(usage.at).as_secs_f64() * rate).min(2.0 * rate);
        usage.at = now;
        if usage.tokens < 1.0 {
            return Err(TooMuch);
        }
        usage.tokens -= 1.0;
        Ok(())
    }

    /// Counts a request that waits; the client has made a request before.
    pub(super) fn wait(&self, name: &str) -> Result<WaitPermit, TooMuch> {
        let mut table = self.lock();
        let usage = table.get_mut(name).filter(|usage| usage.waits < self.limits.waits).ok_or(TooMuch)?;
        usage.waits += 1;
        Ok(WaitPermit { name: name.to_owned(), clients: self.clone() })
    }

    /// Requests that wait now.
    pub(super) fn waiting(&self) -> usize {
        self.lock().values().map(|usage| usage.waits).sum()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Usage>> {
        // Each change is one step, so that a panic elsewhere does no harm.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for WaitPermit {
    fn drop(&mut self) {
        if let Some(usage) = self.clients.lock().get_mut(&self.name) {
            usage.waits -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_gets_its_rate_and_others_are_not_concerned() {
        let clients = Clients::new(ClientLimits { waits: 2, requests_per_second: 5 });
        let start = Instant::now();
        assert!((0..10).all(|_| clients.request("a", start).is_ok()));
        assert_eq!(clients.request("a", start), Err(TooMuch));
        assert_eq!(clients.request("b", start), Ok(()));
        assert_eq!(clients.request("a", start + Duration::from_millis(200)), Ok(()));
    }

    #[test]
    fn waits_are_counted_until_they_end() {
        let clients = Clients::new(ClientLimits { waits: 2, requests_per_second: 5 });
        clients.request("a", Instant::now()).unwrap();
        let one = clients.wait("a").unwrap();
        let _two = clients.wait("a").unwrap();
        assert_eq!(clients.wait("a").unwrap_err(), TooMuch);
        drop(one);
        assert!(clients.wait("a").is_ok());
        assert_eq!(clients.waiting(), 1);
    }
}
