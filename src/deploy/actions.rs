//! What each command asks for, in terms of Apps, Releases and Approvals.

use std::collections::BTreeMap;
use std::time::Duration;

use kube::ResourceExt;
use kube::api::ObjectMeta;
use serde_json::{Value, json};

use super::client::Client;
use super::error::DeployError;
use super::watch::Wanted;
use super::{NewRelease, Promotion, Say, Word, text};
use crate::control::children::APP_LABEL;
use crate::control::resource::app::{App, AppSpec};
use crate::control::resource::approval::{Approval, ApprovalSpec, Verdict};
use crate::control::resource::moment::Moment;
use crate::control::resource::progress::{Action, Phase, Progress};
use crate::control::resource::release::{Control, Release, ReleaseSpec, ReleaseStatus, Trigger, order};
use crate::control::resource::revision::{container_of, revision_of};
use crate::control::template::{Choice, of_release};

/// How often a write is tried again that somebody else was faster than.
const TRIES: usize = 5;

/// A release that a command began or spoke to, and how it is to end.
pub(super) struct Begun {
    pub(super) namespace: String,
    pub(super) release: Release,
    pub(super) wanted: Wanted,
}

/// An App that is there.
pub(super) async fn app(client: &impl Client, namespace: &str, name: &str) -> Result<App, DeployError> {
    if let Some(app) = client.app(namespace, name).await? {
        return Ok(app);
    }
    let others: Vec<String> = client.apps(namespace).await?.iter().map(ResourceExt::name_any).collect();
    let there = match others.is_empty() {
        true => "there is none at all: name another by --namespace".to_owned(),
        false => format!("there are {}", text::some(&others)),
    };
    Err(DeployError::Unknown(format!("namespace {namespace} has no App {name}; {there}")))
}

/// The releases of an App, the newest last.
pub(super) async fn releases(client: &impl Client, namespace: &str, app: &str) -> Result<Vec<Release>, DeployError> {
    let mut releases: Vec<Release> = client.releases(namespace).await?;
    releases.retain(|it| it.spec.app == app);
    releases.sort_by_key(order);
    Ok(releases)
}

/// The release that is named, or the newest.
pub(super) async fn pick(
    client: &impl Client,
    namespace: &str,
    of: &str,
    name: Option<&str>,
) -> Result<Release, DeployError> {
    let mut all = releases(client, namespace, of).await?;
    match name {
        _ if all.is_empty() => {
            app(client, namespace, of).await?;
            Err(DeployError::Unknown(format!(
                "App {namespace}/{of} has no Release yet: tidegate deploy {of} --image IMAGE"
            )))
        }
        None => all.pop().ok_or_else(|| DeployError::Unknown(format!("App {namespace}/{of} has no Release"))),
        Some(name) => {
            let names: Vec<String> = all.iter().rev().map(ResourceExt::name_any).collect();
            all.into_iter().find(|it| it.name_any() == name).ok_or_else(|| {
                DeployError::Unknown(format!(
                    "App {namespace}/{of} has no Release {name}; it has {}",
                    text::some(&names)
                ))
            })
        }
    }
}

/// A Release of an image; the one that brings it already, where there is such.
pub(super) async fn deploy(
    client: &impl Client,
    namespace: &str,
    new: &NewRelease,
    say: Say<'_>,
) -> Result<Begun, DeployError> {
    let found = app(client, namespace, &new.app).await?;
    let choice =
        Choice { image: &new.image, container: new.container.as_deref(), environment: new.environment.as_deref() };
    let mut spec = spec_of(namespace, &new.app, &found.spec, choice)?;
    spec.on_failure = new.on_failure.unwrap_or(spec.on_failure);
    begin(client, namespace, spec, say).await
}

/// A Release of what ran before.
pub(super) async fn rollback(
    client: &impl Client,
    namespace: &str,
    of: &str,
    to: Option<&str>,
    say: Say<'_>,
) -> Result<Begun, DeployError> {
    let found = app(client, namespace, of).await?;
    let all = releases(client, namespace, of).await?;
    let target = match to {
        Some(_) => {
            let named = pick(client, namespace, of, to).await?;
            if phase(&named) != Phase::Healthy {
                let (name, phase) = (named.name_any(), phase(&named));
                return Err(DeployError::Useless(format!("{name} is {phase:?}: it never had all traffic")));
            }
            named
        }
        None => last_other(&all, of)?,
    };
    let made = (target.spec.template.clone(), target.spec.environment.clone());
    let mut spec = spec_from(of, &found.spec, &target.spec.image, made);
    (spec.port, spec.rollback) = (target.spec.port.clone(), true);
    say(&format!("going back to what {} brought: {}\n", target.name_any(), spec.image))?;
    begin(client, namespace, spec, say).await
}

