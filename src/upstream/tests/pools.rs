//! Pools followed by hand, at times that the test says.

use std::collections::{BTreeMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::support::*;
use crate::endpoints::join::Member;
use crate::endpoints::pool::Endpoint;
use crate::upstream::config::*;
use crate::upstream::host::Out;
use crate::upstream::*;

fn config() -> PoolConfig {
    PoolConfig::default()
}

fn pick(world: &World, pool: &Pool, random: &mut Random, milliseconds: u64) -> Result<Picked, NoEndpoint> {
    let now = world.now(milliseconds);
    pool.pick(&Pick { now, random: random.next_u64(), thread: 0, hash: None, tried: &[] })
}

/// How many of so many picks go where, by the last part of the address.
fn counts(world: &World, pool: &Pool, picks: u32) -> BTreeMap<u8, u32> {
    let mut random = Random::new(5);
    let mut counts = BTreeMap::new();
    for _ in 0..picks {
        *counts.entry(last(&pick(world, pool, &mut random, 0).unwrap())).or_default() += 1;
    }
    counts
}

fn last(picked: &Picked) -> u8 {
    match picked.endpoint().address {
        IpAddr::V4(address) => address.octets()[3],
        IpAddr::V6(_) => panic!("no such endpoint"),
    }
}

fn fail(world: &World, pool: &Pool, place: usize, times: u32, milliseconds: u64) {
    let member = pool.members[place].clone();
    let mut random = Random::new(9);
    let others: Vec<SocketAddr> = pool
        .members
        .iter()
        .map(|it| it.host.target.address())
        .filter(|it| *it != member.host.target.address())
        .collect();
    for _ in 0..times {
        let now = world.now(milliseconds);
        let wanted = Pick { now, random: random.next_u64(), thread: 0, hash: None, tried: &others };
        if let Ok(picked) = pool.pick(&wanted) {
            picked.record(Outcome::Status(503), Duration::from_millis(1), now);
        }
    }
}

fn ejected(pool: &Pool) -> usize {
    pool.members.iter().filter(|member| member.host.is_out_for(Out::Ejected)).count()
}

#[test]
fn an_ejected_endpoint_gets_no_request_from_the_very_next_pick_on_until_its_time_is_over() {
    let (mut world, pool) = World::with(&config(), endpoints(4));
    fail(&world, &pool, 0, 5, 1_000);
    assert_eq!(ejected(&pool), 1);
    assert!(!counts(&world, &pool, 1_000).contains_key(&1), "the present table is asked");
    let after = world.at(1_001);
    assert_eq!(counts(&world, &after, 900), [(2, 300), (3, 300), (4, 300)].into());
    let still = world.at(30_999);
    assert_eq!(counts(&world, &still, 300).len(), 3);
    let back = world.at(31_000);
    assert_eq!(counts(&world, &back, 400).len(), 4);
    fail(&world, &back, 0, 5, 40_000);
    assert_eq!(ejected(&world.at(80_000)), 1, "the second time lasts twice as long");
    assert_eq!(ejected(&world.at(100_001)), 0);
}

#[test]
fn no_more_than_the_cap_is_ejected_however_many_fail() {
    let (mut world, pool) = World::with(&config(), endpoints(10));
    (0..10).for_each(|place| fail(&world, &pool, place, 50, 10));
    assert_eq!(ejected(&pool), 3);
    let after = world.at(20);
    assert_eq!((after.rest.panic, counts(&world, &after, 700).len()), (false, 7));
    let (world, alone) = World::with(&config(), endpoints(1));
    fail(&world, &alone, 0, 50, 10);
    assert_eq!(ejected(&alone), 0, "the only endpoint is better than none");
}

#[test]
fn requests_that_match_go_to_their_part_and_no_other_does_whoever_is_there() {
    let canary = requests("x-canary");
    let mut world = World::new(&config());
    let tell = |world: &mut World, all: u8, matched: &[u8]| {
        let (stable, part) = (endpoints(all), numbered(matched));
        world.source.tell_matched(POOL, stable, &[(canary.clone(), part)]);
        world.at(0)
    };
    let pool = tell(&mut world, 2, &[7, 8]);
    let part = |pool: &Pool| pool.part(|it| *it == canary);
    let taken = part(&pool).unwrap();
    let of_part = |world: &World, pool: &Pool| {
        let mut random = Random::new(5);
        let mut pick = || {
            let now = world.now(0);
            pool.pick_of(&taken, &Pick { now, random: random.next_u64(), thread: 0, hash: None, tried: &[] })
        };
        (0..100).map(|_| last(&pick().unwrap())).collect::<HashSet<_>>()
    };
    assert!(pool.part(|_| false).is_none());
    assert_eq!(of_part(&world, &pool), HashSet::from([7, 8]));
    assert_eq!(counts(&world, &pool, 100), [(1, 50), (2, 50)].into());
    // Who is both has both.
    let both = tell(&mut world, 2, &[2]);
    assert_eq!((of_part(&world, &both), counts(&world, &both, 100).len()), (HashSet::from([2]), 2));
    // A part without anybody leaves its requests to the others, and others without anybody have nobody.
    let empty = tell(&mut world, 2, &[]);
    assert!(part(&empty).is_none());
    assert_eq!(of_part(&world, &empty), HashSet::from([1, 2]), "one that was taken before it was empty");
    let alone = tell(&mut world, 0, &[7]);
    let mut random = Random::new(5);
    assert_eq!(pick(&world, &alone, &mut random, 0).unwrap_err(), NoEndpoint::Empty);
    assert_eq!(of_part(&world, &alone), HashSet::from([7]));
    // The same endpoints for other requests are not for this one.
    world.source.tell_matched(POOL, endpoints(2), &[(requests("x-other"), numbered(&[7]))]);
    let other = world.at(0);
    assert_eq!(of_part(&world, &other), HashSet::from([1, 2]));
}

#[test]
fn an_endpoint_that_leaves_makes_room_for_another_ejection() {
    let (mut world, pool) = World::with(&config(), endpoints(4));
    fail(&world, &pool, 0, 5, 10);
    fail(&world, &pool, 1, 5, 10);
    assert_eq!(ejected(&pool), 1, "one of four may be out");
    world.source.tell(POOL, endpoints(4).split_off(1));
    let after = world.at(20);
    fail(&world, &after, 0, 5, 30);
    assert_eq!(ejected(&after), 1);
}

#[test]
fn a_success_rate_far_below_the_others_ejects_at_the_end_of_the_interval() {
    let outlier =
        OutlierConfig { success_rate: Some(SuccessRate::default()), consecutive_5xx: 0, ..Default::default() };
    let outlier = OutlierConfig { consecutive_gateway_failures: 0, ..outlier };
    let (mut world, pool) = World::with(&PoolConfig { outlier: Some(outlier), ..config() }, endpoints(10));
    world.entry.is_due(world.now(0));
    let mut random = Random::new(3);
    for request in 0..2_000_u32 {
        let picked = pick(&world, &pool, &mut random, 10).unwrap();
        let bad = last(&picked) == 7 && request % 3 == 0;
        picked.record(Outcome::Status(if bad { 500 } else { 200 }), Duration::from_millis(1), world.now(10));
    }
    assert!(!world.entry.is_due(world.now(9_999)) && ejected(&pool) == 0);
    world.entry.is_due(world.now(10_000));
    let after = world.at(10_000);
    assert_eq!(ejected(&after), 1);
    assert!(!counts(&world, &after, 900).contains_key(&7));
}

#[test]
fn a_swap_keeps_health_latencies_and_requests_in_flight() {
    let (mut world, pool) = World::with(&PoolConfig { balancer: Balancer::PeakEwma, ..config() }, endpoints(4));
    fail(&world, &pool, 0, 5, 10);
    pool.members[1].host.set_out(Out::Unhealthy, true);
    let held = pick(&world, &pool, &mut Random::new(1), 10).unwrap();
    held.record(Outcome::Status(200), Duration::from_millis(70), world.now(10));
    let place = pool.members.iter().position(|member| member.host.in_flight() == 1).unwrap();
    let mut changed: Vec<Endpoint> = endpoints(4).into_iter().map(|it| Endpoint { weight: 7, ..it }).collect();
    changed.push(endpoint(5));
    world.source.tell(POOL, changed);
    let after = world.at(20);
    assert!(!Arc::ptr_eq(&pool, &after) && after.members.len() == 5);
    for (before, after) in pool.members.iter().zip(&after.members) {
        assert!(Arc::ptr_eq(&before.host, &after.host) && after.endpoint.weight == 7);
    }
    let picks = counts(&world, &after, 300);
    assert!(!picks.contains_key(&1) && !picks.contains_key(&2), "{picks:?}");
    assert_eq!(after.members[place].host.in_flight(), 1);
    assert!((after.members[place].host.latency(10).unwrap() - 0.07).abs() < 1e-6);
    drop(held);
    assert_eq!((after.members[place].host.in_flight(), after.in_flight()), (0, 0));
}

#[test]
fn below_the_panic_threshold_health_is_not_looked_at() {
    let (mut world, pool) = World::with(&config(), endpoints(10));
    let out = |place: usize| pool.members[place].host.set_out(Out::Unhealthy, true);
    (0..5).for_each(|place| _ = out(place));
    let half = world.at(10);
    assert_eq!((half.rest.panic, counts(&world, &half, 500).len()), (false, 5));
    out(5);
    let less = world.at(20);
    assert_eq!((less.rest.panic, counts(&world, &less, 1_000).len()), (true, 10));
    let never = PoolConfig { panic_threshold_percent: 0, ..config() };
    let (mut world, pool) = World::with(&never, endpoints(2));
    pool.members.iter().for_each(|member| _ = member.host.set_out(Out::Unhealthy, true));
    assert_eq!(pick(&world, &pool, &mut Random::new(1), 0).unwrap_err(), NoEndpoint::Unhealthy);
    let after = world.at(10);
    assert_eq!(pick(&world, &after, &mut Random::new(1), 0).unwrap_err(), NoEndpoint::Unhealthy);
}

#[test]
fn an_endpoint_that_comes_later_starts_slowly_and_the_first_ones_do_not() {
    let slow = PoolConfig { slow_start: Some(Duration::from_secs(10)), ..config() };
    let (mut world, pool) = World::with(&slow, endpoints(3));
    assert_eq!(counts(&world, &pool, 300), [(1, 100), (2, 100), (3, 100)].into());
    world.source.tell(POOL, endpoints(4));
    let mut part = |milliseconds| {
        let pool = world.at(milliseconds);
        let count = counts(&world, &pool, 30_000)[&4];
        (f64::from(count) / 30_000.0 * 1_000.0).round()
    };
    // Its weight beside three whole ones: 0.1, 0.25, 0.5, 1.
    assert_eq!([part(1_000), part(3_500), part(6_000), part(11_000)], [32.0, 77.0, 143.0, 250.0]);
}

#[test]
fn requests_stay_in_the_zone_as_far_as_its_part_of_the_endpoints_reaches() {
    let in_zone = |last: u8, zone: &str| Endpoint { zone: Some(zone.into()), ..endpoint(last) };
    let zoned = PoolConfig { zone_aware: true, ..config() };
    let part = |zone, near: u8, far: u8| {
        let all = (1..=near).map(|last| in_zone(last, "a")).chain((101..=100 + far).map(|last| in_zone(last, "b")));
        let mut world = World::new(&zoned);
        world.zone = zone;
        world.source.tell(POOL, all.collect());
        let pool = world.at(0);
        let counts = counts(&world, &pool, 20_000);
        let near: u32 = counts.iter().filter(|(last, _)| **last <= 100).map(|(_, count)| count).sum();
        (f64::from(near) / 200.0).round()
    };
    assert_eq!(part(Some("a"), 4, 4), 100.0);
    assert_eq!(part(Some("a"), 5, 3), 100.0, "more than its part: all stay");
    assert!((part(Some("a"), 2, 6) - 50.0).abs() <= 1.0, "a quarter of the endpoints carries half of this zone's half");
    assert_eq!(part(Some("a"), 0, 4), 0.0);
    assert!((part(None, 4, 4) - 50.0).abs() <= 1.0);
}

#[test]
fn a_joined_pool_follows_shares_and_health_and_falls_back_to_its_next_priority() {
    let member = |pool: &str, share, priority| Member { pool: id(pool), share, priority };
    let members = vec![member("pods", 70, 0), member("vms", 30, 0), member("far", 1, 1)];
    let mut world = World::new(&PoolConfig { members, ..config() });
    let named = |from: u8, to: u8| (from..=to).map(endpoint).collect::<Vec<_>>();
    world.source.tell("pods", named(1, 4));
    world.source.tell("vms", named(11, 11));
    world.source.tell("far", named(21, 22));
    let mut parts = |milliseconds| {
        let pool = world.at(milliseconds);
        let counts = counts(&world, &pool, 10_000);
        let of = |from, to| {
            let sum: u32 = counts.range(from..=to).map(|(_, count)| count).sum();
            (f64::from(sum) / 100.0).round()
        };
        (pool, [of(1, 10), of(11, 20), of(21, 30)])
    };
    let (pool, first) = parts(0);
    assert_eq!(first, [70.0, 30.0, 0.0]);
    let set =
        |from: usize, to: usize, out| (from..to).for_each(|at| _ = pool.members[at].host.set_out(Out::Unhealthy, out));
    set(4, 5, true);
    assert_eq!(parts(10).1, [100.0, 0.0, 0.0], "nobody healthy leaves its share to the other");
    set(0, 3, true);
    assert_eq!(parts(20).1, [28.0, 0.0, 72.0], "a fifth, times 1.4");
    set(0, 5, true);
    assert_eq!(parts(30).1, [0.0, 0.0, 100.0]);
    set(0, 5, false);
    assert_eq!(parts(40).1, [70.0, 30.0, 0.0]);
}

#[test]
fn who_is_unknown_empty_exhausted_or_overloaded_is_told_apart() {
    let limits = Limits { max_requests: Some(2), ..Limits::default() };
    let mut world = World::new(&PoolConfig { limits, ..config() });
    let mut random = Random::new(1);
    let unknown = world.at(0);
    assert_eq!(pick(&world, &unknown, &mut random, 0).unwrap_err(), NoEndpoint::Unknown);
    world.source.tell(POOL, vec![draining(endpoint(1))]);
    let empty = world.at(1);
    assert_eq!(pick(&world, &empty, &mut random, 0).unwrap_err(), NoEndpoint::Empty);
    world.source.tell(POOL, endpoints(2));
    let two = world.at(2);
    let tried = [SocketAddr::from(([10, 0, 0, 1], 80)), SocketAddr::from(([10, 0, 0, 2], 80))];
    let without = |tried: &[SocketAddr]| two.pick(&Pick { now: world.base, random: 1, thread: 0, hash: None, tried });
    assert_eq!(last(&without(&tried[..1]).unwrap()), 2);
    assert_eq!(without(&tried).unwrap_err(), NoEndpoint::AllTried);
    let held = [without(&[]).unwrap(), without(&[]).unwrap()];
    assert_eq!(without(&[]).unwrap_err(), NoEndpoint::TooManyRequests);
    drop(held);
    assert!(without(&[]).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_draining_or_vanished_endpoint_is_never_picked_while_a_ready_one_is_there(
        steps in proptest::collection::vec(proptest::collection::vec((1_u8..20, any::<bool>(), any::<bool>()), 0..12), 1..6),
        seed in any::<u64>(),
    ) {
        for (_, balancer) in Balancer::NAMES {
            let slow_start = Some(Duration::from_secs(1));
            let mut world = World::new(&PoolConfig { balancer, slow_start, ..config() });
            let mut random = Random::new(seed);
            for (step, told) in (0..).zip(&steps) {
                let told: BTreeMap<u8, (bool, bool)> =
                    told.iter().map(|(last, ready, healthy)| (*last, (*ready, *healthy))).collect();
                let list = |(last, (ready, _)): (&u8, &(bool, bool))| {
                    if *ready { endpoint(*last) } else { draining(endpoint(*last)) }
                };
                world.source.tell(POOL, told.iter().map(list).collect());
                let pool = world.at(step * 100);
                for member in &pool.members {
                    let IpAddr::V4(address) = member.endpoint.address else { continue };
                    member.host.set_out(Out::Unhealthy, !told[&address.octets()[3]].1);
                }
                let pool = if step % 2 == 0 { world.at(step * 100 + 50) } else { pool };
                let ready: HashSet<u8> = told.iter().filter(|(_, (ready, _))| *ready).map(|(last, _)| *last).collect();
                for _ in 0..30 {
                    match pick(&world, &pool, &mut random, step * 100 + 60) {
                        Ok(picked) => prop_assert!(ready.contains(&last(&picked))),
                        Err(error) => prop_assert!(ready.is_empty(), "{error}"),
                    }
                }
            }
        }
    }
}
