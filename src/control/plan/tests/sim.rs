//! A cluster, a gateway and a controller that can be killed at any write. Each write is judged when it is made, by what the
//! gateway really sends where, and not by what the planner thinks.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::super::{Ailing, GateSeen, Goal, Observed, Outcome, Revision, Traffic, Write, plan};
use super::given::{DRAIN, goal};
use super::kills::{Kill, Written};
use crate::control::resource::approval::Verdict;
use crate::control::resource::failure::FailureCause;
use crate::control::resource::moment::Moment;
use crate::control::resource::progress::{Action, Phase, Progress};
use crate::control::resource::release::Control;
use crate::control::resource::strategy::{BatchOrder, Strategy};

pub(super) struct World {
    pub(super) now: Moment,
    pub(super) desired: u32,
    pub(super) revisions: BTreeMap<String, Revision>,
    /// Pods that have failed and do not become ready, by revision.
    pub(super) sick: BTreeMap<String, Vec<Ailing>>,
    /// Pods that Deployments whose count was changed are still said to have, until their controllers act: some may be gone by then.
    stale: BTreeMap<String, u32>,
    /// Pods that ever failed: for their names.
    fallen: usize,
    pub(super) traffic: Option<Traffic>,
    /// What the gateway sends by.
    pub(super) gateway: Traffic,
    /// Since when the gateway sends nothing there.
    quiet: BTreeMap<String, Moment>,
    pub(super) goal: Goal,
    pub(super) status: Progress,
    pub(super) gate: GateSeen,
    pub(super) word: Option<(Verdict, String)>,
    pub(super) blocked: Option<String>,
    /// Gateways that cannot tell requests apart.
    pub(super) unmatching: Vec<String>,
    /// Revisions that may have traffic: those of the beginning, and those whose gate was seen passed.
    pub(super) entitled: BTreeSet<String>,
    pub(super) writes: usize,
}

impl World {
    /// An App of so many pods whose revision `old` serves (or VMs do), and a release of `new`.
    pub(super) fn new(strategy: Strategy, desired: u32) -> Self {
        let now = Moment::from_millis(1_700_000_000_000);
        let migrates = strategy.migrate.is_some();
        let side = if migrates { "vm/old" } else { "old" };
        let shares = BTreeMap::from([(side.to_owned(), 1_000)]);
        let traffic = Traffic { generation: 3, shares, matched: BTreeMap::new() };
        let old =
            Revision { replicas: desired, ready: desired, observed: true, created: Some(now), ailing: Vec::new() };
        Self {
            now,
            desired,
            revisions: if migrates { BTreeMap::new() } else { BTreeMap::from([("old".to_owned(), old)]) },
            sick: BTreeMap::new(),
            stale: BTreeMap::new(),
            fallen: 0,
            gateway: traffic.clone(),
            traffic: Some(traffic),
            quiet: BTreeMap::new(),
            goal: goal(strategy),
            status: Progress::default(),
            gate: GateSeen::Passed,
            word: None,
            blocked: None,
            unmatching: Vec::new(),
            entitled: BTreeSet::from([side.to_owned()]),
            writes: 0,
        }
    }

    pub(super) fn seen(&self) -> Observed {
        let behind = self.traffic.as_ref().is_some_and(|it| it.generation != self.gateway.generation);
        Observed {
            now: Some(self.now),
            desired: self.desired,
            revisions: self.revisions_seen(),
            traffic: self.traffic.clone(),
            missing: if behind { vec!["edge-1".to_owned()] } else { Vec::new() },
            unpublished: None,
            unmatching: Vec::new(),
            gate: None,
            word: self.word.clone(),
            blocked: self.blocked.clone(),
            superseded_by: None,
        }
    }

    fn revisions_seen(&self) -> BTreeMap<String, Revision> {
        let mut revisions = self.revisions.clone();
        for (revision, ready) in &self.stale {
            if let Some(it) = revisions.get_mut(revision) {
                (it.ready, it.observed) = (it.replicas.min(*ready), false);
            }
        }
        for (revision, sick) in &self.sick {
            if let Some(it) = revisions.get_mut(revision).filter(|it| it.ready < it.replicas) {
                it.ailing.clone_from(sick);
            }
        }
        revisions
    }

    /// One look of the controller. Says how many writes it made.
    pub(super) fn reconcile(&mut self, kill: Option<Kill>) -> Result<usize, String> {
        let mut seen = self.seen();
        let mut outcome: Outcome = plan(&seen, &self.goal, &self.status);
        if outcome.ask_gate.is_some() {
            if self.gate == GateSeen::Passed {
                self.entitled.insert(self.goal.revision.clone());
            }
            seen.gate = Some(self.gate.clone());
            outcome = plan(&seen, &self.goal, &self.status);
        }
        // As the controller does it: it is asked only where it matters.
        let matches = |write: &Write| matches!(write, Write::Traffic { matched, .. } if !matched.is_empty());
        if outcome.writes.iter().any(matches) {
            seen.unmatching.clone_from(&self.unmatching);
            outcome = plan(&seen, &self.goal, &self.status);
        }
        self.write_all(outcome.writes, outcome.progress, kill)
    }

