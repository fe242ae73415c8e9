//! How far a release is by now: the progress that follows from what is seen. Nothing is done here.

use std::time::Duration;

use super::act::is_done;
use super::wanted::{can_go_back, normalized};
use super::{GateSeen, Goal, Observed, failed, message, steps};
use crate::control::resource::approval::Verdict;
use crate::control::resource::moment::Moment;
use crate::control::resource::progress::{Acknowledged, Action, Cause, Failure, Phase, Progress, Step};
use crate::control::resource::strategy::OnFailure;

/// The status as it must be.
pub(super) fn advance(seen: &Observed, goal: &Goal, status: &Progress) -> Progress {
    let mut next = status.clone();
    if next.phase == Phase::Superseded {
        return next;
    }
    if let Some(newer) = &seen.superseded_by {
        if !next.phase.is_final() {
            (next.phase, next.finished_at) = (Phase::Superseded, Some(seen.at()));
            next.message = format!("{newer} took its place before it ended");
        }
        return next;
    }
    acknowledge(seen, &mut next);
    if next.plan.is_empty() && next.phase == Phase::Pending {
        begin(seen, goal, &mut next);
    }
    redirect(seen, goal, &mut next);
    progress(seen, goal, &mut next);
    next.ignored_pods = failed::ignored(seen, goal, &next);
    judge(seen, goal, &mut next);
    if is_begun(&next) {
        // A batch is a part of what is asked for now.
        next.shrink = steps::shrink_of(&goal.strategy, seen.desired);
    }
    if is_begun(&next) && !is_stopped(seen, goal, &next) {
        failed::recreate(seen, goal, &mut next);
    }
    walk(seen, goal, &mut next);
    if is_begun(&next) {
        let waits = is_stopped(seen, goal, &next) || waits_for_people(seen, goal, &next);
        next.phase = if waits { Phase::Paused } else { Phase::Progressing };
    }
    next.message = message::message(seen, goal, &next);
    next
}

/// Whether it is on its way forward.
fn is_begun(status: &Progress) -> bool {
    !status.phase.is_final() && status.phase != Phase::Aborting && !status.plan.is_empty()
}

/// The step at which the gate is to be asked now.
pub(super) fn at_gate(status: &Progress) -> Option<u32> {
    let at_gate = step_of(status).is_some_and(|step| step.action == Action::Gate);
    (at_gate && status.phase == Phase::Progressing).then_some(status.current_step_index)
}

/// The step under way.
pub(super) fn step_of(status: &Progress) -> Option<&Step> {
    status.plan.get(usize::try_from(status.current_step_index).unwrap_or(usize::MAX))
}

fn next_step(status: &Progress) -> Option<&Step> {
    status.plan.get(usize::try_from(status.current_step_index).ok()?.checked_add(1)?)
}

/// Since when the gate is asked at this step; `None` before.
pub(super) fn asked_since(status: &Progress) -> Option<Moment> {
    step_of(status).filter(|step| step.action == Action::Gate).and(status.step_since)
}

/// Whether everybody has acknowledged the traffic as it is.
pub(super) fn switch_is_acknowledged(seen: &Observed, status: &Progress) -> bool {
    match (&seen.traffic, &status.traffic) {
        (None, _) => true,
        (Some(traffic), Some(acknowledged)) => traffic.generation == acknowledged.generation,
        (Some(_), None) => false,
    }
}

/// Whether it begins nothing: somebody said so, it is held, or something failed.
pub(super) fn is_stopped(seen: &Observed, goal: &Goal, status: &Progress) -> bool {
    let under_way = !status.phase.is_final() && status.phase != Phase::Aborting;
    under_way && (stands(goal) || status.failure.is_some() || is_held_up(seen, goal, status))
}

/// Whether it is to stay where it is, by people's word or for what is outside its cluster.
fn stands(goal: &Goal) -> bool {
    goal.control.paused || goal.held.is_some()
}

/// Whether a window holds the step under way up, which would give it more traffic.
fn is_held_up(seen: &Observed, goal: &Goal, status: &Progress) -> bool {
    let switches = step_of(status).is_some_and(|step| matches!(step.action, Action::SetTraffic | Action::SetMatch));
    switches && seen.blocked.is_some() && !goal.rollback
}

