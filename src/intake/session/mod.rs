//! One connection: bytes to commands, commands to records and replies, in order.

mod access;
mod farewell;
mod listen;
mod records;

use std::sync::Arc;
use std::time::Instant;

use super::client::Client;
use super::commands;
use super::commands::table::{Kind, Spec, lookup};
use super::commands::xadd::StreamIds;
use super::join::Joins;
use super::linger::Mark;
use super::live::Listener;
use super::metrics::Closed;
use super::push::{Binding, Desk};
use super::replies::Replies;
use super::shared::Shared;
use super::transaction::Transaction;
use super::whose::Whose;
use crate::net::stream::Stream;
use crate::record::config::Accept;
use crate::record::route::connection_hash;
use crate::record::sink::RecordSink;
use crate::resp::decode::{Args, Decoder, Limits};
use crate::resp::encode::encode;
use crate::resp::reply::Reply;

/// Commands of one connection that may wait for their replies; reading goes on when some are answered.
const WAITING: usize = 32 << 10;
/// Bytes of replies that may wait for the client to read; no command is carried out beyond.
const UNREAD: usize = 16 << 10;
/// A half-read frame below this is kept even where all memory is used up, in bytes.
const SMALL: usize = 16 << 10;
/// Redis's own bounds on a client that has not said yet who it is.
const STRANGER: Limits = Limits { frame: 1 << 20, arguments: 10, bulk: 16384, unauthenticated: true };

/// How a session stands after it worked through its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// It waits for bytes.
    Hungry,
    /// It waits for room in the budget.
    Parked,
    /// It waits to be known.
    Awaiting,
    /// It waits for replies to be settled, or read.
    Full,
    /// It waits for the answer to a login that failed.
    Slowed,
    /// It closes once its replies are out.
    Closing,
}

/// One connection.
pub(super) struct Session {
    pub(super) stream: Stream,
    pub(super) client: Client,
    pub(super) mark: Mark,
    pub(super) replies: Replies,
    pub(super) flow: Flow,
    /// The socket may have bytes for us.
    pub(super) readable: bool,
    /// It is on the worker's list of those to read from.
    pub(super) listed: bool,
    /// It is on the worker's list of those with lines that wait for the next.
    pub(super) joining: bool,
    /// It is on the worker's list of those to write to.
    pub(super) touched: bool,
    /// The worker knows that it follows something.
    pub(super) served: bool,
    /// The peer sends no more.
    pub(super) ended: bool,
    /// The connection is of no use any more, whatever is left to say.
    lost: bool,
    /// Since when written bytes are not taken.
    pub(super) stalled_since: Option<Instant>,
    /// When it must be gone: all is said, and the peer need only read it.
    pub(super) close_by: Option<Instant>,
    pub(super) last_active: Instant,
    pub(super) seat: Seat,
    decoder: Decoder,
    /// Bytes from the current frame's first on.
    partial: Vec<u8>,
    /// What `partial` took from the budget, and from the reserve.
    charged: usize,
    reserved: usize,
    /// The frame at the front of `partial` is decoded and waits to be carried out; its length.
    decoded: Option<usize>,
    transaction: Option<Transaction>,
    listener: Option<Box<Listener>>,
    bound: Option<Bound>,
    /// When a failed login is answered.
    slow_until: Option<Instant>,
    /// The version of the policy under which user and route were found.
    policy: u64,
    ids: StreamIds,
    whose: Whose,
    joins: Joins,
}

/// What tells a session from others.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seat {
    /// Its place at its worker.
    pub(super) index: u32,
    /// Tells it from an earlier one in the same place.
    pub(super) generation: u32,
    /// Tells connections apart where a route partitions by them.
    hash: u32,
    /// When its last bytes came.
    arrived: Instant,
}

/// The route of the key that was used last.
struct Bound {
    key: Vec<u8>,
    kind: Accept,
    /// Of what is followed live, when the binding was made.
    version: u64,
    binding: Arc<Binding>,
}

/// What became of one command.
enum Done {
    Yes,
    /// Carry it out again when there is room.
    NoRoom,
    /// Carry it out again when it is known whose it is, or known that it will not be.
    Awaits,
    Close(Option<Closed>),
}

// === impl Seat ===

impl Seat {
    /// For a connection from `address` that just came.
    pub(super) fn new(index: u32, generation: u32, address: &str, now: Instant) -> Self {
        Self { index, generation, hash: connection_hash(address), arrived: now }
    }
}

// === impl Session ===

impl Session {
    /// A connection just accepted, its user found under this version of the policy.
    pub(super) fn new(stream: Stream, client: Client, seat: Seat, policy: u64) -> Self {
        Self {
            stream,
            whose: Whose::new(&client, seat.arrived),
            joins: Joins::default(),
            client,
            mark: Mark::default(),
            replies: Replies::default(),
            flow: Flow::Hungry,
            readable: false,
            listed: false,
            joining: false,
            touched: false,
            served: false,
            ended: false,
            lost: false,
            stalled_since: None,
            close_by: None,
            last_active: seat.arrived,
            seat,
            decoder: Decoder::default(),
            partial: Vec::new(),
            charged: 0,
            reserved: 0,
            decoded: None,
            transaction: None,
            listener: None,
            bound: None,
            slow_until: None,
            policy,
            ids: StreamIds::default(),
        }
    }

