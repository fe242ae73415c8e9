//! What the API server tells of one kind, kept: a cache that says which App a change is about, and gives an App's objects without a
//! look at any other's.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use kube::{Resource, ResourceExt};
use tokio::sync::Notify;

use super::resource::GROUP;
use crate::base::drain::Drain;
use crate::base::readiness::Gate;
use crate::kubernetes::{self, Heard, Namespaced, Wanted, WatchError};

/// `(namespace, name)`.
pub(super) type Key = (String, String);

/// Apps that something changed about, each once.
#[derive(Debug, Default)]
pub(super) struct Dirty {
    apps: Mutex<Marked>,
    notify: Notify,
}

/// The cluster whose objects are followed.
#[derive(Clone, Debug)]
pub(super) struct Told {
    /// Its name.
    pub(super) cluster: String,
    /// Where its changes are marked.
    pub(super) dirty: Arc<Dirty>,
    /// Whether it was said that the cluster does not know our kinds: once for all of them.
    undefined: Arc<AtomicBool>,
}

#[derive(Debug, Default)]
struct Marked {
    keys: BTreeSet<Key>,
    /// More than is told one by one: all Apps of a namespace, or of all where there is none.
    all: bool,
}

/// Objects of one kind.
#[derive(Debug)]
pub(super) struct Store<K> {
    objects: RwLock<Objects<K>>,
    app_of: AppOf<K>,
    /// Scopes whose objects are not known yet.
    unlisted: AtomicUsize,
}

/// Which App an object is about; `None`: any.
pub(super) type AppOf<K> = fn(&K) -> Option<Key>;

#[derive(Debug)]
struct Objects<K> {
    by_key: BTreeMap<Key, Arc<K>>,
    /// Those that are about one App: the App, and the object's name. Both are in the same namespace.
    by_app: BTreeSet<(Key, String)>,
}

// === impl Told ===

impl Told {
    /// Of a cluster of this name.
    pub(super) fn of(cluster: &str, dirty: &Arc<Dirty>) -> Self {
        Self { cluster: cluster.to_owned(), dirty: dirty.clone(), undefined: Arc::default() }
    }
}

// === impl Dirty ===

impl Dirty {
    pub(super) fn mark(&self, key: Key) {
        self.lock().keys.insert(key);
        self.notify.notify_one();
    }

    pub(super) fn mark_all(&self) {
        self.lock().all = true;
        self.notify.notify_one();
    }

    /// Those marked since the last call, and whether all are.
    pub(super) fn take(&self) -> (Vec<Key>, bool) {
        let marked = std::mem::take(&mut *self.lock());
        (marked.keys.into_iter().collect(), marked.all)
    }

