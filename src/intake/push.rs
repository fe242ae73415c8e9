//! A push of records: route, checks, budget, and into the sink. All of a command's records are taken, or none.

use std::ops::AddAssign;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use super::client::ServerFacts;
use super::join::Joins;
use super::live::Tap;
use super::metrics::{Refusal, Tally};
use super::policy::Policy;
use super::rate_limit::Bucket;
use super::replies::{Pending, Replies, Success};
use super::shared::{Shared, unix_micros};
use super::stamps::Stamps;
use super::whose::{Strangers, Whose};
use crate::base::budget::Allowance;
use crate::record::config::{Accept, Acknowledge, OnRefusal};
use crate::record::dead_letter::{self, Reason};
use crate::record::enrich::{Enrichment, Facts, Scratch};
use crate::record::headers::{Headers, HeadersBuf};
use crate::record::origin::Origin;
use crate::record::pods::Attribution;
use crate::record::route::{NoRoute, RecordError, Route};
use crate::record::sink::{Destination, Record, RecordSink, Ticket};
use crate::resp::reply::Reply;

/// What a session needs of its worker while it works through its bytes.
pub(super) struct Desk<'a, S> {
    pub(super) sink: &'a mut S,
    pub(super) shared: &'a Shared,
    /// What holds in this turn.
    pub(super) policy: &'a Policy,
    pub(super) tally: &'a mut Tally,
    pub(super) allowance: &'a mut Allowance,
    pub(super) tap: &'a mut Tap,
    pub(super) now: Instant,
    /// `now` in milliseconds since the start.
    pub(super) millis: u64,
    /// Since when records find no room, if they do not.
    pub(super) starved_since: &'a mut Option<Instant>,
    pub(super) aids: &'a mut Aids,
}

/// What records are made with that differ from what was pushed.
pub(super) struct Aids {
    pub(super) stamps: Stamps,
    pub(super) scratch: Scratch,
    pub(super) strangers: Strangers,
}

/// Who pushes.
#[derive(Clone, Copy)]
pub(super) struct Pusher<'a> {
    pub(super) session: u32,
    pub(super) generation: u32,
    /// Tells connections apart where a route partitions by them.
    pub(super) hash: u32,
    pub(super) database: u32,
    pub(super) user: &'a str,
    /// Where it comes from, `host:port`.
    pub(super) address: &'a str,
    /// What it calls itself.
    pub(super) client_name: &'a str,
    /// Whose connection it is.
    pub(super) pod: &'a Attribution,
    /// When its bytes came.
    pub(super) arrived: Instant,
    pub(super) silent: bool,
}

/// A route for a key, kept while a connection goes on using the key.
pub(super) struct Binding {
    pub(super) route: Arc<Route>,
    /// Nothing where each record names its topic.
    to: Option<Destination>,
    /// What its records are taken from, where the route has a limit.
    pub(super) limit: Option<Arc<Bucket>>,
    /// Where those of its records go that its topics do not take.
    letters: Option<Destination>,
    /// What each of its records carries.
    headers: HeadersBuf,
    /// What is added to each of them.
    enrichment: Option<Box<Enrichment>>,
    /// Somebody follows the key.
    watched: Option<u32>,
}

/// Number of records, and what they take from the budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) records: u32,
    /// Bytes as they were pushed.
    pub(super) bytes: usize,
    /// What they take from the budget, at most.
    pub(super) cost: usize,
}

/// What was found when a push's records were looked at, so that each is read but once.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Inspected {
    pub(super) size: Size,
    /// What becomes of each record, in their order; empty where all go to the binding's topic.
    verdicts: Vec<Verdict>,
}

/// What becomes of one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// It goes there.
    To(Destination),
    /// It goes to the route's dead-letter topic.
    Letter,
}

/// Why a push was not taken.
pub(super) enum NotTaken {
    /// It never will be: the error says why.
    Wrong(Reply),
    /// There is no room; try again, until the route's patience ends.
    NoRoom,
    /// It is not known yet whose connection it is; try again soon.
    Awaits,
    /// There was no room for longer than the route holds.
    Refused(OnRefusal, Reply),
}

