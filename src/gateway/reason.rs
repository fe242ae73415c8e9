//! Why a request was not answered by a pool with success: one code for the access log and for metrics.

use hyper::StatusCode;

/// The code of a request's outcome. Its name stands in the access log as `reason` and in
/// `tidegate_gateway_failures_total{reason}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The request's line or a field is none of HTTP's.
    Malformed,
    /// Its length can be read in two ways, or a chunk is none.
    Framing,
    /// No `Host`, several, or one that is no name.
    Host,
    /// A version of HTTP that is not spoken here.
    Version,
    /// The head is larger than allowed.
    HeadTooLarge,
    /// The target is longer than allowed.
    TargetTooLong,
    /// The path has `.` or `..` segments, which programs resolve differently.
    Path,
    /// The head did not come in time.
    HeadTimeout,
    /// `CONNECT`, or an upgrade that the route does not allow.
    NotSupported,
    /// No route takes it.
    NoRoute,
    /// The route's rate limit.
    RateLimited,
    /// The body is larger than the route allows.
    BodyTooLarge,
    /// The client sent no more of its body in time.
    BodyTimeout,
    /// The client went away, or broke off its body.
    ClientGone,
    /// The route's pool is not known.
    NoPool,
    /// The route's backend is missing or may not be used: the route's object says so.
    NoBackend,
    /// The pool has no endpoint that could take it.
    NoEndpoint,
    /// The pool's limit on requests, connections or waiting requests.
    Overloaded,
    /// No connection to an endpoint.
    ConnectFailed,
    /// No connection to an endpoint in time.
    ConnectTimeout,
    /// The endpoint broke off before it answered.
    Reset,
    /// The endpoint's answer is none of HTTP's, or larger than allowed.
    BadAnswer,
    /// No answer within the time of a try.
    TryTimeout,
    /// No answer within the request's time.
    RequestTimeout,
    /// The endpoint broke off within its answer.
    AnswerCut,
    /// The endpoint sent no more of its answer in time.
    AnswerTimeout,
    /// The pool answered with this status of 400 or above itself.
    Upstream,
    /// The route answers with this status of 400 or above itself.
    Route,
}

// === impl Reason ===

impl Reason {
    /// All of them.
    pub const ALL: [Self; 28] = [
        Self::Malformed,
        Self::Framing,
        Self::Host,
        Self::Version,
        Self::HeadTooLarge,
        Self::TargetTooLong,
        Self::Path,
        Self::HeadTimeout,
        Self::NotSupported,
        Self::NoRoute,
        Self::RateLimited,
        Self::BodyTooLarge,
        Self::BodyTimeout,
        Self::ClientGone,
        Self::NoPool,
        Self::NoBackend,
        Self::NoEndpoint,
        Self::Overloaded,
        Self::ConnectFailed,
        Self::ConnectTimeout,
        Self::Reset,
        Self::BadAnswer,
        Self::TryTimeout,
        Self::RequestTimeout,
        Self::AnswerCut,
        Self::AnswerTimeout,
        Self::Upstream,
        Self::Route,
    ];

