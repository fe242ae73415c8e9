//! One type of resource on one stream: what the client wants, what it has, what is on its way. No I/O.
//!
//! - One response is on its way at a time: the next is made when the client has taken or refused it, from the newest
//!   snapshot. So a slow client costs the names that it wants and no more, however much changes meanwhile.
//! - A name is looked at when it may differ from what the client has, and sent if it does. A client is never sent what it
//!   has, except where it asks for it anew.
//! - A refused response is sent again in halves until the resources that the client does not take stand alone, so that
//!   one bad pool does not keep others from it. A version that was refused alone is not sent again; a later one is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hyper::body::Bytes;

use super::state::{State, Version};
use super::view::{Found, Kind, View};

/// A resource's name.
pub(super) type Name = Arc<str>;

/// Names that one stream may subscribe to, of one type.
pub(super) const MAX_NAMES: usize = 20_000;
/// Bytes of resources after which a response is full; what is left comes with the next. Clients of gRPC commonly take
/// messages of at most 4 MiB.
const MAX_RESPONSE: usize = 1 << 20;
/// Up to so many names are looked up at each change; with more, what changed is asked for.
pub(super) const FEW: usize = 64;

/// What a client wants and has of one type.
#[derive(Debug)]
pub(super) struct Subscription {
    kind: Kind,
    /// Every response has all resources, as the state of the world of clusters must.
    whole: bool,
    /// It wants everything.
    wildcard: bool,
    /// It wants these.
    names: BTreeSet<Name>,
    /// What it was sent and has not refused.
    has: State,
    /// What may differ from that.
    look: BTreeSet<Name>,
    /// Up to which revision changes have been noted in `look`.
    seen: u64,
    flight: Option<Flight>,
    /// Parts of refused responses, to be sent again one by one.
    halves: Vec<Vec<Name>>,
    /// What was refused alone.
    refused: BTreeMap<Name, Version>,
    /// The state that was refused, where responses are whole.
    refused_state: Option<u128>,
    /// The next response goes out even if there is nothing in it: the client waits for it to begin.
    must_answer: bool,
}

#[derive(Debug)]
struct Flight {
    nonce: String,
    sent: Vec<Sent>,
    state: u128,
}

/// A resource that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) name: Name,
    pub(super) version: Version,
    /// Of the TrafficPolicy that made it.
    pub(super) generation: Option<i64>,
    before: Option<Version>,
}

/// A response in the making.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) items: Vec<Item>,
    /// Names the state that the client has with it.
    pub(super) state: u128,
}

/// A resource of a response.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) name: Name,
    pub(super) version: Version,
    /// The encoding; `None` for what is not there.
    pub(super) body: Option<Bytes>,
    /// The client has endpoints under this name, which an answer without endpoints must take from it.
    pub(super) replaces: bool,
}

/// What a client says of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is not about the response that is on its way.
    Stale,
    /// It has these now.
    Taken(Vec<Sent>),
    /// It refuses these.
    Refused(Vec<Sent>),
}

// === impl Subscription ===

impl Subscription {
    pub(super) fn new(kind: Kind, whole: bool) -> Self {
        Self {
            kind,
            whole,
            wildcard: false,
            names: BTreeSet::new(),
            has: State::default(),
            look: BTreeSet::new(),
            seen: 0,
            flight: None,
            halves: Vec::new(),
            refused: BTreeMap::new(),
            refused_state: None,
            must_answer: whole,
        }
    }

    pub(super) fn names(&self) -> &BTreeSet<Name> {
        &self.names
    }

    pub(super) fn is_wildcard(&self) -> bool {
        self.wildcard
    }

    /// Whether changes are to be found by asking for all of them.
    pub(super) fn is_broad(&self) -> bool {
        self.wildcard || self.names.len() > FEW
    }

    /// What the client says that it has, from a stream before.
    pub(super) fn resume(&mut self, name: Name, version: Version) {
        self.look.insert(name.clone());
        self.has.set(&name, Some(version));
    }

    /// Takes it that the client has everything there is, if that is what its version names.
    pub(super) fn resume_state(&mut self, version: &str, view: &View<'_>) {
        let mut state = State::default();
        for (name, found) in view.all(self.kind) {
            state.set(&name, found.version(self.kind).map(Version::Of));
        }
        if !version.is_empty() && state.name() == version {
            self.has = state;
            self.must_answer = false;
        }
    }

