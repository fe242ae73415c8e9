//! Leader election by a Lease of the API server: of several instances one leads.
//!
//! ```text
//! follower ── the Lease is free, or its holder was silent for DURATION ──▶ leader ── not renewed within RENEW_DEADLINE ──▶ follower
//! ```
//!
//! Every write of the Lease carries the version that was read, so that of two who want it one is refused. Whether a
//! holder is silent is judged by the follower's own steady clock, from when it saw the Lease change last: the times in the
//! Lease are other machines' and only for people. A leader's term ends [`RENEW_DEADLINE`] after it *began* to renew, which is
//! before anybody else can hold the Lease; whoever writes asks [`Leadership::holds`] first. So there is never a second
//! leader, and sometimes none. One who ends gracefully gives the Lease back.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Api, ObjectMeta, PostParams};
use kube::{Client, ResourceExt};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::base::drain::Drain;

/// A holder that is silent for so long has lost the Lease.
pub const DURATION: Duration = Duration::from_secs(10);
/// A leader that could not renew for so long leads no more.
pub const RENEW_DEADLINE: Duration = Duration::from_secs(7);
/// Between two looks at the Lease.
const PERIOD: Duration = Duration::from_secs(2);
/// For one answer of the API server.
const ANSWER: Duration = Duration::from_secs(3);

/// Which Lease, and who wants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseConfig {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The name of this process, another one at each start: who starts again is not who was frozen.
    pub identity: String,
}

/// Whether this instance leads. Clones tell the same.
#[derive(Clone, Debug)]
pub struct Leadership {
    until: watch::Receiver<Option<Instant>>,
}

/// What is known of a Lease, and what follows from it.
#[derive(Debug)]
struct Election {
    identity: String,
    /// The version seen last, and when it was seen first.
    seen: Option<(String, Instant)>,
}

/// What to do about a Lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// Somebody else holds it.
    Follow,
    /// It is free.
    Take,
    /// It is ours.
    Renew,
}

/// Takes part in the election until `drain` ends it; then gives the Lease back.
pub fn stand(client: Client, config: LeaseConfig, drain: &Drain) -> Leadership {
    let (sender, until) = watch::channel(None);
    let guard = drain.guard("lease");
    let drain = drain.clone();
    tokio::spawn(async move {
        let api = Api::<Lease>::namespaced(client, &config.namespace);
        let mut candidate = Candidate {
            api,
            election: Election { identity: config.identity.clone(), seen: None },
            config,
            until: sender,
        };
        let mut rounds = tokio::time::interval(PERIOD);
        rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = rounds.tick() => candidate.round().await,
                () = drain.requested() => break,
            }
        }
        candidate.give_back().await;
        drop(guard);
    });
    Leadership { until }
}

struct Candidate {
    api: Api<Lease>,
    config: LeaseConfig,
    election: Election,
    until: watch::Sender<Option<Instant>>,
}

// === impl Leadership ===

impl Leadership {
    /// One who leads always: for what nobody competes with.
    pub fn unopposed() -> Self {
        let far = Instant::now().checked_add(Duration::from_secs(365 * 24 * 3_600));
        // The sender may go: the last value stays.
        let (_, until) = watch::channel(far);
        Self { until }
    }

    /// Whether this instance leads now, and may begin a write.
    pub fn holds(&self) -> bool {
        self.until.borrow().is_some_and(|until| Instant::now() < until)
    }

    /// Waits until this instance leads. Never returns once the election is over.
    pub async fn gained(&mut self) {
        let held = |until: &Option<Instant>| until.is_some_and(|until| Instant::now() < until);
        if self.until.wait_for(held).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits until this instance leads no more.
    pub async fn lost(&mut self) {
        loop {
            let Some(until) = *self.until.borrow_and_update() else { return };
            if Instant::now() >= until {
                return;
            }
            tokio::select! {
                changed = self.until.changed() => if changed.is_err() { tokio::time::sleep_until(until.into()).await },
                () = tokio::time::sleep_until(until.into()) => {}
            }
        }
    }
}

// === impl Candidate ===

impl Candidate {
    async fn round(&mut self) {
        let begun = Instant::now();
        match self.try_round().await {
            Ok(true) => {
                if self.until.send_replace(begun.checked_add(RENEW_DEADLINE)).is_none() {
                    tracing::info!(lease = self.config.name, "this instance leads");
                }
            }
            Ok(false) => self.step_down(),
            Err(error) => {
                tracing::warn!(%error, lease = self.config.name, "the Lease could not be read or written; trying again");
                if self.until.borrow().is_some_and(|until| Instant::now() >= until) {
                    self.step_down();
                }
            }
        }
    }

    /// Whether the Lease is ours.
    async fn try_round(&mut self) -> Result<bool, LeaseError> {
        let Some(lease) = answered(self.api.get_opt(&self.config.name)).await? else {
            let metadata = ObjectMeta { name: Some(self.config.name.clone()), ..ObjectMeta::default() };
            let lease = Lease { metadata, spec: Some(self.spec(None)) };
            return written(answered(self.api.create(&PostParams::default(), &lease)).await);
        };
        match self.election.judge(&lease, Instant::now()) {
            Turn::Follow => Ok(false),
            Turn::Take | Turn::Renew => self.replace(lease).await,
        }
    }

