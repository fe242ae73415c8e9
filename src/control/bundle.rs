//! Everything of one App at one time, from caches or asked for anew, and what the planner sees of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::ResourceExt;

use super::children::{REVISION_LABEL, traffic_of};
use super::plan::{Goal, Observed, Revision, Traffic};
use super::resource::app::{App, AppStatus, Routing};
use super::resource::approval::{Approval, RolloutBlock, Verdict};
use super::resource::moment::Moment;
use super::resource::release::{Release, ReleaseStatus, order};
use super::resource::revision::{has_image, revision_of};
use super::resource::scale::AppScale;
use super::stable;
use super::standing::{is_observed, standing, target_of};
use super::trouble::ailing;
use crate::kubernetes::policy::TrafficPolicy;

/// The objects.
#[derive(Clone, Debug)]
pub(super) struct Bundle {
    pub(super) app: App,
    /// The newest last.
    pub(super) releases: Vec<Release>,
    pub(super) deployments: Vec<Deployment>,
    /// Those of its Deployments; read only with what is asked for anew.
    pub(super) sets: Vec<ReplicaSet>,
    pub(super) policy: Option<TrafficPolicy>,
    /// The Service of the App's name; read only where that is what is switched.
    pub(super) stable: Option<Service>,
    /// How many pods its autoscaler wants.
    pub(super) scale: Option<AppScale>,
    pub(super) autoscaler: Option<HorizontalPodAutoscaler>,
    pub(super) budget: Option<PodDisruptionBudget>,
    pub(super) pods: Vec<Pod>,
    pub(super) approvals: Vec<Approval>,
    pub(super) blocks: Vec<RolloutBlock>,
}

// === impl Bundle ===

impl Bundle {
    /// An App of which nothing else is known.
    pub(super) fn of(app: App) -> Self {
        Self {
            app,
            releases: Vec::new(),
            deployments: Vec::new(),
            sets: Vec::new(),
            policy: None,
            stable: None,
            scale: None,
            autoscaler: None,
            budget: None,
            pods: Vec::new(),
            approvals: Vec::new(),
            blocks: Vec::new(),
        }
    }

    /// The release that holds: the newest.
    pub(super) fn newest(&self) -> Option<&Release> {
        self.releases.last()
    }

    /// The revision of a release: of what its pods are made from when it begins.
    pub(super) fn revision(release: &Release) -> String {
        let begun = release.status.as_ref().and_then(|status| status.revision.clone());
        begun.unwrap_or_else(|| revision_of(&release.spec.template))
    }

    pub(super) fn goal(&self, release: &Release, acknowledge_timeout: Duration) -> Goal {
        let spec = &release.spec;
        Goal {
            app: format!("{}/{}", self.app.namespace().unwrap_or_default(), self.app.name_any()),
            release: release.name_any(),
            revision: Self::revision(release),
            strategy: spec.strategy.clone(),
            rollback: spec.rollback,
            promoted: spec.promoted_from.is_some(),
            control: spec.control.clone(),
            held: None,
            on_failure: spec.on_failure,
            failure_policy: spec.failure_policy.clone(),
            progress_deadline: Duration::from_secs(spec.progress_deadline_seconds.into()),
            acknowledge_timeout,
            history_limit: usize::try_from(self.app.spec.revision_history_limit).unwrap_or(usize::MAX),
        }
    }

    /// What the planner sees, but for what hubs and gates say.
    pub(super) fn observe(&self, release: &Release, cluster: &str, now: Moment) -> Observed {
        let later = self.releases.iter().rev().find(|it| order(it) > order(release));
        Observed {
            now: Some(now),
            desired: self.desired(),
            revisions: self.revisions(),
            traffic: self.traffic(cluster),
            missing: Vec::new(),
            unpublished: None,
            unmatching: Vec::new(),
            gate: None,
            word: self.word(release, now),
            blocked: self.blocked(release, now),
            superseded_by: later.map(ResourceExt::name_any),
        }
    }

    /// How many pods are asked for.
    pub(super) fn desired(&self) -> u32 {
        let spec = &self.app.spec;
        let Some(autoscaling) = &spec.autoscaling else { return spec.replicas };
        autoscaling.bounded(self.scale.as_ref().map_or(spec.replicas, |scale| scale.spec.replicas))
    }

    /// The pods that stand behind a revision, as hubs name them.
    pub(super) fn standing(&self, revision: &str) -> BTreeSet<String> {
        standing(&self.pods, revision).map(target_of).collect()
    }

