//! Records into librdkafka's hands: many without headers by one call, one with headers by one; and to a partition for the
//! first time behind its first record (see [`firsts`](super::firsts)).

use std::ffi::{c_int, c_void};
use std::ops::Range;
use std::time::Instant;

use rdkafka::bindings as sys;
use rdkafka::error::RDKafkaErrorCode;

use super::firsts::{Goes, To};
use super::{InFlight, Producer, Report, TopicHandle, error_code, opaque, place};
use crate::delivery::batch::Batch;
use crate::record::sink::Record;

/// What is reported of those that wait for a partition's first record, where it failed with `error`: the same, or where that
/// was about the record itself, that they were not sent and go again, in their place.
fn not_sent(error: RDKafkaErrorCode) -> RDKafkaErrorCode {
    use RDKafkaErrorCode as Code;
    match error {
        Code::MessageSizeTooLarge | Code::InvalidMessageSize | Code::InvalidTimestamp | Code::InvalidRecord => {
            Code::PurgeQueue
        }
        other => other,
    }
}

// === impl Producer ===

impl Producer {
    /// Hands `batches` over to one partition, in order, with one call for each run of records without headers. Records that librdkafka does not take are
    /// reported as failed by the next [`Producer::poll`].
    pub(in crate::delivery) fn produce(
        &mut self,
        topic: TopicHandle,
        partition: i32,
        batches: impl Iterator<Item = Batch>,
    ) {
        let (to, since) = ((topic.0, partition), Instant::now());
        for batch in batches {
            let (unreported, all) = (batch.len(), 0..batch.len());
            self.produced += 1;
            let slot = self.in_flight.insert(InFlight { batch, unreported, to, number: self.produced, since });
            match self.firsts.goes(to, slot, since) {
                Goes::Whole => self.enlist(slot, all),
                Goes::First => self.enlist(slot, 0..1),
                Goes::Waits => {}
            }
        }
        self.hand_over(to);
    }

    /// Puts records of a batch on the list for their partition, or hands them over where they go one by one.
    fn enlist(&mut self, slot: usize, entries: Range<usize>) {
        let Some(InFlight { batch, to, .. }) = self.in_flight.get(slot) else { return };
        let Some(&handle) = self.topics.get(to.0) else { return };
        let partition = to.1;
        for (entry, (key, record)) in batch.records().enumerate().take(entries.end).skip(entries.start) {
            if record.timestamp_ms.is_none() && !record.headers.has_any() {
                self.messages.push(message(partition, key, record.value, opaque(slot, entry)));
                continue;
            }
            produce_run(handle, partition, &mut self.messages, &mut self.rejected);
            let client = self.client.native_ptr();
            if let Some(error) = produce_one(client, handle, partition, key, &record, opaque(slot, entry)) {
                self.rejected.push(Report { batch: slot, entry, error: Some(error), possibly_written: false });
            }
        }
    }

    /// Hands over what is on the list.
    fn hand_over(&mut self, to: To) {
        if let Some(&handle) = self.topics.get(to.0) {
            produce_run(handle, to.1, &mut self.messages, &mut self.rejected);
        }
    }

    /// What waited for a partition's first record goes, or is reported as not sent.
    pub(super) fn follow_firsts(&mut self) {
        for (to, error) in std::mem::take(&mut self.answered) {
            for (at, slot) in self.firsts.answered(to, error.is_none(), Instant::now()).into_iter().enumerate() {
                let Some(held) = self.in_flight.get(slot) else { continue };
                // Of the first batch, the first record went.
                let left = usize::from(at == 0)..held.batch.len();
                match error.map(not_sent) {
                    None => self.enlist(slot, left),
                    error => {
                        let report = |entry| Report { batch: slot, entry, error, possibly_written: false };
                        self.rejected.extend(left.map(report));
                    }
                }
            }
            self.hand_over(to);
        }
    }
}

fn message(partition: i32, key: Option<&[u8]>, value: &[u8], opaque: *mut c_void) -> sys::rd_kafka_message_t {
    sys::rd_kafka_message_t {
        err: sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR,
        rkt: std::ptr::null_mut(),
        partition,
        payload: value.as_ptr().cast_mut().cast(),
        len: value.len(),
        key: key.map_or(std::ptr::null_mut(), |key| key.as_ptr().cast_mut().cast()),
        key_len: key.map_or(0, <[u8]>::len),
        offset: 0,
        _private: opaque,
    }
}

