//! What the pools of a cluster must be, computed from an API server's watch events by the rules and by nothing that
//! Tidegate has. Everything is computed anew after each event, straight from the objects: slow, and hard to get wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use serde_json::{Value, json};

/// Pools by id, each as the pull API shows it.
pub(crate) type Pools = BTreeMap<String, Arc<Value>>;

/// (namespace, name).
type Name = (String, String);

/// The objects of a cluster as of some event, and what the services had since they are there.
#[derive(Clone)]
pub(crate) struct Oracle {
    cluster: String,
    zone: Option<String>,
    strict_serving: bool,
    slices: BTreeMap<Name, Value>,
    /// The ids of pools that each service had since it has a slice: they are known, and empty where nothing is in them.
    known: BTreeMap<Name, BTreeSet<String>>,
}

/// What one slice says of an address.
#[derive(Clone)]
struct Claim {
    /// Ready, then serving though terminating, then the rest; then the newest.
    rank: (u8, u64),
    ready: bool,
    endpoint: Value,
    port: Value,
}

/// Pool, address, number, transport: what is one endpoint, whichever slices name it.
type Place = (String, IpAddr, u64, String);

impl Oracle {
    pub(crate) fn new(cluster: &str) -> Self {
        let (slices, known) = (BTreeMap::new(), BTreeMap::new());
        Self { cluster: cluster.to_owned(), zone: None, strict_serving: false, slices, known }
    }

    pub(crate) fn in_zone(self, zone: &str) -> Self {
        Self { zone: Some(zone.to_owned()), ..self }
    }

    pub(crate) fn strict(self) -> Self {
        Self { strict_serving: true, ..self }
    }

    /// Takes in one watch event.
    pub(crate) fn apply(&mut self, event: &Value) {
        let object = &event["object"];
        let text = |key: &str| object["metadata"][key].as_str().unwrap_or_default().to_owned();
        let name = (text("namespace"), text("name"));
        match event["type"].as_str() {
            Some("ADDED" | "MODIFIED") => drop(self.slices.insert(name, object.clone())),
            Some("DELETED") => drop(self.slices.remove(&name)),
            Some("BOOKMARK") => {}
            _ => panic!("no event: {event}"),
        }
        let services: BTreeSet<Name> = self.slices.values().filter_map(service_of).collect();
        self.known.retain(|service, _| services.contains(service));
        for service in services {
            let ids = self.slices_of(&service).flat_map(|slice| self.ids(&service, slice)).collect::<Vec<_>>();
            self.known.entry(service).or_default().extend(ids);
        }
    }

    /// What is published when all these events were taken in, and no more.
    pub(crate) fn pools(&self) -> Pools {
        let of_service = |(service, known): (&Name, &BTreeSet<String>)| self.pools_of(service, known);
        self.known.iter().flat_map(of_service).collect()
    }

    fn slices_of(&self, service: &Name) -> impl Iterator<Item = &Value> {
        self.slices.values().filter(move |slice| service_of(slice).as_ref() == Some(service))
    }

    fn ids(&self, service: &Name, slice: &Value) -> Vec<String> {
        ports(slice).iter().map(|port| self.id(service, port, is_six(slice))).collect()
    }

    fn id(&self, (namespace, name): &Name, port: &Value, six: bool) -> String {
        let tail = if six { "/ipv6" } else { "" };
        let named = port["name"].as_str().filter(|name| !name.is_empty()).map(str::to_owned);
        let named = named.unwrap_or_else(|| port["port"].to_string());
        format!("{}/{namespace}/{name}/{named}{tail}", self.cluster)
    }

    fn pools_of(&self, service: &Name, known: &BTreeSet<String>) -> Pools {
        let mut endpoints: BTreeMap<String, Vec<(String, u64, usize, Value)>> =
            known.iter().map(|id| (id.clone(), Vec::new())).collect();
        for six in [false, true] {
            let claims = self.claims(service, six);
            let nobody_ready = !claims.values().any(|claim| claim.ready);
            let hint = self.hint(&claims);
            for ((id, address, number, transport), claim) in &claims {
                let flag = |name: &str, absent| condition(&claim.endpoint, name, absent);
                let terminating = flag("terminating", false);
                let state = if claim.ready {
                    if hint.is_some_and(|kind| !hints(&claim.endpoint, kind).contains(&self.here())) {
                        continue;
                    }
                    "ready"
                } else if terminating {
                    if nobody_ready && flag("serving", true) { "ready" } else { "draining" }
                } else {
                    continue;
                };
                let order = ["TCP", "UDP", "SCTP"].iter().position(|it| it == transport).unwrap();
                let shown = self.shown(*address, *number, transport, state, claim);
                endpoints.entry(id.clone()).or_default().push((address.to_string(), *number, order, shown));
            }
        }
        let pool = |(id, mut of_pool): (String, Vec<(String, u64, usize, Value)>)| {
            of_pool.sort_by(|one, other| (&one.0, one.1, one.2).cmp(&(&other.0, other.1, other.2)));
            let of_pool: Vec<Value> = of_pool.into_iter().map(|it| it.3).collect();
            let shown = json!({"id": id, "endpoints": of_pool});
            (id, Arc::new(shown))
        };
        endpoints.into_iter().map(pool).collect()
    }

