//! What the tests need of whatever gateway.

use std::net::SocketAddr;

/// A running gateway that follows one Tidegate.
pub(crate) trait Gateway {
    /// Where it takes requests for hosts.
    fn address(&self) -> SocketAddr;

    /// The name under which it acknowledges.
    fn name(&self) -> &'static str;

    /// Where it sent a request last, by the header `X-Request`, where it writes that down.
    fn sent_to(&self, id: &str) -> Option<String>;

    /// The end of its log.
    fn log(&self) -> String;
}