    /// Puts our name into the version that was read.
    async fn replace(&self, mut lease: Lease) -> Result<bool, LeaseError> {
        lease.spec = Some(self.spec(lease.spec.as_ref()));
        lease.metadata.managed_fields = None;
        written(answered(self.api.replace(&self.config.name, &PostParams::default(), &lease)).await)
    }

    fn spec(&self, before: Option<&LeaseSpec>) -> LeaseSpec {
        let now = Some(MicroTime(Timestamp::now()));
        let ours = before.filter(|it| it.holder_identity.as_deref() == Some(&*self.config.identity));
        let terms = before.and_then(|it| it.lease_transitions).unwrap_or_default();
        LeaseSpec {
            holder_identity: Some(self.config.identity.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: ours.map_or_else(|| now.clone(), |it| it.acquire_time.clone()),
            renew_time: now.clone(),
            lease_transitions: Some(if ours.is_some() || before.is_none() { terms } else { terms.saturating_add(1) }),
            ..LeaseSpec::default()
        }
    }

    fn step_down(&self) {
        if self.until.send_replace(None).is_some() {
            tracing::warn!(lease = self.config.name, "this instance leads no more");
        }
    }

    /// Lets others have it at once, where it is ours.
    async fn give_back(&mut self) {
        let held = self.until.send_replace(None);
        if held.is_none() {
            return;
        }
        let Ok(Some(mut lease)) = answered(self.api.get_opt(&self.config.name)).await else { return };
        if self.election.judge(&lease, Instant::now()) == Turn::Renew {
            if let Some(spec) = &mut lease.spec {
                spec.holder_identity = None;
            }
            lease.metadata.managed_fields = None;
            // Who does not get it now gets it when it runs out.
            let _ = answered(self.api.replace(&self.config.name, &PostParams::default(), &lease)).await;
        }
    }
}

// === impl Election ===

impl Election {
    fn judge(&mut self, lease: &Lease, now: Instant) -> Turn {
        let version = lease.resource_version().unwrap_or_default();
        let since = match &self.seen {
            Some((seen, since)) if *seen == version => *since,
            _ => {
                self.seen = Some((version, now));
                now
            }
        };
        let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default();
        match holder {
            "" => Turn::Take,
            holder if holder == self.identity => Turn::Renew,
            _ if now.duration_since(since) >= DURATION => Turn::Take,
            _ => Turn::Follow,
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum LeaseError {
    #[error(transparent)]
    Kube(#[from] kube::Error),
    #[error("no answer within {ANSWER:?}")]
    Silent,
}

async fn answered<T>(answer: impl Future<Output = kube::Result<T>>) -> Result<T, LeaseError> {
    timeout(ANSWER, answer).await.map_err(|_| LeaseError::Silent)?.map_err(LeaseError::Kube)
}

/// Whether a write was taken; one that came too late was somebody else's turn.
fn written<T>(answer: Result<T, LeaseError>) -> Result<bool, LeaseError> {
    match answer {
        Ok(_) => Ok(true),
        Err(LeaseError::Kube(kube::Error::Api(status))) if status.is_conflict() || status.is_already_exists() => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(version: u32, holder: &str) -> Lease {
        let holder_identity = (!holder.is_empty()).then(|| holder.to_owned());
        Lease {
            metadata: ObjectMeta { resource_version: Some(version.to_string()), ..ObjectMeta::default() },
            spec: Some(LeaseSpec { holder_identity, ..LeaseSpec::default() }),
        }
    }

    fn seconds(start: Instant, seconds: u64) -> Instant {
        start.checked_add(Duration::from_secs(seconds)).unwrap()
    }

    #[test]
    fn a_lease_is_taken_only_when_its_holder_was_silent_for_the_whole_duration() {
        let start = Instant::now();
        let mut election = Election { identity: "a".to_owned(), seen: None };
        assert_eq!(election.judge(&lease(1, "b"), start), Turn::Follow);
        assert_eq!(election.judge(&lease(1, "b"), seconds(start, 9)), Turn::Follow);
        assert_eq!(election.judge(&lease(2, "b"), seconds(start, 10)), Turn::Follow, "it was renewed");
        assert_eq!(election.judge(&lease(2, "b"), seconds(start, 19)), Turn::Follow);
        assert_eq!(election.judge(&lease(2, "b"), seconds(start, 20)), Turn::Take);
    }

    #[test]
    fn a_free_lease_is_taken_and_ones_own_is_renewed_at_once() {
        let now = Instant::now();
        let mut election = Election { identity: "a".to_owned(), seen: None };
        assert_eq!(election.judge(&lease(1, ""), now), Turn::Take);
        assert_eq!(election.judge(&lease(2, "a"), now), Turn::Renew);
    }

    #[test]
    fn a_term_ends_before_anybody_else_can_hold_the_lease() {
        assert!(RENEW_DEADLINE + ANSWER <= DURATION, "an answer that is still under way at the end is counted");
        assert!(DURATION + PERIOD + ANSWER <= Duration::from_secs(15), "takeover");
    }

    #[tokio::test]
    async fn a_term_that_is_not_renewed_is_lost_by_itself() {
        let (sender, until) = watch::channel(Instant::now().checked_add(Duration::from_millis(30)));
        let mut leadership = Leadership { until };
        assert!(leadership.holds());
        leadership.lost().await;
        assert!(!leadership.holds());
        sender.send_replace(None);
        leadership.lost().await;
    }
}