    /// Wants a name, or wants it anew: it is sent although the client may have it.
    pub(super) fn subscribe(&mut self, name: Name, anew: bool) {
        if anew {
            self.has.set(&name, None);
            self.refused.remove(&name);
        }
        self.look.insert(name.clone());
        self.names.insert(name);
    }

    /// Wants everything.
    pub(super) fn subscribe_all(&mut self, view: &View<'_>) {
        self.must_answer |= !self.wildcard;
        self.wildcard = true;
        self.look_at_all(view);
    }

    /// No longer wants a name.
    pub(super) fn unsubscribe(&mut self, name: &str) {
        self.names.remove(name);
        self.drop_unwanted(name);
        if self.wildcard {
            // Everything includes it: the client must hear what of it remains.
            self.look.insert(name.into());
        }
    }

    /// No longer wants everything.
    pub(super) fn unsubscribe_all(&mut self) {
        self.wildcard = false;
        self.must_answer &= self.whole;
        for name in self.has.names() {
            if !self.names.contains(&name) {
                self.drop_unwanted(&name);
            }
        }
    }

    fn drop_unwanted(&mut self, name: &str) {
        self.has.set(name, None);
        self.refused.remove(name);
        self.look.remove(name);
    }

    /// Notes what a newer snapshot may have changed.
    pub(super) fn changed(&mut self, view: &View<'_>) {
        if !self.kind.is_of_pools() {
            if view.snapshot.hosts().revision > self.seen {
                self.look_at_all(view);
            }
        } else if !self.is_broad() {
            self.look.extend(self.names.iter().cloned());
        } else if let Some(changes) = view.snapshot.changes_since(self.seen) {
            // A cluster stays what it is while its pool's content changes.
            let same = |id: &str| self.kind == Kind::Clusters && matches!(self.has.get(id), Some(Version::Of(_)));
            let changed = changes.changed.iter().map(|pool| pool.id.as_str()).filter(|id| !same(id));
            let changed = changed.chain(changes.removed.iter().map(|id| id.as_str()));
            let wanted = changed.filter(|id| self.wildcard || self.names.contains(*id));
            self.look.extend(wanted.map(Name::from));
        } else {
            self.look_at_all(view);
        }
        self.seen = view.snapshot.revision();
    }

    fn look_at_all(&mut self, view: &View<'_>) {
        self.look.extend(self.names.iter().cloned());
        self.look.extend(self.has.names());
        if self.wildcard {
            self.look.extend(view.all(self.kind).map(|(name, _)| name));
        }
        self.seen = view.snapshot.revision();
    }

    /// Whether anything of what is wanted can be answered already.
    pub(super) fn is_answerable(&self, view: &View<'_>) -> bool {
        match self.wildcard {
            true => view.is_loaded(),
            false => self.names.is_empty() || self.names.iter().any(|it| !view.find(self.kind, it).is_unknown()),
        }
    }

    /// Whether something is looked at again and again, because its source has not told its pools yet.
    pub(super) fn is_pending(&self) -> bool {
        self.flight.is_none() && !self.look.is_empty()
    }

    /// The next response, if there is something to say; it is on its way from now on, as `nonce`.
    pub(super) fn take(&mut self, view: &View<'_>, nonce: impl FnOnce() -> String) -> Option<Batch> {
        if self.flight.is_some() || (self.wildcard && !view.is_loaded()) {
            return None;
        }
        let items = if self.whole { self.all_items(view)? } else { self.next_items(view) };
        if items.is_empty() && !self.must_answer {
            return None;
        }
        self.must_answer = false;
        let mut sent = Vec::with_capacity(items.len());
        for Item { name, version, .. } in &items {
            let pool = self.kind.is_of_pools().then(|| view.pool(name));
            let generation = match pool {
                Some(Found::Pool(pool)) => pool.traffic_generation,
                _ => None,
            };
            // What is only part of everything and gone is no longer part of it.
            let gone = *version == Version::Absent && !self.names.contains(name);
            let before = self.has.set(name, (!gone).then(|| version.clone()));
            sent.push(Sent { name: name.clone(), version: version.clone(), generation, before });
        }
        let state = self.has.sum();
        self.flight = Some(Flight { nonce: nonce(), sent, state });
        Some(Batch { items, state })
    }

