//! A push of records: route, checks, budget, and into the sink. All of a command's records are taken, or none.

use std::sync::Arc;
use std::time::Instant;

use super::metrics::{Refusal, Tally};
use super::replies::{Pending, Replies, Success};
use super::shared::Shared;
use crate::record::config::{Accept, Acknowledge, OnRefusal};
use crate::record::route::{NoRoute, RecordError, Route};
use crate::record::sink::{Destination, RECORD_OVERHEAD, RecordSink, Ticket};
use crate::resp::reply::Reply;

/// What a session needs of its worker while it works through its bytes.
pub(super) struct Desk<'a, S> {
    pub(super) sink: &'a mut S,
    pub(super) shared: &'a Shared,
    pub(super) tally: &'a mut Tally,
    pub(super) now: Instant,
    /// `now` in milliseconds since the start.
    pub(super) millis: u64,
    /// Since when records find no room, if they do not.
    pub(super) starved_since: &'a mut Option<Instant>,
}

/// Who pushes.
#[derive(Clone, Copy)]
pub(super) struct Pusher<'a> {
    pub(super) session: u32,
    pub(super) generation: u32,
    /// Tells connections apart where a route partitions by them.
    pub(super) hash: u32,
    pub(super) database: u32,
    pub(super) user: &'a str,
    /// When its bytes came.
    pub(super) arrived: Instant,
    pub(super) silent: bool,
}

/// A route for a key, kept while a connection goes on using the key.
#[derive(Clone)]
pub(super) struct Binding {
    pub(super) route: Arc<Route>,
    /// Nothing where each record names its topic.
    to: Option<Destination>,
}

/// Why a push was not taken.
pub(super) enum NotTaken {
    /// It never will be: the error says why.
    Wrong(Reply),
    /// There is no room; try again, until the route's patience ends.
    NoRoom,
    /// There was no room for longer than the route holds.
    Refused(OnRefusal, Reply),
}

// === impl Desk ===

