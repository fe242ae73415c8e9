//! The commands that carry records: pushes, and transactions of them.

use std::borrow::Cow;
use std::sync::Arc;

use super::{Bound, Done, Seat, Session, pushes};
use crate::intake::client::{Client, ReplyMode};
use crate::intake::commands;
use crate::intake::commands::store;
use crate::intake::commands::table::{Kind, Spec};
use crate::intake::commands::xadd::xadd;
use crate::intake::join::Joins;
use crate::intake::metrics::Closed;
use crate::intake::push::{Binding, Desk, Inspected, NotTaken, Pusher, Size};
use crate::intake::replies::{Replies, Success};
use crate::intake::shared::unix_micros;
use crate::intake::transaction::Transaction;
use crate::intake::whose::Whose;
use crate::record::config::{Accept, OnRefusal};
use crate::record::sink::RecordSink;
use crate::resp::decode::Args;
use crate::resp::reply::Reply;

/// The records of one command, and what its success answers.
struct Parcel<'a> {
    key: &'a [u8],
    values: Values<'a>,
    success: Success,
}

/// Where a command's values stand.
#[derive(Clone)]
enum Values<'a> {
    /// In its arguments, from the third on.
    Args(Args<'a>),
    /// One, put together from its fields or picked out of them.
    Entry(Cow<'a, [u8]>),
    /// Picked out of its arguments.
    Members(Vec<&'a [u8]>),
}

// === impl Session ===

impl Session {
    /// A push outside of a transaction.
    pub(super) fn push<S: RecordSink>(&mut self, args: Args<'_>, kind: Accept, desk: &mut Desk<'_, S>) -> Done {
        match self.try_push(args, kind, desk) {
            Ok(()) => Done::Yes,
            Err(not_taken) => self.not_taken(not_taken),
        }
    }

    #[inline]
    fn try_push<S: RecordSink>(
        &mut self,
        args: Args<'_>,
        kind: Accept,
        desk: &mut Desk<'_, S>,
    ) -> Result<(), NotTaken> {
        let parcel = self.parcel(args, kind)?;
        if self.whose.refresh(&desk.shared.surroundings, &self.client) {
            self.bound = None;
        }
        let who = self.seat.pusher(&self.client, &self.whose, false);
        if !self
            .bound
            .as_ref()
            .is_some_and(|bound| bound.kind == kind && bound.version == desk.tap.version() && bound.key == parcel.key)
        {
            let binding = desk.bind(parcel.key, kind, &who)?;
            self.bound = Some(Bound { key: parcel.key.to_vec(), kind, version: desk.tap.version(), binding });
        }
        let Some(bound) = &self.bound else { return Ok(()) };
        if desk.awaits(&bound.binding, &self.whose) {
            return Err(NotTaken::Awaits);
        }
        parcel.take(&bound.binding, desk, &who, &mut self.joins, &mut self.replies)?;
        self.client.takes_reply();
        Ok(())
    }

    /// The records of a push.
    #[inline]
    fn parcel<'a>(&mut self, args: Args<'a>, kind: Accept) -> Result<Parcel<'a>, Reply> {
        let key = args.get(1).unwrap_or_default();
        let (values, success) = match kind {
            Accept::List | Accept::Publish => (Values::Args(args), Success::Count),
            Accept::Stream => {
                let entry = xadd(&args.to_vec())?;
                let record = entry.record()?;
                let id = self.ids.next(entry.id, unix_micros(std::time::SystemTime::now()) / 1000);
                (Values::Entry(record), Success::Id(id.to_string().into()))
            }
            Accept::Set => (Values::Entry(store::set(&args.to_vec())?.into()), Success::Ok),
            Accept::Hash => {
                let (record, fields) = store::hset(&args.to_vec())?;
                let hmset = args.get(0).is_some_and(|name| name.eq_ignore_ascii_case(b"hmset"));
                let fields = Success::Number(u32::try_from(fields).unwrap_or(u32::MAX));
                (Values::Entry(record), if hmset { Success::Ok } else { fields })
            }
            Accept::SortedSet => (Values::Members(store::zadd(&args.to_vec())?), Success::Count),
        };
        Ok(Parcel { key, values, success })
    }

    fn not_taken(&mut self, why: NotTaken) -> Done {
        match why {
            NotTaken::Wrong(reply) | NotTaken::Refused(OnRefusal::Error, reply) => self.reply(&reply),
            NotTaken::NoRoom => Done::NoRoom,
            NotTaken::Awaits => Done::Awaits,
            NotTaken::Refused(OnRefusal::Close, _) => Done::Close(Some(Closed::Refused)),
        }
    }

    /// Completes records that were joined from lines: those that no line has come for in time, or all.
    pub(in crate::intake) fn finish_joins<S: RecordSink>(&mut self, all: bool, desk: &mut Desk<'_, S>) {
        if !self.joins.is_empty() {
            let who = self.seat.pusher(&self.client, &self.whose, false);
            desk.finish_joins(all, &who, &mut self.joins, &mut self.replies);
        }
    }

    /// True while lines wait for the next one.
    pub(in crate::intake) fn is_joining(&self) -> bool {
        !self.joins.is_empty()
    }

    pub(super) fn multi<S>(&mut self, desk: &Desk<'_, S>) -> Done {
        if self.transaction.is_some() {
            return self.reply(&Reply::error("ERR MULTI calls can not be nested"));
        }
        self.transaction = Some(Transaction::new(desk.shared.budget.clone()));
        self.client.queued = Some(0);
        self.reply(&Reply::OK)
    }

    pub(super) fn discard(&mut self) -> Done {
        self.client.queued = None;
        match self.transaction.take() {
            Some(_) => self.reply(&Reply::OK),
            None => self.reply(&Reply::error("ERR DISCARD without MULTI")),
        }
    }

    /// Queues a command. One that would be refused is refused now, and EXEC with it: that is the whole of "all or
    /// nothing" but for the budget.
    pub(super) fn queue<S: RecordSink>(&mut self, spec: &'static Spec, args: Args<'_>, desk: &mut Desk<'_, S>) -> Done {
        if let Some(kind) = pushes(spec)
            && let Err(reply) = self.rehearse(args, kind, desk)
        {
            return self.refuse(&reply);
        }
        if matches!(spec.kind, Kind::Subscribe(_) | Kind::Unsubscribe(_) | Kind::Monitor) {
            return self.refuse(&Reply::error(format!("ERR '{}' is not served within MULTI", spec.name)));
        }
        if matches!(spec.kind, Kind::Refused(_)) {
            let reply = commands::answer(spec, &args.to_vec(), &mut self.client, &desk.facts());
            return self.refuse(&reply);
        }
        let Some(transaction) = &mut self.transaction else { return Done::Yes };
        if !transaction.queue(spec, args) {
            return self.refuse(&Reply::error("ERR the memory limit is used up, the transaction finds no room"));
        }
        self.client.queued = Some(transaction.commands.len());
        self.reply(&Reply::QUEUED)
    }

    fn rehearse<S: RecordSink>(&mut self, args: Args<'_>, kind: Accept, desk: &mut Desk<'_, S>) -> Result<(), Reply> {
        let parcel = self.parcel(args, kind)?;
        let who = self.seat.pusher(&self.client, &self.whose, false);
        let binding = desk.bind(parcel.key, kind, &who)?;
        parcel.rehearse(&binding, desk, &who).map(|_| ())
    }

    pub(super) fn exec<S: RecordSink>(&mut self, desk: &mut Desk<'_, S>) -> Done {
        let Some(transaction) = self.transaction.take() else {
            return self.reply(&Reply::error("ERR EXEC without MULTI"));
        };
        if transaction.failed {
            self.client.queued = None;
            return self.reply(&Reply::error("EXECABORT Transaction discarded because of previous errors."));
        }
        match self.try_exec(&transaction, desk) {
            Ok(close) => {
                self.client.queued = None;
                if close { Done::Close(None) } else { Done::Yes }
            }
            Err(why @ (NotTaken::NoRoom | NotTaken::Awaits)) => {
                self.transaction = Some(transaction);
                self.not_taken(why)
            }
            Err(why) => {
                self.client.queued = None;
                self.not_taken(why)
            }
        }
    }

    /// Takes the records of all commands, then answers each in order. Nothing is taken before all is known to fit.
    fn try_exec<S: RecordSink>(&mut self, transaction: &Transaction, desk: &mut Desk<'_, S>) -> Result<bool, NotTaken> {
        let silent = self.client.reply_mode != ReplyMode::On;
        let mut plan = Vec::with_capacity(transaction.commands.len());
        self.whose.refresh(&desk.shared.surroundings, &self.client);
        for (spec, args) in &transaction.commands {
            let push = match pushes(spec) {
                None => None,
                Some(kind) => {
                    let parcel = self.parcel(args.as_args(), kind)?;
                    let who = self.seat.pusher(&self.client, &self.whose, silent);
                    let binding = desk.bind(parcel.key, kind, &who)?;
                    if desk.awaits(&binding, &self.whose) {
                        return Err(NotTaken::Awaits);
                    }
                    let found = parcel.rehearse(&binding, desk, &who)?;
                    Some((parcel, binding, found))
                }
            };
            plan.push((*spec, args.as_args(), push));
        }
        let who = self.seat.pusher(&self.client, &self.whose, silent);
        admit_all(plan.iter().filter_map(|(_, _, push)| push.as_ref()), desk, &who)?;
        self.client.takes_reply();
        if !silent {
            let count = plan.len();
            self.replies.answer(|out| out.extend_from_slice(format!("*{count}\r\n").as_bytes()));
        }
        for (spec, args, push) in plan {
            match push {
                Some((parcel, binding, found)) => {
                    let who = self.seat.pusher(&self.client, &self.whose, silent);
                    parcel.submit(&binding, &found, desk, &who, &mut self.joins, &mut self.replies);
                }
                None => {
                    let reply = commands::answer(spec, &args.to_vec(), &mut self.client, &desk.facts());
                    if !silent {
                        self.say(&reply);
                    }
                }
            }
        }
        Ok(self.client.close_after_reply)
    }
}