    fn in_service(&self, shares: &BTreeMap<String, u32>) -> u32 {
        let ready = |side: &String| if side.contains('/') { self.desired } else { self.ready(side) };
        shares.iter().filter(|(_, share)| **share > 0).map(|(side, _)| ready(side)).sum()
    }

    pub(super) fn ready(&self, revision: &str) -> u32 {
        self.revisions.get(revision).map_or(0, |it| it.ready)
    }

    pub(super) fn replicas(&self, revision: &str) -> u32 {
        self.revisions.get(revision).map_or(0, |it| it.replicas)
    }

    pub(super) fn shares(&self) -> BTreeMap<String, u32> {
        self.traffic.as_ref().map(|it| it.shares.clone()).unwrap_or_default()
    }

    /// The sides that get requests by a match.
    pub(super) fn matched(&self) -> Vec<&str> {
        self.traffic.iter().flat_map(|it| it.matched.keys().map(String::as_str)).collect()
    }

    fn slack(&self) -> u32 {
        match &self.goal.strategy.batch {
            Some(batch) if batch.order == BatchOrder::ShrinkFirst && !self.goal.control.abort => {
                self.desired.div_ceil(batch.batches)
            }
            _ => 0,
        }
    }

    /// Whether a write is legal as the world is.
    pub(super) fn judge(&self, write: &Write) -> Result<(), String> {
        let shares = self.shares();
        let had = self.in_service(&shares);
        let floor = self.desired.saturating_sub(self.slack()).min(had);
        let new = &self.goal.revision;
        let back = matches!(self.status.phase, Phase::Aborting | Phase::Degraded) && !self.status.plan.is_empty();
        let back = back && !self.status.before.contains_key(new);
        match write {
            Write::Scale { revision, to, .. } if *to < self.replicas(revision) => {
                let gone = self.ready(revision).saturating_sub(*to);
                let shared = shares.get(revision).is_some_and(|share| *share > 0);
                let has = if shared { had - gone } else { had };
                let serves = shared || self.matched().contains(&revision.as_str());
                if has < floor {
                    return Err(format!("1: {write:?} leaves {has} in service of {had}, floor {floor}"));
                }
                let sends = sides(&self.gateway).contains(revision);
                if gone > 0 && !serves && sends {
                    return Err(format!("3: {write:?} while the gateway sends there"));
                }
                if gone > 0
                    && serves
                    && self.traffic.as_ref().is_some_and(|it| it.generation != self.gateway.generation)
                {
                    return Err(format!("3: {write:?} while the gateway has another generation"));
                }
                let quiet = self.quiet.get(revision).map(|since| self.now.since(*since));
                if gone > 0 && !serves && quiet.is_some_and(|quiet| quiet < Duration::from_secs(DRAIN.into())) {
                    return Err(format!("3: {write:?} {quiet:?} after the last request was sent there"));
                }
                Ok(())
            }
            Write::Create { revision, .. } | Write::Scale { revision, .. } if revision == new && back => {
                Err(format!("10: {write:?} although it goes back"))
            }
            Write::Create { revision, .. } if revision != new || self.status.plan.is_empty() => {
                Err(format!("intent: {write:?} before the plan was persisted"))
            }
            Write::Create { .. } | Write::Scale { .. } => Ok(()),
            Write::StartJob { step } => match self.status.plan.get(usize::try_from(*step).expect("a step")) {
                Some(it) if it.action == Action::Gate && *step == self.status.current_step_index => Ok(()),
                other => Err(format!("{write:?} at {other:?}")),
            },
            Write::Recreate { uid, .. } => {
                let is_sick = self.sick.get(new).is_some_and(|sick| sick.iter().any(|it| it.uid == *uid));
                let is_noted = self.status.recreated_pods.iter().any(|it| it.uid == *uid);
                let stands = self.goal.control.paused || self.status.failure.is_some();
                let ends = matches!(self.status.phase, Phase::Aborting | Phase::Degraded | Phase::Healthy);
                match is_sick && is_noted && !stands && !ends {
                    true => Ok(()),
                    false => Err(format!("5: {write:?}: sick {is_sick}, noted {is_noted}, {:?}", self.status.phase)),
                }
            }
            Write::Traffic { shares: to, matched } => {
                if let Some(side) = to.keys().chain(matched.keys()).find(|side| !self.entitled.contains(*side)) {
                    return Err(format!("2: {write:?} although {side} passed no gate"));
                }
                let goes_on = matches!(self.status.phase, Phase::Progressing | Phase::Paused);
                if !goes_on && matched.keys().any(|it| !self.matched().contains(&&**it)) {
                    return Err(format!("10: {write:?} although it is {:?}", self.status.phase));
                }
                let set = self.traffic.as_ref().map(|it| it.matched.clone()).unwrap_or_default();
                if matched.iter().any(|(side, it)| set.get(side) != Some(it)) && !self.unmatching.is_empty() {
                    return Err(format!("{write:?} although {:?} cannot tell requests apart", self.unmatching));
                }
                let (has, least) =
                    (self.in_service(to), if self.goal.control.freeze { had.min(1).min(self.desired) } else { floor });
                if has < least {
                    Err(format!("1: {write:?} leaves {has} in service of {had}, floor {least}"))
                } else {
                    Ok(())
                }
            }
            Write::Delete { revision } => {
                if self.replicas(revision) > 0 || shares.contains_key(revision) {
                    return Err(format!("{write:?} of one that is in use"));
                }
                Ok(())
            }
        }
    }

