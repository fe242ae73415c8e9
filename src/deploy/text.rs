//! What people read.

use kube::ResourceExt;
use serde_json::json;

use super::actions::{phase, revision, status};
use super::client::{Count, Counts};
use super::error::DeployError;
use crate::base::table::table;
use crate::control::resource::app::App;
use crate::control::resource::clusters::ClusterStatus;
use crate::control::resource::progress::{Action, Step};
use crate::control::resource::release::Release;

/// Names shown of a list; the rest is counted.
const SHOWN: usize = 8;
/// Releases of an App's history that are shown.
const HISTORY: usize = 10;

/// All Apps.
pub(super) fn apps(apps: &[App]) -> String {
    let row = |app: &App| {
        let status = app.status.clone().unwrap_or_default();
        let ready = format!("{}/{}", status.ready_replicas, app.spec.replicas);
        [app.name_any(), ready, app.spec.strategy.name().to_owned(), or_dash(status.serving), or_dash(status.release)]
    };
    table(["APP", "READY", "STRATEGY", "SERVING", "RELEASE"], apps.iter().map(row))
}

/// An App and its history.
pub(super) fn app(app: &App, releases: &[Release]) -> String {
    let status = app.status.clone().unwrap_or_default();
    let (namespace, name) = (app.namespace().unwrap_or_default(), app.name_any());
    let mut text = format!("{namespace}/{name}: {} of {} pods ready", status.ready_replicas, app.spec.replicas);
    text += &format!("; strategy {}, port {}\n", app.spec.strategy.name(), app.spec.port);
    for (what, who) in [("owners", app.spec.owners.join(", ")), ("team", app.spec.team.clone().unwrap_or_default())] {
        if !who.is_empty() {
            text += &format!("{what}: {who}\n");
        }
    }
    text += &format!("serving: {}\n", or_dash(status.serving));
    if releases.is_empty() {
        return text + &format!("no Release yet: tidegate deploy {name} --image IMAGE\n");
    }
    let row = |it: &Release| {
        let ended = self::status(it).progress.finished_at.map(|at| at.to_string());
        [
            it.name_any(),
            it.spec.image.clone(),
            format!("{:?}", phase(it)),
            revision(it),
            or_dash(ended.unwrap_or_default()),
        ]
    };
    text + &table(["RELEASE", "IMAGE", "PHASE", "REVISION", "ENDED"], releases.iter().rev().take(HISTORY).map(row))
}

/// A release: its steps, its pods, and what it waits for.
pub(super) fn release(release: &Release, counts: &Counts) -> String {
    let (spec, status) = (&release.spec, status(release));
    let progress = status.progress;
    let mut text = format!(
        "{} of {}/{}: {:?}\nimage: {}\nstrategy: {}\n",
        release.name_any(),
        release.namespace().unwrap_or_default(),
        spec.app,
        progress.phase,
        spec.image,
        spec.strategy.name(),
    );
    if let Some(began) = progress.started_at {
        let ended = progress.finished_at.map(|at| format!(", ended {at}")).unwrap_or_default();
        text += &format!("began: {began}{ended}\n");
    }
    if let Some(environment) = &spec.environment {
        text += &format!("environment: {environment}\n");
    }
    if let Some(from) = &spec.promoted_from {
        text += &format!("promoted from: {from}\n");
    }
    if let Some(times) = &status.pod_times {
        let parts: Vec<String> = times.parts().map(|(part, it)| format!("{} {it} s", part.replace('_', " "))).to_vec();
        text += &format!("slowest of {} new pods: {}\n", times.pods, parts.join(", "));
    }
    let at = usize::try_from(progress.current_step_index).unwrap_or(usize::MAX);
    let row = |(index, step): (usize, &Step)| {
        let state = match index.cmp(&at) {
            std::cmp::Ordering::Less => "done".to_owned(),
            std::cmp::Ordering::Equal => {
                progress.step_since.map_or("now".to_owned(), |since| format!("now, since {since}"))
            }
            std::cmp::Ordering::Greater => String::new(),
        };
        [(index + 1).to_string(), step_text(step), state]
    };
    if !progress.plan.is_empty() {
        text += &table(["STEP", "ACTION", "STATE"], progress.plan.iter().enumerate().map(row));
    }
    let row = |it: &ClusterStatus| {
        let ready = format!("{}/{}", it.ready, it.desired);
        [it.name.clone(), it.wave.to_string(), cluster_phase(it), ready, or_dash(it.progress.message.clone())]
    };
    if !status.clusters.is_empty() {
        text += &table(["CLUSTER", "WAVE", "PHASE", "NEW PODS", "MESSAGE"], status.clusters.iter().map(row));
    }
    let new = revision(release);
    let row = |(revision, count): (&String, &Count)| {
        let which = if *revision == new { "new" } else { "" };
        [revision.clone(), count.wanted.to_string(), count.ready.to_string(), which.to_owned()]
    };
    if !counts.is_empty() {
        text += &table(["REVISION", "WANTED", "READY", ""], counts.iter().map(row));
    }
    let message = if progress.message.is_empty() {
        "the control component has not looked at it yet: does `tidegate control` run for this namespace?".to_owned()
    } else {
        progress.message
    };
    text + &message + "\n"
}

