//! The loop of the one that leads: each App that something changed about is looked at; each whose release is under way, once a
//! second as well, for what nobody tells of (time, acknowledgements).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use kube::ResourceExt;

use super::apply::{ApplyError, Writer};
use super::bundle::Bundle;
use super::children::{joined_pool, pool_of};
use super::config::ControlConfig;
use super::gate::{self, Outside, Question};
use super::hubs::{Hubs, Switch};
use super::logs::Logs;
use super::member::Member;
use super::metrics::ControlMetrics;
use super::observe::{self, Caches};
use super::plan::{GateSeen, Observed, Outcome, Write, asked_since, plan};
use super::queue::Queue;
use super::resource::moment::Moment;
use super::resource::progress::{Phase, Progress};
use super::resource::release::{Release, ReleaseStatus};
use super::store::{Dirty, Key};
use super::{autoscale, disruption, exposure, stable, times};
use crate::base::backoff::random;
use crate::base::drain::Drain;
use crate::kubernetes::lease::Leadership;

/// Apps looked at at once: most of them wait for an answer.
const AT_ONCE: usize = 32;
/// For as long as this nothing need be due.
const IDLE: Duration = Duration::from_secs(3_600);

pub(super) struct Controller {
    pub(super) config: ControlConfig,
    pub(super) caches: Caches,
    pub(super) dirty: Arc<Dirty>,
    pub(super) writer: Writer,
    /// The clusters that Apps may run in, with the one that they live in.
    pub(super) members: Vec<Member>,
    pub(super) hubs: Hubs,
    pub(super) outside: Outside,
    pub(super) logs: Logs,
    pub(super) metrics: ControlMetrics,
}

/// What came of a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing is to be done until something changes.
    Rest,
    /// The release is under way, or what was read is old.
    Again,
    /// It was not there, or not answered.
    Failed,
}

/// What caches ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asks {
    /// Nothing.
    Nothing,
    /// Another look later: others, or time, must allow what is to be done.
    Time,
    /// Something is to be written.
    Writes,
}

// === impl Controller ===

impl Controller {
    /// Leads whenever it may, until `drain` ends it.
    pub(super) async fn run(self, mut leadership: Leadership, drain: Drain) {
        let guard = drain.guard("control");
        loop {
            tokio::select! {
                () = leadership.gained() => {}
                () = drain.requested() => break,
            }
            self.metrics.leads(true);
            tokio::select! {
                () = self.lead() => {}
                () = leadership.lost() => {}
                () = drain.requested() => break,
            }
            self.metrics.leads(false);
        }
        self.metrics.leads(false);
        drop(guard);
    }

    /// Looks at each App when it is due, at many at once.
    async fn lead(&self) {
        // What the one before left under way.
        self.dirty.mark_all();
        let (mut queue, mut looks) = (Queue::default(), FuturesUnordered::new());
        loop {
            let now = Instant::now();
            while looks.len() < AT_ONCE
                && let Some(key) = queue.begin(now)
            {
                looks.push(async move { (self.look(&key).await, key) });
            }
            self.metrics.late(queue.late(now));
            let due = queue.due().filter(|_| looks.len() < AT_ONCE).unwrap_or(now + IDLE);
            tokio::select! {
                Some((next, key)) = looks.next() => queue.end(key, next, Instant::now(), random()),
                () = self.dirty.marked() => {
                    let (marked, all) = self.dirty.take();
                    let all = if all { self.caches.apps.keys() } else { Vec::new() };
                    marked.into_iter().chain(all).for_each(|key| queue.changed(key, Instant::now()));
                }
                () = tokio::time::sleep_until(due.into()) => {}
            }
        }
    }

    async fn look(&self, key: &Key) -> Next {
        self.metrics.reconciled();
        match Box::pin(self.reconcile(key)).await {
            Ok(next) => next,
            Err(ApplyError::Conflict(why)) => {
                self.metrics.conflict();
                tracing::debug!(app = ?key, why, "somebody else wrote first; looking again");
                Next::Again
            }
            Err(ApplyError::Deposed) => Next::Again,
            Err(error) => {
                self.metrics.failed();
                tracing::warn!(namespace = key.0, app = key.1, %error, "a release could not go on; trying again");
                Next::Failed
            }
        }
    }

