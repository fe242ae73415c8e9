//! A record's headers in one piece of memory: what a batch, the spool and a dead letter carry beside the value.
//!
//! ```text
//! headers := origin? item*
//! item    := length(name) name length(value) value       name: 1 byte at least
//! origin  := 0x00 length(bytes) bytes                     kept with the record, never sent to Kafka
//! length  := LEB128, 32 bits
//! ```
//!
//! No headers are no bytes, so that a record without them costs nothing. Bytes come back from disk as well: what follows
//! the first place that is no item is not read, and nothing is ever allocated by a length that stands in them.

use super::origin::Origin;

/// What stands where an item's name would begin: an origin follows.
const ORIGIN: u8 = 0;

/// Encoded headers.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Headers<'a>(&'a [u8]);

/// Headers in the making.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeadersBuf(Vec<u8>);

// === impl Headers ===

impl<'a> Headers<'a> {
    /// No headers.
    pub const NONE: Self = Self(&[]);

    /// Takes bytes that [`Self::as_bytes`] gave, perhaps in another life of the process.
    pub fn from_bytes(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The encoded form, to be kept.
    pub fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// True where nothing is carried, an origin neither.
    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// True where Kafka gets at least one header.
    #[inline]
    pub fn has_any(self) -> bool {
        !self.0.is_empty() && self.iter().next().is_some()
    }

    /// Name and value of each header that Kafka gets, in order.
    pub fn iter(self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let mut rest = split_origin(self.0).1;
        std::iter::from_fn(move || {
            let (name, after) = take(rest)?;
            let (value, after) = take(after)?;
            rest = after;
            (!name.is_empty()).then_some((name, value))
        })
    }

    /// The value of the first header of this name.
    pub fn get(self, name: &str) -> Option<&'a [u8]> {
        self.iter().find(|(key, _)| *key == name.as_bytes()).map(|(_, value)| value)
    }

    /// Where the record came from, where that was noted.
    pub fn origin(self) -> Option<Origin<'a>> {
        split_origin(self.0).0.and_then(Origin::decode)
    }
}

impl std::fmt::Debug for Headers<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let texts = self.iter().map(|(name, value)| (String::from_utf8_lossy(name), String::from_utf8_lossy(value)));
        f.debug_map().entries(texts).finish()
    }
}

// === impl HeadersBuf ===

impl HeadersBuf {
    /// Empties it, its memory kept.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Begins anew with what `other` holds.
    pub fn restart(&mut self, other: Headers<'_>) {
        self.0.clear();
        self.0.extend_from_slice(other.0);
    }

    /// Begins anew with where the record comes from.
    pub fn restart_with_origin(&mut self, origin: &Origin<'_>) {
        self.0.clear();
        let bytes = origin.encode();
        self.0.push(ORIGIN);
        push_part(&mut self.0, &bytes);
    }

    /// Adds a header. One with an empty name is left out: Kafka's consumers could not ask for it.
    pub fn push(&mut self, name: &str, value: &[u8]) {
        if !name.is_empty() {
            push_part(&mut self.0, name.as_bytes());
            push_part(&mut self.0, value);
        }
    }

    /// Adds headers that Kafka gets, their origin left out.
    pub fn extend(&mut self, headers: Headers<'_>) {
        self.0.extend_from_slice(split_origin(headers.0).1);
    }

    /// The headers so far.
    pub fn as_headers(&self) -> Headers<'_> {
        Headers(&self.0)
    }
}

/// An origin's bytes, and what follows them.
fn split_origin(bytes: &[u8]) -> (Option<&[u8]>, &[u8]) {
    match bytes.split_first() {
        Some((&ORIGIN, rest)) => match take(rest) {
            Some((origin, rest)) => (Some(origin), rest),
            None => (None, &[]),
        },
        _ => (None, bytes),
    }
}

/// Appends a length and so many bytes.
pub(super) fn push_part(out: &mut Vec<u8>, part: &[u8]) {
    let mut length = part.len();
    while length >= 0x80 {
        out.push(seven_bits(length) | 0x80);
        length >>= 7;
    }
    out.push(seven_bits(length));
    out.extend_from_slice(part);
}

#[expect(clippy::cast_possible_truncation, reason = "seven bits fit a byte")]
fn seven_bits(length: usize) -> u8 {
    (length & 0x7f) as u8
}

/// Takes what [`push_part`] appended off the front; `None` where the bytes hold no such thing.
pub(super) fn take(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut length: u64 = 0;
    for (place, &byte) in bytes.iter().enumerate().take(5) {
        length |= u64::from(byte & 0x7f) << (7 * place);
        if byte < 0x80 {
            return bytes.get(place + 1..)?.split_at_checked(usize::try_from(length).ok()?);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pairs(headers: Headers<'_>) -> Vec<(Vec<u8>, Vec<u8>)> {
        headers.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect()
    }

    #[test]
    fn an_origin_is_carried_and_not_sent() {
        let origin = Origin { key: b"app", route: "app-*", client: "10.0.0.1:7" };
        let mut headers = HeadersBuf::default();
        headers.restart_with_origin(&origin);
        assert!(!headers.as_headers().is_empty() && !headers.as_headers().has_any());
        headers.push("a", b"1");
        headers.push("", b"nobody could ask for it");
        assert_eq!(pairs(headers.as_headers()), [(b"a".to_vec(), b"1".to_vec())]);
        assert_eq!(headers.as_headers().origin(), Some(origin));
        let mut other = HeadersBuf::default();
        other.push("b", b"2");
        other.extend(headers.as_headers());
        assert_eq!(pairs(other.as_headers()).len(), 2);
        assert_eq!(other.as_headers().origin(), None);
        assert_eq!(other.as_headers().get("a"), Some(&b"1"[..]));
    }

    proptest! {
        #[test]
        fn headers_come_out_as_they_went_in(items in prop::collection::vec(("[a-z.é]{1,200}", prop::collection::vec(any::<u8>(), 0..300)), 0..8)) {
            let mut headers = HeadersBuf::default();
            items.iter().for_each(|(name, value)| headers.push(name, value));
            let expected: Vec<_> = items.into_iter().map(|(name, value)| (name.into_bytes(), value)).collect();
            prop_assert_eq!(pairs(headers.as_headers()), expected);
        }

        #[test]
        fn damaged_bytes_end_the_list_and_nothing_worse(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let headers = Headers::from_bytes(&bytes);
            let total: usize = pairs(headers).iter().map(|(name, value)| name.len() + value.len()).sum();
            prop_assert!(total <= bytes.len());
            let _ = headers.origin();
        }
    }
}
