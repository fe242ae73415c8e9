//! The JSON of Eureka's REST API, as much of it as pools are made of.
//!
//! ```json
//! {"applications":{"apps__hashcode":"UP_1_","application":[{"name":"SHOP","instance":[{"instanceId":"vm1:shop:8080",
//!   "ipAddr":"10.0.0.1","status":"UP","port":{"$":8080,"@enabled":"true"},"securePort":{"$":443,"@enabled":"false"},
//!   "metadata":{"zone":"a"},"dataCenterInfo":{"metadata":{"availability-zone":"a"}},"actionType":"ADDED"}]}]}}
//! ```
//!
//! Servers of the XStream kind write a list of one element as that element, and numbers and flags as text.

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

/// Applications with their instances, and the hashcode of the whole ring.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Applications {
    #[serde(rename = "apps__hashcode", default)]
    pub(super) hashcode: String,
    #[serde(rename = "application", default, deserialize_with = "one_or_many")]
    pub(super) applications: Vec<Application>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Application {
    pub(super) name: String,
    #[serde(rename = "instance", default, deserialize_with = "one_or_many")]
    pub(super) instances: Vec<Instance>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Instance {
    /// Absent from old clients, which are known by their host.
    #[serde(default)]
    instance_id: Option<String>,
    #[serde(default)]
    host_name: String,
    #[serde(default)]
    pub(super) ip_addr: String,
    pub(super) status: String,
    #[serde(default)]
    port: Option<Port>,
    #[serde(default)]
    secure_port: Option<Port>,
    #[serde(default)]
    metadata: Map<String, Value>,
    #[serde(default)]
    data_center_info: Map<String, Value>,
    /// What a delta says of it: `ADDED`, `MODIFIED` or `DELETED`.
    #[serde(default)]
    pub(super) action_type: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
struct Port {
    #[serde(rename = "$")]
    number: Value,
    #[serde(rename = "@enabled", default)]
    enabled: Value,
}

#[derive(Deserialize)]
struct Document {
    applications: Applications,
}

fn one_or_many<'de, D: Deserializer<'de>, T: serde::de::DeserializeOwned>(reader: D) -> Result<Vec<T>, D::Error> {
    let many = match Value::deserialize(reader)? {
        Value::Null => Vec::new(),
        Value::Array(many) => many,
        one => vec![one],
    };
    many.into_iter().map(|one| serde_json::from_value(one).map_err(serde::de::Error::custom)).collect()
}

// === impl Applications ===

impl Applications {
    /// Reads a body whole.
    ///
    /// # Errors
    /// It is none of Eureka's.
    pub(super) fn read(body: &[u8]) -> Result<Self, String> {
        let document: Document =
            serde_json::from_slice(body).map_err(|error| format!("no applications of Eureka: {error}"))?;
        Ok(document.applications)
    }
}

// === impl Instance ===

impl Instance {
    /// What makes it the same instance across answers.
    pub(super) fn id(&self) -> &str {
        self.instance_id.as_deref().unwrap_or(&self.host_name)
    }

    /// The port to send to, and whether it is the secure one; `None` where neither is enabled.
    pub(super) fn port(&self, secure: bool) -> Option<(u16, bool)> {
        let enabled = |port: &Option<Port>| port.as_ref().and_then(Port::enabled);
        let plain = enabled(&self.port).map(|port| (port, false));
        let safe = enabled(&self.secure_port).map(|port| (port, true));
        if secure { safe.or(plain) } else { plain.or(safe) }
    }

    /// Its zone, by its own word or by its data centre's.
    pub(super) fn zone(&self) -> Option<&str> {
        let of_centre = || self.data_center_info.get("metadata")?.get("availability-zone");
        self.metadata.get("zone").or_else(of_centre)?.as_str().filter(|zone| !zone.is_empty())
    }

    /// Whether a Tidegate registered it.
    pub(super) fn is_exported(&self) -> bool {
        self.metadata.contains_key("tidegate")
    }

    /// Its weight, where it says one.
    pub(super) fn weight(&self) -> Option<u32> {
        let number = number(self.metadata.get("weight")?)?;
        u32::try_from(number).ok().filter(|weight| (1..=1_000_000).contains(weight))
    }
}

// === impl Port ===

impl Port {
    fn enabled(&self) -> Option<u16> {
        let enabled = match &self.enabled {
            Value::Bool(flag) => *flag,
            Value::String(text) => text == "true",
            _ => true,
        };
        u16::try_from(number(&self.number)?).ok().filter(|port| enabled && *port > 0)
    }
}

fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.trim().parse().ok())
}
