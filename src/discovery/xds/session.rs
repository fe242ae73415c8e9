//! One stream: what its client sends goes into the machine, and what the machine says goes out when the client reads.
//!
//! Nothing is queued: a response is made when the connection has room for it, from the snapshot of that moment.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::Stream;
use futures_util::stream::unfold;
use tokio::sync::OwnedSemaphorePermit;
use tonic::{Status, Streaming};

use super::machine::{EVERYTHING, Fault, Machine, Note, Types};
use super::refusals::Refused;
use super::state::Version;
use super::subscription::{Name, Sent};
use super::view::{Kind, View};
use crate::discovery::access::Client;
use crate::discovery::api::Api;
use crate::discovery::clients::WaitPermit;
use crate::discovery::gateways::{Acknowledgement, Applied};
use crate::discovery::metrics::Waiting;
use crate::discovery::waiters::{Interest, Waiter};

/// A source that tells its first pools wakes nobody if it has none: who waits for it looks again after this.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What a stream holds while it is open: its places among its client's and among all, and its part of the gauge.
pub(super) type Permits = (WaitPermit, OwnedSemaphorePermit, Waiting);

/// One stream.
struct Session<M: Machine> {
    api: Arc<Api>,
    client: Arc<Client>,
    inbound: Streaming<M::Request>,
    machine: M,
    /// Whether the first request has been seen, which says who asks.
    introduced: bool,
    /// What the gateway refuses whose acknowledgements these are; `None` where the client may not speak for it.
    refused: Option<Refused>,
    interest: Interest,
    waiter: Waiter,
    is_over: bool,
    _permits: Permits,
}

/// The responses of a stream.
pub(super) fn responses<M: Machine>(
    api: Arc<Api>,
    client: Arc<Client>,
    types: Types,
    inbound: Streaming<M::Request>,
    permits: Permits,
) -> impl Stream<Item = Result<M::Response, Status>> {
    let interest = Interest::Pools(Vec::new());
    let session = Session::<M> {
        waiter: api.waiters.wait_for(interest.clone()),
        api,
        client,
        inbound,
        machine: M::new(types),
        introduced: false,
        refused: None,
        interest,
        is_over: false,
        _permits: permits,
    };
    unfold(session, |mut session| async move {
        let response = session.next().await?;
        session.is_over = response.is_err();
        Some((response, session))
    })
}

enum Event<R> {
    Request(R),
    End,
    Changed,
    Again,
    Drain,
}

// === impl Session ===

impl<M: Machine> Session<M> {
    async fn next(&mut self) -> Option<Result<M::Response, Status>> {
        if self.is_over {
            return None;
        }
        loop {
            if let Some((kind, response)) = self.look(|machine, view| machine.respond(view)) {
                self.api.metrics.sent(name(kind));
                return Some(Ok(response));
            }
            match self.event().await {
                Event::Request(request) => {
                    if let Err(fault) = self.receive(request) {
                        return Some(Err(status(fault)));
                    }
                }
                Event::Changed => self.look(|machine, view| machine.subscriptions_mut().changed(view)),
                Event::Again => {}
                Event::End => return None,
                Event::Drain => return Some(Err(Status::unavailable("this process ends"))),
            }
        }
    }

