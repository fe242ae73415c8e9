//! The commands that carry records: pushes, and transactions of them.

use std::borrow::Cow;

use super::{Bound, Done, Session, pushes};
use crate::intake::client::{Client, ReplyMode};
use crate::intake::commands;
use crate::intake::commands::store;
use crate::intake::commands::table::{Kind, Spec};
use crate::intake::commands::xadd::xadd;
use crate::intake::metrics::Closed;
use crate::intake::push::{Binding, Desk, NotTaken, Pusher, Size};
use crate::intake::replies::Success;
use crate::intake::shared::unix_micros;
use crate::intake::transaction::Transaction;
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
        let who = pusher(&self.client, self.index, self.generation, self.hash, self.arrived, false);
        if !self
            .bound
            .as_ref()
            .is_some_and(|bound| bound.kind == kind && bound.version == desk.tap.version() && bound.key == parcel.key)
        {
            let binding = desk.bind(parcel.key, kind, &who)?;
            self.bound = Some(Bound { key: parcel.key.to_vec(), kind, version: desk.tap.version(), binding });
        }
        let Some(bound) = &self.bound else { return Ok(()) };
        parcel.take(&bound.binding, desk, &who, &mut self.replies)?;
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
            NotTaken::Refused(OnRefusal::Close, _) => Done::Close(Some(Closed::Refused)),
        }
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
            let reply = commands::answer(spec, &args.to_vec(), &mut self.client, &desk.shared.facts());
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
        let who = pusher(&self.client, self.index, self.generation, self.hash, self.arrived, false);
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
            Err(NotTaken::NoRoom) => {
                self.transaction = Some(transaction);
                Done::NoRoom
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
        let mut whole = Size::default();
        let mut patience = None;
        for (spec, args) in &transaction.commands {
            let push = match pushes(spec) {
                None => None,
                Some(kind) => {
                    let parcel = self.parcel(args.as_args(), kind)?;
                    let who = pusher(&self.client, self.index, self.generation, self.hash, self.arrived, silent);
                    let binding = desk.bind(parcel.key, kind, &who)?;
                    let size = parcel.rehearse(&binding, desk, &who)?;
                    whole += size;
                    patience.get_or_insert_with(|| binding.route.clone());
                    Some((parcel, binding, size))
                }
            };
            plan.push((*spec, args.as_args(), push));
        }
        if let Some(route) = patience {
            let who = pusher(&self.client, self.index, self.generation, self.hash, self.arrived, silent);
            desk.reserve(whole, &route, &who)?;
        }
        self.client.takes_reply();
        if !silent {
            let count = plan.len();
            self.replies.answer(|out| out.extend_from_slice(format!("*{count}\r\n").as_bytes()));
        }
        for (spec, args, push) in plan {
            match push {
                Some((parcel, binding, size)) => {
                    let who = pusher(&self.client, self.index, self.generation, self.hash, self.arrived, silent);
                    parcel.submit(&binding, size, desk, &who, &mut self.replies);
                }
                None => {
                    let reply = commands::answer(spec, &args.to_vec(), &mut self.client, &desk.shared.facts());
                    if !silent {
                        self.say(&reply);
                    }
                }
            }
        }
        Ok(self.client.close_after_reply)
    }
}

/// Who pushes, from the parts of a session that a push does not change.
fn pusher(
    client: &Client,
    session: u32,
    generation: u32,
    hash: u32,
    arrived: std::time::Instant,
    silent: bool,
) -> Pusher<'_> {
    Pusher {
        session,
        generation,
        hash,
        database: client.database,
        user: client.user.as_ref().map_or("", |user| &user.name),
        arrived,
        silent: silent || client.reply_mode != ReplyMode::On,
    }
}

// === impl Parcel ===

impl Parcel<'_> {
    #[inline]
    fn take<S: RecordSink>(
        self,
        binding: &Binding,
        desk: &mut Desk<'_, S>,
        who: &Pusher<'_>,
        replies: &mut crate::intake::replies::Replies,
    ) -> Result<(), NotTaken> {
        let size = self.rehearse(binding, desk, who)?;
        desk.reserve(size, &binding.route, who)?;
        self.submit(binding, size, desk, who, replies);
        Ok(())
    }

    /// All that can be wrong with the records, and their size.
    #[inline]
    fn rehearse<S: RecordSink>(
        &self,
        binding: &Binding,
        desk: &mut Desk<'_, S>,
        who: &Pusher<'_>,
    ) -> Result<Size, Reply> {
        match &self.values {
            Values::Args(args) => desk.inspect(binding, self.key, args.from(2), who),
            Values::Members(members) => desk.inspect(binding, self.key, members.iter().copied(), who),
            Values::Entry(record) => desk.inspect(binding, self.key, std::iter::once(&**record), who),
        }
    }

    #[inline]
    fn submit<S: RecordSink>(
        self,
        binding: &Binding,
        size: Size,
        desk: &mut Desk<'_, S>,
        who: &Pusher<'_>,
        replies: &mut crate::intake::replies::Replies,
    ) {
        let slot = desk.open(binding, size, self.success, who, replies);
        match &self.values {
            Values::Args(args) => desk.submit(binding, self.key, args.from(2), slot, who),
            Values::Members(members) => desk.submit(binding, self.key, members.iter().copied(), slot, who),
            Values::Entry(record) => desk.submit(binding, self.key, std::iter::once(&**record), slot, who),
        }
    }
}