impl<S: RecordSink> Desk<'_, S> {
    /// The route for a key.
    pub(super) fn bind(&mut self, key: &[u8], kind: Accept, who: &Pusher<'_>) -> Result<Binding, Reply> {
        let route = match self.shared.routes.find(key, kind) {
            Ok(route) => route.clone(),
            Err(why) => {
                self.tally.refused(Refusal::NoRoute, 1);
                let key = String::from_utf8_lossy(key.get(..128).unwrap_or(key)).into_owned();
                return Err(Reply::error(match why {
                    NoRoute::Key => format!("ERR no route for key '{key}'; add a [[log.route]] that matches it"),
                    NoRoute::Command => {
                        format!("ERR the route for key '{key}' does not accept this command (accept = [...])")
                    }
                }));
            }
        };
        let to = if route.reads_record() {
            None
        } else {
            let topic = route.topic(key, who.database, who.user, b"");
            let topic = topic.map_err(|error| self.wrong(&route, Refusal::Invalid, 1, &error.to_string()))?;
            let to = self.sink.destination(&topic, &route);
            Some(to.map_err(|error| self.wrong(&route, Refusal::Invalid, 1, &error.to_string()))?)
        };
        Ok(Binding { route, to })
    }

    /// Checks every record of a push and gives their number and what they take from the budget.
    pub(super) fn inspect<'v>(
        &mut self,
        binding: &Binding,
        values: impl Iterator<Item = &'v [u8]> + Clone,
    ) -> Result<(u32, usize), Reply> {
        let (mut count, mut cost) = (0, 0);
        for value in values.clone() {
            count += 1;
            cost += value.len() + RECORD_OVERHEAD;
            if let Err(error) = binding.route.check(value) {
                let why = if matches!(error, RecordError::TooLarge { .. }) { Refusal::TooLarge } else { Refusal::Invalid };
                return Err(self.wrong(&binding.route, why, values.count() as u64, &error.to_string()));
            }
        }
        Ok((count, cost))
    }

    /// Takes `cost` from the budget, or says whether to wait for room or to give up.
    pub(super) fn reserve(&mut self, cost: usize, route: &Route, who: &Pusher<'_>, records: u32) -> Result<(), NotTaken> {
        if self.shared.budget.try_take(cost) {
            *self.starved_since = None;
            return Ok(());
        }
        // While there is no room no socket is read, so what is read after a long drought has waited through it.
        let since = self.starved_since.get_or_insert(self.now).min(&mut who.arrived.clone()).to_owned();
        let fits_ever = cost <= self.shared.budget.limit();
        if fits_ever && self.now.duration_since(since) < route.config.hold {
            return Err(NotTaken::NoRoom);
        }
        let limit = self.shared.budget.limit();
        let text = format!("the memory limit of {limit} bytes is used up by records that Kafka has not confirmed");
        let reply = self.wrong(route, Refusal::Memory, u64::from(records), &text);
        Err(NotTaken::Refused(route.config.on_refusal, reply))
    }

    /// Takes a push whose cost was reserved. `key` is its Redis key.
    pub(super) fn submit<'v>(
        &mut self,
        binding: &Binding,
        key: &[u8],
        values: impl Iterator<Item = &'v [u8]> + Clone,
        (count, cost): (u32, usize),
        success: Success,
        who: &Pusher<'_>,
        replies: &mut Replies,
    ) -> Result<(), Reply> {
        let route = &*binding.route;
        let destinations = match binding.to {
            Some(_) => Vec::new(),
            None => match self.destinations(binding, key, values.clone(), who) {
                Ok(destinations) => destinations,
                Err(reply) => {
                    self.shared.budget.give_back(cost);
                    return Err(reply);
                }
            },
        };
        let bytes = cost - count as usize * RECORD_OVERHEAD;
        self.tally.received += u64::from(count);
        self.tally.received_bytes += bytes as u64;
        if let Some(counts) = self.shared.route_counts.get(route.index) {
            counts.received(u64::from(count), bytes as u64);
        }
        let pending = Pending {
            total: count,
            left: count,
            failed: None,
            success,
            silent: who.silent,
            closes: route.config.on_refusal == OnRefusal::Close,
            deadline: self.millis + u64::try_from(route.config.hold.as_millis()).unwrap_or(u64::MAX),
        };
        let slot = replies.open(pending);
        let ticket = match route.config.acknowledge {
            Acknowledge::Kafka => Some(Ticket { session: who.session, generation: who.generation, slot }),
            Acknowledge::Enqueue => {
                (0..count).for_each(|_| {
                    replies.settle(slot, Ok(()));
                });
                None
            }
        };
        let mut named = destinations.into_iter();
        for value in values {
            let Some(to) = binding.to.or_else(|| named.next()) else { break };
            route.with_choice(key, who.hash, value, |choice| self.sink.append(to, choice, value, ticket));
        }
        Ok(())
    }

    fn destinations<'v>(
        &mut self,
        binding: &Binding,
        key: &[u8],
        values: impl Iterator<Item = &'v [u8]>,
        who: &Pusher<'_>,
    ) -> Result<Vec<Destination>, Reply> {
        let route = &binding.route;
        let mut destinations = Vec::new();
        for value in values {
            let topic = route.topic(key, who.database, who.user, value);
            let topic = topic.map_err(|error| self.wrong(route, Refusal::Invalid, 1, &error.to_string()))?;
            let to = self.sink.destination(&topic, route);
            destinations.push(to.map_err(|error| self.wrong(route, Refusal::Invalid, 1, &error.to_string()))?);
        }
        Ok(destinations)
    }

    /// An error reply, counted.
    fn wrong(&mut self, route: &Route, why: Refusal, records: u64, text: &str) -> Reply {
        self.tally.refused(why, records);
        if let Some(counts) = self.shared.route_counts.get(route.index) {
            counts.refused(records, text);
        }
        Reply::error(format!("ERR {text}"))
    }
}
