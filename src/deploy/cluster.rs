//! A cluster's API server, by a kubeconfig.

use std::pin::pin;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Resource, ResourceExt};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::Access;
use super::client::{Client, Count, Counts};
use super::error::DeployError;
use crate::control::children::{APP_LABEL, REVISION_LABEL};
use crate::control::resource::app::App;
use crate::control::resource::approval::Approval;
use crate::control::resource::catalogue::AppTemplate;
use crate::control::resource::release::Release;
use crate::kubernetes::Namespaced;

/// For one answer.
const ANSWER: Duration = Duration::from_secs(15);
/// Who the API server notes as having written.
const MANAGER: &str = "tidegate-cli";

/// A client of one API server.
pub(super) struct Cluster {
    client: kube::Client,
}

/// The client, and the namespace that is meant.
pub(super) async fn connect(access: &Access) -> Result<(Cluster, String), DeployError> {
    let told = |error: &dyn std::fmt::Display| DeployError::Access(error.to_string());
    let options = KubeConfigOptions { context: access.context.clone(), ..KubeConfigOptions::default() };
    let mut config = match (&access.kubeconfig, &access.context) {
        (Some(path), _) => {
            let file = Kubeconfig::read_from(path).map_err(|error| told(&error))?;
            kube::Config::from_custom_kubeconfig(file, &options).await.map_err(|error| told(&error))?
        }
        (None, Some(_)) => kube::Config::from_kubeconfig(&options).await.map_err(|error| told(&error))?,
        (None, None) => kube::Config::infer().await.map_err(|error| told(&error))?,
    };
    // What is refused is told at once.
    config.default_retry = false;
    let namespace = access.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
    let client = kube::Client::try_from(config).map_err(|error| told(&error))?;
    Ok((Cluster { client }, namespace))
}

// === impl Cluster ===

impl Cluster {
    fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: Namespaced,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    async fn list<K>(&self, namespace: &str, params: &ListParams) -> Result<Vec<K>, DeployError>
    where
        K: Namespaced,
    {
        let what = || format!("cannot read the {} of namespace {namespace}", K::plural(&()));
        answered(what, self.api::<K>(namespace).list(params)).await?.map(|it| it.items).ok_or_else(missing::<K>)
    }

    /// `None` where there is none.
    async fn get<K>(&self, namespace: &str, name: &str) -> Result<Option<K>, DeployError>
    where
        K: Namespaced,
    {
        let what = || format!("cannot read {} {namespace}/{name}", K::kind(&()));
        answered(what, self.api::<K>(namespace).get(name)).await
    }
}

impl Client for Cluster {
    async fn apps(&self, namespace: &str) -> Result<Vec<App>, DeployError> {
        self.list(namespace, &ListParams::default()).await
    }

    async fn app(&self, namespace: &str, name: &str) -> Result<Option<App>, DeployError> {
        self.get(namespace, name).await
    }

    async fn apply(&self, namespace: &str, app: &Value, only_say: bool) -> Result<App, DeployError> {
        let name = app.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
        // A field that no App has is refused: it is somebody's slip.
        let params = PatchParams::apply(MANAGER).force().validation_strict();
        let params = PatchParams { dry_run: only_say, ..params };
        let what = || format!("cannot apply App {namespace}/{name}");
        let (api, patch) = (self.api::<App>(namespace), Patch::Apply(app));
        answered(what, api.patch(name, &params, &patch)).await?.ok_or_else(missing::<App>)
    }

    async fn template(&self, namespace: &str, name: &str) -> Result<Option<AppTemplate>, DeployError> {
        self.get(namespace, name).await
    }

    async fn releases(&self, namespace: &str) -> Result<Vec<Release>, DeployError> {
        self.list(namespace, &ListParams::default()).await
    }

    async fn release(&self, namespace: &str, name: &str) -> Result<Option<Release>, DeployError> {
        self.get(namespace, name).await
    }

    async fn next(&self, seen: &Release, patience: Duration) -> Result<Option<Release>, DeployError> {
        let (namespace, name) = (seen.namespace().unwrap_or_default(), seen.name_any());
        let params = WatchParams::default().fields(&format!("metadata.name={name}"));
        let (api, version) = (self.api::<Release>(&namespace), seen.resource_version().unwrap_or_default());
        let first = async {
            let mut events = pin!(api.watch(&params, &version).await.ok()?);
            match events.next().await?.ok()? {
                WatchEvent::Added(release) | WatchEvent::Modified(release) => Some(release),
                _ => None,
            }
        };
        let began = Instant::now();
        match timeout(patience, first).await {
            Err(_) => Ok(None),
            Ok(Some(release)) => Ok(Some(release)),
            // Too old, ended or refused: what is there now tells, not more often than was asked for.
            Ok(None) => {
                tokio::time::sleep(patience.saturating_sub(began.elapsed())).await;
                let found = self.release(&namespace, &name).await?;
                found.map(Some).ok_or_else(|| DeployError::Unknown(format!("Release {namespace}/{name} is gone")))
            }
        }
    }

