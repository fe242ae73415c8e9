//! From what is known of a pool's endpoints to their weights: pure arithmetic, once a change.
//!
//! A pool has one group of endpoints, or, where it is joined from others, one for each member, with a share and a
//! priority. The first priority takes all traffic as long as enough of it is in good health: with 1.4 times its good part,
//! at most all. What it cannot take goes to the next one, and so on; what nobody can take is spread over them in the same
//! proportion. Within a priority traffic is divided by share among the groups that have somebody, and within a group by
//! weight and age.
//!
//! Where health leaves too little (the panic threshold), it is not looked at.

use std::collections::BTreeMap;
use std::time::Duration;

/// Good endpoints count for so much more than their part: a priority that has lost a quarter still takes all.
const OVERPROVISIONED: f64 = 1.4;
/// An endpoint that is new begins with this part of its weight.
const YOUNGEST: f64 = 0.1;
/// Weights are multiplied by this, so that parts of them are whole numbers.
const UNIT: f64 = 1_000.0;
/// The sum of the weights of a joined pool.
const WHOLE: f64 = 1e12;

/// A member of a joined pool.
#[derive(Clone, Copy, Debug)]
pub(in crate::upstream) struct Group {
    pub(in crate::upstream) share: u32,
    pub(in crate::upstream) priority: u32,
}

/// A ready endpoint.
#[derive(Clone, Copy, Debug)]
pub(in crate::upstream) struct Candidate {
    /// Which group it is of, by place.
    pub(in crate::upstream) group: usize,
    pub(in crate::upstream) weight: u32,
    /// Neither ejected nor found unhealthy.
    pub(in crate::upstream) good: bool,
    /// The part of its weight that it gets for its age, see [`age_part`].
    pub(in crate::upstream) age: f64,
}

/// What follows.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::upstream) struct Plan {
    /// Of each candidate; 0 for one that gets no requests.
    pub(in crate::upstream) weights: Vec<u64>,
    /// Whether health was not looked at, somewhere.
    pub(in crate::upstream) panic: bool,
}

/// A priority.
#[derive(Default)]
struct Level {
    ready: usize,
    good: usize,
    /// Its part of all traffic.
    load: f64,
    panic: bool,
}

/// The weights of a pool's candidates; `threshold_percent` is its panic threshold.
pub(in crate::upstream) fn plan(groups: &[Group], candidates: &[Candidate], threshold_percent: u32) -> Plan {
    let priority = |candidate: &Candidate| groups.get(candidate.group).map_or(0, |group| group.priority);
    let mut levels: BTreeMap<u32, Level> = BTreeMap::new();
    for candidate in candidates {
        let level = levels.entry(priority(candidate)).or_default();
        level.ready += 1;
        level.good += usize::from(candidate.good);
    }
    divide_load(&mut levels, threshold_percent);
    let panic = levels.values().any(|level| level.panic);
    let serves = |candidate: &Candidate| {
        levels.get(&priority(candidate)).is_some_and(|level| level.load > 0.0 && (candidate.good || level.panic))
    };
    let own = |candidate: &Candidate| f64::from(candidate.weight.max(1)) * candidate.age;
    if groups.len() <= 1 {
        let weight = |it: &Candidate| if serves(it) { (own(it) * UNIT).round().max(1.0) as u64 } else { 0 };
        return Plan { weights: candidates.iter().map(weight).collect(), panic };
    }
    let mut sums = vec![0.0; groups.len()];
    for candidate in candidates.iter().filter(|candidate| serves(candidate)) {
        if let Some(sum) = sums.get_mut(candidate.group) {
            *sum += own(candidate);
        }
    }
    let shares = shares(groups, &sums);
    let weight = |candidate: &Candidate| {
        let (sum, share) = (sums.get(candidate.group).copied(), shares.get(candidate.group).copied());
        let load = levels.get(&priority(candidate)).map_or(0.0, |level| level.load);
        let part = own(candidate) / sum.unwrap_or(1.0) * share.unwrap_or(0.0) * load;
        if serves(candidate) && part > 0.0 { (part * WHOLE).round().max(1.0) as u64 } else { 0 }
    };
    Plan { weights: candidates.iter().map(weight).collect(), panic }
}

/// How much of its weight an endpoint gets `age` after it came, where it takes `window` to get all.
pub(in crate::upstream) fn age_part(age: Duration, window: Duration) -> f64 {
    if age >= window { 1.0 } else { (age.as_secs_f64() / window.as_secs_f64()).max(YOUNGEST) }
}

/// Gives each priority its part of the traffic.
fn divide_load(levels: &mut BTreeMap<u32, Level>, threshold_percent: u32) {
    let availability = |level: &Level| (OVERPROVISIONED * level.good as f64 / level.ready.max(1) as f64).min(1.0);
    let all: f64 = levels.values().map(availability).sum();
    let alone = levels.len() == 1;
    let mut left = 1.0_f64;
    for level in levels.values_mut() {
        // A priority that others can stand in for needs no panic.
        level.panic = (alone || all < 1.0) && level.good * 100 < level.ready * threshold_percent.min(100) as usize;
        level.load = availability(level).min(left);
        left -= level.load;
    }
    let taken = 1.0 - left;
    if taken > 0.0 {
        levels.values_mut().for_each(|level| level.load /= taken);
    } else if let Some(first) = levels.values_mut().find(|level| level.panic) {
        first.load = 1.0;
    }
}

