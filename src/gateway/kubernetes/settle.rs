//! From all objects to the routes that hold, and a verdict on each object. Pure.
//!
//! A host belongs to the namespace whose object for it was created first (of the same second, the first by namespace and name),
//! with all its paths; what the operator's own file names belongs to the operator. Whoever comes later does not get it, and is told
//! so. Among the routes of a host the more specific one is asked first, as the Gateway API has it, whatever objects they stand in.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::http_route::{self, ParentRef};
use super::ingress;
use super::object::{HttpRoute, Ingress, Key, Kind, Object};
use super::wish::{Refusal, Scene, Services, Wish};
use crate::gateway::config::{Field, HostPattern, Matches, PathPattern, RouteConfig};

/// Everything that is known of a cluster.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) routes: BTreeMap<Key, Object<HttpRoute>>,
    pub(super) ingresses: BTreeMap<Key, Object<Ingress>>,
    pub(super) services: Services,
    /// Hosts of the operator's own routes, as they are shown.
    pub(super) operators: BTreeSet<String>,
}

/// Which objects are meant.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub(super) cluster: Arc<str>,
    /// Gateways whose HTTPRoutes are taken, `NAMESPACE/NAME`.
    pub(super) gateways: Vec<String>,
    /// The class whose Ingresses are taken; absent: none.
    pub(super) ingress_class: Option<String>,
}

/// What became of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) kind: &'static str,
    pub(super) key: Key,
    /// Hosts that are another's, with who that is.
    pub(super) taken: Vec<String>,
    /// Why nothing of it holds.
    pub(super) refused: Option<Refusal>,
    /// What leads nowhere as yet.
    pub(super) unresolved: Vec<String>,
}

/// What holds.
#[derive(Debug, Default)]
pub(super) struct Settled {
    /// In the order in which they are asked.
    pub(super) routes: Vec<RouteConfig>,
    pub(super) verdicts: Vec<Verdict>,
}

/// An object's wish, or why there is none.
struct Told {
    kind: &'static str,
    key: Key,
    since: i64,
    wishes: Result<Vec<Wish>, Refusal>,
}

// === impl Verdict ===

impl Verdict {
    /// In a word, for metrics.
    pub(super) fn result(&self) -> &'static str {
        match &self.refused {
            _ if !self.taken.is_empty() => "host_taken",
            Some(_) => "refused",
            None => "accepted",
        }
    }
}

/// Settles who has what.
pub(super) fn settle(known: &Known, rules: &Rules) -> Settled {
    let told = told(known, rules);
    let owners = owners(&told, &known.operators);
    let mut settled = Settled::default();
    let mut ranked = Vec::new();
    for (order, told) in told.into_iter().enumerate() {
        let Told { kind, key, wishes, .. } = told;
        let mut verdict = Verdict { kind, key, taken: Vec::new(), refused: None, unresolved: Vec::new() };
        let wishes = wishes.unwrap_or_else(|refusal| {
            verdict.refused = Some(refusal);
            Vec::new()
        });
        let mut granted = false;
        for wish in wishes {
            for host in &wish.hosts {
                match owners.get(&host.to_string()) {
                    Some(Some(owner)) if *owner == verdict.key.0 => {
                        granted = true;
                        ranked.extend(
                            wish.routes.iter().map(|route| (rank(&route.matches), order, of_host(route, host))),
                        );
                    }
                    owner => {
                        let owner = owner.cloned().flatten();
                        let owner =
                            owner.map_or("the operator".to_owned(), |namespace| format!("namespace {namespace}"));
                        verdict.taken.push(format!("{host} belongs to {owner}"));
                    }
                }
            }
            verdict.unresolved.extend(wish.unresolved);
        }
        if !granted && verdict.refused.is_none() && !verdict.taken.is_empty() {
            verdict.refused = Some(Refusal { reason: "HostTaken", message: verdict.taken.join(", ") });
        }
        settled.verdicts.push(verdict);
    }
    // Objects are in the order of their age already, and rules in that of their object.
    ranked.sort_by(|(one, at, _), (other, there, _)| (one, at).cmp(&(other, there)));
    settled.routes = ranked.into_iter().map(|(_, _, route)| route).collect();
    settled
}

/// Whose HTTPRoute of these Gateways it is.
pub(super) fn parents(object: &Object<HttpRoute>, rules: &Rules) -> Vec<(serde_json::Value, ParentRef)> {
    http_route::parents(object, &rules.gateways)
}

/// The objects that are meant, the oldest first.
fn told(known: &Known, rules: &Rules) -> Vec<Told> {
    let mut told = Vec::new();
    for (key, object) in &known.routes {
        let parents = parents(object, rules);
        if parents.is_empty() {
            continue;
        }
        let wishes = http_route::wish(object, &parents, &scene(key, known, rules)).map(|wish| vec![wish]);
        told.push(Told { kind: HttpRoute::NAME, key: key.clone(), since: object.since(), wishes });
    }
    for (key, object) in &known.ingresses {
        if rules.ingress_class.as_deref().is_some_and(|class| ingress::is_of(object, class)) {
            let wishes = ingress::wishes(object, &scene(key, known, rules));
            told.push(Told { kind: Ingress::NAME, key: key.clone(), since: object.since(), wishes });
        }
    }
    told.sort_by(|one, other| (one.since, &one.key, one.kind).cmp(&(other.since, &other.key, other.kind)));
    told
}

fn scene<'a>(key: &'a Key, known: &'a Known, rules: &'a Rules) -> Scene<'a> {
    Scene { cluster: &rules.cluster, namespace: &key.0, services: &known.services }
}

/// The namespace that has each host; `None` for the operator.
fn owners(told: &[Told], operators: &BTreeSet<String>) -> BTreeMap<String, Option<String>> {
    let mut owners: BTreeMap<_, _> = operators.iter().map(|host| (host.clone(), None)).collect();
    for told in told {
        let wishes = told.wishes.as_deref().unwrap_or_default();
        for host in wishes.iter().flat_map(|wish| &wish.hosts) {
            owners.entry(host.to_string()).or_insert_with(|| Some(told.key.0.clone()));
        }
    }
    owners
}

fn of_host(route: &RouteConfig, host: &HostPattern) -> RouteConfig {
    let mut route = route.clone();
    route.matches.host = host.clone();
    route
}

/// What is asked first among the routes of a host: an exact path, then expressions, then the longest prefix; of the same, one with a
/// method, then with more headers, then with more parameters.
fn rank(matches: &Matches) -> impl Ord + use<> {
    let (class, length) = match &matches.path {
        PathPattern::Exact(path) => (0, path.len()),
        PathPattern::Regex(regex) => (1, regex.as_str().len()),
        PathPattern::Prefix(prefix) => (2, prefix.len()),
    };
    let count = |of: fn(&Field) -> bool| matches.fields.iter().filter(|it| of(&it.field)).count();
    let headers = count(|field| matches!(field, Field::Header(_)));
    let parameters = count(|field| matches!(field, Field::Query(_)));
    (class, Reverse(length), matches.methods.is_empty(), Reverse(headers), Reverse(parameters))
}
