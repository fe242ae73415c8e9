//! Another time for a record whose own Kafka does not take: too far ahead of the broker's clock, or too far behind it for
//! the topic's `message.timestamp.before.max.ms`. It goes with the time of its sending, and its own travels in a header.

use jiff::Timestamp;

use super::headers::{Headers, HeadersBuf};

/// The record's own time, in RFC 3339.
pub const TIME: &str = "tidegate-time";

/// Writes the headers of a record that goes without its own time, which is in Unix milliseconds.
pub fn restamp(out: &mut HeadersBuf, headers: Headers<'_>, timestamp_ms: i64) {
    out.restart(headers);
    out.push(TIME, rfc3339(timestamp_ms).as_bytes());
}

/// A time in Unix milliseconds as text; empty for one that no calendar has.
pub(super) fn rfc3339(timestamp_ms: i64) -> String {
    Timestamp::from_millisecond(timestamp_ms).map(|time| format!("{time:.3}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_travels_behind_the_records_own_headers() {
        let mut own = HeadersBuf::default();
        own.push("own", b"1");
        let mut out = HeadersBuf::default();
        restamp(&mut out, own.as_headers(), 1_700_000_000_123);
        assert_eq!(out.as_headers().get(TIME), Some(&b"2023-11-14T22:13:20.123Z"[..]));
        assert_eq!(out.as_headers().get("own"), Some(&b"1"[..]));
    }
}
