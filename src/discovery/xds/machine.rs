//! What the protocols have in common: subscriptions by type, who may ask for what, and what a stream's owner must note.

use std::collections::BTreeMap;

use prost::Message;

use super::subscription::{MAX_NAMES, Name, Sent, Subscription, Verdict};
use super::view::{Kind, View};
use crate::discovery::waiters::Interest;
use crate::endpoints::pool::PoolId;

/// The name that means everything.
pub(super) const EVERYTHING: &str = "*";

/// A protocol of xDS on one stream: requests and snapshots in, responses and notes out. It does no I/O.
pub(super) trait Machine: Send + Sized + 'static {
    type Request: Message + Default;
    type Response: Message + Default;

    /// A stream of these types.
    fn new(types: Types) -> Self;

    /// The id of the node that asks; the first request has it.
    fn node(request: &Self::Request) -> Option<&str>;

    /// Takes a request in. Gives what is to be noted.
    fn receive(&mut self, request: Self::Request, view: &View<'_>) -> Result<Vec<Note>, Fault>;

    /// The next response with its type, if there is something to say.
    fn respond(&mut self, view: &View<'_>) -> Option<(Kind, Self::Response)>;

    fn subscriptions(&self) -> &Subscriptions;

    fn subscriptions_mut(&mut self) -> &mut Subscriptions;
}

/// Which types a stream has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Types {
    /// This one, named or not.
    Only(Kind),
    /// All, each request naming its own.
    Aggregated,
}

/// What is to be noted of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Note {
    /// It asks for these pools.
    Asked(Vec<Name>),
    /// It no longer asks for them.
    Left(Vec<Name>),
    /// It has these now.
    Taken(Kind, Vec<Sent>),
    /// It refuses these, and says why.
    Refused(Kind, Vec<Sent>, String),
}

/// Why a stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    /// Nothing of what is asked for is known yet.
    #[error("not in step yet with the sources of these resources: ask again")]
    Unsynced,
    /// More than one stream gets.
    #[error("more than {} names of one type on a stream", MAX_NAMES)]
    TooManyNames,
    /// No resource can have such a name.
    #[error("a resource's name has 1 to {} bytes", PoolId::MAX_LENGTH)]
    Name,
    /// An aggregated request must say of which type it is.
    #[error("type_url: an aggregated stream needs it in each request")]
    NoType,
    /// Another type than the service's.
    #[error("type_url: this service has another type")]
    OtherType,
}

/// The subscriptions of one stream, in the order in which they are answered.
#[derive(Debug)]
pub(super) struct Subscriptions {
    types: Types,
    pub(super) by_kind: BTreeMap<Kind, Subscription>,
    nonces: u64,
}

// === impl Types ===

impl Types {
    /// The type of a request; `None` for one that is not served here, which a stream of several types passes over.
    fn of(self, type_url: &str) -> Result<Option<Kind>, Fault> {
        match (self, Kind::of(type_url)) {
            (Self::Only(kind), None) if type_url.is_empty() => Ok(Some(kind)),
            (Self::Only(kind), found) if found != Some(kind) => Err(Fault::OtherType),
            (Self::Aggregated, None) if type_url.is_empty() => Err(Fault::NoType),
            (_, found) => Ok(found),
        }
    }
}

// === impl Subscriptions ===

impl Subscriptions {
    pub(super) fn new(types: Types) -> Self {
        Self { types, by_kind: BTreeMap::new(), nonces: 0 }
    }

    /// The type that a request is about, its names checked. `None` for a type that is not served.
    pub(super) fn kind_of(&self, type_url: &str, names: &[String]) -> Result<Option<Kind>, Fault> {
        let kind = self.types.of(type_url)?;
        if names.iter().any(|name| name.is_empty() || name.len() > PoolId::MAX_LENGTH) {
            return Err(Fault::Name);
        }
        if names.len() > MAX_NAMES {
            return Err(Fault::TooManyNames);
        }
        Ok(kind)
    }

    /// A name for the next response.
    pub(super) fn nonce(nonces: &mut u64) -> String {
        *nonces += 1;
        nonces.to_string()
    }

    /// The first type that has something to say, with its response as `make` makes it.
    pub(super) fn respond<R>(
        &mut self,
        view: &View<'_>,
        make: impl Fn(Kind, &Subscription, super::subscription::Batch, String) -> R,
    ) -> Option<(Kind, R)> {
        let nonces = &mut self.nonces;
        for (kind, subscription) in &mut self.by_kind {
            if let Some(batch) = subscription.take(view, || Self::nonce(nonces)) {
                return Some((*kind, make(*kind, subscription, batch, nonces.to_string())));
            }
        }
        None
    }

    /// Notes what a newer snapshot may have changed.
    pub(super) fn changed(&mut self, view: &View<'_>) {
        self.by_kind.values_mut().for_each(|subscription| subscription.changed(view));
    }

    /// What the stream waits for.
    pub(super) fn interest(&self) -> Interest {
        // Hosts are no pools, and seldom change.
        if self.by_kind.contains_key(&Kind::Routes) {
            return Interest::EverythingAndTruth;
        }
        if self.by_kind.values().any(Subscription::is_broad) {
            return Interest::Everything;
        }
        let names = self.by_kind.values().flat_map(|subscription| subscription.names());
        let mut pools: Vec<PoolId> = names.filter_map(|name| PoolId::parse(name).ok()).collect();
        pools.sort();
        pools.dedup();
        Interest::Pools(pools)
    }

    /// Whether something waits for a source's first word.
    pub(super) fn is_pending(&self) -> bool {
        self.by_kind.values().any(Subscription::is_pending)
    }
}

/// What is to be noted of a verdict.
pub(super) fn note_of(kind: Kind, verdict: Verdict, why: Option<String>) -> Option<Note> {
    match verdict {
        Verdict::Stale => None,
        Verdict::Taken(sent) => Some(Note::Taken(kind, sent)),
        Verdict::Refused(sent) => Some(Note::Refused(kind, sent, why.unwrap_or_default())),
    }
}
