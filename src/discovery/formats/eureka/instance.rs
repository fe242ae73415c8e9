//! An endpoint as an instance of Eureka, in JSON and in XML.
//!
//! The shapes are those of Netflix's server: a port is an object of `$` and `@enabled`, or an element with the attribute
//! `enabled`; numbers that are times are strings in JSON. Times and leases mean nothing here and are the same always, so
//! that a body depends on content alone.

use std::fmt::Write as _;
use std::net::SocketAddr;

use serde_json::{Map, Value, json};

use crate::endpoints::pool::Endpoint;

/// What a client is to do with an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::discovery) enum Action {
    /// Have it, whether it had it or not.
    Added,
    /// No longer have it.
    Deleted,
}

/// An instance.
#[derive(Clone, Debug)]
pub(in crate::discovery) struct Instance {
    id: String,
    app: String,
    endpoint: Endpoint,
}

/// Its status: a draining endpoint gets no new requests.
pub(super) fn status(endpoint: &Endpoint) -> &'static str {
    if endpoint.is_ready() { "UP" } else { "OUT_OF_SERVICE" }
}

const DATA_CENTER: &str = "com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo";

/// Of a lease, in seconds or milliseconds.
const LEASE: [(&str, u64); 6] = [
    ("renewalIntervalInSecs", 30),
    ("durationInSecs", 90),
    ("registrationTimestamp", 0),
    ("lastRenewalTimestamp", 0),
    ("evictionTimestamp", 0),
    ("serviceUpTimestamp", 0),
];

// === impl Action ===

impl Action {
    fn name(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Deleted => "DELETED",
        }
    }
}

// === impl Instance ===

impl Instance {
    pub(super) fn new(app: &str, endpoint: &Endpoint) -> Self {
        let id = format!("{}:{}:{}", endpoint.address, app.to_ascii_lowercase(), endpoint.port);
        Self { id, app: app.to_owned(), endpoint: endpoint.clone() }
    }

    /// Unique within the application.
    pub(in crate::discovery) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn status(&self) -> &'static str {
        status(&self.endpoint)
    }

    /// Fields that are plain text in both formats, in the order of Netflix's server.
    fn texts(&self, action: Action) -> [(&'static str, String); 13] {
        let address = self.endpoint.address.to_string();
        let vip = self.app.to_ascii_lowercase();
        [
            ("instanceId", self.id.clone()),
            ("hostName", address.clone()),
            ("app", self.app.clone()),
            ("ipAddr", address),
            ("status", self.status().to_owned()),
            ("overriddenstatus", "UNKNOWN".to_owned()),
            ("homePageUrl", format!("http://{}/", SocketAddr::new(self.endpoint.address, self.endpoint.port))),
            ("vipAddress", vip.clone()),
            ("secureVipAddress", vip),
            ("isCoordinatingDiscoveryServer", "false".to_owned()),
            ("lastUpdatedTimestamp", "0".to_owned()),
            ("lastDirtyTimestamp", "0".to_owned()),
            ("actionType", action.name().to_owned()),
        ]
    }

    fn metadata(&self) -> impl Iterator<Item = (&'static str, String)> {
        let endpoint = &self.endpoint;
        let optional = [
            ("cluster", &endpoint.cluster),
            ("node", &endpoint.node),
            ("target", &endpoint.target),
            ("zone", &endpoint.zone),
        ];
        let known = optional.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?.to_owned())));
        known.chain([("weight", endpoint.weight.to_string())])
    }

    /// The instance as a JSON object.
    pub(in crate::discovery) fn json(&self, action: Action) -> String {
        let mut object = Map::new();
        object.extend(self.texts(action).map(|(name, text)| (name.to_owned(), Value::String(text))));
        let port = |number: u16, enabled: bool| json!({"$": number, "@enabled": enabled.to_string()});
        object.insert("port".to_owned(), port(self.endpoint.port, true));
        object.insert("securePort".to_owned(), port(443, false));
        object.insert("countryId".to_owned(), json!(1));
        object.insert("dataCenterInfo".to_owned(), json!({"@class": DATA_CENTER, "name": "MyOwn"}));
        object.insert(
            "leaseInfo".to_owned(),
            LEASE.into_iter().map(|(name, it)| (name.to_owned(), Value::from(it))).collect(),
        );
        let metadata = self.metadata().map(|(name, text)| (name.to_owned(), Value::String(text)));
        object.insert("metadata".to_owned(), metadata.collect());
        Value::Object(object).to_string()
    }

    /// The instance as an XML element.
    pub(in crate::discovery) fn xml(&self, action: Action) -> String {
        let mut text = String::from("<instance>");
        for (name, value) in self.texts(action) {
            element(&mut text, name, &value);
        }
        // Writing to a string does not fail.
        let _ = write!(text, "<port enabled=\"true\">{}</port>", self.endpoint.port);
        text.push_str("<securePort enabled=\"false\">443</securePort><countryId>1</countryId>");
        let _ = write!(text, "<dataCenterInfo class=\"{DATA_CENTER}\"><name>MyOwn</name></dataCenterInfo><leaseInfo>");
        for (name, value) in LEASE {
            element(&mut text, name, &value.to_string());
        }
        text.push_str("</leaseInfo><metadata>");
        for (name, value) in self.metadata() {
            element(&mut text, name, &value);
        }
        text.push_str("</metadata></instance>");
        text
    }
}

/// An element with text in it.
pub(in crate::discovery) fn element(xml: &mut String, name: &str, text: &str) {
    let _ = write!(xml, "<{name}>");
    for char in text.chars() {
        match char {
            '&' => xml.push_str("&amp;"),
            '<' => xml.push_str("&lt;"),
            '>' => xml.push_str("&gt;"),
            // No XML 1.0 document can have these.
            char if char.is_control() => xml.push(' '),
            char => xml.push(char),
        }
    }
    let _ = write!(xml, "</{name}>");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance() -> Instance {
        let endpoint = Endpoint {
            zone: Some("a<&".into()),
            target: Some("shop/web-x".into()),
            ..Endpoint::new("10.1.2.3".parse().unwrap(), 8080)
        };
        Instance::new("WEB", &endpoint)
    }

    #[test]
    fn json_has_the_shapes_that_the_jvm_client_parses() {
        let value: Value = serde_json::from_str(&instance().json(Action::Added)).unwrap();
        assert_eq!(value["port"], json!({"$": 8080, "@enabled": "true"}));
        assert_eq!(value["dataCenterInfo"]["@class"], "com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo");
        assert_eq!((&value["instanceId"], &value["actionType"]), (&"10.1.2.3:web:8080".into(), &"ADDED".into()));
        assert_eq!((&value["app"], &value["vipAddress"]), (&"WEB".into(), &"web".into()));
        assert_eq!(value["metadata"], json!({"target": "shop/web-x", "weight": "100", "zone": "a<&"}));
        assert_eq!(value["homePageUrl"], "http://10.1.2.3:8080/");
    }

    #[test]
    fn xml_has_the_same_in_elements() {
        let xml = instance().xml(Action::Deleted);
        for part in [
            "<instance><instanceId>10.1.2.3:web:8080</instanceId>",
            "<port enabled=\"true\">8080</port>",
            "<actionType>DELETED</actionType>",
            "<zone>a&lt;&amp;</zone>",
            "<dataCenterInfo class=\"com.netflix.appinfo.InstanceInfo$DefaultDataCenterInfo\"><name>MyOwn</name>",
        ] {
            assert!(xml.contains(part), "{part} in {xml}");
        }
    }
}
