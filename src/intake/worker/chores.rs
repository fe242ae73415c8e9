//! What a worker does because time went by, not because something came.

use std::time::{Duration, Instant};

use super::transfer::write_one;
use super::{TICK, Worker, touch};
use crate::intake::metrics::Closed;
use crate::intake::session::Flow;
use crate::record::sink::RecordSink;

/// Between looks for replies that are due.
const DEADLINES: Duration = Duration::from_millis(100);
/// Between looks for idle, stalled and closing connections.
const SWEEP: Duration = Duration::from_millis(250);
/// A client that takes no byte of its replies for this long is cut off.
const STALL: Duration = Duration::from_secs(60);
/// What a client may take to agree on TLS.
const HANDSHAKE: Duration = Duration::from_secs(10);

// === impl Worker ===

impl<S: RecordSink> Worker<S> {
    pub(super) fn tick(&mut self, now: Instant) {
        if now.duration_since(self.ticked) < TICK {
            return;
        }
        self.ticked = now;
        self.back.sink.tick(now);
        self.waiting.tick(&mut self.sessions, &mut self.to_read, &mut self.back, now);
        #[expect(clippy::cast_precision_loss, reason = "a byte budget is far below 2^52")]
        self.back.shared.metrics.in_flight_bytes.set(self.back.shared.budget.used() as f64);
        if self.back.shared.budget.used() <= self.back.shared.budget.limit() / 2 {
            // The drought is over, even if nobody has pushed since: the next one is waited out from its own start.
            self.back.starved_since = None;
        }
        // Others may have given room back, and failures were found by the tick.
        self.retry |= self.back.starved_since.is_some();
        self.outcomes = true;
        if now.duration_since(self.looked) >= DEADLINES {
            self.looked = now;
            let millis = self.back.shared.millis(now);
            for (index, session) in &mut self.sessions {
                if session.replies.expire(millis) {
                    touch(session, index, &mut self.to_write);
                }
            }
        }
        if now.duration_since(self.swept) >= SWEEP {
            self.swept = now;
            self.sweep(now);
        }
        self.write(now);
    }

    /// Ends what is idle, stalled, or closing for too long.
    fn sweep(&mut self, now: Instant) {
        let idle = self.back.shared.limits.idle_timeout;
        for (index, session) in &mut self.sessions {
            if session.stalled_since.is_some_and(|since| now.duration_since(since) >= STALL) {
                self.back.shared.metrics.closed(Closed::Output);
                session.abandon();
            } else if !idle.is_zero()
                && session.flow == Flow::Hungry
                && !session.follows()
                && session.replies.waiting() == 0
                && now.duration_since(session.last_active) >= idle
            {
                self.back.shared.metrics.closed(Closed::Idle);
                session.flow = Flow::Closing;
            } else if session.stream.is_handshaking() && now.duration_since(session.last_active) >= HANDSHAKE {
                self.back.shared.metrics.closed(Closed::Tls);
                session.abandon();
            } else if session.close_by.is_none_or(|by| now < by) {
                continue;
            }
            touch(session, index, &mut self.to_write);
        }
    }

    /// True once told to stop and nothing is left to do, or the time for it is over.
    pub(super) fn is_finished(&mut self) -> bool {
        let Some(since) = self.stopping_since else { return false };
        let unsettled = self.back.sink.unsettled();
        if self.sessions.is_empty() && unsettled == 0 {
            return true;
        }
        if since.elapsed() < self.shutdown_timeout {
            return false;
        }
        let now = Instant::now();
        let connections = self.sessions.len();
        tracing::warn!(connections, unsettled, "the time to stop is over: what Kafka has not confirmed is refused");
        for (_, session) in &mut self.sessions {
            session.replies.stop();
            write_one(session, &mut self.back, now);
        }
        self.back.tell();
        true
    }
}
