//! Topic templates: `logs.{key}`, with values from the key, the connection or the record.

use std::borrow::Cow;

use serde_json::Value;

use super::topic::{TopicName, TopicNameError, push_sanitized};

/// A parsed template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicTemplate {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Key,
    Capture(usize),
    Db,
    User,
    Json(String),
}

/// Why a template is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// An opening brace without a closing one.
    #[error("'{{' without '}}'")]
    Unclosed,
    /// A name in braces that is not known.
    #[error("{{{0}}} is not known; use {{key}}, {{1}}, {{db}}, {{user}} or {{json:/pointer}}")]
    Unknown(String),
    /// `{2}` where the glob has one `*`.
    #[error("{{{wanted}}} names wildcard {wanted}, the key's pattern has {have}")]
    Capture {
        /// The number in braces.
        wanted: usize,
        /// How many `*` the pattern has.
        have: usize,
    },
    /// A JSON pointer that does not start with a slash.
    #[error("{{json:{0}}} is no JSON pointer; it starts with '/'")]
    Pointer(String),
    /// The fixed text cannot be part of a topic's name.
    #[error(transparent)]
    Name(#[from] TopicNameError),
}

/// Why a record has no topic.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// The record is not JSON, or holds nothing at the pointer.
    #[error("the record has no text or number at {0}, which names its topic")]
    NoValue(String),
    /// The value is not in the route's `allow`.
    #[error("the record's value at {0} is not among those that the route allows")]
    NotAllowed(String),
    /// What comes out is no topic's name.
    #[error(transparent)]
    Name(#[from] TopicNameError),
}

/// What a template takes its values from.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// The Redis key or channel.
    pub key: &'a [u8],
    /// The route's glob, to find what its wildcards matched.
    pub glob: &'a str,
    /// The connection's database.
    pub db: u32,
    /// The connection's user.
    pub user: &'a str,
    /// The record's bytes.
    pub record: &'a [u8],
    /// Values that the record may name.
    pub allow: &'a [String],
}

// === impl TopicTemplate ===

impl TopicTemplate {
    /// Parses `template` for a route whose key pattern is `glob`.
    ///
    /// # Errors
    /// It names what does not exist, or its text can be part of no topic's name.
    pub fn parse(template: &str, glob: &str) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut rest = template;
        while let Some((text, tail)) = rest.split_once('{') {
            push_text(&mut parts, text)?;
            let (name, tail) = tail.split_once('}').ok_or(TemplateError::Unclosed)?;
            parts.push(part(name, glob)?);
            rest = tail;
        }
        push_text(&mut parts, rest)?;
        if parts.is_empty() {
            return Err(TopicNameError::Empty.into());
        }
        Ok(Self { parts })
    }

    /// True where each record may name another topic.
    pub fn reads_record(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Json(_)))
    }

    /// Whether some record may have named this topic: its fixed text fits, with a value wherever the template takes one.
    pub fn may_name(&self, topic: &str) -> bool {
        // What stands before, between and behind values.
        let mut texts = vec![String::new()];
        for part in &self.parts {
            match (part, texts.last_mut()) {
                (Part::Text(text), Some(last)) => last.push_str(text),
                _ => texts.push(String::new()),
            }
        }
        let Some((first, rest)) = texts.split_first() else { return false };
        let Some(mut left) = topic.strip_prefix(first.as_str()) else { return false };
        let Some((last, between)) = rest.split_last() else { return left.is_empty() };
        for text in between {
            // A value has one byte at least; a topic's name is ASCII.
            let found = left.get(1..).and_then(|behind| behind.find(text.as_str()));
            let Some(behind) = found.and_then(|at| left.get(1 + at + text.len()..)) else { return false };
            left = behind;
        }
        left.len() > last.len() && left.ends_with(last.as_str())
    }

    /// The topic for a record.
    ///
    /// # Errors
    /// The record names no topic, one that is not allowed, or one that Kafka would refuse.
    pub fn resolve(&self, source: &Source<'_>) -> Result<TopicName, ResolveError> {
        let mut name = String::new();
        let mut json = None;
        for part in &self.parts {
            match part {
                Part::Text(text) => name.push_str(text),
                Part::Key => push_sanitized(&mut name, source.key),
                Part::Capture(index) => {
                    push_sanitized(&mut name, capture(source.glob.as_bytes(), source.key, *index).unwrap_or_default());
                }
                Part::Db => name.push_str(&source.db.to_string()),
                Part::User => push_sanitized(&mut name, source.user.as_bytes()),
                Part::Json(pointer) => {
                    let json = json.get_or_insert_with(|| serde_json::from_slice::<Value>(source.record).ok());
                    let value = json.as_ref().and_then(|json| json.pointer(pointer)).and_then(scalar);
                    let value = value.ok_or_else(|| ResolveError::NoValue(pointer.clone()))?;
                    if !source.allow.iter().any(|allowed| allowed.as_str() == value) {
                        return Err(ResolveError::NotAllowed(pointer.clone()));
                    }
                    push_sanitized(&mut name, value.as_bytes());
                }
            }
        }
        Ok(TopicName::new(&name)?)
    }
}

fn push_text(parts: &mut Vec<Part>, text: &str) -> Result<(), TemplateError> {
    if text.is_empty() {
        return Ok(());
    }
    match TopicName::new(text) {
        // A part may be dots, the whole may not: that is seen when the topic is resolved.
        Ok(_) | Err(TopicNameError::Dots(_)) => {}
        Err(wrong) => return Err(wrong.into()),
    }
    parts.push(Part::Text(text.to_owned()));
    Ok(())
}

