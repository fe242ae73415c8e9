//! A release, watched until it is over: a line for each thing that changes.

use std::time::{Duration, Instant};

use kube::ResourceExt;

use super::Say;
use super::actions::{Begun, phase, status};
use super::client::Client;
use super::error::DeployError;
use super::text;
use crate::control::resource::moment::Moment;
use crate::control::resource::progress::{Action, Phase, Step};
use crate::control::resource::release::Release;

/// For another version of the release, before pods are looked at again.
const PERIOD: Duration = Duration::from_secs(1);
/// Without an answer for so long it is given up.
const BLIND: Duration = Duration::from_secs(60);

/// How a release is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// With all traffic.
    Healthy,
    /// With none.
    Back,
    /// However.
    Any,
}

/// How long is waited.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    until: Option<Instant>,
    period: Duration,
}

// === impl Patience ===

impl Patience {
    pub(super) fn new(timeout: Option<Duration>) -> Self {
        Self { until: timeout.and_then(|timeout| Instant::now().checked_add(timeout)), period: PERIOD }
    }

    #[cfg(test)]
    pub(super) fn impatient(timeout: Duration) -> Self {
        Self { period: Duration::from_millis(1), ..Self::new(Some(timeout)) }
    }

    fn is_over(self) -> bool {
        self.until.is_some_and(|until| Instant::now() >= until)
    }
}

/// Tells what changes until it has ended, or needs somebody who is not there.
pub(super) async fn until_over(
    client: &impl Client,
    begun: &Begun,
    patience: Patience,
    say: Say<'_>,
) -> Result<(), DeployError> {
    let name = begun.release.name_any();
    let (mut told, mut told_pods, mut blind) = (String::new(), String::new(), None);
    let mut release = begun.release.clone();
    loop {
        let line = text::progress(&release);
        if line != told {
            say(&format!("{}  {line}\n", clock()))?;
            told = line;
        }
        let over = is_over(&release, begun.wanted);
        let pods = match pods(client, begun, &release).await {
            Err(error) if over.is_none() => Err(error),
            pods => Ok(pods.unwrap_or_default()),
        };
        if let Ok(pods) = &pods
            && *pods != told_pods
        {
            say(&format!("{:8}  {pods}\n", ""))?;
            told_pods.clone_from(pods);
        }
        if let Some(over) = over {
            return over;
        }
        if patience.is_over() {
            let message = status(&release).progress.message;
            return Err(DeployError::Late(format!("{name} has not ended in time, and goes on: {message}")));
        }
        let next = match pods {
            Ok(_) => client.next(&release, patience.period).await,
            Err(error) => Err(error),
        };
        match next {
            Ok(next) => (release, blind) = (next.unwrap_or(release), None),
            Err(DeployError::Unreachable { what, cause }) => {
                if blind.is_none() {
                    say(&format!("{}  {what}: {cause}; trying again\n", clock()))?;
                }
                if blind.get_or_insert_with(Instant::now).elapsed() >= BLIND {
                    return Err(DeployError::Unreachable { what, cause });
                }
                tokio::time::sleep(patience.period).await;
            }
            Err(error) => return Err(error),
        }
    }
}

async fn pods(client: &impl Client, begun: &Begun, release: &Release) -> Result<String, DeployError> {
    let (namespace, app) = (&begun.namespace, &release.spec.app);
    let counts = client.counts(namespace, app).await?;
    let serving = client.app(namespace, app).await?.and_then(|it| it.status).map(|it| it.serving).unwrap_or_default();
    Ok(text::pods(release, &counts, &serving))
}

/// How it ended; `None` while it goes on, or has not heard yet what was asked of it.
fn is_over(release: &Release, wanted: Wanted) -> Option<Result<(), DeployError>> {
    let (name, status) = (release.name_any(), status(release).progress);
    let says = || format!("{name}: {}", status.message);
    Some(match (phase(release), wanted) {
        (Phase::Healthy, Wanted::Healthy) | (Phase::Healthy | Phase::Degraded | Phase::Superseded, Wanted::Any) => {
            Ok(())
        }
        (Phase::Degraded, Wanted::Back) if release.spec.control.abort && !has_left(release) => return None,
        (Phase::Degraded, Wanted::Back) => Ok(()),
        (Phase::Healthy | Phase::Degraded, _) => Err(DeployError::EndedOtherwise(says())),
        (Phase::Superseded, _) => Err(DeployError::Superseded(says())),
        (_, Wanted::Healthy) => {
            let failed = status.failure.as_ref().is_some_and(|it| it.retries >= release.spec.control.retries);
            if !failed || status.phase != Phase::Paused {
                return None;
            }
            Err(DeployError::Stopped(says()))
        }
        _ => return None,
    })
}

/// Whether an abort has been carried out: its plan is the one that ends without a new pod.
fn has_left(release: &Release) -> bool {
    let without_pods = |it: &Step| it.action == Action::ScaleNew && it.pods == Some(0);
    status(release).progress.plan.last().is_none_or(without_pods)
}

/// The time of day, as logs have it: UTC.
fn clock() -> String {
    let now = Moment::now().to_string();
    now.get(11..19).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::deploy::fake::release;

    fn ends(status: serde_json::Value, wanted: Wanted) -> Option<u8> {
        let it = release("web-1", "web:1", status);
        is_over(&it, wanted).map(|over| over.err().map(|error| error.exit_code()).unwrap_or_default())
    }

    #[test]
    fn each_end_has_its_exit_code() {
        let failed = || json!({"phase": "Paused", "failure": {"reason": "late", "retries": 0}});
        assert_eq!(ends(json!({"phase": "Healthy"}), Wanted::Healthy), Some(0));
        assert_eq!(ends(failed(), Wanted::Healthy), Some(3));
        assert_eq!(ends(json!({"phase": "Degraded"}), Wanted::Healthy), Some(4));
        assert_eq!(ends(json!({"phase": "Superseded"}), Wanted::Healthy), Some(5));
        assert_eq!(ends(json!({"phase": "Degraded"}), Wanted::Back), Some(0));
        assert_eq!(ends(json!({"phase": "Healthy"}), Wanted::Back), Some(4));
        for wanted in [Wanted::Healthy, Wanted::Back, Wanted::Any] {
            for phase in ["Pending", "Progressing", "Aborting", "Paused"] {
                assert_eq!(ends(json!({"phase": phase}), wanted), None, "{phase}");
            }
        }
        assert_eq!(ends(failed(), Wanted::Any), None, "who only looks on goes on looking");
    }

    #[test]
    fn what_was_asked_and_not_heard_yet_is_waited_for() {
        let mut resumed =
            release("web-1", "web:1", json!({"phase": "Paused", "failure": {"reason": "late", "retries": 0}}));
        resumed.spec.control.retries = 1;
        assert!(is_over(&resumed, Wanted::Healthy).is_none());
        let frozen = json!({"phase": "Degraded", "plan": [{"action": "AwaitOld"}]});
        let mut aborted = release("web-1", "web:1", frozen);
        aborted.spec.control.abort = true;
        assert!(is_over(&aborted, Wanted::Back).is_none());
        aborted.status.as_mut().unwrap().progress.plan =
            serde_json::from_value(json!([{"action": "ScaleNew", "pods": 0}])).unwrap();
        assert!(is_over(&aborted, Wanted::Back).is_some());
    }
}
