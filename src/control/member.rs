//! The clusters that Apps may run in, and whether each of them answers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Api, ListParams};

use super::apply::{ApplyError, Server, Writer};
use super::bundle::Bundle;
use super::config::{ControlConfig, MemberConfig};
use super::metrics;
use super::observe::Children;
use super::resource::app::App;
use super::resource::clusters::Placement;
use super::store::{Dirty, Key, Told, key_of};
use crate::base::drain::Drain;
use crate::kubernetes::lease::Leadership;
use crate::kubernetes::{self, WatchError};

/// Between two looks at whether a cluster answers.
const PERIOD: Duration = Duration::from_secs(2);

/// A cluster that Apps may run in.
pub(super) struct Member {
    /// Writes there.
    pub(super) writer: Writer,
    children: Children,
    /// Absent: it is the one that Apps live in, without which nothing is known of them anyway.
    reach: Option<Arc<Reach>>,
    /// Why the last write about an App failed, where it did.
    troubles: Mutex<BTreeMap<Key, String>>,
}

/// Whether a cluster's API server answers; why not, if so.
#[derive(Debug)]
struct Reach {
    unreached: Mutex<Option<String>>,
}

// === impl Member ===

impl Member {
    /// The cluster that Apps live in.
    pub(super) fn home(writer: Writer, children: Children) -> Self {
        Self { writer, children, reach: None, troubles: Mutex::default() }
    }

    /// Another one, followed and asked again and again whether it answers until `drain` ends it.
    ///
    /// # Errors
    /// Its kubeconfig does not serve.
    pub(super) async fn follow(
        config: &MemberConfig,
        control: &ControlConfig,
        leadership: Leadership,
        dirty: &Arc<Dirty>,
        drain: &Drain,
    ) -> Result<Self, WatchError> {
        let client = kubernetes::connect(Some(&config.kubeconfig)).await?;
        let server = Server { client, patience: control.api_timeout };
        let told = Told::of(&config.name, dirty);
        let reach = Arc::new(Reach { unreached: Mutex::new(Some("it has not answered yet".to_owned())) });
        let watch = reach.clone().watch(server.clone(), control.namespaces.first().cloned(), told.clone());
        let drained = drain.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = watch => {}
                () = drained.requested() => {}
            }
        });
        Ok(Self {
            children: Children::follow(&config.kubeconfig, &control.namespaces, &told, drain),
            writer: Writer { server, leadership, cluster: config.name.clone() },
            reach: Some(reach),
            troubles: Mutex::default(),
        })
    }

    /// Its name.
    pub(super) fn name(&self) -> &str {
        &self.writer.cluster
    }

    /// What came of a write about an App, which its release tells of.
    pub(super) fn note(&self, app: &App, made: &Result<(), ApplyError>) {
        let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        match made {
            // What was read was old: that is no trouble.
            Ok(()) | Err(ApplyError::Conflict(_) | ApplyError::Deposed) => drop(troubles.remove(&key_of(app))),
            Err(error) => drop(troubles.insert(key_of(app), error.to_string())),
        }
    }

    /// Why the last write about an App failed, if it did.
    pub(super) fn trouble(&self, app: &App) -> Option<String> {
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner).get(&key_of(app)).cloned()
    }

    /// What its caches know of an App that runs there.
    ///
    /// # Errors
    /// Why nothing is known.
    pub(super) fn known(&self, home: &Bundle, placement: &Placement) -> Result<Bundle, String> {
        let bundle = self.children.put_into(self.adopt(home, placement));
        let Some(reach) = &self.reach else { return Ok(bundle) };
        if let Some(why) = reach.unreached() {
            return Err(why);
        }
        match self.children.are_known(home.app.spec.autoscaling.is_some()) {
            true => Ok(bundle),
            false => Err("it has not told yet what it has".to_owned()),
        }
    }

    /// The same, asked of its API server now; of the App's own cluster, what was asked already.
    ///
    /// # Errors
    /// Something could not be read: then nothing is known.
    pub(super) async fn ask(&self, home: &Bundle, placement: &Placement) -> Result<Bundle, String> {
        let known = self.known(home, placement)?;
        let bundle = self.adopt(home, placement);
        if self.reach.is_none() {
            return Ok(bundle);
        }
        let asked = Box::pin(super::observe::ask_children(&self.writer.server, bundle, &known));
        asked.await.map_err(|error| error.to_string())
    }

    /// The bundle of an App as this cluster has it: with its count.
    fn adopt(&self, home: &Bundle, placement: &Placement) -> Bundle {
        let mut bundle = if self.reach.is_some() { elsewhere(home) } else { home.clone() };
        bundle.app.spec.replicas = placement.replicas.unwrap_or(bundle.app.spec.replicas);
        bundle
    }
}

/// What of an App's bundle holds in another cluster than its own: what people say, and no owners, which would be in another cluster.
fn elsewhere(home: &Bundle) -> Bundle {
    let Bundle { mut app, mut releases, policy, approvals, blocks, .. } = home.clone();
    app.metadata.uid = None;
    for release in &mut releases {
        release.metadata.uid = None;
    }
    Bundle { releases, policy, approvals, blocks, ..Bundle::of(app) }
}

// === impl Reach ===

impl Reach {
    /// Asks for what every deploy asks for: an API server without its store, or without rights, does not answer either.
    async fn watch(self: Arc<Self>, server: Server, namespace: Option<String>, told: Told) {
        let api: Api<Deployment> = match &namespace {
            Some(namespace) => Api::namespaced(server.client.clone(), namespace),
            None => Api::all(server.client.clone()),
        };
        let one = ListParams::default().limit(1);
        loop {
            let unreached = server.answered(api.list(&one)).await.err().map(|error| error.to_string());
            metrics::cluster_reached(&told.cluster, unreached.is_none());
            self.set(unreached, &told);
            tokio::time::sleep(PERIOD).await;
        }
    }

    /// Keeps what was said first: why a cluster does not answer is told once, and not with every look.
    fn set(&self, now: Option<String>, told: &Told) {
        let mut was = self.unreached.lock().unwrap_or_else(PoisonError::into_inner);
        if was.is_some() != now.is_some() {
            match &now {
                Some(why) => tracing::warn!(cluster = told.cluster, why, "a cluster does not answer"),
                None => tracing::info!(cluster = told.cluster, "a cluster answers"),
            }
            told.dirty.mark_all();
            *was = now;
        }
    }

    fn unreached(&self) -> Option<String> {
        self.unreached.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use kube::ResourceExt;

    use super::*;
    use crate::control::bundle::tests::bundle;
    use crate::control::children;

    #[test]
    fn elsewhere_than_at_home_nothing_has_an_owner_that_would_be_in_another_cluster() {
        let mut home = bundle();
        home.app.metadata.uid = Some("app-1".to_owned());
        home.releases[0].metadata.uid = Some("release-1".to_owned());
        let there = elsewhere(&home);
        let release = &there.releases[0];
        let deployment = children::deployment(&there.app, release, "0a", 1).unwrap();
        assert!(deployment.owner_references().is_empty(), "{:?}", deployment.metadata);
        // By which a gate's Job would be owned.
        assert_eq!(release.metadata.uid, None);
    }
}
