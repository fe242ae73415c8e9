//! From all objects to the routes and certificates that hold, and a verdict on each object. Pure.
//!
//! A host belongs to the namespace whose object for it was created first (of the same second, the first by namespace and name),
//! with all its paths; what the operator's own file names belongs to the operator. Whoever comes later does not get it, and is told
//! so. A route wants the hosts that its Gateway's listeners let it have, whether they are served or not, so that a certificate that
//! breaks hands no host to another. Among the routes of a host the more specific one is asked first, as the Gateway API has it,
//! whatever objects they stand in.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::attach::{Attachment, attachments, claims};
use super::class::Classes;
use super::grant::{Grants, Referrer};
use super::object::{Gateway, GatewayClass, HttpRoute, Ingress, IngressClass, Key, Kind, Object};
use super::parent::{Parent, Parents, absence, parents};
use super::secret::Secrets;
use super::wish::{Claim, Refusal, Scene, Services, Wish, note};
use super::{http_route, ingress};
use crate::gateway::config::{Field, Matches, PathPattern, RouteConfig};
use crate::gateway::tls::HostCertificate;

/// Everything that is known of a cluster.
#[derive(Debug, Default)]
pub(super) struct Known {
    pub(super) routes: BTreeMap<Key, Object<HttpRoute>>,
    pub(super) ingresses: BTreeMap<Key, Object<Ingress>>,
    pub(super) ingress_classes: BTreeMap<Key, Object<IngressClass>>,
    pub(super) services: Services,
    pub(super) gateways: BTreeMap<Key, Object<Gateway>>,
    pub(super) classes: BTreeMap<Key, Object<GatewayClass>>,
    pub(super) grants: Grants,
    /// The labels of namespaces.
    pub(super) namespaces: BTreeMap<Key, BTreeMap<String, String>>,
    pub(super) secrets: Secrets,
    /// Hosts of the operator's own routes, as they are shown.
    pub(super) operators: BTreeSet<String>,
}

/// Which objects are meant, and what the gateway has to serve them with.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub(super) cluster: Arc<str>,
    /// Gateways whose HTTPRoutes are taken.
    pub(super) gateways: Vec<Key>,
    /// The class whose Ingresses are taken, or `*` for all that are ours; absent: none.
    pub(super) ingress_class: Option<String>,
    /// Ports where the gateway listens, and whether by TLS.
    pub(super) listeners: Vec<(u16, bool)>,
    /// Where clients reach it.
    pub(super) addresses: Vec<String>,
}

/// What became of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) kind: &'static str,
    pub(super) key: Key,
    /// What each of an HTTPRoute's parents lets it have.
    pub(super) attachments: Vec<Attachment>,
    /// Hosts that are another's, with who that is.
    pub(super) taken: Vec<String>,
    /// Why nothing of it holds.
    pub(super) refused: Option<Refusal>,
    /// What leads nowhere.
    pub(super) unresolved: Vec<Refusal>,
}

/// What holds.
#[derive(Debug, Default)]
pub(super) struct Settled {
    /// In the order in which they are asked.
    pub(super) routes: Vec<RouteConfig>,
    /// Of two for the same host, the first one counts.
    pub(super) certificates: Vec<HostCertificate>,
    pub(super) verdicts: Vec<Verdict>,
    /// With how many routes are attached to each listener.
    pub(super) parents: Parents,
}

/// An object's wish, or why there is none.
struct Told {
    kind: &'static str,
    key: Key,
    since: i64,
    attachments: Vec<Attachment>,
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
    let parents = parents(known, rules);
    let classes = Classes::new(&known.ingress_classes, rules.ingress_class.as_deref());
    let told = told(known, rules, &parents, &classes);
    let owners = owners(&told, &known.operators);
    // What an operator's Gateway shows comes before what an Ingress brings along.
    let certificates = parents.values().flat_map(Parent::certificates).collect();
    let mut settled = Settled { parents, certificates, ..Settled::default() };
    let mut ranked = Vec::new();
    for (order, told) in told.into_iter().enumerate() {
        let Told { kind, key, attachments, wishes, .. } = told;
        let mut verdict = Verdict { kind, key, attachments, taken: Vec::new(), refused: None, unresolved: Vec::new() };
        let wishes = wishes.unwrap_or_else(|refusal| {
            verdict.refused = Some(refusal);
            Vec::new()
        });
        let mut granted = false;
        for wish in wishes {
            for claim in &wish.claims {
                let host = &claim.host;
                match owners.get(&host.to_string()) {
                    Some(Some(owner)) if *owner == verdict.key.0 => {
                        granted = true;
                        let routes = wish.routes.iter().filter_map(|route| of_claim(route, claim));
                        ranked.extend(routes.map(|route| (rank(&route.matches), order, route)));
                        let shown = |certificate| HostCertificate { host: host.clone(), port: None, certificate };
                        settled.certificates.extend(wish.certificate.clone().map(shown));
                    }
                    owner => {
                        let owner = owner.cloned().flatten();
                        let owner =
                            owner.map_or("the operator".to_owned(), |namespace| format!("namespace {namespace}"));
                        verdict.taken.push(format!("{host} belongs to {owner}"));
                    }
                }
            }
            wish.unresolved.into_iter().for_each(|why| note(&mut verdict.unresolved, why));
        }
        if !granted && verdict.refused.is_none() {
            verdict.refused = refusal(&verdict);
        }
        if verdict.refused.is_none() {
            count(&mut settled.parents, &verdict.attachments);
        }
        settled.verdicts.push(verdict);
    }
    settled.verdicts.extend(classes.verdicts());
    settled.verdicts.extend(rules.gateways.iter().map(|key| of_gateway(key, known, &settled.parents)));
    // Objects are in the order of their age already, and rules in that of their object.
    ranked.sort_by(|(one, at, _), (other, there, _)| (one, at).cmp(&(other, there)));
    settled.routes = ranked.into_iter().map(|(_, _, route)| route).collect();
    settled
}

