//! The world that a status asks for: a fold over the steps of its plan up to the current one.

use std::collections::BTreeMap;

use super::{Goal, Observed, WHOLE, is_foreign, steps};
use crate::control::resource::progress::{Action, Phase, Progress, Step};
use crate::kubernetes::policy::RequestMatch;

/// Counts by revision, and shares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    /// The new revision's pods.
    pub(super) new: u32,
    /// Whether the new revision is to be there even without pods: what gets traffic must have a Deployment that can grow.
    pub(super) is_there: bool,
    /// Those of every other revision that is there; 0 for one that has no part in this.
    pub(super) old: BTreeMap<String, u32>,
    /// By revision or foreign pool; only those above 0.
    pub(super) shares: BTreeMap<String, u32>,
    /// The requests that go somewhere whatever the shares are. What no step of this plan asks for is not to be: what a release
    /// before this one sent by a match, and what anybody else wrote.
    pub(super) matched: BTreeMap<String, RequestMatch>,
}

// === impl Wanted ===

impl Wanted {
    /// Whether the traffic is as it is to be.
    pub(super) fn has_traffic(&self, seen: &Observed) -> bool {
        self.shares == seen.shares() && self.matched == seen.matched()
    }
}

/// What the plan asks for; `stopped` begins nothing: no new pod comes, no traffic moves, no further old pod goes.
pub(super) fn wanted(seen: &Observed, goal: &Goal, status: &Progress, stopped: bool) -> Wanted {
    let at = usize::try_from(status.current_step_index).unwrap_or(usize::MAX);
    let has = seen.revision(&goal.revision).replicas;
    let (mut new, mut old, mut share) = (has, (1, 1), None);
    let (mut is_there, mut matched) = (false, BTreeMap::new());
    for (index, step) in status.plan.iter().enumerate().take(at.saturating_add(1)) {
        match (step.action, step.pods) {
            (action, _) if stopped && index == at && action != Action::ScaleNew => {}
            (Action::ScaleNew, Some(pods)) => new = has.min(pods),
            (Action::ScaleNew, None) => (new, is_there) = (part_of(seen.desired, fraction(step)), true),
            (Action::ScaleOld, _) => old = fraction(step),
            (Action::SetMatch, _) => {
                matched = step.requests.iter().map(|it| (goal.revision.clone(), it.clone())).collect();
            }
            (Action::SetTraffic, _) => {
                let (part, of) = fraction(step);
                share = Some((part, of));
                // Who has all traffic, or none, has no requests of its own beside.
                matched.retain(|_, _| part > 0 && part < of);
            }
            _ => {}
        }
    }
    let mut shares = match share {
        Some(share) => shares_at(seen, goal, status, share),
        None => status.held_shares.clone(),
    };
    // A revision that comes back while it still serves keeps the pods that its share needs, on the way there and back.
    let least = status.before.get(&goal.revision).copied().unwrap_or_default();
    new = new.max(part_of(seen.desired, (least, WHOLE)));
    if stopped {
        // What alone serves follows what is asked for all the same.
        if can_go_back(goal, status) {
            new = new.min(has);
        }
        if seen.traffic.is_some() {
            (shares, matched) = (seen.shares(), seen.matched());
        }
    }
    let mut counts = old_counts(seen, goal, status, old);
    cover(seen, goal, status, new, &mut counts);
    // Where the new ones may not grow, the old ones alone follow what is asked for.
    let enough = seen.desired.saturating_sub(status.shrink);
    let sum = counts.values().copied().fold(new, u32::saturating_add);
    if stopped
        && old.0 > 0
        && sum < enough
        && let Some(most) = counts.values_mut().max()
    {
        *most += enough - sum;
    }
    Wanted { new, is_there: is_there && !stopped, old: counts, shares, matched }
}

/// Whether it goes back, or has gone.
pub(super) fn is_back(status: &Progress) -> bool {
    matches!(status.phase, Phase::Aborting | Phase::Degraded)
}

/// What an abort goes back to, and whether there is anything.
pub(super) fn can_go_back(goal: &Goal, status: &Progress) -> bool {
    status.before.iter().any(|(side, share)| *side != goal.revision && *share > 0)
}

/// Shares as thousandths of their sum.
pub(super) fn normalized(shares: &BTreeMap<String, u32>) -> BTreeMap<String, u32> {
    divide(WHOLE, shares)
}

