//! The writes that lead from what is seen to what is wanted, as far as guards let them: more pods first, then traffic, and
//! fewer pods only when traffic is as it is to be and everybody has it.

use super::advance::{at_gate, is_stopped, switch_is_acknowledged};
use super::wanted::{Wanted, is_back, is_ours, wanted};
use super::{GateSeen, Goal, Observed, Write, failed, steps};
use crate::control::resource::progress::{Action, Progress};
use crate::kubernetes::policy::RequestMatch;

/// The writes of a status that is persisted as it is. A release that has not begun, or never did, leaves what serves as it
/// is, and its count follows what is asked for. Says as well whether anything is left to do, by these writes or later.
pub(super) fn act(seen: &Observed, goal: &Goal, status: &Progress) -> (Vec<Write>, bool) {
    if !status.plan.is_empty() {
        return lead(seen, goal, status);
    }
    let serving = seen.shares();
    if serving.is_empty() {
        return (Vec::new(), false);
    }
    let kept = Progress { before: serving.clone(), held_shares: serving, ..status.clone() };
    lead(seen, &Goal { revision: String::new(), ..goal.clone() }, &kept)
}

fn lead(seen: &Observed, goal: &Goal, status: &Progress) -> (Vec<Write>, bool) {
    let wanted = wanted(seen, goal, status, is_stopped(seen, goal, status));
    let mut writes = more(seen, goal, &wanted);
    writes.extend(failed::writes(seen, goal, status));
    if seen.gate == Some(GateSeen::Startable) && at_gate(status).is_some() && !is_stopped(seen, goal, status) {
        writes.push(Write::StartJob { step: status.current_step_index });
    }
    if !wanted.has_traffic(seen) {
        if may_switch(seen, goal, status, &wanted) {
            let Wanted { shares, matched, .. } = wanted;
            writes.push(Write::Traffic { shares, matched });
        }
        return (writes, true);
    }
    let unsettled = counts(goal, &wanted).any(|(revision, count)| seen.revision(revision).replicas != count);
    writes.extend(fewer(seen, goal, status, &wanted));
    if writes.is_empty() && status.phase.is_final() {
        writes.extend(forgotten(seen, goal, &wanted));
    }
    (writes, unsettled)
}

/// Every count that is wanted, by revision.
fn counts<'a>(goal: &'a Goal, wanted: &'a Wanted) -> impl Iterator<Item = (&'a String, u32)> {
    wanted.old.iter().map(|(revision, count)| (revision, *count)).chain([(&goal.revision, wanted.new)])
}

fn more(seen: &Observed, goal: &Goal, wanted: &Wanted) -> Vec<Write> {
    let more = counts(goal, wanted).filter_map(|(revision, to)| match seen.revisions.get(revision) {
        Some(it) if it.replicas < to => Some(Write::Scale { revision: revision.clone(), from: it.replicas, to }),
        None if to > 0 || (wanted.is_there && *revision == goal.revision) => {
            Some(Write::Create { revision: revision.clone(), replicas: to })
        }
        _ => None,
    });
    more.collect()
}

/// Whether traffic may become this: every side of it has a right to it, and enough pods stand behind it.
fn may_switch(seen: &Observed, goal: &Goal, status: &Progress, wanted: &Wanted) -> bool {
    let (to, now, matched) = (&wanted.shares, seen.shares(), seen.matched());
    if to.is_empty() || seen.unpublished.is_some() {
        return false;
    }
    let passed = |side: &String| *side == goal.revision && status.gate_passed.as_ref() == Some(side);
    let entitled = |(side, share): (&String, &u32)| {
        passed(side) || status.before.contains_key(side) || now.get(side).is_some_and(|had| share <= had)
    };
    // To who cannot tell requests apart, what is new would be nothing.
    let may_match = |(side, requests): (&String, &RequestMatch)| {
        matched.get(side) == Some(requests) || (passed(side) && seen.unmatching.is_empty())
    };
    if !to.iter().all(entitled) || !wanted.matched.iter().all(may_match) {
        return false;
    }
    let (had, has) = (seen.in_service(&now), seen.standing(to));
    // Whatever is allowed to be missing: not all, unless none is wanted.
    has >= floor(seen, status.shrink, had).max(had.min(seen.desired).min(1))
}

