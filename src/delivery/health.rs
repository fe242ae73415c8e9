//! What is known of the connection to Kafka: seen yet, last error, fatal.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{DeliveryResult, ProducerContext};
use tokio::sync::Notify;

/// The same line is logged at most this often: librdkafka repeats itself at every reconnect.
const REPEAT_AFTER: Duration = Duration::from_secs(10);
/// How many kinds of lines are remembered for that.
const KINDS: usize = 32;
/// What is said where no descriptor can be had: `EMFILE`, and with more behind it `ENFILE`.
const SHORTAGE: &str = "Too many open files";

/// Shared by all producers and the directory of topics.
#[derive(Debug, Default)]
pub struct Health {
    seen: AtomicBool,
    seen_now: Notify,
    shortages: AtomicU64,
    last_error: Mutex<Option<Trouble>>,
    /// The kinds of lines that were logged last; several take turns while Kafka is away.
    last_lines: Mutex<VecDeque<(String, Instant)>>,
}

/// An error with its time.
#[derive(Clone, Debug)]
pub struct Trouble {
    /// When it was seen.
    pub at: SystemTime,
    /// What was said.
    pub text: String,
}

/// Passes what librdkafka says on to [`Health`].
pub(super) struct Context(pub(super) Arc<Health>);

// === impl Trouble ===

impl Trouble {
    /// When it was seen, in seconds of the Unix epoch.
    pub fn seconds(&self) -> u64 {
        self.at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
    }
}

// === impl Health ===

impl Health {
    /// True once a broker has answered.
    pub fn seen(&self) -> bool {
        self.seen.load(Ordering::Acquire)
    }

    /// Waits until a broker has answered.
    pub async fn wait_seen(&self) {
        let notified = self.seen_now.notified();
        tokio::pin!(notified);
        // Enabled before the look, so that nothing is missed between the two.
        notified.as_mut().enable();
        if !self.seen() {
            notified.await;
        }
    }

    pub(super) fn mark_seen(&self) {
        if !self.seen.swap(true, Ordering::AcqRel) {
            self.seen_now.notify_waiters();
        }
    }

    /// The last error of the connection, if any.
    pub fn last_error(&self) -> Option<Trouble> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How often a client has said that it got no descriptor.
    pub(super) fn shortages(&self) -> u64 {
        self.shortages.load(Ordering::Acquire)
    }

    fn note_shortage(&self, text: &str) {
        if text.contains(SHORTAGE) {
            self.shortages.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// True for an error after which a producer must be made anew.
    pub(super) fn is_fatal(code: Option<RDKafkaErrorCode>) -> bool {
        matches!(code, Some(RDKafkaErrorCode::Fatal | RDKafkaErrorCode::Fenced))
    }

    pub(super) fn error_seen(&self, text: &str) {
        self.note_shortage(text);
        let trouble = Trouble { at: SystemTime::now(), text: text.to_owned() };
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(trouble);
        if self.is_news(text) {
            tracing::warn!(error = text, "Kafka");
        }
    }

    pub(super) fn log_seen(&self, level: i32, line: &str) {
        self.note_shortage(line);
        // Syslog's levels: up to 3 errors, 4 warnings; the rest is told to those who ask for it.
        if level <= 4 {
            if self.is_news(line) {
                tracing::warn!("librdkafka: {line}");
            }
        } else {
            tracing::debug!("librdkafka: {line}");
        }
    }

    fn is_news(&self, line: &str) -> bool {
        // librdkafka's lines end in durations and counts; what comes before tells them apart.
        let kind: String = line.chars().filter(|c| !c.is_ascii_digit()).collect();
        let mut last = self.last_lines.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        last.retain(|(_, at)| now.duration_since(*at) < REPEAT_AFTER);
        let known = last.iter().any(|(text, _)| *text == kind);
        if !known {
            last.truncate(KINDS - 1);
            last.push_front((kind, now));
        }
        !known
    }
}

// === impl Context ===

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, _facility: &str, message: &str) {
        self.0.log_seen(level as i32, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.error_seen(&format!("{reason} ({error})"));
    }
}

/// The directory's client produces nothing; rdkafka asks for this all the same.
impl ProducerContext for Context {
    type DeliveryOpaque = ();

    fn delivery(&self, _result: &DeliveryResult<'_>, _opaque: ()) {}
}