/// The part of its priority's traffic that each group gets: those that have nobody (`sums` of 0) leave theirs to the
/// others. Where nobody has a share, all have the same.
fn shares(groups: &[Group], sums: &[f64]) -> Vec<f64> {
    let has = |at: usize| sums.get(at).is_some_and(|sum| *sum > 0.0);
    let mut totals: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
    for (_, group) in groups.iter().enumerate().filter(|(at, _)| has(*at)) {
        let (share, count) = totals.entry(group.priority).or_default();
        (*share, *count) = (*share + u64::from(group.share), *count + 1);
    }
    let part = |(at, group): (usize, &Group)| match totals.get(&group.priority) {
        Some((0, count)) if has(at) => 1.0 / *count as f64,
        Some((total, _)) if has(at) => f64::from(group.share) / *total as f64,
        _ => 0.0,
    };
    groups.iter().enumerate().map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALONE: [Group; 1] = [Group { share: 1, priority: 0 }];

    fn candidates(group: usize, good: usize, bad: usize) -> Vec<Candidate> {
        let one = |good| Candidate { group, weight: 100, good, age: 1.0 };
        (0..good).map(|_| one(true)).chain((0..bad).map(|_| one(false))).collect()
    }

    /// Percent of the traffic that each group gets.
    fn parts(groups: &[Group], candidates: &[Candidate], threshold: u32) -> Vec<u64> {
        let plan = plan(groups, candidates, threshold);
        let total: u64 = plan.weights.iter().sum();
        let of = |group| candidates.iter().zip(&plan.weights).filter(move |(it, _)| it.group == group);
        (0..groups.len())
            .map(|at| (of(at).map(|(_, weight)| weight).sum::<u64>() * 100 + total / 2) / total.max(1))
            .collect()
    }

    #[test]
    fn bad_endpoints_are_out_until_too_few_are_left() {
        let served = |good, bad, threshold| {
            let plan = plan(&ALONE, &candidates(0, good, bad), threshold);
            (plan.weights.iter().filter(|weight| **weight > 0).count(), plan.panic)
        };
        assert_eq!(served(10, 0, 50), (10, false));
        assert_eq!(served(5, 5, 50), (5, false));
        assert_eq!(served(4, 6, 50), (10, true));
        assert_eq!(served(0, 10, 50), (10, true));
        assert_eq!(served(1, 9, 0), (1, false), "without a threshold health always counts");
        assert_eq!(served(0, 10, 0), (0, false));
        assert_eq!(plan(&ALONE, &[], 50), Plan { weights: vec![], panic: false });
    }

    #[test]
    fn an_endpoint_that_is_new_gets_a_tenth_at_first_and_all_at_the_end() {
        let window = Duration::from_secs(100);
        let at = |seconds| age_part(Duration::from_secs(seconds), window);
        assert_eq!([at(0), at(10), at(50), at(100), at(1_000)], [0.1, 0.1, 0.5, 1.0, 1.0]);
        let mut two = candidates(0, 2, 0);
        two[0].age = 0.5;
        let weights = plan(&ALONE, &two, 50).weights;
        assert_eq!(weights[0] * 2, weights[1]);
    }

    #[test]
    fn shares_divide_a_priority_whatever_the_number_of_endpoints_and_an_empty_one_leaves_its_own() {
        let groups = [70, 20, 10].map(|share| Group { share, priority: 0 });
        let all: Vec<_> = [candidates(0, 1, 0), candidates(1, 7, 0), candidates(2, 3, 0)].concat();
        assert_eq!(parts(&groups, &all, 50), [70, 20, 10]);
        assert_eq!(parts(&groups, &[candidates(1, 7, 0), candidates(2, 3, 0)].concat(), 50), [0, 67, 33]);
        let bad = [candidates(0, 0, 1), candidates(1, 7, 0), candidates(2, 3, 0)].concat();
        assert_eq!(parts(&groups, &bad, 50), [0, 67, 33], "nobody in good health is as good as nobody");
        let none = [0, 0, 0].map(|share| Group { share, priority: 0 });
        assert_eq!(parts(&none, &all, 50), [33, 33, 33]);
    }

    #[test]
    fn the_next_priority_takes_what_the_first_cannot() {
        let groups = [Group { share: 1, priority: 0 }, Group { share: 1, priority: 1 }];
        let with = |good, bad| [candidates(0, good, bad), candidates(1, 4, 0)].concat();
        assert_eq!(parts(&groups, &with(10, 0), 50), [100, 0]);
        assert_eq!(parts(&groups, &with(8, 2), 50), [100, 0], "a quarter may be out");
        assert_eq!(parts(&groups, &with(5, 5), 50), [70, 30]);
        assert_eq!(parts(&groups, &with(1, 9), 50), [14, 86], "no panic where others stand in");
        assert_eq!(parts(&groups, &with(0, 10), 50), [0, 100]);
        assert_eq!(parts(&groups, &candidates(1, 4, 0), 50), [0, 100]);
        let all_bad = [candidates(0, 0, 4), candidates(1, 0, 4)].concat();
        assert_eq!(parts(&groups, &all_bad, 50), [100, 0], "all bad: the first, as if nothing was known");
        assert_eq!(plan(&groups, &all_bad, 0).weights, [0; 8]);
    }
}
