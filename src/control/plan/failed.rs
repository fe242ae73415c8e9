//! New pods that fail: which of them have, and what the release's policy makes of it.

use std::collections::BTreeMap;

use super::advance::is_stopped;
use super::wanted::{is_back, wanted};
use super::{Ailing, Goal, Observed, Write};
use crate::control::resource::failure::{FailureCause, RecreatedPod};
use crate::control::resource::moment::Moment;
use crate::control::resource::progress::Progress;

/// Pods whose deletion is under way at once.
const AT_ONCE: usize = 10;
/// Recreated pods that a status tells of.
const KEPT: usize = 50;
/// A pod that came so soon after another was deleted took its place, in seconds.
const SOON: u64 = 60;
/// Kinds of trouble that are shown; the rest is counted.
const SHOWN: usize = 3;
/// How much of why a pod was recreated is kept.
const WHY: usize = 500;

/// The new revision's pods that have failed.
pub(super) fn failed<'a>(seen: &'a Observed, goal: &Goal) -> Vec<&'a Ailing> {
    let all = seen.revisions.get(&goal.revision).map(|it| it.ailing.as_slice()).unwrap_or_default();
    let stuck = goal.failure_policy.stuck();
    let has_failed = |it: &&Ailing| it.certain || it.since.is_some_and(|since| seen.at().since(since) >= stuck);
    all.iter().filter(has_failed).collect()
}

/// What is wrong with pods, the most frequent first, with the last words of one of each kind.
pub(super) fn told<'a>(pods: impl IntoIterator<Item = &'a Ailing>) -> Option<String> {
    let mut kinds: BTreeMap<&str, (usize, Option<&str>)> = BTreeMap::new();
    for pod in pods {
        let (count, said) = kinds.entry(&pod.why).or_default();
        (*count, *said) = (*count + 1, said.or(pod.said.as_deref()));
    }
    let mut kinds: Vec<_> = kinds.into_iter().collect();
    kinds.sort_by_key(|(_, (count, _))| std::cmp::Reverse(*count));
    let one = |(why, (count, said)): &(&str, (usize, Option<&str>))| {
        format!("{count} {}: {}", if *count == 1 { "pod" } else { "pods" }, with_last_words(why, *said))
    };
    let shown: Vec<String> = kinds.iter().take(SHOWN).map(one).collect();
    (!shown.is_empty()).then(|| shown.join("; "))
}

fn with_last_words(why: &str, said: Option<&str>) -> String {
    said.map_or_else(|| why.to_owned(), |said| format!("{why}, its last words: {said}"))
}

/// Why the release fails by its policy.
pub(super) fn reason(seen: &Observed, goal: &Goal, status: &Progress) -> Option<String> {
    let policy = &goal.failure_policy;
    let fresh = || failed(seen, goal).into_iter().filter(|it| !is_recreated(status, it));
    if policy.fail.is_some() {
        return told(fresh()).map(|told| format!("pods failed, which failurePolicy.fail does not allow: {told}"));
    }
    let recreate = policy.recreates()?;
    let mut candidates = fresh().filter(|it| it.cause != FailureCause::Unschedulable);
    if let Some(most) = recreate.max_total.filter(|most| status.recreated >= *most) {
        return candidates
            .next()
            .map(|it| format!("{most} pods were recreated, the most that is allowed, and {}", is_failed(it)));
    }
    let most = recreate.max_per_pod?;
    let pod = candidates.find(|it| attempt(status, it) > most)?;
    Some(format!("a pod's place was filled anew {most} times, the most that is allowed, and {}", is_failed(pod)))
}

fn is_failed(pod: &Ailing) -> String {
    format!("{} failed: {}", pod.name, with_last_words(&pod.why, pod.said.as_deref()))
}

