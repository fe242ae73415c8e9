//! The codec of frames: what stands around a run of one lane's records. No I/O.

use super::record::{self, Decoder, Previous, Record};

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Records that are nowhere else.
    Records,
    /// Records that Kafka's client had too, unreported.
    Guard,
}

/// A frame that is being filled. Its place is not known yet: [`seal`] makes it fit one.
#[derive(Debug)]
pub(super) struct OpenFrame {
    pub(super) bytes: Vec<u8>,
    pub(super) count: u32,
    header: usize,
    previous: Previous,
}

/// A frame's header, read and found good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header<'a> {
    pub(super) topic: &'a str,
    pub(super) partition: Option<i32>,
    pub(super) kind: Kind,
    pub(super) count: u32,
    pub(super) first_timestamp_ms: i64,
    pub(super) body_length: u32,
    body_crc: u32,
    header_length: u64,
}

/// Bytes of a header before the topic.
pub(super) const FIXED: usize = 40;
/// No header is longer.
pub(super) const LONGEST_HEADER: usize = FIXED + 255;
/// A body larger than this is none: the largest record is far below.
pub(super) const LARGEST_BODY: u32 = 1 << 30;

const MARKER: usize = 0;
const HEADER_CRC: usize = 8;
const BODY_CRC: usize = 12;
const BODY_LENGTH: usize = 16;
const COUNT: usize = 20;
const TIMESTAMP: usize = 24;
const PARTITION: usize = 32;
const KIND: usize = 36;
const TOPIC_LENGTH: usize = 37;
const RESERVED: usize = 38;

const NO_PARTITION: i32 = -1;
/// Bytes of the first record's id, ahead of the records.
const FIRST_ID: usize = 16;

// === impl OpenFrame ===

impl OpenFrame {
    /// A frame without records, in `bytes`, whose memory is used again.
    pub(super) fn new(mut bytes: Vec<u8>, topic: &str, partition: Option<i32>, kind: Kind) -> Self {
        bytes.clear();
        bytes.resize(FIXED, 0);
        put(&mut bytes, PARTITION, partition.unwrap_or(NO_PARTITION).to_le_bytes());
        // A topic's name has at most 249 bytes.
        let length = u8::try_from(topic.len()).unwrap_or(u8::MAX);
        put(&mut bytes, KIND, [if kind == Kind::Guard { 2 } else { 1 }, length]);
        bytes.extend_from_slice(topic.as_bytes());
        Self { header: bytes.len(), bytes, count: 0, previous: Previous::default() }
    }

    /// Appends a record.
    #[inline]
    pub(super) fn push(&mut self, record: &Record<'_>) {
        if self.count == 0 {
            put(&mut self.bytes, TIMESTAMP, record.timestamp_ms.to_le_bytes());
            self.bytes.extend_from_slice(&record.id.to_le_bytes());
            self.previous = Previous { id: record.id, timestamp_ms: record.timestamp_ms };
        }
        record::encode(&mut self.bytes, record, &mut self.previous);
        self.count += 1;
    }

    /// Takes back the last record, which made the frame grow from `length` bytes and followed `previous`.
    pub(super) fn take_back(&mut self, length: usize, previous: Previous) {
        self.bytes.truncate(length);
        self.previous = previous;
        self.count = self.count.saturating_sub(1);
    }

    /// What the next record is encoded against; for [`OpenFrame::take_back`].
    #[inline]
    pub(super) fn previous(&self) -> Previous {
        self.previous
    }

    /// Writes what is known of the header once no record is added any more.
    pub(super) fn close(&mut self) {
        let body = self.bytes.get(self.header..).unwrap_or_default();
        let (crc, length) = (crc32c::crc32c(body), u32::try_from(body.len()).unwrap_or(u32::MAX));
        put(&mut self.bytes, BODY_CRC, crc.to_le_bytes());
        put(&mut self.bytes, BODY_LENGTH, length.to_le_bytes());
        put(&mut self.bytes, COUNT, self.count.to_le_bytes());
    }

    /// When the first record was received.
    pub(super) fn first_timestamp_ms(&self) -> i64 {
        array(&self.bytes, TIMESTAMP).map_or(0, i64::from_le_bytes)
    }

    /// The partition of its records.
    pub(super) fn partition(&self) -> Option<i32> {
        array(&self.bytes, PARTITION).map(i32::from_le_bytes).filter(|partition| *partition != NO_PARTITION)
    }

    /// Its records.
    pub(super) fn records(&self) -> Decoder<'_> {
        records(self.bytes.get(self.header..).unwrap_or_default(), self.first_timestamp_ms())
    }

    /// Makes the closed frame fit one place. It can be made to fit another one later.
    pub(super) fn seal(&mut self, marker: u64, segment: u64, offset: u64) {
        put(&mut self.bytes, MARKER, marker.to_le_bytes());
        let header = self.bytes.get(..self.header).unwrap_or_default();
        let crc = header_crc(header, segment, offset);
        put(&mut self.bytes, HEADER_CRC, crc.to_le_bytes());
    }
}

// === impl Header ===

