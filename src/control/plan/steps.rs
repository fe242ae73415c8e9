//! Strategies as steps.

use std::time::Duration;

use super::Goal;
use crate::control::resource::progress::{Action, Step};
use crate::control::resource::strategy::{Batch, BatchOrder, Canary, Strategy};
use crate::kubernetes::policy::RequestMatch;

/// More batches than these are not planned: a larger App rolls in larger batches than asked for.
const MAX_BATCHES: u32 = 100;
/// Requests to pods of an aborted release have so long at most.
const ABORT_DRAIN: u32 = 30;

/// The steps of a release. Without anything that ran before, there is nothing to take traffic from.
pub(super) fn compile(goal: &Goal, desired: u32, anything_before: bool, gate_known: bool) -> Vec<Step> {
    let way = Way { gate: !gate_known, drain: drain_seconds(&goal.strategy) };
    let Strategy { blue_green, batch, canary, rolling, migrate } = &goal.strategy;
    let mut steps = Vec::new();
    if !anything_before {
        way.raise(&mut steps, 1, 1);
        way.switch(&mut steps, 1, 1);
    } else if let Some(batch) = batch {
        way.batches(&mut steps, batch, goal.rollback);
    } else if let Some(rolling) = rolling {
        let batches = desired.div_ceil(rolling.max_surge.max(1)).clamp(1, MAX_BATCHES);
        let batch = Batch { batches, order: BatchOrder::SurgeFirst, pause_seconds: None, drain_seconds: 0 };
        way.batches(&mut steps, &batch, goal.rollback);
    } else {
        // Who goes back does not go slowly.
        if let Some(canary) = canary.as_ref().filter(|_| !goal.rollback) {
            way.canary(&mut steps, canary);
        }
        for it in migrate.as_ref().filter(|_| !goal.rollback).into_iter().flat_map(|it| &it.steps) {
            way.raise(&mut steps, it.share, 100);
            way.switch(&mut steps, it.share, 100);
            steps.extend(pause(it.pause_seconds));
        }
        way.raise(&mut steps, 1, 1);
        if let Some(requests) = blue_green.as_ref().and_then(|it| it.preview.as_ref()).filter(|_| !goal.rollback) {
            Way::matched(&mut steps, requests);
        }
        if !goal.rollback && blue_green.as_ref().is_some_and(|it| it.approval) {
            steps.push(step(Action::Approval));
        }
        way.switch(&mut steps, 1, 1);
        way.lower(&mut steps, 0, 1);
    }
    let is_traffic = |step: &Step| matches!(step.action, Action::SetTraffic | Action::SetMatch);
    let first = steps.iter().position(is_traffic).unwrap_or(steps.len());
    let is_asked_for = steps.iter().take(first).any(|step| step.action == Action::Approval);
    if goal.promoted && !goal.rollback && !is_asked_for {
        steps.insert(first, step(Action::Approval));
    }
    steps
}

/// Back to what ran before: its pods first, then its traffic, then the new pods go.
pub(super) fn abort(goal: &Goal, new_ready: u32) -> Vec<Step> {
    let seconds = drain_seconds(&goal.strategy).min(ABORT_DRAIN);
    vec![
        Step { pods: Some(new_ready), ..step(Action::ScaleNew) },
        step(Action::AwaitOld),
        Step { part: Some(0), of: Some(1), ..step(Action::SetTraffic) },
        step(Action::AwaitAck),
        Step { seconds: Some(seconds), ..step(Action::Drain) },
        Step { pods: Some(0), ..step(Action::ScaleNew) },
    ]
}

/// Out of every pool, with its pods kept.
pub(super) fn freeze(new: u32) -> Vec<Step> {
    vec![
        Step { pods: Some(new), ..step(Action::ScaleNew) },
        Step { part: Some(0), of: Some(1), ..step(Action::SetTraffic) },
        step(Action::AwaitAck),
        step(Action::AwaitOld),
    ]
}

/// A release that never had traffic leaves.
pub(super) fn leave() -> Vec<Step> {
    vec![Step { pods: Some(0), ..step(Action::ScaleNew) }]
}

/// Whether a plan ends without a new pod.
pub(super) fn is_abort(plan: &[Step]) -> bool {
    plan.last().is_some_and(|last| last.action == Action::ScaleNew && last.pods == Some(0))
}