    async fn reconcile(&self, key: &Key) -> Result<Next, ApplyError> {
        let Some(known) = self.caches.bundle(key) else { return Ok(Next::Rest) };
        if !known.app.spec.clusters.is_empty() {
            return Box::pin(self.reconcile_fleet(key, &known)).await;
        }
        let asked = self.asks(&known).await;
        if asked != Asks::Writes {
            let waits = asked == Asks::Time || is_under_way(&known);
            return Ok(if waits { Next::Again } else { Next::Rest });
        }
        // The caches may be behind our own writes: what is done follows from what is so now.
        let Some(bundle) = observe::ask(&self.writer.server, &known).await? else { return Ok(Next::Rest) };
        let mut status = bundle.newest().and_then(|release| release.status.clone());
        for release in self.under_plan(&bundle) {
            let outcome = self.plan(&bundle, release).await;
            for write in &outcome.writes {
                self.make(&self.writer, &bundle, release, write).await?;
            }
            let Some(progress) = outcome.progress else { continue };
            let told = self.status(&bundle, release, progress).await;
            self.tell(release, &told).await?;
            if bundle.newest().is_some_and(|newest| newest.name_any() == release.name_any()) {
                status = Some(told);
            }
        }
        if let Some(step) = autoscale::next(&bundle) {
            tracing::info!(namespace = key.0, app = key.1, ?step, "its autoscaler");
            self.writer.autoscale(&bundle, &step).await?;
            self.metrics.wrote_app();
        }
        if let Some(step) = disruption::next(&bundle) {
            tracing::info!(namespace = key.0, app = key.1, ?step, "its disruption budget");
            self.writer.guard(&bundle.app, step).await?;
            self.metrics.wrote_app();
        }
        if let Some(change) = exposure::next(&bundle) {
            tracing::info!(namespace = key.0, app = key.1, %change, "its stable Service");
            self.writer.reach(&bundle, &change).await?;
            self.metrics.wrote_app();
        }
        let told = bundle.app_status(&self.config.cluster, status.as_ref());
        if bundle.app.status.as_ref() != Some(&told) {
            self.writer.app_status(&bundle.app, told).await?;
            self.metrics.wrote_app();
        }
        // What was written comes back as a change; where that is lost, this look finds it.
        Ok(Next::Again)
    }

    /// The status of a release that is this far; of one that ends well, with where the time of its pods went.
    async fn status(&self, bundle: &Bundle, release: &Release, progress: Progress) -> ReleaseStatus {
        let was = release.status.clone().unwrap_or_default();
        let mut status = was.at(progress, &Bundle::revision(release));
        if ends_well(release, &status) {
            status.pod_times = times::of_release(&self.writer.server, bundle, release, &status.progress).await;
        }
        status
    }

    /// What is known asks for.
    async fn asks(&self, known: &Bundle) -> Asks {
        let status = known.newest().and_then(|release| release.status.clone());
        if known.app.status != Some(known.app_status(&self.config.cluster, status.as_ref())) {
            return Asks::Writes;
        }
        if autoscale::next(known).is_some() || disruption::next(known).is_some() || exposure::next(known).is_some() {
            return Asks::Writes;
        }
        let mut asked = Asks::Nothing;
        for release in self.under_plan(known) {
            let outcome = self.plan(known, release).await;
            if !outcome.is_empty() {
                return Asks::Writes;
            }
            if outcome.unsettled {
                asked = Asks::Time;
            }
        }
        asked
    }