/// Notes which pods are to be recreated; they are deleted once that is written.
pub(super) fn recreate(seen: &Observed, goal: &Goal, next: &mut Progress) {
    let Some(policy) = goal.failure_policy.recreates() else { return };
    let mut open = under_way(seen, goal, next).count();
    for pod in failed(seen, goal) {
        let attempt = attempt(next, pod);
        let waited = pod.since.map(|since| seen.at().since(since)).unwrap_or_default();
        let allowed = policy.max_per_pod.is_none_or(|most| attempt <= most)
            && policy.max_total.is_none_or(|most| next.recreated < most);
        let not_yet = is_recreated(next, pod) || waited < policy.pause(attempt) || !allowed;
        if open >= AT_ONCE || not_yet || pod.cause == FailureCause::Unschedulable {
            continue;
        }
        note(seen, next, pod, attempt);
        open += 1;
    }
}

/// People let the release try again: it counts anew, and where failed pods are not recreated by themselves, they are now.
pub(super) fn try_again(seen: &Observed, goal: &Goal, next: &mut Progress) {
    (next.recreated, next.recreated_pods) = (0, Vec::new());
    if goal.failure_policy.fail.is_some() {
        for pod in failed(seen, goal).into_iter().take(KEPT) {
            note(seen, next, pod, 1);
        }
    }
}

fn note(seen: &Observed, next: &mut Progress, pod: &Ailing, attempt: u32) {
    let why = with_last_words(&pod.why, pod.said.as_deref()).chars().take(WHY).collect();
    let (name, uid, cause, at) = (pod.name.clone(), pod.uid.clone(), pod.cause, seen.at());
    next.recreated_pods.push(RecreatedPod { name, uid, cause, why, at, attempt });
    next.recreated = next.recreated.saturating_add(1);
    let beyond = next.recreated_pods.len().saturating_sub(KEPT);
    next.recreated_pods.drain(..beyond);
}

fn is_recreated(status: &Progress, pod: &Ailing) -> bool {
    status.recreated_pods.iter().any(|it| it.uid == pod.uid)
}

/// How often the place of this pod would have been filled anew. Pods of a Deployment have no places: one that came right after
/// another was deleted has that one's.
fn attempt(status: &Progress, pod: &Ailing) -> u32 {
    let Some(created) = pod.created else { return 1 };
    // The API server counts seconds: what came in the same one came after.
    let before =
        |at: Moment| created.after(std::time::Duration::from_secs(1)) > at && created.since(at).as_secs() < SOON;
    let last = status.recreated_pods.iter().filter(|it| it.uid != pod.uid && before(it.at)).map(|it| it.attempt).max();
    last.unwrap_or_default().saturating_add(1)
}

/// Pods that are to go by what the status says, and are still there.
fn under_way<'a>(seen: &'a Observed, goal: &Goal, status: &Progress) -> impl Iterator<Item = &'a Ailing> {
    let all = seen.revisions.get(&goal.revision).map(|it| it.ailing.as_slice()).unwrap_or_default();
    all.iter().filter(move |it| is_recreated(status, it))
}

/// The deletions that a status asks for. One that goes back or is stopped begins nothing.
pub(super) fn writes(seen: &Observed, goal: &Goal, status: &Progress) -> Vec<Write> {
    if status.phase.is_final() || is_back(status) || is_stopped(seen, goal, status) {
        return Vec::new();
    }
    let one = |it: &Ailing| Write::Recreate { pod: it.name.clone(), uid: it.uid.clone() };
    under_way(seen, goal, status).map(one).collect()
}

/// How many failed pods are not waited for. One that was, is until a pod came in its place: a crash loop's pods look well from
/// time to time, and traffic must not follow that. After the end, none is added.
pub(super) fn ignored(seen: &Observed, goal: &Goal, status: &Progress) -> u32 {
    if is_back(status) || status.plan.is_empty() {
        return 0;
    }
    let missing = wanted(seen, goal, status, false).new.saturating_sub(seen.revision(&goal.revision).ready);
    let begins = !status.phase.is_final() && !is_stopped(seen, goal, status);
    let failed = if begins { u32::try_from(failed(seen, goal).len()).unwrap_or(u32::MAX) } else { 0 };
    failed.max(status.ignored_pods).min(goal.failure_policy.ignores(seen.desired)).min(missing)
}
