//! The empty guard: what a pool keeps when a new list has suddenly less.
//!
//! Whatever a live watch says is honoured, a scale to zero included. A *list*, after a disconnect or at the start, may
//! come from an API server that has not caught up, or that lost its data; so a pool that would lose more than
//! `max_drop_percent` of its ready endpoints in one keeps those that vanished. A hold ends with the first live event of
//! its pool, and at the latest after `max_age` from when it began: later lists that say the same do not lengthen it. An
//! endpoint is never held on an address that another pool has: there it would send requests to a stranger.

use std::net::IpAddr;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::config::HoldConfig;
use super::pool::{Endpoint, PoolContent};

/// Endpoints that a source no longer names and that stay in their pool for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The pool as it was, with only the held endpoints.
    pub content: PoolContent,
    /// When it began.
    pub since: SystemTime,
    /// When it ends at the latest.
    pub until: SystemTime,
}

/// Decides on one pool of a new list. `before` is what was published of it, `held` the hold that it had, `new` what the
/// list says (`None`: the pool is gone); `owned` tells whether another pool of the list has an address.
pub(super) fn decide(
    before: &PoolContent,
    held: Option<&Held>,
    new: Option<&PoolContent>,
    owned: impl Fn(IpAddr) -> bool,
    config: HoldConfig,
    now: SystemTime,
) -> Option<Held> {
    let until = held.map_or_else(|| now.checked_add(config.max_age).unwrap_or(now), |held| held.until);
    let since = held.map_or(now, |held| held.since);
    let new_endpoints = new.map_or(&[][..], |new| &new.endpoints);
    if until <= now || !drops_too_much(&before.endpoints, new_endpoints, config.max_drop_percent) {
        return None;
    }
    let stays = |endpoint: &&Endpoint| {
        let named = new_endpoints.iter().any(|new| new.key() == endpoint.key());
        endpoint.is_ready() && !named && !owned(endpoint.address)
    };
    let endpoints: Vec<Endpoint> = before.endpoints.iter().filter(stays).cloned().collect();
    if endpoints.is_empty() {
        return None;
    }
    let content = PoolContent { endpoints: endpoints.into(), ..before.clone() };
    Some(Held { content, since, until })
}

/// Counts, and does not compare: a pool whose pods were all replaced has lost nothing.
fn drops_too_much(before: &[Endpoint], new: &[Endpoint], max_drop_percent: u32) -> bool {
    let ready = |endpoints: &[Endpoint]| endpoints.iter().filter(|endpoint| endpoint.is_ready()).count();
    let (before, new) = (ready(before), ready(new));
    let lost = before.saturating_sub(new);
    lost.saturating_mul(100) > before.saturating_mul(max_drop_percent as usize)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::endpoints::pool::{EndpointState, PoolId};

    const CONFIG: HoldConfig = HoldConfig { max_drop_percent: 50, max_age: Duration::from_secs(600) };

    fn pool(addresses: &[u8]) -> PoolContent {
        let endpoint = |last: &u8| Endpoint::new(IpAddr::from([10, 0, 0, *last]), 80);
        PoolContent {
            id: PoolId::parse("p").unwrap(),
            endpoints: addresses.iter().map(endpoint).collect(),
            namespace: None,
            labels: Arc::default(),
            relayed: None,
        }
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn held(before: &[u8], new: Option<&[u8]>) -> Vec<String> {
        let new = new.map(pool);
        let held = decide(&pool(before), None, new.as_ref(), |_| false, CONFIG, at(0));
        held.map(|it| it.content.endpoints.iter().map(|it| it.address.to_string()).collect()).unwrap_or_default()
    }

    #[test]
    fn a_drop_beyond_the_limit_is_held_and_one_within_it_is_not() {
        assert_eq!(held(&[1, 2, 3, 4], Some(&[1, 2])), [""; 0]);
        assert_eq!(held(&[1, 2, 3, 4], Some(&[1])), ["10.0.0.2", "10.0.0.3", "10.0.0.4"]);
        assert_eq!(held(&[1], Some(&[])), ["10.0.0.1"]);
        assert_eq!(held(&[1], None), ["10.0.0.1"], "a pool that is gone is a drop as well");
    }

    #[test]
    fn a_pool_whose_endpoints_were_all_replaced_has_lost_nothing() {
        assert_eq!(held(&[1, 2], Some(&[3, 4])), [""; 0]);
    }

    #[test]
    fn an_address_that_another_pool_has_is_never_held() {
        let mine = |address: IpAddr| address == IpAddr::from([10, 0, 0, 2]);
        let held = decide(&pool(&[1, 2]), None, None, mine, CONFIG, at(0)).unwrap();
        assert_eq!(held.content, pool(&[1]));
        assert_eq!(decide(&pool(&[2]), None, None, mine, CONFIG, at(0)), None);
    }

    #[test]
    fn what_was_draining_is_not_held() {
        let mut before = pool(&[1, 2]);
        before.endpoints = before
            .endpoints
            .iter()
            .map(|it| Endpoint {
                state: if it.address == IpAddr::from([10, 0, 0, 1]) { EndpointState::Draining } else { it.state },
                ..it.clone()
            })
            .collect();
        let held = decide(&before, None, None, |_| false, CONFIG, at(0)).unwrap();
        assert_eq!(held.content, pool(&[2]));
    }

    #[test]
    fn list_after_list_does_not_lengthen_a_hold() {
        let first = decide(&pool(&[1]), None, None, |_| false, CONFIG, at(0)).unwrap();
        let second = decide(&pool(&[1]), Some(&first), None, |_| false, CONFIG, at(599)).unwrap();
        assert_eq!((second.since, second.until), (at(0), at(600)));
        assert_eq!(decide(&pool(&[1]), Some(&second), None, |_| false, CONFIG, at(600)), None);
    }

    #[test]
    fn a_limit_of_a_hundred_percent_holds_nothing() {
        let config = HoldConfig { max_drop_percent: 100, ..CONFIG };
        assert_eq!(decide(&pool(&[1]), None, None, |_| false, config, at(0)), None);
    }
}
