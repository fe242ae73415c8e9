//! Numbers as Redis reads them: strictly, and with its words when they are none.

use crate::resp::reply::Reply;

/// Redis's words for a syntax that is none.
pub(super) fn syntax_error() -> Reply {
    Reply::error("ERR syntax error")
}

/// A decimal number without a plus sign, leading zeros or spaces.
pub(super) fn number(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let canonical = match digits {
        [b'0'] => text.len() == 1,
        [b'1'..=b'9', ..] => true,
        _ => false,
    };
    if !canonical {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// A number, or the error that says it is none.
pub(super) fn integer(text: &[u8]) -> Result<i64, Reply> {
    number(text).ok_or_else(|| Reply::error("ERR value is not an integer or out of range"))
}
