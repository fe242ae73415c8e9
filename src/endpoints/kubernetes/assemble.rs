//! Slices in, pools out: which services a change touches, and what their pools are now. No I/O.
//!
//! A list is taken in object by object beside what is there, and counts when it ends. Most of what a list brings is known
//! already: an object that is as it was is kept once, and so are the pools of a service whose objects all are, so that a
//! list takes the memory of what differs and not of everything twice.

use std::collections::HashMap;
use std::sync::Arc;

use super::Settings;
use super::object::{SERVICE_LABEL, SliceObject};
use super::service::{Service, Slice};
use crate::endpoints::interner::Interner;
use crate::endpoints::update::Update;

/// (namespace, name) of an object or a service.
type Key = (Arc<str>, Arc<str>);

/// All services of one cluster. A change costs as much as the services that it touches.
#[derive(Debug)]
pub(super) struct Assembler {
    settings: Settings,
    /// The service of each object that is part of one.
    service_of: HashMap<Key, Key>,
    services: HashMap<Key, Service>,
    /// The objects of a list that has not ended.
    listed: HashMap<Key, Contribution>,
}

/// What an object of the API server contributes: slices of one service, or nothing.
#[derive(Debug)]
pub(super) struct Contribution {
    namespace: Arc<str>,
    /// The object's name.
    name: Arc<str>,
    /// The service; `None` for an object that is part of none.
    service: Option<Arc<str>>,
    slices: Arc<[Slice]>,
}

// === impl Assembler ===

impl Assembler {
    pub(super) fn new(settings: Settings) -> Self {
        Self { settings, service_of: HashMap::new(), services: HashMap::new(), listed: HashMap::new() }
    }

    /// The object is this now. Gives the pools of the services that it touches: one, or two where it changed its service.
    pub(super) fn apply(&mut self, object: Contribution) -> Vec<Update> {
        let mut touched = Vec::new();
        touched.extend(self.take_out(&object.namespace, &object.name));
        touched.extend(self.put_in(object));
        touched.dedup();
        self.updates(touched)
    }

    /// The object is gone.
    pub(super) fn delete(&mut self, namespace: &str, name: &str) -> Vec<Update> {
        let touched = self.take_out(namespace, name).into_iter().collect();
        self.updates(touched)
    }

    /// A list begins; half of one that was told before is nothing.
    pub(super) fn begin_list(&mut self) {
        self.listed = HashMap::new();
    }

    /// The list has this object, as it is now.
    pub(super) fn list(&mut self, object: Contribution) {
        let object = self.known(&object).unwrap_or(object);
        self.listed.insert((object.namespace.clone(), object.name.clone()), object);
    }

    /// The list no longer has this object.
    pub(super) fn unlist(&mut self, namespace: &str, name: &str) {
        self.listed.remove(&(namespace.into(), name.into()));
    }

    /// There are the objects of the list and no others.
    pub(super) fn end_list(&mut self) -> Update {
        let mut before = std::mem::take(&mut self.services);
        self.service_of.clear();
        for object in std::mem::take(&mut self.listed).into_values() {
            self.put_in(object);
        }
        let mut pools = Vec::new();
        for (key, service) in &mut self.services {
            if let Some(before) = before.remove(key) {
                service.resume(before);
            }
            pools.extend(service.pools(&key.0, &key.1, &self.settings));
        }
        Update::Reset(pools)
    }

    /// What is kept of an object already, if it is the same.
    fn known(&self, object: &Contribution) -> Option<Contribution> {
        let (key, service) = self.service_of.get_key_value(&(object.namespace.clone(), object.name.clone()))?;
        let slices = self.services.get(service)?.slices(&key.1)?;
        let same = object.service.as_ref() == Some(&service.1) && object.slices == *slices;
        same.then(|| Contribution {
            namespace: key.0.clone(),
            name: key.1.clone(),
            service: Some(service.1.clone()),
            slices: slices.clone(),
        })
    }

    fn put_in(&mut self, object: Contribution) -> Option<Key> {
        let Contribution { namespace, name, service, slices } = object;
        let service = (namespace.clone(), service.filter(|_| !slices.is_empty())?);
        self.service_of.insert((namespace, name.clone()), service.clone());
        self.services.entry(service.clone()).or_default().put(name, slices);
        Some(service)
    }

    fn take_out(&mut self, namespace: &str, name: &str) -> Option<Key> {
        let object: Key = (namespace.into(), name.into());
        let service = self.service_of.remove(&object)?;
        self.services.get_mut(&service)?.take(&object.1);
        Some(service)
    }

    fn updates(&mut self, touched: Vec<Key>) -> Vec<Update> {
        let mut updates = Vec::new();
        for key in touched {
            let Some(service) = self.services.get_mut(&key) else { continue };
            if service.is_empty() {
                let gone = service.pool_ids(&key.0, &key.1, &self.settings);
                updates.extend(gone.into_iter().map(Update::Remove));
                self.services.remove(&key);
            } else {
                updates.extend(service.pools(&key.0, &key.1, &self.settings).into_iter().map(Update::Add));
            }
        }
        updates
    }
}

// === impl Contribution ===

impl Contribution {
    /// What is kept of an object's slices. A label without a value names no service.
    pub(super) fn new(namespace: Arc<str>, name: Arc<str>, slices: Vec<SliceObject>, strings: &mut Interner) -> Self {
        let service = slices.iter().find_map(|slice| slice.metadata.labels.get(SERVICE_LABEL));
        let service = service.filter(|name| !name.is_empty()).map(|name| strings.get(name));
        let slices = slices.into_iter().filter_map(|slice| Slice::from_object(slice, strings)).collect();
        Self { namespace, name, service, slices }
    }
}