/// Whether the step under way ends by a person's word, or the word is late.
fn waits_for_people(seen: &Observed, goal: &Goal, status: &Progress) -> bool {
    let Some(step) = step_of(status) else { return false };
    match step.action {
        Action::Pause | Action::Approval => true,
        Action::AwaitAck => waited(seen, status) >= goal.acknowledge_timeout,
        _ => goal.control.target_step == Some(status.current_step_index),
    }
}

/// How long the step under way is that already.
pub(super) fn waited(seen: &Observed, status: &Progress) -> Duration {
    status.step_since.map(|since| seen.at().since(since)).unwrap_or_default()
}

/// Notes when everybody had the traffic as it is.
fn acknowledge(seen: &Observed, next: &mut Progress) {
    if let Some(traffic) = &seen.traffic
        && seen.missing.is_empty()
        && !switch_is_acknowledged(seen, next)
    {
        next.traffic = Some(Acknowledged { generation: traffic.generation, at: seen.at() });
    }
}

fn begin(seen: &Observed, goal: &Goal, next: &mut Progress) {
    if goal.control.abort || goal.control.freeze {
        (next.phase, next.finished_at) = (Phase::Degraded, Some(seen.at()));
        return;
    }
    if stands(goal) || (seen.blocked.is_some() && !goal.rollback) {
        return;
    }
    next.held_shares = seen.shares();
    if let (true, Some(migrate)) = (next.held_shares.is_empty(), &goal.strategy.migrate) {
        next.held_shares.insert(migrate.from.clone(), super::WHOLE);
    }
    next.before = normalized(&next.held_shares);
    next.started_at = Some(seen.at());
    next.last_progress_time = Some(seen.at());
    let runs = seen.revision(&goal.revision);
    let gate_known = goal.rollback && seen.desired > 0 && runs.standing() >= seen.desired;
    next.gate_passed = gate_known.then(|| goal.revision.clone());
    let plan = steps::compile(goal, seen.desired, can_go_back(goal, next), gate_known);
    follow(seen, next, plan, Phase::Progressing);
}

/// Begins another plan from its first step.
fn follow(seen: &Observed, next: &mut Progress, plan: Vec<Step>, phase: Phase) {
    (next.plan, next.current_step_index, next.phase) = (plan, 0, phase);
    next.step_since = Some(seen.at());
}

/// Goes back, or out of every pool, where that is asked for.
fn redirect(seen: &Observed, goal: &Goal, next: &mut Progress) {
    let frozen = next.phase == Phase::Degraded && !steps::is_abort(&next.plan);
    let under_way = !next.phase.is_final() && !steps::is_abort(&next.plan);
    if next.plan.is_empty() || !(under_way || frozen) {
        return;
    }
    if goal.control.abort {
        go_back(seen, goal, next);
    } else if goal.control.freeze && under_way && next.phase != Phase::Aborting {
        if !can_go_back(goal, next) {
            fail(
                goal,
                next,
                Cause::Impossible,
                "nothing else ran before that could take its traffic: it cannot be frozen",
            );
            return;
        }
        let plan = steps::freeze(seen.revision(&goal.revision).replicas);
        // At once: what is left may be little, but never nothing.
        (next.held_shares, next.failure, next.shrink) = (seen.shares(), None, seen.desired);
        follow(seen, next, plan, Phase::Aborting);
    }
}

fn go_back(seen: &Observed, goal: &Goal, next: &mut Progress) {
    let serves = seen.shares().contains_key(&goal.revision);
    let plan = match (can_go_back(goal, next), serves) {
        (true, _) => steps::abort(goal, seen.revision(&goal.revision).ready),
        (false, false) => steps::leave(),
        (false, true) => {
            let why = "nothing else ran before that could take its traffic back: it stays";
            return fail(goal, next, Cause::Impossible, why);
        }
    };
    (next.held_shares, next.failure, next.shrink) = (seen.shares(), None, 0);
    follow(seen, next, plan, Phase::Aborting);
}

fn fail(goal: &Goal, next: &mut Progress, cause: Cause, reason: &str) {
    next.failure = Some(Failure { reason: reason.to_owned(), cause, retries: goal.control.retries });
}

/// Notes a new high-water mark, which is what the deadline is counted from.
fn progress(seen: &Observed, goal: &Goal, next: &mut Progress) {
    let ready = seen.revision(&goal.revision).ready;
    if ready > next.available_high_water && !next.phase.is_final() {
        (next.available_high_water, next.last_progress_time) = (ready, Some(seen.at()));
    }
}

