//! The shape of a dead letter, whoever writes it: a worker's sink, or replay.

use super::failover::unix_millis;
use crate::record::dead_letter::{self, Reason};
use crate::record::headers::HeadersBuf;
use crate::record::sink::Record;

/// Memory for the headers of one letter at a time.
#[derive(Default)]
pub(super) struct Shape {
    headers: HeadersBuf,
    cut: HeadersBuf,
}

// === impl Shape ===

impl Shape {
    /// The dead letter that a record for `topic` becomes. Where a letter of `too_large` bytes did not fit the topic that is
    /// to take it, one of that size is cut at once.
    pub(super) fn letter<'a>(
        &'a mut self,
        record: &Record<'a>,
        reason: Reason,
        topic: &str,
        too_large: usize,
    ) -> Record<'a> {
        let Self { headers, cut } = self;
        dead_letter::address(headers, record, reason, topic, unix_millis());
        let letter = Record { headers: headers.as_headers(), ..*record };
        if letter.value.len() < too_large {
            return letter;
        }
        match dead_letter::cut(cut, &letter, too_large) {
            Some(value) => Record { value, headers: cut.as_headers(), ..letter },
            None => letter,
        }
    }

    /// A letter that did not fit, cut. Nothing: it is so small that size cannot be the cause.
    pub(super) fn shorter<'a>(&'a mut self, letter: &Record<'a>) -> Option<Record<'a>> {
        let value = dead_letter::cut(&mut self.headers, letter, letter.value.len())?;
        Some(Record { value, headers: self.headers.as_headers(), ..*letter })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_is_cut_at_once_where_its_size_is_known_not_to_fit() {
        let value = vec![b'x'; 10_000];
        let record = Record::plain(&value);
        let mut shape = Shape::default();
        let cut_from = |letter: &Record<'_>| letter.headers.get(dead_letter::CUT).map(<[u8]>::to_vec);
        let whole = shape.letter(&record, Reason::TooLarge, "t", 10_001);
        assert_eq!((whole.value.len(), cut_from(&whole)), (10_000, None));
        let cut = shape.letter(&record, Reason::TooLarge, "t", 8_000);
        assert_eq!((cut.value.len(), cut_from(&cut)), (4_000, Some(b"10000".to_vec())));
        assert_eq!(Reason::of(cut.headers), Some(Reason::TooLarge));
        let letter = Record::plain(&value);
        assert_eq!(shape.shorter(&letter).map(|shorter| shorter.value.len()), Some(5_000));
        assert!(shape.shorter(&Record::plain(b"small")).is_none());
    }
}
