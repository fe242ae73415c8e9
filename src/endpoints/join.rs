//! Pools joined from others: pods beside VMs, several clusters, revisions of an application.
//!
//! The members of the lowest priority that has a ready endpoint serve; those of the others stand by. Among the serving
//! members traffic is divided by their shares, and a member's part among its ready endpoints by their own weights. All
//! weights together are [`TOTAL`], and each member's are exactly its part, so that a share of one percent is one percent
//! however many endpoints carry it. An empty member's share goes to the others of its priority, in their proportion. A
//! share of 0 takes no traffic as long as another member of the priority has some.
//!
//! Members that are for some requests alone are no part of this, see [`super::matched`].
//!
//! Draining endpoints of all members stay in the pool, because requests to them may still be in flight.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::matched::Rule;
use super::pool::{Endpoint, EndpointKey, PoolId, sort};

/// The sum of the weights of a joined pool's ready endpoints.
pub const TOTAL: u64 = 1_000_000;

/// A pool that is made from others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    /// Its id.
    pub id: PoolId,
    /// What it is made from. With those of `matched`, at least one.
    pub members: Vec<Member>,
    /// Members that are for some requests alone, and those of the others that take some requests whatever their share is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub matched: Vec<Rule>,
    /// Endpoints of this instance's zone serve alone where a serving member has ready ones there.
    pub prefer_zone: bool,
    /// The generation of the TrafficPolicy that asks for it; `None` for one of the configuration.
    pub traffic_generation: Option<i64>,
    /// Namespace of the TrafficPolicy.
    pub namespace: Option<Arc<str>>,
}

/// One part of a joined pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The pool.
    pub pool: PoolId,
    /// Its part of the traffic beside the others of its priority.
    pub share: u32,
    /// The lowest that is not empty serves.
    pub priority: u32,
}

// === impl Join ===

impl Join {
    /// Every pool that it is made from; one that is in it twice stands there twice.
    pub fn pools(&self) -> impl Iterator<Item = &PoolId> {
        self.members.iter().map(|member| &member.pool).chain(self.matched.iter().map(|rule| &rule.pool))
    }
}

/// The endpoints of a joined pool, but for those that are only for some requests. `endpoints` gives those of a member, none for a pool that is not known; `zone` is this
/// instance's.
pub fn endpoints<'a>(
    join: &Join,
    zone: Option<&str>,
    endpoints: impl Fn(&PoolId) -> Option<&'a [Endpoint]>,
) -> Vec<Endpoint> {
    let members: Vec<(&Member, &[Endpoint])> =
        join.members.iter().map(|member| (member, endpoints(&member.pool).unwrap_or_default())).collect();
    let has_ready = |endpoints: &[Endpoint]| endpoints.iter().any(Endpoint::is_ready);
    let serving = members.iter().filter(|(_, it)| has_ready(it)).map(|(member, _)| member.priority).min();
    let serving = members.iter().filter(|(member, it)| Some(member.priority) == serving && has_ready(it));
    let serving: Vec<_> = serving.map(|(member, it)| (member.share, ready_here(it, join.prefer_zone, zone))).collect();
    // Where nobody has a share, all have the same: no ready endpoint is left out for want of a number.
    let unshared = serving.iter().all(|(share, _)| *share == 0);
    let shares: Vec<u64> = serving.iter().map(|(share, _)| if unshared { 1 } else { u64::from(*share) }).collect();

    let mut joined: BTreeMap<EndpointKey, Endpoint> = BTreeMap::new();
    for (_, endpoints) in &members {
        for endpoint in endpoints.iter().filter(|endpoint| !endpoint.is_ready()) {
            joined.insert(endpoint.key(), endpoint.clone());
        }
    }
    let mut taken: BTreeMap<EndpointKey, u64> = BTreeMap::new();
    for ((_, endpoints), part) in serving.iter().zip(divide(TOTAL, &shares)) {
        let weights: Vec<u64> = endpoints.iter().map(|endpoint| u64::from(endpoint.weight.max(1))).collect();
        for (endpoint, weight) in endpoints.iter().zip(divide(part, &weights)) {
            if part == 0 {
                continue;
            }
            // An endpoint that two members have carries both parts.
            let sum = taken.entry(endpoint.key()).or_default();
            *sum += weight;
            let weight = u32::try_from((*sum).max(1)).unwrap_or(u32::MAX);
            joined.insert(endpoint.key(), Endpoint { weight, ..(*endpoint).clone() });
        }
    }
    let mut joined: Vec<Endpoint> = joined.into_values().collect();
    sort(&mut joined);
    joined
}

