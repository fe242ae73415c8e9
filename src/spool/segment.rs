//! The codec of a segment's header and of its file's name. No I/O.

use super::frame::{array, put};
use super::position::FrameId;

/// What a segment's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) sequence: u64,
    /// Begins every frame of this segment; random.
    pub(super) marker: u64,
    /// Where the segment before it ends, whatever stands beyond; zeros for the first.
    pub(super) previous: FrameId,
}

/// Bytes of one copy of the header.
const COPY: usize = 64;
/// Bytes before the first frame.
pub(super) const HEADER_BYTES: usize = 2 * COPY;
/// The same, as an offset.
pub(super) const FIRST_FRAME: u64 = HEADER_BYTES as u64;

/// No spool ever comes to a sequence this high: a number beyond it is damage, and would leave none for new segments.
pub(super) const HIGHEST_SEQUENCE: u64 = 1 << 60;

const MAGIC: [u8; 8] = *b"TIDESEG1";
const CRC: usize = COPY - 4;
const SUFFIX: &str = ".seg";

// === impl SegmentHeader ===

impl SegmentHeader {
    /// Both copies.
    pub(super) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut copy = [0; COPY];
        put(&mut copy, 0, MAGIC);
        let numbers = [self.sequence, self.marker, self.previous.segment, self.previous.offset];
        for (number, at) in numbers.into_iter().zip((MAGIC.len()..).step_by(8)) {
            put(&mut copy, at, number.to_le_bytes());
        }
        let crc = crc32c::crc32c(copy.get(..CRC).unwrap_or_default());
        put(&mut copy, CRC, crc.to_le_bytes());
        let mut both = [0; HEADER_BYTES];
        put(&mut both, 0, copy);
        put(&mut both, COPY, copy);
        both
    }

    /// Reads whichever copy is good. `None`: neither.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        bytes.chunks_exact(COPY).take(2).find_map(|copy| {
            let crc = crc32c::crc32c(copy.get(..CRC)?);
            if !copy.starts_with(&MAGIC) || array(copy, CRC)? != crc.to_le_bytes() {
                return None;
            }
            let number = |index: usize| array(copy, MAGIC.len() + 8 * index).map(u64::from_le_bytes);
            Some(Self { sequence: number(0)?, marker: number(1)?, previous: FrameId::new(number(2)?, number(3)?) })
        })
    }
}

/// The file name of a segment.
pub(super) fn file_name(sequence: u64) -> String {
    format!("{sequence:016x}{SUFFIX}")
}

/// The sequence that a file name stands for.
pub(super) fn parse_name(name: &str) -> Option<u64> {
    let sequence = u64::from_str_radix(name.strip_suffix(SUFFIX)?, 16).ok()?;
    // One name a sequence: `+1` and upper case are none.
    (file_name(sequence) == name && sequence <= HIGHEST_SEQUENCE).then_some(sequence)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_copy_of_a_header_is_enough() {
        let header = SegmentHeader { sequence: 5, marker: 77, previous: FrameId::new(4, 1234) };
        let mut bytes = header.encode();
        for at in 0..HEADER_BYTES {
            bytes[at] ^= 0x10;
            assert_eq!(SegmentHeader::parse(&bytes), Some(header), "byte {at}");
            bytes[at] ^= 0x10;
        }
        bytes[3] ^= 1;
        bytes[COPY + 20] ^= 1;
        assert_eq!(SegmentHeader::parse(&bytes), None);
        assert_eq!(SegmentHeader::parse(&bytes[..COPY - 1]), None);
    }

    #[test]
    fn a_file_name_stands_for_one_sequence() {
        assert_eq!(parse_name(&file_name(0xabc)), Some(0xabc));
        for name in
            ["", "1.seg", "+000000000000001.seg", "000000000000000A.seg", "0000000000000001", "ffffffffffffffff.seg"]
        {
            assert_eq!(parse_name(name), None, "{name}");
        }
    }
}