/// Finds failures, and lets a release try again whose people say so.
fn judge(seen: &Observed, goal: &Goal, next: &mut Progress) {
    if !is_begun(next) {
        return;
    }
    if next.failure.as_ref().is_some_and(|failure| goal.control.retries > failure.retries) {
        next.failure = None;
        failed::try_again(seen, goal, next);
        (next.step_since, next.last_progress_time) = (Some(seen.at()), Some(seen.at()));
    }
    if next.failure.is_some() {
        return;
    }
    let Some(step) = step_of(next).cloned() else { return };
    let rejected = seen.word.as_ref().filter(|(verdict, _)| *verdict == Verdict::Rejected);
    let failed = match (step.action, &seen.gate, rejected) {
        (_, _, Some((_, by))) if !goal.rollback => Some((Cause::Rejected, format!("rejected by {by}"))),
        (Action::Gate, Some(GateSeen::Failed(why)), _) => Some((Cause::Gate, format!("its gate failed: {why}"))),
        (Action::SetMatch, _, _) if !seen.unmatching.is_empty() => Some((Cause::Impossible, message::unmatching(seen))),
        (Action::AwaitAvailable, _, _) if is_late(seen, goal, next) => {
            Some((Cause::Deadline, message::late(seen, goal, next)))
        }
        _ => failed::reason(seen, goal, next).filter(|_| !stands(goal)).map(|why| (Cause::Pods, why)),
    };
    let Some((cause, reason)) = failed else { return };
    fail(goal, next, cause, &reason);
    let back = goal.on_failure == OnFailure::Abort || rejected.is_some();
    if back && (can_go_back(goal, next) || !seen.shares().contains_key(&goal.revision)) {
        let failure = next.failure.take();
        go_back(seen, goal, next);
        next.failure = failure;
    }
}

fn is_late(seen: &Observed, goal: &Goal, next: &Progress) -> bool {
    let since = next.last_progress_time.max(next.step_since);
    let is_available = is_done(seen, goal, next, Action::AwaitAvailable);
    let is_over = since.is_some_and(|since| seen.at().since(since) >= goal.progress_deadline);
    // What holds it up is not its pods' fault.
    goal.held.is_none() && !is_available && is_over
}

/// Goes over all steps that are done.
fn walk(seen: &Observed, goal: &Goal, next: &mut Progress) {
    let back = next.phase == Phase::Aborting;
    let target = goal.control.target_step.filter(|_| !back && !next.phase.is_final());
    if let Some(target) = target
        && target < next.current_step_index
    {
        (next.current_step_index, next.step_since) = (target, Some(seen.at()));
    }
    while !next.phase.is_final() && !next.plan.is_empty() {
        let Some(step) = step_of(next).cloned() else {
            next.phase = if back { Phase::Degraded } else { Phase::Healthy };
            next.finished_at = Some(seen.at());
            return;
        };
        let holds = !back && goal.control.target_step == Some(next.current_step_index);
        if holds || is_stopped(seen, goal, next) || !is_over(seen, goal, next, &step) {
            return;
        }
        if step.action == Action::Gate {
            next.gate_passed = Some(goal.revision.clone());
        }
        next.current_step_index += 1;
        next.step_since = Some(seen.at());
    }
}

fn is_over(seen: &Observed, goal: &Goal, next: &Progress, step: &Step) -> bool {
    let seconds = step.seconds.map(|seconds| Duration::from_secs(seconds.into()));
    match step.action {
        Action::Gate => seen.gate == Some(GateSeen::Passed),
        Action::Approval => matches!(&seen.word, Some((Verdict::Approved, _))),
        Action::Pause => {
            let sent_on = goal.control.target_step.is_some_and(|target| target > next.current_step_index);
            sent_on || goal.control.promote_full || seconds.is_some_and(|pause| waited(seen, next) >= pause)
        }
        Action::AwaitAck => switch_is_acknowledged(seen, next),
        Action::Drain => {
            next.traffic.as_ref().is_none_or(|it| seconds.is_none_or(|drain| seen.at().since(it.at) >= drain))
        }
        // A bound, which holds whether it is reached or not; unless it is what is left to do.
        Action::ScaleNew if step.pods.is_some() && next_step(next).is_some() => true,
        action => is_done(seen, goal, next, action),
    }
}
