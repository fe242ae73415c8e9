//! librdkafka's producer, as far as batch produce needs it. The one module with `unsafe` in it.
//!
//! rdkafka's own producers take a lock for the topic's name, and an allocation, for every record; here a whole batch goes
//! through one call on a cached topic handle. That call carries neither headers nor a record's own time, so records that have
//! some go one by one, in their place among the others. Everything else of Kafka (configuration, metadata, administration) goes
//! through rdkafka's safe types.
//!
//! # The invariant everything rests on
//! librdkafka is handed pointers into a [`Batch`]'s bytes without copying them (neither `MSG_F_COPY` nor `MSG_F_FREE`). By
//! its contract it may read them until the delivery report of that record has come, or until `rd_kafka_destroy` has
//! returned. So a batch that was handed over lives in `in_flight`, its bytes never touched again, until
//! [`Producer::release`] is called for it, which gives it out only after every record's report; and `in_flight` is
//! declared behind `client`, so that it is dropped after it.
#![allow(unsafe_code, reason = "batch produce and its reports have no safe binding; each block is argued")]

mod clock;
mod firsts;
mod handover;
mod resends;
mod wear;

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::bindings as sys;
use rdkafka::client::Client;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::types::RDKafkaType;
use slab::Slab;

use super::batch::Batch;
use super::failure::is_answer;
use super::health::{Context, Health};
use crate::record::sink::Ticket;
use firsts::{Firsts, To};
pub(super) use resends::RETRY_BACKOFF;
use resends::Resends;
use wear::Wear;

/// How many reports are taken from one event at once.
const REPORTS: usize = 4096;

/// A topic that this producer knows by a handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TopicHandle(usize);

/// One record's delivery report.
#[derive(Clone, Copy, Debug)]
pub(super) struct Report {
    /// The batch's number in [`Producer::produce`]'s order of slots.
    pub(super) batch: usize,
    /// The record's place in the batch.
    pub(super) entry: usize,
    /// Why it failed.
    pub(super) error: Option<RDKafkaErrorCode>,
    /// It failed, and may be in Kafka all the same.
    pub(super) possibly_written: bool,
}

/// An idempotent producer of one worker thread.
pub(super) struct Producer {
    queue: *mut sys::rd_kafka_queue_t,
    topics: Vec<*mut sys::rd_kafka_topic_t>,
    client: Client<Context>,
    in_flight: Slab<InFlight>,
    produced: u64,
    /// What librdkafka did not take: reported with the next poll.
    rejected: Vec<Report>,
    firsts: Firsts,
    /// Partitions whose first record was reported, and why it failed: what waits for it is seen to by the poll.
    answered: Vec<(To, Option<RDKafkaErrorCode>)>,
    messages: Vec<sys::rd_kafka_message_t>,
    reports: Vec<*const sys::rd_kafka_message_t>,
    /// A fatal error was met: nothing is taken any more.
    fatal: bool,
    resends: Resends,
    wear: Wear,
    /// An event that [`Producer::wait`] met.
    met: *mut sys::rd_kafka_event_t,
    /// Last, as librdkafka writes to it until the client is gone.
    _wake: Arc<OwnedFd>,
}

struct InFlight {
    batch: Batch,
    unreported: usize,
    to: To,
    /// Grows with each batch that goes.
    number: u64,
    /// When it was handed over.
    since: Instant,
}

// === impl Report ===

impl Report {
    /// True where Kafka refused the record, and not librdkafka of its own.
    pub(super) fn is_answer(&self) -> bool {
        self.error.is_some_and(is_answer)
    }
}

// === impl Producer ===