fn old_counts(seen: &Observed, goal: &Goal, status: &Progress, part: (u32, u32)) -> BTreeMap<String, u32> {
    let others = others(goal, status);
    // On the way back each has what it had; else they are to be whole without the new one.
    let back = is_back(status) && steps::is_abort(&status.plan);
    let before = if back { others } else { divide(WHOLE, &others) };
    let count = |revision: &String| match before.get(revision) {
        // Rounded up twice: rather one too many.
        Some(share) => part_of(part_of(seen.desired, (*share, WHOLE)), part),
        None => 0,
    };
    let revisions = seen.revisions.keys().filter(|it| **it != goal.revision);
    revisions.map(|revision| (revision.clone(), count(revision))).collect()
}

/// What had traffic before, but for the new revision.
fn others(goal: &Goal, status: &Progress) -> BTreeMap<String, u32> {
    let other = status.before.iter().filter(|(side, share)| **side != goal.revision && **share > 0);
    other.map(|(side, share)| (side.clone(), *share)).collect()
}

/// Pods of what ran before stay in the place of each new one that is not waited for.
fn cover(seen: &Observed, goal: &Goal, status: &Progress, new: u32, counts: &mut BTreeMap<String, u32>) {
    if is_back(status) {
        return;
    }
    let enough = seen.desired.saturating_sub(status.shrink);
    let (old, ignored) = (counts.values().copied().fold(0, u32::saturating_add), status.ignored_pods);
    let has = old.saturating_add(new.saturating_sub(ignored));
    // In the middle, so that the count is kept; at the end, so that their share has somebody behind it.
    let missing = enough.saturating_sub(has).min(ignored).max(ignored.saturating_sub(old));
    if let Some(count) = stand_in(goal, status).and_then(|revision| counts.get_mut(&revision)) {
        *count += missing;
    }
}

/// The side that had the most traffic before: it stands in for new pods that are not waited for.
fn stand_in(goal: &Goal, status: &Progress) -> Option<String> {
    others(goal, status).into_iter().max_by_key(|(_, share)| *share).map(|(side, _)| side)
}

/// The new revision has this part of the traffic, and the others divide the rest as they did before. Where new pods are not
/// waited for, their part stays where old ones are in their place.
fn shares_at(seen: &Observed, goal: &Goal, status: &Progress, (part, of): (u32, u32)) -> BTreeMap<String, u32> {
    let others = others(goal, status);
    if others.is_empty() {
        return BTreeMap::from([(goal.revision.clone(), WHOLE)]);
    }
    if part == 0 && steps::is_abort(&status.plan) {
        return normalized(&status.before);
    }
    if part == 0 {
        return divide(WHOLE, &others);
    }
    let asked = u32::try_from(u64::from(WHOLE) * u64::from(part) / u64::from(of.max(1))).unwrap_or(WHOLE);
    // A revision that comes back while it still serves has no less than it has.
    let least = status.before.get(&goal.revision).copied().unwrap_or_default().max(1);
    let new = asked.clamp(least.min(WHOLE), WHOLE);
    let mut shares = divide(WHOLE - new, &others);
    let most = WHOLE - part_of(WHOLE, (status.ignored_pods.min(seen.desired), seen.desired.max(1)));
    let kept = new.saturating_sub(most.max(least));
    if let Some(stand_in) = stand_in(goal, status).filter(|_| kept > 0) {
        *shares.entry(stand_in).or_default() += kept;
    }
    shares.insert(goal.revision.clone(), new - kept);
    shares.retain(|_, share| *share > 0);
    shares
}

fn fraction(step: &Step) -> (u32, u32) {
    (step.part.unwrap_or(1), step.of.unwrap_or(1).max(1))
}

/// Rounded up.
fn part_of(count: u32, (part, of): (u32, u32)) -> u32 {
    let exact = (u64::from(count) * u64::from(part)).div_ceil(u64::from(of));
    u32::try_from(exact).unwrap_or(u32::MAX)
}

/// Divides `total` in proportion, to the last unit: what does not divide goes to the first.
fn divide(total: u32, parts: &BTreeMap<String, u32>) -> BTreeMap<String, u32> {
    let sum: u64 = parts.values().map(|part| u64::from(*part)).sum();
    if sum == 0 {
        return BTreeMap::new();
    }
    let exact = |part: u32| u32::try_from(u64::from(total) * u64::from(part) / sum).unwrap_or(total);
    let mut divided: BTreeMap<String, u32> = parts.iter().map(|(side, part)| (side.clone(), exact(*part))).collect();
    let left = total.saturating_sub(divided.values().sum());
    if let Some(first) = divided.values_mut().next() {
        *first += left;
    }
    divided
}

/// Whether a count is one of our own Deployments' pods.
pub(super) fn is_ours(side: &str) -> bool {
    !is_foreign(side)
}
