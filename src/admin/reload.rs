//! `POST /v1/reload`: the configuration is read again now, and the answer says what came of it.
//!
//! | answer | body |
//! |---|---|
//! | 200 | `{"result":"applied","needs_restart":[KEY…]}`: it holds, but for the keys that only a restart brings about |
//! | 422 | `{"result":"refused","reason":TEXT}`: the one before goes on |
//!
//! It changes something, so that a page from elsewhere in a browser on this machine must not be able to ask for it: a request
//! with another `Origin` than this server's is refused.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};

use super::pages::Sources;

/// Requests that wait while the configuration is read.
const WAITING: usize = 16;

/// What came of reading the configuration again: the keys that only a restart brings about, or why it is refused.
pub type Reloaded = Result<Vec<String>, String>;

/// Somebody who waits for the configuration to be read again.
#[derive(Debug)]
pub struct Asked(oneshot::Sender<Reloaded>);

/// Asks for the configuration to be read again.
#[derive(Clone, Debug)]
pub struct Reloads(mpsc::Sender<Asked>);

// === impl Reloads ===

impl Reloads {
    /// With those who will ask, for whoever reads the configuration.
    pub fn new() -> (Self, mpsc::Receiver<Asked>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (Self(sender), receiver)
    }

    async fn ask(&self) -> Option<Reloaded> {
        let (asked, answer) = oneshot::channel();
        self.0.send(Asked(asked)).await.ok()?;
        answer.await.ok()
    }
}

// === impl Asked ===

impl Asked {
    /// Answers.
    pub fn answer(self, reloaded: Reloaded) {
        // Whoever has gone meanwhile needs no answer.
        let _ = self.0.send(reloaded);
    }
}

pub(super) async fn reload(State(sources): State<Sources>, headers: HeaderMap) -> Response {
    if is_foreign(&headers) {
        return (StatusCode::FORBIDDEN, "a page from elsewhere may not ask for this\n").into_response();
    }
    let Some(reloads) = sources.reloads else {
        return (StatusCode::NOT_FOUND, "nothing is reloaded here\n").into_response();
    };
    match reloads.ask().await {
        Some(Ok(keys)) => Json(json!({ "result": "applied", "needs_restart": keys })).into_response(),
        Some(Err(reason)) => {
            let body = Json(json!({ "result": "refused", "reason": reason }));
            (StatusCode::UNPROCESSABLE_ENTITY, body).into_response()
        }
        None => (StatusCode::SERVICE_UNAVAILABLE, "no configuration is read here now\n").into_response(),
    }
}

/// Whether a browser says that the request is another server's page's.
fn is_foreign(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    match (text(header::ORIGIN), text(header::HOST)) {
        (None, _) => false,
        (Some(origin), host) => origin.split_once("://").map(|(_, authority)| authority) != host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_from_elsewhere_is_told_by_its_origin() {
        let headers = |origin: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, "127.0.0.1:9900".parse().unwrap());
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, origin.parse().unwrap());
            }
            headers
        };
        assert!(!is_foreign(&headers(None)), "no browser");
        assert!(!is_foreign(&headers(Some("http://127.0.0.1:9900"))), "its own page");
        for foreign in ["http://evil.example", "null", "http://127.0.0.1:8080", ""] {
            assert!(is_foreign(&headers(Some(foreign))), "{foreign}");
        }
    }
}