    /// All that is wanted, if it differs from what the client has.
    fn all_items(&mut self, view: &View<'_>) -> Option<Vec<Item>> {
        if self.look.is_empty() && !self.must_answer {
            return None;
        }
        if self.names.iter().any(|name| view.find(self.kind, name).is_unknown()) {
            // Leaving it out would say that it does not exist.
            return None;
        }
        self.look.clear();
        let wanted = view.all(self.kind).filter(|(name, _)| self.wildcard || self.names.contains(name));
        let mut target = State::default();
        let mut items = Vec::new();
        for (name, found) in wanted {
            let Some((body, version)) = found.resource(self.kind) else { continue };
            target.set(&name, Some(Version::Of(version.clone())));
            items.push(Item { name, version: Version::Of(version), body: Some(body), replaces: true });
        }
        let known = target.sum() == self.has.sum() || self.refused_state == Some(target.sum());
        if known && !self.must_answer {
            return None;
        }
        self.has = State::default();
        Some(items)
    }

    /// What differs from what the client has, as much as one response takes.
    fn next_items(&mut self, view: &View<'_>) -> Vec<Item> {
        let mut items = Vec::new();
        while let Some(half) = self.halves.pop() {
            items.extend(half.iter().filter_map(|name| self.item(name, view)));
            if !items.is_empty() {
                return items;
            }
        }
        let mut bytes = 0;
        let mut pending = BTreeSet::new();
        while let Some(name) = self.look.pop_first() {
            if self.wants(&name) && view.find(self.kind, &name).is_unknown() {
                pending.insert(name);
            } else if let Some(item) = self.item(&name, view) {
                bytes += item.body.as_ref().map_or(0, Bytes::len) + name.len();
                items.push(item);
                if bytes >= MAX_RESPONSE {
                    break;
                }
            }
        }
        self.look.append(&mut pending);
        items
    }

    fn wants(&self, name: &Name) -> bool {
        self.wildcard || self.names.contains(name)
    }

    /// A name's resource, if the client has another and has not refused this one.
    fn item(&self, name: &Name, view: &View<'_>) -> Option<Item> {
        if !self.wants(name) {
            return None;
        }
        let found = view.find(self.kind, name);
        let version = match &found {
            Found::Unknown => return None,
            found => found.version(self.kind).map_or(Version::Absent, Version::Of),
        };
        let has = self.has.get(name);
        if has == Some(&version) || self.refused.get(name) == Some(&version) {
            return None;
        }
        if version == Version::Absent && has.is_none() && !self.names.contains(name) {
            return None;
        }
        let body = found.resource(self.kind).map(|(body, _)| body);
        let replaces = matches!(has, Some(Version::Of(_)));
        Some(Item { name: name.clone(), version, body, replaces })
    }

    /// The client answers the response of this nonce.
    pub(super) fn answered(&mut self, nonce: &str, takes: bool) -> Verdict {
        let Some(flight) = self.flight.take_if(|flight| flight.nonce == nonce) else { return Verdict::Stale };
        if takes {
            for sent in &flight.sent {
                self.refused.remove(&sent.name);
            }
            self.refused_state = None;
            return Verdict::Taken(flight.sent);
        }
        if self.whole {
            self.refused_state = Some(flight.state);
            self.has = State::default();
            return Verdict::Refused(flight.sent);
        }
        let mut names = Vec::with_capacity(flight.sent.len());
        for sent in &flight.sent {
            // What the client asked for anew meanwhile, or no longer wants, is not as it was before.
            let untouched = self.has.get(&sent.name) == Some(&sent.version) || sent.version == Version::Absent;
            if untouched && self.wants(&sent.name) {
                self.has.set(&sent.name, sent.before.clone());
            }
            names.push(sent.name.clone());
        }
        match flight.sent.as_slice() {
            [alone] => {
                self.refused.insert(alone.name.clone(), alone.version.clone());
            }
            _ => {
                let rest = names.split_off(names.len() / 2);
                self.halves.extend([rest, names]);
            }
        }
        Verdict::Refused(flight.sent)
    }
}