    /// Pods that all its Deployments ask for.
    pub(super) fn pods_wanted(&self) -> u32 {
        self.revisions().values().map(|it| it.replicas).sum()
    }

    /// Whether a deploy switches the Service of the App's name.
    pub(super) fn switches_service(&self) -> bool {
        self.app.spec.routing == Routing::Service
    }

    /// The traffic as it is.
    fn traffic(&self, cluster: &str) -> Option<Traffic> {
        match self.switches_service() {
            true => self.stable.as_ref().map(stable::traffic_of),
            false => self.policy.as_ref().map(|policy| traffic_of(policy, cluster)),
        }
    }

    fn revisions(&self) -> BTreeMap<String, Revision> {
        let one = |deployment: &Deployment| {
            let revision = deployment.labels().get(REVISION_LABEL)?.clone();
            let count = |count: Option<i32>| u32::try_from(count.unwrap_or_default()).unwrap_or_default();
            let replicas = count(deployment.spec.as_ref()?.replicas);
            let status = deployment.status.as_ref();
            let standing = u32::try_from(standing(&self.pods, &revision).count()).unwrap_or(u32::MAX);
            let ready = count(status.and_then(|it| it.available_replicas)).min(replicas).min(standing);
            let observed = is_observed(deployment, &revision, &self.sets);
            let of = |pod: &&Pod| pod.labels().get(REVISION_LABEL) == Some(&revision);
            let created = deployment.creation_timestamp().map(|at| Moment::from(at.0));
            let ailing = match ready < replicas {
                true => self.pods.iter().filter(of).filter_map(ailing).collect(),
                false => Vec::new(),
            };
            Some((revision, Revision { replicas, ready, observed, created, ailing }))
        };
        self.deployments.iter().filter(|it| it.metadata.deletion_timestamp.is_none()).filter_map(one).collect()
    }

    /// The live word: a rejection holds whatever else was said.
    fn word(&self, release: &Release, now: Moment) -> Option<(Verdict, String)> {
        let name = release.name_any();
        let live = self
            .approvals
            .iter()
            .map(|it| &it.spec)
            .filter(|it| it.release == name && it.image == release.spec.image && now < it.expires_at);
        let rejected_first = live.min_by_key(|it| it.verdict == Verdict::Approved);
        rejected_first.map(|it| (it.verdict, it.by.clone()))
    }

    fn blocked(&self, release: &Release, now: Moment) -> Option<String> {
        if !has_image(&release.spec.template, &release.spec.image) {
            return Some(format!("no container of its spec.template has its image {}", release.spec.image));
        }
        let begun = release.status.as_ref().and_then(|status| status.revision.as_ref());
        if begun.is_some_and(|begun| *begun != revision_of(&release.spec.template)) {
            return Some("its spec.template was changed after it had begun: create another Release".to_owned());
        }
        let app = self.app.name_any();
        let block = self.blocks.iter().find(|it| it.spec.holds(&app, now))?;
        Some(format!("RolloutBlock {} holds until {}: {}", block.name_any(), block.spec.until, block.spec.reason))
    }

    /// Every side of the traffic, with its share or its requests.
    pub(super) fn serving(&self, cluster: &str) -> Vec<(String, String)> {
        let traffic = self.traffic(cluster).unwrap_or_default();
        let shares = traffic.shares.iter().map(|(side, share)| (side.clone(), format!(":{share}")));
        let matched = traffic.matched.iter().map(|(side, requests)| (side.clone(), format!("[{requests}]")));
        shares.chain(matched).collect()
    }