    /// Waits until one is marked.
    pub(super) async fn marked(&self) {
        self.notify.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, Marked> {
        self.apps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Store ===

impl<K> Store<K>
where
    K: Namespaced,
{
    /// Follows all objects of the kind (with these labels) in each of these scopes until `drain` ends it; a scope's gate, if it
    /// has one, goes when its objects are known.
    pub(super) fn follow(
        scopes: Vec<(Wanted, Option<Gate>)>,
        app_of: AppOf<K>,
        told: &Told,
        drain: &Drain,
    ) -> Arc<Self> {
        let store = Arc::new(Self::new(app_of, scopes.len()));
        for (wanted, mut gate) in scopes {
            let (into, told, drain, mut unlisted) = (store.clone(), told.clone(), drain.clone(), true);
            tokio::spawn(async move {
                kubernetes::follow(&wanted, &drain, |heard| {
                    let listed = matches!(heard, Heard::Listed(_));
                    into.take(heard, wanted.namespace.as_deref(), &told);
                    if listed {
                        if std::mem::take(&mut unlisted) {
                            into.unlisted.fetch_sub(1, Ordering::SeqCst);
                        }
                        drop(gate.take());
                    }
                })
                .await;
            });
        }
        store
    }

    /// Knows nothing yet, of so many scopes.
    fn new(app_of: AppOf<K>, scopes: usize) -> Self {
        Self { objects: RwLock::default(), app_of, unlisted: AtomicUsize::new(scopes) }
    }

    /// Keeps what is told of one namespace, or of all.
    fn take(&self, heard: Heard<K>, scope: Option<&str>, told: &Told) {
        let Told { cluster, dirty, undefined } = told;
        let mark = |object: &K| match (self.app_of)(object) {
            Some(key) => dirty.mark(key),
            None => dirty.mark_all(),
        };
        match heard {
            Heard::Listed(objects) => {
                if K::group(&()) == GROUP {
                    undefined.store(false, Ordering::SeqCst);
                }
                let mut known = self.write();
                known.clear(scope);
                objects.into_iter().for_each(|it| drop(known.insert(it, self.app_of)));
                dirty.mark_all();
            }
            Heard::Changed(object) => {
                // Of another App before, that one has changed as well.
                mark(&object);
                if let Some(before) = self.write().insert(object, self.app_of) {
                    mark(&before);
                }
            }
            Heard::Deleted(object) => {
                mark(&object);
                self.write().remove(&key_of(&object), self.app_of);
            }
            Heard::Confirmed => {}
            Heard::Lost(WatchError::Kube(error)) if is_not_found(&error) => {
                if !undefined.swap(true, Ordering::SeqCst) {
                    let (kind, group) = (K::kind(&()), K::group(&()));
                    tracing::warn!(
                        "cluster {cluster} does not know {kind} of {group}: kubectl apply -f deploy/kubernetes/crds/ (or `tidegate crd | \
                         kubectl apply -f -`); it is looked for again and again"
                    );
                }
            }
            // What is known may be old: every write is preceded by a look of its own.
            Heard::Lost(error) => tracing::warn!(cluster, kind = %K::kind(&()), %error, "not followed; trying again"),
        }
    }

    /// Whether all objects were told of once.
    pub(super) fn is_known(&self) -> bool {
        self.unlisted.load(Ordering::SeqCst) == 0
    }

    pub(super) fn get(&self, key: &Key) -> Option<Arc<K>> {
        self.read().by_key.get(key).cloned()
    }

    /// Those that are about an App.
    pub(super) fn of_app(&self, app: &Key) -> Vec<Arc<K>> {
        let objects = self.read();
        let of = objects.by_app.range((app.clone(), String::new())..).take_while(|(of, _)| of == app);
        of.filter_map(|(_, name)| objects.by_key.get(&(app.0.clone(), name.clone())).cloned()).collect()
    }

    /// Those of a namespace.
    pub(super) fn of_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        let objects = self.read();
        let of = objects.by_key.range((namespace.to_owned(), String::new())..);
        of.take_while(|((of, _), _)| of == namespace).map(|(_, it)| it.clone()).collect()
    }

    pub(super) fn keys(&self) -> Vec<Key> {
        self.read().by_key.keys().cloned().collect()
    }

    fn read(&self) -> RwLockReadGuard<'_, Objects<K>> {
        self.objects.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Objects<K>> {
        self.objects.write().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Objects ===

impl<K> Default for Objects<K> {
    fn default() -> Self {
        Self { by_key: BTreeMap::new(), by_app: BTreeSet::new() }
    }
}

impl<K: Resource<DynamicType = ()>> Objects<K> {
    /// Puts one in, in place of the one that is returned.
    fn insert(&mut self, mut object: K, app_of: AppOf<K>) -> Option<Arc<K>> {
        // Who wrote which field is much of an object, and nobody asks a cache for it.
        object.meta_mut().managed_fields = None;
        let key = key_of(&object);
        let before = self.remove(&key, app_of);
        self.by_app.extend(app_of(&object).map(|app| (app, key.1.clone())));
        self.by_key.insert(key, Arc::new(object));
        before
    }

    fn remove(&mut self, key: &Key, app_of: AppOf<K>) -> Option<Arc<K>> {
        let before = self.by_key.remove(key)?;
        if let Some(app) = app_of(&before) {
            self.by_app.remove(&(app, key.1.clone()));
        }
        Some(before)
    }

    /// Lets all of a namespace go, or all.
    fn clear(&mut self, scope: Option<&str>) {
        let is_other = |namespace: &str| scope.is_some_and(|scope| scope != namespace);
        self.by_key.retain(|(namespace, _), _| is_other(namespace));
        self.by_app.retain(|((namespace, _), _)| is_other(namespace));
    }
}

fn is_not_found(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.is_not_found())
}

pub(super) fn key_of<K: Resource>(object: &K) -> Key {
    (object.namespace().unwrap_or_default(), object.name_any())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    use super::*;

    fn pod(namespace: &str, name: &str, app: Option<&str>) -> Pod {
        serde_json::from_value(json!({
            "metadata": {
                "namespace": namespace, "name": name, "labels": {"app": app.unwrap_or_default()},
                "managedFields": [{"manager": "somebody"}],
            },
        }))
        .unwrap()
    }

    fn app_of(pod: &Pod) -> Option<Key> {
        let app = pod.metadata.labels.as_ref()?.get("app").filter(|it| !it.is_empty())?;
        Some((pod.namespace()?, app.clone()))
    }

    fn key(namespace: &str, app: &str) -> Key {
        (namespace.to_owned(), app.to_owned())
    }

    fn names(pods: &[Arc<Pod>]) -> Vec<String> {
        pods.iter().map(|it| it.name_any()).collect()
    }

    /// A store of pods, and those that changes are told to.
    fn store() -> (Store<Pod>, Told) {
        (Store::new(app_of, 1), Told::of("home", &Arc::default()))
    }

    #[test]
    fn an_apps_objects_are_those_and_no_others_through_changes_and_deletions() {
        let (store, told) = store();
        let listed = [("shop", "a-1", "a"), ("shop", "a-2", "a"), ("shop", "b-1", "ab"), ("bank", "a-1", "a")];
        let listed = listed.map(|(namespace, name, app)| pod(namespace, name, Some(app)));
        store.take(Heard::Listed(listed.to_vec()), None, &told);
        assert_eq!(names(&store.of_app(&key("shop", "a"))), ["a-1", "a-2"]);
        assert_eq!(names(&store.of_app(&key("bank", "a"))), ["a-1"]);
        assert_eq!(names(&store.of_namespace("shop")), ["a-1", "a-2", "b-1"]);
        store.take(Heard::Deleted(pod("shop", "a-1", Some("a"))), None, &told);
        store.take(Heard::Changed(pod("shop", "c-1", None)), None, &told);
        assert_eq!(names(&store.of_app(&key("shop", "a"))), ["a-2"]);
        assert_eq!(names(&store.of_namespace("shop")), ["a-2", "b-1", "c-1"]);
        assert!(store.of_namespace("shop").iter().all(|it| it.metadata.managed_fields.is_none()));
    }

    #[test]
    fn an_object_that_goes_from_one_app_to_another_is_a_change_of_both() {
        let (store, told) = store();
        store.take(Heard::Listed(vec![pod("shop", "it", Some("a"))]), None, &told);
        told.dirty.take();
        store.take(Heard::Changed(pod("shop", "it", Some("b"))), None, &told);
        assert_eq!(told.dirty.take(), (vec![key("shop", "a"), key("shop", "b")], false));
        assert_eq!(names(&store.of_app(&key("shop", "a"))), [""; 0]);
        assert_eq!(names(&store.of_app(&key("shop", "b"))), ["it"]);
    }

    #[test]
    fn what_is_listed_of_one_namespace_leaves_the_others() {
        let (store, told) = store();
        store.take(Heard::Listed(vec![pod("shop", "a-1", Some("a"))]), Some("shop"), &told);
        store.take(Heard::Listed(vec![pod("bank", "a-1", Some("a"))]), Some("bank"), &told);
        store.take(Heard::Listed(Vec::new()), Some("shop"), &told);
        assert_eq!(store.keys(), [key("bank", "a-1")]);
        assert_eq!(names(&store.of_app(&key("shop", "a"))), [""; 0]);
        assert_eq!(names(&store.of_app(&key("bank", "a"))), ["a-1"]);
    }
}
