//! Environments: what differs between the places that an application runs in, laid over its template. An image never does:
//! what was tested is what goes on.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::revision::container_mut;

/// What one environment lays over a container of the template.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Environment {
    /// As `test` or `production`.
    #[schemars(length(min = 1, max = 63), regex(pattern = "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"))]
    pub name: String,
    /// The container that it is laid over; else the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub container: Option<String>,
    /// In place of the container's args.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256), inner(length(max = 4096)))]
    pub args: Option<Vec<String>>,
    /// Variables, as a container has them: each in place of the one of its name, or after all others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "variables")]
    pub env: Vec<Value>,
    /// Requests and limits, each in place of the container's own of that name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
}

/// What a container asks for and may have at most: by name, as `cpu: 500m`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Resources {
    /// What it asks for.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[schemars(schema_with = "super::any_object")]
    pub requests: Map<String, Value>,
    /// What it may have at most.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    #[schemars(schema_with = "super::any_object")]
    pub limits: Map<String, Value>,
}

fn variables(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array", "maxItems": 256,
        "items": {
            "type": "object", "required": ["name"], "x-kubernetes-preserve-unknown-fields": true,
            "properties": {"name": {"type": "string", "minLength": 1, "maxLength": 1024}},
        },
    })
}

// === impl Environment ===

impl Environment {
    /// The template in this environment: nothing but args, variables and resources of one container is another.
    ///
    /// # Errors
    /// There is no such container, or what it has is not of the form that this could be laid over.
    pub fn over(&self, template: &Value) -> Result<Value, String> {
        let mut template = template.clone();
        let container = container_mut(&mut template, self.container.as_deref())?;
        if let Some(args) = &self.args {
            container.insert("args".to_owned(), args.clone().into());
        }
        if !self.env.is_empty() {
            let before = container.remove("env").unwrap_or_else(|| Value::Array(Vec::new()));
            let Value::Array(before) = before else { return Err("its template has an env that is no list".to_owned()) };
            container.insert("env".to_owned(), by_name(before, &self.env).into());
        }
        for (kind, ours) in self.resources.iter().flat_map(|it| [("requests", &it.requests), ("limits", &it.limits)]) {
            if ours.is_empty() {
                continue;
            }
            let resources = object(container, "resources")?;
            object(resources, kind)?.extend(ours.clone());
        }
        Ok(template)
    }
}

/// Items of a list that have names: each of the second in place of the first's of its name, or after all others.
fn by_name(mut before: Vec<Value>, over: &[Value]) -> Vec<Value> {
    for item in over {
        match before.iter_mut().find(|it| it.get("name") == item.get("name")) {
            Some(it) => *it = item.clone(),
            None => before.push(item.clone()),
        }
    }
    before
}

fn object<'a>(of: &'a mut Map<String, Value>, key: &str) -> Result<&'a mut Map<String, Value>, String> {
    let value = of.entry(key).or_insert_with(|| Value::Object(Map::new()));
    value.as_object_mut().ok_or_else(|| format!("its template has {key} that are no object"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::control::resource::revision::{has_image, revision_of};

    const IMAGE: &str = "web@sha256:0a";

    fn template() -> Value {
        json!({"spec": {"containers": [
            {"name": "web", "image": IMAGE, "args": ["serve"], "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
             "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}},
            {"name": "log", "image": "log:1"},
        ]}})
    }

    fn environment(it: Value) -> Environment {
        serde_json::from_value(it).unwrap()
    }

    #[test]
    fn an_environment_changes_args_variables_and_resources_of_one_container_and_nothing_else() {
        let over = environment(json!({
            "name": "test", "args": ["serve", "--debug"],
            "env": [{"name": "B", "valueFrom": {"secretKeyRef": {"name": "s", "key": "b"}}}, {"name": "C", "value": "3"}],
            "resources": {"requests": {"cpu": "100m"}, "limits": {"memory": "2Gi"}},
        }));
        let made = over.over(&template()).unwrap();
        let mut wanted = template();
        let container = &mut wanted["spec"]["containers"][0];
        container["args"] = json!(["serve", "--debug"]);
        container["env"] = json!([
            {"name": "A", "value": "1"}, {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s", "key": "b"}}},
            {"name": "C", "value": "3"},
        ]);
        container["resources"] = json!({"requests": {"cpu": "100m", "memory": "1Gi"}, "limits": {"memory": "2Gi"}});
        assert_eq!(made, wanted);
    }

    #[test]
    fn the_image_is_the_same_in_every_environment_and_the_revision_is_not() {
        let test = environment(json!({"name": "test", "env": [{"name": "A", "value": "test"}]}));
        // Whatever else an overlay says is not taken from it.
        let live = environment(json!({"name": "live", "image": "web@sha256:0b", "args": ["serve", "--fast"]}));
        let [test, live] = [test, live].map(|it| it.over(&template()).unwrap());
        assert!(has_image(&test, IMAGE) && has_image(&live, IMAGE));
        assert_ne!(revision_of(&test), revision_of(&live));
    }

    #[test]
    fn one_that_says_nothing_changes_nothing_and_one_for_no_container_says_so() {
        let plain = environment(json!({"name": "plain"}));
        assert_eq!(plain.over(&template()).unwrap(), template());
        let other =
            environment(json!({"name": "other", "container": "log", "args": ["-v"]})).over(&template()).unwrap();
        assert_eq!(other["spec"]["containers"][1], json!({"name": "log", "image": "log:1", "args": ["-v"]}));
        let none = environment(json!({"name": "none", "container": "db"})).over(&template());
        assert!(none.unwrap_err().contains("\"db\""));
        let odd = json!({"spec": {"containers": [{"name": "web", "env": "A=1"}]}});
        assert!(environment(json!({"name": "x", "env": [{"name": "A"}]})).over(&odd).unwrap_err().contains("no list"));
    }
}
