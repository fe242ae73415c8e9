//! A push of records: route, checks, budget, and into the sink. All of a command's records are taken, or none.

use std::ops::AddAssign;
use std::sync::Arc;
use std::time::Instant;

use super::live::Tap;
use super::metrics::{Refusal, Tally};
use super::replies::{Pending, Replies, Success};
use super::shared::Shared;
use crate::base::budget::Allowance;
use crate::record::config::{Accept, Acknowledge, OnRefusal};
use crate::record::route::{NoRoute, RecordError, Route};
use crate::record::sink::{Destination, RECORD_OVERHEAD, RecordSink, Ticket};
use crate::resp::reply::Reply;

/// What a session needs of its worker while it works through its bytes.
pub(super) struct Desk<'a, S> {
    pub(super) sink: &'a mut S,
    pub(super) shared: &'a Shared,
    pub(super) tally: &'a mut Tally,
    pub(super) allowance: &'a mut Allowance,
    pub(super) tap: &'a mut Tap,
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
    /// Somebody follows the key.
    watched: Option<u32>,
}

/// Number of records, and what they take from the budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) records: u32,
    pub(super) cost: usize,
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

// === impl Size ===

impl AddAssign for Size {
    fn add_assign(&mut self, other: Self) {
        self.records += other.records;
        self.cost += other.cost;
    }
}

// === impl NotTaken ===

impl From<Reply> for NotTaken {
    fn from(reply: Reply) -> Self {
        Self::Wrong(reply)
    }
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
        let to = if route.reads_record() { None } else { Some(self.named(&route, key, b"", who)?) };
        Ok(Binding { route, to, watched: self.tap.watch(key) })
    }

    /// Checks every record of a push and gives their number and what they take from the budget.
    #[inline]
    pub(super) fn inspect<'v>(
        &mut self,
        binding: &Binding,
        key: &[u8],
        values: impl Iterator<Item = &'v [u8]> + Clone,
        who: &Pusher<'_>,
    ) -> Result<Size, Reply> {
        let mut size = Size::default();
        for value in values.clone() {
            size += Size { records: 1, cost: value.len() + RECORD_OVERHEAD };
            if let Err(error) = binding.route.check(value) {
                let why = match error {
                    RecordError::TooLarge { .. } => Refusal::TooLarge,
                    RecordError::NotJson => Refusal::Invalid,
                };
                return Err(self.wrong(&binding.route, why, values.count() as u64, &error.to_string()));
            }
            if binding.to.is_none() {
                self.named(&binding.route, key, value, who)?;
            }
        }
        Ok(size)
    }

    /// Takes a push's cost from the budget, or says whether to wait for room or to give up.
    #[inline]
    pub(super) fn reserve(&mut self, size: Size, route: &Route, who: &Pusher<'_>) -> Result<(), NotTaken> {
        if self.allowance.try_take(size.cost) {
            *self.starved_since = None;
            return Ok(());
        }
        self.no_room(size, route, who)
    }

    #[cold]
    fn no_room(&mut self, size: Size, route: &Route, who: &Pusher<'_>) -> Result<(), NotTaken> {
        let limit = self.shared.budget.limit();
        let text = if size.cost > limit {
            format!("the records of this command need {} bytes, the memory limit is {limit}", size.cost)
        } else {
            // While there is no room no socket is read: what is read after a drought has waited through it.
            let since = (*self.starved_since.get_or_insert(self.now)).min(who.arrived);
            if self.now.duration_since(since) < route.config.hold {
                return Err(NotTaken::NoRoom);
            }
            format!("the memory limit of {limit} bytes is used up by records that Kafka has not confirmed")
        };
        let reply = self.wrong(route, Refusal::Memory, u64::from(size.records), &text);
        Err(NotTaken::Refused(route.config.on_refusal, reply))
    }

    /// Opens the reply's slot of a push that was inspected and reserved.
    #[inline]
    pub(super) fn open(
        &mut self,
        binding: &Binding,
        size: Size,
        success: Success,
        who: &Pusher<'_>,
        replies: &mut Replies,
    ) -> Option<Ticket> {
        let config = &binding.route.config;
        let bytes = (size.cost - size.records as usize * RECORD_OVERHEAD) as u64;
        self.tally.received(binding.route.index, u64::from(size.records), bytes);
        let waits = config.acknowledge == Acknowledge::Kafka;
        let slot = replies.open(Pending {
            total: size.records,
            left: if waits { size.records } else { 0 },
            failed: None,
            success,
            silent: who.silent,
            closes: config.on_refusal == OnRefusal::Close,
            deadline: self.millis + u64::try_from(config.hold.as_millis()).unwrap_or(u64::MAX),
        });
        waits.then_some(Ticket { session: who.session, generation: who.generation, slot })
    }

    /// Hands the records of a push to the sink.
    #[inline]
    pub(super) fn submit<'v>(
        &mut self,
        binding: &Binding,
        key: &[u8],
        values: impl Iterator<Item = &'v [u8]>,
        ticket: Option<Ticket>,
        who: &Pusher<'_>,
    ) {
        let route = &*binding.route;
        for value in values {
            let to = match binding.to {
                Some(to) => to,
                // It was found once already when the push was inspected, so it is known and cheap to find again.
                None => match self.named(&binding.route, key, value, who) {
                    Ok(to) => to,
                    Err(_) => continue,
                },
            };
            route.with_choice(key, who.hash, value, |choice| self.sink.append(to, choice, value, ticket));
            if let Some(place) = binding.watched {
                self.tap.take(place, value);
            }
        }
    }

    /// The destination that a record names itself.
    fn named(&mut self, route: &Arc<Route>, key: &[u8], value: &[u8], who: &Pusher<'_>) -> Result<Destination, Reply> {
        let topic = route.topic(key, who.database, who.user, value);
        let topic = topic.map_err(|error| self.wrong(route, Refusal::Invalid, 1, &error.to_string()))?;
        let to = self.sink.destination(&topic, route);
        to.map_err(|error| self.wrong(route, Refusal::Invalid, 1, &error.to_string()))
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
