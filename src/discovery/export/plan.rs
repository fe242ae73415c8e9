//! What is to be in the ring, and what follows from what is there. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::ExportConfig;
use crate::discovery::formats::eureka::app_of;
use crate::endpoints::Snapshot;
use crate::endpoints::pool::{Endpoint, Protocol};

/// Instances that are kept in a ring; more would not be renewed in time.
const MAX_INSTANCES: usize = 5_000;
/// The metadata that names the owner of an instance.
const OWNER: &str = "tidegate";
/// The states of an instance that takes requests and of one that drains.
const UP: &str = "UP";
const OUT_OF_SERVICE: &str = "OUT_OF_SERVICE";

/// An instance of an application.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    /// In capitals.
    pub(super) app: String,
    /// Unique within it.
    pub(super) id: String,
}

/// What is registered of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Registration {
    endpoint: Endpoint,
    owner: String,
    lease: Duration,
}

/// An instance of ours in the ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Known {
    /// What was registered; `None` where another life did it, or the ring has lost it.
    pub(super) registration: Option<Registration>,
    /// Whether the ring says that it takes requests.
    pub(super) up: bool,
    /// When its lease was renewed.
    pub(super) at: Instant,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step<'a> {
    /// It is new or other than it was.
    Register(Key, &'a Registration),
    /// Its lease.
    Renew(Key),
    /// It is no longer wanted.
    Remove(Key),
}

// === impl Key ===

impl Key {
    /// Where it is in Eureka's REST API.
    pub(super) fn path(&self) -> String {
        format!("/apps/{}/{}", self.app, self.id)
    }
}

// === impl Registration ===

impl Registration {
    /// Whether it takes requests.
    pub(super) fn is_up(&self) -> bool {
        self.endpoint.is_ready()
    }

    /// Its state, in Eureka's words.
    pub(super) fn status(&self) -> &'static str {
        if self.is_up() { UP } else { OUT_OF_SERVICE }
    }
}

/// All that is wanted: the pods of the pools that the configuration names. Ids that are others' are left out.
pub(super) fn wanted(
    snapshot: &Snapshot,
    config: &ExportConfig,
    foreign: &BTreeSet<Key>,
) -> (BTreeMap<Key, Registration>, BTreeSet<Key>) {
    let (mut wanted, mut refused) = (BTreeMap::new(), BTreeSet::new());
    let pools = config.pools.iter().flat_map(|prefix| snapshot.pools_with_prefix(prefix));
    // What has no namespace is no Service: a VM of a file or of a ring.
    for pool in pools.filter(|pool| pool.namespace.is_some()) {
        let app = app_of(&pool.id);
        for endpoint in pool.endpoints.iter().filter(|endpoint| endpoint.protocol == Protocol::Tcp) {
            let id = format!("tidegate:{}:{}:{}", endpoint.address, app.to_ascii_lowercase(), endpoint.port);
            let key = Key { app: app.clone(), id };
            if foreign.contains(&key) || wanted.len() >= MAX_INSTANCES {
                refused.insert(key);
                continue;
            }
            let registration =
                Registration { endpoint: endpoint.clone(), owner: config.owner.clone(), lease: 3 * config.heartbeat };
            wanted.insert(key, registration);
        }
    }
    (wanted, refused)
}

/// What makes the ring as wanted: who must not get requests any more first, then who may, then leases.
pub(super) fn steps<'a>(
    wanted: &'a BTreeMap<Key, Registration>,
    known: &BTreeMap<Key, Known>,
    now: Instant,
    heartbeat: Duration,
) -> Vec<Step<'a>> {
    let gone = known.keys().filter(|key| !wanted.contains_key(*key)).cloned().map(Step::Remove);
    let differs = |key: &Key, it: &Registration| known.get(key).and_then(|it| it.registration.as_ref()) != Some(it);
    let new = wanted.iter().filter(|(key, it)| differs(key, it)).map(|(key, it)| Step::Register(key.clone(), it));
    let due = |key: &Key| known.get(key).is_some_and(|it| now.duration_since(it.at) >= heartbeat);
    let due = wanted.iter().filter(|(key, it)| !differs(key, it) && due(key));
    gone.chain(new).chain(due.map(|(key, _)| Step::Renew(key.clone()))).collect()
}

