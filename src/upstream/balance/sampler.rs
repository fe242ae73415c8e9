//! Choosing by weight in a few steps, however many there are to choose from.

use crate::upstream::random::{GOLDEN, mix};

/// Weights, laid out for sampling.
#[derive(Debug)]
pub(super) enum Sampler {
    /// All the same; so many.
    Equal(usize),
    /// Sums of the weights up to each, and where to begin to look for a number: the sums are cut into as many stretches
    /// of equal length as there are weights, and each stretch knows the first weight that reaches into it.
    Weighted { sums: Box<[u64]>, guide: Box<[u32]>, total: u64 },
}

// === impl Sampler ===

impl Default for Sampler {
    fn default() -> Self {
        Self::Equal(0)
    }
}

impl Sampler {
    pub(super) fn new(weights: &[u64]) -> Self {
        if weights.windows(2).all(|two| two.first() == two.last()) {
            return Self::Equal(weights.len());
        }
        let mut total = 0_u64;
        let sums: Box<[u64]> = weights
            .iter()
            .map(|weight| {
                total = total.saturating_add(*weight);
                total
            })
            .collect();
        let count = weights.len() as u64;
        let mut at = 0_usize;
        let guide = (0..count)
            .map(|stretch| {
                let begins = scale(stretch, total, count);
                while sums.get(at).is_some_and(|sum| *sum <= begins) {
                    at += 1;
                }
                u32::try_from(at).unwrap_or(u32::MAX)
            })
            .collect();
        Self::Weighted { sums, guide, total }
    }

    /// The one at `point` of 2⁶⁴: random points choose each as often as its weight says.
    #[inline]
    pub(super) fn sample(&self, point: u64) -> usize {
        match self {
            Self::Equal(count) => part(point, *count as u64) as usize,
            Self::Weighted { sums, guide, total } => {
                let wanted = part(point, *total);
                let stretch = part(point, guide.len() as u64) as usize;
                let mut at = guide.get(stretch).map_or(0, |at| *at as usize);
                while sums.get(at).is_some_and(|sum| *sum <= wanted) {
                    at += 1;
                }
                at
            }
        }
    }

    /// A second one beside `one`; with weights it may be the same one, more often the heavier it is.
    #[inline]
    pub(super) fn another(&self, one: usize, point: u64) -> usize {
        match self {
            Self::Equal(count) if *count > 1 => {
                let next = one + 1 + part(point, *count as u64 - 1) as usize;
                if next >= *count { next - *count } else { next }
            }
            Self::Equal(_) => one,
            Self::Weighted { .. } => {
                let drawn = self.sample(point);
                if drawn == one { self.sample(mix(point)) } else { drawn }
            }
        }
    }

    /// The one whose turn it is. With equal weights one after the other; with others, steps of the golden ratio over
    /// the sums, which come to each as often as its weight says and never twice in close succession where they need not.
    #[inline]
    pub(super) fn in_turn(&self, turn: u64) -> usize {
        match self {
            Self::Equal(count) => (turn % (*count as u64).max(1)) as usize,
            Self::Weighted { .. } => self.sample(turn.wrapping_mul(GOLDEN)),
        }
    }
}

/// `of × point / 2⁶⁴`.
#[inline]
fn part(point: u64, of: u64) -> u64 {
    ((u128::from(point) * u128::from(of)) >> 64) as u64
}

/// Where a stretch begins: the least number that [`part`] gives for its points.
fn scale(stretch: u64, total: u64, count: u64) -> u64 {
    u64::try_from(u128::from(stretch) * u128::from(total) / u128::from(count.max(1))).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_guide_leads_to_what_a_search_from_the_beginning_finds(
            weights in proptest::collection::vec(1_u64..1_000_000, 1..200), points in proptest::collection::vec(any::<u64>(), 50)
        ) {
            let sampler = Sampler::new(&weights);
            let total: u64 = weights.iter().sum();
            for point in points.into_iter().chain([0, u64::MAX]) {
                let equal = weights.iter().all(|weight| *weight == weights[0]);
                let wanted = part(point, if equal { weights.len() as u64 } else { total });
                let mut sum = 0;
                let found = weights.iter().position(|weight| {
                    sum += if equal { 1 } else { *weight };
                    sum > wanted
                });
                prop_assert_eq!(Some(sampler.sample(point)), found);
            }
        }

        #[test]
        fn turns_come_to_each_as_often_as_its_weight_says(weights in proptest::collection::vec(1_u64..1_000, 2..40)) {
            let sampler = Sampler::new(&weights);
            let mut counts = vec![0_u64; weights.len()];
            let turns = 20_000;
            (0..turns).for_each(|turn| counts[sampler.in_turn(turn)] += 1);
            let total: u64 = weights.iter().sum();
            for (count, weight) in counts.iter().zip(&weights) {
                let expected = turns as f64 * *weight as f64 / total as f64;
                prop_assert!((*count as f64 - expected).abs() <= 8.0, "{counts:?} for {weights:?}");
            }
        }
    }

    #[test]
    fn equal_weights_take_turns_exactly_and_a_heavy_one_is_not_served_in_a_row_without_need() {
        let equal = Sampler::new(&[5, 5, 5]);
        assert_eq!([0, 1, 2, 3, 4].map(|turn| equal.in_turn(turn)), [0, 1, 2, 0, 1]);
        let heavy = Sampler::new(&[5, 1, 1]);
        let order: Vec<usize> = (0..700).map(|turn| heavy.in_turn(turn)).collect();
        let longest = order.chunk_by(|one, other| one == other).map(<[usize]>::len).max();
        assert!(longest <= Some(5), "{longest:?}");
    }

    #[test]
    fn the_second_of_two_equals_is_another() {
        let sampler = Sampler::new(&[1, 1, 1]);
        for point in (0..64).map(|bits| bits << 58) {
            assert!((0..3).all(|one| sampler.another(one, point) != one));
        }
        assert_eq!(Sampler::new(&[7]).another(0, 5), 0);
    }
}