    pub(super) fn apply(&mut self, write: Write) {
        match write {
            Write::Create { revision, replicas } => {
                let it = Revision { replicas, ready: 0, observed: false, created: Some(self.now), ailing: Vec::new() };
                self.revisions.insert(revision, it);
            }
            Write::Scale { revision, to, .. } => {
                let it = self.revisions.get_mut(&revision).expect("a revision that is there");
                self.stale.entry(revision.clone()).or_insert(it.ready);
                it.replicas = to;
                it.ready = it.ready.min(to);
                // Pods that are not ready go first.
                let room = usize::try_from(to - it.ready).expect("few pods");
                self.sick.entry(revision).or_default().truncate(room);
            }
            // How it ends is the gate's word, as a test sets it.
            Write::StartJob { .. } => self.gate = GateSeen::Waiting("the Job has not ended".to_owned()),
            Write::Recreate { uid, .. } => self.sick.values_mut().for_each(|sick| sick.retain(|it| it.uid != uid)),
            Write::Traffic { shares, matched } => {
                let generation = self.traffic.as_ref().map_or(1, |it| it.generation + 1);
                self.traffic = Some(Traffic { generation, shares, matched });
            }
            Write::Delete { revision } => {
                self.stale.remove(&revision);
                self.revisions.remove(&revision);
            }
        }
    }

    pub(super) fn tick(&mut self, seconds: u64) {
        self.now = self.now.after(Duration::from_secs(seconds));
    }

    /// Controllers act, and up to so many pods of each revision become available.
    pub(super) fn pods_come(&mut self, most: u32) {
        self.stale.clear();
        for (revision, it) in &mut self.revisions {
            it.observed = true;
            let sick = self.sick.get(revision).map_or(0, |sick| u32::try_from(sick.len()).expect("few pods"));
            it.ready = it.ready.max(it.replicas.saturating_sub(sick).min(it.ready.saturating_add(most)));
        }
    }

    /// So many of the new revision's pods that are not ready fail now.
    pub(super) fn pods_fall(&mut self, count: u32, cause: FailureCause, why: &str) {
        let Some(it) = self.revisions.get(&self.goal.revision) else { return };
        let sick = self.sick.entry(self.goal.revision.clone()).or_default();
        let room = (it.replicas - it.ready).saturating_sub(u32::try_from(sick.len()).expect("few pods"));
        for _ in 0..count.min(room) {
            self.fallen += 1;
            let (name, uid) = (format!("pod-{}", self.fallen), format!("uid-{}", self.fallen));
            let (now, certain) = (Some(self.now), !matches!(cause, FailureCause::Unschedulable | FailureCause::Hook));
            let (why, said) = (why.to_owned(), Some("no database".to_owned()));
            sick.push(Ailing { name, uid, created: now, since: now, cause, certain, why, log: None, said });
        }
    }

    /// So many pods of a revision are no longer available.
    pub(super) fn pods_fail(&mut self, revision: &str, count: u32) {
        if let Some(it) = self.revisions.get_mut(revision) {
            it.ready = it.ready.saturating_sub(count);
        }
    }

    /// The gateway takes over what is published.
    pub(super) fn gateway_pulls(&mut self) {
        let Some(traffic) = self.traffic.clone() else { return };
        let now = sides(&traffic);
        for side in sides(&self.gateway).difference(&now) {
            self.quiet.insert(side.clone(), self.now);
        }
        self.quiet.retain(|side, _| !now.contains(side));
        self.gateway = traffic;
    }

