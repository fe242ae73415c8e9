//! IngressClasses: which of them are served here, and which Ingresses are of these. Pure.
//!
//! A class is served where its `spec.controller` is ours. An Ingress names its class in `ingressClassName`, or in the annotation that
//! came before this field and still counts before it. One that names none is of the cluster's default class: of several that are
//! marked as such, the newest, as the API server has it for Ingresses that are made.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::object::{Ingress, IngressClass, Key, Kind, Object};
use super::settle::Verdict;
use super::status::CONTROLLER;
use super::wish::Refusal;

/// In the configuration: every class of this controller.
const EVERY: &str = "*";
/// Marks the class of Ingresses that name none.
const DEFAULT: &str = "ingressclass.kubernetes.io/is-default-class";
/// Where an Ingress named its class before there was a field for it.
const ANNOTATION: &str = "kubernetes.io/ingress.class";

/// Every IngressClass, by its name.
type All = BTreeMap<Key, Object<IngressClass>>;

/// The classes that are meant by the configuration.
#[derive(Debug)]
pub(super) struct Classes<'a> {
    /// By name; with a refusal where Ingresses of it are not taken.
    meant: BTreeMap<&'a str, Option<Refusal>>,
    /// Those of our controller, be they another gateway's or our own.
    ours: BTreeSet<&'a str>,
    /// The class of Ingresses that name none, whoever's it is.
    default: Option<&'a str>,
}

/// Why Ingresses of a class are not taken.
fn refusal(class: Option<&Object<IngressClass>>) -> Option<Refusal> {
    let not_ours = |message: String| Some(Refusal { reason: "NotOurs", message });
    let Some(class) = class else { return not_ours("there is no such IngressClass".to_owned()) };
    if !is_ours(class) {
        return not_ours(format!("its controller is another: ours is called {CONTROLLER}"));
    }
    let message = "spec.parameters: there are no parameters: remove it";
    class.spec.get("parameters").map(|_| Refusal { reason: "InvalidParameters", message: message.to_owned() })
}

fn is_ours(class: &Object<IngressClass>) -> bool {
    class.spec.get("controller").and_then(Value::as_str) == Some(CONTROLLER)
}

fn annotation<'a, K: Kind>(object: &'a Object<K>, name: &str) -> Option<&'a str> {
    object.metadata.annotations.as_ref()?.get(name).map(String::as_str)
}

/// What an Ingress says of its class.
fn named(ingress: &Object<Ingress>) -> Option<&str> {
    let field = || ingress.spec.get("ingressClassName").and_then(Value::as_str);
    annotation(ingress, ANNOTATION).filter(|name| !name.is_empty()).or_else(field)
}

// === impl Classes ===

impl<'a> Classes<'a> {
    /// `wanted` is the name of a class, or `*`; without it, none are served.
    pub(super) fn new(all: &'a All, wanted: Option<&'a str>) -> Self {
        let meant = match wanted {
            None => BTreeMap::new(),
            Some(EVERY) => {
                let ours = all.iter().filter(|(_, class)| is_ours(class));
                ours.map(|((_, name), class)| (name.as_str(), refusal(Some(class)))).collect()
            }
            Some(name) => [(name, refusal(all.get(&(String::new(), name.to_owned()))))].into(),
        };
        let marked = all.iter().filter(|(_, class)| annotation(*class, DEFAULT) == Some("true"));
        let newest = marked.max_by_key(|&((_, name), class)| (class.since(), Reverse(name)));
        let ours = all.iter().filter(|(_, class)| is_ours(class)).map(|((_, name), _)| name.as_str()).collect();
        Self { meant, ours, default: newest.map(|((_, name), _)| name.as_str()) }
    }

    /// Whether an Ingress is of a class that is served here.
    pub(super) fn take(&self, ingress: &Object<Ingress>) -> bool {
        self.of(ingress).is_some_and(|name| self.meant.get(name).is_some_and(Option::is_none))
    }

    /// Whether no gateway of ours serves an Ingress: neither this one, nor one that means another class of our controller.
    pub(super) fn leave(&self, ingress: &Object<Ingress>) -> bool {
        let elsewhere = |name: &str| self.ours.contains(name) && !self.meant.contains_key(name);
        !self.take(ingress) && !self.of(ingress).is_some_and(elsewhere)
    }

