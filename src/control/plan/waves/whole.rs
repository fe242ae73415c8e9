//! The status of a release as a whole, from those in its clusters.

use super::{Lane, Sight, Whole};
use crate::control::plan;
use crate::control::resource::clusters::ClusterStatus;
use crate::control::resource::progress::{Phase, Progress};
use crate::control::resource::release::ReleaseStatus;

/// The status as it must be.
pub(super) fn status(whole: &Whole<'_>, lanes: &[Lane<'_>], status: &ReleaseStatus) -> ReleaseStatus {
    let was = &status.progress;
    if was.phase == Phase::Superseded {
        return status.clone();
    }
    if let Some(newer) = &whole.fleet.superseded_by {
        let mut next = status.clone();
        if !was.phase.is_final() {
            (next.progress.phase, next.progress.finished_at) = (Phase::Superseded, Some(whole.fleet.now));
            next.progress.message = format!("{newer} took its place before it ended");
        }
        return next;
    }
    let clusters = lanes.iter().map(|lane| lane.status.clone());
    // A cluster that came after the end is the next release's.
    let came = |it: &ClusterStatus| whole.is_over && it.progress.phase == Phase::Pending;
    let (late, mut clusters): (Vec<_>, Vec<_>) = clusters.partition(came);
    if clusters.is_empty() && whole.is_over {
        return ReleaseStatus { clusters: late, ..status.clone() };
    }
    let progress = progress(whole, &clusters, was);
    clusters.extend(late);
    ReleaseStatus { clusters, ..status.clone() }.at(progress, &whole.goal.revision)
}

/// What of a status decides what is done; the rest is for people.
pub(super) fn intent(status: &ReleaseStatus) -> ReleaseStatus {
    let there = |it: &ClusterStatus| ClusterStatus {
        name: it.name.clone(),
        wave: it.wave,
        progress: plan::intent(&it.progress),
        ready: 0,
        desired: 0,
        unreachable: it.unreachable.clone(),
    };
    ReleaseStatus {
        progress: plan::intent(&status.progress),
        revision: status.revision.clone(),
        pod_times: status.pod_times.clone(),
        clusters: status.clusters.iter().map(there).collect(),
    }
}

/// How far it is in all its clusters together.
fn progress(whole: &Whole<'_>, clusters: &[ClusterStatus], was: &Progress) -> Progress {
    let sum = |count: fn(&Progress) -> u32| clusters.iter().map(|it| count(&it.progress)).fold(0, u32::saturating_add);
    let each = || clusters.iter().map(|it| &it.progress);
    let phase = phase(whole, clusters);
    let mut next = Progress {
        phase,
        available_high_water: sum(|it| it.available_high_water),
        recreated: sum(|it| it.recreated),
        ignored_pods: sum(|it| it.ignored_pods),
        last_progress_time: each().filter_map(|it| it.last_progress_time).max(),
        started_at: each().filter_map(|it| it.started_at).min(),
        finished_at: phase.is_final().then(|| was.finished_at.unwrap_or(whole.fleet.now)),
        failure: clusters.iter().find_map(|it| {
            let mut failure = it.progress.failure.clone()?;
            failure.reason = format!("cluster {}: {}", it.name, failure.reason);
            Some(failure)
        }),
        ..was.clone()
    };
    if let Some(ClusterStatus { progress: lead, .. }) = lead(clusters) {
        (next.plan, next.current_step_index) = (lead.plan.clone(), lead.current_step_index);
        (next.step_since, next.gate_passed) = (lead.step_since, lead.gate_passed.clone());
        next.traffic.clone_from(&lead.traffic);
    }
    next.message = message(whole, &next, clusters);
    next
}

/// The first cluster in which it has not ended; else the last.
fn lead(clusters: &[ClusterStatus]) -> Option<&ClusterStatus> {
    clusters.iter().find(|it| !it.progress.phase.is_final()).or_else(|| clusters.last())
}