/// The same for programs: one line of JSON.
pub(super) fn json(release: &Release, counts: &Counts) -> Result<String, DeployError> {
    let counts: serde_json::Map<_, _> = counts
        .iter()
        .map(|(revision, it)| (revision.clone(), json!({"wanted": it.wanted, "ready": it.ready})))
        .collect();
    let mut release = release.clone();
    release.metadata.managed_fields = None;
    let text = serde_json::to_string(&json!({"release": release, "revisions": counts}));
    Ok(text.map_err(std::io::Error::other)? + "\n")
}

/// Where a release is, in one line.
pub(super) fn progress(release: &Release) -> String {
    let status = status(release).progress;
    let part = part(&status.plan, status.current_step_index).filter(|_| !status.phase.is_final());
    let part = part.map(|(part, of)| format!(", part {part} of {of}")).unwrap_or_default();
    format!("{} {:?}{part}: {}", release.name_any(), status.phase, or_dash(status.message))
}

/// Which of its switches a plan of several is at: its batches, or the steps of a canary.
fn part(plan: &[Step], at: u32) -> Option<(usize, usize)> {
    let at = usize::try_from(at).ok()?;
    let switches = |steps: &[Step]| steps.iter().filter(|step| step.action == Action::SetTraffic).count();
    let all = switches(plan);
    // What comes after a switch, until new pods are asked for again, belongs to it.
    let begun = plan.iter().take(at.saturating_add(1)).filter(|step| step.action == Action::ScaleNew).count();
    (all > 1).then(|| (begun.clamp(1, all), all))
}

fn cluster_phase(it: &ClusterStatus) -> String {
    match &it.unreachable {
        Some(_) => format!("{:?}, unreachable", it.progress.phase),
        None => format!("{:?}", it.progress.phase),
    }
}

/// Pods and traffic, in one line; of several clusters the new pods in each.
pub(super) fn pods(release: &Release, counts: &Counts, serving: &str) -> String {
    let serving = if serving.is_empty() { "nowhere" } else { serving };
    let clusters = status(release).clusters;
    if !clusters.is_empty() {
        let one = |it: &ClusterStatus| format!("{} {}/{} ({})", it.name, it.ready, it.desired, cluster_phase(it));
        return format!("new pods {}; traffic {serving}", some(&clusters.iter().map(one).collect::<Vec<_>>()));
    }
    let new = revision(release);
    let one = |(revision, count): (&String, &Count)| {
        let which = if *revision == new { " (new)" } else { "" };
        format!("{revision} {}/{}{which}", count.ready, count.wanted)
    };
    let alive = |(revision, it): &(&String, &Count)| it.wanted > 0 || it.ready > 0 || **revision == new;
    let all: Vec<String> = counts.iter().filter(alive).map(one).collect();
    format!("pods {}; traffic {serving}", some(&all))
}

