//! Between one session and its socket: bytes in, replies out.

use std::io::{ErrorKind, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::Guard;

use crate::base::budget::Allowance;
use crate::intake::linger::Linger;
use crate::intake::live::Tap;
use crate::intake::metrics::{Closed, Refusal, Tally};
use crate::intake::policy::Policy;
use crate::intake::push::{Aids, Desk};
use crate::intake::session::{Flow, Session};
use crate::intake::shared::Shared;
use crate::record::sink::{Failure, RecordSink};

/// Read at once from one connection, in bytes: a pipeline of a hundred log lines.
const READ: usize = 64 << 10;
/// What a closing connection gets to read its last replies.
const FAREWELL: Duration = Duration::from_millis(500);

/// What sessions work with, apart from the sessions.
pub(super) struct Back<S> {
    pub(super) sink: S,
    pub(super) shared: Arc<Shared>,
    /// What holds in this turn.
    pub(super) policy: Arc<Policy>,
    pub(super) linger: Linger,
    pub(super) tally: Tally,
    pub(super) allowance: Allowance,
    pub(super) starved_since: Option<Instant>,
    pub(super) aids: Aids,
    pub(super) tap: Tap,
}

/// Room for one read.
pub(super) struct Buffers {
    plain: Box<[u8]>,
    /// For what is encrypted.
    wire: Box<[u8]>,
}

// === impl Buffers ===

impl Default for Buffers {
    fn default() -> Self {
        Self { plain: vec![0; READ].into_boxed_slice(), wire: vec![0; READ / 2].into_boxed_slice() }
    }
}

// === impl Back ===

impl<S> Back<S> {
    /// Takes the policy that holds now, for a turn.
    pub(super) fn look_for_reload(&mut self) {
        let current = self.shared.policy.load();
        if !Arc::ptr_eq(&current, &self.policy) {
            self.tally.turn_to(&current, &self.shared, &self.policy);
            self.policy = Guard::into_inner(current);
        }
    }

    /// Adds what was counted to what everybody sees.
    pub(super) fn tell(&mut self) {
        self.tally.tell(&self.shared, &self.policy);
    }

    pub(super) fn desk(&mut self, now: Instant) -> Desk<'_, S> {
        Desk {
            sink: &mut self.sink,
            shared: &self.shared,
            policy: &self.policy,
            tally: &mut self.tally,
            allowance: &mut self.allowance,
            tap: &mut self.tap,
            now,
            millis: self.shared.millis(now),
            starved_since: &mut self.starved_since,
            aids: &mut self.aids,
        }
    }
}

/// Goes on with a session's backlog, then reads once from its socket.
pub(super) fn read_one<S: RecordSink>(session: &mut Session, back: &mut Back<S>, buffers: &mut Buffers, now: Instant) {
    if session.is_slowed(now) {
        return;
    }
    if matches!(session.flow, Flow::Parked | Flow::Full | Flow::Awaiting) {
        session.resume(&mut back.desk(now));
    }
    if !session.readable || matches!(session.flow, Flow::Parked | Flow::Full | Flow::Awaiting | Flow::Slowed) {
        return;
    }
    let greets = session.stream.is_handshaking();
    match session.stream.receive(&mut buffers.plain, &mut buffers.wire) {
        Ok(received) => {
            session.readable = received.more && !received.end;
            session.ended |= received.end;
            if greets && !session.stream.is_handshaking() {
                session.identify(&back.policy, &back.shared);
            }
            if session.flow == Flow::Hungry && received.count > 0 {
                back.tally.bytes_in += received.count as u64;
                back.linger.spoke(&mut session.mark, now);
                session.take(buffers.plain.get(..received.count).unwrap_or_default(), &mut back.desk(now));
            }
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => session.readable = false,
        Err(error) if error.kind() == ErrorKind::Interrupted => {}
        Err(error) => {
            if error.kind() == ErrorKind::InvalidData {
                tracing::debug!(peer = session.client.address, %error, "TLS failed");
                back.shared.metrics.closed(Closed::Tls);
            }
            session.readable = false;
            session.abandon();
        }
    }
}

/// Writes what is finished, as far as the socket takes it.
pub(super) fn write_one<S>(session: &mut Session, back: &mut Back<S>, now: Instant) {
    if session.is_slowed(now) {
        return;
    }
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
    match session.stream.flush() {
        Ok(()) => session.stalled_since = None,
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            session.stalled_since.get_or_insert(now);
            return;
        }
        Err(_) => return session.abandon(),
    }
    session.say_farewell(now, FAREWELL);
}

fn refusal(failure: Failure) -> Refusal {
    match failure {
        Failure::TimedOut => Refusal::TimedOut,
        Failure::NotStored => Refusal::Spool,
        Failure::Stopped => Refusal::Stopping,
        Failure::TooLarge => Refusal::TooLarge,
        Failure::NotAuthorized | Failure::UnknownTopic | Failure::Refused => Refusal::Kafka,
    }
}
