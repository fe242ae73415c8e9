//! Objects of an API server, followed: a list, then a watch from its version, for as long as it goes well, and again.
//!
//! Every watch is ended by the API server after a minute and begun anew, so that one on which nothing comes for longer is
//! known to be dead. Whatever goes wrong leads back to a list; until it has come, what is known may be old, and whoever
//! follows is told so.

pub mod lease;
pub mod policy;

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use k8s_openapi::NamespaceResourceScope;
use kube::api::{Api, ListParams, WatchEvent, WatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::base::drain::Drain;

/// How long the API server keeps a watch, in seconds, and when one that says nothing is dead.
const WATCH_SECONDS: u32 = 60;
const SILENCE: Duration = Duration::from_secs(75);
/// How long a list may take.
const ANSWER: Duration = Duration::from_secs(15);
/// Between tries: doubled from one to the other.
const PAUSE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// A watch that ends sooner was not let live, and is not begun anew without a pause.
const LEAST: Duration = Duration::from_secs(1);

/// What is asked of a kind of objects that are in namespaces.
pub trait Namespaced:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Send + Sync + 'static
{
}

impl<K> Namespaced for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static
{
}

/// Which objects to follow.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// The API server's; absent: the one of the cluster that this runs in.
    pub kubeconfig: Option<PathBuf>,
    /// Where they are; absent: everywhere.
    pub namespace: Option<String>,
    /// A field selector, as `spec.nodeName=n`; absent: all of them.
    pub fields: Option<String>,
    /// A label selector; absent: all of them.
    pub labels: Option<String>,
}

/// What is told of them.
#[derive(Debug)]
pub enum Heard<K> {
    /// These are all, and no others.
    Listed(Vec<K>),
    /// This one is new, or another than it was.
    Changed(K),
    /// This one is gone, or no longer wanted; as it was last.
    Deleted(K),
    /// Nothing new: what was told is true now.
    Confirmed,
    /// From now on what was told may be old.
    Lost(WatchError),
}

/// Why nothing more is heard.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The kubeconfig, or what a pod has in place of one.
    #[error("the API server cannot be reached: {0}")]
    Config(String),
    /// What the API server or the network says.
    #[error("{0}")]
    Kube(#[source] Box<kube::Error>),
    /// Nothing.
    #[error("no answer for {0:?}")]
    Silent(Duration),
    /// The watch was ended with a reason.
    #[error("the API server ended the watch: {0}")]
    Ended(String),
    /// The watch was ended without one.
    #[error("the API server ended the watch at once")]
    Cut,
}

/// Follows these objects until `drain` ends it.
pub async fn follow<K>(wanted: &Wanted, drain: &Drain, mut take: impl FnMut(Heard<K>))
where
    K: Namespaced,
{
    let mut pause = PAUSE.0;
    loop {
        let begun = Instant::now();
        let error = tokio::select! {
            error = listen(wanted, &mut take) => error,
            () = drain.requested() => return,
        };
        take(Heard::Lost(error));
        pause = if begun.elapsed() > PAUSE.1 { PAUSE.0 } else { (2 * pause).min(PAUSE.1) };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = drain.requested() => return,
        }
    }
}

/// Lists and watches for as long as it goes well.
async fn listen<K>(wanted: &Wanted, take: &mut impl FnMut(Heard<K>)) -> WatchError
where
    K: Namespaced,
{
    match try_listen(wanted, take).await {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

async fn try_listen<K>(wanted: &Wanted, take: &mut impl FnMut(Heard<K>)) -> Result<std::convert::Infallible, WatchError>
where
    K: Namespaced,
{
    let client = connect(wanted.kubeconfig.as_deref()).await?;
    let api: Api<K> = match &wanted.namespace {
        Some(namespace) => Api::namespaced(client, namespace),
        None => Api::all(client),
    };
    let (mut params, mut watch) = (ListParams::default(), WatchParams::default().timeout(WATCH_SECONDS));
    if let Some(fields) = &wanted.fields {
        (params, watch) = (params.fields(fields), watch.fields(fields));
    }
    if let Some(labels) = &wanted.labels {
        (params, watch) = (params.labels(labels), watch.labels(labels));
    }
    let list = timeout(ANSWER, api.list(&params)).await.map_err(|_| WatchError::Silent(ANSWER))??;
    let mut version = list.metadata.resource_version.unwrap_or_default();
    take(Heard::Listed(list.items));
    loop {
        let begun = Instant::now();
        let stream = timeout(ANSWER, api.watch(&watch, &version)).await;
        let mut stream = pin!(stream.map_err(|_| WatchError::Silent(ANSWER))??);
        while let Some(event) = timeout(SILENCE, stream.next()).await.map_err(|_| WatchError::Silent(SILENCE))? {
            let (heard, newer) = match event? {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    let newer = object.resource_version();
                    (Heard::Changed(object), newer)
                }
                WatchEvent::Deleted(object) => {
                    let newer = object.resource_version();
                    (Heard::Deleted(object), newer)
                }
                WatchEvent::Bookmark(bookmark) => (Heard::Confirmed, Some(bookmark.metadata.resource_version)),
                WatchEvent::Error(status) => return Err(WatchError::Ended(status.message.clone())),
            };
            version = newer.unwrap_or(version);
            take(heard);
        }
        if begun.elapsed() < LEAST {
            return Err(WatchError::Cut);
        }
    }
}

/// A client of the API server that the file names; without one, of the cluster that this runs in.
///
/// # Errors
/// The file, or what a pod has in place of one, does not serve.
pub async fn connect(kubeconfig: Option<&Path>) -> Result<Client, WatchError> {
    let told = |error: &dyn std::fmt::Display| WatchError::Config(error.to_string());
    let mut client = match kubeconfig {
        None => kube::Config::incluster().map_err(|error| told(&error))?,
        Some(path) => {
            let file = Kubeconfig::read_from(path).map_err(|error| told(&error))?;
            let client = kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await;
            client.map_err(|error| told(&error))?
        }
    };
    // It would hide for as long as an answer is waited for that the API server refuses; here it is tried again anyway.
    client.default_retry = false;
    Client::try_from(client).map_err(|error| told(&error))
}

// === impl WatchError ===

impl From<kube::Error> for WatchError {
    fn from(error: kube::Error) -> Self {
        Self::Kube(Box::new(error))
    }
}
