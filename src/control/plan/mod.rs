//! The planner: from what is seen, what is asked for and how far a release is, to the writes that come next. Pure: the time
//! comes in with what is seen, and nothing here waits, asks or writes.
//!
//! ```text
//! Strategy ─ steps ─▶ [ScaleNew, AwaitAvailable, Gate, SetMatch, SetTraffic, AwaitAck, Drain, ScaleOld …]
//! (Observed, Goal, Progress) ─ advance ─▶ the progress as it must be; where it differs in intent, that alone is written
//!                            ─ wanted  ─▶ the counts and shares that the steps up to the current one ask for
//!                            ─ act     ─▶ the writes that lead there, as far as guards let them
//! ```
//!
//! The world that a status asks for is a fold over its plan, so that an act is repeated until it is seen done, whoever was
//! killed in between, and a settled release has no writes. What must hold of every write:
//!
//! 1. None takes ready pods in service below the floor: the count asked for (less a batch where room comes first), or what
//!    is ready if that is less. Pods that may be on their way out are ready for the floor, and not for what is to be above it.
//! 2. A revision gets traffic, by a share or by requests that match, only after its gate was passed by that very revision.
//! 3. No pod goes before everybody has acknowledged the traffic as it is, and requests had their time.
//! 4. What a status does not say yet is not done.
//! 5. No pod is deleted that is ready, and none where a release goes back or is stopped.

mod act;
mod advance;
mod failed;
mod message;
mod steps;
#[cfg(test)]
mod tests;
mod wanted;
pub mod waves;

use std::collections::BTreeMap;
use std::time::Duration;

use super::resource::approval::Verdict;
use super::resource::failure::{FailureCause, FailurePolicy};
use super::resource::moment::Moment;
use super::resource::progress::{Phase, Progress};
use super::resource::release::Control;
use super::resource::strategy::{OnFailure, Strategy};
use crate::kubernetes::policy::RequestMatch;

/// All traffic, in the unit of shares.
pub const WHOLE: u32 = 1_000;

/// What is seen of an App at one time.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// When.
    pub now: Option<Moment>,
    /// How many pods the App asks for.
    pub desired: u32,
    /// Its revisions that have a Deployment.
    pub revisions: BTreeMap<String, Revision>,
    /// Its TrafficPolicy; absent: there is none yet.
    pub traffic: Option<Traffic>,
    /// Who has not acknowledged the traffic as it is.
    pub missing: Vec<String>,
    /// Why hubs do not know yet what traffic would be switched to.
    pub unpublished: Option<String>,
    /// Gateways that serve the App and cannot tell requests apart; looked for where requests that match are to be sent somewhere.
    pub unmatching: Vec<String>,
    /// What is known of the gate at the current step.
    pub gate: Option<GateSeen>,
    /// The live word about the release's image, and whose it is.
    pub word: Option<(Verdict, String)>,
    /// Why nothing may be rolled out now.
    pub blocked: Option<String>,
    /// The newer release that took this one's place.
    pub superseded_by: Option<String>,
}

/// A revision's Deployment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Revision {
    /// Pods asked for.
    pub replicas: u32,
    /// Pods available.
    pub ready: u32,
    /// Whether its controllers have acted on it as it is: until then some of the pods that are available may be on their way out.
    pub observed: bool,
    /// When it was made.
    pub created: Option<Moment>,
    /// Its pods that are not ready, where some are missing.
    pub ailing: Vec<Ailing>,
}

/// A pod that is not ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ailing {
    /// Its name.
    pub name: String,
    /// Its identity.
    pub uid: String,
    /// When it was made.
    pub created: Option<Moment>,
    /// Since when it is not ready.
    pub since: Option<Moment>,
    /// What is wrong.
    pub cause: FailureCause,
    /// Whether it has failed, and does not only take its time.
    pub certain: bool,
    /// What is wrong, in people's words.
    pub why: String,
    /// Where its last words are to be had.
    pub log: Option<LogOf>,
    /// Its last words, in one line.
    pub said: Option<String>,
}

/// The log of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogOf {
    /// Its name.
    pub container: String,
    /// That of its run before this one.
    pub previous: bool,
    /// Its restarts so far: by their number another log is known.
    pub restarts: i32,
}

/// A TrafficPolicy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// The identity of the last switch.
    pub generation: i64,
    /// By revision, or by the id of a pool that is no revision's.
    pub shares: BTreeMap<String, u32>,
    /// The requests that go to a revision, or a pool that is no revision's, whatever its share is.
    pub matched: BTreeMap<String, RequestMatch>,
}

/// What is known of a gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GateSeen {
    /// Every new pod passed.
    Passed,
    /// Its Job is to be made.
    Startable,
    /// Not yet, because of this.
    Waiting(String),
    /// Its time is over.
    Failed(String),
}

