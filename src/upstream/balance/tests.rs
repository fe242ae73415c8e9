//! Balancers as they behave over many picks, with clock, load and randomness made up.

use std::cell::Cell;
use std::collections::HashSet;

use proptest::prelude::*;

use super::*;
use crate::upstream::random::{Random, hash};

/// A pool in a test: loads and latencies by place.
#[derive(Default)]
struct Pool {
    in_flight: Vec<u32>,
    latency: Vec<Option<f32>>,
    unusable: HashSet<u32>,
    turn: Cell<u64>,
}

impl View for Pool {
    fn is_usable(&self, place: u32) -> bool {
        !self.unusable.contains(&place)
    }

    fn in_flight(&self, place: u32) -> u32 {
        self.in_flight.get(place as usize).copied().unwrap_or(0)
    }

    fn latency(&self, place: u32) -> Option<f32> {
        self.latency.get(place as usize).copied().flatten()
    }

    fn turn(&self) -> u64 {
        self.turn.replace(self.turn.get() + 1)
    }
}

fn entries(weights: &[u64]) -> Vec<Entry> {
    let entry =
        |(place, weight): (u32, &u64)| Entry { place, weight: *weight, id: hash(&place.to_le_bytes()), near: false };
    (0..).zip(weights).map(entry).collect()
}

fn counts(picker: &Picker, pool: &Pool, endpoints: usize, picks: u32) -> Vec<f64> {
    let mut random = Random::new(42);
    let mut counts = vec![0.0; endpoints];
    for key in 0..picks {
        let draw = Draw { random: random.next_u64(), hash: Some(hash(&key.to_le_bytes())) };
        counts[picker.pick(draw, pool).unwrap() as usize] += 1.0;
    }
    counts
}

/// The sum of the squared deviations from what the weights say, each by its expectation. For eight endpoints (seven
/// degrees of freedom) it is above 24.3 once in a thousand times.
fn chi_squared(counts: &[f64], weights: &[u64]) -> f64 {
    let (picks, total) = (counts.iter().sum::<f64>(), weights.iter().sum::<u64>() as f64);
    let deviation = |(count, weight): (&f64, &u64)| {
        let expected = picks * *weight as f64 / total;
        (count - expected).powi(2) / expected
    };
    counts.iter().zip(weights).map(deviation).sum()
}

#[test]
fn every_balancer_gives_each_endpoint_its_part_of_a_hundred_thousand_picks() {
    for weights in [[100_u64; 8], [1, 2, 3, 4, 50, 100, 7, 200]] {
        for (name, balancer) in Balancer::NAMES {
            let picker = Picker::new(balancer, &entries(&weights), 0.0, None);
            let counts = counts(&picker, &Pool::default(), 8, 100_000);
            // A table of slots has parts of its own, within a percent or two of the weights; keys spread over it.
            let limit = if balancer == Balancer::ConsistentHash { 120.0 } else { 24.3 };
            let found = chi_squared(&counts, &weights);
            assert!(found < limit, "{name} {weights:?}: χ² {found:.1}, {counts:?}");
        }
    }
}

#[test]
fn least_request_avoids_who_has_much_to_do_for_its_weight() {
    let picker = Picker::new(Balancer::LeastRequest, &entries(&[100, 100, 100, 100]), 0.0, None);
    let pool = Pool { in_flight: vec![50, 1, 1, 1], ..Pool::default() };
    assert_eq!(counts(&picker, &pool, 4, 10_000)[0], 0.0, "one of any two has less to do");
    let weighted = Picker::new(Balancer::LeastRequest, &entries(&[300, 100]), 0.0, None);
    let busy = Pool { in_flight: vec![30, 10], ..Pool::default() };
    let counts = counts(&weighted, &busy, 2, 40_000);
    assert!((counts[0] / 30_000.0 - 1.0).abs() < 0.03, "in step with their weights both are as busy: {counts:?}");
}

