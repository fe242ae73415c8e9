//! Sessions that wait for time rather than for their socket: to be known, for the answer to a failed login, or for their
//! lines' records to be complete.

use std::time::Instant;

use slab::Slab;

use super::transfer::Back;
use crate::intake::session::{Flow, Session};
use crate::record::sink::RecordSink;

/// Those of one worker; looked at at every tick.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// Whose connection it is may yet become known, or a failed login is not answered yet.
    awaiting: Vec<usize>,
    /// Lines that wait for the next one.
    joining: Vec<usize>,
}

// === impl Waiting ===

impl Waiting {
    pub(super) fn is_empty(&self) -> bool {
        self.awaiting.is_empty() && self.joining.is_empty()
    }

    /// Takes note of a session that has just been read from.
    pub(super) fn note<S: RecordSink>(
        &mut self,
        session: &mut Session,
        index: usize,
        back: &mut Back<S>,
        now: Instant,
    ) {
        if matches!(session.flow, Flow::Awaiting | Flow::Slowed) {
            // Not read from meanwhile, whatever its socket tells.
            session.listed = true;
            self.awaiting.push(index);
        }
        if !session.is_joining() {
            return;
        }
        if session.flow == Flow::Closing || (session.ended && session.flow == Flow::Hungry) {
            session.finish_joins(true, &mut back.desk(now));
        } else if !std::mem::replace(&mut session.joining, true) {
            self.joining.push(index);
        }
    }

    /// Lists those for reading that waited to be known, and completes records whose next line does not come.
    pub(super) fn tick<S: RecordSink>(
        &mut self,
        sessions: &mut Slab<Session>,
        to_read: &mut Vec<usize>,
        back: &mut Back<S>,
        now: Instant,
    ) {
        to_read.append(&mut self.awaiting);
        self.joining.retain(|index| {
            let Some(session) = sessions.get_mut(*index).filter(|session| session.joining) else { return false };
            session.finish_joins(false, &mut back.desk(now));
            session.joining = session.is_joining();
            session.joining
        });
    }
}