    async fn create(&self, namespace: &str, release: &Release) -> Result<Option<Release>, DeployError> {
        let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        let api = self.api::<Release>(namespace);
        let created = async {
            match api.create(&params, release).await {
                Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(None),
                created => created.map(Some),
            }
        };
        let what = || format!("cannot create a Release in namespace {namespace}");
        answered(what, created).await?.ok_or_else(missing::<Release>)
    }

    async fn control(&self, seen: &Release, fields: &Value) -> Result<Option<Release>, DeployError> {
        let (namespace, name) = (seen.namespace().unwrap_or_default(), seen.name_any());
        let patch = json!({"metadata": {"resourceVersion": seen.resource_version()}, "spec": {"control": fields}});
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let what = || format!("cannot change Release {namespace}/{name}");
        let api = self.api::<Release>(&namespace);
        let patch = Patch::Merge(patch);
        let patched = async {
            match api.patch(&name, &params, &patch).await {
                Err(kube::Error::Api(status)) if status.is_conflict() => Ok(None),
                patched => patched.map(Some),
            }
        };
        answered(what, patched)
            .await?
            .ok_or_else(|| DeployError::Unknown(format!("Release {namespace}/{name} is gone")))
    }

    async fn approve(&self, namespace: &str, approval: &Approval) -> Result<Approval, DeployError> {
        let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        let api = self.api::<Approval>(namespace);
        let what = || format!("cannot give a word in namespace {namespace}");
        answered(what, api.create(&params, approval)).await?.ok_or_else(missing::<Approval>)
    }

    async fn user(&self) -> Result<String, DeployError> {
        let what = || "cannot ask the API server who this is".to_owned();
        let api: Api<SelfSubjectReview> = Api::all(self.client.clone());
        let asked = SelfSubjectReview::default();
        let review = answered(what, api.create(&PostParams::default(), &asked)).await?;
        let user = review.and_then(|it| it.status).and_then(|it| it.user_info).and_then(|it| it.username);
        user.ok_or_else(|| DeployError::Unknown("the API server does not say who this is".to_owned()))
    }

    async fn counts(&self, namespace: &str, app: &str) -> Result<Counts, DeployError> {
        let ours = ListParams::default().labels(&format!("{APP_LABEL}={app}"));
        let one = |it: Deployment| {
            let revision = it.labels().get(REVISION_LABEL)?.clone();
            let count = |count: Option<i32>| u32::try_from(count.unwrap_or_default()).unwrap_or_default();
            let wanted = count(it.spec.and_then(|spec| spec.replicas));
            let ready = count(it.status.and_then(|status| status.available_replicas)).min(wanted);
            Some((revision, Count { wanted, ready }))
        };
        Ok(self.list::<Deployment>(namespace, &ours).await?.into_iter().filter_map(one).collect())
    }
}

fn missing<K: Resource<DynamicType = ()>>() -> DeployError {
    match &*K::kind(&()) {
        "App" => DeployError::NotInstalled("Apps"),
        "Release" => DeployError::NotInstalled("Releases"),
        "Approval" => DeployError::NotInstalled("Approvals"),
        kind => DeployError::Unknown(format!("the cluster knows no {kind}")),
    }
}

/// An answer within its time; `None` where the API server says that there is no such thing.
async fn answered<T>(
    what: impl Fn() -> String,
    answer: impl Future<Output = kube::Result<T>>,
) -> Result<Option<T>, DeployError> {
    let failed = |cause: String| DeployError::Unreachable { what: what(), cause };
    match timeout(ANSWER, answer).await {
        Err(_) => Err(failed(format!("the API server has not answered for {} s", ANSWER.as_secs()))),
        Ok(Ok(it)) => Ok(Some(it)),
        Ok(Err(kube::Error::Api(status))) if status.is_not_found() => Ok(None),
        Ok(Err(kube::Error::Api(status))) if matches!(status.code, 401 | 403) => {
            Err(DeployError::Forbidden { what: what(), cause: status.message.clone() })
        }
        Ok(Err(kube::Error::Api(status))) => Err(DeployError::Refused { what: what(), cause: status.message.clone() }),
        Ok(Err(error)) => Err(failed(chain(&error))),
    }
}

/// An error with what caused it: a client's own says little.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}