    /// What is to be told of the App.
    pub(super) fn app_status(&self, cluster: &str, release: Option<&ReleaseStatus>) -> AppStatus {
        let revisions = self.revisions();
        let serving: Vec<String> = self.serving(cluster).iter().map(|(side, what)| format!("{side}{what}")).collect();
        let phase = release.map(|status| status.progress.phase).unwrap_or_default();
        AppStatus {
            replicas: self.pods_wanted(),
            ready_replicas: revisions.values().map(|it| it.ready).sum(),
            selector: format!("{}={}", super::children::APP_LABEL, self.app.name_any()),
            serving: serving.join(","),
            release: self.newest().map(|it| format!("{} {phase:?}", it.name_any())).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::control::children::deployment;
    use crate::control::children::tests::app_and_release;

    pub(in crate::control) fn bundle() -> Bundle {
        let (app, release) = app_and_release();
        Bundle { releases: vec![release], ..Bundle::of(app) }
    }

    fn now() -> Moment {
        Moment::from_millis(1_700_000_000_000)
    }

    fn of<T: serde::de::DeserializeOwned>(spec: &Value) -> T {
        serde_json::from_value(json!({"metadata": {"name": "it", "namespace": "shop"}, "spec": spec})).unwrap()
    }

    #[test]
    fn only_a_live_word_about_this_very_image_counts_and_a_rejection_beats_an_approval() {
        let mut bundle = bundle();
        let release = bundle.releases[0].clone();
        let word = |image: &str, verdict: &str, until: &str| {
            of(&json!({"release": "web-1", "image": image, "verdict": verdict, "by": "ann", "expiresAt": until}))
        };
        bundle.approvals =
            vec![word("web:2", "Approved", "2030-01-01T00:00:00Z"), word("web:1", "Approved", "2020-01-01T00:00:00Z")];
        assert_eq!(bundle.word(&release, now()), None);
        bundle.approvals.push(word("web:1", "Approved", "2030-01-01T00:00:00Z"));
        assert_eq!(bundle.word(&release, now()), Some((Verdict::Approved, "ann".to_owned())));
        bundle.approvals.push(word("web:1", "Rejected", "2030-01-01T00:00:00Z"));
        assert_eq!(bundle.word(&release, now()).map(|it| it.0), Some(Verdict::Rejected));
    }

    #[test]
    fn a_revision_has_the_pods_that_are_counted_and_stand_and_says_whether_its_controllers_have_acted() {
        let mut bundle = bundle();
        let mut there = deployment(&bundle.app, &bundle.releases[0], "0a", 3).unwrap();
        there.metadata.generation = Some(2);
        there.status =
            serde_json::from_value(json!({"observedGeneration": 2, "availableReplicas": 3, "replicas": 3})).unwrap();
        let labels = json!({REVISION_LABEL: "0a"});
        let pod = |name: &str| {
            let ready = json!({"conditions": [{"type": "Ready", "status": "True"}]});
            serde_json::from_value(
                json!({"metadata": {"name": name, "namespace": "shop", "labels": labels}, "status": ready}),
            )
            .unwrap()
        };
        (bundle.deployments, bundle.pods) = (vec![there], vec![pod("web-1"), pod("web-2")]);
        let seen = |bundle: &Bundle| bundle.revisions().remove("0a").unwrap();
        assert_eq!((seen(&bundle).replicas, seen(&bundle).ready, seen(&bundle).observed), (3, 2, true));
        assert_eq!(bundle.standing("0a"), BTreeSet::from(["shop/web-1".to_owned(), "shop/web-2".to_owned()]));
        let set = json!({
            "metadata": {"generation": 2, "labels": labels}, "spec": {"selector": {}},
            "status": {"observedGeneration": 1, "replicas": 3},
        });
        bundle.sets = vec![serde_json::from_value(set).unwrap()];
        assert!(!seen(&bundle).observed, "the ReplicaSet's has not");
        bundle.sets.clear();
        bundle.deployments[0].metadata.generation = Some(3);
        assert!(!seen(&bundle).observed, "the Deployment's has not");
    }

    #[test]
    fn a_template_that_changed_under_way_is_not_taken_for_what_was_gated() {
        let mut bundle = bundle();
        let mut release = bundle.releases[0].clone();
        assert_eq!(bundle.blocked(&release, now()), None);
        release.status =
            Some(ReleaseStatus { revision: Some(revision_of(&release.spec.template)), ..ReleaseStatus::default() });
        assert_eq!(bundle.blocked(&release, now()), None);
        release.spec.template["metadata"] = json!({"annotations": {"x": "y"}});
        assert!(bundle.blocked(&release, now()).unwrap().contains("changed"));
        release.spec.image = "web:9".to_owned();
        assert!(bundle.blocked(&release, now()).unwrap().contains("web:9"));
        release = bundle.releases[0].clone();
        bundle.blocks =
            vec![of(&json!({"from": "2023-01-01T00:00:00Z", "until": "2024-01-01T00:00:00Z", "reason": "the sale"}))];
        assert!(bundle.blocked(&release, now()).unwrap().contains("the sale"));
        bundle.blocks[0].spec.apps = vec!["other".to_owned()];
        assert_eq!(bundle.blocked(&release, now()), None);
    }
}