// === impl Size ===

impl AddAssign for Size {
    fn add_assign(&mut self, other: Self) {
        self.records += other.records;
        self.bytes += other.bytes;
        self.cost += other.cost;
    }
}

// === impl Inspected ===

impl Inspected {
    /// Notes what becomes of the next record. `usual`: where all records go of which nothing else is said.
    #[inline]
    fn note(&mut self, verdict: Verdict, usual: Option<Destination>) {
        if let Some(usual) = usual.map(Verdict::To)
            && self.verdicts.is_empty()
        {
            if verdict == usual {
                return;
            }
            // Those before this one, which `size` counts already.
            self.verdicts.resize(self.size.records as usize - 1, usual);
        }
        self.verdicts.push(verdict);
    }
}

// === impl Binding ===

impl Binding {
    /// What its records carry.
    #[inline]
    pub(super) fn headers(&self) -> Headers<'_> {
        self.headers.as_headers()
    }

    /// What is taken from the budget for a record.
    #[inline]
    pub(super) fn reserved(&self, value: &[u8]) -> usize {
        let record = Record { headers: self.headers(), ..Record::plain(value) };
        record.cost() + self.enrichment.as_ref().map_or(0, |enrichment| enrichment.cost())
    }
}

// === impl NotTaken ===

impl From<Reply> for NotTaken {
    fn from(reply: Reply) -> Self {
        Self::Wrong(reply)
    }
}

// === impl Aids ===

impl Aids {
    pub(super) fn new() -> Self {
        Self { stamps: Stamps::new(), scratch: Scratch::default(), strangers: Strangers::default() }
    }
}

// === impl Desk ===

impl<S> Desk<'_, S> {
    /// What INFO and its kin tell.
    pub(super) fn facts(&self) -> ServerFacts<'_> {
        self.shared.facts(self.policy)
    }
}

