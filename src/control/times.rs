//! Where the time of new pods went: from their conditions, their containers' states, and the kubelet's Events about images.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Event, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use kube::api::{Api, ListParams};

use super::apply::Server;
use super::bundle::Bundle;
use super::children::REVISION_LABEL;
use super::resource::moment::Moment;
use super::resource::progress::Progress;
use super::resource::release::Release;
use super::resource::times::PodTimes;

/// When things happened to a pod that is ready.
struct Seen {
    name: String,
    uid: String,
    created: Moment,
    scheduled: Moment,
    initialized: Moment,
    /// The last of its containers runs.
    running: Moment,
    ready: Moment,
    /// For how long its probes do not ask.
    delay: Duration,
}

/// The pulling of one image, from when to when.
type Pull = (Moment, Moment);

/// The times of a release that is at its end; `None` where no pod was made for it.
pub(super) async fn of_release(
    server: &Server,
    bundle: &Bundle,
    release: &Release,
    progress: &Progress,
) -> Option<PodTimes> {
    let (revision, began) = (Bundle::revision(release), progress.started_at?);
    let new = bundle.pods.iter().filter(|it| it.labels().get(REVISION_LABEL) == Some(&revision)).filter_map(seen);
    // The API server counts seconds: what was made in the first is made after its beginning.
    let new: Vec<Seen> = new.filter(|it| it.created.after(Duration::from_secs(1)) > began).collect();
    let slowest = new.iter().max_by_key(|it| it.ready.since(it.created))?;
    let pulls = pulls(server, &bundle.app.namespace().unwrap_or_default(), &slowest.uid).await;
    let mut times = slowest.split(&pulls);
    times.pods = u32::try_from(new.len()).unwrap_or(u32::MAX);
    let first = new.iter().map(|it| it.created).min()?;
    times.ours = seconds(first.since(began));
    Some(times)
}

/// What of its images was pulled; nothing where its Events cannot be read.
async fn pulls(server: &Server, namespace: &str, uid: &str) -> Vec<Pull> {
    let api: Api<Event> = Api::namespaced(server.client.clone(), namespace);
    let about = ListParams::default().fields(&format!("involvedObject.uid={uid}"));
    match server.answered(api.list(&about)).await {
        Ok(events) => pulls_of(&events.items),
        Err(error) => {
            tracing::debug!(%error, "the Events of a pod cannot be read: what it pulled is not told apart");
            Vec::new()
        }
    }
}

/// Each `Pulling` with the `Pulled` of the same container.
fn pulls_of(events: &[Event]) -> Vec<Pull> {
    let of = |reason: &'static str| events.iter().filter(move |it| it.reason.as_deref() == Some(reason));
    let pull = |began: &Event| {
        let same = |it: &&Event| it.involved_object.field_path == began.involved_object.field_path;
        let ends = of("Pulled").filter(same).filter_map(time_of);
        let began = time_of(began)?;
        Some((began, ends.filter(|it| *it >= began).min()?))
    };
    of("Pulling").filter_map(pull).collect()
}

fn time_of(event: &Event) -> Option<Moment> {
    let first = event.first_timestamp.as_ref().map(moment);
    first.or_else(|| event.event_time.as_ref().map(|at| Moment::from(at.0)))
}

fn moment(time: &Time) -> Moment {
    Moment::from(time.0)
}

fn seen(pod: &Pod) -> Option<Seen> {
    let status = pod.status.as_ref()?;
    let since = |kind: &str| {
        let found = status.conditions.iter().flatten().find(|it| it.type_ == kind && it.status == "True")?;
        found.last_transition_time.as_ref().map(moment)
    };
    let states = status.container_statuses.iter().flatten();
    let running = states.filter_map(|it| it.state.as_ref()?.running.as_ref()?.started_at.as_ref()).map(moment).max()?;
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    Some(Seen {
        name: pod.name_any(),
        uid: pod.uid().unwrap_or_default(),
        created: pod.creation_timestamp().as_ref().map(moment)?,
        scheduled: since("PodScheduled")?,
        initialized: since("Initialized")?,
        running,
        ready: since("Ready")?,
        delay: containers.map(delay).max().unwrap_or_default(),
    })
}

