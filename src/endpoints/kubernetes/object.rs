//! As much of Kubernetes's objects as pools are made from. Everything else, managed fields above all, is passed over
//! while the text is read and never takes memory.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Deserialize;

/// The label that names a slice's service.
pub(super) const SERVICE_LABEL: &str = "kubernetes.io/service-name";

/// What all objects have.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Metadata {
    /// Name within the namespace.
    pub name: String,
    /// Namespace.
    pub namespace: String,
    /// Version of this state of it.
    pub resource_version: String,
    /// Counts changes of the wish (`spec`).
    pub generation: i64,
    /// When it was made, in RFC 3339.
    pub creation_timestamp: Option<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Those annotations that mean something here.
    #[serde(deserialize_with = "or_none")]
    pub annotations: Annotations,
}

/// The annotations that are read; all others are passed over.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Annotations {
    /// Of a bookmark: "true" where a watch's initial events end with it.
    #[serde(rename = "k8s.io/initial-events-end")]
    pub initial_events_end: Option<String>,
    /// Of a Service: the hosts that lead to it.
    #[serde(rename = "tidegate.dev/hosts")]
    pub hosts: Option<String>,
    /// Of a Service: the port that they lead to, by name or number.
    #[serde(rename = "tidegate.dev/hosts-port")]
    pub hosts_port: Option<String>,
}

/// (namespace, name): what an object is told apart by from the others of its kind.
pub(super) type Key = (String, String);

/// A page of a list.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct List<T> {
    /// About the list.
    pub metadata: ListMetadata,
    /// What is in it.
    pub items: Vec<T>,
}

/// About a list.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ListMetadata {
    /// The version as of which the list holds.
    pub resource_version: String,
    /// What asks for the next page; empty for the last one.
    #[serde(rename = "continue")]
    pub next: String,
}

/// One line of a watch.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "type", content = "object", rename_all = "UPPERCASE")]
pub(super) enum WatchLine<T> {
    /// New.
    Added(T),
    /// Changed.
    Modified(T),
    /// Gone; as it was last.
    Deleted(T),
    /// Nothing but the version reached.
    Bookmark(BookmarkLine),
    /// The watch's end.
    Error(Status),
}

/// The object of a bookmark.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct BookmarkLine {
    /// Its version, and whether the initial events ended with it.
    pub metadata: Metadata,
}

/// Why a request or a watch failed, in the API server's words.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Status {
    /// As HTTP's status codes.
    pub code: u16,
    /// For people.
    pub message: String,
}

/// An EndpointSlice.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct SliceObject {
    /// As of every object.
    pub metadata: Metadata,
    /// IPv4, IPv6 or FQDN.
    pub address_type: String,
    /// May be absent for none.
    #[serde(deserialize_with = "nullable")]
    pub endpoints: Vec<SliceEndpointObject>,
    /// May be absent for none.
    #[serde(deserialize_with = "nullable")]
    pub ports: Vec<PortObject>,
}

/// One endpoint of a slice.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct SliceEndpointObject {
    /// Only the first counts.
    #[serde(deserialize_with = "nullable")]
    pub addresses: Vec<String>,
    /// May be absent.
    pub conditions: Option<ConditionsObject>,
    /// Where it runs.
    pub node_name: Option<String>,
    /// Where that is.
    pub zone: Option<String>,
    /// What it is.
    pub target_ref: Option<TargetObject>,
    /// Who should use it.
    pub hints: Option<HintsObject>,
}

/// What is known of an endpoint's state; nothing is not the same as false.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ConditionsObject {
    /// Absent means true.
    pub ready: Option<bool>,
    /// Absent means true.
    pub serving: Option<bool>,
    /// Absent means false.
    pub terminating: Option<bool>,
}

/// What an endpoint is.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct TargetObject {
    /// Pod, mostly.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// Who should use an endpoint.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct HintsObject {
    /// Clients in these zones.
    #[serde(deserialize_with = "nullable")]
    pub for_zones: Vec<NamedObject>,
    /// Clients on these nodes.
    #[serde(deserialize_with = "nullable")]
    pub for_nodes: Vec<NamedObject>,
}

/// Something that has a name.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct NamedObject {
    /// Its name.
    pub name: String,
}