fn ready_here<'a>(endpoints: &'a [Endpoint], prefer_zone: bool, zone: Option<&str>) -> Vec<&'a Endpoint> {
    let ready = || endpoints.iter().filter(|endpoint| endpoint.is_ready());
    let here = |endpoint: &&Endpoint| zone.is_some() && endpoint.zone.as_deref() == zone;
    if prefer_zone && ready().any(|endpoint| here(&endpoint)) {
        return ready().filter(here).collect();
    }
    ready().collect()
}

/// Divides `total` in proportion to `parts`, to the last unit; what does not divide goes to the largest remainders, the
/// first of equals first.
fn divide(total: u64, parts: &[u64]) -> Vec<u64> {
    let sum: u128 = parts.iter().map(|part| u128::from(*part)).sum();
    if sum == 0 {
        return vec![0; parts.len()];
    }
    let exact = |part: u64| u128::from(total) * u128::from(part);
    let mut divided: Vec<u64> =
        parts.iter().map(|part| u64::try_from(exact(*part) / sum).unwrap_or(u64::MAX)).collect();
    let left = total.saturating_sub(divided.iter().sum());
    let mut order: Vec<usize> = (0..parts.len()).collect();
    order.sort_by_key(|at| std::cmp::Reverse(parts.get(*at).map_or(0, |part| exact(*part) % sum)));
    for at in order.into_iter().take(usize::try_from(left).unwrap_or(usize::MAX)) {
        if let Some(unit) = divided.get_mut(at) {
            *unit += 1;
        }
    }
    divided
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::endpoints::pool::EndpointState;

    fn endpoint(address: &str) -> Endpoint {
        Endpoint::new(address.parse().unwrap(), 80)
    }

    fn in_zone(address: &str, zone: &str) -> Endpoint {
        Endpoint { zone: Some(zone.into()), ..endpoint(address) }
    }

    fn draining(address: &str) -> Endpoint {
        Endpoint { state: EndpointState::Draining, ..endpoint(address) }
    }

    fn join(members: &[(&str, u32, u32)]) -> Join {
        let member = |(pool, share, priority): &(&str, u32, u32)| Member {
            pool: PoolId::parse(pool).unwrap(),
            share: *share,
            priority: *priority,
        };
        Join {
            id: PoolId::parse("joined").unwrap(),
            members: members.iter().map(member).collect(),
            matched: Vec::new(),
            prefer_zone: false,
            traffic_generation: None,
            namespace: None,
        }
    }

    fn weights(join: &Join, pools: &[(&str, Vec<Endpoint>)]) -> Vec<(String, u32)> {
        let pools: HashMap<PoolId, &[Endpoint]> =
            pools.iter().map(|(id, endpoints)| (PoolId::parse(id).unwrap(), endpoints.as_slice())).collect();
        let joined = endpoints(join, Some("a"), |id| pools.get(id).copied());
        joined.into_iter().filter(Endpoint::is_ready).map(|it| (it.address.to_string(), it.weight)).collect()
    }

    fn pairs(expected: &[(&str, u32)]) -> Vec<(String, u32)> {
        expected.iter().map(|(address, weight)| ((*address).to_owned(), *weight)).collect()
    }

    #[test]
    fn traffic_is_divided_by_share_whatever_the_number_of_endpoints() {
        let pools = [("pods", vec![endpoint("10.0.0.1"), endpoint("10.0.0.2")]), ("vms", vec![endpoint("10.1.0.1")])];
        assert_eq!(
            weights(&join(&[("pods", 70, 0), ("vms", 30, 0)]), &pools),
            pairs(&[("10.0.0.1", 350_000), ("10.0.0.2", 350_000), ("10.1.0.1", 300_000)])
        );
    }

    #[test]
    fn a_member_s_part_is_exact_with_any_number_of_endpoints() {
        let many: Vec<_> = (1..=250).map(|last| endpoint(&format!("10.0.0.{last}"))).collect();
        let pools = [("canary", many), ("stable", vec![endpoint("10.1.0.1")])];
        let found = weights(&join(&[("canary", 1, 0), ("stable", 99, 0)]), &pools);
        let canary: u32 = found.iter().filter(|(it, _)| it.starts_with("10.0.")).map(|(_, weight)| weight).sum();
        assert_eq!(canary, 10_000);
    }

    #[test]
    fn an_empty_member_s_share_goes_to_the_others_of_its_priority() {
        let pools = [("b", vec![endpoint("10.0.0.2")]), ("c", vec![endpoint("10.0.0.3")])];
        let join = join(&[("a", 50, 0), ("b", 30, 0), ("c", 20, 0)]);
        assert_eq!(weights(&join, &pools), pairs(&[("10.0.0.2", 600_000), ("10.0.0.3", 400_000)]));
    }

    #[test]
    fn the_next_priority_serves_only_when_the_one_before_is_empty() {
        let join = join(&[("near", 100, 0), ("far", 100, 1)]);
        let far = ("far", vec![endpoint("10.9.0.1")]);
        assert_eq!(
            weights(&join, &[("near", vec![endpoint("10.0.0.1")]), far.clone()]),
            pairs(&[("10.0.0.1", 1_000_000)])
        );
        assert_eq!(weights(&join, &[("near", vec![draining("10.0.0.1")]), far]), pairs(&[("10.9.0.1", 1_000_000)]));
    }

    #[test]
    fn a_share_of_nothing_takes_nothing_until_it_is_all_there_is() {
        let join = join(&[("stable", 100, 0), ("canary", 0, 0)]);
        let canary = ("canary", vec![endpoint("10.0.0.2")]);
        let both = [("stable", vec![endpoint("10.0.0.1")]), canary.clone()];
        assert_eq!(weights(&join, &both), pairs(&[("10.0.0.1", 1_000_000)]));
        assert_eq!(weights(&join, &[canary]), pairs(&[("10.0.0.2", 1_000_000)]));
    }

    #[test]
    fn draining_endpoints_of_every_member_stay() {
        let join = join(&[("a", 100, 0), ("b", 100, 1)]);
        let pools: HashMap<PoolId, Vec<Endpoint>> = HashMap::from([
            (PoolId::parse("a").unwrap(), vec![endpoint("10.0.0.1"), draining("10.0.0.2")]),
            (PoolId::parse("b").unwrap(), vec![draining("10.0.0.3")]),
        ]);
        let joined = endpoints(&join, None, |id| pools.get(id).map(Vec::as_slice));
        let states: Vec<_> = joined.iter().map(|it| (it.address.to_string(), it.is_ready())).collect();
        assert_eq!(states, [("10.0.0.1".into(), true), ("10.0.0.2".into(), false), ("10.0.0.3".into(), false)]);
    }

    #[test]
    fn own_zone_serves_alone_where_it_is_preferred_and_has_somebody() {
        let both = [("a", vec![in_zone("10.0.0.1", "a"), in_zone("10.0.0.2", "b")])];
        let elsewhere = [("a", vec![in_zone("10.0.0.2", "b")])];
        let preferring = Join { prefer_zone: true, ..join(&[("a", 1, 0)]) };
        assert_eq!(weights(&preferring, &both), pairs(&[("10.0.0.1", 1_000_000)]));
        assert_eq!(weights(&preferring, &elsewhere), pairs(&[("10.0.0.2", 1_000_000)]));
        assert_eq!(weights(&join(&[("a", 1, 0)]), &both).len(), 2);
    }

    #[test]
    fn what_does_not_divide_goes_to_the_largest_remainders() {
        assert_eq!(divide(10, &[1, 1, 1]), [4, 3, 3]);
        assert_eq!(divide(100, &[70, 30]), [70, 30]);
        assert_eq!(divide(3, &[0, 1, 1]), [0, 2, 1]);
        assert_eq!(divide(5, &[0, 0]), [0, 0]);
        assert_eq!(divide(1, &[u64::MAX, 1]), [1, 0]);
    }
}