/// For how long a container's probes do not ask: the startup probe's delay, then the readiness probe's.
fn delay(container: &Container) -> Duration {
    let probes = [&container.startup_probe, &container.readiness_probe];
    let delays = probes.into_iter().flatten().filter_map(|it| it.initial_delay_seconds);
    Duration::from_secs(delays.filter_map(|it| u64::try_from(it).ok()).sum())
}

fn seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX)
}

// === impl Seen ===

impl Seen {
    /// Its parts. What was pulled is taken out of where it happened.
    fn split(&self, pulls: &[Pull]) -> PodTimes {
        let within = |from: Moment, to: Moment| -> Duration {
            pulls
                .iter()
                .filter(|(_, end)| *end > from && *end <= to)
                .map(|(start, end)| end.since((*start).max(from)))
                .sum()
        };
        let part = |from: Moment, to: Moment| {
            let (all, pulled) = (to.since(from), within(from, to));
            (all.saturating_sub(pulled), pulled.min(all))
        };
        let (init, pulled_before) = part(self.scheduled, self.initialized);
        let (made, pulled_then) = part(self.initialized, self.running);
        let own = self.ready.since(self.running.max(self.initialized));
        let probe_delay = self.delay.min(own);
        PodTimes {
            slowest: self.name.clone(),
            schedule: seconds(self.scheduled.since(self.created)),
            pull: seconds(pulled_before.saturating_add(pulled_then)),
            init: seconds(init),
            start: seconds(made.saturating_add(own.saturating_sub(probe_delay))),
            probe_delay: seconds(probe_delay),
            ..PodTimes::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn at(second: u32) -> String {
        format!("2026-01-01T00:00:{second:02}Z")
    }

    /// A pod that was scheduled after 2 s, initialized after 10, ran after 25 and was ready after 40.
    fn pod(delay: u32) -> Pod {
        let condition =
            |kind: &str, second: u32| json!({"type": kind, "status": "True", "lastTransitionTime": at(second)});
        let status = json!({
            "conditions": [condition("PodScheduled", 2), condition("Initialized", 10), condition("Ready", 40)],
            "containerStatuses": [{
                "name": "web", "image": "i", "imageID": "", "ready": true, "restartCount": 0,
                "state": {"running": {"startedAt": at(25)}},
            }],
        });
        let probe = json!({"initialDelaySeconds": delay, "httpGet": {"port": 80}});
        serde_json::from_value(json!({
            "metadata": {"name": "p", "uid": "u", "creationTimestamp": at(0)},
            "spec": {"containers": [{"name": "web", "readinessProbe": probe}]}, "status": status,
        }))
        .unwrap()
    }

    fn event(reason: &str, container: &str, second: u32) -> Value {
        json!({
            "metadata": {}, "reason": reason, "firstTimestamp": at(second),
            "involvedObject": {"uid": "u", "fieldPath": format!("spec.containers{{{container}}}")},
        })
    }

    #[test]
    fn the_parts_of_a_pods_time_add_up_to_it_and_pulls_are_taken_out_of_where_they_were() {
        let events = [
            event("Pulling", "migrate", 3),
            event("Pulled", "migrate", 8),
            event("Pulling", "web", 11),
            event("Pulled", "web", 23),
            event("Pulled", "log", 24),
        ];
        let events: Vec<Event> = events.into_iter().map(|it| serde_json::from_value(it).unwrap()).collect();
        let times = seen(&pod(6)).unwrap().split(&pulls_of(&events));
        let wanted = [("schedule", 2), ("pull", 17), ("init", 3), ("start", 12), ("probe_delay", 6), ("ours", 0)];
        assert_eq!(times.parts(), wanted);
        assert_eq!(times.parts().iter().map(|(_, it)| it).sum::<u32>(), 40);
    }

    #[test]
    fn without_events_pulls_are_part_of_what_they_held_up_and_a_delay_is_no_longer_than_the_start() {
        let times = seen(&pod(60)).unwrap().split(&[]);
        let wanted = [("schedule", 2), ("pull", 0), ("init", 8), ("start", 15), ("probe_delay", 15), ("ours", 0)];
        assert_eq!(times.parts(), wanted);
        let mut waiting = pod(0);
        waiting.status.as_mut().unwrap().conditions.as_mut().unwrap().pop();
        assert!(seen(&waiting).is_none(), "it is not ready");
    }
}
