//! The clusters' parts of the traffic, and the one policy of all.

use std::collections::BTreeMap;

use super::super::{WHOLE, Write};
use super::{Fleet, FleetWrite, Lane, Side, Sight};
use crate::kubernetes::policy::RequestMatch;

/// The largest part in a policy: times [`WHOLE`], it is the largest share that a member may have.
const LARGEST: u32 = 1_000;

/// Every cluster's part, as it is and as it is to be, in the order of the clusters.
pub(super) struct Parts {
    /// The sum of its members' shares; 0 where it has none.
    is: Vec<u32>,
    /// As it is to be.
    ought: Vec<u32>,
    strays: bool,
    may_change: bool,
}

// === impl Parts ===

impl Parts {
    pub(super) fn of(fleet: &Fleet, lanes: &[Lane<'_>]) -> Self {
        let sum = |lane: &Lane<'_>| {
            let traffic = lane.seen().and_then(|seen| seen.traffic.as_ref());
            traffic.map(|it| it.shares.values().copied().fold(0, u32::saturating_add)).unwrap_or_default()
        };
        // Who shares traffic has all pods that are asked for, and everybody knows them.
        let is_whole = |lane: &Lane<'_>| {
            let has = |seen: &super::Observed| {
                let shares = seen.shares();
                seen.unpublished.is_none() && (shares.is_empty() || seen.standing(&shares) >= seen.desired)
            };
            lane.seen().is_some_and(has)
        };
        let largest = fleet.clusters.iter().map(|it| it.share).max().unwrap_or(1).max(LARGEST);
        let scaled = |share: u32| u64::from(share) * u64::from(LARGEST) / u64::from(largest);
        Self {
            is: lanes.iter().map(sum).collect(),
            ought: fleet.clusters.iter().map(|it| u32::try_from(scaled(it.share)).unwrap_or(LARGEST).max(1)).collect(),
            strays: fleet.strays,
            may_change: lanes.iter().all(is_whole),
        }
    }

    /// Whether the parts of those that have traffic are others than they are to be. Only their proportion counts.
    pub(super) fn change(&self) -> bool {
        let mut serving = self.is.iter().zip(&self.ought).filter(|(is, _)| **is > 0);
        let Some((first, wanted)) = serving.next() else { return false };
        self.strays
            || serving.any(|(is, ought)| u64::from(*is) * u64::from(*wanted) != u64::from(*first) * u64::from(*ought))
    }

    /// What each part is in the policy that is written next.
    fn next(&self) -> Vec<u32> {
        if self.may_change || !self.change() {
            return self.ought.clone();
        }
        // The parts stay; who has none yet comes in at its proportion to the first that has.
        let first = self.is.iter().zip(&self.ought).find(|(is, _)| **is > 0);
        let (is, ought) = first.map_or((1, 1), |(is, ought)| (u64::from(*is / WHOLE), u64::from(*ought)));
        let kept = |(part, wanted): (&u32, &u32)| {
            let new = u64::from(*wanted) * is / ought.max(1);
            let unit = if *part > 0 { *part / WHOLE } else { u32::try_from(new).unwrap_or(LARGEST) };
            unit.clamp(1, LARGEST)
        };
        self.is.iter().zip(&self.ought).map(kept).collect()
    }

    /// The policy, where some cluster's traffic, or its part, is to be another.
    pub(super) fn write(&self, lanes: &[Lane<'_>]) -> Option<FleetWrite> {
        let moves = lanes.iter().any(|lane| wish(lane).is_some());
        let changes = self.change() && self.may_change;
        if !(moves || changes) {
            return None;
        }
        let (mut shares, mut matched) = (BTreeMap::new(), BTreeMap::new());
        for (lane, part) in lanes.iter().zip(self.next()) {
            let Sight::Seen(seen) = &lane.cluster.sight else { return None };
            let side = |revision: &String| -> Side { (lane.cluster.name.clone(), revision.clone()) };
            let (own, requests) = wish(lane).unwrap_or_else(|| (seen.shares(), seen.matched()));
            shares.extend(own.iter().map(|(revision, share)| (side(revision), share.saturating_mul(part))));
            matched.extend(requests.iter().map(|(revision, it)| (side(revision), it.clone())));
        }
        (!shares.is_empty()).then_some(FleetWrite::Traffic { shares, matched })
    }
}

/// What a cluster's traffic is to be next.
fn wish(lane: &Lane<'_>) -> Option<(BTreeMap<String, u32>, BTreeMap<String, RequestMatch>)> {
    lane.outcome.writes.iter().find_map(|write| match write {
        Write::Traffic { shares, matched } => Some((shares.clone(), matched.clone())),
        _ => None,
    })
}
