//! A session's end: what is left to say, when it is over, and what it gives back.

use std::time::{Duration, Instant};

use super::{Flow, Session, UNREAD, WAITING};
use crate::intake::shared::Shared;

// === impl Session ===

impl Session {
    /// True where the socket was full and has to take more.
    pub(in crate::intake) fn has_to_write(&self) -> bool {
        !self.replies.unwritten().is_empty() || self.stream.wants_write()
    }

    /// Nothing more can be said or heard: it is over as soon as the worker looks.
    pub(in crate::intake) fn abandon(&mut self) {
        self.replies.abandon();
        self.flow = Flow::Closing;
        self.ended = true;
        self.lost = true;
    }

    /// All was written: where the session is closing, the peer is told that no more comes, and gets `time` to read it.
    pub(in crate::intake) fn say_farewell(&mut self, now: Instant, time: Duration) {
        if self.flow == Flow::Closing && self.replies.waiting() == 0 && self.close_by.is_none() {
            self.close_by = Some(now + time);
            // A peer that is gone already needs no farewell.
            _ = self.stream.finish();
        }
    }

    /// True once nothing is left to read, carry out, or write. A peer that has finished sending gets its replies first.
    pub(in crate::intake) fn is_over(&self, now: Instant) -> bool {
        let said = self.lost
            || (self.replies.waiting() == 0 && self.replies.unwritten().is_empty() && !self.stream.wants_write());
        let heard = matches!(self.flow, Flow::Hungry | Flow::Closing) && self.ended;
        said && (heard || self.close_by.is_some_and(|by| now >= by))
    }

    /// True where it had stopped until replies were settled and read, and enough of them are.
    pub(in crate::intake) fn wants_to_go_on(&self) -> bool {
        self.flow == Flow::Full && self.replies.waiting() < WAITING / 2 && self.replies.unwritten().len() < UNREAD / 2
    }

    /// Gives back what the session holds of the budget.
    pub(in crate::intake) fn release_budget(&mut self, shared: &Shared) {
        shared.budget.give_back(std::mem::take(&mut self.charged));
        shared.reserve.give_back(std::mem::take(&mut self.reserved));
        self.partial = Vec::new();
        self.transaction = None;
    }
}
