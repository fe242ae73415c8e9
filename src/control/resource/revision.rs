//! A revision: what pods are made from, by a name that follows from it alone.

use std::fmt::Write as _;

use ring::digest::{SHA256, digest};
use serde_json::{Map, Value};

/// Hexadecimal digits of a revision's name: two of one App do not meet.
const DIGITS: usize = 10;

/// The revision of a PodTemplateSpec: the same for the same, in whatever order its fields stand.
pub fn revision_of(template: &Value) -> String {
    // The keys of a Value are sorted.
    let hash = digest(&SHA256, template.to_string().as_bytes());
    let mut name = String::with_capacity(DIGITS);
    for byte in hash.as_ref().iter().take(DIGITS / 2) {
        // Writing to a String does not fail.
        let _ = write!(name, "{byte:02x}");
    }
    name
}

/// The template with another image in a container; without a name, in the first.
///
/// # Errors
/// There is no such container.
pub fn with_image(template: &Value, container: Option<&str>, image: &str) -> Result<Value, String> {
    let mut template = template.clone();
    container_mut(&mut template, container)?.insert("image".to_owned(), image.into());
    Ok(template)
}

/// A container of the template; without a name, the first.
///
/// # Errors
/// There is no such container.
pub fn container_mut<'a>(template: &'a mut Value, name: Option<&str>) -> Result<&'a mut Map<String, Value>, String> {
    let containers = template.pointer_mut("/spec/containers").and_then(Value::as_array_mut);
    let named = |it: &&mut Value| name.is_none_or(|name| it.get("name").and_then(Value::as_str) == Some(name));
    let found = containers.and_then(|all| all.iter_mut().find(named)).and_then(Value::as_object_mut);
    found.ok_or_else(|| match name {
        Some(name) => format!("its template has no container {name:?}"),
        None => "its template has no container".to_owned(),
    })
}

/// Whether a container of the template has this image.
pub fn has_image(template: &Value, image: &str) -> bool {
    let containers = template.pointer("/spec/containers").and_then(Value::as_array);
    containers.is_some_and(|all| all.iter().any(|it| it.get("image").and_then(Value::as_str) == Some(image)))
}

/// The name of the container that has this image.
pub fn container_of(template: &Value, image: &str) -> Option<String> {
    let containers = template.pointer("/spec/containers").and_then(Value::as_array)?;
    let found = containers.iter().find(|it| it.get("image").and_then(Value::as_str) == Some(image))?;
    Some(found.get("name")?.as_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_revision_follows_from_what_the_template_says_and_not_from_how() {
        let one: Value = serde_json::from_str(r#"{"a":1,"b":{"c":2,"d":3}}"#).unwrap();
        let same: Value = serde_json::from_str(r#"{"b":{"d":3,"c":2},"a":1}"#).unwrap();
        assert_eq!(revision_of(&one), revision_of(&same));
        assert_ne!(revision_of(&one), revision_of(&json!({"a": 1})));
        assert_eq!(revision_of(&one).len(), DIGITS);
    }

    #[test]
    fn an_image_is_put_into_the_container_that_is_named() {
        let template = json!({"spec": {"containers": [{"name": "web", "image": "a"}, {"name": "log", "image": "b"}]}});
        let changed = with_image(&template, Some("log"), "c").unwrap();
        assert!(has_image(&changed, "a") && has_image(&changed, "c") && !has_image(&changed, "b"));
        assert_eq!(container_of(&changed, "c").as_deref(), Some("log"));
        assert!(has_image(&with_image(&template, None, "c").unwrap(), "b"));
        assert!(with_image(&template, Some("none"), "c").unwrap_err().contains("none"));
        assert!(with_image(&json!({}), None, "c").is_err());
    }
}
