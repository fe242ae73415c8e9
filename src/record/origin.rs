//! Where a record came from, kept with it on routes that have a dead-letter topic: the letter says so.

use super::headers::{push_part, take};

/// Where a record came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin<'a> {
    /// The Redis key or channel.
    pub key: &'a [u8],
    /// The pattern of the route that took it.
    pub route: &'a str,
    /// The client's address.
    pub client: &'a str,
}

// === impl Origin ===

impl<'a> Origin<'a> {
    /// Its encoded form: the three parts, each after its length.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.key.len() + self.route.len() + self.client.len() + 6);
        for part in [self.key, self.route.as_bytes(), self.client.as_bytes()] {
            push_part(&mut out, part);
        }
        out
    }

    /// The origin that was encoded so; `None` for other bytes.
    pub(super) fn decode(bytes: &'a [u8]) -> Option<Self> {
        let (key, rest) = take(bytes)?;
        let (route, rest) = take(rest)?;
        let (client, _) = take(rest)?;
        Some(Self { key, route: std::str::from_utf8(route).ok()?, client: std::str::from_utf8(client).ok()? })
    }
}
