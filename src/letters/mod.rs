//! The operator's side of dead letters: what stands in a dead-letter topic, and sending it again.
//!
//! [`read`] gives the letters of a topic up to the end that it has now; [`done`] knows which were sent again already;
//! [`requeue`] sends the others and marks them in one transaction, so that no run sends one twice; [`show`] prints them.

mod done;
mod read;
mod requeue;
mod show;

use std::io::{self, BufWriter, Write};

use rdkafka::error::KafkaError;

use crate::record::dead_letter::Reason;
use crate::tail::KafkaAccess;
use read::{Letter, Reader};

/// Which letters are meant: all conditions must hold.
#[derive(Clone, Debug, Default)]
pub struct LetterFilter {
    /// Why it became one.
    pub reason: Option<Reason>,
    /// The topic that it was for.
    pub origin: Option<String>,
    /// The Redis key that it was pushed to.
    pub key: Option<String>,
    /// It came at or after this time, in Unix milliseconds.
    pub since_ms: Option<i64>,
    /// At most so many.
    pub limit: Option<u64>,
}

/// What is read, and under which name it is remembered what was sent again.
#[derive(Clone, Debug)]
pub struct LetterOptions {
    /// The dead-letter topic.
    pub topic: String,
    /// The consumer group whose offsets say what was sent again.
    pub group: String,
    /// Which letters.
    pub filter: LetterFilter,
}

/// What is done with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LetterAction {
    /// They are printed.
    List {
        /// As JSON, one object a line.
        json: bool,
        /// Those that were sent again as well.
        all: bool,
    },
    /// They are sent to the topics that they were for.
    Requeue {
        /// Nothing is sent; it is counted what would be.
        dry_run: bool,
        /// Those that were cut as well.
        cut: bool,
    },
}

/// Why it did not come to an end.
#[derive(Debug, thiserror::Error)]
pub enum LetterError {
    /// Kafka does not answer, or refuses.
    #[error("Kafka: {0}")]
    Kafka(#[from] KafkaError),
    /// The topic does not exist.
    #[error("topic {0} does not exist")]
    NoTopic(String),
    /// Kafka answers no more before the end.
    #[error("no answer from Kafka for {0} s, before the end of the topic; run it again")]
    Silent(u64),
    /// A record could not be sent; those before it in its transaction were not either.
    #[error("{0}; nothing of this step was sent, {1} letters were before it; mend it or leave it out by a filter")]
    NotSent(String, u64),
    /// So many holes that Kafka does not keep their list.
    #[error("the filter leaves too many holes to remember; requeue without it, or up to a --limit")]
    TooScattered,
    /// Standard output failed.
    #[error("standard output: {0}")]
    Output(#[from] io::Error),
}

/// Lists or requeues.
///
/// # Errors
/// Kafka or the output failed. What was sent before is marked as sent.
pub fn run(kafka: &KafkaAccess, options: &LetterOptions, action: LetterAction) -> Result<(), LetterError> {
    let mut reader = Reader::open(kafka, options)?;
    match action {
        LetterAction::List { json, all } => list(&mut reader, options, json, all),
        LetterAction::Requeue { dry_run, cut } => requeue::run(kafka, reader, options, dry_run, cut),
    }
}

fn list(reader: &mut Reader, options: &LetterOptions, json: bool, all: bool) -> Result<(), LetterError> {
    let mut out = BufWriter::new(io::stdout().lock());
    let mut shown = 0_u64;
    while let Some(letter) = reader.next()? {
        let done = reader.is_done(&letter);
        if (done && !all) || !options.filter.takes(&letter) {
            continue;
        }
        let line = if json { show::json(&letter, done).to_string() } else { show::line(&letter, done) };
        match writeln!(out, "{line}") {
            // Whoever read it has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            outcome => outcome?,
        }
        shown += 1;
        if options.filter.limit.is_some_and(|limit| shown >= limit) {
            break;
        }
    }
    out.flush()?;
    eprintln!("{shown} dead letters in {}", options.topic);
    Ok(())
}

// === impl LetterFilter ===

impl LetterFilter {
    fn takes(&self, letter: &Letter) -> bool {
        let is = |wanted: &Option<String>, name| {
            wanted.as_ref().is_none_or(|wanted| letter.header(name) == Some(wanted.as_bytes()))
        };
        self.reason.is_none_or(|reason| letter.reason() == Some(reason))
            && is(&self.origin, crate::record::dead_letter::TOPIC)
            && is(&self.key, crate::record::dead_letter::KEY)
            && self.since_ms.is_none_or(|since| letter.timestamp_ms.is_some_and(|time| time >= since))
    }
}
