//! New pods that fail: how failures are told apart, and what becomes of a release that has such pods.

#![expect(unreachable_pub, reason = "the derive of KubeSchema writes a type a second time, inside a function")]

use std::time::Duration;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::moment::Moment;

/// The longest pause before a pod is recreated.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// What becomes of new pods that fail while a release is under way. Without a word, they are recreated until they succeed.
/// Whatever it is, a release that makes no progress for `progressDeadlineSeconds` has failed.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "[has(self.fail), has(self.recreate), has(self.ignore)].filter(it, it).size() <= 1"
).message("give at most one of fail, recreate and ignore"))]
pub struct FailurePolicy {
    /// A pod that is not ready for so long has failed, even if nothing says that it has: a hook that hangs, no room on any
    /// node. What crashes, has no image or lost its node has failed at once.
    #[serde(default = "five_minutes")]
    #[schemars(range(min = 1, max = 86_400))]
    pub stuck_seconds: u32,
    /// The release fails with the first such pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fail: Option<FailPods>,
    /// Such pods are deleted, so that others take their place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recreate: Option<RecreatePods>,
    /// Some such pods are not waited for: as many old ones stay, with their part of the traffic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ignore: Option<IgnorePods>,
}

/// The release fails with the first pod that does.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
pub struct FailPods {}

/// Pods that fail are deleted, so that others take their place; but for those that no node takes.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RecreatePods {
    /// How often one place is filled anew before the release has failed. Absent: as often as it takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000))]
    pub max_per_pod: Option<u32>,
    /// How many pods are recreated before the release has failed. Absent: as many as it takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100_000))]
    pub max_total: Option<u32>,
    /// How long a pod has failed before it is recreated; doubled each time that its place is filled anew, up to five minutes.
    #[serde(default = "ten")]
    #[schemars(range(max = 300))]
    pub backoff_seconds: u32,
}

/// Some pods that fail are not waited for.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IgnorePods {
    /// At most so many percent of the App's count, rounded down.
    #[schemars(range(min = 1, max = 99))]
    pub max_ratio: u32,
}

/// What is wrong with a pod.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum FailureCause {
    /// No node takes it.
    Unschedulable,
    /// An image cannot be pulled.
    ImagePull,
    /// A hook: an init container or a postStart hook fails, or does not end.
    Hook,
    /// A container ends again and again.
    CrashLoop,
    /// A container was killed for its memory.
    OutOfMemory,
    /// Its node does not answer, or threw it out.
    NodeGone,
    /// A container cannot be made from what the pod says.
    Config,
    /// It runs and does not become ready.
    NotReady,
    /// Nothing but that it has not started yet.
    Starting,
}

/// A pod that was deleted because it had failed.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RecreatedPod {
    /// Its name.
    pub name: String,
    /// Its identity.
    pub uid: String,
    /// What was wrong.
    pub cause: FailureCause,
    /// In people's words, with the last lines of its log where they could be had.
    pub why: String,
    /// When that was decided.
    pub at: Moment,
    /// How often its place has been filled anew with this one.
    pub attempt: u32,
}

// === impl FailurePolicy ===

impl Default for FailurePolicy {
    fn default() -> Self {
        Self { stuck_seconds: five_minutes(), fail: None, recreate: None, ignore: None }
    }
}

impl FailurePolicy {
    /// After how long a pod that says nothing has failed.
    pub fn stuck(&self) -> Duration {
        Duration::from_secs(self.stuck_seconds.into())
    }

    /// How pods are recreated; `None` where they are not.
    pub fn recreates(&self) -> Option<RecreatePods> {
        let silent = self.fail.is_none() && self.ignore.is_none();
        self.recreate.clone().or_else(|| silent.then(RecreatePods::default))
    }

    /// How many of so many pods may be ignored.
    pub fn ignores(&self, count: u32) -> u32 {
        let percent = self.ignore.as_ref().map(|it| it.max_ratio).unwrap_or_default();
        u32::try_from(u64::from(count) * u64::from(percent) / 100).unwrap_or(count)
    }
}

// === impl RecreatePods ===

impl Default for RecreatePods {
    fn default() -> Self {
        Self { max_per_pod: None, max_total: None, backoff_seconds: ten() }
    }
}

impl RecreatePods {
    /// How long a pod has failed before its place is filled anew for this time, the first being 1.
    pub fn pause(&self, attempt: u32) -> Duration {
        let doubled = 1_u32 << attempt.saturating_sub(1).min(10);
        Duration::from_secs(self.backoff_seconds.into()).saturating_mul(doubled).min(LONGEST_PAUSE)
    }
}

fn ten() -> u32 {
    10
}

fn five_minutes() -> u32 {
    300
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_word_pods_are_recreated_and_pauses_double() {
        let policy: FailurePolicy = serde_json::from_str("{}").unwrap();
        assert_eq!(policy, FailurePolicy::default());
        let recreate = policy.recreates().unwrap();
        let pauses: Vec<u64> = [1, 2, 3, 5, 6, 99].map(|attempt| recreate.pause(attempt).as_secs()).to_vec();
        assert_eq!(pauses, [10, 20, 40, 160, 300, 300]);
        let policy: FailurePolicy = serde_json::from_str(r#"{"ignore": {"maxRatio": 25}}"#).unwrap();
        assert_eq!((policy.recreates(), policy.ignores(7), policy.ignores(3)), (None, 1, 0));
    }
}