// === impl Seat ===

impl Seat {
    /// Who pushes, from the parts of a session that a push does not change.
    #[inline]
    fn pusher<'a>(self, client: &'a Client, whose: &'a Whose, silent: bool) -> Pusher<'a> {
        Pusher {
            session: self.index,
            generation: self.generation,
            hash: self.hash,
            database: client.database,
            user: client.user.as_ref().map_or("", |user| &user.name),
            address: &client.address,
            client_name: &client.name,
            pod: &whose.attribution,
            arrived: self.arrived,
            silent: silent || client.reply_mode != ReplyMode::On,
        }
    }
}

/// Room for the records of all these pushes, in their routes' rate limits and in the budget, or none is taken. The first
/// route's patience is that of all.
fn admit_all<'p, S: RecordSink>(
    pushes: impl Iterator<Item = &'p (Parcel<'p>, Arc<Binding>, Inspected)> + Clone,
    desk: &mut Desk<'_, S>,
    who: &Pusher<'_>,
) -> Result<(), NotTaken> {
    let mut whole = Size::default();
    let mut admitted = 0;
    let mut outcome = Ok(());
    for (parcel, binding, found) in pushes.clone() {
        outcome = desk.admit(binding, found.size, parcel.key);
        if outcome.is_err() {
            break;
        }
        whole += found.size;
        admitted += 1;
    }
    if let (Ok(()), Some((_, first, _))) = (&outcome, pushes.clone().next()) {
        outcome = desk.reserve(whole, &first.route, who);
    }
    if outcome.is_err() {
        pushes.take(admitted).for_each(|(_, binding, found)| desk.readmit(binding, found.size));
    }
    outcome
}

