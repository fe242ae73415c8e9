//! A checker that is as strict as an index of documents.

use serde_json::Value;
use std::collections::BTreeMap;

/// What an index makes of documents: one type for each path, dots being levels.
#[derive(Default)]
pub struct Index(pub BTreeMap<String, &'static str>);

impl Index {
    /// Takes a document in, or says why it is lost.
    pub fn take(&mut self, document: &Value) -> Result<(), String> {
        for (name, value) in document.as_object().ok_or("no object")? {
            let steps: Vec<&str> = name.split('.').collect();
            for end in 1..steps.len() {
                self.note(steps[..end].join("."), "object")?;
            }
            let kind = match value {
                Value::String(_) => "text",
                Value::Number(_) => "number",
                Value::Bool(_) => "boolean",
                _ => "object",
            };
            self.note(name.clone(), kind)?;
        }
        Ok(())
    }

    fn note(&mut self, path: String, kind: &'static str) -> Result<(), String> {
        let known = *self.0.entry(path.clone()).or_insert(kind);
        if known == kind { Ok(()) } else { Err(format!("{path} is {known}, and {kind} now")) }
    }
}
