//! What a release waits for, in people's words: object, observed, wanted, since when, what is next.

use super::advance::{is_stopped, step_of, waited};
use super::wanted::wanted;
use super::{GateSeen, Goal, Observed, Revision, failed};
use crate::control::resource::failure::FailureCause;
use crate::control::resource::progress::{Action, Phase, Progress, Step};

/// Names shown of a list; the rest is counted.
const SHOWN: usize = 5;

/// The message of a status.
pub(super) fn message(seen: &Observed, goal: &Goal, status: &Progress) -> String {
    let revision = &goal.revision;
    match status.phase {
        Phase::Healthy if status.ignored_pods > 0 => return covered(seen, goal, status),
        Phase::Healthy => return format!("{} serves all traffic of {}", deployment(goal), goal.app),
        Phase::Superseded => return status.message.clone(),
        Phase::Degraded if status.plan.is_empty() => return "aborted before it began".to_owned(),
        Phase::Degraded => {
            let kept = seen.revision(revision).replicas;
            let pods = if kept == 0 { "its pods are gone".to_owned() } else { format!("{kept} of its pods are kept") };
            let why = status.failure.as_ref().map(|it| format!(" ({})", it.reason)).unwrap_or_default();
            return format!("aborted{why}: {revision} has no traffic, {pods}, {} as before", serving(status));
        }
        Phase::Pending if goal.control.paused => {
            return "has not begun: control.paused is set; clear it to begin".to_owned();
        }
        Phase::Pending if goal.held.is_none() => {
            let why = seen.blocked.as_deref().unwrap_or("the controller has not looked at it yet");
            return format!("has not begun: {why}");
        }
        Phase::Pending | Phase::Progressing | Phase::Paused | Phase::Aborting => {}
    }
    let stands = !goal.control.paused && status.failure.is_none() && status.phase != Phase::Aborting;
    if let Some(why) = goal.held.as_ref().filter(|_| stands) {
        return why.clone();
    }
    let Some(step) = step_of(status) else { return String::new() };
    let at = status.current_step_index.saturating_add(1);
    let since = status.step_since.map(|since| format!(", since {since}")).unwrap_or_default();
    let next = next_of(status).map(|next| format!("; next: {next}")).unwrap_or_default();
    format!("step {at} of {}: {}{since}{next}", status.plan.len(), waits(seen, goal, status, step))
}

/// Why a release has failed whose pods do not come.
pub(super) fn late(seen: &Observed, goal: &Goal, status: &Progress) -> String {
    let deadline = goal.progress_deadline.as_secs();
    let has = availability(seen, goal, status, failed::told(&seen.revision(&goal.revision).ailing));
    format!("{has}, and no more than {} within {deadline} s", status.available_high_water)
}

/// Why requests that match cannot be sent to the new revision.
pub(super) fn unmatching(seen: &Observed) -> String {
    format!(
        "requests that match are told apart by the built-in gateway alone, and {} gets this traffic as well; deploy without \
         setMatch and preview, or, if one of them is gone for good, name it in control.ignoreGateways",
        names(&seen.unmatching)
    )
}

/// A release has ended, and old pods are in the place of some new ones.
fn covered(seen: &Observed, goal: &Goal, status: &Progress) -> String {
    let why = failed::told(&seen.revision(&goal.revision).ailing).map(|why| format!(" ({why})")).unwrap_or_default();
    format!(
        "{} serves {} but for {} pods that failed and are ignored{why}: as many old ones stay until they come",
        deployment(goal),
        goal.app,
        status.ignored_pods
    )
}

fn waits(seen: &Observed, goal: &Goal, status: &Progress, step: &Step) -> String {
    if let Some(failure) = &status.failure {
        return match status.phase {
            Phase::Aborting => format!("goes back because {}: {}", failure.reason, of_step(seen, goal, status, step)),
            _ => format!("stopped: {}; abort it, or raise control.retries to let it try again", failure.reason),
        };
    }
    if goal.control.paused && is_stopped(seen, goal, status) {
        return "stopped: control.paused is set; clear it to go on".to_owned();
    }
    if is_stopped(seen, goal, status) {
        let why = seen.blocked.as_deref().unwrap_or_default();
        return format!("traffic is not switched: {why}");
    }
    if goal.control.target_step == Some(status.current_step_index) && status.phase != Phase::Aborting {
        return "stays here: control.targetStep names this step; raise or clear it to go on".to_owned();
    }
    of_step(seen, goal, status, step)
}

