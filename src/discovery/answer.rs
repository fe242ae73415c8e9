//! Answers and their headers.

use std::time::SystemTime;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use serde_json::json;

use super::iso;
use super::pieces::Pieces;
use super::query::Index;
use super::truth::{State, Truth};
use crate::endpoints::pool::Rendering;

const INDEX: HeaderName = HeaderName::from_static("tidegate-index");
const STATE: HeaderName = HeaderName::from_static("tidegate-state");
const SYNCED_AT: HeaderName = HeaderName::from_static("tidegate-synced-at");
const REASON: HeaderName = HeaderName::from_static("tidegate-reason");
/// The longest reason, in bytes: an error with all its causes can be long, and proxies limit headers.
const MAX_REASON: usize = 300;
/// Seconds until a source that has not told its pools yet is worth another look.
const RETRY_SECONDS: HeaderValue = HeaderValue::from_static("1");

/// What every answer made from a snapshot says of it.
#[derive(Clone, Debug)]
pub(super) struct Stamp {
    pub(super) index: Index,
    state: State,
    synced_at: Option<SystemTime>,
    /// Why it is not fresh: who, since when and why.
    reason: Option<String>,
}

// === impl Stamp ===

impl Stamp {
    pub(super) fn new(index: Index, truth: Truth<'_>) -> Self {
        let Truth { state, synced_at, reason } = truth;
        Self { index, state, synced_at, reason: reason.map(|it| header_text(&it.to_string())) }
    }

    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        // All of it is ASCII: ids of this process, numbers, a time, and a text that was made so.
        let text = |text: String| HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static(""));
        headers.insert(INDEX, text(self.index.to_string()));
        headers.insert(STATE, HeaderValue::from_static(self.state.name()));
        if let Some(at) = self.synced_at {
            headers.insert(SYNCED_AT, text(iso(at)));
        }
        if let Some(reason) = &self.reason {
            headers.insert(REASON, text(reason.clone()));
        }
        headers
    }

    /// A body with its tag.
    pub(super) fn body(&self, rendering: Rendering, content_type: &'static str) -> Response {
        let mut headers = self.headers();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        insert_etag(&mut headers, &rendering.etag);
        (StatusCode::OK, headers, rendering.body).into_response()
    }

    /// A body that no other answer can be compared with: it names its index.
    pub(super) fn pieces(&self, body: Pieces, content_type: &'static str) -> Response {
        let mut headers = self.headers();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        (StatusCode::OK, headers, Body::from(body)).into_response()
    }

    /// The client has what there is.
    pub(super) fn not_modified(&self, etag: Option<&str>) -> Response {
        let mut headers = self.headers();
        if let Some(etag) = etag {
            insert_etag(&mut headers, etag);
        }
        (StatusCode::NOT_MODIFIED, headers).into_response()
    }

    /// An error that this snapshot is the reason of.
    pub(super) fn error(&self, status: StatusCode, text: &str) -> Response {
        (status, self.headers(), Json(json!({ "error": text }))).into_response()
    }

    /// Sources have not told their pools yet.
    pub(super) fn unsynced(&self, waiting_for: &[&str]) -> Response {
        let text = format!("not in step yet with {}: ask again", waiting_for.join(", "));
        let mut response = self.error(StatusCode::SERVICE_UNAVAILABLE, &text);
        response.headers_mut().insert(header::RETRY_AFTER, RETRY_SECONDS);
        response
    }
}

/// A text of whatever origin, as a header can have it.
fn header_text(text: &str) -> String {
    let visible = |it: char| if it == ' ' || it.is_ascii_graphic() { it } else { '?' };
    text.chars().take(MAX_REASON).map(visible).collect()
}

fn insert_etag(headers: &mut HeaderMap, etag: &str) {
    if let Ok(value) = HeaderValue::from_str(etag) {
        headers.insert(header::ETAG, value);
    }
}

/// An error that has nothing to do with any snapshot.
pub(super) fn error(status: StatusCode, text: &str) -> Response {
    let mut response = (status, Json(json!({ "error": text }))).into_response();
    if status == StatusCode::TOO_MANY_REQUESTS {
        response.headers_mut().insert(header::RETRY_AFTER, RETRY_SECONDS);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_reason_says_it_can_stand_in_a_header() {
        let text = header_text(&format!("a\r\nSet-Cookie: x — \u{0} {}", "long ".repeat(200)));
        assert!(HeaderValue::from_str(&text).is_ok() && text.starts_with("a??Set-Cookie: x ? ?"), "{text}");
        assert_eq!(text.len(), MAX_REASON);
    }
}
