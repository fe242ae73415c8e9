//! Slices in, pools out: which services a change touches, and what their pools are now. No I/O.

use std::collections::HashMap;
use std::sync::Arc;

use super::object::{SERVICE_LABEL, SliceObject};
use super::service::{Service, Slice};
use super::{Interner, Settings};
use crate::endpoints::update::Update;

/// (namespace, name) of an object or a service.
type Key = (Arc<str>, Arc<str>);

/// All services of one cluster. A change costs as much as the services that it touches.
#[derive(Debug)]
pub(super) struct Assembler {
    settings: Settings,
    strings: Interner,
    /// The service of each object that is part of one.
    service_of: HashMap<Key, Key>,
    services: HashMap<Key, Service>,
}

/// What an object of the API server contributes: the slices of one service, or nothing.
#[derive(Clone, Debug)]
pub(super) struct Contribution {
    pub(super) namespace: String,
    /// The object's name.
    pub(super) name: String,
    pub(super) slices: Vec<SliceObject>,
}

// === impl Assembler ===

impl Assembler {
    pub(super) fn new(settings: Settings) -> Self {
        Self { settings, strings: Interner::default(), service_of: HashMap::new(), services: HashMap::new() }
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

    /// These objects and no others: a list that ended.
    pub(super) fn reset(&mut self, objects: Vec<Contribution>) -> Update {
        let before = std::mem::take(&mut self.services);
        self.service_of.clear();
        self.strings = Interner::default();
        for object in objects {
            self.put_in(object);
        }
        let mut pools = Vec::new();
        for (key, service) in &mut self.services {
            if let Some(before) = before.get(key) {
                service.remember(before);
            }
            pools.extend(service.pools(&key.0, &key.1, &self.settings));
        }
        Update::Reset(pools)
    }

    fn put_in(&mut self, object: Contribution) -> Option<Key> {
        let service = object.slices.iter().find_map(|slice| slice.metadata.labels.get(SERVICE_LABEL))?;
        let namespace = self.strings.get(&object.namespace);
        let service = (namespace.clone(), self.strings.get(service));
        let name: Arc<str> = object.name.into();
        let strings = &mut self.strings;
        let slices: Vec<_> = object.slices.into_iter().filter_map(|slice| Slice::from_object(slice, strings)).collect();
        if slices.is_empty() {
            return None;
        }
        self.service_of.insert((namespace, name.clone()), service.clone());
        self.services.entry(service.clone()).or_default().slices.insert(name, slices);
        Some(service)
    }

    fn take_out(&mut self, namespace: &str, name: &str) -> Option<Key> {
        let object: Key = (self.strings.get(namespace), name.into());
        let service = self.service_of.remove(&object)?;
        self.services.get_mut(&service)?.slices.remove(&object.1);
        Some(service)
    }

    fn updates(&mut self, touched: Vec<Key>) -> Vec<Update> {
        let mut updates = Vec::new();
        for key in touched {
            let Some(service) = self.services.get_mut(&key) else { continue };
            if service.slices.is_empty() {
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

impl From<SliceObject> for Contribution {
    fn from(slice: SliceObject) -> Self {
        let (namespace, name) = (slice.metadata.namespace.clone(), slice.metadata.name.clone());
        Self { namespace, name, slices: vec![slice] }
    }
}
