//! A worker: one thread, its share of the connections, and one sink.
//!
//! A turn goes: poll → read and carry out → send a batch → write replies → wait for the outcomes. Tokio is not used here,
//! because the turn decides when sockets are polled, which a task cannot: while a batch is in flight that is about to be
//! answered, the worker waits for that answer alone (fewer, larger turns, no latency lost), and while connections that
//! were just replied to have not spoken, it naps (see [`super::linger`]). mio is the reactor beneath tokio.

mod chores;
mod serve;
mod transfer;
mod waiting;

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant, SystemTime};

use mio::{Events, Poll, Token, Waker};
use slab::Slab;

use super::client::Client;
use super::linger::Linger;
use super::live::Tap;
use super::metrics::Tally;
use super::push::Aids;
use super::session::{Flow, Seat, Session};
use super::shared::{Shared, unix_micros};
use crate::base::budget::Allowance;
use crate::net::listener::Accepted;
use crate::record::sink::RecordSink;
use serve::Followers;
use transfer::{Back, Buffers, read_one, write_one};
use waiting::Waiting;

/// The longest wait for outcomes with no socket read.
const OUTCOMES: Duration = Duration::from_millis(2);
/// Between looks at deadlines while something is on its way, and while nothing is.
const TICK: Duration = Duration::from_millis(20);
const IDLE_TICK: Duration = Duration::from_secs(1);
/// Steps of handshakes in one turn: each costs as much as some hundred records, and whoever is connected waits for them.
const HANDSHAKES: usize = 8;
/// What is still received after the word to stop came.
const LAST_READ: Duration = Duration::from_millis(500);

const WAKE: Token = Token(usize::MAX);
const OUTCOME: Token = Token(usize::MAX - 1);

/// A worker's state; lives on its thread.
pub(super) struct Worker<S> {
    poll: Poll,
    inbox: Receiver<Accepted>,
    sessions: Slab<Session>,
    back: Back<S>,
    load: Arc<AtomicU64>,
    /// Without it a batch goes every turn.
    adaptive: bool,
    buffers: Buffers,
    followers: Followers,
    /// Sessions with bytes to read or a backlog, and those with replies to write.
    to_read: Vec<usize>,
    to_write: Vec<usize>,
    waiting: Waiting,
    generation: u32,
    /// Room was given back since records found none.
    retry: bool,
    outcomes: bool,
    ticked: Instant,
    looked: Instant,
    swept: Instant,
    stopping_since: Option<Instant>,
    shutdown_timeout: Duration,
}

/// What a worker is made of.
pub(super) struct Parts<S> {
    pub(super) poll: Poll,
    pub(super) inbox: Receiver<Accepted>,
    pub(super) sink: S,
    pub(super) shared: Arc<Shared>,
    /// Its connections, for whoever hands them out.
    pub(super) load: Arc<AtomicU64>,
    pub(super) adaptive: bool,
    pub(super) shutdown_timeout: Duration,
}

/// Makes the waker that brings a worker to its inbox.
pub(super) fn waker(poll: &Poll) -> io::Result<Waker> {
    Waker::new(poll.registry(), WAKE)
}

// === impl Worker ===

impl<S: RecordSink> Worker<S> {
    pub(super) fn new(mut parts: Parts<S>) -> io::Result<Self> {
        parts.sink.register(parts.poll.registry(), OUTCOME)?;
        let now = Instant::now();
        let policy = parts.shared.policy.load_full();
        let tap = Tap::new(parts.shared.hub.clone(), now);
        Ok(Self {
            poll: parts.poll,
            inbox: parts.inbox,
            sessions: Slab::new(),
            back: Back {
                sink: parts.sink,
                linger: Linger::default(),
                tally: Tally::new(policy.states.len()),
                allowance: Allowance::new(parts.shared.budget.clone()),
                shared: parts.shared,
                policy,
                starved_since: None,
                aids: Aids::new(),
                tap,
            },
            load: parts.load,
            adaptive: parts.adaptive,
            buffers: Buffers::default(),
            followers: Followers::default(),
            to_read: Vec::new(),
            to_write: Vec::new(),
            waiting: Waiting::default(),
            generation: 0,
            retry: false,
            outcomes: false,
            ticked: now,
            looked: now,
            swept: now,
            stopping_since: None,
            shutdown_timeout: parts.shutdown_timeout,
        })
    }