impl Producer {
    /// Creates a producer whose reports make `wake` (an eventfd) readable.
    pub(super) fn new(config: &ClientConfig, health: Arc<Health>, wake: Arc<OwnedFd>) -> Result<Self, KafkaError> {
        let native = config.create_native_config()?;
        let events = sys::RD_KAFKA_EVENT_DR | sys::RD_KAFKA_EVENT_ERROR | sys::RD_KAFKA_EVENT_LOG;
        // SAFETY: `native` owns a live configuration object, and no client uses it yet.
        unsafe { sys::rd_kafka_conf_set_events(native.ptr(), events) };
        let wear = Wear::new(&health);
        let client = Client::new(config, native, RDKafkaType::RD_KAFKA_PRODUCER, Context(health))?;
        let one = 1_u64.to_ne_bytes();
        // SAFETY: the client is alive; the queue's reference is destroyed in `drop` before the client is. The payload is
        // copied by the call. The descriptor lives as long as `_wake`, which outlives the client.
        let queue = unsafe {
            let queue = sys::rd_kafka_queue_get_main(client.native_ptr());
            let payload = one.as_ptr().cast::<c_void>();
            sys::rd_kafka_queue_io_event_enable(queue, wake.as_fd().as_raw_fd(), payload, one.len());
            queue
        };
        Ok(Self {
            queue,
            topics: Vec::new(),
            client,
            in_flight: Slab::new(),
            produced: 0,
            rejected: Vec::new(),
            firsts: Firsts::default(),
            answered: Vec::new(),
            messages: Vec::new(),
            reports: vec![std::ptr::null(); REPORTS],
            fatal: false,
            resends: Resends::default(),
            wear,
            met: std::ptr::null_mut(),
            _wake: wake,
        })
    }

    /// A handle for `name`, whose records time out after `timeout` (zero: never).
    pub(super) fn topic(&mut self, name: &str, timeout: Duration) -> Result<TopicHandle, KafkaError> {
        let topic = CString::new(name)?;
        let millis = CString::new(timeout.as_millis().to_string())?;
        let mut error: [c_char; 256] = [0; 256];
        // SAFETY: all strings are NUL-terminated and outlive the calls; the configuration is consumed by `topic_new`, or
        // destroyed here where it was not accepted; the client is alive, and the handle is destroyed before it in `drop`.
        let handle = unsafe {
            let conf = sys::rd_kafka_topic_conf_new();
            let key = c"message.timeout.ms".as_ptr();
            let set = sys::rd_kafka_topic_conf_set(conf, key, millis.as_ptr(), error.as_mut_ptr(), error.len());
            if set != sys::rd_kafka_conf_res_t::RD_KAFKA_CONF_OK {
                sys::rd_kafka_topic_conf_destroy(conf);
                return Err(KafkaError::ClientCreation("message.timeout.ms was refused for a topic".into()));
            }
            sys::rd_kafka_topic_new(self.client.native_ptr(), topic.as_ptr(), conf)
        };
        if handle.is_null() {
            // SAFETY: reads the calling thread's last error.
            let error = unsafe { sys::rd_kafka_last_error() };
            return Err(KafkaError::MessageProduction(error.into()));
        }
        self.topics.push(handle);
        Ok(TopicHandle(self.topics.len() - 1))
    }

    /// Blocks until an event is there, at most for `time` (whole milliseconds).
    pub(super) fn wait(&mut self, time: Duration) {
        if self.met.is_null() && self.rejected.is_empty() {
            let millis = c_int::try_from(time.as_millis()).unwrap_or(c_int::MAX);
            // SAFETY: the queue is alive until `drop`; the event is destroyed by `poll` or `drop`.
            self.met = unsafe { sys::rd_kafka_queue_poll(self.queue, millis) };
        }
    }

    /// True where [`Producer::wait`] met something.
    pub(super) fn has_met(&self) -> bool {
        !self.met.is_null() || !self.rejected.is_empty()
    }

    /// Hands over every report that is there, that of a delivered record with who waits for it. A record is reported once.
    pub(super) fn poll(&mut self, mut each: impl FnMut(Report, Option<Ticket>)) {
        self.take_events(&mut each);
        while !self.rejected.is_empty() || !self.answered.is_empty() {
            for report in std::mem::take(&mut self.rejected) {
                self.settle(report, &mut each);
            }
            self.follow_firsts();
        }
    }

