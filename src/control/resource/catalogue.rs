//! The catalogue: defaults of Apps of one kind, which people's own values are merged into.

#![expect(unreachable_pub, reason = "the derive of KubeSchema writes a type a second time, inside a function")]

use std::collections::BTreeSet;

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Defaults of Apps of one kind. They are merged with people's values when an App is made or changed (`tidegate app render`, `tidegate
/// app apply`), and never afterwards: a changed template changes no App.
#[derive(Clone, CustomResource, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[kube(
    group = "tidegate.dev",
    version = "v1alpha1",
    kind = "AppTemplate",
    namespaced,
    derive = "PartialEq",
    doc = "Defaults of Apps of one kind.",
    printcolumn(name = "Description", type_ = "string", json_path = ".spec.description")
)]
#[serde(rename_all = "camelCase")]
pub struct AppTemplateSpec {
    /// For what it is.
    #[serde(default)]
    #[schemars(length(max = 1024))]
    pub description: String,
    /// Fields of the spec of an App: all of them, or some.
    #[schemars(schema_with = "super::any_object")]
    pub app: Value,
}

/// Defaults with values over them: objects field by field, where null takes a field away; lists whose items have names of their own
/// (containers, variables, ports, volumes) item by item; everything else as the values say.
pub fn merged(defaults: &Value, values: &Value) -> Value {
    match (defaults, values) {
        (defaults, Value::Object(values)) => {
            let mut all = defaults.as_object().cloned().unwrap_or_default();
            for (key, value) in values {
                if value.is_null() {
                    all.remove(key);
                } else {
                    let under = all.remove(key).unwrap_or_default();
                    all.insert(key.clone(), merged(&under, value));
                }
            }
            Value::Object(all)
        }
        (Value::Array(defaults), Value::Array(values)) if have_names(defaults) && have_names(values) => {
            let mut all = defaults.clone();
            for value in values {
                match all.iter_mut().find(|it| it.get("name") == value.get("name")) {
                    Some(under) => *under = merged(under, value),
                    None => all.push(value.clone()),
                }
            }
            Value::Array(all)
        }
        _ => values.clone(),
    }
}

/// Whether each item has a name that none of the others has.
fn have_names(items: &[Value]) -> bool {
    let names: BTreeSet<&str> = items.iter().filter_map(|it| it.get("name")?.as_str()).collect();
    names.len() == items.len()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_come_over_defaults_field_by_field_and_named_items_one_by_one() {
        let defaults = json!({
            "replicas": 2, "team": "platform", "strategy": {"blueGreen": {"approval": true}},
            "template": {"spec": {"containers": [
                {"name": "app", "resources": {"requests": {"cpu": "1"}}, "env": [{"name": "A", "value": "1"}], "args": ["x", "y"]},
                {"name": "mesh", "image": "mesh:1"},
            ]}},
        });
        let values = json!({
            "replicas": 5, "team": null, "strategy": {"blueGreen": null, "rolling": {}},
            "template": {"spec": {"containers": [
                {"name": "app", "image": "web:1", "env": [{"name": "B", "value": "2"}], "args": ["z"]}, {"name": "log"},
            ]}},
        });
        let wanted = json!({
            "replicas": 5, "strategy": {"rolling": {}},
            "template": {"spec": {"containers": [
                {
                    "name": "app", "image": "web:1", "resources": {"requests": {"cpu": "1"}},
                    "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}], "args": ["z"],
                },
                {"name": "mesh", "image": "mesh:1"}, {"name": "log"},
            ]}},
        });
        assert_eq!(merged(&defaults, &values), wanted);
        assert_eq!(merged(&defaults, &json!({})), defaults);
    }

    #[test]
    fn items_whose_names_are_not_their_own_are_a_list_as_a_whole() {
        let twice = json!([{"name": "data", "mountPath": "/a"}, {"name": "data", "mountPath": "/b"}]);
        assert_eq!(
            merged(&twice, &json!([{"name": "data", "mountPath": "/c"}])),
            json!([{"name": "data", "mountPath": "/c"}])
        );
        assert_eq!(
            merged(&json!({"deep": {"a": 1}}), &json!({"deep": {"b": {"c": null}}})),
            json!({"deep": {"a": 1, "b": {}}})
        );
    }
}
