//! What is known of the connection to Kafka: seen yet, last error, fatal.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{DeliveryResult, ProducerContext};

/// The same line is logged at most this often: librdkafka repeats itself at every reconnect.
const REPEAT_AFTER: Duration = Duration::from_secs(10);

/// Shared by all producers and the directory of topics.
#[derive(Debug, Default)]
pub struct Health {
    seen: AtomicBool,
    fatal: AtomicBool,
    last_error: Mutex<Option<Trouble>>,
    last_line: Mutex<Option<(String, Instant)>>,
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

// === impl Health ===

impl Health {
    /// True once a broker has answered.
    pub fn seen(&self) -> bool {
        self.seen.load(Ordering::Acquire)
    }

    pub(super) fn mark_seen(&self) {
        self.seen.store(true, Ordering::Release);
    }

    /// The last error of the connection, if any.
    pub fn last_error(&self) -> Option<Trouble> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// True once after a fatal error: the producers must be made anew.
    pub(super) fn is_fatal(code: Option<RDKafkaErrorCode>) -> bool {
        matches!(code, Some(RDKafkaErrorCode::Fatal | RDKafkaErrorCode::Fenced))
    }

    pub(super) fn error_seen(&self, code: Option<RDKafkaErrorCode>, text: &str) {
        if Self::is_fatal(code) {
            self.fatal.store(true, Ordering::Release);
        }
        let trouble = Trouble { at: SystemTime::now(), text: text.to_owned() };
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(trouble);
        if self.is_news(text) {
            tracing::warn!(error = text, "Kafka");
        }
    }

    pub(super) fn log_seen(&self, level: i32, line: &str) {
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
        let mut last = self.last_line.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let known = last.as_ref().is_some_and(|(text, at)| *text == kind && now.duration_since(*at) < REPEAT_AFTER);
        if !known {
            *last = Some((kind, now));
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
        self.0.error_seen(error.rdkafka_error_code(), reason);
    }
}

/// The directory's client produces nothing; rdkafka asks for this all the same.
impl ProducerContext for Context {
    type DeliveryOpaque = ();

    fn delivery(&self, _result: &DeliveryResult<'_>, _opaque: ()) {}
}
