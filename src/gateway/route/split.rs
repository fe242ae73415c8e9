//! Which of a route's pools takes a request: one whose own match says so, else by share.

use super::{Asked, takes_field};
use crate::gateway::config::{Forward, Target};
use crate::upstream::hash;

/// The place of the target. `random` decides where nothing of the request does.
pub(in crate::gateway) fn choose(forward: &Forward, asked: &Asked<'_>, random: u64) -> usize {
    if forward.targets.len() == 1 {
        return 0;
    }
    let own = |target: &Target| target.matches.as_ref().is_some_and(|matches| takes_field(matches, asked));
    if let Some(place) = forward.targets.iter().position(own) {
        return place;
    }
    let identity = forward.split_by.as_ref().and_then(|field| asked.with(field, |value| value.map(hash)));
    by_share(&forward.targets, identity.unwrap_or(random))
}

/// The target on whose part of 0 to 2^64 a number falls.
fn by_share(targets: &[Target], number: u64) -> usize {
    let total: u64 = targets.iter().map(|target| u64::from(target.share)).sum();
    let at = u64::try_from((u128::from(number) * u128::from(total)) >> 64).unwrap_or_default();
    let mut below = 0;
    let place = targets.iter().position(|target| {
        below += u64::from(target.share);
        at < below
    });
    place.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoints::pool::PoolId;
    use crate::upstream::Random;

    fn targets(shares: &[u32]) -> Vec<Target> {
        let target = |share: &u32| Target::new(Some(PoolId::parse("a").unwrap()), *share);
        shares.iter().map(target).collect()
    }

    #[test]
    fn shares_are_kept_to_over_many_requests() {
        let (targets, mut random) = (targets(&[70, 0, 25, 5]), Random::new(7));
        let mut counts = [0_u32; 4];
        (0..100_000).for_each(|_| counts[by_share(&targets, random.next_u64())] += 1);
        assert_eq!(counts[1], 0);
        let expected = [70_000.0, 25_000.0, 5_000.0];
        let chi: f64 = [counts[0], counts[2], counts[3]]
            .iter()
            .zip(expected)
            .map(|(count, expected)| (f64::from(*count) - expected).powi(2) / expected)
            .sum();
        // Two degrees of freedom, one in a thousand.
        assert!(chi < 13.8, "{chi} {counts:?}");
    }

    #[test]
    fn the_ends_of_the_numbers_fall_on_the_first_and_the_last() {
        let targets = targets(&[1, 1]);
        assert_eq!((by_share(&targets, 0), by_share(&targets, u64::MAX)), (0, 1));
    }
}