    /// Shows the machine the newest snapshot. Nothing keeps an old one while the stream waits.
    fn look<T>(&mut self, act: impl FnOnce(&mut M, &View<'_>) -> T) -> T {
        let snapshot = self.api.snapshot.load_full();
        act(&mut self.machine, &View { snapshot: &snapshot, scope: &self.client.scope, listeners: &self.api.listeners })
    }

    async fn event(&mut self) -> Event<M::Request> {
        let pending = self.machine.subscriptions().is_pending();
        tokio::select! {
            request = self.inbound.message() => match request {
                Ok(Some(request)) => Event::Request(request),
                // It went away, or its connection did.
                Ok(None) | Err(_) => Event::End,
            },
            () = self.waiter.changed() => Event::Changed,
            () = tokio::time::sleep(LOOK_AGAIN), if pending => Event::Again,
            () = self.api.drain.requested() => Event::Drain,
        }
    }

    fn receive(&mut self, request: M::Request) -> Result<(), Fault> {
        if !self.introduced {
            self.introduced = true;
            self.refused = M::node(&request).and_then(|node| self.owned(node));
        }
        let notes = self.look(|machine, view| machine.receive(request, view))?;
        notes.into_iter().for_each(|note| self.note(note));
        let interest = self.machine.subscriptions().interest();
        if interest != self.interest {
            self.waiter = self.api.waiters.wait_for(interest.clone());
            self.interest = interest;
            // What changed while nobody was woken for it.
            self.look(|machine, view| machine.subscriptions_mut().changed(view));
        }
        Ok(())
    }

    /// The node as a gateway, if this client may speak for it.
    fn owned(&self, node: &str) -> Option<Refused> {
        if node.is_empty() {
            return None;
        }
        let owns = self.client.owns(node) == Ok(true);
        if !owns {
            let client = &self.client.name;
            tracing::info!(node, client, "xDS: acknowledgements are not counted, as this client does not own the node");
        }
        owns.then(|| self.api.refusals.of_stream(node))
    }

    fn note(&self, note: Note) {
        let metrics = &self.api.metrics;
        let acknowledgement = |applied| {
            let gateway = self.refused.as_ref()?.gateway().to_owned();
            let error = self.api.refusals.latest(&gateway);
            Some(Acknowledgement { gateway, applied, error })
        };
        let acknowledgement = match note {
            Note::Asked(names) => return self.asked(&names),
            Note::Left(names) => {
                self.refused.iter().for_each(|refused| refused.settles(names.iter()));
                return;
            }
            Note::Taken(kind, sent) => {
                metrics.answered(name(kind), "taken");
                self.refused.iter().for_each(|refused| refused.settles(refusable(kind, &sent).iter()));
                let pools = sent.iter().filter(|_| kind == Kind::Assignments);
                acknowledgement(pools.filter_map(applied).collect())
            }
            Note::Refused(kind, sent, why) => {
                metrics.answered(name(kind), "refused");
                let first = sent.first().map(|sent| &*sent.name);
                let (resources, client) = (sent.len(), &self.client.name);
                tracing::warn!(kind = name(kind), resources, first, client, why, "xDS: a response was refused");
                self.refused.iter().for_each(|refused| refused.refuses(refusable(kind, &sent).iter(), &why));
                acknowledgement(BTreeMap::new())
            }
        };
        let Some(acknowledgement) = acknowledgement else { return };
        if let Err(error) = self.api.gateways.acknowledge(acknowledgement, &self.client.name, SystemTime::now()) {
            tracing::debug!(client = self.client.name, %error, "xDS: an acknowledgement was not kept");
        }
    }

    fn asked(&self, names: &[Name]) {
        let Some(refused) = &self.refused else { return };
        let (client, now) = (self.client.name.as_str(), SystemTime::now());
        for name in names {
            if let Err(error) = self.api.gateways.asked(refused.gateway(), client, name, now) {
                tracing::debug!(client, %error, "xDS: a gateway's question was not kept");
                return;
            }
        }
    }
}

/// What is refused with a response: each pool, or the list of something else, which no pool's id names.
fn refusable(kind: Kind, sent: &[Sent]) -> Vec<Name> {
    match kind {
        Kind::Clusters => vec![EVERYTHING.into()],
        Kind::Listeners | Kind::Routes => vec![format!("*{}", name(kind)).into()],
        Kind::Assignments => sent.iter().map(|sent| sent.name.clone()).collect(),
    }
}

/// What a gateway has of a pool with a resource that it took.
fn applied(sent: &Sent) -> Option<(String, Applied)> {
    let applied = match (&sent.version, sent.generation) {
        (Version::Absent, _) => return None,
        (Version::Of(_), Some(generation)) => Applied::Generation(generation),
        (Version::Of(etag), None) => Applied::Etag(etag.to_string()),
    };
    Some((sent.name.to_string(), applied))
}

fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Clusters => "cds",
        Kind::Assignments => "eds",
        Kind::Listeners => "lds",
        Kind::Routes => "rds",
    }
}

fn status(fault: Fault) -> Status {
    let text = fault.to_string();
    match fault {
        Fault::Unsynced => Status::unavailable(text),
        Fault::TooManyNames => Status::resource_exhausted(text),
        Fault::Name | Fault::NoType | Fault::OtherType => Status::invalid_argument(text),
    }
}