fn step_text(step: &Step) -> String {
    let action = format!("{:?}", step.action);
    if let Some(requests) = &step.requests {
        return format!("{action} {requests}");
    }
    match (step.part, step.of, step.pods, step.seconds) {
        (Some(part), Some(of), ..) => format!("{action} {part}/{of}"),
        (_, _, Some(pods), _) => format!("{action} at most {pods} pods"),
        (_, _, _, Some(seconds)) => format!("{action} {seconds} s"),
        _ => action,
    }
}

/// The first of them, and how many more there are.
pub(super) fn some(all: &[String]) -> String {
    let shown = all.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    match (all.len().saturating_sub(SHOWN), shown.is_empty()) {
        (_, true) => "none".to_owned(),
        (0, _) => shown,
        (more, _) => format!("{shown} and {more} more"),
    }
}

fn or_dash(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::deploy::fake::release as made;

    fn batches() -> Release {
        let step = |action: &str, part: u32| json!({"action": action, "part": part, "of": 2});
        let plan = json!([
            step("ScaleNew", 1), {"action": "AwaitAvailable"}, step("SetTraffic", 1), {"action": "AwaitAck"},
            {"action": "Drain", "seconds": 5}, step("ScaleOld", 1), step("ScaleNew", 2), {"action": "AwaitAvailable"},
            step("SetTraffic", 2), {"action": "AwaitAck"},
        ]);
        made(
            "web-2",
            "web:2",
            json!({"phase": "Progressing", "message": "it waits", "plan": plan, "currentStepIndex": 7, "revision": "0b"}),
        )
    }

    #[test]
    fn a_release_is_told_with_its_steps_its_pods_and_why_it_waits() {
        let counts = Counts::from([
            ("0a".to_owned(), Count { wanted: 1, ready: 1 }),
            ("0b".to_owned(), Count { wanted: 2, ready: 1 }),
        ]);
        let text = release(&batches(), &counts);
        for line in [
            "web-2 of shop/web: Progressing",
            "image: web:2",
            "5     Drain 5 s       done",
            "8     AwaitAvailable  now",
            "9     SetTraffic 2/2",
            "0b        2       1      new",
            "it waits",
        ] {
            assert!(text.lines().any(|it| it == line), "no {line:?} in\n{text}");
        }
    }

    #[test]
    fn a_release_in_several_clusters_is_told_with_each_of_them() {
        let mut it = batches();
        it.status.as_mut().unwrap().clusters = serde_json::from_value(json!([
            {"name": "east", "wave": 1, "phase": "Healthy", "ready": 2, "desired": 2, "message": "it serves"},
            {"name": "west", "wave": 2, "phase": "Paused", "ready": 1, "desired": 2, "message": "it waits",
             "unreachable": {"since": "2026-01-01T00:00:00Z", "why": "no answer"}},
        ]))
        .unwrap();
        let text = release(&it, &Counts::new());
        for words in
            [["east", "1", "Healthy", "2/2", "it serves"], ["west", "2", "Paused, unreachable", "1/2", "it waits"]]
        {
            let has = |line: &str| words.iter().all(|word| line.contains(word));
            assert!(text.lines().any(has), "no {words:?} in\n{text}");
        }
        assert_eq!(
            pods(&it, &Counts::new(), "east/0b:1000,west/0a:1000"),
            "new pods east 2/2 (Healthy), west 1/2 (Paused, unreachable); traffic east/0b:1000,west/0a:1000"
        );
    }

    #[test]
    fn progress_names_the_batch_and_pods_say_which_are_new() {
        assert_eq!(progress(&batches()), "web-2 Progressing, part 2 of 2: it waits");
        let counts = Counts::from([
            ("0a".to_owned(), Count { wanted: 1, ready: 1 }),
            ("0b".to_owned(), Count { wanted: 2, ready: 1 }),
            ("0c".to_owned(), Count::default()),
        ]);
        assert_eq!(pods(&batches(), &counts, "0a:500,0b:500"), "pods 0a 1/1, 0b 1/2 (new); traffic 0a:500,0b:500");
    }

    #[test]
    fn one_that_nobody_has_looked_at_says_what_may_be_missing() {
        let text = release(&made("web-1", "web:1", json!({})), &Counts::new());
        assert!(text.contains("does `tidegate control` run"), "{text}");
    }
}
