//! Failed logins: whoever guesses passwords waits for each answer, twice as long as for the one before.
//!
//! Failures are counted by address, so that a new connection does not begin anew. Only who fails waits: a right password
//! is answered at once, whoever else guesses behind the same address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::net::listener::host;

/// What the first failure costs, in milliseconds; each further one doubles it, up to 128 times.
const FIRST_MS: u64 = 25;
const DOUBLINGS: u32 = 7;
/// An address that has not failed for so long begins anew, in milliseconds.
const FORGET_MS: u64 = 60_000;
/// Addresses remembered; those beyond wait for the longest time.
const ADDRESSES: usize = 16 << 10;

/// The addresses that failed of late.
#[derive(Debug, Default)]
pub(super) struct FailedLogins {
    /// Without an address: Unix sockets.
    by_address: Mutex<HashMap<Option<IpAddr>, Failures>>,
}

#[derive(Clone, Copy, Debug)]
struct Failures {
    count: u32,
    last_ms: u64,
}

// === impl FailedLogins ===

impl FailedLogins {
    /// Counts a failure of this peer (`host:port`) at a time in milliseconds, and says how long it waits for the answer.
    pub(super) fn failed(&self, peer: &str, now_ms: u64) -> Duration {
        let is_recent = |failures: &Failures| now_ms.saturating_sub(failures.last_ms) < FORGET_MS;
        let address = host(peer);
        let mut known = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= ADDRESSES && !known.contains_key(&address) {
            known.retain(|_, failures| is_recent(failures));
        }
        let before = known.get(&address).filter(|failures| is_recent(failures)).map_or(0, |failures| failures.count);
        let count = before.saturating_add(1);
        if known.len() < ADDRESSES || known.contains_key(&address) {
            known.insert(address, Failures { count, last_ms: now_ms });
            delay(count)
        } else {
            delay(u32::MAX)
        }
    }
}

fn delay(failures: u32) -> Duration {
    Duration::from_millis(FIRST_MS << failures.saturating_sub(1).min(DOUBLINGS))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(logins: &FailedLogins, peer: &str, now_ms: u64) -> u64 {
        u64::try_from(logins.failed(peer, now_ms).as_millis()).unwrap()
    }

    #[test]
    fn each_failure_of_an_address_waits_twice_as_long_up_to_a_bound() {
        let logins = FailedLogins::default();
        let times: Vec<u64> = (0..10).map(|n| waits(&logins, &format!("10.0.0.1:{n}"), 1_000)).collect();
        assert_eq!(times, [25, 50, 100, 200, 400, 800, 1_600, 3_200, 3_200, 3_200]);
        assert_eq!(waits(&logins, "10.0.0.2:1", 1_000), 25, "another address is not to blame");
        assert_eq!(waits(&logins, "10.0.0.1:1", 1_000 + FORGET_MS), 25, "that was long ago");
    }

    #[test]
    fn the_table_is_bounded_and_who_finds_no_place_waits_longest() {
        let logins = FailedLogins::default();
        for n in 0..ADDRESSES {
            waits(&logins, &format!("10.{}.{}.{}:1", n >> 16, n >> 8 & 255, n & 255), 0);
        }
        assert_eq!(waits(&logins, "11.0.0.1:1", 0), 3_200);
        assert_eq!(logins.by_address.lock().unwrap().len(), ADDRESSES);
        assert_eq!(waits(&logins, "11.0.0.1:1", FORGET_MS), 25);
        assert_eq!(logins.by_address.lock().unwrap().len(), 1);
    }
}
