//! Which records are shown.

use std::str::FromStr;

use serde_json::Value;

/// All conditions that a record must meet.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// A text that it contains.
    pub grep: Option<String>,
    /// Values that it has, being JSON.
    pub fields: Vec<FieldFilter>,
}

/// `/pointer=value`: a JSON record's value at a pointer, compared as text (`/status=500` takes 500 and "500").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldFilter {
    pointer: String,
    value: String,
}

/// A text is no field filter.
#[derive(Debug, thiserror::Error)]
#[error("write /POINTER=VALUE, as /level=error")]
pub struct FieldFilterError;

// === impl Filter ===

impl Filter {
    /// Whether a record's value meets them.
    pub fn takes(&self, record: &[u8]) -> bool {
        let contains =
            |text: &String| text.is_empty() || record.windows(text.len()).any(|window| window == text.as_bytes());
        if !self.grep.as_ref().is_none_or(contains) {
            return false;
        }
        if self.fields.is_empty() {
            return true;
        }
        let Ok(json) = serde_json::from_slice::<Value>(record) else { return false };
        self.fields.iter().all(|field| field.takes(&json))
    }
}

// === impl FieldFilter ===

impl FieldFilter {
    fn takes(&self, json: &Value) -> bool {
        match json.pointer(&self.pointer) {
            Some(Value::String(text)) => *text == self.value,
            Some(other) => {
                let text = other.to_string();
                text == self.value
            }
            None => false,
        }
    }
}

impl FromStr for FieldFilter {
    type Err = FieldFilterError;

    fn from_str(text: &str) -> Result<Self, FieldFilterError> {
        let (pointer, value) = text.split_once('=').ok_or(FieldFilterError)?;
        if !pointer.starts_with('/') {
            return Err(FieldFilterError);
        }
        Ok(Self { pointer: pointer.to_owned(), value: value.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(texts: &[&str]) -> Filter {
        Filter { grep: None, fields: texts.iter().map(|text| text.parse().unwrap()).collect() }
    }

    #[test]
    fn fields_compare_strings_numbers_and_nested_values() {
        let record = br#"{"level":"error","status":500,"http":{"path":"/a=b"},"ok":false}"#;
        for taken in
            [&["/level=error"][..], &["/status=500"], &["/http/path=/a=b"], &["/ok=false", "/level=error"], &[]]
        {
            assert!(fields(taken).takes(record), "{taken:?}");
        }
        for left in [&["/level=info"][..], &["/none=1"], &["/ok=false", "/level=info"]] {
            assert!(!fields(left).takes(record), "{left:?}");
        }
    }

    #[test]
    fn a_record_that_is_no_json_has_no_fields() {
        assert!(!fields(&["/level=error"]).takes(b"level=error"));
    }

    #[test]
    fn grep_finds_bytes_in_any_record() {
        let grep = |text: &str| Filter { grep: Some(text.to_owned()), fields: Vec::new() };
        assert!(grep("time").takes(b"\xff timeout \0"));
        assert!(!grep("Time").takes(b"timeout"));
        assert!(!grep("longer than it").takes(b"short"));
    }
}