/// How long pods stay that lost their traffic, as the plan says; where it says nothing, as the strategy does.
pub(super) fn drain_of(plan: &[Step], strategy: &Strategy) -> Duration {
    let planned = plan.iter().find(|step| step.action == Action::Drain).and_then(|step| step.seconds);
    Duration::from_secs(planned.unwrap_or_else(|| drain_seconds(strategy)).into())
}

/// How many old pods may be missing while a batch is under way.
pub(super) fn shrink_of(strategy: &Strategy, desired: u32) -> u32 {
    match &strategy.batch {
        Some(batch) if batch.order == BatchOrder::ShrinkFirst => desired.div_ceil(batch.batches.max(1)),
        _ => 0,
    }
}

fn drain_seconds(strategy: &Strategy) -> u32 {
    let Strategy { blue_green, batch, canary, rolling, migrate: _ } = strategy;
    let delay = blue_green.as_ref().map(|it| it.scale_down_delay_seconds);
    let delay = delay.or(canary.as_ref().map(|it| it.scale_down_delay_seconds));
    let drain = batch.as_ref().map(|it| it.drain_seconds).or(rolling.as_ref().map(|it| it.drain_seconds));
    delay.or(drain).unwrap_or(ABORT_DRAIN)
}

fn pause(seconds: Option<u32>) -> Option<Step> {
    let seconds = seconds?;
    Some(Step { seconds: (seconds > 0).then_some(seconds), ..step(Action::Pause) })
}

fn step(action: Action) -> Step {
    Step { action, part: None, of: None, pods: None, seconds: None, requests: None }
}

/// How steps are laid.
struct Way {
    gate: bool,
    drain: u32,
}

// === impl Way ===

impl Way {
    /// New pods, until they may have traffic.
    fn raise(&self, steps: &mut Vec<Step>, part: u32, of: u32) {
        steps.push(Step { part: Some(part), of: Some(of), ..step(Action::ScaleNew) });
        steps.push(step(Action::AwaitAvailable));
        if self.gate {
            steps.push(step(Action::Gate));
        }
    }

    /// A share, until everybody has it.
    fn switch(&self, steps: &mut Vec<Step>, part: u32, of: u32) {
        steps.push(Step { part: Some(part), of: Some(of), ..step(Action::SetTraffic) });
        steps.push(step(Action::AwaitAck));
    }

    /// Requests that match, until everybody has that.
    fn matched(steps: &mut Vec<Step>, requests: &RequestMatch) {
        steps.push(Step { requests: Some(requests.clone()), ..step(Action::SetMatch) });
        steps.push(step(Action::AwaitAck));
    }

    /// The steps of a canary: capacity before traffic, and what was raised stays.
    fn canary(&self, steps: &mut Vec<Step>, canary: &Canary) {
        let mut pods = 1;
        for it in &canary.steps {
            pods = pods.max(it.share.unwrap_or_default()).max(it.pod_percent.unwrap_or_default());
            self.raise(steps, pods, 100);
            if let Some(requests) = &it.set_match {
                Self::matched(steps, requests);
            }
            if let Some(share) = it.share {
                self.switch(steps, share, 100);
            }
            steps.extend(pause(it.pause_seconds));
        }
    }

    /// Old pods go, after a last look at the new ones.
    fn lower(&self, steps: &mut Vec<Step>, part: u32, of: u32) {
        steps.push(Step { seconds: Some(self.drain), ..step(Action::Drain) });
        steps.push(step(Action::AwaitAvailable));
        steps.push(Step { part: Some(part), of: Some(of), ..step(Action::ScaleOld) });
    }

    fn batches(&self, steps: &mut Vec<Step>, batch: &Batch, without_pause: bool) {
        let of = batch.batches.clamp(1, MAX_BATCHES);
        for part in 1..=of {
            if batch.order == BatchOrder::ShrinkFirst {
                steps.push(Step { part: Some(of - part), of: Some(of), ..step(Action::ScaleOld) });
            }
            self.raise(steps, part, of);
            self.switch(steps, part, of);
            if batch.order == BatchOrder::SurgeFirst {
                self.lower(steps, of - part, of);
            }
            if let Some(seconds) = batch.pause_seconds.filter(|_| part < of && !without_pause) {
                steps.push(Step { seconds: (seconds > 0).then_some(seconds), ..step(Action::Pause) });
            }
        }
        if batch.order == BatchOrder::ShrinkFirst {
            // The last batch of old pods had no traffic left when it was gone; what was not let go for the floor is now.
            self.lower(steps, 0, 1);
        }
    }
}