    /// The name of an Ingress's class.
    fn of<'b>(&self, ingress: &'b Object<Ingress>) -> Option<&'b str>
    where
        'a: 'b,
    {
        named(ingress).or(self.default)
    }

    /// What became of each class.
    pub(super) fn verdicts(&self) -> impl Iterator<Item = Verdict> {
        self.meant.iter().map(|(name, refused)| Verdict {
            kind: IngressClass::NAME,
            key: (String::new(), (*name).to_owned()),
            attachments: Vec::new(),
            taken: Vec::new(),
            refused: refused.clone(),
            unresolved: Vec::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn class(name: &str, since: i64, controller: &str, is_default: bool) -> (Key, Object<IngressClass>) {
        let mut object = Object::for_tests("", name, since, json!({"controller": controller}));
        let marked = [(DEFAULT.to_owned(), is_default.to_string())];
        object.metadata.annotations = Some(marked.into());
        (object.key(), object)
    }

    fn ingress(field: Option<&str>, old: Option<&str>) -> Object<Ingress> {
        let spec = field.map_or_else(|| json!({}), |name| json!({"ingressClassName": name}));
        let mut object = Object::for_tests("shop", "in", 9, spec);
        object.metadata.annotations = old.map(|name| [(ANNOTATION.to_owned(), name.to_owned())].into());
        object
    }

    #[test]
    fn an_ingress_is_taken_by_what_its_class_says_of_its_controller() {
        let all: All = [class("ours", 1, CONTROLLER, false), class("nginx", 2, "k8s.io/ingress-nginx", true)].into();
        for wanted in ["ours", EVERY] {
            let classes = Classes::new(&all, Some(wanted));
            for (field, old, taken) in [
                (Some("ours"), None, true),
                (Some("nginx"), None, false),
                (Some("gone"), None, false),
                (Some("tidegate.dev/gateway"), None, false),
                (None, Some("ours"), true),
                (None, Some("nginx"), false),
                // The annotation counts before the field.
                (Some("ours"), Some("nginx"), false),
                (Some("nginx"), Some("ours"), true),
                (Some("ours"), Some(""), true),
                (None, None, false),
            ] {
                assert_eq!(classes.take(&ingress(field, old)), taken, "{wanted}: {field:?} {old:?}");
            }
        }
        assert!(!Classes::new(&all, None).take(&ingress(Some("ours"), None)));
        assert!(
            !Classes::new(&all, Some("nginx")).take(&ingress(Some("nginx"), None)),
            "another's, whatever we are told"
        );
    }

    #[test]
    fn who_names_no_class_is_of_the_newest_default_class() {
        let taken = |all: &All, wanted| Classes::new(all, Some(wanted)).take(&ingress(None, None));
        let all: All = [class("ours", 1, CONTROLLER, true), class("other", 2, CONTROLLER, false)].into();
        assert!(taken(&all, "ours") && taken(&all, EVERY));
        assert!(!taken(&all, "other"), "the default is not the class that is served");
        let newer: All = [class("ours", 1, CONTROLLER, true), class("nginx", 2, "x.example/y", true)].into();
        assert!(!taken(&newer, EVERY), "the newest of two is another's");
        let same: All = [class("a", 2, CONTROLLER, true), class("b", 2, "x.example/y", true)].into();
        assert!(taken(&same, EVERY), "of the same second, the first by name");
    }

    #[test]
    fn a_class_that_is_not_served_says_why() {
        let mut all: All = [class("ours", 1, CONTROLLER, false), class("nginx", 2, "x.example/y", false)].into();
        let said = |all: &All, wanted| -> Vec<String> {
            let verdict = |it: Verdict| format!("{}: {}", it.key.1, it.refused.map_or("", |refused| refused.reason));
            Classes::new(all, Some(wanted)).verdicts().map(verdict).collect()
        };
        assert_eq!(said(&all, EVERY), ["ours: "]);
        assert_eq!(said(&all, "nginx"), ["nginx: NotOurs"]);
        assert_eq!(said(&all, "gone"), ["gone: NotOurs"]);
        let (_, ours) = all.iter_mut().find(|((_, name), _)| name == "ours").unwrap();
        ours.spec["parameters"] = json!({"kind": "X", "name": "y"});
        assert_eq!(said(&all, EVERY), ["ours: InvalidParameters"]);
        assert!(!Classes::new(&all, Some(EVERY)).take(&ingress(Some("ours"), None)));
    }
}