    fn take_events(&mut self, each: &mut impl FnMut(Report, Option<Ticket>)) {
        loop {
            let mut event = std::mem::replace(&mut self.met, std::ptr::null_mut());
            if event.is_null() {
                // SAFETY: the queue is alive until `drop`; the event is destroyed below.
                event = unsafe { sys::rd_kafka_queue_poll(self.queue, 0) };
            }
            if event.is_null() {
                return;
            }
            // SAFETY: the event is alive until it is destroyed at the end of this turn.
            match unsafe { sys::rd_kafka_event_type(event) } {
                sys::RD_KAFKA_EVENT_DR => self.reports_of(event, each),
                sys::RD_KAFKA_EVENT_ERROR => self.error_of(event),
                sys::RD_KAFKA_EVENT_LOG => self.log_of(event),
                _ => {}
            }
            // SAFETY: the event is ours, and nothing of it is held any more.
            unsafe { sys::rd_kafka_event_destroy(event) };
        }
    }

    fn reports_of(&mut self, event: *mut sys::rd_kafka_event_t, each: &mut impl FnMut(Report, Option<Ticket>)) {
        loop {
            let mut reports = std::mem::take(&mut self.reports);
            // SAFETY: the event is alive; at most `reports.len()` pointers are written.
            let count = unsafe { sys::rd_kafka_event_message_array(event, reports.as_mut_ptr(), reports.len()) };
            for &message in reports.iter().take(count) {
                // SAFETY: the pointers are to messages of the event, which is alive.
                let message = unsafe { &*message };
                let (batch, entry) = place(message._private);
                let error = error_code(message.err);
                let possibly_written = error.is_some() && was_sent(message);
                if error.is_some() {
                    self.resends.failed(self.produced);
                }
                self.settle(Report { batch, entry, error, possibly_written }, each);
            }
            let more = count == reports.len();
            self.reports = reports;
            if !more {
                return;
            }
        }
    }

    #[inline]
    fn settle(&mut self, report: Report, each: &mut impl FnMut(Report, Option<Ticket>)) {
        let Some(in_flight) = self.in_flight.get_mut(report.batch) else { return };
        let (to, confirmed) = (in_flight.to, report.error.is_none());
        in_flight.unreported = in_flight.unreported.saturating_sub(1);
        let mut ticket = None;
        if confirmed {
            self.resends.confirmed(in_flight.number, in_flight.since);
            ticket = in_flight.batch.take_ticket(report.entry);
        } else {
            self.firsts.failed(to);
        }
        if self.firsts.is_first(to, report.batch, report.entry) {
            self.answered.push((to, report.error));
        }
        each(report, ticket);
    }

    fn error_of(&mut self, event: *mut sys::rd_kafka_event_t) {
        // SAFETY: the event is alive, and so is its text, which is copied.
        let (code, text) = unsafe {
            let text = CStr::from_ptr(sys::rd_kafka_event_error_string(event)).to_string_lossy().into_owned();
            (sys::rd_kafka_event_error(event), text)
        };
        self.fatal |= error_code(code) == Some(RDKafkaErrorCode::Fatal);
        self.client.context().0.error_seen(&text);
    }

    /// How many records that were confirmed since this was last asked librdkafka may have written twice: see [`resends`].
    pub(super) fn take_resent(&mut self) -> u64 {
        self.resends.take()
    }

    /// True where nothing new should go now: it is to be made anew as soon as nothing is on its way (see [`wear`]).
    pub(super) fn is_worn(&mut self, now: Instant) -> bool {
        self.wear.holds(now, &self.client.context().0)
    }

    /// True where one that [is worn](Self::is_worn) can be made anew: nothing is on its way, and there are descriptors.
    pub(super) fn may_be_renewed(&self) -> bool {
        self.in_flight.is_empty() && wear::has_descriptors()
    }

    /// True once a fatal error was met: only a new producer helps.
    pub(super) fn is_fatal(&self) -> bool {
        self.fatal
    }

