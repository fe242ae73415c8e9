//! A dead letter: a record that its topic does not take, put into another one with headers that say why, from where and
//! when. Its key, its time and its own headers stay as they are, so that it can be sent again as it was.

use super::headers::{Headers, HeadersBuf};
use super::restamp::rfc3339;
use super::sink::{HEADER_COST, Record};

/// What the name of every header of a dead letter begins with.
pub const PREFIX: &str = "tidegate-dead-";
/// Why: a [`Reason`]'s word.
pub const REASON: &str = "tidegate-dead-reason";
/// The topic that it was for.
pub const TOPIC: &str = "tidegate-dead-topic";
/// The Redis key or channel.
pub const KEY: &str = "tidegate-dead-key";
/// The pattern of the route.
pub const ROUTE: &str = "tidegate-dead-route";
/// The client's address.
pub const CLIENT: &str = "tidegate-dead-client";
/// When it became one, in RFC 3339.
pub const AT: &str = "tidegate-dead-at";
/// The bytes that it had before it was cut to fit; absent where it is whole.
pub const CUT: &str = "tidegate-dead-cut-from";

/// A record is not cut below this, in bytes: who does not take so much takes nothing.
const LEAST: usize = 1 << 10;
/// What the headers take at most beside what is in the origin, in bytes: names, topic, reason, time, number.
const HEADERS: usize = 1 << 10;

/// Why a record became a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It is not JSON, and its route asks for that.
    InvalidJson,
    /// It, or the batch that it was in, is larger than the broker takes.
    TooLarge,
    /// The broker did not let us write the topic for longer than the route waits.
    NotAuthorized,
}

// === impl Reason ===

impl Reason {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::InvalidJson, Self::TooLarge, Self::NotAuthorized];

    /// Its word in headers, metrics and on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::InvalidJson => "invalid_json",
            Self::TooLarge => "too_large",
            Self::NotAuthorized => "not_authorized",
        }
    }

    /// The reason in a dead letter's headers.
    pub fn of(headers: Headers<'_>) -> Option<Self> {
        let word = headers.get(REASON)?;
        Self::ALL.into_iter().find(|reason| reason.word().as_bytes() == word)
    }
}

/// Writes the headers of the dead letter that `record` becomes. `topic`: the one that it was for, empty where it named none.
/// `now_ms` is in Unix milliseconds.
pub fn address(out: &mut HeadersBuf, record: &Record<'_>, reason: Reason, topic: &str, now_ms: i64) {
    out.clear();
    out.push(REASON, reason.word().as_bytes());
    out.push(TOPIC, topic.as_bytes());
    if let Some(origin) = record.headers.origin() {
        out.push(KEY, origin.key);
        out.push(ROUTE, origin.route.as_bytes());
        out.push(CLIENT, origin.client.as_bytes());
    }
    out.push(AT, rfc3339(now_ms).as_bytes());
    out.extend(record.headers);
}

/// At most what a record costs more as a dead letter.
pub const GROWTH: usize = HEADER_COST * HEADERS;

/// Cuts a dead letter that is too large for its own topic: to at most half of what was tried, and says so in `out`, its new
/// headers. `None`: it is small enough that size cannot be the cause.
pub fn cut<'a>(out: &mut HeadersBuf, letter: &Record<'a>, tried: usize) -> Option<&'a [u8]> {
    let size = letter.value.len().min(tried / 2);
    if size < LEAST {
        return None;
    }
    out.restart(letter.headers);
    if letter.headers.get(CUT).is_none() {
        out.push(CUT, letter.value.len().to_string().as_bytes());
    }
    letter.value.get(..size)
}

#[cfg(test)]
mod tests {
    use super::super::origin::Origin;
    use super::*;

    fn text<'a>(headers: Headers<'a>, name: &str) -> Option<&'a str> {
        headers.get(name).map(|value| std::str::from_utf8(value).unwrap())
    }

    #[test]
    fn a_letter_says_why_from_where_and_when_and_keeps_its_own_headers() {
        let mut carried = HeadersBuf::default();
        carried.restart_with_origin(&Origin { key: b"app", route: "app-*", client: "10.0.0.1:7" });
        carried.push("own", b"1");
        let record = Record { headers: carried.as_headers(), ..Record::plain(b"{") };
        let mut out = HeadersBuf::default();
        address(&mut out, &record, Reason::InvalidJson, "logs.app", 1_700_000_000_123);
        let headers = out.as_headers();
        assert_eq!(Reason::of(headers), Some(Reason::InvalidJson));
        let expected = [(TOPIC, "logs.app"), (KEY, "app"), (ROUTE, "app-*"), (CLIENT, "10.0.0.1:7"), ("own", "1")];
        for (name, value) in expected {
            assert_eq!(text(headers, name), Some(value), "{name}");
        }
        assert_eq!(text(headers, AT), Some("2023-11-14T22:13:20.123Z"));
        assert_eq!(headers.origin(), None);
        let letter = Record { headers, ..record };
        assert!(letter.cost() <= record.cost() + GROWTH);
    }

    #[test]
    fn a_cut_is_said_once_with_the_first_size_and_ends() {
        let value = vec![b'x'; 10_000];
        let mut sizes = Vec::new();
        let (mut size, mut headers) = (value.len(), HeadersBuf::default());
        loop {
            let letter = Record { headers: headers.as_headers(), ..Record::plain(&value[..size]) };
            let mut out = HeadersBuf::default();
            let Some(shorter) = cut(&mut out, &letter, size) else { break };
            assert_eq!(text(out.as_headers(), CUT), Some("10000"));
            (size, headers) = (shorter.len(), out);
            sizes.push(size);
        }
        assert_eq!(sizes, [5000, 2500, 1250]);
    }
}