fn part(name: &str, glob: &str) -> Result<Part, TemplateError> {
    match name {
        "key" => Ok(Part::Key),
        "db" => Ok(Part::Db),
        "user" => Ok(Part::User),
        name => {
            if let Some(pointer) = name.strip_prefix("json:") {
                let valid = pointer.starts_with('/');
                return if valid {
                    Ok(Part::Json(pointer.to_owned()))
                } else {
                    Err(TemplateError::Pointer(pointer.into()))
                };
            }
            let wanted: usize = name.parse().map_err(|_| TemplateError::Unknown(name.to_owned()))?;
            let have = glob.bytes().filter(|&byte| byte == b'*').count();
            if wanted == 0 || wanted > have {
                return Err(TemplateError::Capture { wanted, have });
            }
            Ok(Part::Capture(wanted))
        }
    }
}

/// A JSON value as text, where it is a scalar that can name something.
pub fn scalar(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) => Some(Cow::Borrowed(text)),
        Value::Number(number) => Some(Cow::Owned(number.to_string())),
        Value::Bool(flag) => Some(Cow::Borrowed(if *flag { "true" } else { "false" })),
        _ => None,
    }
}

/// What the `index`-th `*` of `glob` matched in `key`: the shortest match of each but the last, as only plain text, `*`
/// and `?` are followed here; a glob with classes or alternatives yields the text between its plain parts.
fn capture<'k>(glob: &[u8], key: &'k [u8], index: usize) -> Option<&'k [u8]> {
    let pieces: Vec<&[u8]> = glob.split(|&byte| byte == b'*').collect();
    let mut at = pieces.first()?.len();
    for (number, piece) in pieces.iter().enumerate().skip(1) {
        let rest = key.get(at..)?;
        let last = number == pieces.len() - 1;
        let length = if last { rest.len().checked_sub(piece.len())? } else { find(rest, piece)? };
        if number == index {
            return rest.get(..length);
        }
        at += length + piece.len();
    }
    None
}

fn find(within: &[u8], piece: &[u8]) -> Option<usize> {
    if piece.is_empty() {
        return Some(0);
    }
    within
        .windows(piece.len())
        .position(|window| window.iter().zip(piece).all(|(byte, wanted)| *wanted == b'?' || byte == wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_known_as_one_that_a_template_may_name() {
        let may = |template: &str, topic: &str| TopicTemplate::parse(template, "a*").unwrap().may_name(topic);
        assert!(may("logs", "logs") && !may("logs", "logs2") && !may("logs", "log"));
        assert!(may("logs.{key}", "logs.app") && !may("logs.{key}", "logs.") && !may("logs.{key}", "other.app"));
        assert!(may("{1}.v1", "a.v1") && !may("{1}.v1", ".v1") && !may("{1}.v1", "a.v2"));
        assert!(may("a.{db}.{1}.z", "a.0.b.z") && may("a.{db}.{1}.z", "a.0.b.c.z") && !may("a.{db}.{1}.z", "a.0.z"));
        assert!(may("{db}{1}", "12") && !may("{db}{1}", "1"));
    }

    fn source<'a>(key: &'a str, glob: &'a str) -> Source<'a> {
        Source { key: key.as_bytes(), glob, db: 3, user: "shop", record: b"", allow: &[] }
    }

    fn resolve(template: &str, glob: &str, key: &str) -> String {
        TopicTemplate::parse(template, glob).unwrap().resolve(&source(key, glob)).unwrap().to_string()
    }

    #[test]
    fn values_come_from_key_connection_and_wildcards() {
        assert_eq!(resolve("logs.{key}", "*", "shop:cart"), "logs.shop.cart");
        assert_eq!(resolve("{user}-{db}", "*", "x"), "shop-3");
        assert_eq!(resolve("logs.{1}", "app-*", "app-cart"), "logs.cart");
        assert_eq!(resolve("{2}.{1}", "*-*", "a-b-c"), "b-c.a");
        assert_eq!(resolve("{2}", "a*b?d*", "axxbcdyy"), "yy");
    }

    #[test]
    fn a_record_may_name_its_topic_only_from_the_allow_list() {
        let template = TopicTemplate::parse("logs.{json:/app}", "*").unwrap();
        let allow = ["cart".to_owned(), "7".to_owned()];
        let of = |record: &'static str| {
            template.resolve(&Source { record: record.as_bytes(), allow: &allow, ..source("k", "*") })
        };
        assert_eq!(of(r#"{"app":"cart"}"#).unwrap().as_str(), "logs.cart");
        assert_eq!(of(r#"{"app":7}"#).unwrap().as_str(), "logs.7");
        assert_eq!(of(r#"{"app":"other"}"#), Err(ResolveError::NotAllowed("/app".into())));
        assert_eq!(of("not json"), Err(ResolveError::NoValue("/app".into())));
        assert!(template.reads_record());
    }

    #[test]
    fn what_makes_no_topic_is_refused() {
        assert_eq!(TopicTemplate::parse("a{key", "*"), Err(TemplateError::Unclosed));
        assert_eq!(TopicTemplate::parse("{nope}", "*"), Err(TemplateError::Unknown("nope".into())));
        assert_eq!(TopicTemplate::parse("{2}", "a*"), Err(TemplateError::Capture { wanted: 2, have: 1 }));
        assert_eq!(TopicTemplate::parse("{json:app}", "*"), Err(TemplateError::Pointer("app".into())));
        assert_eq!(TopicTemplate::parse("a b", "*"), Err(TopicNameError::Character(' ').into()));
        assert_eq!(TopicTemplate::parse("", "*"), Err(TopicNameError::Empty.into()));
        let template = TopicTemplate::parse("{key}", "*").unwrap();
        assert_eq!(template.resolve(&source("..", "*")), Err(TopicNameError::Dots("..".into()).into()));
    }
}