    /// A newer release takes over: the one under way is told, and ends.
    pub(super) fn supersede(&mut self, revision: &str) -> Result<(), String> {
        let seen = Observed { superseded_by: Some("web-3".to_owned()), ..self.seen() };
        let outcome = plan(&seen, &self.goal, &self.status);
        if let Some(write) = outcome.writes.first() {
            return Err(format!("{write:?} of a release that another took over from"));
        }
        if let Some(status) = outcome.progress {
            self.status = status;
        }
        if !self.status.phase.is_final() {
            return Err(format!("{:?} after another took over", self.status.phase));
        }
        self.goal = Goal { revision: revision.to_owned(), control: Control::default(), ..self.goal.clone() };
        self.status = Progress::default();
        Ok(())
    }

    /// All goes well from here on, and people let it go on: until it has ended and nothing more is written.
    pub(super) fn settle(&mut self) -> Result<(), String> {
        self.goal.control.paused = false;
        self.goal.control.target_step = None;
        self.goal.control.promote_full = true;
        self.goal.control.retries += 1;
        self.word = self.word.take().filter(|(verdict, _)| *verdict == Verdict::Rejected);
        (self.blocked, self.gate) = (None, GateSeen::Passed);
        self.unmatching.clear();
        self.sick.clear();
        let mut idle = 0;
        for _ in 0..2_000 {
            // What is waited for without a write is time.
            let seconds = if idle == 0 { 1 } else { 5 };
            self.tick(seconds);
            self.pods_come(u32::MAX);
            self.gateway_pulls();
            idle = if self.reconcile(None)? == 0 { idle + seconds } else { 0 };
            // Where nothing else ran before, it cannot go back, and says so; that is an end as well.
            let refused = ["nothing else ran", "rejected by"];
            let reason = self.status.failure.as_ref().map(|it| it.reason.as_str()).unwrap_or_default();
            let is_refused = refused.iter().any(|it| reason.starts_with(it));
            if (self.status.phase.is_final() || is_refused) && idle > 40 {
                return Ok(());
            }
            if !self.status.phase.is_final() && self.status.message.is_empty() {
                return Err("11: it waits and does not say why".to_owned());
            }
        }
        Err(format!("11: it does not end: {:?} {}", self.status.phase, self.status.message))
    }

    /// What must be true of a world at rest.
    pub(super) fn check_settled(&self) -> Result<(), String> {
        let new = &self.goal.revision;
        let shares = self.shares();
        let total: u32 = self.revisions.iter().filter(|(it, _)| shares.contains_key(*it)).map(|(_, it)| it.ready).sum();
        let foreign = shares.keys().any(|side| side.contains('/'));
        if self.status.phase.is_final() && !self.matched().is_empty() {
            return Err(format!("{:?} with requests of its own for {:?}", self.status.phase, self.matched()));
        }
        match self.status.phase {
            Phase::Healthy if shares.len() != 1 || !shares.contains_key(new) => Err(format!("healthy with {shares:?}")),
            Phase::Healthy if self.replicas(new) != self.desired => Err(format!("healthy with {:?}", self.revisions)),
            Phase::Degraded
                if self.goal.control.abort && !self.status.plan.is_empty() && shares != self.status.before =>
            {
                Err(format!("4: aborted with {shares:?}, before {:?}", self.status.before))
            }
            Phase::Degraded if self.goal.control.abort && !shares.contains_key(new) && self.replicas(new) > 0 => {
                Err(format!("4: aborted with {:?}", self.revisions))
            }
            // One that never began, or has gone back already, has nothing that could be taken out: where its revision
            // serves all the same, it did so before.
            Phase::Degraded
                if !self.goal.control.abort
                    && self.goal.control.freeze
                    && !self.status.plan.is_empty()
                    && !crate::control::plan::steps::is_abort(&self.status.plan)
                    && shares.contains_key(new) =>
            {
                Err(format!("frozen with {shares:?}"))
            }
            _ if !foreign && total < self.desired => Err(format!("{total} in service, wanted {}", self.desired)),
            _ => {
                let idle = self.revisions.iter().find(|(it, _)| !shares.contains_key(*it) && *it != new);
                match idle.filter(|(_, it)| it.replicas > 0) {
                    Some((revision, _)) => Err(format!("{revision} has pods and no traffic")),
                    None => Ok(()),
                }
            }
        }
    }
}

// === impl Written ===

impl Written for World {
    type Write = Write;
    type Status = Progress;

    fn writes(&mut self) -> &mut usize {
        &mut self.writes
    }

    fn write(&mut self, write: Write) -> Result<(), String> {
        self.judge(&write)?;
        self.apply(write);
        Ok(())
    }

    fn persist(&mut self, status: Progress) {
        self.status = status;
    }
}

/// Who gets requests, by a share or by a match.
fn sides(traffic: &Traffic) -> BTreeSet<String> {
    let shared = traffic.shares.iter().filter(|(_, share)| **share > 0).map(|(side, _)| side);
    shared.chain(traffic.matched.keys()).cloned().collect()
}