// === impl Parcel ===

impl Parcel<'_> {
    #[inline]
    fn take<S: RecordSink>(
        self,
        binding: &Arc<Binding>,
        desk: &mut Desk<'_, S>,
        who: &Pusher<'_>,
        joins: &mut Joins,
        replies: &mut Replies,
    ) -> Result<(), NotTaken> {
        let found = self.rehearse(binding, desk, who)?;
        desk.admit(binding, found.size, self.key)?;
        if let Err(not_taken) = desk.reserve(found.size, &binding.route, who) {
            desk.readmit(binding, found.size);
            return Err(not_taken);
        }
        self.submit(binding, &found, desk, who, joins, replies);
        Ok(())
    }

    /// All that can be wrong with the records, their size, and what becomes of each.
    #[inline]
    fn rehearse<S: RecordSink>(
        &self,
        binding: &Binding,
        desk: &mut Desk<'_, S>,
        who: &Pusher<'_>,
    ) -> Result<Inspected, Reply> {
        match &self.values {
            Values::Args(args) => desk.inspect(binding, self.key, args.from(2), who),
            Values::Members(members) => desk.inspect(binding, self.key, members.iter().copied(), who),
            Values::Entry(record) => desk.inspect(binding, self.key, std::iter::once(&**record), who),
        }
    }

    #[inline]
    fn submit<S: RecordSink>(
        self,
        binding: &Arc<Binding>,
        found: &Inspected,
        desk: &mut Desk<'_, S>,
        who: &Pusher<'_>,
        joins: &mut Joins,
        replies: &mut Replies,
    ) {
        let slot = desk.open(binding, found.size, self.success, who, replies);
        match &self.values {
            Values::Args(args) => desk.submit(binding, self.key, args.from(2), found, slot, who, joins, replies),
            Values::Members(members) => {
                desk.submit(binding, self.key, members.iter().copied(), found, slot, who, joins, replies)
            }
            Values::Entry(record) => {
                desk.submit(binding, self.key, std::iter::once(&**record), found, slot, who, joins, replies)
            }
        }
    }
}