/// The last that ended well with another revision than the one that did so last.
fn last_other(all: &[Release], of: &str) -> Result<Release, DeployError> {
    if let Some(newest) = all.last().filter(|it| !phase(it).is_final()) {
        let name = newest.name_any();
        return Err(DeployError::Useless(format!(
            "{name} is under way: `tidegate abort {of}` goes back to what ran before it; --to names another Release"
        )));
    }
    let healthy: Vec<&Release> = all.iter().filter(|it| phase(it) == Phase::Healthy).collect();
    let serves = healthy.last().map(|it| revision(it));
    let other = healthy.iter().rev().find(|it| Some(revision(it)) != serves);
    other.map(|it| (*it).clone()).ok_or_else(|| {
        DeployError::Useless(format!("App {of} has no earlier Release that ended well with another image"))
    })
}

/// The Release goes on, or its image goes elsewhere.
pub(super) async fn promote(
    client: &impl Client,
    namespace: &str,
    of: &str,
    how: &Promotion,
    say: Say<'_>,
) -> Result<Begun, DeployError> {
    if let Promotion::Elsewhere(to) = how {
        return elsewhere(client, namespace, of, to, say).await;
    }
    let seen = pick(client, namespace, of, None).await?;
    let fields = |release: &Release| match how {
        Promotion::Full => Ok(json!({"promoteFull": true, "targetStep": null, "targetWave": null})),
        Promotion::Step(step) => to_step(release, *step),
        _ => past_the_pause(release),
    };
    speak(client, seen, fields, Wanted::Healthy, say).await
}

fn to_step(release: &Release, step: u32) -> Result<Value, DeployError> {
    let steps = status(release).progress.plan.len();
    let target = step.checked_sub(1).filter(|target| usize::try_from(*target).is_ok_and(|it| it < steps));
    let target = target.ok_or_else(|| {
        DeployError::Useless(format!("{} has the steps 1 to {steps}: `tidegate status` shows them", release.name_any()))
    })?;
    Ok(json!({"targetStep": target, "targetWave": wave(&status(release))}))
}

/// The wave whose plan a status shows; none of an App of one cluster.
fn wave(status: &ReleaseStatus) -> Option<u32> {
    let shown = status.clusters.iter().find(|it| !it.progress.phase.is_final()).or_else(|| status.clusters.last());
    shown.map(|it| it.wave)
}

/// Up to the next pause that only people end, or to the end.
fn past_the_pause(release: &Release) -> Result<Value, DeployError> {
    let status = status(release);
    let progress = &status.progress;
    let at = progress.current_step_index;
    let here = usize::try_from(at).unwrap_or(usize::MAX);
    let pauses = progress.plan.get(here).is_some_and(|step| step.action == Action::Pause);
    if !pauses && release.spec.control.target_step != Some(at) {
        return Err(DeployError::Useless(format!("{} is in no pause: {}", release.name_any(), progress.message)));
    }
    let rest = progress.plan.iter().enumerate().skip(here.saturating_add(1));
    let next = rest.into_iter().find(|(_, step)| step.action == Action::Pause && step.seconds.is_none());
    let target = next.map_or(progress.plan.len(), |(index, _)| index);
    Ok(json!({"targetStep": target, "targetWave": wave(&status)}))
}