fn of_step(seen: &Observed, goal: &Goal, status: &Progress, step: &Step) -> String {
    let app = &goal.app;
    match step.action {
        Action::ScaleNew => {
            let (has, wants) = (seen.revision(&goal.revision).replicas, wanted(seen, goal, status, false).new);
            format!("{} is asked for {has} pods, wanted {wants}", deployment(goal))
        }
        Action::AwaitAvailable => available(seen, goal, status),
        Action::Gate => match &seen.gate {
            Some(GateSeen::Startable) => {
                format!("the gate of {} has not passed: its Job is not there yet", deployment(goal))
            }
            Some(GateSeen::Waiting(why)) => format!("the gate of {} has not passed: {why}", deployment(goal)),
            _ => format!("the gate of {} is asked", deployment(goal)),
        },
        Action::Approval => {
            format!("no live Approval of {} for its image; wanted: one by who may", goal.release)
        }
        Action::Pause => match step.seconds {
            Some(seconds) => format!("a pause of {seconds} s"),
            None => "a pause until a person goes on: raise control.targetStep, or set control.promoteFull".to_owned(),
        },
        Action::SetTraffic => {
            let wanted = wanted(seen, goal, status, false).shares;
            let why = seen.unpublished.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
            format!("TrafficPolicy {app} has {}, wanted {}{why}", shares(&seen.shares()), shares(&wanted))
        }
        Action::SetMatch => {
            let requests = step.requests.as_ref().map(ToString::to_string).unwrap_or_default();
            let why = seen.unpublished.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
            format!("TrafficPolicy {app} does not send requests with {requests} to {} yet{why}", goal.revision)
        }
        Action::AwaitAck => {
            let generation = seen.traffic.as_ref().map(|it| it.generation).unwrap_or_default();
            let late = match waited(seen, status) >= goal.acknowledge_timeout {
                true => "; if one of them is gone for good, name it in control.ignoreGateways",
                false => "",
            };
            format!("TrafficPolicy {app} generation {generation} is not acknowledged by {}{late}", names(&seen.missing))
        }
        Action::Drain => format!("requests under way have {} s", step.seconds.unwrap_or_default()),
        Action::ScaleOld => {
            format!("Deployments of {app} that ran before are to have fewer pods: {}", old(seen, goal, status))
        }
        Action::AwaitOld => {
            format!("Deployments of {app} that ran before are to be available: {}", old(seen, goal, status))
        }
    }
}

fn available(seen: &Observed, goal: &Goal, status: &Progress) -> String {
    // What only takes its time is not worth a word.
    let (failed, new) = (failed::failed(seen, goal), seen.revision(&goal.revision));
    let is_worth = |it: &&super::Ailing| it.cause == FailureCause::NotReady || failed.contains(it);
    availability(seen, goal, status, failed::told(new.ailing.iter().filter(is_worth)))
}

fn availability(seen: &Observed, goal: &Goal, status: &Progress, trouble: Option<String>) -> String {
    let (new, wants) = (seen.revision(&goal.revision), wanted(seen, goal, status, false).new);
    let trouble = trouble.map(|trouble| format!(" ({trouble})")).unwrap_or_default();
    let some = |count: u32, what: &str| if count > 0 { format!(", {count} {what}") } else { String::new() };
    let (recreated, ignored) = (some(status.recreated, "recreated"), some(status.ignored_pods, "ignored"));
    let acted = unobserved(&new, wants);
    format!("{} has {} of {wants} pods available{recreated}{ignored}{trouble}{acted}", deployment(goal), new.ready)
}

fn old(seen: &Observed, goal: &Goal, status: &Progress) -> String {
    let wanted = wanted(seen, goal, status, false).old;
    let one = |(revision, count): (&String, &u32)| {
        let it = seen.revision(revision);
        format!("{revision} has {} ready of {}, wanted {count}{}", it.ready, it.replicas, unobserved(&it, *count))
    };
    let all: Vec<String> =
        wanted.iter().filter(|(it, count)| **count > 0 || seen.revision(it).replicas > 0).map(one).collect();
    names(&all)
}

/// What is waited for where there are as many pods as are wanted.
fn unobserved(revision: &Revision, wanted: u32) -> &'static str {
    match revision.observed || revision.ready < wanted {
        true => "",
        false => ", but by a status of before: its controllers have not acted on its last count yet",
    }
}

fn deployment(goal: &Goal) -> String {
    format!("Deployment {}-{}", goal.app, goal.revision)
}

fn serving(status: &Progress) -> String {
    let sides: Vec<String> = status.before.keys().cloned().collect();
    match sides.len() {
        0 => "nothing serves".to_owned(),
        1 => format!("{} serves", names(&sides)),
        _ => format!("{} serve", names(&sides)),
    }
}

fn shares(shares: &std::collections::BTreeMap<String, u32>) -> String {
    let all: Vec<String> = shares.iter().map(|(side, share)| format!("{side}:{share}")).collect();
    names(&all)
}

fn names(all: &[String]) -> String {
    let mut text = all.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if text.is_empty() {
        "nobody".clone_into(&mut text);
    }
    match all.len().saturating_sub(SHOWN) {
        0 => text,
        more => format!("{text} and {more} more"),
    }
}

fn next_of(status: &Progress) -> Option<String> {
    let next = status.plan.get(usize::try_from(status.current_step_index).ok()?.checked_add(1)?)?;
    Some(match (next.part, next.of, next.pods) {
        (Some(part), Some(of), _) => format!("{:?} {part}/{of}", next.action),
        (_, _, Some(pods)) => format!("{:?} at most {pods} pods", next.action),
        _ => format!("{:?}", next.action),
    })
}