/// Hands over records without headers, and empties the list of them. `handle` is one of a producer's that is alive, and the
/// messages point into its batches in flight.
fn produce_run(
    handle: *mut sys::rd_kafka_topic_t,
    partition: i32,
    messages: &mut Vec<sys::rd_kafka_message_t>,
    rejected: &mut Vec<Report>,
) {
    if messages.is_empty() {
        return;
    }
    let count = c_int::try_from(messages.len()).unwrap_or(c_int::MAX);
    // SAFETY: the handle is alive until `drop`. The array holds at least `count` messages. Payloads and keys point into
    // batches in `in_flight`: see the module's invariant. librdkafka does not write through them (flags are 0, so it
    // neither frees nor moves them), though the C type is not const. One fixed partition for all: the partitioner, whose
    // failure leaks records, is not run.
    let taken = unsafe { sys::rd_kafka_produce_batch(handle, partition, 0, messages.as_mut_ptr(), count) };
    if usize::try_from(taken).ok() != Some(messages.len()) {
        rejected.extend(messages.iter().filter_map(|message| {
            let error = error_code(message.err)?;
            let (batch, entry) = place(message._private);
            Some(Report { batch, entry, error: Some(error), possibly_written: false })
        }));
    }
    messages.clear();
}

/// Hands over a record with its headers and its time; gives why it was not taken. `client` and `handle` are of one producer
/// that is alive, and key and value lie in one of its batches in flight.
fn produce_one(
    client: *mut sys::rd_kafka_t,
    handle: *mut sys::rd_kafka_topic_t,
    partition: i32,
    key: Option<&[u8]>,
    record: &Record<'_>,
    opaque: *mut c_void,
) -> Option<RDKafkaErrorCode> {
    use sys::rd_kafka_vtype_t as kind;
    let memory = |bytes: &[u8]| {
        let ptr = bytes.as_ptr().cast_mut().cast();
        sys::rd_kafka_vu_s__bindgen_ty_1 {
            mem: sys::rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_1 { ptr, size: bytes.len() },
        }
    };
    // SAFETY: allocates an empty list, which is ours until librdkafka has taken the record.
    let headers = unsafe { sys::rd_kafka_headers_new(record.headers.iter().count()) };
    for (name, value) in record.headers.iter() {
        let (name_size, value_size) = (name.len().cast_signed(), value.len().cast_signed());
        // SAFETY: the list is alive and ours; name and value are copied, by their lengths. Memory apart, nothing of it fails.
        unsafe {
            sys::rd_kafka_header_add(headers, name.as_ptr().cast(), name_size, value.as_ptr().cast(), value_size);
        }
    }
    let argument = |vtype, u| sys::rd_kafka_vu_t { vtype, u };
    let arguments = [
        argument(kind::RD_KAFKA_VTYPE_RKT, sys::rd_kafka_vu_s__bindgen_ty_1 { rkt: handle }),
        argument(kind::RD_KAFKA_VTYPE_PARTITION, sys::rd_kafka_vu_s__bindgen_ty_1 { i32_: partition }),
        argument(kind::RD_KAFKA_VTYPE_VALUE, memory(record.value)),
        argument(kind::RD_KAFKA_VTYPE_OPAQUE, sys::rd_kafka_vu_s__bindgen_ty_1 { ptr: opaque }),
        argument(kind::RD_KAFKA_VTYPE_HEADERS, sys::rd_kafka_vu_s__bindgen_ty_1 { headers }),
        // Zero: now.
        argument(
            kind::RD_KAFKA_VTYPE_TIMESTAMP,
            sys::rd_kafka_vu_s__bindgen_ty_1 { i64_: record.timestamp_ms.unwrap_or_default() },
        ),
        argument(kind::RD_KAFKA_VTYPE_KEY, memory(key.unwrap_or_default())),
    ];
    // A key that is there and empty is another than none: it is left out by the count.
    let count = arguments.len() - usize::from(key.is_none());
    // SAFETY: client, handle and list are alive, and each union holds the member that its type names. The value is neither
    // copied nor freed (flags are 0) and lies in a batch in `in_flight`: see the module's invariant; the key is copied. The
    // partition is fixed, so the partitioner's own failure is answered here and leaks nothing in this call.
    let error = unsafe { sys::rd_kafka_produceva(client, arguments.as_ptr(), count) };
    if error.is_null() {
        // The headers are the record's now.
        return None;
    }
    // SAFETY: the error is ours to read and destroy, once. After a failure the headers are still ours, also where the record
    // had been made: librdkafka takes a list that was handed to it out of a record that it drops.
    let (code, is_fatal) = unsafe {
        let told = (sys::rd_kafka_error_code(error), sys::rd_kafka_error_is_fatal(error) != 0);
        sys::rd_kafka_error_destroy(error);
        sys::rd_kafka_headers_destroy(headers);
        told
    };
    // After a fatal error this call names the error beneath it, where the other names the fatal error itself.
    if is_fatal { Some(RDKafkaErrorCode::Fatal) } else { error_code(code).or(Some(RDKafkaErrorCode::Fail)) }
}
