//! A keeper of Apps and Releases in memory, for tests of what commands ask for.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use kube::ResourceExt;
use serde_json::{Value, json};

use super::client::{Client, Counts};
use super::error::DeployError;
use crate::control::resource::app::App;
use crate::control::resource::approval::Approval;
use crate::control::resource::catalogue::AppTemplate;
use crate::control::resource::release::Release;

/// What is kept.
#[derive(Default)]
pub(super) struct Fake {
    pub(super) apps: Vec<App>,
    pub(super) templates: Vec<AppTemplate>,
    /// What was applied.
    pub(super) applied: Mutex<Vec<Value>>,
    pub(super) releases: Mutex<Vec<Release>>,
    pub(super) approvals: Mutex<Vec<Approval>>,
    /// What the others do at each creation, before it: a Release of this name is made.
    pub(super) faster: Mutex<Vec<String>>,
}

/// An App `NAMESPACE/NAME` of one container, with a history.
pub(super) fn app(namespace: &str, name: &str) -> App {
    let template = json!({"spec": {"containers": [
        {"name": "web", "image": "web:0", "ports": [{"name": "http", "containerPort": 8080}]},
    ]}});
    let it = json!({
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"replicas": 3, "template": template, "port": "http", "strategy": {"blueGreen": {}}},
    });
    serde_json::from_value(it).unwrap()
}

/// A Release of shop/web with this status; those made later have later names.
pub(super) fn release(name: &str, image: &str, status: Value) -> Release {
    let template = json!({"spec": {"containers": [
        {"name": "web", "image": image, "ports": [{"name": "http", "containerPort": 8080}]},
    ]}});
    let it = json!({
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"app": "web", "image": image, "template": template, "port": "http", "strategy": {"blueGreen": {}}},
        "status": status,
    });
    serde_json::from_value(it).unwrap()
}

// === impl Fake ===

impl Client for Fake {
    async fn apps(&self, namespace: &str) -> Result<Vec<App>, DeployError> {
        Ok(self.apps.iter().filter(|it| it.namespace().as_deref() == Some(namespace)).cloned().collect())
    }

    async fn app(&self, namespace: &str, name: &str) -> Result<Option<App>, DeployError> {
        Ok(self.apps(namespace).await?.into_iter().find(|it| it.name_any() == name))
    }

    async fn apply(&self, _: &str, app: &Value, only_say: bool) -> Result<App, DeployError> {
        if !only_say {
            self.applied.lock().unwrap().push(app.clone());
        }
        Ok(serde_json::from_value(app.clone()).unwrap())
    }

    async fn template(&self, namespace: &str, name: &str) -> Result<Option<AppTemplate>, DeployError> {
        let of = |it: &&AppTemplate| it.namespace().as_deref() == Some(namespace) && it.name_any() == name;
        Ok(self.templates.iter().find(of).cloned())
    }

    async fn releases(&self, namespace: &str) -> Result<Vec<Release>, DeployError> {
        let all = self.releases.lock().unwrap();
        Ok(all.iter().filter(|it| it.namespace().as_deref() == Some(namespace)).cloned().collect())
    }

    async fn release(&self, namespace: &str, name: &str) -> Result<Option<Release>, DeployError> {
        Ok(self.releases(namespace).await?.into_iter().find(|it| it.name_any() == name))
    }

    async fn next(&self, seen: &Release, patience: Duration) -> Result<Option<Release>, DeployError> {
        tokio::time::sleep(patience).await;
        let now = self.release("shop", &seen.name_any()).await?;
        Ok(now.filter(|it| it != seen))
    }

    async fn create(&self, namespace: &str, made: &Release) -> Result<Option<Release>, DeployError> {
        let mut all = self.releases.lock().unwrap();
        if let Some(name) = self.faster.lock().unwrap().pop() {
            all.push(release(&name, "web:other", json!({"phase": "Progressing"})));
        }
        let mut made = made.clone();
        made.metadata.namespace = Some(namespace.to_owned());
        if all.iter().any(|it| (it.namespace(), it.name_any()) == (made.namespace(), made.name_any())) {
            return Ok(None);
        }
        all.push(made.clone());
        Ok(Some(made))
    }

    async fn control(&self, seen: &Release, fields: &Value) -> Result<Option<Release>, DeployError> {
        let mut all = self.releases.lock().unwrap();
        let Some(it) = all.iter_mut().find(|it| it.name_any() == seen.name_any()) else { return Ok(None) };
        if it != seen {
            return Ok(None);
        }
        let mut control = serde_json::to_value(&it.spec.control).unwrap();
        control.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        it.spec.control = serde_json::from_value(control).unwrap();
        Ok(Some(it.clone()))
    }

    async fn approve(&self, _: &str, approval: &Approval) -> Result<Approval, DeployError> {
        self.approvals.lock().unwrap().push(approval.clone());
        Ok(approval.clone())
    }

    async fn user(&self) -> Result<String, DeployError> {
        Ok("ann".to_owned())
    }

    async fn counts(&self, _: &str, _: &str) -> Result<Counts, DeployError> {
        Ok(BTreeMap::new())
    }
}
