//! The codec of records within a frame's body. No I/O.

use crate::record::partition::PartitionChoice;

/// A record as it is spooled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Stable for the record's life: consumers dedupe by it. Cheapest where each record's is the one before it, plus one.
    pub id: u128,
    /// When it was received, in milliseconds since 1970.
    pub timestamp_ms: i64,
    /// How its partition is found.
    pub choice: PartitionChoice<'a>,
    /// Its Kafka headers, encoded by whoever delivers it; opaque here, empty for none.
    pub headers: &'a [u8],
    /// Its value.
    pub value: &'a [u8],
}

/// What the next record is encoded against.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Previous {
    pub(super) id: u128,
    pub(super) timestamp_ms: i64,
}

/// Reads the records of a body one by one; ends at the first that does not make sense.
#[derive(Clone, Debug)]
pub(super) struct Decoder<'a> {
    bytes: &'a [u8],
    previous: Previous,
}

const CHOICE: u8 = 0b11;
const HASH: u8 = 1;
const KEY: u8 = 2;
const HEADERS: u8 = 0b100;

/// No record's numbers and lengths take more.
const OVERHEAD: usize = 64;

/// Appends a record.
#[inline]
pub(super) fn encode(bytes: &mut Vec<u8>, record: &Record<'_>, previous: &mut Previous) {
    let key = if let PartitionChoice::Key(key) = record.choice { key } else { &[] };
    bytes.reserve(OVERHEAD + key.len() + record.headers.len() + record.value.len());
    let headers = if record.headers.is_empty() { 0 } else { HEADERS };
    let choice = match record.choice {
        PartitionChoice::Sticky => 0,
        PartitionChoice::Hash(_) => HASH,
        PartitionChoice::Key(_) => KEY,
    };
    bytes.push(choice | headers);
    put_varint(bytes, record.id.wrapping_sub(previous.id));
    put_varint(bytes, zigzag(record.timestamp_ms.wrapping_sub(previous.timestamp_ms)));
    match record.choice {
        PartitionChoice::Sticky => {}
        PartitionChoice::Hash(hash) => bytes.extend_from_slice(&hash.to_le_bytes()),
        PartitionChoice::Key(key) => put_bytes(bytes, key),
    }
    if headers != 0 {
        put_bytes(bytes, record.headers);
    }
    put_bytes(bytes, record.value);
    *previous = Previous { id: record.id, timestamp_ms: record.timestamp_ms };
}

#[inline]
fn put_bytes(bytes: &mut Vec<u8>, value: &[u8]) {
    put_varint(bytes, value.len() as u128);
    bytes.extend_from_slice(value);
}

/// LEB128.
#[inline]
pub(super) fn put_varint(bytes: &mut Vec<u8>, mut number: u128) {
    while number >= 0x80 {
        bytes.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    bytes.push(number.to_le_bytes()[0]);
}

/// Takes a number off the front. `None` where it does not end, or does not fit.
#[inline]
pub(super) fn take_varint(bytes: &mut &[u8]) -> Option<u128> {
    let mut number = 0_u128;
    for shift in (0..u128::BITS).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let part = u128::from(byte & 0x7f);
        if part << shift >> shift != part {
            return None;
        }
        number |= part << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

/// Takes a length and that many bytes off the front.
#[inline]
pub(super) fn take_bytes<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(take_varint(bytes)?).ok()?;
    let (value, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(value)
}

fn zigzag(number: i64) -> u128 {
    u128::from(((number << 1) ^ (number >> 63)).cast_unsigned())
}

fn unzigzag(number: u128) -> Option<i64> {
    let number = u64::try_from(number).ok()?;
    Some((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
}

// === impl Decoder ===

impl<'a> Decoder<'a> {
    /// Over the records of a body, encoded against `previous`.
    pub(super) fn new(bytes: &'a [u8], previous: Previous) -> Self {
        Self { bytes, previous }
    }

    /// True where nothing is left over.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    fn decode(&mut self) -> Option<Record<'a>> {
        let (&tag, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        let id = self.previous.id.wrapping_add(take_varint(&mut self.bytes)?);
        let timestamp_ms = self.previous.timestamp_ms.wrapping_add(unzigzag(take_varint(&mut self.bytes)?)?);
        let choice = match tag & CHOICE {
            0 => PartitionChoice::Sticky,
            HASH => {
                let (hash, rest) = self.bytes.split_first_chunk::<4>()?;
                self.bytes = rest;
                PartitionChoice::Hash(u32::from_le_bytes(*hash))
            }
            KEY => PartitionChoice::Key(take_bytes(&mut self.bytes)?),
            _ => return None,
        };
        let headers = if tag & HEADERS == 0 { &[] } else { take_bytes(&mut self.bytes)? };
        let value = take_bytes(&mut self.bytes)?;
        self.previous = Previous { id, timestamp_ms };
        Some(Record { id, timestamp_ms, choice, headers, value })
    }
}

impl<'a> Iterator for Decoder<'a> {
    type Item = Record<'a>;

    #[inline]
    fn next(&mut self) -> Option<Record<'a>> {
        self.decode()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_number_that_does_not_end_or_does_not_fit_is_none() {
        for bad in [&[][..], &[0x80], &[0xff; 18], &[0xff; 30]] {
            assert_eq!(take_varint(&mut { bad }), None, "{bad:?}");
        }
        let mut most = Vec::new();
        put_varint(&mut most, u128::MAX);
        assert_eq!(take_varint(&mut &most[..]), Some(u128::MAX));
    }

    proptest! {
        #[test]
        fn records_come_out_as_they_went_in(
            records in proptest::collection::vec(
                (any::<u128>(), any::<i64>(), 0_u8..3, any::<u32>(), any::<Vec<u8>>(), any::<Vec<u8>>(), any::<Vec<u8>>()),
                0..8,
            )
        ) {
            let records: Vec<Record<'_>> = records
                .iter()
                .map(|(id, timestamp_ms, choice, hash, key, headers, value)| Record {
                    id: *id,
                    timestamp_ms: *timestamp_ms,
                    choice: match choice {
                        0 => PartitionChoice::Sticky,
                        1 => PartitionChoice::Hash(*hash),
                        _ => PartitionChoice::Key(key),
                    },
                    headers,
                    value,
                })
                .collect();
            let mut bytes = Vec::new();
            let mut previous = Previous::default();
            for record in &records {
                encode(&mut bytes, record, &mut previous);
            }
            let mut decoder = Decoder::new(&bytes, Previous::default());
            let decoded: Vec<_> = decoder.by_ref().collect();
            prop_assert!(decoder.is_empty());
            prop_assert_eq!(decoded, records);
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(bytes: Vec<u8>) {
            let taken: usize = Decoder::new(&bytes, Previous::default()).map(|record| record.value.len()).sum();
            prop_assert!(taken <= bytes.len());
        }
    }
}