/// What became of a Gateway of the configuration, and of its listeners.
fn of_gateway(key: &Key, known: &Known, parents: &Parents) -> Verdict {
    let mut verdict = Verdict {
        kind: Gateway::NAME,
        key: key.clone(),
        attachments: Vec::new(),
        taken: Vec::new(),
        refused: absence(known, key).map(|message| Refusal { reason: "NotOurs", message }),
        unresolved: Vec::new(),
    };
    if let Some(parent) = parents.get(key) {
        verdict.refused.clone_from(&parent.refused);
        for listener in &parent.listeners {
            let of_it = |it: &Refusal| Refusal {
                reason: it.reason,
                message: format!("listener {}: {}", listener.name, it.message),
            };
            verdict.unresolved.extend(listener.faults().map(of_it));
        }
    }
    verdict
}

/// Why an object has no host at all.
fn refusal(verdict: &Verdict) -> Option<Refusal> {
    if !verdict.taken.is_empty() {
        return Some(Refusal { reason: "HostTaken", message: verdict.taken.join(", ") });
    }
    verdict.attachments.iter().find_map(|it| it.listeners.as_ref().err().cloned())
}

/// Counts a route at each listener that it is attached to, once.
fn count(parents: &mut Parents, attachments: &[Attachment]) {
    let of = |it: &Attachment| {
        let places = it.listeners.as_ref().map(|all| all.iter().map(|it| it.place).collect::<Vec<_>>());
        (it.parent.clone(), places.unwrap_or_default())
    };
    let places =
        attachments.iter().map(of).flat_map(|(parent, all)| all.into_iter().map(move |at| (parent.clone(), at)));
    for (parent, place) in places.collect::<BTreeSet<_>>() {
        if let Some(listener) = parents.get_mut(&parent).and_then(|parent| parent.listeners.get_mut(place)) {
            listener.attached += 1;
        }
    }
}

/// The objects that are meant, the oldest first.
fn told(known: &Known, rules: &Rules, parents: &Parents, classes: &Classes<'_>) -> Vec<Told> {
    let mut told = Vec::new();
    for (key, object) in &known.routes {
        let attachments = attachments(object, parents, known);
        if attachments.is_empty() {
            continue;
        }
        let scene = scene::<HttpRoute>(key, known, rules);
        let wishes = http_route::wish(object, claims(&attachments), &scene).map(|wish| vec![wish]);
        told.push(Told { kind: HttpRoute::NAME, key: key.clone(), since: object.since(), attachments, wishes });
    }
    for (key, object) in &known.ingresses {
        if classes.take(object) {
            let wishes = ingress::wishes(object, &scene::<Ingress>(key, known, rules), &known.secrets);
            let (kind, attachments) = (Ingress::NAME, Vec::new());
            told.push(Told { kind, key: key.clone(), since: object.since(), attachments, wishes });
        }
    }
    told.sort_by(|one, other| (one.since, &one.key, one.kind).cmp(&(other.since, &other.key, other.kind)));
    told
}

fn scene<'a, K: Kind>(key: &'a Key, known: &'a Known, rules: &'a Rules) -> Scene<'a> {
    let who = Referrer { group: K::GROUP, kind: K::NAME, namespace: &key.0 };
    Scene { cluster: &rules.cluster, who, services: &known.services, grants: &known.grants }
}

/// The namespace that has each host; `None` for the operator.
fn owners(told: &[Told], operators: &BTreeSet<String>) -> BTreeMap<String, Option<String>> {
    let mut owners: BTreeMap<_, _> = operators.iter().map(|host| (host.clone(), None)).collect();
    for told in told {
        let wishes = told.wishes.as_deref().unwrap_or_default();
        for claim in wishes.iter().flat_map(|wish| &wish.claims) {
            owners.entry(claim.host.to_string()).or_insert_with(|| Some(told.key.0.clone()));
        }
    }
    owners
}

/// The route for a host; nothing where no request for it can come.
fn of_claim(route: &RouteConfig, Claim { host, ports }: &Claim) -> Option<RouteConfig> {
    // No port at all is not any port.
    if ports.as_ref().is_some_and(Vec::is_empty) {
        return None;
    }
    let mut route = route.clone();
    route.matches.host = host.clone();
    route.matches.ports = ports.clone().unwrap_or_default();
    Some(route)
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