fn phase(whole: &Whole<'_>, clusters: &[ClusterStatus]) -> Phase {
    let has = |phase: Phase| clusters.iter().any(|it| it.progress.phase == phase);
    let all = |phase: Phase| clusters.iter().all(|it| it.progress.phase == phase);
    if clusters.is_empty() || all(Phase::Pending) {
        return Phase::Pending;
    }
    if clusters.iter().all(|it| it.progress.phase.is_final()) {
        return if has(Phase::Degraded) { Phase::Degraded } else { Phase::Healthy };
    }
    if has(Phase::Aborting) || (has(Phase::Degraded) && !has(Phase::Paused)) {
        return Phase::Aborting;
    }
    // One that waits for its wave is not paused; one that nobody lets begin is.
    let unbegun = lead(clusters).is_some_and(|it| it.progress.phase == Phase::Pending);
    let stands = unbegun && (whole.goal.control.paused || is_held_up(whole, clusters));
    match whole.stands.is_some() || has(Phase::Paused) || stands {
        true => Phase::Paused,
        false => Phase::Progressing,
    }
}

/// Whether a window keeps the next cluster from beginning.
fn is_held_up(whole: &Whole<'_>, clusters: &[ClusterStatus]) -> bool {
    let Some(lead) = lead(clusters) else { return false };
    let cluster = whole.fleet.clusters.iter().find(|it| it.name == lead.name);
    cluster.is_some_and(|it| match &it.sight {
        Sight::Seen(seen) => seen.blocked.is_some() && !whole.goal.rollback && whole.waits(it).is_none(),
        Sight::Unreached(_) => false,
    })
}

fn message(whole: &Whole<'_>, next: &Progress, clusters: &[ClusterStatus]) -> String {
    let (revision, app) = (&whole.goal.revision, &whole.goal.app);
    let unknown = whole.unknown();
    let names = |some: &dyn Fn(&&ClusterStatus) -> bool| {
        let named: Vec<&str> = clusters.iter().filter(some).map(|it| it.name.as_str()).collect();
        named.join(", ")
    };
    match next.phase {
        Phase::Healthy => {
            let more = unknown.map(|why| format!("; {why}")).unwrap_or_default();
            let ignored = match next.ignored_pods {
                0 => String::new(),
                count => format!(" but for {count} pods that failed and are ignored"),
            };
            return format!("{revision} serves all traffic of {app} in {}{ignored}{more}", names(&|_| true));
        }
        Phase::Degraded => {
            let why = next.failure.as_ref().map(|it| format!(" ({})", it.reason)).unwrap_or_default();
            return match names(&|it| it.progress.phase == Phase::Healthy).as_str() {
                "" => {
                    format!("aborted{why}: {revision} has no traffic, what ran before serves in {}", names(&|_| true))
                }
                kept => format!("aborted{why}: {revision} still serves in {kept}"),
            };
        }
        Phase::Superseded => return next.message.clone(),
        Phase::Pending | Phase::Progressing | Phase::Paused | Phase::Aborting => {}
    }
    let Some(lead) = clusters.iter().find(|it| it.progress.failure.is_some()).or_else(|| lead(clusters)) else {
        return "has not begun: its App has no clusters".to_owned();
    };
    let last = clusters.iter().map(|it| it.wave).max().unwrap_or_default();
    let later =
        clusters.iter().filter(|it| it.wave > lead.wave && it.progress.phase == Phase::Pending).map(|it| it.wave).min();
    let then = later
        .filter(|_| next.phase != Phase::Aborting && !whole.goal.rollback)
        .map(|wave| format!("; then wave {wave}: {}", names(&|it| it.wave == wave)));
    let then = then.unwrap_or_default();
    match unknown {
        Some(why) => {
            format!("{why}; it goes on by itself then, in wave {} of {last}, cluster {}{then}", lead.wave, lead.name)
        }
        None => format!("wave {} of {last}, cluster {}: {}{then}", lead.wave, lead.name, lead.progress.message),
    }
}
