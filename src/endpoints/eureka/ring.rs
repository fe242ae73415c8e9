//! What is known of a ring, and the pools that follow from it. Pure.
//!
//! | status | in the pool |
//! |---|---|
//! | `UP` | ready |
//! | `OUT_OF_SERVICE` | draining, where it was in the pool before; else not in it |
//! | `DOWN`, `STARTING`, `UNKNOWN` | not in it |

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

use super::EurekaConfig;
use super::wire::{Applications, Instance};
use crate::endpoints::interner::Interner;
use crate::endpoints::pool::{DEFAULT_WEIGHT, Endpoint, EndpointKey, EndpointState, PoolContent, PoolId, sort};
use crate::endpoints::update::Update;

/// Instances by application and id.
type Instances = BTreeMap<String, BTreeMap<String, Instance>>;

/// A ring as it was told last.
#[derive(Debug)]
pub(super) struct Ring {
    config: Arc<EurekaConfig>,
    instances: Instances,
    /// The pools as they were told.
    pools: BTreeMap<PoolId, PoolContent>,
    names: Interner,
    /// What was said in the log already.
    warned: BTreeSet<String>,
}

/// Faults of a ring that are said in the log, each once.
const MAX_WARNED: usize = 1_000;

// === impl Ring ===

impl Ring {
    pub(super) fn new(config: Arc<EurekaConfig>) -> Self {
        Self {
            config,
            instances: Instances::new(),
            pools: BTreeMap::new(),
            names: Interner::default(),
            warned: BTreeSet::new(),
        }
    }

    /// Takes in the whole ring.
    pub(super) fn reset(&mut self, all: &Applications) -> Update {
        self.instances.clear();
        for (app, instance) in instances(all) {
            put(&mut self.instances, app, instance);
        }
        self.pools = self.assemble();
        Update::Reset(self.pools.values().cloned().collect())
    }

    /// Takes in a delta and gives what it changes. `None`: the ring that it makes is not the server's, and nothing was
    /// taken in.
    pub(super) fn apply(&mut self, delta: &Applications) -> Option<Vec<Update>> {
        let mut next = self.instances.clone();
        for (app, instance) in instances(delta) {
            match instance.action_type.as_deref() {
                Some("DELETED") => {
                    if let Some(known) = next.get_mut(app) {
                        known.remove(instance.id());
                        if known.is_empty() {
                            next.remove(app);
                        }
                    }
                }
                _ => put(&mut next, app, instance),
            }
        }
        if hashcode(&next) != delta.hashcode {
            return None;
        }
        self.instances = next;
        let pools = self.assemble();
        let gone = self.pools.keys().filter(|id| !pools.contains_key(*id)).cloned().map(Update::Remove);
        let new = pools.iter().filter(|(id, pool)| self.pools.get(*id) != Some(pool));
        let updates = gone.chain(new.map(|(_, pool)| Update::Add(pool.clone()))).collect();
        self.pools = pools;
        Some(updates)
    }

    fn assemble(&mut self) -> BTreeMap<PoolId, PoolContent> {
        let (mut pools, mut faults) = (BTreeMap::new(), Vec::new());
        for (app, instances) in &self.instances {
            let wanted = |name: &String| name.eq_ignore_ascii_case(app);
            if !self.config.apps.is_empty() && !self.config.apps.iter().any(wanted) {
                continue;
            }
            let Ok(id) = PoolId::parse(&format!("{}/{}", self.config.cluster, app.to_ascii_lowercase())) else {
                faults.push(format!("application {app:?}: its name cannot stand in a pool's id"));
                continue;
            };
            let before = self.pools.get(&id).map(|pool| pool.endpoints.clone()).unwrap_or_default();
            let mut endpoints: BTreeMap<EndpointKey, Endpoint> = BTreeMap::new();
            for instance in instances.values() {
                // What a Tidegate registered is no VM: its pods are known from their cluster.
                if instance.is_exported() {
                    continue;
                }
                let Some(endpoint) = endpoint(instance, &self.config, &mut self.names) else {
                    faults.push(format!("instance {:?} of {app}: has no address or no enabled port", instance.id()));
                    continue;
                };
                let was_there = || before.iter().any(|it| it.key() == endpoint.key());
                let state = match instance.status.as_str() {
                    "UP" => EndpointState::Ready,
                    "OUT_OF_SERVICE" if was_there() => EndpointState::Draining,
                    _ => continue,
                };
                // Two instances on one port: the one that is ready tells how it is.
                if state == EndpointState::Ready || !endpoints.contains_key(&endpoint.key()) {
                    endpoints.insert(endpoint.key(), Endpoint { state, ..endpoint });
                }
            }
            let mut endpoints: Vec<Endpoint> = endpoints.into_values().collect();
            sort(&mut endpoints);
            let content = PoolContent {
                id: id.clone(),
                endpoints: endpoints.into(),
                namespace: None,
                labels: Arc::default(),
                relayed: None,
            };
            pools.insert(id, content);
        }
        faults.into_iter().for_each(|fault| self.warn(fault));
        pools
    }

    fn warn(&mut self, fault: String) {
        if self.warned.len() < MAX_WARNED && !self.warned.contains(&fault) {
            tracing::warn!(cluster = &*self.config.cluster, "left out of its pool: {fault}");
            self.warned.insert(fault);
        }
    }
}

fn instances(all: &Applications) -> impl Iterator<Item = (&str, &Instance)> {
    all.applications.iter().flat_map(|app| app.instances.iter().map(|instance| (app.name.as_str(), instance)))
}

fn put(instances: &mut Instances, app: &str, instance: &Instance) {
    instances.entry(app.to_owned()).or_default().insert(instance.id().to_owned(), instance.clone());
}

/// As servers compute it: the number of instances of each status, by the statuses' order.
fn hashcode(instances: &Instances) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for instance in instances.values().flat_map(BTreeMap::values) {
        *counts.entry(instance.status.as_str()).or_default() += 1;
    }
    counts.iter().fold(String::new(), |mut text, (status, count)| {
        // Writing to a string does not fail.
        let _ = write!(text, "{status}_{count}_");
        text
    })
}

fn endpoint(instance: &Instance, config: &EurekaConfig, names: &mut Interner) -> Option<Endpoint> {
    let address: IpAddr = instance.ip_addr.trim().parse().ok()?;
    let (port, secure) = instance.port(config.secure)?;
    Some(Endpoint {
        weight: instance.weight().unwrap_or(DEFAULT_WEIGHT),
        zone: instance.zone().map(|zone| names.get(zone)),
        cluster: Some(config.cluster.clone()),
        target: Some(instance.id().into()),
        app_protocol: secure.then(|| names.get("https")),
        ..Endpoint::new(address, port)
    })
}