    /// The best claim on each place.
    fn claims(&self, service: &Name, six: bool) -> BTreeMap<Place, Claim> {
        let mut claims: BTreeMap<Place, Claim> = BTreeMap::new();
        for slice in self.slices_of(service).filter(|slice| is_six(slice) == six) {
            let version: u64 = slice["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
            for port in ports(slice) {
                for endpoint in slice["endpoints"].as_array().into_iter().flatten() {
                    let address: IpAddr = endpoint["addresses"][0].as_str().unwrap().parse().unwrap();
                    let transport = port["protocol"].as_str().unwrap_or("TCP").to_owned();
                    let place = (self.id(service, port, six), address, port["port"].as_u64().unwrap(), transport);
                    let (serving, terminating) =
                        (condition(endpoint, "serving", true), condition(endpoint, "terminating", false));
                    let ready =
                        if self.strict_serving { serving && !terminating } else { condition(endpoint, "ready", true) };
                    let rank = (if ready { 2 } else { u8::from(serving && terminating) }, version);
                    if claims.get(&place).is_none_or(|claim| claim.rank < rank) {
                        let (endpoint, port) = (endpoint.clone(), port.clone());
                        claims.insert(place, Claim { rank, ready, endpoint, port });
                    }
                }
            }
        }
        claims
    }

    /// The kind of hints that applies: if every ready endpoint has some, and one's are for us. (No node is ever ours here.)
    fn hint(&self, claims: &BTreeMap<Place, Claim>) -> Option<&'static str> {
        let ready: Vec<&Value> = claims.values().filter(|claim| claim.ready).map(|claim| &claim.endpoint).collect();
        let applies = ready.iter().all(|it| !hints(it, "forZones").is_empty())
            && ready.iter().any(|it| hints(it, "forZones").contains(&self.here()));
        applies.then_some("forZones")
    }

    fn here(&self) -> &str {
        self.zone.as_deref().unwrap_or("nowhere")
    }

    fn shown(&self, address: IpAddr, number: u64, transport: &str, state: &str, claim: &Claim) -> Value {
        let mut shown = json!({
            "address": address.to_string(), "port": number, "weight": 100, "state": state, "cluster": self.cluster,
        });
        if transport != "TCP" {
            shown["protocol"] = json!(transport);
        }
        for (key, value) in [
            ("zone", &claim.endpoint["zone"]),
            ("node", &claim.endpoint["nodeName"]),
            ("app_protocol", &claim.port["appProtocol"]),
        ] {
            if value.is_string() {
                shown[key] = value.clone();
            }
        }
        let target = &claim.endpoint["targetRef"];
        if let Some(name) = target["name"].as_str().filter(|name| !name.is_empty()) {
            shown["target"] = json!(format!("{}/{name}", target["namespace"].as_str().unwrap_or_default()));
        }
        shown
    }
}

/// The service that a slice is part of. One of names is part of none.
fn service_of(slice: &Value) -> Option<Name> {
    let name = slice["metadata"]["labels"]["kubernetes.io/service-name"].as_str().filter(|name| !name.is_empty())?;
    let of_addresses = matches!(slice["addressType"].as_str(), Some("IPv4" | "IPv6"));
    of_addresses.then(|| (slice["metadata"]["namespace"].as_str().unwrap().to_owned(), name.to_owned()))
}

fn is_six(slice: &Value) -> bool {
    slice["addressType"] == "IPv6"
}

/// The ports that have a number.
fn ports(slice: &Value) -> Vec<&Value> {
    let all = slice["ports"].as_array().into_iter().flatten();
    all.filter(|port| port["port"].as_u64().is_some_and(|number| number > 0)).collect()
}

fn condition(endpoint: &Value, name: &str, absent: bool) -> bool {
    endpoint["conditions"][name].as_bool().unwrap_or(absent)
}

fn hints<'a>(endpoint: &'a Value, kind: &str) -> Vec<&'a str> {
    endpoint["hints"][kind].as_array().into_iter().flatten().filter_map(|it| it["name"].as_str()).collect()
}
