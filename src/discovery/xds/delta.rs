//! The incremental protocol: a client says what it begins and ends to want, and is sent what changed.
//!
//! A pool that does not exist is answered among the removed resources. But Envoy keeps the endpoints that it has when an
//! assignment is removed, and their addresses may be another pool's soon. So a pool that the client had endpoints of, and
//! that it still asks for by name, is sent without endpoints instead.

use super::machine::{EVERYTHING, Fault, Machine, Note, Subscriptions, Types, note_of};
use super::messages::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource};
use super::state::{Version, name_of};
use super::subscription::{Batch, Name, Subscription};
use super::view::{Kind, View};
use crate::discovery::formats::envoy;

/// One stream.
#[derive(Debug)]
pub(super) struct Delta {
    subscriptions: Subscriptions,
}

impl Machine for Delta {
    type Request = DeltaDiscoveryRequest;
    type Response = DeltaDiscoveryResponse;

    fn new(types: Types) -> Self {
        Self { subscriptions: Subscriptions::new(types) }
    }

    fn node(request: &DeltaDiscoveryRequest) -> Option<&str> {
        request.node.as_ref().map(|node| node.id.as_str())
    }

    fn receive(&mut self, request: DeltaDiscoveryRequest, view: &View<'_>) -> Result<Vec<Note>, Fault> {
        let names = &request.resource_names_subscribe;
        let Some(kind) = self.subscriptions.kind_of(&request.type_url, names)? else { return Ok(Vec::new()) };
        let is_first = !self.subscriptions.by_kind.contains_key(&kind);
        let subscriptions = &mut self.subscriptions.by_kind;
        let subscription = subscriptions.entry(kind).or_insert_with(|| Subscription::new(kind, false));
        let why = request.error_detail.map(|detail| detail.message);
        let verdict = subscription.answered(&request.response_nonce, why.is_none());
        let mut notes: Vec<Note> = note_of(kind, verdict, why).into_iter().collect();

        let mut left: Vec<Name> = Vec::new();
        for name in &request.resource_names_unsubscribe {
            match name.as_str() {
                EVERYTHING => subscription.unsubscribe_all(),
                name if subscription.names().contains(name) => {
                    subscription.unsubscribe(name);
                    left.push(name.into());
                }
                _ => {}
            }
        }
        // Clusters and listeners alone can be asked for by naming nothing, and only at first.
        if names.iter().any(|name| name == EVERYTHING) || (is_first && names.is_empty() && kind.is_whole()) {
            subscription.subscribe_all(view);
        }
        let new: Vec<Name> = names.iter().filter(|it| *it != EVERYTHING).map(|it| it.as_str().into()).collect();
        // Who asks again has forgotten it, whatever we remember.
        new.iter().for_each(|name| subscription.subscribe(name.clone(), true));
        if is_first {
            for (name, version) in &request.initial_resource_versions {
                if subscription.is_wildcard() || subscription.names().contains(name.as_str()) {
                    subscription.resume(name.as_str().into(), Version::parse(version));
                }
            }
        }
        if subscription.names().len() > super::subscription::MAX_NAMES {
            return Err(Fault::TooManyNames);
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

    fn respond(&mut self, view: &View<'_>) -> Option<(Kind, DeltaDiscoveryResponse)> {
        self.subscriptions.respond(view, response)
    }

    fn subscriptions(&self) -> &Subscriptions {
        &self.subscriptions
    }

    fn subscriptions_mut(&mut self) -> &mut Subscriptions {
        &mut self.subscriptions
    }
}

fn response(kind: Kind, subscription: &Subscription, batch: Batch, nonce: String) -> DeltaDiscoveryResponse {
    let mut response = DeltaDiscoveryResponse {
        system_version_info: name_of(batch.state),
        type_url: kind.type_url().to_owned(),
        nonce,
        ..DeltaDiscoveryResponse::default()
    };
    for item in batch.items {
        let keeps = kind == Kind::Assignments && item.replaces && subscription.names().contains(&item.name);
        let resource = match item.body {
            None if keeps => envoy::absent_assignment(&item.name),
            None => {
                response.removed_resources.push(item.name.to_string());
                continue;
            }
            Some(body) => body,
        };
        response.resources.push(Resource { version: item.version.to_string(), resource, name: item.name.to_string() });
    }
    response
}
