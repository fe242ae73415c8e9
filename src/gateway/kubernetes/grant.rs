//! Whether an object may name one of another namespace: a ReferenceGrant there says so.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::object::{Key, Object, ReferenceGrant};

/// By their names, each with what it grants.
pub(super) type Grants = BTreeMap<Key, Vec<Grant>>;

/// Who may name what. Every one of `from` may name every one of `to`.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Grant {
    #[serde(default)]
    from: Vec<Origin>,
    #[serde(default)]
    to: Vec<Aim>,
}

#[derive(Clone, Debug, Deserialize)]
struct Origin {
    group: String,
    kind: String,
    namespace: String,
}

#[derive(Clone, Debug, Deserialize)]
struct Aim {
    group: String,
    kind: String,
    /// Absent: all of them.
    name: Option<String>,
}

/// Who names an object: its group, its kind and its namespace.
#[derive(Clone, Copy, Debug)]
pub(super) struct Referrer<'a> {
    pub(super) group: &'a str,
    pub(super) kind: &'a str,
    pub(super) namespace: &'a str,
}

/// What a ReferenceGrant grants; one that is not understood grants nothing.
pub(super) fn read(object: Object<ReferenceGrant>) -> Vec<Grant> {
    Grant::deserialize(&object.spec).into_iter().collect()
}

/// Whether an object of the core group, of this kind and name, may be named.
pub(super) fn permits(grants: &Grants, who: Referrer<'_>, kind: &str, (namespace, name): (&str, &str)) -> bool {
    if who.namespace == namespace {
        return true;
    }
    let from = |it: &Origin| it.group == who.group && it.kind == who.kind && it.namespace == who.namespace;
    let to = |it: &Aim| it.group.is_empty() && it.kind == kind && it.name.as_deref().is_none_or(|own| own == name);
    let there = grants.iter().filter(|((of, _), _)| of == namespace).flat_map(|(_, grants)| grants);
    there.into_iter().any(|grant| grant.from.iter().any(from) && grant.to.iter().any(to))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn granted(spec: Value, who: Referrer<'_>, name: &str) -> bool {
        let object = Object::for_tests("shop", "it", 0, spec);
        let grants: Grants = [(object.key(), read(object))].into();
        permits(&grants, who, "Service", ("shop", name))
    }

    #[test]
    fn what_is_named_in_another_namespace_needs_a_grant_there_for_just_that() {
        let who = Referrer { group: "g", kind: "HTTPRoute", namespace: "blog" };
        let spec = |from: Value, to: Value| json!({"from": [from], "to": [to]});
        let from = json!({"group": "g", "kind": "HTTPRoute", "namespace": "blog"});
        let to = json!({"group": "", "kind": "Service"});
        assert!(granted(spec(from.clone(), to.clone()), who, "web"));
        let named = json!({"group": "", "kind": "Service", "name": "web"});
        assert!(granted(spec(from.clone(), named.clone()), who, "web"));
        assert!(!granted(spec(from.clone(), named), who, "api"), "another name");
        assert!(!granted(spec(from.clone(), json!({"group": "", "kind": "Secret"})), who, "web"), "another kind");
        for other in [
            json!({"group": "g", "kind": "HTTPRoute", "namespace": "news"}),
            json!({"group": "g", "kind": "Gateway", "namespace": "blog"}),
            json!({"group": "h", "kind": "HTTPRoute", "namespace": "blog"}),
        ] {
            assert!(!granted(spec(other.clone(), to.clone()), who, "web"), "{other}");
        }
        assert!(!granted(json!({"from": 1}), who, "web"), "one that is not understood");
        assert!(granted(json!({}), Referrer { namespace: "shop", ..who }, "web"), "one's own needs none");
        // A grant of the namespace that asks says nothing of another's.
        let object = Object::for_tests("blog", "it", 0, spec(from, to));
        let grants: Grants = [(object.key(), read(object))].into();
        assert!(!permits(&grants, who, "Service", ("shop", "web")));
    }
}
