//! A release of an App of several clusters. Pure, as the planner of one cluster is, which this is made of.
//!
//! ```text
//! Fleet ─ one Observed a cluster ─▶ plan of one cluster ─▶ its next status ─┐
//!   └─ who waits for whom: waves, a cluster that does not answer, an abort   ├─▶ one status, one TrafficPolicy, writes a cluster
//!                                                                            └─ whose writes may be made now ─▶
//! ```
//!
//! Each cluster goes through the steps of the strategy for itself: its own pods, its own gate, its own count. What a step calls
//! *all traffic* is this cluster's part of it. The parts are fixed (`share` of the App's clusters, else their counts), so that while
//! waves are half way, a cluster whose release is through sends its part to the new revision, one whose turn has not come sends
//! its part to the old one, and no cluster ever carries another's: every guard of the planner of one cluster holds in each, and so in
//! all together. One TrafficPolicy has the members of all: a pool for each revision in each cluster, with the share within the
//! cluster times the cluster's part. Whatever moves in one cluster is therefore a generation that everybody acknowledges for all.
//!
//! - **Waves**: the clusters of the lowest wave begin, side by side; those of the next once the new revision is healthy in all of
//!   them, with all its pods available at that moment. What stops in one cluster (failed pods, a gate) holds the others up as well.
//! - **A cluster that does not answer** is neither empty nor unchanged. Until it answers, the release is paused and says since when,
//!   and in no cluster is a pod taken away, a switch made, or a revision forgotten; more pods may come. Its deadlines begin anew
//!   when it is back, and the release goes on by itself. Who knows it to be gone for good takes it from the App's clusters.
//! - **Abort, freeze, rejection, and a failure with `onFailure: Abort`** hold in every cluster at once, also in those that are through:
//!   each goes back with its own pods and its own part of the traffic, and waits for no other, for what is bad is to be gone soonest
//!   everywhere. Old Deployments are kept for that until the release has ended in all. Where nothing ran before, nothing can
//!   take the traffic back: there the release stays, and says so.
//! - **A rollback** waits for no wave, for the same reason.
//! - **Supersede**: the newer release makes its plan in each cluster from what serves there, be it of the first wave or of the last.
//! - **Requests that match** go to the first cluster of the policy that has the new revision: parts of a pool are tried in order.
//! - When the parts themselves change, the new ones hold once every cluster has all its pods, and until then no pod that serves goes.

mod traffic;
mod whole;

use std::collections::BTreeMap;

use super::{Goal, Observed, Outcome, Write};
use crate::control::resource::clusters::{ClusterStatus, Unreachable};
use crate::control::resource::moment::Moment;
use crate::control::resource::progress::{Phase, Progress};
use crate::control::resource::release::ReleaseStatus;
use crate::kubernetes::policy::RequestMatch;

/// What is seen of an App of several clusters at one time.
#[derive(Clone, Debug)]
pub struct Fleet {
    /// When.
    pub now: Moment,
    /// Its clusters, in the order of their waves and then of their names.
    pub clusters: Vec<Cluster>,
    /// Why nothing can be done with it, whatever is seen.
    pub refused: Option<String>,
    /// Whether traffic goes to clusters that are no longer among these.
    pub strays: bool,
    /// The newer release that took this one's place.
    pub superseded_by: Option<String>,
}

/// One of the clusters.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// Its name.
    pub name: String,
    /// Its wave.
    pub wave: u32,
    /// Its part of the traffic beside the others'; at least 1.
    pub share: u32,
    /// What of the App is there.
    pub sight: Sight,
    /// Why the last write there failed, if it did.
    pub trouble: Option<String>,
}

/// What is seen of a cluster.
#[derive(Clone, Debug)]
pub enum Sight {
    /// This. Its traffic is what of the policy is this cluster's, and its generation that of the whole.
    Seen(Box<Observed>),
    /// Nothing, because of this: neither what is there nor what is not.
    Unreached(String),
}

/// A revision in a cluster: `(cluster, revision)`.
pub type Side = (String, String);

/// Something to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FleetWrite {
    /// The TrafficPolicy's members, all of them.
    Traffic {
        /// Shares, in a unit of their own.
        shares: BTreeMap<Side, u32>,
        /// The requests that go there whatever the share is.
        matched: BTreeMap<Side, RequestMatch>,
    },
    /// In one of the clusters: no traffic.
    In {
        /// Which.
        cluster: String,
        /// What.
        write: Write,
    },
}

