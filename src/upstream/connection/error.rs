//! Why there is no answer, and what that means for another try.

use std::io;

use hyper::Request;

use super::body::RequestBody;
use crate::upstream::outlier::Outcome;

/// What errors of bodies are.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A request without an answer.
#[derive(Debug, thiserror::Error)]
#[error("{}{}", .kind.text(), .source.as_ref().map(|source| format!(": {source}")).unwrap_or_default())]
pub struct SendError {
    kind: SendErrorKind,
    written: Written,
    reused: bool,
    /// Given back where nothing of it was written.
    request: Option<Box<Request<RequestBody>>>,
    #[source]
    source: Option<BoxError>,
}

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendErrorKind {
    /// The endpoint cannot be connected to.
    Connect,
    /// It did not take the connection in time.
    ConnectTimeout,
    /// TLS: its certificate is not accepted, or it does not speak what it should.
    Tls,
    /// The pool has as many connections as it may, and as many requests wait for one as may.
    Connections,
    /// The pool has as many connections as it may, and none came free in time.
    ConnectionsTimeout,
    /// It closed the connection before it answered.
    Closed,
    /// The connection broke.
    Reset,
    /// The endpoint refused this request on a connection of HTTP/2, or asked for it to be sent again.
    Refused,
    /// What it said is no answer of HTTP's.
    Protocol,
    /// The request's own body failed: the client's fault.
    Body,
}

/// How much of the request the endpoint may have seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// None of it: any request may be sent again.
    Nothing,
    /// Nobody knows: only a request that may be repeated may be sent again.
    Maybe,
}

// === impl SendError ===

impl SendError {
    pub(super) fn unsent(kind: SendErrorKind, request: Request<RequestBody>, source: Option<BoxError>) -> Self {
        Self { kind, written: Written::Nothing, reused: false, request: Some(Box::new(request)), source }
    }

    /// Of hyper's error; `request` is there where nothing of it was written.
    pub(super) fn sent(error: hyper::Error, request: Option<Request<RequestBody>>, reused: bool) -> Self {
        let kind = kind_of(&error);
        // One stream that was reset says nothing of the connection's age.
        let reused = reused && !is_stream_reset(&error);
        let refused = request.is_some() || kind == SendErrorKind::Refused;
        let written = if refused { Written::Nothing } else { Written::Maybe };
        Self { kind, written, reused, request: request.map(Box::new), source: Some(error.into()) }
    }

    pub(super) fn closed(reused: bool) -> Self {
        Self { kind: SendErrorKind::Closed, written: Written::Maybe, reused, request: None, source: None }
    }

    /// What went wrong.
    pub fn kind(&self) -> SendErrorKind {
        self.kind
    }

    /// How much of the request the endpoint may have seen. After [`SendErrorKind::Refused`] it was seen, and not
    /// processed.
    pub fn written(&self) -> Written {
        self.written
    }

    /// Whether the connection had carried a request before: then the endpoint may have closed it because it was idle,
    /// just as this request was on its way.
    pub fn is_reused(&self) -> bool {
        self.reused
    }

    /// The request with its body, where nothing of it was written.
    pub fn take_request(&mut self) -> Option<Request<RequestBody>> {
        self.request.take().map(|request| *request)
    }

    /// A short name for logs and metrics.
    pub fn reason(&self) -> &'static str {
        self.kind.reason()
    }

    /// What it says of the endpoint.
    pub fn outcome(&self) -> Outcome {
        match self.kind {
            SendErrorKind::Connect | SendErrorKind::Tls | SendErrorKind::ConnectTimeout => Outcome::ConnectFailed,
            // An idle connection may be closed at any time.
            SendErrorKind::Closed | SendErrorKind::Reset if self.reused => Outcome::Cancelled,
            SendErrorKind::Closed | SendErrorKind::Reset | SendErrorKind::Protocol => Outcome::Reset,
            SendErrorKind::Connections
            | SendErrorKind::ConnectionsTimeout
            | SendErrorKind::Refused
            | SendErrorKind::Body => Outcome::Cancelled,
        }
    }
}

// === impl SendErrorKind ===

impl SendErrorKind {
    /// A short name for logs and metrics.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Connect => "upstream_connect",
            Self::ConnectTimeout => "upstream_connect_timeout",
            Self::Tls => "upstream_tls",
            Self::Connections => "upstream_pending_overflow",
            Self::ConnectionsTimeout => "upstream_pending_timeout",
            Self::Closed => "upstream_closed",
            Self::Reset => "upstream_reset",
            Self::Refused => "upstream_refused",
            Self::Protocol => "upstream_protocol",
            Self::Body => "request_body",
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Connect => "the endpoint cannot be connected to",
            Self::ConnectTimeout => "the endpoint did not take the connection in time",
            Self::Tls => "no TLS with the endpoint",
            Self::Connections => "the pool has as many connections as it may, and as many requests wait for one",
            Self::ConnectionsTimeout => "no connection of the pool came free in time",
            Self::Closed => "the endpoint closed the connection before it answered",
            Self::Reset => "the connection broke",
            Self::Refused => "the endpoint refused the request unprocessed",
            Self::Protocol => "the endpoint's answer is none of HTTP's",
            Self::Body => "the request's body failed",
        }
    }
}

fn kind_of(error: &hyper::Error) -> SendErrorKind {
    if error.is_user() {
        return SendErrorKind::Body;
    }
    if error.is_parse() || error.is_parse_too_large() || error.is_parse_status() {
        return SendErrorKind::Protocol;
    }
    if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        return cause(error).unwrap_or(SendErrorKind::Closed);
    }
    cause(error).unwrap_or(SendErrorKind::Protocol)
}

/// The first error below that says something.
fn cause(error: &hyper::Error) -> Option<SendErrorKind> {
    below(error).find_map(|error| {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            return Some(of_http2(error));
        }
        let error = error.downcast_ref::<io::Error>()?;
        let closed = matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof);
        Some(if closed { SendErrorKind::Closed } else { SendErrorKind::Reset })
    })
}

fn is_stream_reset(error: &hyper::Error) -> bool {
    below(error).any(|error| error.downcast_ref::<h2::Error>().is_some_and(h2::Error::is_reset))
}

fn below(error: &hyper::Error) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    std::iter::successors(std::error::Error::source(error), |error| (**error).source())
}

fn of_http2(error: &h2::Error) -> SendErrorKind {
    // RFC 9113, 8.7: a refused stream was not processed. A GOAWAY without an error goes before a connection's end; what
    // it leaves out is told by hyper, which gives such requests back.
    match error.reason() {
        Some(h2::Reason::REFUSED_STREAM) => SendErrorKind::Refused,
        Some(h2::Reason::NO_ERROR) => SendErrorKind::Closed,
        Some(_) if error.is_reset() || error.is_remote() => SendErrorKind::Reset,
        Some(_) => SendErrorKind::Protocol,
        None if error.is_io() => SendErrorKind::Reset,
        None => SendErrorKind::Protocol,
    }
}
