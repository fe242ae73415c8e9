//! Serving those who follow records live: a few of them a tick, each with a bounded number of bytes, so that however many
//! there are, ingestion on the same thread hardly notices. Many followers are told less often, and are told what they
//! were not shown.

use slab::Slab;

use super::touch;
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

    /// Tells the next ones in turn what they may hear; those who have news are put on the list `to_write`.
    pub(super) fn serve(&mut self, sessions: &mut Slab<Session>, to_write: &mut Vec<usize>) {
        let turns = SERVED.min(self.list.len());
        for _ in 0..turns {
            if self.next >= self.list.len() {
                self.next = 0;
            }
            let Some(&(index, generation)) = self.list.get(self.next) else { return };
            let session = sessions.get_mut(index).filter(|session| session.seat.generation == generation);
            match session {
                Some(session) if session.follows() => {
                    self.next += 1;
                    if session.is_attentive() {
                        session.hear((ROOM / turns).min(ROOM_FOR_ONE));
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
