//! What Tidegate answers, independent of the protocol version; [`super::encode`] writes it for RESP2 or RESP3.

use std::borrow::Cow;

/// One reply to one command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A status, as `+OK`.
    Simple(Cow<'static, str>),
    /// An error without its `-`; the first word is the code that clients look at.
    Error(Cow<'static, str>),
    /// A number.
    Integer(i64),
    /// Bytes of any kind.
    Bulk(Cow<'static, [u8]>),
    /// Text for people: a verbatim string in RESP3, a bulk string in RESP2.
    Verbatim(String),
    /// No value.
    Nil,
    /// No array; RESP2 tells it apart from no value.
    NilArray,
    /// Replies in order.
    Array(Vec<Reply>),
    /// Keys and values in order; a flat array in RESP2.
    Map(Vec<(Reply, Reply)>),
    /// Members without a meaningful order; an array in RESP2.
    Set(Vec<Reply>),
    /// What the server says unasked, a subscription's message; an array in RESP2.
    Push(Vec<Reply>),
}

// === impl Reply ===

impl Reply {
    /// `+OK`.
    pub const OK: Reply = Reply::Simple(Cow::Borrowed("OK"));

    /// `+QUEUED`, the answer to a command inside MULTI.
    pub const QUEUED: Reply = Reply::Simple(Cow::Borrowed("QUEUED"));

    /// A status.
    pub fn simple(text: impl Into<Cow<'static, str>>) -> Self {
        Reply::Simple(text.into())
    }

    /// An error; `text` starts with its code.
    pub fn error(text: impl Into<Cow<'static, str>>) -> Self {
        Reply::Error(text.into())
    }

    /// A constant as a bulk string.
    pub const fn text(text: &'static str) -> Self {
        Reply::Bulk(Cow::Borrowed(text.as_bytes()))
    }

    /// Bytes as a bulk string.
    pub fn bulk(bytes: impl Into<Vec<u8>>) -> Self {
        Reply::Bulk(Cow::Owned(bytes.into()))
    }

    /// A count as a number.
    pub fn count(count: usize) -> Self {
        Reply::Integer(i64::try_from(count).unwrap_or(i64::MAX))
    }

    /// True for an error reply: what makes EXEC refuse a transaction.
    pub fn is_error(&self) -> bool {
        matches!(self, Reply::Error(_))
    }
}