async fn elsewhere(
    client: &impl Client,
    namespace: &str,
    of: &str,
    to: &str,
    say: Say<'_>,
) -> Result<Begun, DeployError> {
    let (there, target) = to
        .split_once('/')
        .filter(|(there, target)| !there.is_empty() && !target.is_empty())
        .ok_or_else(|| DeployError::Useless(format!("--to {to}: write it as NAMESPACE/APP")))?;
    let tested = pick(client, namespace, of, None).await?;
    let (name, image) = (tested.name_any(), tested.spec.image.clone());
    if phase(&tested) != Phase::Healthy {
        return Err(DeployError::Useless(format!(
            "{name} is {:?}: only what has ended Healthy is promoted. It says: {}",
            phase(&tested),
            status(&tested).progress.message
        )));
    }
    if !image.contains("@sha256:") {
        return Err(DeployError::Useless(format!(
            "{name} brought {image}, a tag that may be moved: deploy it by its digest, as IMAGE@sha256:…, and promote that"
        )));
    }
    let found = app(client, there, target).await?;
    let container = container_of(&tested.spec.template, &image);
    // The environment is that of the App there; the image is this very one.
    let choice = Choice { image: &image, container: container.as_deref(), environment: None };
    let mut spec = spec_of(there, target, &found.spec, choice)?;
    spec.promoted_from = Some(format!("{namespace}/{name}"));
    let begun = begin(client, there, spec, say).await?;
    let made = begun.release.name_any();
    say(&format!(
        "it gets traffic with a live Approval: tidegate approve {target} --namespace {there} --release {made}\n"
    ))?;
    Ok(begun)
}

/// A word to the newest release.
pub(super) async fn ask(
    client: &impl Client,
    namespace: &str,
    of: &str,
    word: &Word,
    say: Say<'_>,
) -> Result<Begun, DeployError> {
    let seen = pick(client, namespace, of, None).await?;
    let wanted = match word {
        Word::Abort | Word::Freeze => Wanted::Back,
        Word::Pause | Word::Resume(_) => Wanted::Healthy,
    };
    let fields = |release: &Release| {
        let status = status(release).progress;
        // What is frozen keeps its pods until it is aborted.
        let frozen = status.phase == Phase::Degraded && release.spec.control.freeze && *word == Word::Abort;
        if status.phase.is_final() && !frozen {
            let hint = match (word, status.phase) {
                (Word::Abort | Word::Freeze, Phase::Healthy) => format!("; `tidegate rollback {of}` goes back"),
                _ => String::new(),
            };
            return Err(DeployError::Useless(format!("{} has ended {:?}{hint}", release.name_any(), status.phase)));
        }
        Ok(match word {
            Word::Abort => json!({"abort": true}),
            Word::Freeze => json!({"freeze": true}),
            Word::Pause => json!({"paused": true}),
            Word::Resume(gone) => resumed(release, &status, gone),
        })
    };
    speak(client, seen, fields, wanted, say).await
}

fn resumed(release: &Release, status: &Progress, gone: &[String]) -> Value {
    let control = &release.spec.control;
    let mut ignored = control.ignore_gateways.clone();
    ignored.extend(gone.iter().filter(|it| !control.ignore_gateways.contains(it)).cloned());
    let retries = control.retries.saturating_add(u32::from(status.failure.is_some()));
    json!({"paused": false, "targetStep": null, "targetWave": null, "retries": retries, "ignoreGateways": ignored})
}

/// Writes fields of `spec.control` that follow from how the release is, however it changes meanwhile.
async fn speak(
    client: &impl Client,
    mut seen: Release,
    fields: impl Fn(&Release) -> Result<Value, DeployError>,
    wanted: Wanted,
    say: Say<'_>,
) -> Result<Begun, DeployError> {
    let (namespace, name) = (seen.namespace().unwrap_or_default(), seen.name_any());
    for _ in 0..TRIES {
        let asked = fields(&seen)?;
        if let Some(release) = client.control(&seen, &asked).await? {
            say(&format!("asked of {name}: {asked}\n"))?;
            return Ok(Begun { namespace, release, wanted });
        }
        let again = client.release(&namespace, &name).await?;
        seen = again.ok_or_else(|| DeployError::Unknown(format!("Release {namespace}/{name} is gone")))?;
    }
    Err(DeployError::Refused {
        what: format!("cannot change Release {namespace}/{name}"),
        cause: format!("others changed it {TRIES} times meanwhile; try again"),
    })
}

/// A word for or against a release's image.
pub(super) async fn approve(
    client: &impl Client,
    namespace: &str,
    of: &str,
    release: Option<&str>,
    reject: bool,
    hours: u32,
) -> Result<String, DeployError> {
    let release = pick(client, namespace, of, release).await?;
    let name = release.name_any();
    if phase(&release).is_final() {
        return Err(DeployError::Useless(format!("{name} has ended {:?}: it waits for no word", phase(&release))));
    }
    let by = client.user().await?;
    let verdict = if reject { Verdict::Rejected } else { Verdict::Approved };
    let image = release.spec.image.clone();
    let expires_at = Moment::now().after(Duration::from_secs(u64::from(hours) * 3_600));
    let told = format!("{by} {verdict:?} {image} of {name} until {expires_at}\n");
    let metadata = ObjectMeta { generate_name: Some(format!("{name}-")), ..ObjectMeta::default() };
    let spec = ApprovalSpec { release: name, image, verdict, by, expires_at };
    client.approve(namespace, &Approval { metadata, spec }).await?;
    Ok(told)
}