/// A port of a slice; everything may be absent.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PortObject {
    /// What the service's port matches by.
    pub name: Option<String>,
    /// Absent means every port, of which no pool can be made.
    pub port: Option<u16>,
    /// Absent means TCP.
    pub protocol: Option<String>,
    /// As `h2c`.
    pub app_protocol: Option<String>,
}

/// An Endpoints object of old clusters.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct EndpointsObject {
    /// As of every object; it is named as its service.
    pub metadata: Metadata,
    /// May be absent for none.
    #[serde(deserialize_with = "nullable")]
    pub subsets: Vec<SubsetObject>,
}

/// Addresses that have the same ports.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct SubsetObject {
    /// Those that are ready.
    #[serde(deserialize_with = "nullable")]
    pub addresses: Vec<AddressObject>,
    /// Those that are not.
    #[serde(deserialize_with = "nullable")]
    pub not_ready_addresses: Vec<AddressObject>,
    /// Their ports.
    #[serde(deserialize_with = "nullable")]
    pub ports: Vec<PortObject>,
}

/// One address of an Endpoints object.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct AddressObject {
    /// IPv4 or IPv6.
    pub ip: String,
    /// Where it runs.
    pub node_name: Option<String>,
    /// What it is.
    pub target_ref: Option<TargetObject>,
}

/// Kubernetes writes an empty list as absent, as null or as a list.
fn nullable<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Annotations may be null.
fn or_none<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Annotations, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

// === impl Metadata ===

impl Metadata {
    /// What the object is told apart by.
    pub(super) fn key(&self) -> Key {
        (self.namespace.clone(), self.name.clone())
    }

    /// When it was made, in seconds of the Unix epoch; 0 where that is not known.
    pub(super) fn created(&self) -> u64 {
        let time = self.creation_timestamp.as_deref().and_then(|text| text.parse::<jiff::Timestamp>().ok());
        time.and_then(|time| u64::try_from(time.as_second()).ok()).unwrap_or_default()
    }

    /// Whether a watch's initial events end with it.
    pub(super) fn ends_initial_events(&self) -> bool {
        self.annotations.initial_events_end.as_deref() == Some("true")
    }
}

// === impl SliceObject ===

impl From<EndpointsObject> for Vec<SliceObject> {
    /// Each subset as up to two slices, one for each address family. Endpoints that terminate are simply absent from an
    /// Endpoints object, so that draining cannot be told from it.
    fn from(object: EndpointsObject) -> Self {
        let mut labels = object.metadata.labels.clone();
        labels.insert(SERVICE_LABEL.to_owned(), object.metadata.name.clone());
        let mut slices = Vec::new();
        for (index, subset) in object.subsets.into_iter().enumerate() {
            let ready = subset.addresses.into_iter().map(|address| (address, true));
            let all: Vec<_> = ready.chain(subset.not_ready_addresses.into_iter().map(|it| (it, false))).collect();
            for (family, of_family) in [("IPv4", IpAddr::is_ipv4 as fn(&IpAddr) -> bool), ("IPv6", IpAddr::is_ipv6)] {
                let of_family = all.iter().filter(|(it, _)| it.ip.parse().is_ok_and(|address| of_family(&address)));
                let endpoints: Vec<_> = of_family.map(|(it, ready)| it.endpoint(*ready)).collect();
                if endpoints.is_empty() {
                    continue;
                }
                let name = format!("{}-{index}-{family}", object.metadata.name);
                let metadata = Metadata { name, labels: labels.clone(), ..object.metadata.clone() };
                let ports = subset.ports.clone();
                slices.push(SliceObject { metadata, address_type: family.to_owned(), endpoints, ports });
            }
        }
        if slices.is_empty() {
            // The service is known, and empty.
            let metadata = Metadata { labels, ..object.metadata };
            slices.push(SliceObject { metadata, address_type: "IPv4".to_owned(), ..SliceObject::default() });
        }
        slices
    }
}

// === impl AddressObject ===

impl AddressObject {
    fn endpoint(&self, ready: bool) -> SliceEndpointObject {
        SliceEndpointObject {
            addresses: vec![self.ip.clone()],
            conditions: Some(ConditionsObject { ready: Some(ready), serving: Some(ready), terminating: None }),
            node_name: self.node_name.clone(),
            target_ref: self.target_ref.clone(),
            ..SliceEndpointObject::default()
        }
    }
}