    /// Those that are planned for: older ones only until they know that they were superseded, and the newest.
    pub(super) fn under_plan<'a>(&self, bundle: &'a Bundle) -> impl Iterator<Item = &'a Release> {
        let newest = bundle.releases.len().saturating_sub(1);
        let open = |release: &Release| release.status.as_ref().is_none_or(|status| !status.progress.phase.is_final());
        bundle.releases.iter().enumerate().filter(move |(at, it)| *at == newest || open(it)).map(|(_, it)| it)
    }

    /// The planner, with what hubs and gates say where it matters.
    async fn plan(&self, bundle: &Bundle, release: &Release) -> Outcome {
        let status = release.status.clone().unwrap_or_default().progress;
        let goal = bundle.goal(release, self.config.acknowledge_timeout);
        let mut seen = bundle.observe(release, &self.config.cluster, Moment::now());
        if seen.superseded_by.is_none() {
            seen.missing = self.missing(bundle, release, &status, &seen).await;
        }
        let namespace = bundle.app.namespace().unwrap_or_default();
        self.logs.add(&self.writer.server.client, &namespace, &mut seen, &goal).await;
        let mut outcome = plan(&seen, &goal, &status);
        if let Some(step) = outcome.ask_gate {
            seen.gate = Some(self.ask_gate(&self.writer, bundle, release, step, &status, &seen).await);
            outcome = plan(&seen, &goal, &status);
        }
        let switch = outcome.writes.iter().find_map(|write| match write {
            Write::Traffic { shares, matched } => Some((shares.keys().chain(matched.keys()), !matched.is_empty())),
            _ => None,
        });
        if let Some((sides, matches)) = switch {
            let sides: BTreeSet<String> = sides.cloned().collect();
            seen.unpublished = self.unpublished(&self.writer, bundle, release, &seen, &sides).await;
            if matches && seen.unpublished.is_none() {
                match self.unmatching(bundle, release, seen.at()).await {
                    Ok(names) => seen.unmatching = names,
                    Err(why) => seen.unpublished = Some(why),
                }
            }
            if seen.unpublished.is_some() || !seen.unmatching.is_empty() {
                outcome = plan(&seen, &goal, &status);
            }
        }
        outcome
    }

    /// Who gets the App's traffic and cannot tell requests apart.
    pub(super) async fn unmatching(
        &self,
        bundle: &Bundle,
        release: &Release,
        now: Moment,
    ) -> Result<Vec<String>, String> {
        let (namespace, app) = (bundle.app.namespace().unwrap_or_default(), bundle.app.name_any());
        if bundle.switches_service() {
            return Ok(vec![format!("Service {app}")]);
        }
        let pool = joined_pool(&namespace, &app, &release.spec.port);
        self.hubs.unmatching(&pool, &release.spec.control.ignore_gateways, now).await
    }

    /// How the gate of a release is doing in a cluster.
    pub(super) async fn ask_gate(
        &self,
        there: &Writer,
        bundle: &Bundle,
        release: &Release,
        step: u32,
        status: &Progress,
        seen: &Observed,
    ) -> GateSeen {
        let revision = &Bundle::revision(release);
        let question = Question {
            cluster: &there.cluster,
            pool: (!bundle.switches_service()).then(|| pool(there, bundle, release, revision)),
            release,
            revision,
            ready: seen.revisions.get(revision).map(|it| it.ready).unwrap_or_default(),
            pods: &bundle.pods,
            step,
            waited: asked_since(status).map(|since| seen.at().since(since)).unwrap_or_default(),
        };
        match gate::ask_job(&question, &there.server).await {
            GateSeen::Passed => gate::ask(&question, &self.hubs, &self.outside).await,
            other => other,
        }
    }

    /// Why hubs do not know yet, of some side that is to have traffic, the pods that it has: to them a switch would be one to
    /// less, or to nothing.
    pub(super) async fn unpublished(
        &self,
        there: &Writer,
        bundle: &Bundle,
        release: &Release,
        seen: &Observed,
        sides: &BTreeSet<String>,
    ) -> Option<String> {
        // Who asks no hub needs none to know.
        if bundle.switches_service() {
            return None;
        }
        for side in sides {
            let Some(revision) = seen.revisions.get(side) else { continue };
            let pool = pool(there, bundle, release, side);
            let standing = (revision.ready, &bundle.standing(side));
            let why = self.hubs.unpublished(&pool, standing, &release.spec.control.ignore_gateways).await;
            if why.is_some() {
                return why;
            }
        }
        None
    }

    /// Who has not acknowledged the traffic as it is; asked only while that is not known already.
    async fn missing(&self, bundle: &Bundle, release: &Release, status: &Progress, seen: &Observed) -> Vec<String> {
        let Some(traffic) = &seen.traffic else { return Vec::new() };
        if status.traffic.as_ref().is_some_and(|it| it.generation == traffic.generation) {
            return Vec::new();
        }
        let (namespace, app) = (bundle.app.namespace().unwrap_or_default(), bundle.app.name_any());
        if bundle.switches_service() {
            // A Service that was there before the App names no revision: what it leads to is not of ours.
            let Some(revision) = traffic.shares.keys().next() else { return Vec::new() };
            let behind = match observe::slices(&self.writer.server, &namespace, &app).await {
                Ok(slices) => stable::behind(&app, revision, &slices, &bundle.pods),
                Err(error) => Some(format!("the EndpointSlices of Service {app} ({error})")),
            };
            return behind.into_iter().collect();
        }
        let pool = joined_pool(&namespace, &app, &release.spec.port);
        let switch = Switch { generation: traffic.generation, matched: traffic.matched.len() };
        self.hubs.missing(&pool, switch, &release.spec.control.ignore_gateways, seen.at()).await
    }

    /// Makes a write in a cluster.
    pub(super) async fn make(
        &self,
        there: &Writer,
        bundle: &Bundle,
        release: &Release,
        write: &Write,
    ) -> Result<(), ApplyError> {
        there.write(bundle, release, write).await?;
        self.metrics.wrote(write);
        let (namespace, app, name) = (bundle.app.namespace(), bundle.app.name_any(), release.name_any());
        tracing::info!(namespace, app, cluster = there.cluster, release = name, ?write, "written");
        Ok(())
    }

    /// Persists how far a release is.
    pub(super) async fn tell(&self, release: &Release, status: &ReleaseStatus) -> Result<(), ApplyError> {
        self.writer.status(release, status).await?;
        self.metrics.wrote_status();
        let before = release.status.as_ref().map(|it| it.progress.phase).unwrap_or_default();
        let Progress { phase, message, .. } = &status.progress;
        if before != *phase {
            let (namespace, app, name) = (release.namespace(), &release.spec.app, release.name_any());
            tracing::info!(namespace, app, release = name, ?phase, "{message}");
            self.ended(release, status);
        }
        Ok(())
    }

    fn ended(&self, release: &Release, status: &ReleaseStatus) {
        let Progress { started_at, finished_at, phase, failure, .. } = &status.progress;
        let (Some(began), Some(ended)) = (*started_at, *finished_at) else { return };
        let end = match (*phase, failure) {
            (Phase::Healthy, _) => ("healthy", "none"),
            (Phase::Degraded, Some(failure)) => ("aborted", failure.cause.word()),
            (Phase::Degraded, None) => ("aborted", "person"),
            (Phase::Superseded, _) => ("superseded", "release"),
            _ => return,
        };
        self.metrics.ended(&release.spec.strategy, end, ended.since(began));
        if let Some(times) = &status.pod_times {
            self.metrics.pods_came(times);
        }
    }
}

/// The pool of a revision in a cluster.
fn pool(there: &Writer, bundle: &Bundle, release: &Release, side: &str) -> String {
    let (namespace, app) = (bundle.app.namespace().unwrap_or_default(), bundle.app.name_any());
    pool_of(&there.cluster, &namespace, &app, side, &release.spec.port)
}

pub(super) fn is_under_way(bundle: &Bundle) -> bool {
    let newest = bundle.newest().map(|release| release.status.clone().unwrap_or_default());
    newest.is_some_and(|status| !status.progress.phase.is_final())
}

/// Whether a release is healthy by this status, which had not ended before.
pub(super) fn ends_well(release: &Release, status: &ReleaseStatus) -> bool {
    let had_ended = release.status.as_ref().is_some_and(|it| it.progress.finished_at.is_some());
    status.progress.phase == Phase::Healthy && !had_ended
}