#[test]
fn least_request_levels_the_load_when_one_is_slow() {
    // Each endpoint finishes one request in so many picks; what is in flight at the end shows whether it keeps up.
    let (slow, fast) = (40, 4);
    let picker = Picker::new(Balancer::LeastRequest, &entries(&[1; 4]), 0.0, None);
    let mut pool = Pool { in_flight: vec![0; 4], ..Pool::default() };
    let mut random = Random::new(1);
    for pick in 1..=20_000_u32 {
        let place = picker.pick(Draw { random: random.next_u64(), hash: None }, &pool).unwrap();
        pool.in_flight[place as usize] += 1;
        for (place, every) in [(0, slow), (1, fast), (2, fast), (3, 3)] {
            if pick % every == 0 {
                pool.in_flight[place] = pool.in_flight[place].saturating_sub(1);
            }
        }
    }
    let spread = pool.in_flight.iter().max().unwrap() - pool.in_flight.iter().min().unwrap();
    assert!(spread <= 12, "{:?}", pool.in_flight);
}

#[test]
fn peak_ewma_prefers_who_answers_soon_and_neither_floods_nor_shuns_the_unknown() {
    let picker = Picker::new(Balancer::PeakEwma, &entries(&[1, 1]), 0.0, None);
    let slow = Pool { latency: vec![Some(0.5), Some(0.01)], ..Pool::default() };
    assert_eq!(counts(&picker, &slow, 2, 1_000), [0.0, 1_000.0]);
    let queued = Pool { latency: vec![Some(0.5), Some(0.01)], in_flight: vec![0, 80], ..Pool::default() };
    assert_eq!(counts(&picker, &queued, 2, 1_000), [1_000.0, 0.0], "eighty short ones take longer than one long one");
    let unknown = Pool { latency: vec![None, Some(0.01)], in_flight: vec![3, 2], ..Pool::default() };
    assert_eq!(counts(&picker, &unknown, 2, 1_000), [0.0, 1_000.0]);
    let unknown = Pool { in_flight: vec![1, 2], ..unknown };
    assert_eq!(counts(&picker, &unknown, 2, 1_000), [1_000.0, 0.0]);
}

#[test]
fn a_key_stays_with_its_endpoint_and_goes_to_one_other_while_that_is_out() {
    let picker = Picker::new(Balancer::ConsistentHash, &entries(&[1; 10]), 0.0, None);
    let pick = |random: u64, pool: &Pool| picker.pick(Draw { random, hash: Some(hash(b"user-7")) }, pool).unwrap();
    let home = pick(1, &Pool::default());
    assert!((0..100).all(|random| pick(random, &Pool::default()) == home));
    let out = Pool { unusable: [home].into(), ..Pool::default() };
    let other = pick(1, &out);
    assert!(other != home && (0..100).all(|random| pick(random, &out) == other));
}

#[test]
fn requests_stay_near_as_far_as_the_endpoints_there_can_carry_them() {
    let mut all = entries(&[1; 6]);
    all.iter_mut().take(2).for_each(|entry| entry.near = true);
    let near = |part: f64| {
        let counts = counts(&Picker::new(Balancer::RoundRobin, &all, part, None), &Pool::default(), 6, 40_000);
        (counts[0] + counts[1]) / 40_000.0
    };
    assert_eq!(near(1.0), 1.0);
    assert!((near(0.6) - 0.6).abs() < 0.01);
    let out = Pool { unusable: [0, 1].into(), ..Pool::default() };
    let far = counts(&Picker::new(Balancer::RoundRobin, &all, 1.0, None), &out, 6, 100);
    assert_eq!(far[0] + far[1], 0.0, "nobody near is usable: those far away serve");
}

proptest! {
    #[test]
    fn whoever_is_usable_is_found_and_nobody_else_is_ever_picked(
        weights in proptest::collection::vec(1_u64..1_000, 1..40), usable in proptest::collection::vec(any::<bool>(), 40),
        seed in any::<u64>(), near in 0.0..1.2_f64,
    ) {
        let mut all = entries(&weights);
        all.iter_mut().for_each(|entry| entry.near = entry.id.is_multiple_of(3));
        let unusable = (0..).zip(&usable).take(weights.len()).filter(|(_, usable)| !**usable).map(|(place, _)| place);
        let pool = Pool { unusable: unusable.collect(), ..Pool::default() };
        let any = pool.unusable.len() < weights.len();
        let mut random = Random::new(seed);
        for (_, balancer) in Balancer::NAMES {
            let picker = Picker::new(balancer, &all, near, None);
            for hash in [None, Some(random.next_u64())] {
                let picked = picker.pick(Draw { random: random.next_u64(), hash }, &pool);
                prop_assert_eq!(picked.is_some(), any);
                prop_assert!(picked.is_none_or(|place| !pool.unusable.contains(&place)));
            }
        }
    }
}
