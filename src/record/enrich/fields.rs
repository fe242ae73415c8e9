//! Fields written into a JSON object, before its closing brace, without touching a byte of what the sender wrote.
//!
//! The record is read once, to know that it is one JSON object and which of our names it has itself: those are the sender's
//! and are left out. GELF wants some fields of its own beside; a text that is no object becomes its message.

use std::fmt;

use serde::Deserialize;
use serde::de::{IgnoredAny, MapAccess, Visitor};

/// What the plain names begin with, and GELF's.
const PREFIX: &str = "tidegate_";
const GELF_PREFIX: &str = "_tidegate_";
/// A message must be there; what its senders call it elsewhere, in order.
const SHORT: &str = "short_message";
const MESSAGES: [&str; 4] = ["message", "msg", "log", "text"];
/// GELF's own fields that are added where they are missing.
const VERSION: &str = "version";
const HOST: &str = "host";
const TIMESTAMP: &str = "timestamp";

/// Fields in the making.
#[derive(Clone, Debug)]
pub(super) struct Fields {
    prefix: &'static str,
    /// Name and the whole field, `"name":"value"`, sorted by name.
    fields: Vec<(String, String)>,
    /// All of them, with commas between.
    joined: String,
    /// GELF's host; `None`: not GELF.
    host: Option<String>,
}

/// What must be known of an object to write into it.
#[derive(Default)]
struct Outline {
    empty: bool,
    /// Places in [`Fields::fields`] that the sender has itself.
    taken: Vec<usize>,
    /// Names of those of [`OWN`] that it has.
    own: Vec<&'static str>,
    /// The first of [`MESSAGES`] that is there as a text.
    message: Option<(usize, String)>,
}

/// Names that are looked for beside the prepared ones.
const OWN: [&str; 8] =
    [SHORT, VERSION, HOST, TIMESTAMP, "tidegate_id", "tidegate_received", "_tidegate_id", "_tidegate_received"];

// === impl Fields ===

impl Fields {
    pub(super) fn plain(named: &[(String, String)]) -> Self {
        Self::prepare(PREFIX, named, None)
    }

    pub(super) fn gelf(named: &[(String, String)], host: &str) -> Self {
        Self::prepare(GELF_PREFIX, named, Some(host.to_owned()))
    }

    fn prepare(prefix: &'static str, named: &[(String, String)], host: Option<String>) -> Self {
        let mut fields: Vec<_> = named.iter().map(|(name, value)| (format!("{prefix}{name}"), value)).collect();
        fields.sort();
        let fields: Vec<_> = fields.into_iter().map(|(name, value)| (field(&name, value), name)).collect();
        let fields: Vec<_> = fields.into_iter().map(|(field, name)| (name, field)).collect();
        let joined: Vec<&str> = fields.iter().map(|(_, field)| field.as_str()).collect();
        Self { prefix, joined: joined.join(","), fields, host }
    }

    /// Bytes that are added to every record.
    pub(super) fn len(&self) -> usize {
        self.joined.len() + self.host.as_ref().map_or(0, |host| host.len() + 100)
    }

    /// Writes the record with its fields into `out`. False: it is nothing to write into, and `out` is of no use.
    pub(super) fn splice<'a>(
        &self,
        record: &[u8],
        own: impl Iterator<Item = (&'a str, &'a str)>,
        received_ms: i64,
        out: &mut Vec<u8>,
    ) -> bool {
        out.clear();
        let text = record.trim_ascii();
        let is_object = text.first() == Some(&b'{');
        let outline = if is_object { self.outline(record) } else { None };
        let mut outline = match (outline, &self.host) {
            (Some(outline), _) => {
                // All but the closing brace, which is the last byte that is no blank.
                out.extend_from_slice(record.get(..record.trim_ascii_end().len() - 1).unwrap_or_default());
                outline
            }
            (None, None) => return false,
            (None, Some(_)) => {
                let Ok(message) = std::str::from_utf8(record) else { return false };
                out.push(b'{');
                Outline { empty: true, message: Some((0, message.to_owned())), ..Outline::default() }
            }
        };
        let mut first = outline.empty;
        let mut put = |field: &str| {
            if !std::mem::take(&mut first) {
                out.push(b',');
            }
            out.extend_from_slice(field.as_bytes());
        };
        if let Some(host) = &self.host {
            let missing = |name| !outline.own.contains(&name);
            if missing(VERSION) {
                put(&field(VERSION, "1.1"));
            }
            if missing(HOST) {
                put(&field(HOST, host));
            }
            if missing(SHORT) {
                let message = outline.message.take().map(|(_, message)| message).filter(|text| !text.is_empty());
                put(&field(SHORT, message.as_deref().unwrap_or("-")));
            }
            if missing(TIMESTAMP) {
                let (seconds, millis) = (received_ms.div_euclid(1000), received_ms.rem_euclid(1000));
                put(&format!("\"{TIMESTAMP}\":{seconds}.{millis:03}"));
            }
        }
        if outline.taken.is_empty() {
            if !self.joined.is_empty() {
                put(&self.joined);
            }
        } else {
            let free = self.fields.iter().enumerate().filter(|(place, _)| !outline.taken.contains(place));
            free.for_each(|(_, (_, field))| put(field));
        }
        for (name, value) in own {
            let name = format!("{}{name}", self.prefix);
            if !outline.own.contains(&name.as_str()) {
                put(&field(&name, value));
            }
        }
        out.push(b'}');
        true
    }

    /// `None` where the record is not one JSON object.
    fn outline(&self, record: &[u8]) -> Option<Outline> {
        let mut json = serde_json::Deserializer::from_slice(record);
        let outline = serde::Deserializer::deserialize_map(&mut json, OutlineVisitor(self)).ok()?;
        json.end().ok()?;
        Some(outline)
    }
}

struct OutlineVisitor<'f>(&'f Fields);

impl<'de> Visitor<'de> for OutlineVisitor<'_> {
    type Value = Outline;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Outline, A::Error> {
        let mut outline = Outline { empty: true, ..Outline::default() };
        while let Some(Key(key)) = map.next_key()? {
            outline.empty = false;
            if let Ok(place) = self.0.fields.binary_search_by(|(name, _)| name.as_str().cmp(&key)) {
                outline.taken.push(place);
            }
            outline.own.extend(OWN.iter().find(|name| **name == key));
            let rank = if self.0.host.is_some() { MESSAGES.iter().position(|name| *name == key) } else { None };
            match rank {
                Some(rank) if outline.message.as_ref().is_none_or(|(best, _)| rank < *best) => {
                    if let Message(Some(text)) = map.next_value()? {
                        outline.message = Some((rank, text));
                    }
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(outline)
    }
}

/// A key, borrowed where it has no escapes.
#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] std::borrow::Cow<'a, str>);

/// A text, or anything else that is not kept.
struct Message(Option<String>);

impl<'de> Deserialize<'de> for Message {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Any {
            Text(String),
            Other(IgnoredAny),
        }
        Ok(match Any::deserialize(deserializer)? {
            Any::Text(text) => Self(Some(text)),
            Any::Other(_) => Self(None),
        })
    }
}

/// `"name":"value"`.
fn field(name: &str, value: &str) -> String {
    let quoted = |text| serde_json::Value::from(text).to_string();
    format!("{}:{}", quoted(name), quoted(value))
}
