//! Between one session and its socket: bytes in, replies out.

use std::io::{ErrorKind, Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::base::budget::Allowance;
use crate::intake::linger::Linger;
use crate::intake::live::Tap;
use crate::intake::metrics::{Closed, Refusal, Tally};
use crate::intake::push::Desk;
use crate::intake::session::{Flow, Session};
use crate::intake::shared::Shared;
use crate::record::sink::{Failure, RecordSink};

/// What a closing connection gets to read its last replies.
const FAREWELL: Duration = Duration::from_millis(500);

/// What sessions work with, apart from the sessions.
pub(super) struct Back<S> {
    pub(super) sink: S,
    pub(super) shared: Arc<Shared>,
    pub(super) linger: Linger,
    pub(super) tally: Tally,
    pub(super) allowance: Allowance,
    pub(super) starved_since: Option<Instant>,
    pub(super) tap: Tap,
}

// === impl Back ===

impl<S> Back<S> {
    fn desk(&mut self, now: Instant) -> Desk<'_, S> {
        Desk {
            sink: &mut self.sink,
            shared: &self.shared,
            tally: &mut self.tally,
            allowance: &mut self.allowance,
            tap: &mut self.tap,
            now,
            millis: self.shared.millis(now),
            starved_since: &mut self.starved_since,
        }
    }
}

/// Goes on with a session's backlog, then reads once from its socket.
pub(super) fn read_one<S: RecordSink>(session: &mut Session, back: &mut Back<S>, buffer: &mut [u8], now: Instant) {
    if matches!(session.flow, Flow::Parked | Flow::Full) {
        session.resume(&mut back.desk(now));
    }
    if !session.readable || matches!(session.flow, Flow::Parked | Flow::Full) {
        return;
    }
    match session.stream.read(buffer) {
        Ok(0) => {
            session.readable = false;
            session.ended = true;
        }
        Ok(count) => {
            // A short read has emptied the socket: the next bytes make the next event.
            session.readable = count == buffer.len();
            if session.flow == Flow::Hungry {
                back.tally.bytes_in += count as u64;
                back.linger.spoke(&mut session.mark, now);
                session.take(buffer.get(..count).unwrap_or_default(), &mut back.desk(now));
            }
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => session.readable = false,
        Err(error) if error.kind() == ErrorKind::Interrupted => {}
        Err(_) => {
            session.readable = false;
            session.abandon();
        }
    }
}

/// Writes what is finished, as far as the socket takes it.
pub(super) fn write_one<S>(session: &mut Session, back: &mut Back<S>, now: Instant) {
    let released = session.replies.release();
    back.tally.acknowledged += released.acknowledged;
    if let Some(failure) = released.failure {
        back.tally.refused(refusal(failure), released.refused);
    }
    if released.close {
        back.shared.metrics.closed(Closed::Refused);
        session.replies.silence();
        session.flow = Flow::Closing;
    }
    while !session.replies.unwritten().is_empty() {
        match session.stream.write(session.replies.unwritten()) {
            Ok(count) => {
                session.replies.wrote(count);
                session.stalled_since = None;
                back.tally.bytes_out += count as u64;
                // Who follows is written to unasked, and is not expected to answer.
                if !session.follows() {
                    back.linger.replied(&mut session.mark);
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                session.stalled_since.get_or_insert(now);
                if session.replies.unwritten().len() > back.shared.limits.output_buffer {
                    back.shared.metrics.closed(Closed::Output);
                    session.abandon();
                }
                return;
            }
            Err(_) => return session.abandon(),
        }
    }
    session.say_farewell(now, FAREWELL);
}

fn refusal(failure: Failure) -> Refusal {
    match failure {
        Failure::TimedOut => Refusal::TimedOut,
        Failure::Stopped => Refusal::Stopping,
        Failure::TooLarge => Refusal::TooLarge,
        Failure::NotAuthorized | Failure::UnknownTopic | Failure::Refused => Refusal::Kafka,
    }
}