/// What comes next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FleetOutcome {
    /// In this order, each only after the one before it was done.
    pub writes: Vec<FleetWrite>,
    /// How far it is by now, to be persisted after those; absent: that is so already.
    pub status: Option<ReleaseStatus>,
    /// The clusters in which the gate is to be asked, and the step of each.
    pub ask_gate: Vec<(String, u32)>,
    /// Whether something is still to be done that others, or time, must allow first.
    pub unsettled: bool,
}

/// A cluster with how far the release is there by now, and what is to be done there.
struct Lane<'a> {
    cluster: &'a Cluster,
    status: ClusterStatus,
    outcome: Outcome,
}

/// What of the whole decides in each cluster.
struct Whole<'a> {
    fleet: &'a Fleet,
    goal: &'a Goal,
    before: Vec<ClusterStatus>,
    /// Why nothing is begun anywhere.
    stands: Option<String>,
    /// Whether every cluster goes back.
    back: bool,
    /// Whether what held all up is over with this look: deadlines begin anew.
    resumes: bool,
    is_over: bool,
}

/// What to write next, as [`super::plan`] says it of one cluster.
pub fn plan(fleet: &Fleet, goal: &Goal, status: &ReleaseStatus) -> FleetOutcome {
    let whole = Whole::new(fleet, goal, status);
    let lanes: Vec<Lane<'_>> = fleet.clusters.iter().zip(&whole.before).map(|(it, was)| whole.lane(it, was)).collect();
    let next = whole::status(&whole, &lanes, status);
    let asked = lanes.iter().filter_map(|it| Some((it.cluster.name.clone(), it.outcome.ask_gate?)));
    let ask_gate = asked.collect();
    let is_told = next == *status;
    if !is_told && whole::intent(&next) != whole::intent(status) {
        return FleetOutcome { writes: Vec::new(), status: Some(next), ask_gate, unsettled: true };
    }
    let another_holds = next.progress.phase == Phase::Superseded || fleet.superseded_by.is_some();
    let (writes, unsettled) = if another_holds { (Vec::new(), false) } else { act(&whole, &lanes) };
    FleetOutcome { writes, status: (!is_told).then_some(next), ask_gate, unsettled }
}

/// The writes of all clusters, as far as they may be made together, and whether anything is left to do.
fn act(whole: &Whole<'_>, lanes: &[Lane<'_>]) -> (Vec<FleetWrite>, bool) {
    let parts = traffic::Parts::of(whole.fleet, lanes);
    let known = whole.unknown().is_none();
    let mut writes = Vec::new();
    for lane in lanes {
        for write in &lane.outcome.writes {
            let is_due = match write {
                // It is one policy's, and comes last.
                Write::Traffic { .. } => false,
                Write::Create { .. } | Write::StartJob { .. } => true,
                Write::Scale { from, to, .. } if from < to => true,
                // Who serves by a part that is not as it is to be keeps what it has.
                Write::Scale { revision, .. } => known && !(parts.change() && lane.serves(revision)),
                Write::Recreate { .. } => known,
                // An abort may still need it.
                Write::Delete { .. } => known && whole.is_over,
            };
            if is_due {
                writes.push(FleetWrite::In { cluster: lane.cluster.name.clone(), write: write.clone() });
            }
        }
    }
    let unsettled = !known || parts.change() || lanes.iter().any(|lane| lane.outcome.unsettled);
    if known {
        writes.extend(parts.write(lanes));
    }
    (writes, unsettled)
}

// === impl FleetOutcome ===

impl FleetOutcome {
    /// Whether nothing is to be written.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty() && self.status.is_none()
    }
}

// === impl Whole ===