    /// Works through `fresh` bytes that were just read.
    pub(super) fn take<S: RecordSink>(&mut self, fresh: &[u8], desk: &mut Desk<'_, S>) {
        self.seat.arrived = desk.now;
        self.last_active = desk.now;
        if self.partial.is_empty() {
            let used = self.work(fresh, desk);
            self.partial.extend_from_slice(fresh.get(used..).unwrap_or_default());
            self.charge(desk);
        } else {
            self.partial.extend_from_slice(fresh);
            self.resume(desk);
        }
    }

    /// Goes on with bytes that were read before.
    pub(super) fn resume<S: RecordSink>(&mut self, desk: &mut Desk<'_, S>) {
        self.flow = Flow::Hungry;
        let mut partial = std::mem::take(&mut self.partial);
        let used = self.work(&partial, desk);
        // A large frame's memory goes with it.
        if used == partial.len() {
            partial = Vec::new();
        } else {
            partial.drain(..used);
            if partial.len() < partial.capacity() / 4 {
                partial.shrink_to_fit();
            }
        }
        self.partial = partial;
        self.charge(desk);
    }

    /// A half-read frame counts as much as records do. Where the budget is used up it is read on from a reserve, as only a
    /// whole command can be refused with an error of its own.
    fn charge<S>(&mut self, desk: &mut Desk<'_, S>) {
        let (size, shared) = (self.partial.capacity(), desk.shared);
        let held = self.charged + self.reserved;
        if size <= held {
            let from_reserve = self.reserved.min(held - size);
            shared.reserve.give_back(from_reserve);
            self.reserved -= from_reserve;
            shared.budget.give_back(held - size - from_reserve);
            self.charged -= held - size - from_reserve;
        } else if shared.budget.try_take(size - held) {
            self.charged += size - held;
        } else if shared.reserve.try_take(size - held) {
            self.reserved += size - held;
        } else if self.flow == Flow::Hungry && size > SMALL {
            self.say(&Reply::error("ERR the memory limit is used up, a command of this size finds no room"));
            self.close(desk, Some(Closed::Refused));
        }
    }

    /// Decodes and carries out what `bytes` hold; gives how many of them are done with.
    fn work<S: RecordSink>(&mut self, bytes: &[u8], desk: &mut Desk<'_, S>) -> usize {
        let mut decoder = std::mem::take(&mut self.decoder);
        let mut at = 0;
        if self.policy != desk.policy.version {
            self.look_again(desk);
        }
        let mut limits = self.limits(desk.shared);
        while self.flow == Flow::Hungry {
            if self.replies.waiting() >= WAITING || self.replies.unwritten().len() >= UNREAD {
                self.flow = Flow::Full;
                break;
            }
            let frame = bytes.get(at..).unwrap_or_default();
            let length = match self.decoded.take() {
                Some(length) => length,
                None => match decoder.decode(frame, &limits) {
                    Ok(Some(length)) => length,
                    Ok(None) => break,
                    Err(error) => {
                        self.say(&Reply::error(format!("ERR {error}")));
                        self.close(desk, Some(Closed::Protocol));
                        break;
                    }
                },
            };
            let failed_logins = self.client.failed_logins;
            let done = self.command(decoder.args(frame), desk);
            if self.client.failed_logins != failed_logins {
                self.slow_down(failed_logins, desk);
                self.flow = Flow::Slowed;
            }
            match done {
                Done::Yes => {}
                Done::NoRoom => {
                    self.decoded = Some(length);
                    self.flow = Flow::Parked;
                    break;
                }
                Done::Awaits => {
                    self.decoded = Some(length);
                    self.flow = Flow::Awaiting;
                    break;
                }
                Done::Close(why) => self.close(desk, why),
            }
            decoder.next();
            at += length;
            if limits.unauthenticated != self.client.user.is_none() {
                limits = self.limits(desk.shared);
            }
        }
        self.decoder = decoder;
        // What comes after the end is not read.
        if self.flow == Flow::Closing { bytes.len() } else { at }
    }

    fn limits(&self, shared: &Shared) -> Limits {
        if self.client.user.is_none() {
            return STRANGER;
        }
        let limits = &shared.limits;
        let (frame, arguments) = (limits.frame_size, limits.arguments);
        Limits { frame, arguments, bulk: frame, unauthenticated: false }
    }

    fn close<S>(&mut self, desk: &mut Desk<'_, S>, why: Option<Closed>) {
        self.flow = Flow::Closing;
        if let Some(why) = why {
            desk.shared.metrics.closed(why);
        }
    }

