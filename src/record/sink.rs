//! Where intake puts records, whatever is behind it. Intake knows this trait and never Kafka.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::headers::Headers;
use super::partition::PartitionChoice;
use super::route::Route;
use super::topic::TopicName;

/// What a record costs beside its bytes while it is unacknowledged: the batch's entry here, and librdkafka's message with
/// its place in the queue and its delivery report.
pub const RECORD_OVERHEAD: usize = 320;

/// What a byte of headers costs while its record is unacknowledged: librdkafka keeps each header in an allocation of its
/// own, beside the encoded one here.
pub(super) const HEADER_COST: usize = 4;

/// A record on its way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its bytes.
    pub value: &'a [u8],
    /// What goes with it.
    pub headers: Headers<'a>,
    /// Its time in Kafka, in Unix milliseconds; else the time when it is handed to Kafka's client.
    pub timestamp_ms: Option<i64>,
}

/// Who waits for a record: a reply slot of a session. Comes back with the record's outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The session's place at its worker.
    pub session: u32,
    /// Tells a session from an earlier one in the same place.
    pub generation: u32,
    /// The reply slot within the session.
    pub slot: u32,
}

/// A place that a sink knows by number, so that naming it costs nothing per record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Destination(pub usize);

/// Why a record is not safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It was not confirmed in time; it may have arrived all the same.
    TimedOut,
    /// The broker's limit is below the record's size.
    TooLarge,
    /// The broker does not let us write the topic.
    NotAuthorized,
    /// The topic is not there, and nobody creates it.
    UnknownTopic,
    /// The broker refused it for another reason, which the log and `/debug/log` name.
    Refused,
    /// It should have been kept on disk, which failed or is full; it may arrive all the same.
    NotStored,
    /// The process stopped before it was confirmed; it may have arrived all the same.
    Stopped,
}

/// A sink takes no more destinations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no more than {limit} topics are written by one process")]
pub struct TooManyTopics {
    /// The bound.
    pub limit: usize,
}

// === impl Record ===

impl<'a> Record<'a> {
    /// A record that is nothing but its bytes.
    #[inline]
    pub fn plain(value: &'a [u8]) -> Self {
        Self { value, ..Self::default() }
    }

    /// What it takes from the byte budget.
    #[inline]
    pub fn cost(&self) -> usize {
        self.value.len() + RECORD_OVERHEAD + HEADER_COST * self.headers.as_bytes().len()
    }
}

/// A place for records. One for each worker, used by its thread alone.
///
/// A turn of the worker is: many [`append`](Self::append), one [`flush`](Self::flush), then
/// [`outcomes`](Self::outcomes). The worker has taken the cost of each record ([`Record::cost`]) from the byte budget before;
/// the sink gives it back when the record leaves it.
pub trait RecordSink {
    /// The number of a topic, for records of `route`.
    ///
    /// # Errors
    /// The bound on topics is reached.
    fn destination(&mut self, topic: &TopicName, route: &Arc<Route>) -> Result<Destination, TooManyTopics>;

    /// The number of the topic that takes what `route`'s own topics do not, if it has one.
    ///
    /// # Errors
    /// The bound on topics is reached.
    fn dead_letters(&mut self, route: &Arc<Route>) -> Result<Option<Destination>, TooManyTopics>;

    /// Takes a copy of `record`. Records of one destination and partition keep the order in which they were appended. With
    /// a ticket, the outcome is reported exactly once.
    fn append(&mut self, to: Destination, choice: PartitionChoice<'_>, record: Record<'_>, ticket: Option<Ticket>);

    /// Sends what was appended, as far as what is in flight allows; the rest goes with a later call.
    fn flush(&mut self, now: Instant);

    /// True while appended records could be sent by [`flush`](Self::flush) now.
    fn can_flush(&self) -> bool;

    /// True while something is in flight whose outcome is expected within [`wait`](Self::wait)'s time.
    fn expects_soon(&self) -> bool;

    /// Blocks until an outcome is there, at most for `time`.
    fn wait(&mut self, time: Duration);

    /// Hands over the outcomes that have come.
    fn outcomes(&mut self, now: Instant, each: &mut dyn FnMut(Ticket, Result<(), Failure>));

    /// Records taken and not settled yet.
    fn unsettled(&self) -> usize;

    /// Calls for the regular work that no record triggers: at least ten times a second.
    fn tick(&mut self, now: Instant);

    /// Makes `registry` report `token` when outcomes are there.
    ///
    /// # Errors
    /// The operating system refused.
    fn register(&mut self, registry: &mio::Registry, token: mio::Token) -> io::Result<()>;
}
