//! The state of the world: each request names all that its client wants.
//!
//! A response of clusters or listeners has all of them; one of assignments or routes has those that changed. This protocol
//! cannot say that an assignment does not exist, so a pool that is not there is one without endpoints: Envoy need not wait for a timeout, and
//! does not keep the addresses of a service that was deleted.
//!
//! A request with an old nonce is no answer to the response that is on its way, but the names in it are what the client
//! wants from then on: passed over, a name that was dropped and taken up again meanwhile would never be sent again. For the
//! same reason a version that a client brings along counts only for all clusters at once. With names, it does not tell
//! whether the client still has what it once had under this version.

use std::collections::BTreeSet;

use super::machine::{EVERYTHING, Fault, Machine, Note, Subscriptions, Types, note_of};
use super::messages::{DiscoveryRequest, DiscoveryResponse};
use super::state::name_of;
use super::subscription::{Batch, Name, Subscription};
use super::view::{Kind, View};
use crate::discovery::formats::envoy;

/// One stream.
#[derive(Debug)]
pub(super) struct Sotw {
    subscriptions: Subscriptions,
    /// The types of which names were given at some time: for them no names means nothing, and before it everything.
    named: BTreeSet<Kind>,
}

impl Machine for Sotw {
    type Request = DiscoveryRequest;
    type Response = DiscoveryResponse;

    fn new(types: Types) -> Self {
        Self { subscriptions: Subscriptions::new(types), named: BTreeSet::new() }
    }

    fn node(request: &DiscoveryRequest) -> Option<&str> {
        request.node.as_ref().map(|node| node.id.as_str())
    }

    fn receive(&mut self, request: DiscoveryRequest, view: &View<'_>) -> Result<Vec<Note>, Fault> {
        let names = &request.resource_names;
        let Some(kind) = self.subscriptions.kind_of(&request.type_url, names)? else { return Ok(Vec::new()) };
        let is_first = !self.subscriptions.by_kind.contains_key(&kind);
        let subscriptions = &mut self.subscriptions.by_kind;
        let subscription = subscriptions.entry(kind).or_insert_with(|| Subscription::new(kind, kind.is_whole()));
        let why = request.error_detail.map(|detail| detail.message);
        let verdict = subscription.answered(&request.response_nonce, why.is_none());
        let mut notes: Vec<Note> = note_of(kind, verdict, why).into_iter().collect();

        if !names.is_empty() {
            self.named.insert(kind);
        }
        // Clusters and listeners alone can be asked for by naming nothing.
        let unnamed = kind.is_whole() && !self.named.contains(&kind);
        let everything = unnamed || names.iter().any(|name| name == EVERYTHING);
        match (everything, subscription.is_wildcard()) {
            (true, false) => subscription.subscribe_all(view),
            (false, true) => subscription.unsubscribe_all(),
            _ => {}
        }
        let wanted: BTreeSet<Name> = names.iter().filter(|it| *it != EVERYTHING).map(|it| it.as_str().into()).collect();
        let left: Vec<Name> = subscription.names().difference(&wanted).cloned().collect();
        let new: Vec<Name> = wanted.difference(subscription.names()).cloned().collect();
        left.iter().for_each(|name| subscription.unsubscribe(name));
        new.iter().for_each(|name| subscription.subscribe(name.clone(), true));
        if is_first && everything && wanted.is_empty() && kind.is_whole() {
            subscription.resume_state(&request.version_info, view);
        }
        if (is_first || !new.is_empty()) && !subscription.is_answerable(view) {
            return Err(Fault::Unsynced);
        }
        if kind == Kind::Assignments {
            notes.extend((!left.is_empty()).then_some(Note::Left(left)));
            notes.extend((!new.is_empty()).then_some(Note::Asked(new)));
        }
        Ok(notes)
    }

    fn respond(&mut self, view: &View<'_>) -> Option<(Kind, DiscoveryResponse)> {
        self.subscriptions.respond(view, |kind, _, batch, nonce| response(kind, batch, nonce))
    }

    fn subscriptions(&self) -> &Subscriptions {
        &self.subscriptions
    }

    fn subscriptions_mut(&mut self) -> &mut Subscriptions {
        &mut self.subscriptions
    }
}

fn response(kind: Kind, batch: Batch, nonce: String) -> DiscoveryResponse {
    // Only an assignment that is not there can be told, as one without endpoints.
    let absent = |name: &str| (kind == Kind::Assignments).then(|| envoy::absent_assignment(name));
    let resources = batch.items.into_iter();
    DiscoveryResponse {
        version_info: name_of(batch.state),
        resources: resources.filter_map(|item| item.body.or_else(|| absent(&item.name))).collect(),
        type_url: kind.type_url().to_owned(),
        nonce,
    }
}
