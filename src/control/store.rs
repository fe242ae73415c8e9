//! What the API server tells of one kind, kept: a cache that says which App a change is about.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

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
    keys: std::collections::BTreeSet<Key>,
    /// More than is told one by one: all Apps of a namespace, or of all where there is none.
    all: bool,
}

/// Objects of one kind.
#[derive(Debug)]
pub(super) struct Store<K> {
    objects: RwLock<BTreeMap<Key, Arc<K>>>,
    /// Scopes whose objects are not known yet.
    unlisted: AtomicUsize,
}

/// Which App an object is about; `None`: any.
pub(super) type AppOf<K> = fn(&K) -> Option<Key>;

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
        let store = Arc::new(Self { objects: RwLock::default(), unlisted: AtomicUsize::new(scopes.len()) });
        for (wanted, mut gate) in scopes {
            let (into, told, drain, mut unlisted) = (store.clone(), told.clone(), drain.clone(), true);
            tokio::spawn(async move {
                kubernetes::follow(&wanted, &drain, |heard| {
                    let listed = matches!(heard, Heard::Listed(_));
                    into.take(heard, wanted.namespace.as_deref(), app_of, &told);
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

    /// Keeps what is told of one namespace, or of all.
    fn take(&self, heard: Heard<K>, scope: Option<&str>, app_of: AppOf<K>, told: &Told) {
        let Told { cluster, dirty, undefined } = told;
        let mark = |object: &K| match app_of(object) {
            Some(key) => dirty.mark(key),
            None => dirty.mark_all(),
        };
        match heard {
            Heard::Listed(objects) => {
                if K::group(&()) == GROUP {
                    undefined.store(false, Ordering::SeqCst);
                }
                let mut known = self.objects.write().unwrap_or_else(PoisonError::into_inner);
                known.retain(|(namespace, _), _| scope.is_some_and(|scope| scope != namespace));
                known.extend(objects.into_iter().map(|it| (key_of(&it), Arc::new(it))));
                dirty.mark_all();
            }
            Heard::Changed(object) => {
                mark(&object);
                let mut objects = self.objects.write().unwrap_or_else(PoisonError::into_inner);
                objects.insert(key_of(&object), Arc::new(object));
            }
            Heard::Deleted(object) => {
                mark(&object);
                self.objects.write().unwrap_or_else(PoisonError::into_inner).remove(&key_of(&object));
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
        self.objects.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    /// Those of a namespace that fulfil a condition.
    pub(super) fn of(&self, namespace: &str, condition: impl Fn(&K) -> bool) -> Vec<Arc<K>> {
        let objects = self.objects.read().unwrap_or_else(PoisonError::into_inner);
        let first = (namespace.to_owned(), String::new());
        let of = objects.range(first..).take_while(|((of, _), _)| of == namespace);
        of.filter(|(_, it)| condition(it)).map(|(_, it)| it.clone()).collect()
    }

    pub(super) fn keys(&self) -> Vec<Key> {
        self.objects.read().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }
}

fn is_not_found(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.is_not_found())
}

pub(super) fn key_of<K: Resource>(object: &K) -> Key {
    (object.namespace().unwrap_or_default(), object.name_any())
}