impl<S: RecordSink> Desk<'_, S> {
    /// The route for a key.
    pub(super) fn bind(&mut self, key: &[u8], kind: Accept, who: &Pusher<'_>) -> Result<Arc<Binding>, Reply> {
        let route = match self.policy.routes.find(key, kind) {
            Ok(route) => route.clone(),
            Err(why) => {
                self.tally.refused(Refusal::NoRoute, 1);
                let key = String::from_utf8_lossy(key.get(..128).unwrap_or(key)).into_owned();
                return Err(Reply::error(match why {
                    NoRoute::Key => format!("ERR no route for key '{key}'; add a [[log.route]] that matches it"),
                    NoRoute::Command => {
                        format!("ERR the route for key '{key}' does not accept this command (accept = [...])")
                    }
                }));
            }
        };
        let to = if route.reads_record() { None } else { Some(self.named(&route, key, b"", who)?) };
        let limit = self.policy.states.get(route.index).and_then(|state| state.limit.as_ref());
        let limit = limit.map(|limit| limit.bucket(who.address, self.shared.nanos(self.now)));
        let letters = self
            .sink
            .dead_letters(&route)
            .map_err(|error| self.wrong(&route, Refusal::Invalid, 1, &error.to_string()))?;
        let mut headers = HeadersBuf::default();
        if letters.is_some() {
            headers.restart_with_origin(&Origin { key, route: &route.config.key, client: who.address });
        }
        let enrichment = route.config.enrich.as_ref().map(|config| {
            let Pusher { user, address, client_name, pod, .. } = *who;
            let node = &self.shared.surroundings.node;
            Box::new(Enrichment::new(config, &Facts { key, client: address, client_name, user, node, pod }))
        });
        Ok(Arc::new(Binding { route, to, limit, letters, headers, enrichment, watched: self.tap.watch(key) }))
    }

    /// True while the records wait until it is known whose connection they came by.
    #[inline]
    pub(super) fn awaits(&mut self, binding: &Binding, whose: &Whose) -> bool {
        binding.route.wants_pod() && whose.awaits(&self.shared.surroundings, &mut self.aids.strangers, self.now)
    }

    /// Checks every record of a push; gives their number, what they take from the budget, and what becomes of each.
    #[inline]
    pub(super) fn inspect<'v>(
        &mut self,
        binding: &Binding,
        key: &[u8],
        values: impl Iterator<Item = &'v [u8]> + Clone,
        who: &Pusher<'_>,
    ) -> Result<Inspected, Reply> {
        let mut found = Inspected::default();
        for value in values.clone() {
            found.size += Size { records: 1, bytes: value.len(), cost: binding.reserved(value) };
            match binding.route.check(value) {
                Ok(()) => {}
                Err(RecordError::NotJson) if binding.letters.is_some() => {
                    found.size.cost += dead_letter::GROWTH;
                    found.note(Verdict::Letter, binding.to);
                    continue;
                }
                Err(error) => {
                    let why = match error {
                        RecordError::TooLarge { .. } => Refusal::TooLarge,
                        RecordError::NotJson => Refusal::Invalid,
                    };
                    return Err(self.wrong(&binding.route, why, values.count() as u64, &error.to_string()));
                }
            }
            let to = match binding.to {
                Some(to) => to,
                None => self.named(&binding.route, key, value, who)?,
            };
            found.note(Verdict::To(to), binding.to);
        }
        Ok(found)
    }

    /// Opens the reply's slot of a push that was inspected and reserved.
    #[inline]
    pub(super) fn open(
        &mut self,
        binding: &Binding,
        size: Size,
        success: Success,
        who: &Pusher<'_>,
        replies: &mut Replies,
    ) -> Option<Ticket> {
        let config = &binding.route.config;
        self.tally.received(binding.route.index, u64::from(size.records), size.bytes as u64);
        let waits = config.acknowledge != Acknowledge::Enqueue;
        let slot = replies.open(Pending {
            total: size.records,
            left: if waits { size.records } else { 0 },
            failed: None,
            success,
            silent: who.silent,
            closes: config.on_refusal == OnRefusal::Close,
            deadline: self.millis + u64::try_from(config.hold.as_millis()).unwrap_or(u64::MAX),
        });
        waits.then_some(Ticket { session: who.session, generation: who.generation, slot })
    }

    /// Hands the records of a push to the sink, and gives back what they took from the budget beyond their cost.
    #[inline]
    #[expect(clippy::too_many_arguments, reason = "a push, and where its lines and its reply stand")]
    pub(super) fn submit<'v>(
        &mut self,
        binding: &Arc<Binding>,
        key: &[u8],
        values: impl Iterator<Item = &'v [u8]>,
        found: &Inspected,
        ticket: Option<Ticket>,
        who: &Pusher<'_>,
        joins: &mut Joins,
        replies: &mut Replies,
    ) {
        let route = &*binding.route;
        if let (Some(rule), Some(to)) = (route.join_rule(), binding.to) {
            return self.join(rule, binding, to, key, values, found.size, ticket, who, joins, replies);
        }
        let mut cost = 0;
        let mut verdicts = found.verdicts.iter().copied();
        for value in values {
            let record = Record { headers: binding.headers(), ..Record::plain(value) };
            cost += match verdicts.next().or(binding.to.map(Verdict::To)) {
                Some(Verdict::To(to)) => self.hand_over(binding, to, key, record, ticket, who),
                Some(Verdict::Letter) => self.bury(binding, key, &record, ticket, who),
                // Where each record names its topic, each has a verdict.
                None => 0,
            };
        }
        self.settle_cost(found.size.cost, cost);
    }

    /// Hands one record to the sink, with what its route adds to it; gives what it cost.
    #[inline]
    pub(super) fn hand_over(
        &mut self,
        binding: &Binding,
        to: Destination,
        key: &[u8],
        record: Record<'_>,
        ticket: Option<Ticket>,
        who: &Pusher<'_>,
    ) -> usize {
        let (route, value) = (&*binding.route, record.value);
        let record = match &binding.enrichment {
            None => record,
            Some(enrichment) => {
                let (moment, scratch) = (self.aids.stamps.next(), &mut self.aids.scratch);
                let (record, done) = enrichment.apply(value, record.headers, &moment, scratch);
                self.tally.not_enriched += u64::from(!done);
                self.tally.pod_unknown += u64::from(route.wants_pod() && *who.pod == Attribution::Unknown);
                record
            }
        };
        route.with_choice(key, who.hash, value, |choice| self.sink.append(to, choice, record, ticket));
        if let Some(place) = binding.watched {
            self.tap.take(place, value);
        }
        record.cost()
    }

    /// Gives back what was reserved and not spent. For enriched records it is an estimate, which may be too low.
    #[inline]
    pub(super) fn settle_cost(&self, reserved: usize, spent: usize) {
        if spent > reserved {
            self.shared.budget.take(spent - reserved);
        } else {
            self.shared.budget.give_back(reserved - spent);
        }
    }

    /// Hands a record that is not what its route asks for to the route's dead-letter topic; gives what it cost.
    #[cold]
    fn bury(
        &mut self,
        binding: &Binding,
        key: &[u8],
        record: &Record<'_>,
        ticket: Option<Ticket>,
        who: &Pusher<'_>,
    ) -> usize {
        let Some(letters) = binding.letters else { return 0 };
        let route = &binding.route;
        // One that should have named its topic itself names none.
        let topic = if binding.to.is_some() { route.topic(key, who.database, who.user, b"").ok() } else { None };
        let name = topic.as_ref().map_or("", |topic| topic.as_str());
        let now = i64::try_from(unix_micros(SystemTime::now()) / 1000).unwrap_or(i64::MAX);
        let mut headers = HeadersBuf::default();
        let mut record = *record;
        if let Some(enrichment) = binding.enrichment.as_ref().filter(|enrichment| !enrichment.writes_value()) {
            let (moment, scratch) = (self.aids.stamps.next(), &mut self.aids.scratch);
            record = enrichment.apply(record.value, record.headers, &moment, scratch).0;
        }
        dead_letter::address(&mut headers, &record, Reason::InvalidJson, name, now);
        let letter = Record { headers: headers.as_headers(), ..record };
        route.with_choice(key, who.hash, record.value, |choice| self.sink.append(letters, choice, letter, ticket));
        letter.cost()
    }

    /// The destination that a record names itself.
    fn named(&mut self, route: &Arc<Route>, key: &[u8], value: &[u8], who: &Pusher<'_>) -> Result<Destination, Reply> {
        let topic = route.topic(key, who.database, who.user, value);
        let topic = topic.map_err(|error| self.wrong(route, Refusal::Invalid, 1, &error.to_string()))?;
        let to = self.sink.destination(&topic, route);
        to.map_err(|error| self.wrong(route, Refusal::Invalid, 1, &error.to_string()))
    }

    /// An error reply, counted.
    pub(super) fn wrong(&mut self, route: &Route, why: Refusal, records: u64, text: &str) -> Reply {
        self.tally.refused(why, records);
        if let Some(state) = self.policy.states.get(route.index) {
            state.counts.refused(records, text);
        }
        Reply::error(format!("ERR {text}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_are_kept_from_the_first_on_that_is_not_the_usual_one() {
        let verdicts = |usual: Option<Destination>, all: &[Verdict]| {
            let mut found = Inspected::default();
            for verdict in all {
                found.size.records += 1;
                found.note(*verdict, usual);
            }
            found.verdicts
        };
        let (usual, other) = (Verdict::To(Destination(1)), Verdict::To(Destination(2)));
        assert_eq!(verdicts(Some(Destination(1)), &[usual, usual]), []);
        let mixed = [usual, usual, Verdict::Letter, usual, Verdict::Letter];
        assert_eq!(verdicts(Some(Destination(1)), &mixed), mixed);
        assert_eq!(verdicts(None, &[other, usual, Verdict::Letter]), [other, usual, Verdict::Letter]);
    }
}
