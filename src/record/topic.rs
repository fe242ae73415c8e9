//! Names of Kafka topics.

use std::fmt;
use std::sync::Arc;

/// Kafka's own bound on a topic's name (`org.apache.kafka.common.internals.Topic`), in bytes.
const MAX_LENGTH: usize = 249;

/// A name that Kafka accepts: 1–249 of `[a-zA-Z0-9._-]`, not `.` or `..`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicName(Arc<str>);

/// Why a name is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopicNameError {
    /// Nothing is left to name it by.
    #[error("the topic's name is empty")]
    Empty,
    /// `.` and `..` are not allowed by Kafka.
    #[error("a topic cannot be named '{0}'")]
    Dots(String),
    /// Over 249 bytes.
    #[error("the topic's name has {0} bytes, Kafka allows 249")]
    TooLong(usize),
    /// A byte that Kafka refuses.
    #[error("a topic's name cannot hold '{0}'; Kafka allows letters, digits, '.', '_' and '-'")]
    Character(char),
}

// === impl TopicName ===

impl TopicName {
    /// Checks a name.
    ///
    /// # Errors
    /// Kafka would refuse it.
    pub fn new(name: &str) -> Result<Self, TopicNameError> {
        if let Some(wrong) = name.chars().find(|&c| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '_' | '-')) {
            return Err(TopicNameError::Character(wrong));
        }
        match name {
            "" => Err(TopicNameError::Empty),
            "." | ".." => Err(TopicNameError::Dots(name.to_owned())),
            name if name.len() > MAX_LENGTH => Err(TopicNameError::TooLong(name.len())),
            name => Ok(Self(Arc::from(name))),
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// Appends `value` as a part of a topic's name: `:` and `/` become `.`, every other byte that Kafka refuses becomes `_`.
pub fn push_sanitized(name: &mut String, value: &[u8]) {
    name.extend(value.iter().map(|&byte| match byte {
        b':' | b'/' => '.',
        byte if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-') => char::from(byte),
        _ => '_',
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_kafka_refuses_are_refused() {
        assert_eq!(TopicName::new(""), Err(TopicNameError::Empty));
        assert_eq!(TopicName::new(".."), Err(TopicNameError::Dots("..".into())));
        assert_eq!(TopicName::new("a b"), Err(TopicNameError::Character(' ')));
        assert_eq!(TopicName::new(&"a".repeat(250)), Err(TopicNameError::TooLong(250)));
        assert_eq!(TopicName::new(&"a".repeat(249)).unwrap().as_str().len(), 249);
    }

    #[test]
    fn a_value_is_turned_into_what_kafka_allows() {
        let mut name = String::from("logs.");
        push_sanitized(&mut name, b"shop:cart/v1 x\xff");
        assert_eq!(name, "logs.shop.cart.v1_x_");
    }
}
