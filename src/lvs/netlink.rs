//! Generic netlink's messages: a header, a command, attributes that may hold attributes. Encoding and reading, no sockets.
//!
//! ```text
//! message   = length u32, type u16, flags u16, sequence u32, port u32, command u8, version u8, 0 u16, attributes
//! attribute = length u16 (with these 4 bytes), kind u16, value, zeros up to a multiple of 4
//! ```
//!
//! Numbers are in the machine's order.

/// The header of a message, and of generic netlink after it.
const HEADER: usize = 16;
const GENERIC: usize = 4;

/// It is a request.
pub(super) const REQUEST: u16 = 1;
/// It is answered, with an error or none.
pub(super) const ACKNOWLEDGE: u16 = 4;
/// All of a kind are asked for.
pub(super) const DUMP: u16 = 0x300;

/// The type of an error, or of an acknowledgement.
const ERROR: u16 = 2;
/// The type of the end of a dump.
const DONE: u16 = 3;
/// Bits of an attribute's kind that say something of its value.
const KIND_FLAGS: u16 = 0xC000;

/// A message in the making.
pub(super) struct Message(Vec<u8>);

/// An attribute: its kind and its value.
pub(super) type Attribute<'a> = (u16, &'a [u8]);

/// What a message that came says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received<'a> {
    /// A generic one: its attributes, to be read with [`attributes`].
    Data(&'a [u8]),
    /// It worked (0), or an error number of the system.
    Status(i32),
    /// The last of a dump.
    Done,
}

// === impl Message ===

impl Message {
    pub(super) fn new(family: u16, flags: u16, sequence: u32, command: u8, version: u8) -> Self {
        let mut bytes = vec![0; 4];
        bytes.extend(family.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend([command, version, 0, 0]);
        Self(bytes)
    }

    /// Adds an attribute.
    pub(super) fn put(mut self, kind: u16, value: &[u8]) -> Self {
        put(&mut self.0, kind, value);
        self
    }

    /// Its bytes, the length put in.
    pub(super) fn finish(mut self) -> Vec<u8> {
        let length = u32::try_from(self.0.len()).unwrap_or_default();
        if let Some(place) = self.0.get_mut(..4) {
            place.copy_from_slice(&length.to_ne_bytes());
        }
        self.0
    }
}

/// Adds an attribute to a list of them, as one that holds others has it.
pub(super) fn put(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// The messages that came together.
pub(super) fn messages(mut bytes: &[u8]) -> Vec<Received<'_>> {
    let mut found = Vec::new();
    while let Some((length, kind)) = number32(bytes, 0).zip(number16(bytes, 4)) {
        let length = length as usize;
        let Some(body) = bytes.get(HEADER..length) else { break };
        found.push(match kind {
            ERROR => {
                Received::Status(number32(body, 0).map_or(libc_eproto(), |number| number.cast_signed().wrapping_neg()))
            }
            DONE => Received::Done,
            _ => Received::Data(body.get(GENERIC..).unwrap_or_default()),
        });
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

/// What a cut error is taken for.
fn libc_eproto() -> i32 {
    rustix::io::Errno::PROTO.raw_os_error()
}

/// Attributes one after the other; what is cut at the end is left out.
pub(super) fn attributes(mut bytes: &[u8]) -> Vec<Attribute<'_>> {
    let mut found = Vec::new();
    while let Some((length, kind)) = number16(bytes, 0).zip(number16(bytes, 2)) {
        let Some(value) = bytes.get(4..usize::from(length)) else { break };
        found.push((kind & !KIND_FLAGS, value));
        bytes = bytes.get(usize::from(length).next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

/// An attribute's value by its kind.
pub(super) fn find<'a>(attributes: &[Attribute<'a>], kind: u16) -> Option<&'a [u8]> {
    attributes.iter().find(|(it, _)| *it == kind).map(|(_, value)| *value)
}

pub(super) fn number16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes)
}

pub(super) fn number32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_was_put_is_found_with_its_padding_gone() {
        let bytes = Message::new(7, REQUEST, 9, 3, 1).put(1, b"abcde").put(2, &5_u32.to_ne_bytes()).finish();
        assert_eq!(bytes.len(), 16 + 4 + 12 + 8);
        let found = messages(&bytes);
        let [Received::Data(body)] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!(attributes(body), [(1, b"abcde".as_slice()), (2, &5_u32.to_ne_bytes())]);
    }

    #[test]
    fn an_error_is_its_number_and_a_dump_has_an_end() {
        let mut bytes = Vec::new();
        for (kind, value) in [(ERROR, -2_i32), (ERROR, 0), (DONE, 0)] {
            bytes.extend(20_u32.to_ne_bytes());
            bytes.extend(kind.to_ne_bytes());
            bytes.extend([0; 10]);
            bytes.extend(value.to_ne_bytes());
        }
        assert_eq!(messages(&bytes), [Received::Status(2), Received::Status(0), Received::Done]);
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for message in messages(&bytes) {
                if let Received::Data(body) = message {
                    attributes(body);
                }
            }
            attributes(&bytes);
        }
    }
}