    fn command<S: RecordSink>(&mut self, args: Args<'_>, desk: &mut Desk<'_, S>) -> Done {
        let Some(name) = args.get(0) else { return Done::Yes };
        desk.tally.commands += 1;
        self.client.commands += 1;
        let Some(spec) = lookup(name).filter(|spec| desk.policy.knows(spec)) else {
            return self.refuse(&commands::unknown(&args.to_vec()));
        };
        if self.transaction.is_none()
            && let Some(kind) = pushes(spec)
            && self.may_push(spec, args)
        {
            if desk.tap.is_monitored() {
                self.overheard(spec, args, desk);
            }
            return self.push(args, kind, desk);
        }
        let spec = match commands::check(spec, &args.to_vec(), &self.client) {
            Ok(spec) => spec,
            Err(reply) => {
                if matches!(spec.kind, Kind::Exec) {
                    self.transaction = None;
                    self.client.queued = None;
                }
                return self.refuse(&reply);
            }
        };
        if self.is_confined()
            && let Some(refusal) = Self::confined(spec)
        {
            return self.refuse(&refusal);
        }
        if desk.tap.is_monitored() {
            self.overheard(spec, args, desk);
        }
        if self.transaction.is_some() && !is_about_transactions(spec) {
            return self.queue(spec, args, desk);
        }
        match spec.kind {
            Kind::Multi => self.multi(desk),
            Kind::Exec => self.exec(desk),
            Kind::Discard => self.discard(),
            Kind::Subscribe(kind) => self.subscribe(kind, args, desk),
            Kind::Unsubscribe(kind) => self.unsubscribe(kind, args, desk),
            Kind::Monitor => self.monitor(desk),
            Kind::Watch if self.transaction.is_some() => {
                self.reply(&Reply::error("ERR WATCH inside MULTI is not allowed"))
            }
            _ => self.answer(spec, args, desk),
        }
    }

    /// The checks of [`commands::check`], for the commands that come by the million; it is asked for the words where
    /// one of them fails.
    #[inline]
    fn may_push(&self, spec: &'static Spec, args: Args<'_>) -> bool {
        let Some(user) = &self.client.user else { return false };
        spec.accepts(args.len())
            && !self.is_confined()
            && user.may_run(spec)
            && (user.all_keys() || args.get(1).is_some_and(|key| user.may_write_key(key)))
    }

    fn answer<S>(&mut self, spec: &'static Spec, args: Args<'_>, desk: &mut Desk<'_, S>) -> Done {
        if matches!(spec.kind, Kind::Reset) {
            self.transaction = None;
            self.stop_listening();
        }
        let reply = commands::answer(spec, &args.to_vec(), &mut self.client, &desk.facts());
        self.client.last_command = spec.name;
        if may_change_client(spec) {
            // Who it is and which database it uses may name the topic; what it calls itself is listed.
            self.bound = None;
            desk.shared.enlist(&self.client);
        }
        if self.is_confined() && spec.name == "ping" {
            // A message like all that such a client reads.
            let message = args.get(1).unwrap_or_default();
            return self.reply(&Reply::Array(vec![Reply::text("pong"), Reply::bulk(message)]));
        }
        self.reply(&reply);
        if self.client.close_after_reply { Done::Close(None) } else { Done::Yes }
    }

    /// Answers a command, unless CLIENT REPLY hides it.
    fn reply(&mut self, reply: &Reply) -> Done {
        if self.client.takes_reply() {
            self.say(reply);
        }
        Done::Yes
    }

    /// Answers a command that cannot be carried out; within MULTI that spoils the transaction.
    fn refuse(&mut self, reply: &Reply) -> Done {
        if let Some(transaction) = &mut self.transaction {
            transaction.failed = true;
        }
        self.reply(reply)
    }

    fn say(&mut self, reply: &Reply) {
        let protocol = self.client.protocol;
        self.replies.answer(|out| encode(reply, protocol, out));
    }
}

/// How a route must accept the records of a command that carries some.
fn pushes(spec: &Spec) -> Option<Accept> {
    match spec.kind {
        Kind::Push => Some(Accept::List),
        Kind::Publish => Some(Accept::Publish),
        Kind::XAdd => Some(Accept::Stream),
        Kind::Set => Some(Accept::Set),
        Kind::HSet => Some(Accept::Hash),
        Kind::ZAdd => Some(Accept::SortedSet),
        _ => None,
    }
}

/// Health checks are of the same group and come between pushes: they cost no route and no list.
fn may_change_client(spec: &Spec) -> bool {
    spec.group == "connection" && !matches!(spec.name, "ping" | "echo")
}

/// Not queued within MULTI.
fn is_about_transactions(spec: &Spec) -> bool {
    matches!(spec.kind, Kind::Multi | Kind::Exec | Kind::Discard | Kind::Watch | Kind::Quit | Kind::Reset)
}