impl<'a> Header<'a> {
    /// Reads the header at the beginning of `bytes`, which are those at `offset` of the segment. `None`: there is none.
    pub(super) fn parse(bytes: &'a [u8], marker: u64, segment: u64, offset: u64) -> Option<Self> {
        if array(bytes, MARKER).map(u64::from_le_bytes) != Some(marker) {
            return None;
        }
        let topic_length = usize::from(*bytes.get(TOPIC_LENGTH)?);
        let header = bytes.get(..FIXED + topic_length)?;
        if array(header, HEADER_CRC).map(u32::from_le_bytes) != Some(header_crc(header, segment, offset)) {
            return None;
        }
        let partition = i32::from_le_bytes(array(header, PARTITION)?);
        let body_length = u32::from_le_bytes(array(header, BODY_LENGTH)?);
        if body_length > LARGEST_BODY || array(header, RESERVED) != Some([0, 0]) {
            return None;
        }
        Some(Self {
            topic: std::str::from_utf8(header.get(FIXED..)?).ok()?,
            partition: (partition != NO_PARTITION).then_some(partition),
            kind: match header.get(KIND)? {
                1 => Kind::Records,
                2 => Kind::Guard,
                _ => return None,
            },
            count: u32::from_le_bytes(array(header, COUNT)?),
            first_timestamp_ms: i64::from_le_bytes(array(header, TIMESTAMP)?),
            body_length,
            body_crc: u32::from_le_bytes(array(header, BODY_CRC)?),
            header_length: header.len() as u64,
        })
    }

    /// Bytes of the header.
    pub(super) fn length(&self) -> u64 {
        self.header_length
    }

    /// The same without the topic's name, so that nothing is borrowed.
    pub(super) fn detached(&self) -> Header<'static> {
        Header { topic: "", ..*self }
    }

    /// Bytes of the whole frame.
    pub(super) fn frame_length(&self) -> u64 {
        self.length() + u64::from(self.body_length)
    }

    /// Whether `body` is the frame's, undamaged.
    pub(super) fn fits(&self, body: &[u8]) -> bool {
        crc32c::crc32c(body) == self.body_crc
    }
}

/// The records of a body whose checksum was found good.
pub(super) fn records(body: &[u8], first_timestamp_ms: i64) -> Decoder<'_> {
    let (id, records) = body.split_first_chunk::<FIRST_ID>().unwrap_or((&[0; FIRST_ID], &[]));
    Decoder::new(records, Previous { id: u128::from_le_bytes(*id), timestamp_ms: first_timestamp_ms })
}

/// Over the place and all of the header but the checksum itself.
fn header_crc(header: &[u8], segment: u64, offset: u64) -> u32 {
    let place = (u128::from(segment) << 64 | u128::from(offset)).to_le_bytes();
    let before = header.get(..HEADER_CRC).unwrap_or_default();
    let after = header.get(BODY_CRC..).unwrap_or_default();
    crc32c::crc32c_append(crc32c::crc32c_append(crc32c::crc32c(&place), before), after)
}

/// The `N` bytes at a place.
#[inline]
pub(super) fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

/// Writes over the bytes at a place.
#[inline]
pub(super) fn put<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) {
    if let Some(place) = bytes.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
        *place = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::partition::PartitionChoice;

    fn frame() -> OpenFrame {
        let mut frame = OpenFrame::new(Vec::new(), "logs.a", Some(3), Kind::Guard);
        for (id, value) in [(7, &b"one"[..]), (8, b"two")] {
            frame.push(&Record { id, timestamp_ms: 5, choice: PartitionChoice::Key(b"k"), headers: b"h", value });
        }
        frame.close();
        frame.seal(11, 1, 128);
        frame
    }

    #[test]
    fn a_frame_is_read_as_it_was_written() {
        let frame = frame();
        let header = Header::parse(&frame.bytes, 11, 1, 128).unwrap();
        assert_eq!((header.topic, header.partition, header.kind, header.count), ("logs.a", Some(3), Kind::Guard, 2));
        assert_eq!(header.frame_length(), frame.bytes.len() as u64);
        let body = &frame.bytes[usize::try_from(header.length()).unwrap()..];
        assert!(header.fits(body));
        let values: Vec<_> = records(body, header.first_timestamp_ms).map(|record| (record.id, record.value)).collect();
        assert_eq!(values, [(7, &b"one"[..]), (8, b"two")]);
    }

    #[test]
    fn a_frame_fits_one_place_of_one_segment_only() {
        let mut frame = frame();
        for (marker, segment, offset) in [(12, 1, 128), (11, 2, 128), (11, 1, 129), (11, 1, 128 + (1 << 31))] {
            assert_eq!(Header::parse(&frame.bytes, marker, segment, offset), None);
        }
        frame.seal(12, 9, 4096);
        assert!(Header::parse(&frame.bytes, 12, 9, 4096).is_some());
    }

    #[test]
    fn no_flipped_bit_goes_unseen() {
        let mut bytes = frame().bytes;
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            let seen = match Header::parse(&bytes, 11, 1, 128) {
                None => true,
                Some(header) => !header.fits(&bytes[usize::try_from(header.length()).unwrap()..]),
            };
            assert!(seen, "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn a_record_that_was_taken_back_left_no_trace() {
        let record = |id, value| Record { id, timestamp_ms: 1, choice: PartitionChoice::Sticky, headers: &[], value };
        let mut frame = OpenFrame::new(Vec::new(), "t", None, Kind::Records);
        frame.push(&record(1, b"stays"));
        let (length, previous) = (frame.bytes.len(), frame.previous());
        frame.push(&record(50, b"goes"));
        frame.take_back(length, previous);
        frame.push(&record(2, b"comes"));
        frame.close();
        let ids: Vec<_> = records(&frame.bytes[FIXED + 1..], 1).map(|record| record.id).collect();
        assert_eq!((ids, frame.count), (vec![1, 2], 2));
    }
}