/// A Release of an App as it is now.
fn spec_of(namespace: &str, app: &str, spec: &AppSpec, choice: Choice<'_>) -> Result<ReleaseSpec, DeployError> {
    let made = of_release(spec, choice).map_err(|why| DeployError::Useless(format!("App {namespace}/{app}: {why}")))?;
    Ok(spec_from(app, spec, choice.image, made))
}

/// A Release with this template, made in this environment.
fn spec_from(app: &str, spec: &AppSpec, image: &str, (template, environment): (Value, Option<String>)) -> ReleaseSpec {
    ReleaseSpec {
        app: app.to_owned(),
        image: image.to_owned(),
        template,
        environment,
        port: spec.port.clone(),
        strategy: spec.strategy.clone(),
        gate: spec.gate.clone(),
        min_ready_seconds: spec.min_ready_seconds,
        progress_deadline_seconds: spec.progress_deadline_seconds,
        on_failure: spec.on_failure,
        failure_policy: spec.failure_policy.clone(),
        rollback: false,
        promoted_from: None,
        trigger: Some(Trigger { source: "cli".to_owned(), delivery_id: None }),
        control: Control::default(),
    }
}

/// Creates the Release, unless the newest brings the same and has not failed.
async fn begin(client: &impl Client, namespace: &str, spec: ReleaseSpec, say: Say<'_>) -> Result<Begun, DeployError> {
    let of = spec.app.clone();
    let wanted = Wanted::Healthy;
    for _ in 0..TRIES {
        let all = releases(client, namespace, &of).await?;
        if let Some(newest) = all.last() {
            let (name, phase) = (newest.name_any(), phase(newest));
            let same = revision(newest) == revision_of(&spec.template);
            let lives = !matches!(phase, Phase::Degraded | Phase::Superseded | Phase::Aborting);
            if same && lives && newest.spec.control == Control::default() && !spec.rollback {
                say(&format!("{name} brings this already and is {phase:?}\n"))?;
                return Ok(Begun { namespace: namespace.to_owned(), release: newest.clone(), wanted });
            }
            if !phase.is_final() {
                say(&format!("{name} is under way and loses its place: {}\n", status(newest).progress.message))?;
            }
        }
        let name = format!("{of}-{}", next_number(&all, &of));
        let labels = BTreeMap::from([(APP_LABEL.to_owned(), of.clone())]);
        let metadata = ObjectMeta { name: Some(name.clone()), labels: Some(labels), ..ObjectMeta::default() };
        let release = Release { metadata, spec: spec.clone(), status: None };
        if let Some(release) = client.create(namespace, &release).await? {
            say(&format!("created {name} of {namespace}/{of}: {}\n", release.spec.image))?;
            return Ok(Begun { namespace: namespace.to_owned(), release, wanted });
        }
    }
    Err(DeployError::Refused {
        what: format!("cannot create a Release of App {namespace}/{of}"),
        cause: format!("others took its name {TRIES} times; try again"),
    })
}

/// One more than the highest of `APP-NUMBER`.
fn next_number(all: &[Release], of: &str) -> u64 {
    let number = |it: &Release| it.name_any().strip_prefix(&format!("{of}-"))?.parse::<u64>().ok();
    all.iter().filter_map(number).max().unwrap_or_default().saturating_add(1)
}

/// What is known of how far it is.
pub(super) fn status(release: &Release) -> ReleaseStatus {
    release.status.clone().unwrap_or_default()
}

pub(super) fn phase(release: &Release) -> Phase {
    release.status.as_ref().map(|it| it.progress.phase).unwrap_or_default()
}

/// The revision that it brings.
pub(super) fn revision(release: &Release) -> String {
    let begun = release.status.as_ref().and_then(|it| it.revision.clone());
    begun.unwrap_or_else(|| revision_of(&release.spec.template))
}
