//! Serving those who follow records live: a few of them a tick, one after the other as time goes by, each with a bounded number
//! of bytes, so that however many there are, ingestion on the same thread hardly notices: served all at once, they would hold up
//! each hundredth record, which is what its 99th percentile is. Many followers are told less often, and are told what they were
//! not shown.

use std::time::Instant;

use slab::Slab;

use super::{TICK, touch};
use crate::intake::session::Session;

/// Followers served in a tick: a write costs some 5 µs, so that this is a two-hundredth of the thread's time.
const SERVED: usize = 20;
/// Bytes for all of them together, and at most for one.
const ROOM: usize = 128 << 10;
const ROOM_FOR_ONE: usize = 32 << 10;

/// The sessions of a worker that follow something, by place and generation.
#[derive(Debug, Default)]
pub(super) struct Followers {
    list: Vec<(usize, u32)>,
    next: usize,
    /// When somebody was served last.
    served: Option<Instant>,
}

// === impl Followers ===

impl Followers {
    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Takes up a session that follows something, if it is not known yet.
    #[inline]
    pub(super) fn meet(&mut self, session: &mut Session, index: usize) {
        if session.follows() && !std::mem::replace(&mut session.served, true) {
            self.list.push((index, session.seat.generation));
        }
    }

    /// Tells those whose turn has come what they may hear; those who have news are put on the list `to_write`.
    #[inline]
    pub(super) fn serve(&mut self, now: Instant, sessions: &mut Slab<Session>, to_write: &mut Vec<usize>) {
        if !self.list.is_empty() {
            self.serve_due(now, sessions, to_write);
        }
    }

    fn serve_due(&mut self, now: Instant, sessions: &mut Slab<Session>, to_write: &mut Vec<usize>) {
        let a_tick = SERVED.min(self.list.len());
        let passed = now.duration_since(*self.served.get_or_insert(now)).as_micros();
        let due = passed * a_tick as u128 / TICK.as_micros();
        if due == 0 {
            return;
        }
        self.served = Some(now);
        for _ in 0..usize::try_from(due).unwrap_or(a_tick).min(a_tick) {
            if self.next >= self.list.len() {
                self.next = 0;
            }
            let Some(&(index, generation)) = self.list.get(self.next) else { return };
            let session = sessions.get_mut(index).filter(|session| session.seat.generation == generation);
            match session {
                Some(session) if session.follows() => {
                    self.next += 1;
                    if session.is_attentive() {
                        session.hear((ROOM / a_tick).min(ROOM_FOR_ONE));
                        if session.replies.has_news() {
                            touch(session, index, to_write);
                        }
                    }
                }
                session => {
                    if let Some(session) = session {
                        session.served = false;
                    }
                    self.list.swap_remove(self.next);
                }
            }
        }
    }
}