    /// Works until told to stop and all is finished.
    pub(super) fn run(mut self) {
        let mut events = Events::with_capacity(1024);
        loop {
            if let Err(error) = self.poll.poll(&mut events, Some(self.patience()))
                && error.kind() != ErrorKind::Interrupted
            {
                // Its connections would hang: as after a panic, the process ends and is started anew.
                tracing::error!(%error, "a worker cannot poll its sockets");
                std::process::abort();
            }
            let now = Instant::now();
            self.back.look_for_reload();
            self.back.tap.look();
            self.take_events(&events, now);
            self.read(now);
            if std::mem::take(&mut self.outcomes) {
                self.collect(now);
            }
            let nap = self.send(now);
            self.followers.serve(now, &mut self.sessions, &mut self.to_write);
            self.write(now);
            if let Some(nap) = nap {
                #[expect(
                    clippy::disallowed_methods,
                    reason = "the one place where time itself is waited for: a batch's linger"
                )]
                std::thread::sleep(nap);
            } else if self.back.sink.expects_soon() {
                self.await_outcomes(now);
            }
            if self.back.sink.unsettled() == 0 {
                // Who has nothing on its way keeps nothing from others.
                self.back.allowance.settle();
            }
            let now = Instant::now();
            self.back.tap.finish_turn(now);
            self.tick(now);
            self.back.tell();
            if self.is_finished() {
                return;
            }
        }
    }

    /// How long the poll may block.
    fn patience(&self) -> Duration {
        let blocked = self.back.starved_since.is_some() && !self.retry;
        if self.back.sink.can_flush() || (!blocked && !self.to_read.is_empty()) {
            Duration::ZERO
        } else if blocked
            || self.stopping_since.is_some()
            || self.back.sink.unsettled() > 0
            || !self.waiting.is_empty()
            || !self.followers.is_empty()
        {
            TICK
        } else {
            IDLE_TICK
        }
    }

    fn take_events(&mut self, events: &Events, now: Instant) {
        for event in events {
            match event.token() {
                WAKE => self.wake(now),
                OUTCOME => self.outcomes = true,
                Token(index) => {
                    let Some(session) = self.sessions.get_mut(index) else { continue };
                    if event.is_readable() || event.is_read_closed() || event.is_error() {
                        session.readable = true;
                        list(session, index, &mut self.to_read);
                    }
                    if event.is_writable() && session.has_to_write() {
                        touch(session, index, &mut self.to_write);
                    }
                }
            }
        }
    }

    fn wake(&mut self, now: Instant) {
        while let Ok(accepted) = self.inbox.try_recv() {
            self.adopt(accepted, now);
        }
        if self.back.shared.is_stopping() && self.stopping_since.is_none() {
            self.stopping_since = Some(now);
            // What was received is read to its end, once.
            for (index, session) in &mut self.sessions {
                session.readable = true;
                list(session, index, &mut self.to_read);
            }
        }
    }

    fn adopt(&mut self, accepted: Accepted, now: Instant) {
        let Back { shared, policy, .. } = &self.back;
        let Accepted { stream, peer, local, secure } = accepted;
        let stream = match &policy.tls {
            Some(tls) if secure => stream.secured(tls),
            _ => Ok(stream),
        };
        let entry = self.sessions.vacant_entry();
        let index = entry.key();
        self.generation = self.generation.wrapping_add(1);
        let millis = unix_micros(SystemTime::now()) / 1000;
        let client = Client::new(shared.next_client_id(), peer, local, millis, &policy.users);
        // The limit on connections is far below what u32 counts.
        let number = u32::try_from(index).unwrap_or(u32::MAX);
        let seat = Seat::new(number, self.generation, &client.address, now);
        let session = stream.map_err(io::Error::other).and_then(|stream| {
            let mut session = Session::new(stream, client, seat, policy.version);
            session.stream.register(self.poll.registry(), Token(index)).map(|()| session)
        });
        match session {
            Ok(session) => {
                shared.enlist(&session.client);
                entry.insert(session);
            }
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be served");
                shared.left(&self.load);
            }
        }
    }

    // --- reading

    fn read(&mut self, now: Instant) {
        let waited = self.back.starved_since.map(|since| now.duration_since(since));
        let mut blocked = !self.retry && waited.is_some_and(|waited| waited < self.back.policy.longest_hold);
        self.retry = false;
        let mut handshakes = HANDSHAKES;
        for index in std::mem::take(&mut self.to_read) {
            if blocked {
                // No room for records: what is in the sockets stays there.
                self.to_read.push(index);
                continue;
            }
            let Some(session) = self.sessions.get_mut(index) else { continue };
            if session.stream.is_handshaking() {
                if handshakes == 0 {
                    self.to_read.push(index);
                    continue;
                }
                handshakes -= 1;
            }
            session.listed = false;
            read_one(session, &mut self.back, &mut self.buffers, now);
            self.followers.meet(session, index);
            blocked = session.flow == Flow::Parked;
            if let Some(since) = self.stopping_since
                && session.flow == Flow::Hungry
                && (!session.readable || now.duration_since(since) > LAST_READ)
            {
                session.flow = Flow::Closing;
            }
            self.waiting.note(session, index, &mut self.back, now);
            if session.flow == Flow::Parked
                || (session.readable && !matches!(session.flow, Flow::Full | Flow::Awaiting | Flow::Slowed))
            {
                list(session, index, &mut self.to_read);
            }
            if session.replies.has_news()
                || session.stream.wants_write()
                || session.ended
                || session.flow == Flow::Closing
            {
                touch(session, index, &mut self.to_write);
            }
        }
    }

    // --- records

    /// Sends what the turn gathered, or says how long to wait for more of it.
    fn send(&mut self, now: Instant) -> Option<Duration> {
        let Back { sink, linger, .. } = &mut self.back;
        if !sink.can_flush() {
            return None;
        }
        if self.adaptive
            && let Some(nap) = linger.nap(now)
        {
            return Some(nap);
        }
        sink.flush(now);
        linger.sent();
        None
    }

    fn await_outcomes(&mut self, sent: Instant) {
        loop {
            self.back.sink.wait(OUTCOMES);
            let now = Instant::now();
            self.collect(now);
            if !self.back.sink.expects_soon() || now.duration_since(sent) >= OUTCOMES {
                return self.write(now);
            }
        }
    }

    fn collect(&mut self, now: Instant) {
        let (sessions, to_write) = (&mut self.sessions, &mut self.to_write);
        self.back.sink.outcomes(now, &mut |ticket, outcome| {
            // A session may be gone, and another in its place.
            if let Some(session) = sessions.get_mut(ticket.session as usize)
                && session.seat.generation == ticket.generation
                && session.replies.settle(ticket.slot, outcome)
            {
                touch(session, ticket.session as usize, to_write);
            }
        });
        self.retry |= self.back.starved_since.is_some();
    }

    // --- writing

    fn write(&mut self, now: Instant) {
        let mut touched = std::mem::take(&mut self.to_write);
        for index in touched.drain(..) {
            let Some(session) = self.sessions.get_mut(index) else { continue };
            session.touched = false;
            write_one(session, &mut self.back, now);
            if session.is_over(now) {
                self.remove(index);
            } else if session.wants_to_go_on() {
                list(session, index, &mut self.to_read);
            }
        }
        // Whoever was touched meanwhile waits for the next time; the list's memory is kept.
        touched.append(&mut self.to_write);
        self.to_write = touched;
    }

    fn remove(&mut self, index: usize) {
        let Some(mut session) = self.sessions.try_remove(index) else { return };
        session.finish_joins(true, &mut self.back.desk(Instant::now()));
        // Closing the descriptor would do as well; this keeps mio's books.
        _ = session.stream.deregister(self.poll.registry());
        self.back.linger.forget(&mut session.mark);
        session.release_budget(&self.back.shared);
        self.back.shared.strike_off(session.client.id);
        self.back.shared.left(&self.load);
    }
}

fn list(session: &mut Session, index: usize, to_read: &mut Vec<usize>) {
    if !std::mem::replace(&mut session.listed, true) {
        to_read.push(index);
    }
}

#[inline]
fn touch(session: &mut Session, index: usize, to_write: &mut Vec<usize>) {
    if !std::mem::replace(&mut session.touched, true) {
        to_write.push(index);
    }
}