/// The instances of this owner in a ring, of which another life may have registered them, and the ids of all others.
pub(super) fn ours(body: &[u8], owner: &str) -> Result<(BTreeMap<Key, Known>, BTreeSet<Key>), String> {
    let document: Value =
        serde_json::from_slice(body).map_err(|error| format!("the ring's answer is no JSON: {error}"))?;
    let applications = document.get("applications").ok_or("the ring's answer has no applications")?;
    let (mut known, mut foreign) = (BTreeMap::new(), BTreeSet::new());
    for application in one_or_many(applications.get("application")) {
        let Some(app) = application.get("name").and_then(Value::as_str) else { continue };
        for instance in one_or_many(application.get("instance")) {
            let Some(id) = instance.get("instanceId").and_then(Value::as_str) else { continue };
            let key = Key { app: app.to_owned(), id: id.to_owned() };
            match of_owner(instance, owner) {
                Some(it) => drop(known.insert(key, it)),
                None => drop(foreign.insert(key)),
            }
        }
    }
    Ok((known, foreign))
}

/// The instance in a ring's answer about one, if this owner registered it.
pub(super) fn ours_alone(body: &[u8], owner: &str) -> Result<Option<Known>, String> {
    let document: Value =
        serde_json::from_slice(body).map_err(|error| format!("the ring's answer is no JSON: {error}"))?;
    let instance = document.get("instance").ok_or("the ring's answer has no instance")?;
    Ok(of_owner(instance, owner))
}

fn of_owner(instance: &Value, owner: &str) -> Option<Known> {
    let of = instance.get("metadata").and_then(|metadata| metadata.get(OWNER)).and_then(Value::as_str);
    let up = instance.get("status").and_then(Value::as_str) == Some(UP);
    (of == Some(owner)).then(|| Known { registration: None, up, at: Instant::now() })
}

fn one_or_many(value: Option<&Value>) -> &[Value] {
    match value {
        Some(Value::Array(many)) => many,
        Some(Value::Null) | None => &[],
        Some(one) => std::slice::from_ref(one),
    }
}

/// The body of a registration at a time in milliseconds of the Unix epoch, which orders it among those of one instance.
pub(super) fn instance(key: &Key, registration: &Registration, millis: u64) -> Value {
    let Registration { endpoint, owner, lease } = registration;
    let address = endpoint.address.to_string();
    let vip = key.app.to_ascii_lowercase();
    let text = |text: &Option<std::sync::Arc<str>>| text.as_deref().unwrap_or_default().to_owned();
    json!({ "instance": {
        "instanceId": key.id, "hostName": address, "app": key.app, "ipAddr": address,
        "status": registration.status(),
        "overriddenstatus": "UNKNOWN",
        "port": { "$": endpoint.port, "@enabled": "true" }, "securePort": { "$": 443, "@enabled": "false" },
        "countryId": 1, "vipAddress": vip, "secureVipAddress": vip,
        "dataCenterInfo": { "@class": "com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo", "name": "MyOwn" },
        "leaseInfo": { "renewalIntervalInSecs": lease.as_secs() / 3, "durationInSecs": lease.as_secs() },
        "metadata": {
            OWNER: owner, "zone": text(&endpoint.zone), "cluster": text(&endpoint.cluster),
            "target": text(&endpoint.target), "weight": endpoint.weight.to_string(),
        },
        "lastUpdatedTimestamp": millis.to_string(), "lastDirtyTimestamp": millis.to_string(),
        "isCoordinatingDiscoveryServer": "false", "actionType": "ADDED",
    }})
}

#[cfg(test)]
impl Registration {
    /// As [`wanted`] makes it.
    pub(super) fn of(endpoint: &Endpoint, owner: &str, lease: Duration) -> Self {
        Self { endpoint: endpoint.clone(), owner: owner.to_owned(), lease }
    }
}
