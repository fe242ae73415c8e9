//! What clients did and what they were told.

use crate::record::Name;
use std::time::Instant;

/// What became of one record, as its client knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Its command was answered with success, as so manieth of all records of the run.
    Acknowledged(u64),
    /// Its command was answered with this error.
    Refused(String),
    /// The connection ended before an answer came.
    Unknown,
}

/// A record that was sent.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    /// Which it is.
    pub(crate) name: Name,
    /// Its checksum, which stands for its bytes.
    pub(crate) checksum: u32,
    /// When it was written to the connection.
    pub(crate) at: Instant,
    /// What became of it.
    pub(crate) fate: Fate,
}

/// Everything that was sent in a run, client by client in the order of sending.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    /// The records.
    pub(crate) sent: Vec<Sent>,
    /// How many connections ended before they were to.
    pub(crate) closed: u64,
}

impl History {
    /// How many were acknowledged, refused, and neither.
    pub(crate) fn counts(&self) -> (usize, usize, usize) {
        let count = |is: fn(&Fate) -> bool| self.sent.iter().filter(|sent| is(&sent.fate)).count();
        (
            count(|fate| matches!(fate, Fate::Acknowledged(_))),
            count(|fate| matches!(fate, Fate::Refused(_))),
            count(|fate| *fate == Fate::Unknown),
        )
    }

    /// The different errors that records were refused with.
    pub(crate) fn errors(&self) -> std::collections::BTreeSet<&str> {
        let errors = self.sent.iter().filter_map(|sent| match &sent.fate {
            Fate::Refused(text) => Some(text.as_str()),
            _ => None,
        });
        errors.collect()
    }
}