/// What must be left of the pods in service.
fn floor(seen: &Observed, missing: u32, in_service: u32) -> u32 {
    seen.desired.saturating_sub(missing).min(in_service)
}

fn fewer(seen: &Observed, goal: &Goal, status: &Progress, wanted: &Wanted) -> Vec<Write> {
    if !switch_is_acknowledged(seen, status) {
        return Vec::new();
    }
    let shares = seen.shares();
    let mut in_service = seen.standing(&shares);
    // Only a batch that makes room takes pods away: who goes back in a hurry moves traffic.
    let missing = if is_back(status) { 0 } else { status.shrink };
    let floor = floor(seen, missing, in_service);
    let drained = drained(seen, goal, status);
    let mut writes = Vec::new();
    for (revision, to) in counts(goal, wanted) {
        let it = seen.revision(revision);
        let serves = shares.get(revision).is_some_and(|share| *share > 0) && is_ours(revision);
        let to = if serves {
            // Pods that are not ready go first, as the controller-manager does it.
            to.max(it.ready.saturating_sub(in_service.saturating_sub(floor)).min(it.replicas))
        } else {
            to
        };
        if to >= it.replicas || (!serves && !drained) {
            continue;
        }
        if serves {
            in_service = in_service.saturating_sub(it.ready.saturating_sub(to));
        }
        writes.push(Write::Scale { revision: revision.clone(), from: it.replicas, to });
    }
    writes
}

/// Whether requests that were under way at the last switch had their time.
fn drained(seen: &Observed, goal: &Goal, status: &Progress) -> bool {
    let drain = steps::drain_of(&status.plan, &goal.strategy);
    match (&seen.traffic, &status.traffic) {
        (None, _) => true,
        (Some(_), Some(acknowledged)) => seen.at().since(acknowledged.at) >= drain,
        (Some(_), None) => false,
    }
}

/// Revisions that nobody goes back to any more, the oldest first.
fn forgotten(seen: &Observed, goal: &Goal, wanted: &Wanted) -> Vec<Write> {
    let shares = seen.shares();
    let idle = seen.revisions.iter().filter(|(revision, it)| {
        let needed = **revision == goal.revision || shares.contains_key(*revision);
        it.replicas == 0 && !needed && wanted.old.get(*revision).is_none_or(|count| *count == 0)
    });
    let mut idle: Vec<_> = idle.map(|(revision, it)| (it.created, revision.clone())).collect();
    idle.sort();
    let many = idle.len().saturating_sub(goal.history_limit);
    idle.into_iter().take(many).map(|(_, revision)| Write::Delete { revision }).collect()
}

/// Whether a step's own writes are seen done.
pub(super) fn is_done(seen: &Observed, goal: &Goal, status: &Progress, action: Action) -> bool {
    let wanted = wanted(seen, goal, status, false);
    let new = seen.revision(&goal.revision);
    match action {
        Action::ScaleNew => {
            let is_there = seen.revisions.contains_key(&goal.revision);
            new.replicas == wanted.new && (is_there || !wanted.is_there)
        }
        Action::AwaitAvailable => new.standing().saturating_add(status.ignored_pods) >= wanted.new,
        Action::SetTraffic | Action::SetMatch => wanted.has_traffic(seen),
        Action::ScaleOld => wanted.old.iter().all(|(revision, count)| seen.revision(revision).replicas <= *count),
        Action::AwaitOld => wanted.old.iter().all(|(revision, count)| seen.revision(revision).standing() >= *count),
        _ => false,
    }
}