/// What is asked for: a release with what of its App matters.
#[derive(Clone, Debug)]
pub struct Goal {
    /// `NAMESPACE/APP`, for messages.
    pub app: String,
    /// The release's name.
    pub release: String,
    /// The revision that it brings.
    pub revision: String,
    /// How.
    pub strategy: Strategy,
    /// Whether it goes back to an earlier revision.
    pub rollback: bool,
    /// Whether its image was tested elsewhere: it gets traffic only with a live Approval.
    pub promoted: bool,
    /// What people ask of it.
    pub control: Control,
    /// Why it is held up by what is outside its cluster, where it is: it begins nothing, no deadline passes, and it says this.
    pub held: Option<String>,
    /// What becomes of it when it fails.
    pub on_failure: OnFailure,
    /// What becomes of its pods that fail.
    pub failure_policy: FailurePolicy,
    /// Without progress for so long, it has failed.
    pub progress_deadline: Duration,
    /// A switch that is not acknowledged for so long pauses it.
    pub acknowledge_timeout: Duration,
    /// Revisions without pods that are kept.
    pub history_limit: usize,
}

/// Something to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// A revision's Deployment and Service.
    Create {
        /// Which.
        revision: String,
        /// Its pods.
        replicas: u32,
    },
    /// A Deployment's count.
    Scale {
        /// Which.
        revision: String,
        /// As it was seen.
        from: u32,
        /// As it is to be.
        to: u32,
    },
    /// The TrafficPolicy's members, all of them.
    Traffic {
        /// By revision, or by the id of a pool that is no revision's.
        shares: BTreeMap<String, u32>,
        /// Likewise: the requests that go there whatever the share is.
        matched: BTreeMap<String, RequestMatch>,
    },
    /// A pod that failed goes, so that another takes its place.
    Recreate {
        /// Its name.
        pod: String,
        /// Its identity.
        uid: String,
    },
    /// The Job of the gate at this step.
    StartJob {
        /// Which.
        step: u32,
    },
    /// A Deployment without pods, and its Service.
    Delete {
        /// Which.
        revision: String,
    },
}

/// What comes next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// In this order, each only after the one before it was done.
    pub writes: Vec<Write>,
    /// How far it is by now, to be persisted after those; absent: that is so already.
    pub progress: Option<Progress>,
    /// The step at which the gate is to be asked: its answer is part of what is seen next.
    pub ask_gate: Option<u32>,
    /// Whether something is still to be done that others, or time, must allow first.
    pub unsettled: bool,
}

/// What to write next. Called again with what came of it, it leads to the end of the plan; a settled release has no writes.
pub fn plan(seen: &Observed, goal: &Goal, status: &Progress) -> Outcome {
    let next = advance::advance(seen, goal, status);
    let ask_gate = advance::at_gate(&next);
    let is_told = next == *status;
    if !is_told && intent(&next) != intent(status) {
        // Nothing is done that a controller which takes over could not read.
        return Outcome { writes: Vec::new(), progress: Some(next), ask_gate, unsettled: true };
    }
    let another_holds = next.phase == Phase::Superseded || seen.superseded_by.is_some();
    let (writes, unsettled) = if another_holds { (Vec::new(), false) } else { act::act(seen, goal, &next) };
    Outcome { writes, progress: (!is_told).then_some(next), ask_gate, unsettled }
}

/// Since when the gate is asked at the step under way; `None` before.
pub fn asked_since(status: &Progress) -> Option<Moment> {
    advance::asked_since(status)
}

/// What of a status decides what is done; the rest is for people.
fn intent(status: &Progress) -> Progress {
    Progress { message: String::new(), available_high_water: 0, last_progress_time: None, ..status.clone() }
}

/// Whether a side of the traffic is a pool that is no revision's: it is not scaled here.
fn is_foreign(side: &str) -> bool {
    side.contains('/')
}

// === impl Revision ===

impl Revision {
    /// Pods that are available and stay.
    fn standing(&self) -> u32 {
        if self.observed { self.ready } else { 0 }
    }
}

// === impl Outcome ===

impl Outcome {
    /// Whether nothing is to be written.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty() && self.progress.is_none()
    }
}

// === impl Observed ===

impl Observed {
    /// The time of this look.
    pub fn at(&self) -> Moment {
        self.now.unwrap_or_else(|| Moment::from_millis(0))
    }

    /// Pods of the goal's revision that have failed.
    pub fn failed(&self, goal: &Goal) -> Vec<&Ailing> {
        failed::failed(self, goal)
    }

    fn revision(&self, name: &str) -> Revision {
        self.revisions.get(name).cloned().unwrap_or_default()
    }

    /// The traffic in thousandths.
    fn shares(&self) -> BTreeMap<String, u32> {
        self.traffic.as_ref().map(|traffic| wanted::normalized(&traffic.shares)).unwrap_or_default()
    }

    /// The requests that go somewhere whatever the shares are.
    fn matched(&self) -> BTreeMap<String, RequestMatch> {
        self.traffic.as_ref().map(|traffic| traffic.matched.clone()).unwrap_or_default()
    }

    /// Ready pods of everything that has a share, at most. A pool that is no revision's counts as what is asked for.
    fn in_service(&self, shares: &BTreeMap<String, u32>) -> u32 {
        self.sum(shares, |it| it.ready)
    }

    /// The same, at least.
    fn standing(&self, shares: &BTreeMap<String, u32>) -> u32 {
        self.sum(shares, Revision::standing)
    }

    fn sum(&self, shares: &BTreeMap<String, u32>, ready: fn(&Revision) -> u32) -> u32 {
        let of = |side: &String| if is_foreign(side) { self.desired } else { ready(&self.revision(side)) };
        shares.iter().filter(|(_, share)| **share > 0).map(|(side, _)| of(side)).fold(0, u32::saturating_add)
    }
}
