//! What the API server tells of one kind, kept: a cache that says which App a change is about.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use k8s_openapi::NamespaceResourceScope;
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::Notify;

use super::resource::GROUP;
use crate::base::drain::Drain;
use crate::base::readiness::Gate;
use crate::kubernetes::{self, Heard, Wanted, WatchError};

/// `(namespace, name)`.
pub(super) type Key = (String, String);

/// Apps that something changed about, each once.
#[derive(Debug, Default)]
pub(super) struct Dirty {
    apps: Mutex<Marked>,
    notify: Notify,
    /// Whether it was said that the cluster does not know our kinds: once for all of them.
    undefined: AtomicBool,
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
}

/// Which App an object is about; `None`: any.
pub(super) type AppOf<K> = fn(&K) -> Option<Key>;

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
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    /// Follows all objects of the kind (with these labels) in each of these scopes until `drain` ends it; a scope's gate goes
    /// when its objects are known.
    pub(super) fn follow(
        scopes: Vec<(Wanted, Gate)>,
        app_of: AppOf<K>,
        dirty: &Arc<Dirty>,
        drain: &Drain,
    ) -> Arc<Self> {
        let store = Arc::new(Self { objects: RwLock::default() });
        for (wanted, gate) in scopes {
            let (into, dirty, drain, mut gate) = (store.clone(), dirty.clone(), drain.clone(), Some(gate));
            tokio::spawn(async move {
                kubernetes::follow(&wanted, &drain, |heard| {
                    let listed = matches!(heard, Heard::Listed(_));
                    into.take(heard, wanted.namespace.as_deref(), app_of, &dirty);
                    if listed {
                        drop(gate.take());
                    }
                })
                .await;
            });
        }
        store
    }

    /// Keeps what is told of one namespace, or of all.
    fn take(&self, heard: Heard<K>, scope: Option<&str>, app_of: AppOf<K>, dirty: &Dirty) {
        let mark = |object: &K| match app_of(object) {
            Some(key) => dirty.mark(key),
            None => dirty.mark_all(),
        };
        match heard {
            Heard::Listed(objects) => {
                if K::group(&()) == GROUP {
                    dirty.undefined.store(false, Ordering::SeqCst);
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
                if !dirty.undefined.swap(true, Ordering::SeqCst) {
                    let (kind, group) = (K::kind(&()), K::group(&()));
                    tracing::warn!(
                        "the cluster does not know {kind} of {group}: kubectl apply -f deploy/kubernetes/crds/ (or `tidegate crd | \
                         kubectl apply -f -`); it is looked for again and again"
                    );
                }
            }
            // What is known may be old: every write is preceded by a look of its own.
            Heard::Lost(error) => tracing::warn!(kind = %K::kind(&()), %error, "not followed; trying again"),
        }
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