    fn log_of(&self, event: *mut sys::rd_kafka_event_t) {
        let (mut facility, mut text) = (std::ptr::null(), std::ptr::null());
        let mut level = 0;
        // SAFETY: the event is alive, and so are the strings that it lends, which are copied.
        let line = unsafe {
            if sys::rd_kafka_event_log(event, &raw mut facility, &raw mut text, &raw mut level) != 0 {
                return;
            }
            CStr::from_ptr(text).to_string_lossy().into_owned()
        };
        self.client.context().0.log_seen(level, &line);
    }

    /// Gives a batch out, once, when every record of it has been reported. `batch` is a number from a [`Report`].
    pub(super) fn release(&mut self, batch: usize) -> Option<Batch> {
        match self.in_flight.get(batch) {
            Some(in_flight) if in_flight.unreported == 0 => Some(self.in_flight.remove(batch).batch),
            _ => None,
        }
    }

    /// The batches of a place that are not reported whole, in the order in which they went, each with its number.
    pub(super) fn in_flight(&self, place: (usize, usize)) -> Vec<(usize, &Batch)> {
        let mut batches: Vec<_> = self.in_flight.iter().filter(|(_, held)| held.batch.place == place).collect();
        batches.sort_unstable_by_key(|(_, held)| held.number);
        batches.into_iter().map(|(slot, held)| (slot, &held.batch)).collect()
    }

    /// Everybody who waits for a record of a batch that is not reported whole, once.
    pub(super) fn take_tickets(&mut self, batch: usize) -> impl Iterator<Item = Ticket> {
        self.in_flight.get_mut(batch).into_iter().flat_map(|held| held.batch.take_tickets())
    }

    /// Drops what librdkafka holds, in queues and in flight; each record is reported as purged.
    pub(super) fn purge(&self) {
        let flags = sys::RD_KAFKA_PURGE_F_QUEUE | sys::RD_KAFKA_PURGE_F_INFLIGHT;
        // SAFETY: the client is alive.
        unsafe { sys::rd_kafka_purge(self.client.native_ptr(), flags) };
    }
}

#[cfg(test)]
impl Producer {
    /// Makes librdkafka meet a fatal error, as a broker's answer would.
    pub(super) fn fail_fatally(&self) {
        let code = sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER;
        // SAFETY: the client is alive, and the reason is NUL-terminated and copied.
        unsafe { sys::rd_kafka_test_fatal_error(self.client.native_ptr(), code, c"a test asked for it".as_ptr()) };
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        // SAFETY: each handle is destroyed once, and nothing uses one afterwards: the fields that are dropped next are
        // the client (whose destruction ends librdkafka's threads) and only then the batches.
        unsafe {
            if !self.met.is_null() {
                sys::rd_kafka_event_destroy(self.met);
            }
            for &topic in &self.topics {
                sys::rd_kafka_topic_destroy(topic);
            }
            sys::rd_kafka_queue_destroy(self.queue);
        }
    }
}

/// A batch's slot and a record's place in it as the pointer that librdkafka carries for us; never followed.
fn opaque(slot: usize, entry: usize) -> *mut c_void {
    std::ptr::without_provenance_mut(slot << 32 | entry)
}

fn place(opaque: *mut c_void) -> (usize, usize) {
    let packed = opaque.addr();
    (packed >> 32, packed & 0xffff_ffff)
}

/// Whether a record that failed was on its way once, so that it may have arrived.
fn was_sent(message: &sys::rd_kafka_message_t) -> bool {
    // SAFETY: reads a field of the message, which is librdkafka's own and alive while it is borrowed.
    let status = unsafe { sys::rd_kafka_message_status(message) };
    status != sys::rd_kafka_msg_status_t::RD_KAFKA_MSG_STATUS_NOT_PERSISTED
}

fn error_code(error: sys::rd_kafka_resp_err_t) -> Option<RDKafkaErrorCode> {
    (error != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR).then(|| error.into())
}
