//! Lines on their way to one record: kept at their connection until it is complete, and answered when it is safe.
//!
//! A record is complete with the next one's first line, after so many lines or bytes, when no line has come for a while, and
//! when the connection ends. Its lines keep what they took from the budget until then.

use std::sync::Arc;
use std::time::Instant;

use super::push::{Binding, Desk, Pusher, Size};
use super::replies::Replies;
use crate::record::config::Acknowledge;
use crate::record::join::{JoinRule, Line, push_line};
use crate::record::sink::{Destination, Record, RecordSink, Ticket};

/// Keys of one connection with a record in the making; the oldest is complete when there are more.
const KEYS: usize = 16;

/// The records in the making of one connection.
#[derive(Default)]
pub(super) struct Joins(Vec<Joining>);

/// A record in the making.
struct Joining {
    key: Vec<u8>,
    binding: Arc<Binding>,
    to: Destination,
    value: Vec<u8>,
    lines: usize,
    /// What they took from the budget.
    cost: usize,
    /// Slots of the commands that its lines came with, each with how many of them.
    slots: Vec<(u32, u32)>,
    last_line: Instant,
}

// === impl Joins ===

impl Joins {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

// === impl Desk ===

impl<S: RecordSink> Desk<'_, S> {
    /// Takes the lines of a push. `size`: what was reserved for them.
    #[expect(clippy::too_many_arguments, reason = "a push, and where its lines and its reply stand")]
    pub(super) fn join<'v>(
        &mut self,
        rule: &JoinRule,
        binding: &Arc<Binding>,
        to: Destination,
        key: &[u8],
        values: impl Iterator<Item = &'v [u8]>,
        size: Size,
        ticket: Option<Ticket>,
        who: &Pusher<'_>,
        joins: &mut Joins,
        replies: &mut Replies,
    ) {
        let mut reserved = size.cost;
        for value in values {
            let cost = binding.reserved(value);
            reserved -= cost;
            let line = rule.classify(value);
            let place = joins.0.iter().position(|joining| joining.key == key);
            if line == Line::Continuation
                && let Some(joining) = place.and_then(|place| joins.0.get_mut(place))
                && joining.lines < rule.max_lines
                && joining.value.len() + value.len() < binding.route.config.max_record_size
            {
                joining.push(value, cost, ticket, self.now);
                continue;
            }
            if let Some(place) = place {
                let joining = joins.0.remove(place);
                self.finish(joining, who, replies);
            }
            let mut joining = Joining {
                key: key.to_vec(),
                binding: binding.clone(),
                to,
                value: Vec::new(),
                lines: 0,
                cost: 0,
                slots: Vec::new(),
                last_line: self.now,
            };
            joining.push(value, cost, ticket, self.now);
            if line == Line::Whole {
                self.finish(joining, who, replies);
                continue;
            }
            if joins.0.len() >= KEYS {
                let oldest = joins.0.remove(0);
                self.finish(oldest, who, replies);
            }
            joins.0.push(joining);
        }
        self.shared.budget.give_back(reserved);
    }

    /// Completes the records that no line has come for in time, or all of them.
    pub(super) fn finish_joins(&mut self, all: bool, who: &Pusher<'_>, joins: &mut Joins, replies: &mut Replies) {
        let now = self.now;
        let is_due = |joining: &Joining| {
            let wait = joining.binding.route.join_rule().map(|rule| rule.max_wait).unwrap_or_default();
            now.duration_since(joining.last_line) >= wait
        };
        let (due, left): (Vec<_>, Vec<_>) =
            std::mem::take(&mut joins.0).into_iter().partition(|joining| all || is_due(joining));
        joins.0 = left;
        due.into_iter().for_each(|joining| self.finish(joining, who, replies));
    }

    /// Hands a complete record to the sink. Its outcome is that of every command that had a line of it.
    fn finish(&mut self, joining: Joining, who: &Pusher<'_>, replies: &mut Replies) {
        let config = &joining.binding.route.config;
        let ticket = (config.acknowledge != Acknowledge::Enqueue).then(|| {
            let deadline = self.millis + u64::try_from(config.hold.as_millis()).unwrap_or(u64::MAX);
            let slot = replies.open_joined(joining.slots, deadline);
            Ticket { session: who.session, generation: who.generation, slot }
        });
        let record = Record { headers: joining.binding.headers(), ..Record::plain(&joining.value) };
        let cost = self.hand_over(&joining.binding, joining.to, &joining.key, record, ticket, who);
        self.settle_cost(joining.cost, cost);
    }
}

// === impl Joining ===

impl Joining {
    fn push(&mut self, line: &[u8], cost: usize, ticket: Option<Ticket>, now: Instant) {
        push_line(&mut self.value, line);
        self.lines += 1;
        self.cost += cost;
        self.last_line = now;
        if let Some(Ticket { slot, .. }) = ticket {
            match self.slots.last_mut() {
                Some((last, count)) if *last == slot => *count += 1,
                _ => self.slots.push((slot, 1)),
            }
        }
    }
}