impl<'a> Whole<'a> {
    fn new(fleet: &'a Fleet, goal: &'a Goal, status: &ReleaseStatus) -> Self {
        let known = |cluster: &Cluster| {
            let was = status.clusters.iter().find(|it| it.name == cluster.name).cloned();
            let new = ClusterStatus { name: cluster.name.clone(), ..ClusterStatus::default() };
            ClusterStatus { wave: cluster.wave, ..was.unwrap_or(new) }
        };
        let before: Vec<ClusterStatus> = fleet.clusters.iter().map(known).collect();
        let goes_back = |it: &ClusterStatus| matches!(it.progress.phase, Phase::Aborting | Phase::Degraded);
        let back = goal.control.abort || (!goal.control.freeze && before.iter().any(goes_back));
        let resumes = fleet.clusters.iter().zip(&before).any(|(cluster, was)| {
            let is_back = was.unreachable.is_some() && matches!(cluster.sight, Sight::Seen(_));
            let tries_again = was.progress.failure.as_ref().is_some_and(|it| it.retries < goal.control.retries);
            is_back || (tries_again && was.progress.phase == Phase::Paused)
        });
        let is_over = status.progress.phase.is_final();
        let mut whole = Self { fleet, goal, before, stands: None, back, resumes, is_over };
        whole.stands = whole.unknown().or_else(|| whole.failed());
        whole
    }

    /// Why it is not known everywhere what is so.
    fn unknown(&self) -> Option<String> {
        let unreached = self.fleet.clusters.iter().zip(&self.before).find_map(|(cluster, was)| {
            let Sight::Unreached(why) = &cluster.sight else { return None };
            let said = was.unreachable.clone().unwrap_or_else(|| Unreachable { since: self.fleet.now, why: why.clone() });
            Some(format!(
                "cluster {} cannot be reached ({}), since {}: nothing is switched or scaled down in any cluster until it \
                 answers; if it is gone for good, take it from spec.clusters of App {}",
                cluster.name, said.why, said.since, self.goal.app
            ))
        });
        self.fleet.refused.clone().or(unreached)
    }

    /// What has stopped in one cluster, and does not go back.
    fn failed(&self) -> Option<String> {
        let has_failed = |ClusterStatus { progress: it, .. }: &&ClusterStatus| {
            !it.phase.is_final() && it.failure.as_ref().is_some_and(|it| it.retries >= self.goal.control.retries)
        };
        let it = self.before.iter().find(has_failed).filter(|_| !self.back)?;
        Some(format!("stands while cluster {} is stopped", it.name))
    }

    /// Why a cluster does not begin yet.
    fn waits(&self, cluster: &Cluster) -> Option<String> {
        if self.goal.rollback {
            return None;
        }
        let earlier = self.fleet.clusters.iter().zip(&self.before).filter(|(it, _)| it.wave < cluster.wave);
        let unwell = |(it, was): &(&Cluster, &ClusterStatus)| match &it.sight {
            Sight::Unreached(_) => true,
            Sight::Seen(seen) => {
                let ready = seen.revision(&self.goal.revision).standing().saturating_add(was.progress.ignored_pods);
                was.progress.phase != Phase::Healthy || ready < seen.desired
            }
        };
        let (first, _) = earlier.into_iter().find(unwell)?;
        Some(format!(
            "has not begun: it does once all pods are available in cluster {} of wave {}",
            first.name, first.wave
        ))
    }

