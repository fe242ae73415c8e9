//! Following records live, as they are taken in: for SUBSCRIBE, PSUBSCRIBE and MONITOR, and for the admin server's tail.
//!
//! ```text
//! worker: push → tap ─┐ once a turn                  ┌→ listener: a subscribed session, served by its worker
//! worker: push → tap ─┴→ ring (bounded, shared) ─────┴→ listener: a WebSocket
//! ```
//!
//! Ingestion never waits for a reader. What is listened to has a version, which a worker compares once a turn; a push of a
//! key that nobody listens to costs nothing more. A watched key is copied up to a rate ([`tap`]), the rest is counted. The
//! ring forgets its oldest entries, and a listener reads it at its own pace: one that comes late learns how many entries it
//! missed. So all memory is the ring's and one batch for each listener, however many listen and however slow they are.

mod hub;
mod listener;
mod ring;
mod tap;

pub use hub::Hub;
pub use listener::{Heard, Kind, Listener, TooMany};
pub(in crate::intake) use tap::Tap;

/// The channel on which a listener is told of records that it was not shown.
pub const NOTICES: &str = "tidegate:skipped";
