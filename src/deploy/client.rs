//! What the commands need of whoever keeps Apps and Releases.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::error::DeployError;
use crate::control::resource::app::App;
use crate::control::resource::approval::Approval;
use crate::control::resource::catalogue::AppTemplate;
use crate::control::resource::release::Release;

/// Pods of a revision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    /// Asked for.
    pub(super) wanted: u32,
    /// Available.
    pub(super) ready: u32,
}

/// By revision.
pub(super) type Counts = BTreeMap<String, Count>;

/// Whoever keeps them. Each call is one request with a time limit of its own.
pub(super) trait Client {
    /// All Apps of a namespace, by their names.
    async fn apps(&self, namespace: &str) -> Result<Vec<App>, DeployError>;

    /// One App; `None` where there is none.
    async fn app(&self, namespace: &str, name: &str) -> Result<Option<App>, DeployError>;

    /// Applies an App whole, or only says what it would be then.
    async fn apply(&self, namespace: &str, app: &Value, only_say: bool) -> Result<App, DeployError>;

    /// One AppTemplate; `None` where there is none.
    async fn template(&self, namespace: &str, name: &str) -> Result<Option<AppTemplate>, DeployError>;

    /// All Releases of a namespace, in no order.
    async fn releases(&self, namespace: &str) -> Result<Vec<Release>, DeployError>;

    /// One Release; `None` where there is none.
    async fn release(&self, namespace: &str, name: &str) -> Result<Option<Release>, DeployError>;

    /// The version of a Release that came after the one that was seen; `None` where none came for so long.
    async fn next(&self, seen: &Release, patience: Duration) -> Result<Option<Release>, DeployError>;

    /// Makes a Release; `None` where its name is taken.
    async fn create(&self, namespace: &str, release: &Release) -> Result<Option<Release>, DeployError>;

    /// Changes fields of a Release's `spec.control`, if it is still the version that was seen; `None` where it is not.
    async fn control(&self, seen: &Release, fields: &Value) -> Result<Option<Release>, DeployError>;

    /// Gives a word; its name is made by the server, from what `metadata.generateName` begins it with.
    async fn approve(&self, namespace: &str, approval: &Approval) -> Result<Approval, DeployError>;

    /// Who asks, as the server knows them.
    async fn user(&self) -> Result<String, DeployError>;

    /// The pods of an App's revisions.
    async fn counts(&self, namespace: &str, app: &str) -> Result<Counts, DeployError>;
}