    /// How a cluster goes on.
    fn lane(&self, cluster: &'a Cluster, was: &ClusterStatus) -> Lane<'a> {
        let mut status = was.clone();
        let progress = &mut status.progress;
        let seen = match &cluster.sight {
            Sight::Seen(seen) => seen,
            Sight::Unreached(why) => {
                let said = Unreachable { since: self.fleet.now, why: why.clone() };
                status.unreachable.get_or_insert(said);
                if !self.is_over && !self.goal.control.paused && progress.phase != Phase::Aborting {
                    "its state is not known".clone_into(&mut progress.message);
                }
                return Lane { cluster, status, outcome: Outcome::default() };
            }
        };
        if self.resumes && !progress.phase.is_final() && progress.last_progress_time.is_some() {
            // What did not come while all stood is not held against it.
            progress.last_progress_time = Some(self.fleet.now);
        }
        let turns = !self.is_over && (self.back || self.goal.control.freeze);
        if turns && progress.phase == Phase::Healthy && progress.failure.is_none() {
            // What is through here is not over: the release is not. One that could not turn back, and said so, stays.
            (progress.phase, progress.finished_at) = (Phase::Progressing, None);
        }
        let mut outcome = super::plan(seen, &self.goal_of(cluster, progress), progress);
        if let Some(next) = outcome.progress.take() {
            *progress = next;
        }
        if let Some(trouble) = cluster.trouble.as_ref().filter(|_| !progress.phase.is_final()) {
            progress.message += &format!("; the last write there failed: {trouble}");
        }
        (status.ready, status.desired) = (seen.revision(&self.goal.revision).ready, seen.desired);
        status.unreachable = None;
        Lane { cluster, status, outcome }
    }

    /// Why a cluster is held up though it could go on for itself.
    fn held(&self, cluster: &Cluster, there: &Progress) -> Option<String> {
        if there.phase.is_final() || (self.back && there.plan.is_empty()) {
            return None;
        }
        if self.is_over && there.plan.is_empty() {
            return Some("was not of its App's clusters when this release ended: the next one comes here".to_owned());
        }
        let unbegun = there.plan.is_empty().then(|| self.waits(cluster)).flatten();
        unbegun.or_else(|| self.stands.clone().filter(|_| there.failure.is_none()))
    }

    /// What is asked for in a cluster.
    fn goal_of(&self, cluster: &Cluster, there: &Progress) -> Goal {
        let mut goal = Goal { held: self.held(cluster, there), ..self.goal.clone() };
        goal.control.abort |= self.back;
        goal.control.target_step = goal.control.target_step.filter(|_| self.is_meant(cluster));
        goal
    }

    /// Whether `targetStep` is about this cluster's plan.
    fn is_meant(&self, cluster: &Cluster) -> bool {
        self.goal.control.target_wave.is_none_or(|wave| wave == cluster.wave)
    }
}

// === impl Lane ===

impl Lane<'_> {
    fn seen(&self) -> Option<&Observed> {
        match &self.cluster.sight {
            Sight::Seen(seen) => Some(seen),
            Sight::Unreached(_) => None,
        }
    }

    /// Whether a revision has traffic here.
    fn serves(&self, revision: &str) -> bool {
        self.seen().is_some_and(|seen| seen.shares().get(revision).is_some_and(|share| *share > 0))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::given::{goal, strategies};
    use super::super::{Traffic, WHOLE};
    use super::*;

    /// Whether a write that one cluster's planner asks for is made of a release that has ended; `refused`: not all is known.
    fn is_made(write: &Write, refused: Option<&str>) -> bool {
        let traffic = Traffic { shares: BTreeMap::from([("old".to_owned(), WHOLE)]), ..Traffic::default() };
        let seen = Observed { traffic: Some(traffic), ..Observed::default() };
        let sight = Sight::Seen(Box::new(seen));
        let east = Cluster { name: "east".to_owned(), wave: 1, share: 1, sight, trouble: None };
        let refused = refused.map(str::to_owned);
        let now = Moment::from_millis(0);
        let fleet = Fleet { now, clusters: vec![east], refused, strays: false, superseded_by: None };
        let goal = goal(strategies().swap_remove(0).1);
        let ended = Progress { phase: Phase::Healthy, ..Progress::default() };
        let whole = Whole::new(&fleet, &goal, &ReleaseStatus { progress: ended, ..ReleaseStatus::default() });
        let outcome = Outcome { writes: vec![write.clone()], ..Outcome::default() };
        let lane = Lane { cluster: &fleet.clusters[0], status: ClusterStatus::default(), outcome };
        !act(&whole, &[lane]).0.is_empty()
    }

    #[test]
    fn while_not_all_is_known_pods_may_come_and_nothing_is_taken_away_or_switched() {
        let revision = || "new".to_owned();
        let more = [
            Write::Create { revision: revision(), replicas: 1 },
            Write::Scale { revision: revision(), from: 1, to: 2 },
            Write::StartJob { step: 2 },
        ];
        let less = [
            Write::Scale { revision: revision(), from: 2, to: 1 },
            Write::Recreate { pod: "pod-1".to_owned(), uid: "uid-1".to_owned() },
            Write::Delete { revision: revision() },
            Write::Traffic { shares: BTreeMap::from([(revision(), WHOLE)]), matched: BTreeMap::new() },
        ];
        for write in more.iter().chain(&less) {
            assert!(is_made(write, None), "{write:?}");
            assert_eq!(is_made(write, Some("a pool is nobody's")), more.contains(write), "{write:?}");
        }
    }
}