    /// Whether the client and this side may differ about what was asked. What follows on a connection of HTTP/1.1 is not
    /// read then: to the client it may be no request of its own.
    pub(super) fn is_doubtful(self) -> bool {
        matches!(self, Self::Malformed | Self::Framing | Self::Host | Self::Path | Self::NotSupported)
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Framing => "framing",
            Self::Host => "host",
            Self::Version => "version",
            Self::HeadTooLarge => "head_too_large",
            Self::TargetTooLong => "target_too_long",
            Self::Path => "path",
            Self::HeadTimeout => "head_timeout",
            Self::NotSupported => "not_supported",
            Self::NoRoute => "no_route",
            Self::RateLimited => "rate_limited",
            Self::BodyTooLarge => "body_too_large",
            Self::BodyTimeout => "body_timeout",
            Self::ClientGone => "client_gone",
            Self::NoPool => "no_pool",
            Self::NoBackend => "no_backend",
            Self::NoEndpoint => "no_endpoint",
            Self::Overloaded => "overloaded",
            Self::ConnectFailed => "connect_failed",
            Self::ConnectTimeout => "connect_timeout",
            Self::Reset => "reset",
            Self::BadAnswer => "bad_answer",
            Self::TryTimeout => "try_timeout",
            Self::RequestTimeout => "request_timeout",
            Self::AnswerCut => "answer_cut",
            Self::AnswerTimeout => "answer_timeout",
            Self::Upstream => "upstream",
            Self::Route => "route",
        }
    }

    /// A sentence for whoever sees the answer, a line.
    pub fn text(self) -> &'static str {
        match self {
            Self::Malformed => "The request is not well formed.\n",
            Self::Framing => "The request's length can be read in more than one way.\n",
            Self::Host => "The request names no host, several, or one that is no name.\n",
            Self::Version => "This version of HTTP is not spoken here.\n",
            Self::HeadTooLarge => "The request's head is too large.\n",
            Self::TargetTooLong => "The request's target is too long.\n",
            Self::Path => "The path has . or .. segments: send it resolved.\n",
            Self::HeadTimeout => "The request's head did not come in time.\n",
            Self::NotSupported => "This is not supported here.\n",
            Self::NoRoute => "Nothing is here.\n",
            Self::RateLimited => "Too many requests: try again later.\n",
            Self::BodyTooLarge => "The request's body is too large.\n",
            Self::BodyTimeout => "The request's body did not come in time.\n",
            Self::ClientGone => "The request's body broke off.\n",
            Self::NoBackend => "The route has no backend for this request: its object's status says why.\n",
            Self::NoPool | Self::NoEndpoint | Self::Overloaded => "Nobody can take the request now: try again later.\n",
            Self::ConnectFailed | Self::Reset | Self::BadAnswer | Self::AnswerCut => {
                "The service could not be reached.\n"
            }
            Self::ConnectTimeout | Self::TryTimeout | Self::RequestTimeout | Self::AnswerTimeout => {
                "The service did not answer in time.\n"
            }
            Self::Upstream | Self::Route => "The service answered with an error.\n",
        }
    }

    /// The same for a call of gRPC, by what `http-grpc-status-mapping.md` makes of statuses; a call that was not answered in
    /// time is told so.
    pub fn grpc_status(self) -> &'static str {
        match self.status() {
            StatusCode::NOT_FOUND | StatusCode::NOT_IMPLEMENTED => "12",
            StatusCode::GATEWAY_TIMEOUT => "4",
            StatusCode::TOO_MANY_REQUESTS | StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE => "14",
            StatusCode::PAYLOAD_TOO_LARGE => "8",
            _ => "13",
        }
    }

    /// What the client is told. The client of `ClientGone` hears nothing; 499 stands for it in log and metrics, as in nginx.
    pub fn status(self) -> StatusCode {
        match self {
            Self::Malformed | Self::Framing | Self::Host | Self::Path => StatusCode::BAD_REQUEST,
            Self::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::HeadTimeout | Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::NotSupported => StatusCode::NOT_IMPLEMENTED,
            Self::NoRoute => StatusCode::NOT_FOUND,
            Self::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::ClientGone => client_closed_request(),
            Self::NoPool | Self::NoEndpoint | Self::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
            Self::ConnectFailed | Self::Reset | Self::BadAnswer | Self::AnswerCut => StatusCode::BAD_GATEWAY,
            Self::ConnectTimeout | Self::TryTimeout | Self::RequestTimeout | Self::AnswerTimeout => {
                StatusCode::GATEWAY_TIMEOUT
            }
            Self::NoBackend | Self::Upstream | Self::Route => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

fn client_closed_request() -> StatusCode {
    // 499 is within the range of statuses.
    StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_reason_has_a_name_of_its_own_and_no_success() {
        let names: BTreeSet<_> = Reason::ALL.iter().map(|reason| reason.name()).collect();
        assert_eq!(names.len(), Reason::ALL.len());
        assert!(Reason::ALL.iter().all(|reason| reason.status().as_u16() >= 400));
        assert_eq!(Reason::ClientGone.status().as_u16(), 499);
    }
}
